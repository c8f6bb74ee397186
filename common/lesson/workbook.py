"""`course.py lab`: a student's own copies of the lessons in work/, and JupyterLab to work in them.

The lessons in sessions/ are the course's, and git tells when they change. The copies in work/ are the student's: git
ignores them, nothing here ever overwrites one, and links and imports work in them as they do in sessions/.
"""

import contextlib
import os
import re
import sys
from pathlib import Path

from common.lesson import notebooks
from common.recipe import ROOT
from common.system import command_lines
from common.system.errors import UserError
from common.system.files import write_atomically

WORK = ROOT / "work"
UNPAIRED = '# A copy is one file: jupytext writes no .py beside it.\nformats = ""\n'


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` defaults to the program's own. What it does not know goes on to JupyterLab."""
    options, others = command_lines.lab().parse_known_args(arguments)
    if options.answers:
        print("\n".join(f"{path}  {answers(path)}" for path in options.answers))
        return
    make_copies(notebooks.SESSIONS, WORK, options.renew or ())
    if options.copies_only:
        return
    tell_unsaved(notebooks.SESSIONS)
    register_kernel()
    # The environment's own kernels come before whatever else this user has installed under the same name.
    os.environ["JUPYTER_PATH"] = os.pathsep.join(
        [str(Path(sys.prefix, "share", "jupyter")), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    )
    from jupyterlab.labapp import LabApp

    hook = f"--FileContentsManager.pre_save_hook={__spec__.name}.without_machine"
    LabApp.launch_instance(["--LabApp.default_url=/lab/tree/work", hook, *others])


def make_copies(sessions: Path, work: Path, renew=()) -> None:
    """Copy each lesson's notebook, with its outputs, to `work` where it is missing, and say what changed since.

    The copies of the steps in `renew` are kept under another name, with the date in it, and made anew. Raises
    UserError for an unknown step.
    """
    lessons = notebooks.lessons(sessions)
    for step in renew:
        if step not in lessons:
            raise UserError(f"There is no lesson {step!r}; choose from {', '.join(lessons)}.")
    write_atomically(work / "jupytext.toml", UNPAIRED)
    made, changed = [], []
    for step, lesson in lessons.items():
        path, copy = lesson.with_suffix(".ipynb"), work / f"{step}.ipynb"
        if step in renew and copy.exists():
            print(f"kept       {step}.ipynb, as it was, in {notebooks.set_aside(copy, sessions)}")
            copy.unlink()
        if not copy.exists():
            write_atomically(copy, path.read_bytes())
            made.append(step)
        elif _cells_of(copy) not in (None, _cells_of(path)):
            changed.append(step)
    if made:
        print(f"copied     {', '.join(made)} to {work}")
    if changed:
        print(f"changed    the course has newer forms of {', '.join(changed)}; your copies are as you left them.")
        print(f"           `course.py lab --renew {' '.join(changed)}` keeps yours under another name and copies anew.")


def tell_unsaved(sessions: Path) -> None:
    """Name the lessons in `sessions` themselves whose notebook has cells of a student's that its script has not.

    JupyterLab shows the cells of the script, and would write them over the notebook's.
    """
    for step, lesson in notebooks.lessons(sessions).items():
        old = notebooks.read(lesson.with_suffix(".ipynb"))
        if old and notebooks.cells_missing_in(notebooks.pair(lesson, old), old):
            print(f"yours      sessions/{step}.ipynb has cells that its .py does not have; before you open it, give")
            print(f"           `course.py notebooks {step} --keep-mine` (or --discard-mine).")


def register_kernel(name: str = "MNIST course") -> None:
    """Call the kernel of the course's .venv by its name; an environment of somebody's own is left as it is."""
    from ipykernel.kernelspec import install

    if Path(sys.prefix).resolve() == (ROOT / ".venv").resolve():
        with contextlib.suppress(OSError):  # an environment that cannot be written works under its old name
            install(kernel_name="python3", display_name=name, prefix=sys.prefix)


def without_machine(model: dict, **_) -> None:
    """Jupyter's hook before a notebook is saved: one of the course keeps its metadata, whatever kernel ran it.

    Otherwise the version of Python and the kernel's name would change in git each time that somebody saves.
    """
    if model["type"] == "notebook" and "course" in model["content"]["metadata"]:
        model["content"]["metadata"].update(notebooks.METADATA)
        model["content"]["metadata"].pop("jupytext", None)  # pyproject.toml has it


def answers(path: Path) -> str:
    """How often the checks in the notebook at `path` said right, not yet and open, when it was last run and saved."""
    notebook = notebooks.read(path)
    if notebook is None:
        return "cannot be read"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
    return ", ".join(f"{said} {len(re.findall(f'(?m)^{said} +', printed))}" for said in ("right", "not yet", "open"))


def _cells_of(path: Path) -> tuple | None:
    """What the notebook at `path` was made from; None when it does not say."""
    notebook = notebooks.read(path)
    course = notebook.metadata.get("course", {}) if notebook else {}
    return (course["code"], course["prose"]) if "code" in course else None


if __name__ == "__main__":
    main()
