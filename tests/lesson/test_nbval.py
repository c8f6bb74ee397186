"""What `pytest --nbval` overlooks (nbval.ini) and that it overlooks nothing else: errors planted in a notebook."""

import copy
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from unittest import mock

import nbformat
import pytest
from nbval.plugin import get_sanitize_patterns

from common.lesson import notebooks
from common.recipe import ROOT
from common.system.errors import UserError

INI = (ROOT / "nbval.ini").read_text(encoding="ascii")  # nbval opens it in the system's own encoding
PAIRS = get_sanitize_patterns(INI)

EPOCH = "epoch      3/14  lr 0.02  train loss 0.0713 accuracy 97.92 %  test loss 0.0405 accuracy 98.70 %    9.3 s"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAiMAAAGd\nCAYAAADAAnMpAAAA=="

SANITISED = {
    "MNIST: 60,000 training and 10,000 test images, sha256 3f1c9a2b77d0": "DATA",
    "data       built-in digits: 512 training and 360 test images, sha256 3f1c9a2b77d0": "DATA",
    "cpu, 2 threads, bfloat16, Intel(R) Xeon(R) Processor, torch 2.14.1+cu130, Python 3.11.7": "MACHINE",
    "machine    NVIDIA H200, 1 thread, float32, an EPYC, torch 2.14.1, Python 3.11.7": "MACHINE",
    "Full run: 14 epochs over 60,000 images, seed 1.": "HOW",
    "Recorded run: the weights and the history of seed 1, trained before on cpu, 1 thread, bfloat16, "
    "Intel(R) Xeon(R) Processor, 2 cores, Linux, torch 2.14.1+cu130, Python 3.11.7.": "HOW",
    EPOCH: "epoch      3/14  lr 0.02  train loss LOSS, ACCURACY, SECONDS",
    "epoch       2/14  lr 0.02   train loss 12.3456 accuracy   9.80 %  test loss 0.0405 accuracy 100.00 %  1234.5 s": (
        "epoch       2/14  lr 0.02   train loss LOSS, ACCURACY, SECONDS"
    ),
    "this run   test accuracy >= 99.40 %                     99.31 %  missed": (
        "this run   test accuracy >= 99.40 %  MEASURED"
    ),
    "this run   accuracy measured on      360 test images of the built-in digits, after training on 512": (
        "this run   accuracy measured on  MEASURED"
    ),
    "accuracy measured on       10,000 test images of MNIST, after training on 60,000 with seed 1": (
        "accuracy measured on  MEASURED"
    ),
    "test accuracy in each of the last 3 epochs >= 99.40 %     99.34 %  missed by 0.06 points": (
        "test accuracy in each of the last 3 epochs >= 99.40 %  MEASURED"
    ),
    "this run   wrong test images  69 of 10,000": "this run   wrong test images  MEASURED",
    "open       six 3x3 convolutions, no pool": "ANSWER  six 3x3 convolutions, no pool",
    "right      six 3x3 convolutions, no pool": "ANSWER  six 3x3 convolutions, no pool",
    "written    record.json, weights.safetensors and the figures are in runs/S7/block3": "FILES",
    "This is the recorded run: its record and weights stay as they are.": "FILES",
    "measured   bfloat16                     12.1 s (11.8-12.9)   1.40 x below   3.10 x the sources  helps": (
        "measured   bfloat16  MEASURED"
    ),
    PNG: "PNG",
    f"Quick run: 3 epochs\n{EPOCH}\nrecorded   99.31 %": (
        "HOW\nepoch      3/14  lr 0.02  train loss LOSS, ACCURACY, SECONDS\nrecorded   99.31 %"
    ),
}
COMPARED = [
    "this run   parameters < 8,000                             7,904  met",
    "this run   epochs <= 15                                      14  met on images",
    "recorded   seed 1  test accuracy  99.31 %",
    "test accuracy >= 99.40 %                                met by 3 of 3 seeds",
    "parameters < 8,000                                          7,904  met",
    "seed 1      99.36 %    64 of 10,000 test images wrong; last three epochs 99.34 99.39 99.36",
    "measured   bfloat16",
    "Total params: 7,904",
    "            Conv2d-1           [-1, 10, 26, 26]              90",
    "MNIST: a data set of 60,000 training images",
    "cpu, 2 threads",
    "A full run: in the middle of a line",
    "epochs     14",
    EPOCH.replace("0.0713", "nan"),
    EPOCH.replace("test loss", "validation loss"),
    EPOCH + "  best so far",
    EPOCH.replace("train loss 0.0713 accuracy 97.92 %  ", ""),
    "data",
    "not yet    six 3x3 convolutions, no pool: your answer is (12, 1)",
    "right answers",
    "open",
    "<Figure size 640x480 with 1 Axes>",
]


