"""The command line, its environment variables, a recipe's overrides, and what bad values get."""

import os
import subprocess
import sys

import pytest
import torch
from jupyter_client.manager import start_new_kernel

from common.recipe import (
    LARGEST_SEED,
    ROOT,
    Augmentation,
    Recipe,
    Target,
    command_line,
    non_default_fields,
    overrides_between,
    with_overrides,
)
from common.system.errors import UserError

RECIPE = Recipe(step="S7/block3", epochs=14, batch_size=64, lr=0.02)
TUNED = Recipe("S7/block3", 14, 64, 0.02, 0.8, augmentation=Augmentation(rotation=7.5, crop_probability=0.1))


def parse(*arguments, **environment):
    return command_line(RECIPE, "full", list(arguments), environment)


def test_without_options_the_recipe_stands():
    recipe, options = parse()
    assert recipe == RECIPE
    assert (options.data, options.limit, options.device, options.quick, options.resume) == (
        "auto",
        None,
        "auto",
        False,
        False,
    )
    assert options.out == ROOT / "runs" / "S7" / "block3"


def test_options_change_the_recipe_and_the_run(tmp_path):
    recipe, options = parse("--epochs", "3", "--seed=7", "--batch-size", "128", "--resume", "--out", str(tmp_path))
    assert (recipe.epochs, recipe.seed, recipe.batch_size, recipe.lr) == (3, 7, 128, 0.02)
    assert options.resume
    assert options.out == tmp_path


def test_variables_count_and_the_command_line_wins():
    recipe, options = parse(
        "--epochs", "3", COURSE_EPOCHS="5", COURSE_BATCH_SIZE="32", COURSE_RESUME="1", COURSE_LIMIT=""
    )
    assert (recipe.epochs, recipe.batch_size) == (3, 32)
    assert options.resume
    assert options.limit is None


def test_quick_is_small_and_apart_but_not_deaf():
    _, options = parse("--quick")
    assert (options.data, options.limit, options.out) == ("builtin", 128, ROOT / "runs" / "quick" / "S7" / "block3")
    _, options = parse("--limit", "100", "--data", "mnist", COURSE_QUICK="yes")
    assert (options.quick, options.data, options.limit) == (True, "mnist", 100)
    _, options = parse("--quick=0", COURSE_QUICK="1")
    assert not options.quick


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--epochs", "0"], {}, ["--epochs", "at least 1", "'0'"]),
        (["--epochs", "many"], {}, ["--epochs", "whole number", "'many'"]),
        (["--limit", "0"], {}, ["--limit", "at least 1"]),
        (["--seed", "-1"], {}, ["--seed", "at least 0"]),
        (["--override", "speed=3"], {}, ["--override", "'speed'"]),
        ([], {"COURSE_OVERRIDE": "lr=fast"}, ["lr must", "'fast'"]),
        (["--validate", "--protocol", "both"], {}, ["--validate", "--protocol"]),
        (["--seed", str(2**32)], {}, ["--seed", "at most 4294967295"]),
        ([], {"COURSE_SEED": str(2**63 - 1)}, ["COURSE_SEED", "at most 4294967295"]),
        (["--override", f"seed={2**32}"], {}, ["--override", "seed must"]),
        (["--data", "nowhere"], {}, ["--data", "auto, mnist, builtin", "'nowhere'"]),
        (["--device", "tpu"], {}, ["--device", "auto, cpu, cuda, mps", "'tpu'"]),
        (["--epoch", "3"], {}, ["--epoch 3", "--help"]),
        (["--out", __file__], {}, ["--out", "folder"]),
        ([], {"COURSE_EPOCHS": "ten"}, ["COURSE_EPOCHS", "'ten'"]),
        ([], {"COURSE_BATCH_SIZE": "0"}, ["COURSE_BATCH_SIZE", "at least 1"]),
        ([], {"COURSE_QUICK": "perhaps"}, ["COURSE_QUICK", "1 or 0"]),
    ],
)
def test_a_bad_value_gets_one_sentence(arguments, environment, words):
    with pytest.raises(UserError) as caught:
        command_line(RECIPE, "full", arguments, environment)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_targets_compare_as_they_say():
    assert Target("parameters", "<", 8_000).met_by(7_999)
    assert not Target("parameters", "<", 8_000).met_by(8_000)
    assert Target("test accuracy", ">=", 99.4).met_by(99.4)
    assert Target("epochs", "<=", 15).met_by(15)
    assert not Target("loss", ">", 1).met_by(1)


def run_python(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)


def test_a_users_mistake_in_a_script_is_one_line_on_stderr_and_exit_code_2():
    result = run_python("from common.system.errors import UserError\nraise UserError('This is wrong; do that.')")
    assert (result.returncode, result.stderr) == (2, "This is wrong; do that.\n")


