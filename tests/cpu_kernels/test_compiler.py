"""How the loops are compiled: threads, kept machine code, a numba that cannot work. Each in a process of its own."""

import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from common.recipe import ROOT

pytest.importorskip("numba")
from common.cpu_kernels import compiler, layers, precompile  # noqa: E402 - they need it

STEP = """
import torch
from torch import nn
from common.cpu_kernels.chwn import ChwnForward
torch.manual_seed(1)
blocks = [[nn.Conv2d(inputs, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)] for inputs in (1, 4)]
model = nn.Sequential(*blocks[0], *blocks[1])
forward = ChwnForward(model)
before = torch.get_num_threads()
out = forward(torch.randn(8, 1, 12, 12))
"""


def run(code, root=ROOT, **environment):
    """The last line that the code prints, run in that copy of the course."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()[-1]


def test_pytorch_keeps_the_threads_that_were_asked_for_and_numba_has_as_many():
    """numba alone would give PyTorch one for each core when it starts its own; a later number is followed."""
    code = STEP + "\n".join(
        [
            "import numba",
            "first = before, torch.get_num_threads(), numba.get_num_threads()",
            "torch.set_num_threads(2)",
            "out.sum().backward()",
            "print(*first, numba.get_num_threads() == min(2, numba.config.NUMBA_NUM_THREADS), torch.get_num_threads())",
        ]
    )
    assert run(code, OMP_NUM_THREADS="1") == "1 1 1 True 2"


@pytest.mark.parametrize(
    "setting", [{"NUMBA_DISABLE_JIT": "1"}, {"NUMBA_THREADING_LAYER": "tbb"}, {"NUMBA_THREADING_LAYER": "nonsense"}]
)
def test_where_numba_cannot_work_nothing_is_supported_and_one_sentence_says_why(setting):
    code = (
        "from common import models\nfrom common.cpu_kernels import chwn\n"
        "from common.system.errors import UserError\n"
        "model = models.build('S7/block3')\n"
        "print(chwn.supports(model))\n"
        "try:\n    chwn.ChwnForward(model)\nexcept UserError as error:\n    print('sentence:', error)"
    )
    if setting.get("NUMBA_THREADING_LAYER") == "tbb":
        code = "import numba.np.ufunc.parallel as p\np._check_tbb_version_compatible = no_tbb\n" + code
        code = "def no_tbb():\n    raise ImportError\n" + code
    sentence = run(code, **setting)
    assert sentence.startswith("sentence: ")
    assert next(iter(setting)) in sentence


def test_where_no_folder_can_be_written_the_loops_are_compiled_all_the_same():
    lines = [
        "from numba.core import caching",
        "caching.FunctionCache._impl_class._locator_classes = []  # numba then finds no place",
        "from common.cpu_kernels import pooling",
        "import numpy as np",
        "out, index = np.empty((1, 1, 1, 2), np.float32), np.empty((1, 1, 1, 2), np.uint8)",
        "pooling.max_pool_forward(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2), 0, out, index)",
        "print(out.ravel())",
    ]
    assert run("\n".join(lines)) == "[6. 7.]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_that_was_forked_after_a_step_goes_on_with_pytorchs_layers():
    code = STEP + "\n".join(
        [
            "import os",
            "child = os.fork()",
            "if not child:",
            "    same = torch.equal(forward(torch.ones(8, 1, 12, 12)), model(torch.ones(8, 1, 12, 12)))",
            "    os._exit(0 if same else 1)",
            "print(os.waitpid(child, 0)[1])",
        ]
    )
    assert run(code, OMP_NUM_THREADS="1") == "0"


@pytest.fixture
def copied(tmp_path):
    """The rooms that the loops need, as a course of their own."""
    for room in ("cpu_kernels", "system"):
        shutil.copytree(
            ROOT / "common" / room, tmp_path / "common" / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    (tmp_path / "common" / "__init__.py").touch()
    return tmp_path


def test_an_edit_of_another_file_compiles_the_loops_anew_and_old_machine_code_goes(copied):
    """numba itself looks at the file of a loop only: it would keep `convolve` when `registers` changes."""
    code = (
        "import numpy as np\nfrom common.cpu_kernels import compiler, convolution\n"
        "out = np.empty((1, 1, 1, 64), np.float32)\n"
        "maps, weights = np.ones((1, 1, 1, 64), np.float32), np.ones((1, 1), np.float32)\n"
        "convolution.convolve(maps, weights, np.zeros(1, np.float32), 1, out)\n"
        "hits = sum(convolution.convolve.stats.cache_hits.values())\n"
        "print(out.max(), hits, len(list(compiler.CACHE.parent.iterdir())))"
    )
    results = [run(code, copied), run(code, copied)]
    source = copied / "common" / "cpu_kernels" / "registers.py"
    text = source.read_text(encoding="utf-8")
    assert "builder.fadd(total, builder.fmul(" in text
    source.write_text(text.replace("builder.fadd(total, builder.fmul(", "builder.fsub(total, builder.fmul("), "utf-8")
    assert [*results, run(code, copied)] == ["1.0 0 1", "1.0 1 1", "-1.0 0 1"]


def test_a_run_compiles_nothing_itself():
    """A process that has compiled a loop itself would round otherwise than one that loads it."""
    steps = ("S7/block1", "S7/block3", "S8/step7_two_budgets", "S8/teacher", "S8/step8_frontier")
    code = "\n".join(
        [
            "import torch",
            "from common import models",
            "from common.cpu_kernels import chwn, precompile",
            "loops = {id(loop): loop.stats for loop, _ in precompile.calls().values()}.values()",
            f"for step in {(*steps, 'S6/part2_step1_dense_head')}:",
            "    model = models.build(step)",
            "    forward = chwn.ChwnForward(model)",
            "    forward(torch.randn(33, 1, 28, 28)).sum().backward()",
            "    model.eval()",
            "    with torch.no_grad(): forward(torch.randn(33, 1, 28, 28))",
            "hits, misses = (sum(sum(getattr(one, of).values()) for one in loops) for of in STATS)",
            "print(hits >= 21, misses)",
        ]
    ).replace("STATS", "('cache_hits', 'cache_misses')")
    assert run(code) == "True 0"


def test_of_two_runs_that_start_together_one_compiles(tmp_path, monkeypatch):
    compiled = []

    def compile_slowly(names):
        compiled.extend(names)
        time.sleep(0.3)
        for name in names:
            (tmp_path / f"{name}.complete").touch()

    monkeypatch.setattr(compiler, "CACHE", tmp_path)
    monkeypatch.setattr(precompile, "_compile_in_processes", compile_slowly)
    runs = [threading.Thread(target=precompile.precompile, args=([layers.ReLU(), layers.MaxPool()],)) for _ in range(2)]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    assert sorted(compiled) == ["max_pool_backward", "max_pool_forward", "relu_backward", "relu_forward"]


def test_the_first_run_gives_the_bits_of_all_later_ones(copied, request):
    """That this is enough. It compiles all loops anew, half a minute of work."""
    if not request.config.getoption("--faults-full"):
        pytest.skip("needs --faults-full")
    code = STEP + (
        "out.square().sum().backward()\nimport hashlib\n"
        "numbers = b''.join(parameter.grad.numpy().tobytes() for parameter in model.parameters())\n"
        "print(hashlib.sha256(numbers).hexdigest())"
    )
    assert run(code, copied) == run(code, copied)


def test_the_room_imports_nothing_but_itself_and_the_errors():
    pages = (ROOT / "common" / "cpu_kernels").glob("*.py")
    imports = [line.split() for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    modules = {words[1] for words in imports if words[:1] in (["from"], ["import"])}
    rooms = {".".join(name.split(".")[:2]) for name in modules if name.startswith("common")}
    assert rooms == {"common.cpu_kernels", "common.system"}
