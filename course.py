"""The one door to the course: sets up its Python environment when that is needed, then does what is asked.

Commands, each after `python3 course.py`:
  run [STEP] [options]  train a step: S7/block3, or the one named (its options: run STEP --help)
  test [options]        check everything: ruff, the tests, every notebook; the options go to pytest
  read [IMAGE ...]      read the handwritten digits in your own images, or in a folder of them
  lab [options]         open your own copies of the lessons, in work/, in JupyterLab
  notebooks [options]   make the notebooks again from their .py halves; no cell of yours is overwritten
  bench [options]       time an epoch, the sources' loop against ours
  time-to-accuracy      time how soon 99.40 % is reached, the source's recipe and loop against ours
  study [options]       train a step with several seeds, for its record
  faults [options]      kill, starve and mislead the course in full; the options go to pytest
  machines [ROW ...]    try the course with other Pythons, other versions, without a home folder, ...
  report [options]      write the recorded numbers into the READMEs, docs and lessons again
  site [--open]         build the course's website into runs/site
"""

import ast
import collections
import contextlib
import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

if os.name == "nt":
    import msvcrt
else:
    import fcntl

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "course.stamp"  # what the environment was made from; written last, so half a set-up has none
LOCK = VENV / "course.lock"
SITE_PACKAGES = "site/requirements.txt"

DEFAULT_STEP = "S7/block3"
PROGRAMS = {
    "read": [str(ROOT / "common" / "experiments" / "read.py")],
    "lab": ["-m", "common.lesson.workbook"],
    "notebooks": ["-m", "common.lesson.notebooks"],
    "bench": ["-m", "common.experiments.bench"],
    "time-to-accuracy": ["-m", "common.experiments.time_to_accuracy"],
    "study": ["-m", "common.experiments.study"],
    "faults": ["-m", "pytest", "tests/faults", "tests/training/test_distributed.py", "--faults-full"],
    "machines": ["tests/machines.py"],
    "report": ["-m", "common.experiments.quotes"],
    "site": ["site/build.py"],
}
MOVED = {  # steps that had another name once
    "S8/step1_speed": "S9/step1_speed",
    "S8/step2_frontier": "S8/step8_frontier",
    "S7/block4": "S8/step7_two_budgets",
    "S6/part2_step4_under_20k": "S8/step7_two_budgets",
}
# Their options are in common/system/command_lines.py.
IMPORTING_MUCH = ("lab", "notebooks", "read", "report", "site", "study")
TO_PYTEST = {
    "test": "Checks everything with ruff and with `pytest --nbval`.",
    "faults": "Kills, starves and misleads the course in full, with `pytest --faults-full`.",
}


def main(arguments):
    """Do what the command line asks and return the exit code."""
    if sys.version_info < (3, 10):  # noqa: UP036 (an older Python comes as far as this line)
        return refuse("The course needs Python 3.10 to 3.14; this one is {}.{}.".format(*sys.version_info), 1)
    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help", "help"):
        return answer(ast.get_docstring(ast.parse(Path(__file__).read_text(encoding="utf-8"))))  # -OO drops __doc__
    if command == "run":
        step, *rest = rest if rest and not rest[0].startswith("-") else [DEFAULT_STEP, *rest]
        name = "/".join(Path(step).parts[-2:]).removesuffix(".py")
        steps = sorted(path.relative_to(ROOT / "sessions").as_posix()[:-3] for path in ROOT.glob("sessions/S*/*.py"))
        if name in MOVED:
            return refuse(f"{name} is {MOVED[name]} now: `python3 course.py run {MOVED[name]}`.", 2)
        if name not in steps:
            return refuse(f"There is no step {step!r}; the steps are {', '.join(steps)}.", 2)
    elif command != "test" and command not in PROGRAMS:
        return refuse(f"There is no command {command!r}; the commands are run, test, {', '.join(PROGRAMS)}.", 2)
    if command == "site" and sys.version_info < (3, 11):
        return refuse(
            "The website's packages need Python 3.11 or later; this one is {}.{}.".format(*sys.version_info), 1
        )
    os.environ.setdefault("PYTHONUTF8", "1")  # files and consoles are UTF-8 under LANG=C and on Windows too
    if {"-h", "--help"} & set(rest):
        return explain(command, [str(ROOT / "sessions" / f"{name}.py")] if command == "run" else [])
    give_home()
    try:
        make_ready()
        if command == "site":
            add_packages_of_the_site()
    except KeyboardInterrupt:
        return refuse("The set-up was stopped; the next command makes it again.", 130)
    except (SetUpError, OSError) as error:
        return refuse(f"The set-up failed: {error}", 1)
    if command == "run":
        return go_on([str(ROOT / "sessions" / f"{name}.py"), *rest])
    if command == "read":  # its images are named from where the user is
        return go_on([*PROGRAMS[command], *rest])
    os.chdir(ROOT)
    return test(rest) if command == "test" else go_on([*PROGRAMS[command], *rest])


