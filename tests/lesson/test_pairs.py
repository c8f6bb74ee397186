"""The lessons as jupytext's pairs: its own commands, and what JupyterLab does when it opens and saves them."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupytext import TextFileContentsManager
from jupytext import cli as jupytext_cli
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from common.lesson import notebooks, workbook
from common.recipe import ROOT
from common.system.errors import UserError

STEPS = list(notebooks.lessons())
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+\.\w+)(?:#[^)]*)?\)")


@pytest.fixture
def checkout(tmp_path):
    """The lessons and jupytext's settings, with the time stamps of a fresh clone."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for lesson in notebooks.lessons().values():
        for path in lesson, lesson.with_suffix(".ipynb"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    shutil.copy(ROOT / "sessions" / notebooks.LIST, tmp_path / "sessions")
    return tmp_path


def contents(checkout):
    return {path: path.read_bytes() for path in sorted(checkout.glob("sessions/S*/*.*")) if path.is_file()}


@pytest.fixture
def jupytext(checkout, monkeypatch, capfd):
    """Its command in the checkout: the exit code, and all that it printed."""

    def run(*arguments):
        monkeypatch.chdir(checkout)
        capfd.readouterr()
        try:
            code = jupytext_cli.jupytext(arguments)
        except SystemExit as ended:
            code = ended.code
        said = capfd.readouterr()
        return code or 0, said.out + said.err

    return run


@pytest.mark.parametrize("newer", [".py", ".ipynb"])
def test_sync_changes_not_a_byte_whichever_half_is_newer(checkout, jupytext, newer):
    before = contents(checkout)
    assert len(before) == 2 * len(STEPS)
    for path in before:
        moment = path.stat().st_mtime - (0 if path.suffix == newer else 3600)
        os.utime(path, (moment, moment))
    code, said = jupytext("--sync", *[f"sessions/{step}.ipynb" for step in STEPS])
    assert code == 0, said
    assert "not a paired notebook" not in said
    assert contents(checkout) == before


def test_round_trips_are_exact(jupytext):
    for half, other in ("ipynb", "py:percent"), ("py", "ipynb"):
        code, said = jupytext("--test", "--to", other, *[f"sessions/{step}.{half}" for step in STEPS])
        assert code == 0, said


@pytest.mark.parametrize("half", [".py", ".ipynb"])
def test_either_half_names_the_other(jupytext, half):
    other = {".py": ".ipynb", ".ipynb": ".py"}[half]
    _, said = jupytext("--paired-paths", f"sessions/{STEPS[0]}{half}")  # its exit code says nothing
    assert said == f"sessions/{STEPS[0]}{other}\n"


@pytest.mark.parametrize("step", STEPS)
def test_a_script_holds_its_cells_and_nothing_that_a_machine_made(step):
    text = (ROOT / "sessions" / f"{step}.py").read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ")
    assert "jupytext" not in text


# JupyterLab, which opens and saves through jupytext's contents manager.


@pytest.fixture
def jupyter(checkout):
    hook = "common.lesson.workbook.without_machine"
    return TextFileContentsManager(root_dir=str(checkout), pre_save_hook=hook)


def open_and_save(jupyter, path, edit=lambda notebook: None):
    """What JupyterLab does: a kernel starts and leaves its name and version, the notebook goes back as JSON."""
    notebook = json.loads(json.dumps(jupyter.get(path, type="notebook", content=True)["content"]))
    notebook["metadata"]["kernelspec"] = {"name": "python3", "display_name": "MNIST course", "language": "python"}
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.12.1", "file_extension": ".py"}
    edit(notebook)
    jupyter.save({"type": "notebook", "format": "json", "content": notebook}, path)


@pytest.mark.parametrize("half", [".py", ".ipynb"])
@pytest.mark.parametrize("step", STEPS)
def test_opened_and_saved_unchanged_it_stays_the_same(checkout, jupyter, step, half):
    before = contents(checkout)
    open_and_save(jupyter, f"sessions/{step}{half}")
    assert contents(checkout) == before


@pytest.mark.parametrize("half", [".py", ".ipynb"])
def test_edited_and_saved_both_halves_have_it(checkout, jupyter, half):
    def edit(notebook):
        notebook["cells"].insert(1, {"cell_type": "markdown", "metadata": {}, "source": "My note.", "id": "note"})

    step = "S7/block3"
    lesson = checkout / "sessions" / f"{step}.py"
    outputs = [cell.get("outputs") for cell in notebooks.read(lesson.with_suffix(".ipynb")).cells]
    open_and_save(jupyter, f"sessions/{step}{half}", edit)
    notebook = notebooks.read(lesson.with_suffix(".ipynb"))
    assert notebook.cells[1].source == "My note."
    assert "# %% [markdown]\n# My note.\n" in lesson.read_text(encoding="utf-8")
    assert [cell.get("outputs") for cell in notebook.cells[:1] + notebook.cells[2:]] == outputs
    assert notebooks.cells_missing_in(notebooks.pair(lesson), notebook) == []


def test_a_fresh_clone_is_current(checkout, capsys, monkeypatch):
    monkeypatch.setattr(
        notebooks, "_execute", pytest.fail
    )  # at once, and not after the run of a page that is not current
    before = copy.copy(contents(checkout))
    for path in notebooks.SESSIONS.glob("S*/records/*.json"):
        target = checkout / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    notebooks.update(checkout / "sessions")
    assert capsys.readouterr().out == "".join(f"current    {step}.ipynb\n" for step in STEPS)
    assert {path: path.read_bytes() for path in before} == before


# A student's copies.


@pytest.fixture
def work(checkout, capsys):
    workbook.make_copies(checkout / "sessions", checkout / "work")
    capsys.readouterr()
    return checkout / "work"


def test_copies_are_made_where_they_are_missing_and_never_overwritten(checkout, work, capsys):
    for step in STEPS:
        assert (work / f"{step}.ipynb").read_bytes() == (checkout / "sessions" / f"{step}.ipynb").read_bytes()
    (work / f"{STEPS[0]}.ipynb").write_text("mine", encoding="utf-8")
    (work / f"{STEPS[1]}.ipynb").unlink()
    workbook.make_copies(checkout / "sessions", work)
    assert (work / f"{STEPS[0]}.ipynb").read_text(encoding="utf-8") == "mine"
    assert capsys.readouterr().out == f"copied     {STEPS[1]} to {work}\n"


def test_a_copy_is_one_file(checkout, work, jupyter):
    def edit(notebook):
        notebook["cells"][0]["source"] = "My own title"

    before = contents(checkout)
    open_and_save(jupyter, f"work/{STEPS[0]}.ipynb", edit)
    assert notebooks.read(work / f"{STEPS[0]}.ipynb").cells[0].source == "My own title"
    assert list(work.rglob("*.py")) == []
    assert contents(checkout) == before


def test_a_lesson_that_changed_since_is_told_and_renewed_without_losing_the_copy(checkout, work, capsys):
    step = "S7/block3"
    notebook = notebooks.read(work / f"{step}.ipynb")
    notebook.cells[0].source = "My own title"
    mine = json.dumps(notebook)
    (work / f"{step}.ipynb").write_text(mine, encoding="utf-8")
    workbook.make_copies(checkout / "sessions", work)
    assert capsys.readouterr().out == ""  # what the student changed is no news
    path = checkout / "sessions" / f"{step}.py"
    path.write_text(path.read_text(encoding="utf-8").replace("# # S7 block 3", "# # Now S7 block 3"), encoding="utf-8")
    new = notebooks.pair(path)
    path.with_suffix(".ipynb").write_text(json.dumps(new), encoding="utf-8")
    workbook.make_copies(checkout / "sessions", work)
    assert f"newer forms of {step};" in capsys.readouterr().out
    assert (work / f"{step}.ipynb").read_text(encoding="utf-8") == mine
    workbook.make_copies(checkout / "sessions", work, [step])
    assert (work / f"{step}.ipynb").read_text(encoding="utf-8") == json.dumps(new)
    (kept,) = work.glob("S7/block3_*.ipynb")
    assert kept.read_text(encoding="utf-8") == mine


@pytest.mark.parametrize("step", STEPS)
def test_every_link_of_a_lesson_leads_to_the_same_from_its_copy(step):
    """Between lessons there is one for each copy; everything else lies where it lies."""
    for cell in notebooks.read(ROOT / "sessions" / f"{step}.ipynb").cells:
        for link in LINK.findall(cell.source) if cell.cell_type == "markdown" else ():
            there = (ROOT / "sessions" / step).parent / link
            assert there.exists(), link
            name = there.resolve().relative_to(ROOT.resolve()).as_posix()
            from_copy = (ROOT / "work" / step).parent / link
            is_lesson = name in {f"sessions/{lesson}.ipynb" for lesson in STEPS}
            expected = name.replace("sessions/", "work/", 1) if is_lesson else name
            assert os.path.normpath(from_copy) == os.path.normpath(ROOT / expected), link


def test_an_unknown_step_cannot_be_renewed(checkout, work):
    with pytest.raises(UserError, match=r"no lesson 'S7/blok3'; choose from S5/"):
        workbook.make_copies(checkout / "sessions", work, ["S7/blok3"])


def test_lab_names_a_lesson_whose_notebook_holds_more_than_its_script(checkout, capsys):
    workbook.tell_unsaved(checkout / "sessions")
    assert capsys.readouterr().out == ""
    path = checkout / "sessions" / "S7" / "block3.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][0]["source"] = "My own title"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    workbook.tell_unsaved(checkout / "sessions")
    assert "`course.py notebooks S7/block3 --keep-mine`" in capsys.readouterr().out


def test_the_kernel_of_the_course_s_environment_gets_its_name_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(workbook, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "conda"))
    workbook.register_kernel()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    workbook.register_kernel()
    manager = KernelSpecManager(kernel_dirs=[str(tmp_path / ".venv" / "share" / "jupyter" / "kernels")])
    kernel = manager.get_kernel_spec("python3")  # the name that the lessons' metadata give
    assert (kernel.display_name, kernel.argv[0]) == ("MNIST course", sys.executable)


