"""Try the course on odd machines, every row of docs/machines.md by default: `course.py machines [ROW ...]`.

Each row gets a copy of the checkout, without git, in a temporary folder, and there goes through course.py's own door:
the set-up, a training run and the tests of CHECKS. Rows that are about versions install every package, 6 GB at a time;
the others borrow the packages of the environment that this runs in. One row, wheels3.14, installs nothing: it asks the
package index whether a set-up could be made on each system. The standard library suffices for it, so that it also runs
where there is no environment: `python tests/machines.py wheels3.14`.
"""

import argparse
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = [
    "tests/data",
    "tests/records",
    "tests/cpu_kernels",
    "tests/training/test_acceleration.py",
    "tests/faults/test_killed.py::test_killed_training_ends_with_the_same_bits",
    "sessions/S7/block3.ipynb",
]
CHECKS = [["run", "S7/block3", "--quick"], ["test", "--show-capture=no", *TESTS]]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "runs", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
VERSIONS = """
import platform, sys, torch
from importlib.metadata import version
names = [f"{name} {version(name)}" for name in ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib")]
print(", ".join([f"Python {platform.python_version()}", *names]))
"""
SECONDS = 3600  # for one check; a hang ends there
# Systems by uv's names. Its macOS is 13 unless MACOSX_DEPLOYMENT_TARGET says otherwise; newer ones take newer wheels.
SYSTEMS = {"Linux": "x86_64-manylinux_2_28", "macOS": "aarch64-apple-darwin", "Windows": "x86_64-pc-windows-msvc"}


class MissingError(Exception):
    """This machine lacks what the row needs."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is odd about a machine. `prefix` and `variables` are functions of the row's temporary folder."""

    about: str
    python: str = ""  # the version to make a whole environment with; none: this one's packages
    lowest: bool = False  # every package at the lower bound of requirements.txt
    checkout: str = "course"
    variables: Callable[[Path], dict] = lambda folder: {}  # None as a value: unset
    prefix: Callable[[], list] = lambda: []  # what starts the command
    wheels: str = ""  # the Python to look for wheels for; the row then installs and runs nothing


def without_entry() -> list[str]:
    """Run as a user whom the machine's list of users does not know."""
    command = [tool("unshare"), "--user", "--map-user=54321", "--map-group=54321"]
    if subprocess.run([*command, sys.executable, "-c", ""], capture_output=True).returncode:
        raise MissingError("this system lets nobody act as another user")
    return command


def on_a_gpu() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        raise MissingError("there is no GPU here")
    return []


def tool(name: str) -> str:
    if not (found := shutil.which(name)):
        raise MissingError(f"there is no {name} here")
    return found


def empty(folder: Path, mode: int = 0o755) -> str:
    path = folder / "empty"
    path.mkdir(mode)
    return str(path)


ROWS = {
    **{f"python{v}": Row(f"Python {v}, the newest packages", v) for v in ("3.10", "3.11", "3.12", "3.13", "3.14")},
    "wheels3.14": Row("Python 3.14 on Linux, macOS and Windows: is there a wheel of every package?", wheels="3.14"),
    "lowest": Row("every package at its lower bound", "3.12", lowest=True),
    "no-tools": Row(
        "no C++ compiler, no git, nothing at all on PATH", variables=lambda folder: {"PATH": empty(folder)}
    ),
    "no-home": Row(
        "HOME unset, a user without an entry", variables=lambda _: {"HOME": None, "USER": None}, prefix=without_entry
    ),
    "read-only-home": Row(
        "a home folder that cannot be written",
        variables=lambda folder: {"HOME": empty(folder, 0o555)},
        prefix=without_entry,
    ),
    "path": Row("a path with spaces and other letters", checkout="My courses/Übung 数字 'один'"),
    "ascii": Row("LANG=C, LC_ALL=C", variables=lambda _: {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}),
    "one-core": Row(
        "1 core, 1 thread",
        variables=lambda _: {"OMP_NUM_THREADS": "1"},
        prefix=lambda: [tool("taskset"), "-c", str(min(os.sched_getaffinity(0)))],
    ),
    "old-cpu": Row(
        "a CPU with AVX2 and no more, as PyTorch, oneDNN and numba see it",
        variables=lambda _: {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "NUMBA_CPU_NAME": "haswell",
            "NUMBA_CPU_FEATURES": "+avx2,+fma",
        },
    ),
    "gpu": Row("a GPU", variables=lambda _: {"COURSE_DEVICE": "cuda"}, prefix=on_a_gpu),
}  # fmt: skip


def main() -> int:
    """Try the rows that the command line names and print the table."""
    about = "Try the course on odd machines, every row of the table in docs/machines.md by default."
    parser = argparse.ArgumentParser(prog="course.py machines", description=about, allow_abbrev=False)
    parser.add_argument("row", nargs="*", help=f"of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--no-environments", action="store_true", help="leave out the rows that install every package")
    options = parser.parse_args()
    for name in options.row:
        if name not in ROWS:
            parser.error(f"there is no row {name!r}; the rows are {', '.join(ROWS)}")
    table, failed = [], False
    for name in options.row or ROWS:
        if ROWS[name].python and options.no_environments:
            continue
        print(f"{name}: {ROWS[name].about}", file=sys.stderr, flush=True)
        started = time.monotonic()
        passed, result = attempt(ROWS[name])
        failed |= not passed
        table.append(f"| `{name}` | {ROWS[name].about} | {result} | {time.monotonic() - started:.0f} s |")
        print(table[-1], file=sys.stderr, flush=True)
    print("| row | machine | result | time |", "|---|---|---|---|", *table, sep="\n")
    return int(failed)