def explain(command, lesson):
    """Answer the --help of a command with this Python: its standard library suffices, and no environment is made."""
    if command in TO_PYTEST:
        return answer(f"{TO_PYTEST[command]}\nOptions go to pytest; `.venv/bin/python -m pytest --help` lists them.")
    program = ["-m", "common.system.command_lines", command] if command in IMPORTING_MUCH else PROGRAMS.get(command)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return go_on([*(lesson or program), "--help"], sys.executable)


def give_home():
    """Where no home folder can be written, .venv/home stands in: pip, Jupyter and matplotlib keep files in theirs."""
    with contextlib.suppress(RuntimeError):  # a container's user, say, whom the list of users does not know
        if os.access(f"{Path.home()}/", os.W_OK):
            return
    os.environ["HOME"] = str(VENV / "home")


def refuse(sentence, code):
    """Say on stderr why it does not go on, and return the exit code."""
    tell(sentence)
    return code


def tell(text, end="\n"):
    """Write to stderr; what cannot be written there is dropped."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:
        give_up(sys.stderr)


def answer(text):
    """Print what was asked for and return the exit code: 141 when the reader has gone, as a shell has it."""
    try:
        print(text, flush=True)
    except OSError as error:
        give_up(sys.stdout)
        if error.errno == errno.EPIPE or (os.name == "nt" and error.errno == errno.EINVAL):
            return 141
        sentence = "Cannot write to standard output: {}; free some space or send the output elsewhere."
        return refuse(sentence.format(error.strerror), 1)
    return 0


def give_up(stream):
    """Let the stream lead nowhere; Python writes what it still holds when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_missing_streams():
    """Let streams that are missing lead nowhere, as in `common.system.streams`: a scheduler may start without any."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w" if number else "r"))  # noqa: SIM115 - for good


def go_on(arguments, python=PYTHON):
    """Become the environment's Python, so that signals and exit codes are the program's own."""
    if os.name == "nt":  # there a process cannot be replaced
        return call(arguments, python)
    return os.execv(python, [str(python), *arguments])


def call(arguments, python=PYTHON):
    """Run the environment's Python and return its exit code."""
    process = subprocess.Popen([str(python), *arguments])
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reached the program too, which ends in its own way
            code = process.wait()
            return code if code >= 0 else 128 - code


def test(pytest_arguments):
    """Run ruff and, whatever it finds, the tests; pytest's last line ends the output, with ruff's failure under it."""
    lines = (ROOT / "sessions/lessons.txt").read_text(encoding="utf-8").split("\n")
    scripts = [f"sessions/{step}.py" for step in lines if step and step[0] != "#"]  # a student's own are left alone
    checked = ["course.py", "conftest.py", "common", "site", "tests", *scripts]
    ruff = call(["-m", "ruff", "check", *checked]) or call(["-m", "ruff", "format", "--check", *checked])
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes share the cores; more threads would wait by spinning
    tests = call(["-m", "pytest", "--nbval", "-n", "2", *pytest_arguments])
    if ruff:
        refuse("Ruff found something to mend: see above, before the tests.", ruff)
    return tests or ruff


class SetUpError(Exception):
    """The environment could not be made; the message says why and what to do."""