def test_a_mistake_of_ours_keeps_its_traceback():
    result = run_python("import common.system.errors\nraise ValueError('ours')")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_the_recipe_needs_no_heavy_import():
    heavy = ["torch", "numpy", "matplotlib", "sklearn", "IPython"]
    result = run_python(f"import sys, common.recipe; print([name for name in {heavy} if name in sys.modules])")
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--epochs", "0"], {}, "--epochs"),
        (["--data", "nowhere"], {}, "--data"),
        ([], {"COURSE_LIMIT": "0"}, "COURSE_LIMIT"),
        (["--device", "mps" if sys.platform != "darwin" else "cuda"], {}, "finds no such device"),
        (["--data", "mnist"], {"MNIST_DIR": "no/such/folder"}, "MNIST_DIR"),
        pytest.param(["--quick", "--out", "{file}/below"], {}, "Cannot write", marks=pytest.mark.in_full),
        (["--quick", "--resume"], {}, "nothing to resume"),
        ([], {"MPLBACKEND": "nonsense"}, "MPLBACKEND"),
    ],
    ids=["epochs", "data", "limit", "device", "MNIST_DIR", "out", "resume", "MPLBACKEND"],
)
def test_the_script_refuses_in_one_line_and_writes_nothing(tmp_path, arguments, variables, words):
    file, out = tmp_path / "file", tmp_path / "out"
    file.write_text("in the way")
    arguments = [argument.replace("{file}", str(file)) for argument in arguments]
    script = str(ROOT / "sessions" / "S7" / "block3.py")
    result = subprocess.run(
        [sys.executable, script, *(arguments if "--out" in arguments else [f"--out={out}", *arguments])],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


SCRIPT = """
from common.recipe import Recipe, command_line

recipe, options = command_line(Recipe("S7/block3", epochs=14, batch_size=64, lr=0.02))
print("epochs", recipe.epochs, "quick", options.quick)
"""
IN_IPYTHON = [
    ("--quick --epochs 1", "epochs 1 quick True"),
    ("", "epochs 14 quick False"),
    ("--data nonsense", "UserError: --data must be one of auto, mnist, builtin, not 'nonsense'."),
    ("--help", "--resume [0|1]"),
]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A function that executes a cell in a real kernel and returns what it said."""
    script = tmp_path_factory.mktemp("ipython") / "my script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(script.parent))

    def execute(code: str) -> str:
        said = []
        client.execute_interactive(code, output_hook=lambda message: said.append(message["content"]), timeout=60)
        return "".join(each.get("text", "") + "\n".join(each.get("traceback", ())) for each in said)

    yield execute
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize(("given", "said"), IN_IPYTHON)
@pytest.mark.parametrize("magic", ["%run", "%run -i"])
def test_options_count_where_a_kernel_runs_a_script(kernel, magic, given, said):
    found = kernel(f"{magic} 'my script.py' {given}")
    assert said in found
    assert "Traceback" not in found
    assert len(found.splitlines()) == 1 or given == "--help"


def test_a_cell_has_no_options(kernel):
    """Its process was started as `ipykernel_launcher -f kernel.json`; VS Code's interactive window sets `__file__`."""
    assert kernel("import sys; print(sys.argv[1])").startswith("-f")
    assert kernel(SCRIPT).strip() == "epochs 14 quick False"
    assert kernel(f"__file__ = 'my script.py'\n{SCRIPT}").strip() == "epochs 14 quick False"


@pytest.mark.parametrize(("given", "said"), IN_IPYTHON[:3])
def test_options_count_where_ipython_runs_a_script(tmp_path, given, said):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", str(script), "--", *given.split()]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "IPYTHONDIR": str(tmp_path)})
    assert result.stdout.strip() == said


def test_seeds_end_where_pytorch_begins_to_repeat_them():
    """A study would count one run as two."""

    def drawn(seed):
        return torch.rand(4, generator=torch.Generator().manual_seed(seed)).tolist()

    assert parse(f"--seed={LARGEST_SEED}")[0].seed == LARGEST_SEED
    assert drawn(LARGEST_SEED + 2) == drawn(1)
    assert drawn(LARGEST_SEED) != drawn(LARGEST_SEED - 2**31)


def test_values_are_replaced_and_nothing_else():
    recipe = with_overrides(TUNED, "lr=1e-1 nesterov=True augmentation.scale=(0.9,1.1) lr_step=6 epochs=15")
    assert (recipe.lr, recipe.nesterov, recipe.lr_step, recipe.epochs) == (0.1, True, 6, 15)
    assert recipe.augmentation == Augmentation(rotation=7.5, crop_probability=0.1, scale=(0.9, 1.1))
    assert (recipe.momentum, recipe.step, recipe.batch_size) == (0.8, "S7/block3", 64)
    assert with_overrides(TUNED, "") == TUNED


@pytest.mark.parametrize(
    "overrides",
    ["lr=0.05 one_cycle=0.25", "augmentation.interpolation='bilinear'", "augmentation.scale=(0.9,1.1) lr_step=6", ""],
)
def test_a_difference_makes_the_same_recipe_again(overrides):
    other = with_overrides(TUNED, overrides)
    assert with_overrides(TUNED, overrides_between(TUNED, other)) == other


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ("speed=3", "speed"),
        ("augmentation=3", "augmentation"),
        ("augmentation.spin=3", "augmentation.spin"),
        ("lr.rate=3", "lr.rate"),
        ("step=S7/block9", "step"),
        ("lr=fast", "lr must"),
        ("lr=-1", "lr must"),
        ("lr=1e999", "lr must"),
        ("lr", "lr must"),
        ("lr=True", "lr must"),
        ("epochs=1.5", "epochs must"),
        ("nesterov=1", "nesterov must"),
        ("augmentation.scale=0.9", "augmentation.scale must"),
        ("augmentation.scale=(0.9,'a')", "augmentation.scale must"),
        ("lr=__import__('os').getcwd()", "lr must"),
    ],
)
def test_an_override_that_makes_no_sense_is_one_sentence(overrides, named):
    with pytest.raises(UserError, match=named) as error:
        with_overrides(TUNED, overrides)
    assert "\n" not in str(error.value)


def test_non_default_fields_leave_the_defaults_out():
    assert non_default_fields(TUNED) == {
        "step": "S7/block3",
        "epochs": 14,
        "batch_size": 64,
        "lr": 0.02,
        "momentum": 0.8,
        "augmentation": {"rotation": 7.5, "crop_probability": 0.1},
    }