def attempt(row: Row) -> tuple[bool, str]:
    """Whether the row has not failed, and in words how it went."""
    with tempfile.TemporaryDirectory(prefix="course-machines-") as temporary:
        try:
            if row.wheels:
                return find_wheels(row.wheels, install_uv(Path(temporary)))
            start, options = prepare(row, Path(temporary).resolve())
        except MissingError as reason:
            return True, f"not tried: {reason}"
        for check in CHECKS:
            said = f"FAILED: `course.py {' '.join(check[:2])}`"
            try:
                done = subprocess.run([*start, "course.py", *check], **options)
            except subprocess.TimeoutExpired:
                return False, f"{said} was still running after {SECONDS} s"
            if done.returncode:
                print(*done.stdout.splitlines()[-80:], sep="\n", file=sys.stderr)
                return False, f"{said} gave {done.returncode}"
        counts = re.findall(r"\d+ (?:passed|skipped)", done.stdout.splitlines()[-1])
        python = Path(options["cwd"], ".venv", "Scripts/python.exe" if os.name == "nt" else "bin/python")
        versions = subprocess.run([*start[:-1], python, "-c", VERSIONS], **options).stdout.strip()
        return True, f"{', '.join(counts)} ({versions})"


def install_uv(folder: Path) -> str:
    """An environment in `folder` with the resolver uv, which the course itself does not need; returns its path.

    pip's `install --dry-run --platform` will not do. It looks for the other system's wheels, but reads conditions such
    as `platform_system == "Linux"` for the machine that it runs on, so it asks for NVIDIA's libraries on Windows too.
    """
    subprocess.run([sys.executable, "-m", "venv", folder / "uv"], check=True)
    programs = folder / "uv" / ("Scripts" if os.name == "nt" else "bin")
    done = subprocess.run([programs / "python", "-m", "pip", "install", "-q", "uv"], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise MissingError("uv cannot be installed here; is there a network?")
    return str(programs / "uv")


def find_wheels(python: str, uv: str) -> tuple[bool, str]:
    """Whether requirements.txt can be installed for this Python on every system from wheels alone, and which ones."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = "\n".join(line for line in lines if not line.startswith("-e"))  # the course itself has no wheel
    passed, results = True, []
    for system, platform in SYSTEMS.items():
        command = [uv, "pip", "compile", "-", "--python-version", python, "--python-platform", platform]
        command += ["--only-binary", ":all:", "--no-annotate", "--no-header"]
        done = subprocess.run(command, input=requirements, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            passed = False
            results.append(f"{system}: FAILED, see above")
            continue
        shown = [
            line.replace("==", " ") for line in done.stdout.splitlines() if re.match("(torch|numba|numpy)==", line)
        ]
        results.append(f"{system}: {', '.join(shown)}, {len(done.stdout.splitlines())} packages in all")
    return passed, "; ".join(results)


def prepare(row: Row, folder: Path) -> tuple[list, dict]:
    """Make the row's checkout in `folder`; how to start its Python there, and the options of subprocess.run."""
    start, checkout = [*row.prefix(), interpreter(row.python)], folder / row.checkout
    shutil.copytree(ROOT, checkout, ignore=NOT_COPIED)
    if row.lowest:
        requirements = checkout / "requirements.txt"
        requirements.write_text(lowest(requirements.read_text(encoding="utf-8")), encoding="utf-8")
    if not row.python:
        borrow(checkout)
    variables = clean() | row.variables(folder)
    return start, {
        "cwd": checkout,
        "env": {name: value for name, value in variables.items() if value is not None},
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "encoding": "utf-8",
        "errors": "replace",
        "timeout": SECONDS,
    }


def interpreter(version: str) -> str:
    """A Python of this version, from PATH or pyenv's folder; for no version, the one that runs this."""
    if not version:
        return sys.executable
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
    for candidate in (shutil.which(f"python{version}"), *map(str, sorted(kept, reverse=True))):
        if candidate:
            said = subprocess.run([candidate, "-V"], capture_output=True, text=True)
            if said.stdout.startswith(f"Python {version}."):  # pyenv's stand-ins on PATH may have none behind them
                return candidate
    raise MissingError(f"there is no python{version} here")


def lowest(requirements: str) -> str:
    """The same requirements with every package at exactly its lower bound."""
    return re.sub(r"(?m)^([\w-]+)>=([\w.]+).*$", r"\1==\2", requirements)


def borrow(checkout: Path) -> None:
    """Give the checkout an environment that sees this one's packages; course.py adds what is missing: the course."""
    environment = checkout / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = next(environment.rglob("site-packages"))
    lent = "\n".join(path for path in sys.path if "site-packages" in path)
    (packages / "borrowed.pth").write_text(lent, encoding="utf-8")
    # course.py keeps an environment of this Python in this folder, and installs what is missing into it.
    stamp = "Python {}.{} in {}\n".format(*sys.version_info[:2], checkout)
    (environment / "course.stamp").write_bytes(os.fsencode(stamp))
    (environment / "course.lock").touch()  # and none that it did not make itself, which this one says it did


def clean() -> dict:
    """The variables that a user may be expected to have: none that changes what is run."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COURSE_", "PYTHON", "MPL", "DISPLAY", "VIRTUAL_ENV"))
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
