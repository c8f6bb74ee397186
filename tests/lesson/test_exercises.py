"""Every exercise of every lesson: its stub is open, its solution is right, and each has its card."""

import ast
import math
import re

import jupytext
import pytest
import torch

from common.lesson import exercises as exercises_of_common
from common.lesson.exercises import Exercises, check
from common.lesson.notebooks import is_own, lessons, read
from common.system.errors import UserError

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
    for stub, solution in found:
        if "exercises.check(" in stub.source:
            continue  # its page runs both, and test_lessons.py holds their form
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
        r"\*\*(?:Exercise \d+|Yours): [^*]+\*\* \((easy|medium|hard), \d+ minutes\)",
        LESSONS[step].read_text(encoding="utf-8"),
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


LESSON = """\
# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def scaled(values, factor):
#     return values * factor
#
#
# def push(values, by):
#     values.add_(by)
# ```
#
# </details>
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(exercises_of_common, "in_notebook", lambda: True)
    (tmp_path / "S5").mkdir()
    (tmp_path / "S5" / "small.py").write_text(LESSON, encoding="utf-8")
    return Exercises("S5/small", tmp_path)


CASES = ((torch.tensor([1.0, 2.0]), 3.0), (torch.tensor([[1.0]]), -1.0))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("return None", "open       scaled: write it"),
        ("raise NotImplementedError", "open       scaled: write it"),
        ("return values * factor", "right      scaled: the page goes on with yours"),
        ("return factor * values + 1e-9", "right      scaled"),
        ("return values + factor", "not yet    scaled: 2 of 2 values differ, the first is 4 at [0] in case 1 of 2"),
        ("return values.abs() * factor.__abs__()", "not yet    scaled: 1 of 1 values differ, the first is 1 at [0, 0]"),
        ("return (values * factor).sum()", "not yet    scaled: the answer has the shape [], and should have [2]"),
        ("return 3", "not yet    scaled: the answer is of type int, and should be a tensor"),
        ("return values * factr", "not yet    scaled: NameError in case 1 of 2: name 'factr' is not defined"),
        ("return values * factor if factor > 0 else None", "not yet    scaled: it gives None in case 2 of 2"),
        ("return values * float('nan')", "not yet    scaled: 2 of 2 values differ, the first is nan"),
        ("values.add_(1); return values * factor", "not yet    scaled: 2 of 2 values differ"),
    ],
)
def test_a_students_function_is_held_against_the_folded_solution(lines, said, small, capsys):
    namespace = {}
    exec(f"def scaled(values, factor):\n    {lines}", namespace)
    used = small.check(namespace["scaled"], *CASES)
    assert capsys.readouterr().out.startswith(said)
    assert (used is namespace["scaled"]) == said.startswith("right")
    assert used(CASES[0][0], 2.0).tolist() == pytest.approx([2.0, 4.0])  # the page goes on, whatever was written
    assert CASES[0][0].tolist() == [1.0, 2.0]  # and no case was changed


@pytest.mark.parametrize(
    ("lines", "said"), [("pass", "open"), ("values.add_(by)", "right"), ("values.sub_(by)", "not yet")]
)
def test_a_function_may_change_its_arguments(lines, said, small, capsys):
    namespace = {}
    exec(f"def push(values, by):\n    {lines}", namespace)
    small.check(namespace["push"], (torch.ones(2), 0.5))
    assert capsys.readouterr().out.startswith(said)


def test_a_lesson_without_the_solution_says_so(small):
    def unknown():
        return 1

    with pytest.raises(UserError, match=r"small.py has no folded solution of unknown\(\); restore"):
        small.check(unknown, ())


@pytest.mark.parametrize(
    ("got", "wanted", "told"),
    [
        (3, 3.0, ""),
        ("three", 3.0, "should be a number"),
        (2.9, 3.0, "2.9 is too small"),
        (math.inf, 3.0, "the answer is inf"),
        ((1, 2), [1, 2], ""),
        ((1, 3), [1, 2], "value 2: 3 is too large"),
        ((1, 2, 3), [1, 2], "of type tuple with 3 values, and should hold 2 values"),
        ("b", "a", "'b' is not it"),
    ],
)
def test_what_is_wrong_is_told_and_what_is_right_is_not(got, wanted, told):
    said = exercises_of_common.difference(got, wanted, 1e-6)
    assert (said == "") if told == "" else said.endswith(told)