# A Python that does not have the course.


@pytest.mark.parametrize("step", STEPS)
def test_a_python_without_the_course_is_told_what_to_do(step):
    command = [sys.executable, "-I", "-S", str(ROOT / "sessions" / f"{step}.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"This kernel lacks the course: run `python3 course\.py lab`, or .*\.\n", done.stderr)


def test_a_kernel_without_the_course_is_told_what_to_do():
    first = next(cell for cell in notebooks.read(ROOT / f"sessions/{STEPS[0]}.ipynb").cells if cell.cell_type == "code")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("import sys; sys.modules['common'] = None"), first]
    )
    with pytest.raises(CellExecutionError):  # so that the cells after it are not run
        NotebookClient(notebook, kernel_name="python3").execute()
    error = next(output for output in notebook.cells[1].outputs if output.output_type == "error")
    assert error.evalue.startswith("This kernel lacks the course: run `python3 course.py lab`")
    assert "ModuleNotFoundError" not in "".join(error.traceback)


def test_answers_are_counted_from_what_the_notebook_holds(work):
    notebook = notebooks.read(work / f"{STEPS[0]}.ipynb")
    text = "right      one\nopen       two\nnot yet    three: your answer is 4\nright      four\n"
    cell = next(cell for cell in reversed(notebook.cells) if cell.cell_type == "code")
    for other in notebook.cells:
        if other.cell_type == "code":
            other.outputs = []
    cell.outputs = [{"output_type": "stream", "name": "stdout", "text": text}]
    path = work / "answered.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert workbook.answers(path) == "right 2, not yet 1, open 1"
    assert workbook.answers(work / "missing.ipynb") == "cannot be read"