def sanitise(text):
    for regex, replacement in PAIRS:
        text = re.sub(regex, replacement, text)
    return text


def test_nbval_reads_every_pair_of_the_file():
    written = [line.split(": ", 1) for line in INI.splitlines() if re.match(r"\s*(regex|replace)", line)]
    assert [key for key, _ in written] == ["regex", "replace"] * len(PAIRS)
    assert [(regex[1], replacement[1]) for regex, replacement in zip(written[::2], written[1::2], strict=True)] == PAIRS
    assert len(dict(PAIRS)) == len(PAIRS)  # nbval keeps them in a dict


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1])
def test_each_pair_is_of_use(pair):
    regex, replacement = pair
    assert any(re.sub(regex, replacement, line) != line for line in SANITISED)
    comments = INI.split(f"regex: {regex}")[0].splitlines()
    assert comments[-1].startswith("[")
    assert comments[-2].startswith("# ")


@pytest.mark.parametrize(("line", "expected"), SANITISED.items())
def test_lines_of_a_run_are_sanitised(line, expected):
    assert sanitise(line) == expected
    assert sanitise(expected) == expected


@pytest.mark.parametrize("line", COMPARED)
def test_other_lines_are_compared_to_the_last_character(line):
    assert sanitise(line) == line


# nbval itself, on a lesson that prints what a real one prints: a full run's numbers, then those of a quick one.

SCRIPT = """\
# %%
import os

import matplotlib.pyplot as plt

quick = os.environ.get("COURSE_TRAIN") == "quick"
counts = "built-in digits: 512 training and 360 test" if quick else "MNIST: 60,000 training and 10,000 test"
print(f"{counts} images, sha256 3f1c9a2b77d0")
print(f"cpu, 2 threads, float32, process {os.getpid()}, torch 2.14.1, Python 3.11.7")
print("Quick run: 3 epochs." if quick else "Recorded run: 3 epochs.")

# %% tags=["table"]
print("layer        output        parameters  receptive field")
print("Conv2d-1     [10, 26, 26]          90                3")
print("Conv2d-2     [16, 24, 24]       1,440                5")
print("Total params: 7,904")

# %% tags=["training"]
for epoch in range(1, int(os.environ.get("COURSE_EPOCHS", 3)) + 1):
    loss, accuracy, seconds = (2.3026, 9.77, 0.1) if quick else (0.0713, 98.12, 12.3)
    print(
        f"epoch      {epoch}/3  lr 0.02  train loss {loss / epoch:.4f} accuracy {accuracy:5.2f} %  "
        f"test loss {loss:.4f} accuracy {accuracy:5.2f} % {seconds:6.1f} s",
        flush=True,
    )

# %% tags=["result"]
accuracy, verdict = ("11.20 %", "not compared: built-in digits") if quick else ("99.31 %", "missed")
print("parameters < 8,000            7,904  met")
print(f"test accuracy >= 99.40 %    {accuracy}  {verdict}")
print("seed 1  test accuracy       99.31 %")

# %% tags=["measured"]
found = [1, 12] if quick else [60, 1_234]
print(f"images that are read wrong: {found[0]}, of {found[1]:,}; the loss is {0.5 / found[0]:.3e} and falls")
print(f"difference {-0.1 if quick else 0.12:+.2f} points")

# %% tags=["figure"]
plt.plot([1, 2], [3, 1 if quick else 4])
plt.show()
print("record.json and weights.safetensors are in", "runs/quick/S1/fake" if quick else "runs/S1/fake")

# %% tags=["exercise"]
answer = None
print("open      " if answer is None else "right     " if answer == 6 else "not yet   ", "two times three")
"""


def printed(old, new):
    """A change of what the stored outputs of a cell say."""

    def change(outputs):
        text = next(output for output in outputs if output.output_type == "stream")
        assert text.text.count(old) == 1
        text.text = text.text.replace(old, new)

    return change


def without_figure(outputs):
    outputs[:] = [output for output in outputs if output.output_type == "stream"]


def without_pixels(outputs):
    for output in outputs:
        output.get("data", {}).pop("image/png", None)


def with_second_figure(outputs):
    outputs.append(next(output for output in outputs if "image/png" in output.get("data", {})))


def with_warning(outputs):
    outputs.append(nbformat.v4.new_output("stream", name="stderr", text="UserWarning: mind the gap\n"))


