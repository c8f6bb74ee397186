"""Make each lesson's notebook from its script: `python -m common.lesson.notebooks [STEP ...]`.

A lesson is a pair that jupytext knows (pyproject.toml): sessions/S7/block3.py, and sessions/S7/block3.ipynb, the same
cells with their outputs on MNIST. JupyterLab with jupytext's extension saves both. This command is for whoever edits
one of them elsewhere. It never overwrites a cell that only one of the two has, unless it is told to.
"""

import hashlib
import itertools
import json
import time
from datetime import datetime
from pathlib import Path

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupytext.combine import map_outputs_to_inputs
from jupytext.config import load_jupytext_config
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from common.data.mnist_files import mnist_files
from common.recipe import ROOT
from common.system import command_lines
from common.system.environment import kernel_environment
from common.system.errors import UserError
from common.system.files import write_atomically
from common.system.locks import exclusive_run_lock

SESSIONS = ROOT / "sessions"
LIST = "lessons.txt"  # in SESSIONS
LARGEST = 1_000_000  # bytes; GitHub shows larger notebooks slowly or not at all
# No versions here: they differ from machine to machine.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class NotExecutedError(UserError):
    """A lesson's code failed or was interrupted; its notebook is as it was."""

    exit_code = 1


class LeftAloneError(UserError):
    """A notebook has cells that its script does not have; both are as they were."""

    exit_code = 1


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` defaults to the program's own."""
    options = command_lines.notebooks().parse_args(arguments)
    mine = "keep" if options.keep_mine else "discard" if options.discard_mine else ""
    update(SESSIONS, options.step, options.force, options.reuse, mine)


def update(sessions: Path, steps=(), force: bool = False, reuse: bool = False, mine: str = "") -> None:
    """Bring the notebooks of `steps` (all when empty) under `sessions` up to date, one printed line each.

    With `reuse`, a lesson whose study has left seed 1's checkpoint goes on from there: the same numbers, no training.
    A notebook with cells that its script does not have is left alone; where `mine` is "keep" they go into the script,
    where it is "discard" the notebook is made anew. What is overwritten then is first copied into work/.

    Raises UserError for an unknown step, NotExecutedError at the first lesson that fails (its old notebook stays), and
    LeftAloneError at the end, when a notebook was left alone.
    """
    left_alone = []
    for step, lesson in _chosen(sessions, steps).items():
        path = lesson.with_suffix(".ipynb")
        old = read(path)
        new = pair(lesson, old)
        own = cells_missing_in(new, old)
        if own and mine != "discard":
            _keep(step, lesson, old, new) if mine else _explain(step, own)
            left_alone += [] if mine else [step]
            continue
        if not force and old and old.metadata.get("course") == new.metadata.course and halves(old) == halves(new):
            print(f"current    {step}.ipynb")
            continue
        started = time.perf_counter()
        if not force and old and _same_run(old, new):
            print(f"prose      {step}.py has other text, the same code: the outputs stay")
        else:
            print(f"running    {step}.py, which takes minutes where it trains in full", flush=True)
            get_mnist()
            _execute(new, path, _trained_already(step) if reuse else {})
        if own or (old is None and path.exists()):  # a notebook that cannot be read may hold answers too
            print(f"copied     {step}.ipynb, as it was, to {set_aside(path, sessions)}")
        content = (nbformat.writes(new) + "\n").encode()
        write_atomically(path, content)
        seconds, kilobytes = time.perf_counter() - started, len(content) / 1000
        print(f"written    {step}.ipynb  {seconds:.0f} s  {kilobytes:,.0f} kB", flush=True)
        if len(content) > LARGEST:
            print(f"warning    {step}.ipynb is over {LARGEST / 1000:,.0f} kB; draw smaller or fewer figures")
    if left_alone:
        raise LeftAloneError(
            f"Left alone: {', '.join(left_alone)}. --keep-mine writes your cells into the .py; --discard-mine makes "
            "the notebook anew, after a copy of it in work/."
        )


def lessons(sessions: Path = SESSIONS) -> dict[str, Path]:
    """Every lesson's script by its step's name, such as "S7/block3", as sessions/lessons.txt lists them.

    Whatever else lies beside them is a student's own. Raises UserError when a script of the list is missing.
    """
    try:
        lines = (sessions / LIST).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    found = {step: sessions / f"{step}.py" for step in map(str.strip, lines) if step and not step.startswith("#")}
    for step, path in found.items():
        if not path.exists():
            raise UserError(f"{sessions / LIST} lists {step}, but there is no {path}.")
    return found


def read(path: Path) -> NotebookNode | None:
    """The notebook at `path`, or None when there is none or it cannot be read."""
    try:
        return nbformat.read(path, as_version=4)
    except (FileNotFoundError, ValueError, AttributeError, nbformat.ValidationError):  # what nbformat raises
        return None


def halves(notebook: NotebookNode) -> list[tuple[str, str]]:
    """What a lesson's two halves have in common: (cell_type, source) of each cell."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def pair(lesson: Path, old: NotebookNode | None = None) -> NotebookNode:
    """The notebook of the script `lesson`, without outputs; cells that `old` has too keep their ids."""
    notebook = jupytext.reads(lesson.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata.pop("jupytext", None)
    notebook.metadata.update(METADATA, course=made_from(notebook, lesson))
    _name_cells(notebook.cells, old.cells if old else [])
    return notebook


def made_from(notebook: NotebookNode, lesson: Path) -> dict[str, str]:
    """What a notebook's metadata keep of its making: a hash of each cell, and of the step's record, if there is one.

    They tell later whose a cell is, and whether the outputs are of today's code. Time stamps could not: a clone has
    new ones.
    """
    hashes = {
        "code": " ".join(_hash(cell) for cell in notebook.cells if cell.cell_type == "code"),
        "prose": " ".join(_hash(cell) for cell in notebook.cells if cell.cell_type != "code"),
    }
    record = lesson.parent / "records" / f"{lesson.stem}.json"
    if record.exists():  # git may check text out with either line ending
        hashes["record"] = hashlib.sha256(record.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    return hashes


def is_own(cell: NotebookNode, notebook: NotebookNode) -> bool:
    """Whether a student wrote or changed this cell: `notebook` was not made with it."""
    course = notebook.metadata.get("course", {})
    made_with = course.get("code" if cell.cell_type == "code" else "prose", "")
    return bool(cell.source.strip()) and _hash(cell) not in made_with.split()


def cells_missing_in(new: NotebookNode, old: NotebookNode | None) -> list[tuple[int, NotebookNode]]:
    """The student's own cells of `old` that `new` does not have, each after its number, which counts from 1."""
    there = halves(new)
    own = [(number, cell) for number, cell in enumerate(old.cells if old else [], start=1) if is_own(cell, old)]
    return [(number, cell) for number, cell in own if (cell.cell_type, cell.source) not in there]


def set_aside(path: Path, sessions: Path = SESSIONS) -> Path:
    """Copy a half of a lesson, or a copy of one, to work/S7/block3_2026-11-26_191503.ipynb, and return that path.

    Links and imports work there as they do in sessions/, and git ignores it.
    """
    first = sessions.parent / "work" / path.parent.name / f"{path.stem}_{datetime.now():%Y-%m-%d_%H%M%S}{path.suffix}"
    others = (first.with_stem(f"{first.stem}_{number}") for number in itertools.count(2))
    free = next(copy for copy in itertools.chain([first], others) if not copy.exists())
    return write_atomically(free, path.read_bytes())


def _same_run(old: NotebookNode, new: NotebookNode) -> bool:
    """Whether `old` ran the code of `new` with the same record; if so, give `new` its outputs."""
    sides = [[cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (old, new)]
    inputs = [{**notebook.metadata.get("course", {}), "prose": ""} for notebook in (old, new)]
    if inputs[0] != inputs[1] or [cell.source for cell in sides[0]] != [cell.source for cell in sides[1]]:
        return False
    for before, after in zip(*sides, strict=True):
        after.outputs, after.execution_count = before.outputs, before.execution_count
    return True


def get_mnist() -> None:
    """Have MNIST in the cache before a kernel asks for it: what a download says does not belong into a notebook."""
    if kernel_environment()["COURSE_DATA"] == "mnist":
        mnist_files()


def _chosen(sessions: Path, steps) -> dict[str, Path]:
    available = lessons(sessions)
    if not available:
        raise UserError(f"There are no lessons in {sessions}; expected scripts such as S7/block3.py.")
    for step in steps:
        if step not in available:
            raise UserError(f"There is no lesson {step!r}; choose from {', '.join(available)}.")
    return {step: available[step] for step in steps or available}


def _hash(cell: NotebookNode) -> str:
    return hashlib.sha256(cell.source.encode()).hexdigest()[:8]


def _first_line(cell: NotebookNode) -> str:
    return cell.source.strip().splitlines()[0][:80]


def _explain(step: str, own: list[tuple[int, NotebookNode]]) -> None:
    print(f"yours      {step}.ipynb has what {step}.py does not have; nothing was written")
    for number, cell in own:
        print(f"           cell {number}, {cell.cell_type}: {_first_line(cell)}")


def _keep(step: str, lesson: Path, old: NotebookNode, new: NotebookNode) -> None:
    """Write the cells of the notebook `old` into the script `lesson`, now that of `new`; copy that first if need be."""
    made_with = NotebookNode(cells=new.cells, metadata=old.metadata)
    if cells_missing_in(old, made_with):  # neither was the notebook made with it nor does it have it now
        print(f"copied     {step}.py, as it was, to {set_aside(lesson, lesson.parent.parent)}")
    filters = load_jupytext_config(str(SESSIONS))
    write_atomically(lesson, jupytext.writes(old, fmt="py:percent", config=filters))
    print(f"kept       {step}.py has your cells now; the outputs stay until the next `course.py notebooks {step}`")


def _name_cells(cells: list[NotebookNode], old: list[NotebookNode]) -> None:
    """Give each cell the id of its counterpart in `old`, or one made from its source (jupytext's are random)."""
    counterparts = map_outputs_to_inputs(cells, old)
    taken = {old[index].id for index in counterparts if index is not None}
    for cell, index in zip(cells, counterparts, strict=True):
        if index is not None:
            cell.id = old[index].id
            continue
        texts = (f"{attempt} {cell.cell_type} {cell.source}" for attempt in itertools.count())
        ids = (hashlib.sha256(text.encode()).hexdigest()[:8] for text in texts)
        cell.id = next(candidate for candidate in ids if candidate not in taken)
        taken.add(cell.id)


def _trained_already(step: str) -> dict[str, str]:
    """The variables with which a lesson goes on from its study's seed 1, if that has ended, on as many threads."""
    record = ROOT / "runs" / "study" / step / "seed-1" / "record.json"
    if not record.exists():
        return {}
    threads = json.loads(record.read_text(encoding="utf-8"))["runs"][0]["threads"]
    with exclusive_run_lock(ROOT / "runs" / step):
        write_atomically(ROOT / "runs" / step / "checkpoint.pt", record.with_name("checkpoint.pt").read_bytes())
    return {"COURSE_PROTOCOL": "both", "COURSE_RESUME": "1", "OMP_NUM_THREADS": str(threads)}


def _execute(notebook: NotebookNode, path: Path, variables: dict[str, str]) -> None:
    """Run every cell of `notebook` in the folder of `path`, with this interpreter; raises NotExecutedError."""
    # With no folder to look for kernels in, "python3" can only be the one of this interpreter.
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    quiet = {"extra_arguments": ["--IPKernelApp.log_level=ERROR"], "shutdown_kernel": "immediate"}
    client = NotebookClient(notebook, km=kernel, timeout=None, record_timing=False, **quiet)
    number = 0
    try:
        environment = kernel_environment() | variables
        with client.setup_kernel(cleanup_kc=True, cwd=str(path.parent), env=environment):
            for index, cell in enumerate(notebook.cells):
                number += cell.cell_type == "code"
                client.execute_cell(cell, index)
                if cell.cell_type == "code":
                    cell.outputs = _merged(cell.outputs)
    except KeyboardInterrupt:
        raise NotExecutedError(f"Interrupted in code cell {number}; {path} is as it was.") from None
    except CellExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".splitlines()[0]
        raise NotExecutedError(f"{path}, code cell {number}: {reason} (the notebook is as it was)") from None
    except DeadKernelError:
        raise NotExecutedError(f"{path}, code cell {number}: the kernel died (the notebook is as it was)") from None


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """`outputs` with what was printed in one go in one piece: where a kernel cuts it depends on its timing."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else {}
        if output.output_type == "stream" and (last.get("output_type"), last.get("name")) == ("stream", output.name):
            last.text += output.text
        else:
            merged.append(output)
    return merged


if __name__ == "__main__":
    main()
