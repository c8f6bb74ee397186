"""The committed notebooks against their scripts, and the command that makes the one from the other."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from unittest import mock

import nbformat
import pytest

from common.lesson import notebooks
from common.recipe import ROOT, Recipe, command_line
from common.system.errors import UserError

LESSONS = notebooks.lessons()
MENDED_BY = "`python3 course.py notebooks {}` brings it up to date, or says whose cells differ and what to do"


def test_every_notebook_that_git_knows_is_a_lesson_of_the_list():
    """A student's own files beside the lessons are in neither."""
    listed = {f"sessions/{step}{half}" for step in LESSONS for half in (".py", ".ipynb")}
    assert LESSONS
    git = shutil.which("git")
    known = (
        subprocess.run(
            [git or "git", "ls-files", "sessions/S*/*.ipynb", "sessions/S*/*.py"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if git
        else None
    )
    if known is None or known.returncode:
        pytest.skip("only git knows which files are the course's")
    assert set(known.stdout.split()) == listed


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
    today = notebooks.pair(LESSONS[step]).metadata.course
    for name in ("code", "prose", "record"):
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


def test_outputs_are_of_mnist(notebook):
    printed = "".join(output.text for output in outputs(notebook) if output.output_type == "stream")
    loads = any("data.load(" in cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert re.findall(r"(?m)^(\S.*): [\d,]+ training and", printed) == ["MNIST"] * loads


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
    """A lesson in its own sessions folder."""
    monkeypatch.setattr(notebooks, "get_mnist", lambda: None)  # this lesson loads no digits; a machine may be offline
    monkeypatch.setenv("COURSE_QUICK", "1")
    monkeypatch.setenv("COURSE_EPOCHS", "1")
    monkeypatch.delenv("COURSE_DATA", raising=False)
    path = tmp_path / "sessions" / "S1" / "count.py"
    path.parent.mkdir(parents=True)
    path.write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "sessions" / "lessons.txt").write_text("# The lessons.\nS1/count\n", encoding="utf-8")
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
    record.parent.mkdir()
    record.write_text("{}", encoding="utf-8")
    assert verdict() == "running"
    for file in (lesson, record):  # another system's line ends are no change
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert verdict() == "current"
    lesson.write_text(SCRIPT.replace("# Count to three", "# Count"), encoding="utf-8")
    assert verdict() == "prose"
    assert "# Count to three" not in lesson.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert verdict(force=True) == "running"


def test_other_prose_keeps_the_outputs_and_other_code_does_not(lesson, capsys):
    before = update(lesson)
    lesson.write_text(SCRIPT.replace("# Count to three", "# Count to three, slowly"), encoding="utf-8")
    after = update(lesson)
    assert "prose" in capsys.readouterr().out
    assert "slowly" in after.cells[0].source
    assert [cell.get("outputs") for cell in after.cells] == [cell.get("outputs") for cell in before.cells]
    assert after.metadata.course["prose"] != before.metadata.course["prose"]
    lesson.write_text(SCRIPT.replace("[1, 2, 3]", "[1, 2, 4]"), encoding="utf-8")
    update(lesson)
    assert "prose" not in capsys.readouterr().out


# What a student wrote into the notebook.

NOTE, ANSWER = "My note: three is a crowd.", "numbers = [1, 2, 3]  # an answer"


def with_a_note_and_an_answer(lesson):
    """The notebook of `lesson`, made and then edited where jupytext is not: in VS Code, say."""
    notebook = update(lesson)
    notebook.cells[1].source = ANSWER
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(NOTE, id="note"))
    nbformat.write(notebook, lesson.with_suffix(".ipynb"))
    return lesson.with_suffix(".ipynb").read_bytes()


def copies(lesson):
    return sorted((lesson.parents[2] / "work" / "S1").glob("*"))


@pytest.mark.parametrize("force", [False, True])
def test_a_student_s_cells_are_never_overwritten(lesson, capsys, force):
    written = with_a_note_and_an_answer(lesson)
    for script in (
        SCRIPT,
        SCRIPT.replace("print(sum(numbers)", "print(sum(numbers) + 1"),
    ):  # also when the course moves on
        lesson.write_text(script, encoding="utf-8")
        capsys.readouterr()
        with pytest.raises(
            UserError, match=r"^Left alone: S1/count\. --keep-mine .* --discard-mine .*work/\.$"
        ) as left:
            update(lesson, force=force)
        said = capsys.readouterr().out
        assert (lesson.with_suffix(".ipynb").read_bytes(), lesson.read_text(encoding="utf-8")) == (written, script)
        assert left.value.exit_code == 1
        assert f"cell 2, markdown: {NOTE}" in said
        assert f"cell 3, code: {ANSWER}" in said
        assert "cell 4" not in said
    assert copies(lesson) == []


def test_keep_mine_writes_the_students_cells_into_the_script(lesson):
    written = with_a_note_and_an_answer(lesson)
    update(lesson, mine="keep")
    assert lesson.read_text(encoding="utf-8") == SCRIPT.replace("numbers = [1, 2, 3]", ANSWER).replace(
        "# %%\nnumbers", f"# %% [markdown]\n# {NOTE}\n\n# %%\nnumbers"
    )
    assert lesson.with_suffix(".ipynb").read_bytes() == written  # with its outputs
    assert copies(lesson) == []  # what the script had is the course's own
    notebook = update(lesson)  # and now it is a pair like any other
    assert [cell.source for cell in notebook.cells[1:3]] == [NOTE, ANSWER]


def test_keep_mine_copies_a_script_that_somebody_edited_too(lesson):
    with_a_note_and_an_answer(lesson)
    edited = SCRIPT.replace("# Count to three", "# Count to three, slowly")
    lesson.write_text(edited, encoding="utf-8")
    update(lesson, mine="keep")
    assert NOTE in lesson.read_text(encoding="utf-8")
    (copy,) = copies(lesson)
    assert re.fullmatch(r"count_\d{4}-\d\d-\d\d_\d{6}\.py", copy.name)
    assert copy.read_text(encoding="utf-8") == edited


def test_discard_mine_copies_the_notebook_first(lesson, monkeypatch):
    monkeypatch.setattr(notebooks, "datetime", mock.Mock(now=lambda: datetime(2026, 11, 26, 19, 15, 3)))
    written = [with_a_note_and_an_answer(lesson)]
    assert NOTE not in [cell.source for cell in update(lesson, mine="discard").cells]
    written.append(with_a_note_and_an_answer(lesson) + b" ")
    lesson.with_suffix(".ipynb").write_bytes(written[1])
    update(lesson, mine="discard")  # in the same second
    assert [copy.name for copy in copies(lesson)] == [
        "count_2026-11-26_191503.ipynb",
        "count_2026-11-26_191503_2.ipynb",
    ]
    assert [copy.read_bytes() for copy in copies(lesson)] == written
    assert lesson.read_text(encoding="utf-8") == SCRIPT


def test_a_notebook_that_cannot_be_read_is_copied_before_it_is_made_anew(lesson):
    update(lesson)
    lesson.with_suffix(".ipynb").write_text("<<<<<<< HEAD", encoding="utf-8")
    update(lesson)
    assert [copy.read_text(encoding="utf-8") for copy in copies(lesson)] == ["<<<<<<< HEAD"]


def test_files_beside_the_lessons_are_left_alone(lesson, capsys):
    mine = lesson.with_name("my_try.py")
    mine.write_text("# %%\nraise SystemExit\n", encoding="utf-8")
    update(lesson)
    assert "my_try" not in capsys.readouterr().out
    assert set(lesson.parent.glob("my_try*")) == {mine}


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
    cells = "# %%\nimport time\n\n# %%\nopen('started', 'w').close()\ntime.sleep(60)\n"
    lesson.write_text(cells, encoding="utf-8")
    code = "import sys, pathlib; from common.lesson import notebooks; notebooks.update(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(lesson.parent.parent)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (lesson.parent / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert re.fullmatch(r"Interrupted in code cell \d; .*count\.ipynb is as it was\.\n", stderr), stderr
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
    lesson.rename(lesson.with_name("counted.py"))
    with pytest.raises(UserError, match=r"lists S1/count, but there is no .*count\.py"):
        update(lesson)


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
    recipe, options = command_line(Recipe("S7/block3", epochs=14, batch_size=64, lr=0.02), "full", [], variables)
    assert (options.resume, options.protocol, recipe.seed) == (True, "both", 1)
    assert (tmp_path / "runs" / "S7" / "block3" / "checkpoint.pt").read_bytes() == b"a run"