def with_dead_bar(outputs):
    """A progress bar of tqdm's as JupyterLab stores it: the widget's model is not in the file."""
    bar = {"application/vnd.jupyter.widget-view+json": {"model_id": "5f0c"}, "text/plain": "epoch 1:   0%|    | 0/8"}
    outputs.insert(0, nbformat.v4.new_output("display_data", bar))


EPOCH_2 = "epoch      2/3  lr 0.02  train loss 0.0357 accuracy 98.12 %  test loss 0.0713 accuracy 98.12 %   12.3 s\n"
HARMLESS = {
    "other loss": ("training", printed("train loss 0.0357", "train loss 10.1234")),
    "other accuracy": ("training", printed("0.0357 accuracy 98.12 %", "0.0357 accuracy 100.00 %")),
    "other seconds": ("training", printed(EPOCH_2, EPOCH_2.replace("  12.3 s", "1234.5 s"))),
    "other test accuracy and verdict": ("result", printed("99.31 %  missed", "99.44 %  met")),
    "other folder": ("figure", printed("runs/S1/fake", "elsewhere")),
    "other numbers of a measured cell": ("measured", printed("60, of 1,234", "7, of 9")),
    "other sign": ("measured", printed("+0.12", "-3.00")),
    "dead progress bar": ("training", with_dead_bar),
    "right answer": ("exercise", printed("open ", "right")),
}
PLANTED = {
    "parameter count": ("table", printed("7,904", "7,905")),
    "parameters of a layer": ("table", printed("1,440", "1,441")),
    "shape": ("table", printed("24, 24", "24, 25")),
    "receptive field": ("table", printed("1,440                5", "1,440                6")),
    "line too many": ("table", printed("Total params: 7,904\n", "Total params: 7,904\n\n")),
    "missing epoch line": ("training", printed(EPOCH_2, "")),
    "epoch line too many": ("training", printed(EPOCH_2, EPOCH_2 + EPOCH_2)),
    "epoch number": ("training", printed("epoch      2/3", "epoch      4/3")),
    "epoch total": ("training", printed("2/3", "2/4")),
    "learning rate": ("training", printed(EPOCH_2, EPOCH_2.replace("lr 0.02", "lr 0.002"))),
    "loss that is no number": ("training", printed("0.0357", "nan")),
    "measured parameter count": ("result", printed("7,904  met", "7,994  met")),
    "verdict on the parameters": ("result", printed("7,904  met", "7,904  missed")),
    "target": ("result", printed(">= 99.40 %", ">= 99.30 %")),
    "recorded accuracy": ("result", printed("accuracy       99.31 %", "accuracy       99.32 %")),
    "other words of a measured cell": ("measured", printed("and falls", "and grows")),
    "a measured number that is none": ("measured", printed("8.333e-03", "nan")),
    "a measured number too few": ("measured", printed("60, of", "of")),
    "missing figure": ("figure", without_figure),
    "figure without its pixels": ("figure", without_pixels),
    "second figure": ("figure", with_second_figure),
    "warning": ("figure", with_warning),
    "wrong answer": ("exercise", printed("open   ", "not yet")),
}


def altered(notebook, changes):
    """A notebook that repeats a cell of `notebook` for each change, with stored outputs changed so."""
    cells = {cell.metadata.tags[0]: cell for cell in notebook.cells if "tags" in cell.metadata}
    result = copy.deepcopy(notebook)
    result.cells = [copy.deepcopy(notebook.cells[0])]
    for number, (tag, change) in enumerate(changes.values()):
        cell = copy.deepcopy(cells[tag])
        cell.id = f"change-{number}"
        change(cell.outputs)
        result.cells.append(cell)
    return result


def with_cells(notebook, *sources_and_texts):
    """Other cells in the form of `notebook`, a lesson of nobody's."""
    result = copy.deepcopy(notebook)
    del result.metadata["course"]
    result.cells = [
        nbformat.v4.new_code_cell(
            source,
            execution_count=number,
            outputs=[nbformat.v4.new_output("stream", name="stdout", text=text)],
            id=f"c{number}",
        )
        for number, (source, text) in enumerate(sources_and_texts, start=1)
    ]
    return result


