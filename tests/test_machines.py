"""The rows of `course.py machines` are those of docs/machines.md; the rows themselves take too long for a test."""

import os
import re
import runpy
import sys

import machines
import pytest

REQUIREMENTS = (machines.ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_the_page_has_every_row_and_no_other():
    page = (machines.ROOT / "docs" / "machines.md").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^\| `([\w.-]+)` \|", page) == list(machines.ROWS)


def test_what_every_row_runs_is_there():
    assert all((machines.ROOT / test.partition("::")[0]).exists() for test in machines.TESTS)


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


@pytest.fixture
def uv(tmp_path):
    """A stand-in for the resolver that finds every wheel but those of the package `newcomer` for Windows."""
    path = tmp_path / "uv"
    path.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "requirements = sys.stdin.read()\n"
        "assert '-e' not in requirements, 'the course itself has no wheel'\n"
        "if 'newcomer' in requirements and 'x86_64-pc-windows-msvc' in sys.argv:\n"
        "    sys.exit('newcomer has no usable wheels')\n"
        "print('numba==0.68.1', 'pytest==9.2.0', 'torch==2.14.1', sep='\\n')\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in starts by its first line")
def test_a_system_without_a_wheel_is_named_and_the_others_are_looked_at(uv, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machines, "ROOT", tmp_path)
    (tmp_path / "requirements.txt").write_text("torch>=2.11\n-e .\n", encoding="utf-8")
    passed, result = machines.find_wheels("3.14", uv)
    assert passed
    assert result.count("numba 0.68.1, torch 2.14.1, 3 packages in all") == 3
    (tmp_path / "requirements.txt").write_text("torch>=2.11\nnewcomer\n-e .\n", encoding="utf-8")
    passed, result = machines.find_wheels("3.14", uv)
    assert not passed
    assert re.fullmatch(r"Linux: numba .*; macOS: numba .*; Windows: FAILED, see above", result)
    assert "newcomer has no usable wheels" in capsys.readouterr().err
