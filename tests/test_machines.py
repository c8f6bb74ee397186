"""The rows of `course.py machines` are those of the README's table; the rows themselves take too long for a test."""

import re
import runpy
import sys

import machines
import pytest

REQUIREMENTS = (machines.ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_the_readme_has_every_row_and_no_other():
    rows = re.findall(r"(?m)^\| `([\w.-]+)` \|", (machines.ROOT / "README.md").read_text(encoding="utf-8"))
    assert rows == list(machines.ROWS)


def test_at_its_lowest_every_package_is_pinned():
    before, after = (
        [line for line in text.splitlines() if line and line[0] not in "#-"]
        for text in (REQUIREMENTS, machines.lowest(REQUIREMENTS))
    )
    assert "torch==2.11" in after
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in after)
    assert [line.split("==")[0] for line in after] == [line.split(">=")[0] for line in before]


def test_what_this_machine_lacks_is_not_tried():
    passed, result = machines.attempt(machines.Row("a Python from the past", python="3.0"))
    assert passed
    assert result == "not tried: there is no python3.0 here"


def test_an_unknown_row_is_named_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["machines", "mainframe"])
    with pytest.raises(SystemExit) as ended:
        machines.main()
    assert ended.value.code == 2
    assert "there is no row 'mainframe'; the rows are python3.10, " in capsys.readouterr().err


def test_a_borrowed_environment_is_one_that_course_py_goes_on_with(tmp_path):
    """It refuses an environment without its lock, and makes one anew whose stamp names another folder."""
    machines.borrow(tmp_path)
    environment, course = tmp_path / ".venv", runpy.run_path(str(machines.ROOT / "course.py"))
    assert (environment / course["LOCK"].name).exists()
    assert (environment / course["STAMP"].name).read_text(encoding="utf-8").endswith(f" in {tmp_path}\n")