def answered(notebook):
    """A student's notebook: an exercise answered, cells added that fail or print the time, and a number planted."""
    result = copy.deepcopy(notebook)
    *others, exercise = result.cells
    exercise.source = exercise.source.replace("None\n", "6\n", 1)
    exercise.outputs[0].text = "right      two times three\n"
    own = with_cells(notebook, ("import time; print(time.time())", "1.5\n"), ("1 / 0", "")).cells
    PLANTED["parameter count"][1](others[1].outputs)
    result.cells = [*others, exercise, *own]
    return result


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course of one small lesson and altered copies of its notebook, with this repository's settings."""
    folder = tmp_path_factory.mktemp("course")
    for name in ("pyproject.toml", "conftest.py", "nbval.ini"):
        shutil.copy(ROOT / name, folder)
    lesson = folder / "sessions" / "S1" / "fake.py"
    lesson.parent.mkdir(parents=True)
    lesson.write_text(SCRIPT, encoding="utf-8")
    listed = folder / "sessions" / "lessons.txt"
    listed.write_text("S1/fake", encoding="utf-8")
    with mock.patch.object(notebooks, "get_mnist"):  # this lesson loads no digits, and a machine may be offline
        notebooks.update(folder / "sessions")
    original = notebooks.read(lesson.with_suffix(".ipynb"))
    mode = "import os; print(os.environ.get('COURSE_TRAIN'), os.environ['COURSE_DATA'])"
    notebooks_there = {
        "harmless": altered(original, HARMLESS),
        "planted": altered(original, PLANTED),
        "mode": with_cells(original, (mode, "quick builtin\n"), (mode, "full mnist\n")),
        "dying": with_cells(
            original, ("import os; os._exit(1)", "farewell\n"), ("print('still here')", "still here\n")
        ),
        "answered": answered(original),
    }
    for name, notebook in notebooks_there.items():
        nbformat.write(notebook, lesson.with_name(f"{name}.ipynb"))
        lesson.with_name(f"{name}.py").touch()
    nbformat.write(with_cells(original, ("print(1)", "2\n")), lesson.with_name("my_try.ipynb"))
    listed.write_text("\n".join(f"S1/{name}" for name in ["fake", *notebooks_there]), encoding="utf-8")
    return folder


def run_nbval(course, *arguments):
    """Each cell's outcome, True for passed, by notebook."""
    report = course / "report.xml"
    # What a user's shell may hold; none of it reaches the notebooks.
    shell = {"COURSE_EPOCHS": "1", "COURSE_QUICK": "0", "MPLBACKEND": "agg", "PYTEST_ADDOPTS": ""}
    subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", f"--junitxml={report}", *arguments],
        cwd=course,
        env=os.environ | shell | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        timeout=300,  # far below the time-out of a cell, for which a dead kernel must not make us wait
    )
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        notebook = re.search(r"(\w+)\.?ipynb", case.get("classname").replace("/", ".")).group(1)
        failed = case.find("failure") is not None or case.find("error") is not None
        outcomes.setdefault(notebook, []).append(not failed)
    return outcomes


@pytest.fixture(scope="module")
def quick(course):
    # Two processes: each notebook's cells need its first one, so all of them have to land on one kernel.
    return run_nbval(course, "-n", "2")


def test_notebook_of_a_full_run_passes_in_a_quick_one(quick):
    assert quick["fake"] == [True] * SCRIPT.count("# %%")


@pytest.mark.parametrize("change", HARMLESS)
def test_training_may_give_other_numbers(quick, change):
    outcomes = dict(zip(["unchanged", *HARMLESS], quick["harmless"], strict=True))
    assert outcomes["unchanged"]
    assert outcomes[change]


@pytest.mark.parametrize("error", PLANTED)
def test_planted_error_is_found(quick, error):
    outcomes = dict(zip(["unchanged", *PLANTED], quick["planted"], strict=True))
    assert outcomes["unchanged"]
    assert not outcomes[error]


def test_a_students_own_cells_run_and_are_not_compared(quick):
    assert quick["answered"] == [True, False, True, True, True, True, True, True, True]  # but the course's numbers are


@pytest.fixture(scope="module")
def named(course):
    """Two notebooks that the command line names, in full where this machine has MNIST, and whether it has."""
    try:
        notebooks.get_mnist()
        full = ["--full"]
    except UserError:
        full = []
    return run_nbval(course, *full, "sessions/S1/my_try.ipynb", "sessions/S1/mode.ipynb"), bool(full)


def test_a_students_own_notebook_is_left_out(quick):
    assert "my_try" not in quick


@pytest.mark.in_full
def test_a_students_own_notebook_is_run_where_it_is_named(named):
    assert named[0]["my_try"] == [False]


def test_dead_kernel_fails_its_notebook_and_ends(quick):
    assert quick["dying"] == [False, False]


def test_kernels_run_quick(quick):
    assert quick["mode"] == [True, False]


@pytest.mark.in_full
def test_kernels_run_in_full_where_that_is_asked_for(named):
    outcomes, full = named
    if not full:
        pytest.skip("a full run needs MNIST")
    assert outcomes["mode"] == [False, True]
