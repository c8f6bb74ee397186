"""Every exercise of every lesson: its stub is open, its solution is right, and each has its card."""

import ast
import re

import jupytext
import pytest

from common.lesson import exercises as exercises_of_common
from common.lesson.exercises import check
from common.lesson.notebooks import is_own, lessons, read

LESSONS = lessons()


def exercises(step):
    """Pairs of (stub cell, solution code) in a lesson, in order."""
    cells = jupytext.reads(LESSONS[step].read_text(encoding="utf-8"), fmt="py:percent").cells
    for before, cell in zip(cells, cells[1:], strict=False):
        if "<summary>Solution</summary>" in cell.source:
            yield before, re.search(r"```python\n(.*?)```", cell.source, re.DOTALL)[1]


def imports(step):
    """The lesson's import statements: what an exercise may use beside its own lines."""
    tree = ast.parse(LESSONS[step].read_text(encoding="utf-8"))
    kept = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return ast.unparse(ast.Module(kept, []))


def outcomes(code, namespace, capsys):
    """What each `check(...)` of a cell says in the namespace: "open", "right" or "not yet"."""
    calls = [node.value for node in ast.parse(code).body if isinstance(node, ast.Expr)]
    checks = [ast.unparse(call) for call in calls if getattr(call.func, "id", "") == "check"]
    capsys.readouterr()
    assert [eval(call, namespace) for call in checks] == [None] * len(checks)  # which a notebook would show
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(checks)
    return {line[:11].strip() for line in said}


@pytest.mark.parametrize("step", LESSONS)
def test_stubs_are_open_and_solutions_right(step, capsys, monkeypatch):
    monkeypatch.setattr(exercises_of_common, "in_notebook", lambda: True)
    notebook = read(LESSONS[step].with_suffix(".ipynb"))
    found = list(exercises(step))
    assert 2 <= len(found) <= 4
    for stub, solution in found:
        namespace = {}
        exec(imports(step), namespace)
        exec(stub.source, namespace)
        said = outcomes(stub.source, namespace, capsys)
        assert said == {"open"} or (said == {"right"} and is_own(stub, notebook))  # a student's answer, saved
        exec(solution, namespace)
        assert outcomes(stub.source, namespace, capsys) == {"right"}


@pytest.mark.parametrize("step", LESSONS)
def test_every_exercise_has_a_card(step):
    cards = re.findall(
        r"\*\*Exercise \d+: [^*]+\*\* \((easy|medium|hard), \d+ minutes\)", LESSONS[step].read_text(encoding="utf-8")
    )
    assert len(cards) == len(list(exercises(step)))


def test_a_check_tells_open_right_and_wrong_apart(capsys, monkeypatch):
    check("in a script", None, 3)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(exercises_of_common, "in_notebook", lambda: True)
    check("sum", None, 3)
    check("sum", 3, 3)
    check("sum", 4, 3)
    check("error", 0.07724, 0.0772, tolerance=1e-4)
    check("error", 0.0774, 0.0772, tolerance=1e-4)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["open", "right", "not", "right", "not"]
    assert said[2] == "not yet    sum: your answer is 4"
