"""Standard output and standard error that are closed, full or missing, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.recipe import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell's redirections and /dev/full")
FULL = "Cannot write to standard output: No space left on device; free some space or send the output elsewhere.\n"
LESSON = f"'{sys.executable}' sessions/S7/block3.py --quick --limit 64"
COURSE = f"'{sys.executable}' course.py"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def python(code: str, redirection: str, **environment: str) -> subprocess.CompletedProcess:
    return shell(f"'{sys.executable}' -c '{code}' {redirection}; exit ${{PIPESTATUS[0]}}", **environment)


MANY_LINES = "import common.system.errors\nfor number in range(100_000): print(number)"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_whose_reader_has_gone_stops_without_a_word(unbuffered):
    result = python(MANY_LINES, "| head -n 1", PYTHONUNBUFFERED=unbuffered)
    assert (result.returncode, result.stdout, result.stderr) == (141, "0\n", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("code", [MANY_LINES, "import common.system.errors; print(1)"])
def test_a_full_device_gets_one_sentence(code, unbuffered):
    result = python(code, ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (result.returncode, result.stderr) == (1, FULL)


def test_a_message_that_nobody_gets_does_not_stop_a_program():
    code = 'import sys, common.system.errors; print("lost", file=sys.stderr); print("kept")'
    result = python(code, "2>/dev/full")
    assert (result.returncode, result.stdout) == (0, "kept\n")
    assert python('from common.system.errors import UserError; raise UserError("no")', "2>/dev/full").returncode == 2


def test_a_file_does_not_get_the_number_of_a_missing_stream(tmp_path):
    """Else what a library prints would land in it."""
    code = 'import sys, common.system.errors; file = open(sys.argv[1], "w"); print("lost"); print(file.fileno() > 2)'
    result = shell(f"'{sys.executable}' -c '{code}' '{tmp_path}/file' <&- >&- 2>&-")
    assert (result.returncode, result.stdout, (tmp_path / "file").read_text()) == (0, "", "")


@pytest.mark.parametrize("redirection", [">&- 2>&-", pytest.param("2>&-", marks=pytest.mark.in_full)])
def test_a_run_needs_no_streams(tmp_path, redirection):
    result = shell(f"{LESSON} --epochs 1 --out '{tmp_path}' {redirection}")
    assert result.returncode == 0
    assert (tmp_path / "record.json").exists()


def test_a_run_whose_reader_goes_keeps_its_checkpoint(tmp_path):
    result = shell(f"{LESSON} --epochs 5 --out '{tmp_path}' | grep -m 1 'epoch  *2/'; exit ${{PIPESTATUS[0]}}")
    assert (result.returncode, result.stderr) == (141, "")
    assert not (tmp_path / "record.json").exists()
    again = shell(f"{LESSON} --epochs 5 --out '{tmp_path}' --resume")
    assert again.returncode == 0, again.stderr


def test_a_run_on_a_full_device_says_so(tmp_path):
    result = shell(f"{LESSON} --out '{tmp_path}' >/dev/full")
    assert (result.returncode, result.stderr) == (1, FULL)


def test_course_py_answers_on_such_streams_too():
    """It has no part of the course at hand, and its own few lines for it."""
    head = shell(f"{COURSE} --help | head -n 1; exit ${{PIPESTATUS[0]}}")
    assert (head.returncode in (0, 141), head.stderr) == (True, "")  # head may have read the whole page first
    gone = shell(f"{COURSE} --help | true; exit ${{PIPESTATUS[0]}}")
    assert (gone.returncode in (0, 141), gone.stderr) == (True, "")
    full = shell(f"{COURSE} --help >/dev/full")
    assert (full.returncode, full.stderr) == (1, FULL)
    assert shell(f"{COURSE} --help >&- 2>&-").returncode == 0
    assert shell(f"{COURSE} walk >&- 2>&-").returncode == 2
    assert shell(f"{COURSE} walk 2>/dev/full").returncode == 2


def test_course_py_runs_without_streams(tmp_path):
    """What it starts finds them missing, or leading nowhere."""
    (tmp_path / "sessions" / "S1").mkdir(parents=True)
    (tmp_path / "sessions" / "S1" / "small.py").write_text("open('done', 'w').write('lost'); print('no')")
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    text = (ROOT / "course.py").read_text(encoding="utf-8")
    (tmp_path / "course.py").write_text(text, encoding="utf-8")
    result = shell(f"cd '{tmp_path}' && '{sys.executable}' course.py run S1/small <&- >&- 2>&-")
    assert result.returncode == 0
    assert Path(tmp_path, "done").read_text() == "lost"
