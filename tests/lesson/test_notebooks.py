"""The committed notebooks against their scripts, and the command that makes the one from the other."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from common.lesson import notebooks
from common.recipe import Recipe, command_line
from common.system.errors import UserError

LESSONS = notebooks.lessons()
MENDED_BY = "`python3 course.py notebooks {}` makes it anew"


def test_there_are_lessons_and_every_notebook_is_one():
    assert LESSONS
    assert {path.with_suffix(".ipynb") for path in LESSONS.values()} == set(notebooks.SESSIONS.glob("S*/*.ipynb"))


@pytest.fixture(params=LESSONS)
def step(request):
    return request.param


@pytest.fixture
def path(step):
    path = LESSONS[step].with_suffix(".ipynb")
    assert path.exists(), f"{path} is missing; {MENDED_BY.format(step)}"
    return path


@pytest.fixture
def notebook(path):
    return notebooks.read(path)


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_both_halves_hold_the_same_cells(step, notebook):
    assert notebooks.halves(notebook) == notebooks.halves(notebooks.pair(LESSONS[step])), MENDED_BY.format(step)


def test_outputs_are_of_this_script_and_this_record(step, notebook):
    today = notebooks.fingerprints(LESSONS[step])
    for name in ("lesson", "record"):
        assert notebook.metadata.course.get(name) == today.get(name), f"its {name} changed; {MENDED_BY.format(step)}"


def test_every_cell_was_executed_once_from_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_no_output_is_an_error_or_a_warning(notebook):
    assert [output for output in outputs(notebook) if output.output_type == "error"] == []
    assert [output.text for output in outputs(notebook) if output.get("name") == "stderr"] == []


def test_figures_are_png(notebook):
    kinds = {kind for output in outputs(notebook) for kind in output.get("data", {})}
    assert "image/png" in kinds
    assert kinds <= {"image/png", "text/plain", "text/markdown"}


def test_notebook_is_small(path):
    assert path.stat().st_size < notebooks.LARGEST


def test_outputs_are_of_a_full_run_on_mnist(notebook):
    printed = "".join(output.text for output in outputs(notebook) if output.output_type == "stream")
    loads = any("data.load(" in cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert re.findall(r"(?m)^data {7}(\S+):", printed) == ["mnist"] * loads


def test_nbval_compares_every_cell(notebook):
    assert [cell.source for cell in notebook.cells if re.search(r"(?i)nbval.(ignore|skip)", str(dict(cell)))] == []


# The command, on a lesson without torch.

SCRIPT = """\
# %% [markdown]
# # Count to three

# %%
numbers = [1, 2, 3]

# %%
import os
import sys
import time

print("one", flush=True)
time.sleep(0.3)  # long enough for the kernel to send what it has
print("two")
print(sys.executable)

