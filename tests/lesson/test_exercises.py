"""Every exercise of every lesson: its stub is open, its solution is right, and each has its card."""

import ast
import re

import jupytext
import pytest

from common.lesson import exercises as exercises_of_common
from common.lesson.exercises import check
from common.lesson.notebooks import lessons

LESSONS = lessons()


def exercises(step):
    """Pairs of (stub cell, solution code) in a lesson, in order."""
    cells = jupytext.reads(LESSONS[step].read_text(encoding="utf-8"), fmt="py:percent").cells
    for before, cell in zip(cells, cells[1:], strict=False):
        if "<summary>Solution</summary>" in cell.source:
            yield before.source, re.search(r"```python\n(.*?)```", cell.source, re.DOTALL)[1]


def imports(step):
    """The lesson's import statements: what an exercise may use beside its own lines."""
    tree = ast.parse(LESSONS[step].read_text(encoding="utf-8"))
    kept = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return ast.unparse(ast.Module(kept, []))


def outcomes(code, namespace):
    """What each `check(...)` of a cell returns in the namespace."""
    calls = [node.value for node in ast.parse(code).body if isinstance(node, ast.Expr)]
    return [eval(ast.unparse(call), namespace) for call in calls if getattr(call.func, "id", "") == "check"]


@pytest.mark.parametrize("step", LESSONS)
def test_stubs_are_open_and_solutions_right(step):
    found = list(exercises(step))
    assert 2 <= len(found) <= 4
    for stub, solution in found:
        namespace = {}
        exec(imports(step), namespace)
        exec(stub, namespace)
        answers = outcomes(stub, namespace)
        assert answers
        assert set(answers) == {None}
        exec(solution, namespace)
        assert set(outcomes(stub, namespace)) == {True}


@pytest.mark.parametrize("step", LESSONS)
def test_every_exercise_has_a_card(step):
    cards = re.findall(
        r"\*\*Exercise \d+: [^*]+\*\* \((easy|medium|hard), \d+ minutes\)", LESSONS[step].read_text(encoding="utf-8")
    )
    assert len(cards) == len(list(exercises(step)))


def test_a_check_tells_open_right_and_wrong_apart(capsys, monkeypatch):
    assert check("in a script", None, 3) is None
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(exercises_of_common, "in_notebook", lambda: True)
    assert check("sum", None, 3) is None
    assert check("sum", 3, 3) is True
    assert check("sum", 4, 3) is False
    assert check("error", 0.07724, 0.0772, tolerance=1e-4) is True
    assert check("error", 0.0774, 0.0772, tolerance=1e-4) is False
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert said == ["open", "right", "not", "right", "not"]