def make_ready():
    """Set up .venv unless it is ready; of several processes that need it, one sets it up and the others wait."""
    packages = b"".join((ROOT / name).read_bytes() for name in ("requirements.txt", "pyproject.toml"))
    home = "Python {}.{} in {}".format(*sys.version_info[:2], ROOT)
    wanted = os.fsencode(f"{home}\n{hashlib.sha256(packages).hexdigest()}\n")
    if found() == wanted:
        return
    if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
        raise SetUpError("this Python lacks venv; on Debian and Ubuntu, `sudo apt install python3-venv` adds it.")
    if (VENV / "pyvenv.cfg").exists() and not LOCK.exists():
        raise SetUpError("course.py did not make the .venv here and will not replace it; rename it, or use it by hand.")
    VENV.mkdir(exist_ok=True)
    with LOCK.open("a") as lock:
        if not take(lock):
            tell("Another process is setting up .venv; waiting for it.")
            while not take(lock):
                time.sleep(0.5)
        if found() != wanted:
            set_up(wanted)


def add_packages_of_the_site():
    """Add what the website alone needs to .venv, unless it is there; the course's own set-up does not grow by it."""
    wanted = STAMP.read_bytes() + hashlib.sha256((ROOT / SITE_PACKAGES).read_bytes()).hexdigest().encode()
    stamp = VENV / "site.stamp"
    if stamp.exists() and stamp.read_bytes() == wanted:
        return
    with LOCK.open("a") as lock:
        while not take(lock):
            time.sleep(0.5)
        tell(f"Adding the website's packages to .venv, from {SITE_PACKAGES}; this takes less than a minute.")
        install = [PYTHON, "-I", "-X", "utf8", "-m", "pip", "install", "-r", "requirements.txt", "-r", SITE_PACKAGES]
        watch(install, time.monotonic())
        stamp.write_bytes(wanted)


def found():
    """What the environment that is there was made from; nothing when it is not whole."""
    return STAMP.read_bytes() if STAMP.exists() and PYTHON.exists() else b""


def take(lock):
    """Take the lock unless it is taken; the system frees it when we and pip, which inherits it, have ended somehow."""
    os.set_inheritable(lock.fileno(), True)
    try:
        if os.name == "nt":
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def set_up(wanted):
    """Install the packages: into the environment that is there when it is of this Python and folder, else a new one."""
    started = time.monotonic()
    tell("Setting up .venv from requirements.txt; the first time takes a few minutes.")
    if found().split(b"\n")[0] != wanted.split(b"\n")[0]:
        # Started by the very environment that it replaces, it goes on with the Python behind that one.
        outer = sys.executable if sys.prefix == sys.base_prefix else Path(sys.executable).resolve()
        STAMP.unlink(missing_ok=True)
        for path in VENV.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != LOCK:
                path.unlink()
        watch([outer, "-I", "-m", "venv", "--upgrade-deps", VENV], started)
    watch([PYTHON, "-I", "-X", "utf8", "-m", "pip", "install", "-r", "requirements.txt"], started)
    STAMP.write_bytes(wanted)
    tell(f".venv is ready after {time.monotonic() - started:.0f} s.")


def watch(command, started):
    """Run a part of the set-up with a line that tells what it does now; raise SetUpError with its last lines."""
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=str(ROOT),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        close_fds=False,  # so that it inherits the lock
    )
    lines = collections.deque(maxlen=15)
    reader = threading.Thread(target=lines.extend, args=[process.stdout], daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            reader.join(0.2 if sys.stderr.isatty() else 15)
            show_progress(f"{time.monotonic() - started:4.0f} s  {lines[-1].strip() if lines else 'venv'}")
        failed = process.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)  # Ctrl-C reached pip too, which then removes its temporary files
        process.terminate()
        raise
    finally:
        show_progress("")
    if failed:
        tell("".join(lines), end="")
        raise SetUpError(
            "see the lines above. Check the network, the free disk (6 GB) and that Python is 3.10 to 3.14 (this one is "
            "{}.{}), then give the same command again.".format(*sys.version_info)
        )


def show_progress(text):
    """Write the progress over the line before on a terminal, on a line of its own elsewhere."""
    width = shutil.get_terminal_size().columns - 1
    if sys.stderr.isatty():
        tell(f"\r{text[:width]:{width}}\r", end="")
    elif text:
        tell(text[:width])


if __name__ == "__main__":
    open_missing_streams()
    sys.exit(main(sys.argv[1:]))