# %% tags=["last"]
print(sum(numbers), [os.environ.get(name) for name in ("COURSE_DATA", "COURSE_QUICK", "COURSE_EPOCHS", "TQDM_DISABLE")])
"""


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """A lesson in its own sessions folder, and a common/ that the tests may change."""
    monkeypatch.setattr(notebooks, "COMMON", tmp_path / "common")
    monkeypatch.setattr(notebooks, "get_mnist", lambda: None)  # this lesson loads no digits; a machine may be offline
    monkeypatch.setenv("COURSE_QUICK", "1")
    monkeypatch.setenv("COURSE_EPOCHS", "1")
    monkeypatch.delenv("COURSE_DATA", raising=False)
    path = tmp_path / "sessions" / "S1" / "count.py"
    for file, text in {path: SCRIPT, tmp_path / "common" / "words.py": "WORD = 'one'\n"}.items():
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
    return path


def update(lesson, **options):
    notebooks.update(lesson.parent.parent, **options)
    return notebooks.read(lesson.with_suffix(".ipynb"))


def text_of(cell):
    return [output.text for output in cell.outputs]


def test_notebook_holds_the_outputs_of_a_full_run(lesson):
    notebook = update(lesson)
    title, numbers, words, total = notebook.cells
    assert title.source == "# Count to three"
    assert [numbers.execution_count, words.execution_count, total.execution_count] == [1, 2, 3]
    assert text_of(words) == [f"one\ntwo\n{sys.executable}\n"]  # in one piece, from this Python
    assert text_of(total) == ["6 ['mnist', None, None, '1']\n"]
    assert total.metadata == {"tags": ["last"]}
    assert set(notebook.metadata) == {"kernelspec", "language_info", "course"}


def test_same_lesson_gives_the_same_bytes(lesson):
    path = lesson.with_suffix(".ipynb")
    update(lesson)
    first = path.read_bytes()
    path.unlink()
    update(lesson)
    assert path.read_bytes() == first
    assert first.endswith(b"}\n")
    assert b"\r" not in first


def test_only_what_changed_is_executed(lesson, capsys):
    def verdict(**options):
        update(lesson, **options)
        return capsys.readouterr().out.split()[0]

    record = lesson.parent / "records" / "count.json"
    assert verdict() == "running"
    assert verdict() == "current"
    (notebooks.COMMON / "words.py").write_text("WORD = 'two'\n", encoding="utf-8")
    assert verdict() == "running"
    record.parent.mkdir()
    record.write_text("{}", encoding="utf-8")
    assert verdict() == "running"
    for file in (lesson, record):  # another system's line ends are no change
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert verdict() == "current"
    notebook = lesson.with_suffix(".ipynb")
    notebook.write_text(notebook.read_text(encoding="utf-8").replace("# Count to three", "# Count"), encoding="utf-8")
    assert verdict() == "prose"  # someone edited the wrong half
    assert "# Count to three" in notebook.read_text(encoding="utf-8")
    assert verdict(force=True) == "running"


def test_other_prose_keeps_the_outputs_and_other_code_does_not(lesson, capsys):
    before = update(lesson)
    lesson.write_text(SCRIPT.replace("# Count to three", "# Count to three, slowly"), encoding="utf-8")
    after = update(lesson)
    assert "prose" in capsys.readouterr().out
    assert "slowly" in after.cells[0].source
    assert [cell.get("outputs") for cell in after.cells] == [cell.get("outputs") for cell in before.cells]
    assert after.metadata.course["lesson"] != before.metadata.course["lesson"]
    lesson.write_text(SCRIPT.replace("[1, 2, 3]", "[1, 2, 4]"), encoding="utf-8")
    update(lesson)
    assert "prose" not in capsys.readouterr().out


def test_cells_keep_their_ids(lesson):
    before = [cell.id for cell in update(lesson).cells]
    edited = SCRIPT.replace("[1, 2, 3]", "[1, 2, 4]").replace(
        "# %%\nimport os", "# %% [markdown]\n# New.\n\n# %%\nimport os"
    )
    lesson.write_text(edited, encoding="utf-8")
    notebook = update(lesson)
    ids = [cell.id for cell in notebook.cells]
    assert [*ids[:2], *ids[3:]] == before
    assert len(set(ids)) == 5
    assert text_of(notebook.cells[-1])[0].startswith("7 ")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ValueError('first line\\nsecond line')", "code cell 2: ValueError: first line"),
        ("import os; os._exit(1)", "code cell 2: the kernel died"),
    ],
)
def test_failing_cell_leaves_the_old_notebook(lesson, code, reason):
    path = lesson.with_suffix(".ipynb")
    path.write_text("what was there before", encoding="utf-8")
    lesson.write_text(f"# %%\nprint(1)\n\n# %% [markdown]\n# Now:\n\n# %%\n{code}\n", encoding="utf-8")
    with pytest.raises(notebooks.NotExecutedError) as failure:
        update(lesson)
    assert str(failure.value).startswith(f"{path}, {reason}")
    assert "\n" not in str(failure.value)
    assert failure.value.exit_code == 1
    assert path.read_text(encoding="utf-8") == "what was there before"
    assert {file.name for file in lesson.parent.iterdir()} == {"count.py", "count.ipynb"}


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send Ctrl-C to one process")
def test_ctrl_c_leaves_the_old_notebook(lesson, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "builtin")  # it loads no digits; another process would fetch MNIST
    lesson.write_text("# %%\nopen('started', 'w').close()\n\n# %%\nimport time\ntime.sleep(60)\n", encoding="utf-8")
    code = "import sys, pathlib; from common import notebooks; notebooks.update(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(lesson.parent.parent)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (lesson.parent / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert re.fullmatch(r"Interrupted in code cell \d; .*count\.ipynb is as it was\.\n", stderr)
    assert not lesson.with_suffix(".ipynb").exists()


def test_large_notebook_is_reported(lesson, capsys, monkeypatch):
    monkeypatch.setattr(notebooks, "LARGEST", 1000)
    update(lesson)
    assert capsys.readouterr().out.splitlines()[-1].startswith("warning    S1/count.ipynb is over 1 kB")


def test_unknown_step_is_refused(lesson):
    with pytest.raises(UserError, match=r"no lesson 'S1/cuont'; choose from S1/count\."):
        update(lesson, steps=["S1/cuont"])
    assert not lesson.with_suffix(".ipynb").exists()
    with pytest.raises(UserError, match="There are no lessons in"):
        notebooks.update(lesson.parent)


@pytest.mark.parametrize("content", [None, "", "<<<<<<< HEAD", "{}", "[]", '{"nbformat": 4, "cells": [{}]}'])
def test_no_notebook_and_a_broken_one_are_made_anew(tmp_path, content):
    path = tmp_path / "broken.ipynb"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert notebooks.read(path) is None


def test_training_is_reused_only_from_a_study_that_left_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    assert notebooks._trained_already("S7/block3") == {}
    studied = tmp_path / "runs" / "study" / "S7" / "block3" / "seed-1" / "checkpoint.pt"
    studied.parent.mkdir(parents=True)
    studied.write_bytes(b"a run")
    assert notebooks._trained_already("S7/block3") == {}  # it has not ended
    (studied.parent / "record.json").write_text('{"runs": [{"threads": 3}]}')
    variables = notebooks._trained_already("S7/block3")
    assert variables["OMP_NUM_THREADS"] == "3"
    recipe, options = command_line(Recipe("S7/block3", epochs=14, batch_size=64, lr=0.02), [], variables)
    assert (options.resume, options.protocol, recipe.seed) == (True, "both", 1)
    assert (tmp_path / "runs" / "S7" / "block3" / "checkpoint.pt").read_bytes() == b"a run"
