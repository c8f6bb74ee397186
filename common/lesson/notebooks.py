"""Make each lesson's notebook from its script: `python -m common.lesson.notebooks [STEP ...] [--force]`.

One way only: sessions/S7/block3.py (jupytext's py:percent, the half that people edit) becomes sessions/S7/block3.ipynb
with the outputs of a full run. A notebook whose inputs have not changed since is left as it is.
"""

import argparse
import hashlib
import itertools
import json
import os
import time
from pathlib import Path

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupytext.combine import map_outputs_to_inputs
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from common.data.mnist_files import mnist_files
from common.recipe import ROOT
from common.system.errors import UserError
from common.system.files import write_atomically
from common.system.locks import exclusive_run_lock

SESSIONS = ROOT / "sessions"
COMMON = ROOT / "common"
LARGEST = 1_000_000  # bytes; GitHub shows larger notebooks slowly or not at all
INHERITED = ("COURSE_CACHE", "COURSE_DATA", "COURSE_DEVICE")  # the other COURSE_ variables would change what is run
# No versions here: they differ from machine to machine.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class NotExecutedError(UserError):
    """A lesson's code failed or was interrupted; its notebook is as it was."""

    exit_code = 1


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` defaults to the program's own."""
    parser = argparse.ArgumentParser(prog="course.py notebooks", description=__doc__.split(":")[0] + ".")
    parser.add_argument("step", nargs="*", help="such as S7/block3 (default: every lesson)")
    parser.add_argument("--force", action="store_true", help="execute also what has not changed")
    parser.add_argument("--reuse", action="store_true", help="take a lesson's training from its study's seed 1")
    options = parser.parse_args(arguments)
    update(SESSIONS, options.step, options.force, options.reuse)


def update(sessions: Path, steps=(), force: bool = False, reuse: bool = False) -> None:
    """Bring the notebooks of `steps` (all when empty) under `sessions` up to date, one printed line each.

    With `reuse`, a lesson whose study has left seed 1's checkpoint goes on from there: the same numbers, no training.
    Raises UserError for an unknown step, and NotExecutedError at the first lesson that fails; its old notebook stays.
    """
    for step, lesson in _chosen(sessions, steps).items():
        path = lesson.with_suffix(".ipynb")
        old = read(path)
        new = pair(lesson, old)
        if not force and old and old.metadata.get("course") == new.metadata.course and halves(old) == halves(new):
            print(f"current    {step}.ipynb")
            continue
        started = time.perf_counter()
        if not force and old and _same_run(old, new):
            print(f"prose      {step}.py has other text, the same code: the outputs stay")
        else:
            print(f"running    {step}.py, in full; this can take minutes", flush=True)
            get_mnist()
            _execute(new, path, _trained_already(step) if reuse else {})
        content = (nbformat.writes(new) + "\n").encode()
        write_atomically(path, content)
        seconds, kilobytes = time.perf_counter() - started, len(content) / 1000
        print(f"written    {step}.ipynb  {seconds:.0f} s  {kilobytes:,.0f} kB", flush=True)
        if len(content) > LARGEST:
            print(f"warning    {step}.ipynb is over {LARGEST / 1000:,.0f} kB; draw smaller or fewer figures")


def lessons(sessions: Path = SESSIONS) -> dict[str, Path]:
    """Every lesson's script by its step's name, such as "S7/block3"."""
    return {f"{path.parent.name}/{path.stem}": path for path in sorted(sessions.glob("S*/*.py"))}


def read(path: Path) -> NotebookNode | None:
    """The notebook at `path`, or None when there is none or it cannot be read: it is made anew then."""
    try:
        return nbformat.read(path, as_version=4)
    except (FileNotFoundError, ValueError, AttributeError, nbformat.ValidationError):  # what nbformat raises
        return None


def halves(notebook: NotebookNode) -> list[tuple[str, str]]:
    """What a lesson's two halves have in common: (cell_type, source) of each cell."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def pair(lesson: Path, old: NotebookNode | None = None) -> NotebookNode:
    """The notebook of the script `lesson`, without outputs; cells that `old` has too keep their ids."""
    inputs = fingerprints(lesson)  # before the script is read: a later edit then counts as a change
    notebook = jupytext.reads(lesson.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata.pop("jupytext", None)
    notebook.metadata.update(METADATA, course=inputs)
    _name_cells(notebook.cells, old.cells if old else [])
    return notebook


def fingerprints(lesson: Path) -> dict[str, str]:
    """SHA-256 of what the outputs of `lesson` depend on: the script, common/*.py and, if any, the step's record."""
    record = lesson.parent / "records" / f"{lesson.stem}.json"
    inputs = {"lesson": _sha256([lesson]), "common": _sha256(sorted(COMMON.glob("*.py")))}
    return {**inputs, "record": _sha256([record])} if record.exists() else inputs


def absolute_folders() -> dict[str, str]:
    """The variables that name the digits' folders, made absolute (~ is): a kernel runs in its notebook's folder."""
    set_ones = {name: os.environ[name] for name in ("MNIST_DIR", "COURSE_CACHE") if os.environ.get(name)}
    return {name: folder if folder[0] == "~" else str(Path(folder).absolute()) for name, folder in set_ones.items()}


def kernel_environment(quick: bool) -> dict[str, str]:
    """The environment in which a lesson's kernel runs: quick on the built-in digits, or in full on MNIST.

    Whatever the shell sets to change a run (COURSE_EPOCHS, ...) or to draw elsewhere (MPLBACKEND) is left out.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in INHERITED or not (name.startswith("COURSE_") or name == "MPLBACKEND")
    }
    environment |= {"TQDM_DISABLE": "1", **absolute_folders()}
    if quick:
        return environment | {"COURSE_QUICK": "1", "COURSE_DATA": "builtin"}
    return environment | {"COURSE_DATA": environment.get("COURSE_DATA") or "mnist"}


def _same_run(old: NotebookNode, new: NotebookNode) -> bool:
    """Whether `old` ran the code of `new` with the same common/ and record; if so, give `new` its outputs."""
    sides = [[cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (old, new)]
    inputs = [{**notebook.metadata.get("course", {}), "lesson": ""} for notebook in (old, new)]
    if inputs[0] != inputs[1] or [cell.source for cell in sides[0]] != [cell.source for cell in sides[1]]:
        return False
    for before, after in zip(*sides, strict=True):
        after.outputs, after.execution_count = before.outputs, before.execution_count
    return True


def get_mnist() -> None:
    """Have MNIST in the cache before a kernel asks for it: what a download says does not belong into a notebook."""
    if kernel_environment(quick=False)["COURSE_DATA"] == "mnist":
        mnist_files()


def _chosen(sessions: Path, steps) -> dict[str, Path]:
    available = lessons(sessions)
    if not available:
        raise UserError(f"There are no lessons in {sessions}; expected scripts such as S7/block3.py.")
    for step in steps:
        if step not in available:
            raise UserError(f"There is no lesson {step!r}; choose from {', '.join(available)}.")
    return {step: available[step] for step in steps or available}


def _sha256(paths) -> str:
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes().replace(b"\r\n", b"\n")  # git may check text out with either line ending
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


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
        environment = kernel_environment(quick=False) | variables
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
