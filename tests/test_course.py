"""course.py in a small checkout of its own, whose requirements are one local wheel: no network, no torch."""

import ast
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common.system import command_lines

COURSE = Path(__file__).resolve().parent.parent / "course.py"
LESSON = """
import importlib.metadata, json, pathlib, sys
print(json.dumps({
    "arguments": sys.argv[1:],
    "tiny": importlib.metadata.version("tiny"),
    "environment": pathlib.Path(sys.prefix).resolve().as_posix(),
    "folder": pathlib.Path.cwd().resolve().as_posix(),
    "utf8": sys.flags.utf8_mode,
    "home": pathlib.Path.home().as_posix(),
}))
sys.exit(7 if "--fail" in sys.argv else 0)
"""
# Stand-ins for ruff and pytest, so that `course.py test` can be tested without testing the course.
RUFF = "import os, sys; print('ruff', *sys.argv[1:]); sys.exit(sys.argv[1] == os.environ.get('RUFF_FINDS'))"
PYTEST = "import os, sys; print('pytest', *sys.argv[1:]); sys.exit(int(os.environ.get('PYTEST_CODE', 0)))"


def write_wheel(folder: Path, version: str, package: str = "tiny") -> str:
    """Write the wheel of a `package`, and return the line of requirements.txt that installs it."""
    name = f"{package}-{version}"
    members = {
        **({"ruff.py": RUFF, "pytest.py": PYTEST} if package == "tiny" else {f"{package}.py": ""}),
        f"{name}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{name}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members[f"{name}.dist-info/RECORD"] = "".join(f"{member},,\n" for member in members)
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        for member, text in members.items():
            wheel.writestr(member, text)
    return f"./{name}-py3-none-any.whl\n"


def command(checkout: Path, *arguments: str, python: str | Path = sys.executable, **environment: str) -> dict:
    """What subprocess needs to call course.py as a user does, but for pip, which must not look outside."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    return {
        "args": [str(python), str(checkout / "course.py"), *arguments],
        "env": {**inherited, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, **environment},
        "encoding": "utf-8",
        "errors": "replace",
    }


def course(checkout: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(**command(checkout, *arguments, **options), capture_output=True, timeout=120)


def lesson(checkout: Path, *arguments: str, **options) -> dict:
    """What the lesson saw when run through course.py."""
    result = course(checkout, "run", *arguments, **options)
    assert result.returncode == 0, result.stderr
    return {**json.loads(result.stdout), "set_up": "Setting up .venv" in result.stderr}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A checkout with its environment made; two processes ask for it at once, and both get it."""
    folder = tmp_path_factory.mktemp("course") / "mein Kurs für MNIST"
    (folder / "sessions" / "S7").mkdir(parents=True)
    (folder / "sessions" / "lessons.txt").write_text("# A list.\nS7/block3\n")
    (folder / "sessions" / "S7" / "block3.py").write_text(LESSON, encoding="utf-8")
    (folder / "requirements.txt").write_text(write_wheel(folder, "1.0"), encoding="utf-8")
    (folder / "pyproject.toml").touch()
    shutil.copy(COURSE, folder)
    both = [
        subprocess.Popen(**command(folder, "run"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert [json.loads(output)["tiny"] for output, _ in outputs] == ["1.0", "1.0"]
    assert sorted("Setting up .venv" in errors for _, errors in outputs) == [False, True]
    assert sorted("waiting for it" in errors for _, errors in outputs) == [False, True]
    return folder


def test_the_lesson_runs_inside_the_environment_that_is_ready(checkout):
    seen = lesson(checkout, "--epochs", "3", "a b", "ü", "")
    assert seen == {
        "arguments": ["--epochs", "3", "a b", "ü", ""],
        "tiny": "1.0",
        "environment": (checkout / ".venv").resolve().as_posix(),
        "folder": Path.cwd().resolve().as_posix(),
        "utf8": 1,
        "home": Path.home().as_posix(),
        "set_up": False,
    }


@pytest.mark.parametrize("step", ["S7/block3", "S7/block3.py", "sessions/S7/block3", "./sessions/S7/block3.py"])
def test_a_step_can_be_named_by_its_path(checkout, step):
    assert lesson(checkout, step, "--seed", "2")["arguments"] == ["--seed", "2"]


@pytest.mark.skipif(os.name == "nt", reason="Windows knows every user's home")
def test_without_a_home_folder_the_environment_holds_one(checkout, tmp_path):
    for home in (tmp_path / "missing", COURSE):
        assert lesson(checkout, HOME=str(home))["home"] == (checkout / ".venv" / "home").as_posix()


def test_the_exit_code_is_the_lessons(checkout):
    assert course(checkout, "run", "--fail").returncode == 7


def test_what_cannot_be_done_gets_one_sentence(checkout):
    for arguments, named in [(["run", "S9/block1"], "S7/block3"), (["run", ""], "S7/block3"), (["walk"], "run, test")]:
        result = course(checkout, *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert named in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("step", ["S8/step1_speed", "sessions/S8/step1_speed.py"])
def test_a_step_that_was_moved_says_where_it_is(checkout, step):
    result = course(checkout, "run", step)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "S8/step1_speed is S9/step1_speed now: `python3 course.py run S9/step1_speed`.\n"


def test_every_moved_step_is_at_its_new_place_and_not_at_the_old_one():
    for old, new in runpy.run_path(str(COURSE))["MOVED"].items():
        assert (COURSE.parent / "sessions" / f"{new}.py").exists()
        assert not (COURSE.parent / "sessions" / f"{old}.py").exists()


def test_help_names_every_command(checkout):
    for arguments in [], ["--help"]:
        result = course(checkout, *arguments)
        assert result.returncode == 0
        for name in "run", "test", "lab", "notebooks", "study", "faults", "machines", "report", "site":
            assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize(
    ("finds", "code", "expected"), [("", 0, 0), ("", 5, 5), ("check", 0, 1), ("format", 0, 1), ("check", 5, 5)]
)
def test_tests_run_whatever_ruff_finds_and_either_failure_counts(checkout, finds, code, expected):
    result = course(checkout, "test", "-k", "data", RUFF_FINDS=finds, PYTEST_CODE=str(code))
    assert result.returncode == expected
    # Ruff looks at the course's own files, not at what a student has beside the lessons.
    assert result.stdout.splitlines()[0] == "ruff check course.py conftest.py common site tests sessions/S7/block3.py"
    assert result.stdout.splitlines()[-1] == "pytest --nbval -n 2 -k data"
    assert ("Ruff found something" in result.stderr) == bool(finds)


def test_changed_requirements_are_installed_and_failing_ones_harm_nothing(checkout):
    requirements = checkout / "requirements.txt"
    before = requirements.read_text(encoding="utf-8")

    requirements.write_text("./nowhere-1.0-py3-none-any.whl\n", encoding="utf-8")
    result = course(checkout, "run")
    assert (result.returncode, result.stdout) == (1, "")
    assert "nowhere-1.0" in result.stderr
    assert "give the same command again" in result.stderr.splitlines()[-1]
    assert course(checkout, "run").returncode == 1

    requirements.write_text(before, encoding="utf-8")
    assert not lesson(checkout)["set_up"]

    requirements.write_text(write_wheel(checkout, "2.0"), encoding="utf-8")
    assert [(seen["tiny"], seen["set_up"]) for seen in (lesson(checkout), lesson(checkout))] == [
        ("2.0", True),
        ("2.0", False),
    ]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the website's packages need Python 3.11")
def test_the_websites_packages_are_added_when_the_site_is_first_built(checkout):
    (checkout / "site").mkdir()
    (checkout / "site" / "build.py").write_text("import extra, sys; print('built by', *sys.argv[1:])", encoding="utf-8")
    packages = checkout / "site" / "requirements.txt"
    packages.write_text("./nowhere-1.0-py3-none-any.whl\n", encoding="utf-8")
    result = course(checkout, "site")
    assert (result.returncode, result.stdout) == (1, "")
    assert "give the same command again" in result.stderr.splitlines()[-1]

    packages.write_text(write_wheel(checkout, "1.0", "extra"), encoding="utf-8")
    assert not (checkout / ".venv" / "site.stamp").exists()
    first, second = course(checkout, "site", "--open"), course(checkout, "site", "--open")
    assert (first.returncode, first.stdout) == (second.returncode, second.stdout) == (0, "built by --open\n")
    assert "Adding the website's packages" in first.stderr
    assert second.stderr == ""
    assert not lesson(checkout)["set_up"]  # the course's own set-up is as it was

    packages.write_text(packages.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")
    assert "Adding the website's packages" in course(checkout, "site").stderr


def test_an_interrupted_set_up_is_made_again_from_scratch(checkout):
    stamp, leftover = checkout / ".venv" / "course.stamp", checkout / ".venv" / "leftover" / "half a package.py"
    stamp.unlink()
    leftover.parent.mkdir()
    leftover.touch()
    if os.name != "nt":  # there Ctrl-C cannot be sent to another console's processes
        process = subprocess.Popen(**command(checkout, "run"), stderr=subprocess.PIPE, start_new_session=True)
        assert "Setting up" in process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert errors.splitlines()[-1] == "The set-up was stopped; the next command makes it again."
        assert not stamp.exists()
    assert lesson(checkout)["set_up"]
    assert stamp.exists()
    assert not leftover.exists()


def test_a_moved_checkout_gets_an_environment_of_its_own(checkout):
    moved = checkout.rename(checkout.with_name("moved"))
    # On POSIX started by the very environment that is replaced; Windows cannot remove a Python that runs.
    python = sys.executable if os.name == "nt" else moved / ".venv" / "bin" / "python"
    try:
        seen = lesson(moved, python=python)
        assert seen["set_up"]
        assert seen["environment"] == (moved / ".venv").resolve().as_posix()
    finally:
        moved.rename(checkout)


def run_changed(checkout: Path, change: str, name: str = "run") -> subprocess.CompletedProcess:
    """Run course.py in a Python in which `change` has been done first."""
    call = command(checkout, name)
    start = f"import runpy, sys; {change}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    call["args"][1:1] = ["-c", start]
    return subprocess.run(**call, capture_output=True, timeout=60)


def test_a_python_without_venv_gets_one_sentence(checkout, tmp_path):
    bare = shutil.copytree(checkout, tmp_path / "bare", ignore=shutil.ignore_patterns(".venv"))
    result = run_changed(bare, "sys.modules['ensurepip'] = None")
    assert result.returncode == 1
    assert result.stderr.startswith("The set-up failed: this Python lacks venv")
    assert len(result.stderr.splitlines()) == 1
    assert not (bare / ".venv").exists()


def test_an_environment_of_the_users_own_is_left_alone(checkout, tmp_path):
    bare = shutil.copytree(checkout, tmp_path / "bare", ignore=shutil.ignore_patterns(".venv"))
    kept = bare / ".venv" / "pyvenv.cfg"
    kept.parent.mkdir()
    kept.write_text("home = elsewhere", encoding="utf-8")
    result = course(bare, "run")
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert "did not make the .venv here" in result.stderr
    assert [path.name for path in kept.parent.iterdir()] == ["pyvenv.cfg"]


def test_an_old_python_gets_one_sentence(checkout):
    ast.parse(COURSE.read_text(encoding="utf-8"), feature_version=(3, 7))
    result = run_changed(checkout, "sys.version_info = (3, 7, 17, 'final', 0)")
    assert result.returncode == 1
    assert result.stderr == "The course needs Python 3.10 to 3.14; this one is 3.7.\n"
    result = run_changed(checkout, "sys.version_info = (3, 10, 13, 'final', 0)", "site")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "The website's packages need Python 3.11 or later; this one is 3.10.\n"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The course as a fresh clone has it, without an environment."""
    folder = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("__pycache__", "*.ipynb", "runs", "work", "figures", "records", "weights")
    for name in ("common", "sessions", "tests"):
        shutil.copytree(COURSE.parent / name, folder / name, ignore=ignored)
    for name in ("course.py", "requirements.txt", "pyproject.toml"):
        shutil.copy(COURSE.parent / name, folder)
    return folder


LESSONS = sorted(path.relative_to(COURSE.parent).as_posix() for path in COURSE.parent.glob("sessions/S*/*.py"))
COMMANDS = [*(("run", lesson) for lesson in LESSONS), ("run",), ("run", "--epochs=1")]
OTHERS = ["test", "lab", "notebooks", "bench", "time-to-accuracy", "study", "faults", "machines", "report", "site"]
COMMANDS += [(name,) for name in OTHERS]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_each_commands_help_needs_no_environment(clone, arguments):
    python = getattr(sys, "_base_executable", sys.executable)  # the one behind this environment: without the packages
    for flag in ("-h", "--help"):
        result = course(clone, *arguments, flag, python=python)
        assert (result.returncode, result.stderr) == (0, "")
        assert "usage:" in result.stdout or "--help` lists them" in result.stdout
    assert not (clone / ".venv").exists()


def test_help_needs_no_docstrings(clone):
    """python -OO leaves them out, and so does a variable."""
    for arguments in (["--help"], ["study", "--help"], ["bench", "--help"]):
        plain, bare = (course(clone, *arguments, PYTHONOPTIMIZE=level) for level in ("", "2"))
        assert (bare.returncode, bare.stdout, bare.stderr) == (0, plain.stdout, "")


PROGRAMS = {
    "lab": "common/lesson/workbook.py",
    "notebooks": "common/lesson/notebooks.py",
    "report": "common/experiments/quotes.py",
    "site": "site/build.py",
    "study": "common/experiments/study.py",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_options_that_help_lists_are_the_programs(name, monkeypatch, capsys):
    """Help is answered by common/system/command_lines.py, and the work done by another module."""
    said = []
    for program, arguments in (("common/system/command_lines.py", [name]), (PROGRAMS[name], [])):
        monkeypatch.setattr(sys, "argv", [program, *arguments, "--help"])
        monkeypatch.setattr(sys, "path", list(sys.path))  # the website's programs add their folder
        with pytest.raises(SystemExit) as ended:  # in this process, which has imported torch already
            runpy.run_path(str(COURSE.parent / program), run_name="__main__")
        assert not ended.value.code
        said.append(capsys.readouterr().out)
    assert said[0].startswith("usage:")
    assert said[0] == said[1]


@pytest.mark.parametrize("command", ["notebooks", "site", "study"])
def test_no_option_is_taken_for_another_that_begins_so(command):
    """`--seed 5` would train five seeds."""
    parser = getattr(command_lines, command)()
    shortened = [option[:-1] for action in parser._actions for option in action.option_strings if len(option) > 3]
    for option in shortened:
        _, unknown = parser.parse_known_args([option])
        assert unknown == [option]
