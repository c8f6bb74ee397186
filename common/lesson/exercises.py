"""Exercises: what a student writes is checked at once against the lesson's folded solution, and then used.

The solution stands once, folded under its exercise in the lesson's script. `Exercises` reads it there, runs it on the
same arguments as the student's function, and compares what both give. So no page has to show what a check expects.
"""

import copy
import math
import re
from pathlib import Path

import torch

from common.recipe import ROOT
from common.system.errors import UserError
from common.system.streams import in_notebook

SOLUTION = re.compile(r"<summary>Solution</summary>.*?```python\n(.*?)```", re.DOTALL)


class Exercises:
    """The exercises of one lesson, such as "S5/step1_first_network"."""

    def __init__(self, step: str, sessions: Path = ROOT / "sessions"):
        """`sessions` is the folder with the lessons' scripts."""
        self.path = sessions / f"{step}.py"

    def check(self, function, *cases: tuple, tolerance: float = 1e-5):
        """Say whether `function` does what the lesson's solution does, and return whichever the page should go on with.

        Each case is a tuple of arguments; a function that changes its arguments gets copies. Numbers, and tensors of
        the same shape, may differ by `tolerance`, absolute and relative. A stub, which gives None and changes nothing,
        is open: then, and while the answer is not right, the solution is returned, so that the cells below it run.
        Raises UserError where the lesson has no solution of that name.
        """
        name = function.__name__
        solution = self.solution(name, function.__globals__)
        said, usable = "", False
        for number, case in enumerate(cases, start=1):
            where = f" in case {number} of {len(cases)}" if len(cases) > 1 else ""
            wanted = _outcome(solution, case)
            try:
                got = _outcome(function, case)
            except NotImplementedError:
                got = None
            except Exception as error:  # a student's own mistake, told in the kernel's words
                said = f"{type(error).__name__}{where}: {error}"
                break
            if got is None and wanted is not None:
                said = "open" if not where or number == 1 else f"it gives None{where}"
                break
            problem = difference(got, wanted, tolerance)
            if problem:
                said = f"{problem}{where}"
                break
        else:
            usable = True
        if usable:
            _say("right", f"{name}: the page goes on with yours")
        elif said == "open":
            _say("open", f"{name}: write it above; until then the page goes on with the course's own")
        else:
            _say("not yet", f"{name}: {said}")
        return function if usable else solution

    def solution(self, name: str, names: dict):
        """The function `name` as the lesson's folded solution has it, run with the modules and values in `names`."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.splitlines())
        for code in SOLUTION.findall(text):
            if re.search(rf"^def {name}\(", code, re.MULTILINE):
                namespace = dict(names)
                exec(compile(code, f"<solution of {name}>", "exec"), namespace)
                return namespace[name]
        raise UserError(f"{self.path} has no folded solution of {name}(); restore the file from the repository.")


def difference(got, wanted, tolerance: float) -> str:
    """What is wrong with an answer, in words that do not give the right one away; "" where nothing is."""
    if isinstance(wanted, torch.Tensor):
        if not isinstance(got, torch.Tensor):
            return f"the answer is of type {type(got).__name__}, and should be a tensor"
        if got.shape != wanted.shape:
            return f"the answer has the shape {list(got.shape)}, and should have {list(wanted.shape)}"
        apart = ~torch.isclose(got.double(), wanted.double(), rtol=tolerance, atol=tolerance, equal_nan=True)
        if not apart.any():
            return ""
        place = apart.nonzero()[0].tolist()
        value = f"{got[tuple(place)].item():.6g}" + (f" at {place}" if place else "")
        return f"{apart.sum():,} of {apart.numel():,} values differ, the first is {value}"
    if isinstance(wanted, list | tuple):
        if not isinstance(got, list | tuple) or len(got) != len(wanted):
            size = f" with {len(got)} values" if isinstance(got, list | tuple) else ""
            return f"the answer is of type {type(got).__name__}{size}, and should hold {len(wanted)} values"
        told = [difference(one, other, tolerance) for one, other in zip(got, wanted, strict=True)]
        return next((f"value {number}: {text}" for number, text in enumerate(told, start=1) if text), "")
    if isinstance(wanted, bool | str) or not isinstance(wanted, int | float):
        return "" if got == wanted else f"{got!r} is not it"
    try:
        value = float(got)
    except (TypeError, ValueError):
        return f"the answer is {got!r}, and should be a number"
    if math.isclose(value, wanted, rel_tol=tolerance, abs_tol=tolerance):
        return ""
    if not math.isfinite(value):
        return f"the answer is {value}"
    return f"{value:.6g} is too {'small' if value < wanted else 'large'}"


def check(question: str, answer, expected, tolerance: float = 0.0) -> None:
    """Print whether `answer` is `expected`: equal, or for numbers within `tolerance`.

    None means that the stub is still empty: open, not wrong. A script, which nobody fills in, says nothing of it.
    Nothing is returned: a notebook would show it under the line.
    """
    if answer is None:
        _say("open", question)
        return
    try:
        right = math.isclose(answer, expected, abs_tol=tolerance, rel_tol=0) if tolerance else answer == expected
    except TypeError:  # text, say, where a number is asked for
        right = False
    _say("right" if right else "not yet", question + ("" if right else f": your answer is {answer!r}"))


def _say(outcome: str, text: str) -> None:
    """One line; a script, which nobody fills in, says nothing of what is open."""
    if outcome != "open" or in_notebook():
        print(f"{outcome:<11}{text}")


def _outcome(function, case: tuple):
    """What the function gives for copies of the arguments; the changed copies, where it gives None and changed some."""
    arguments = copy.deepcopy(case)
    result = function(*arguments)
    if result is not None:
        return result
    changed = [not _same(after, before) for after, before in zip(arguments, case, strict=True)]
    return [after for after, one in zip(arguments, changed, strict=True) if one] or None


def _same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return all(_same(a, b) for a, b in zip(one, other, strict=True))
    return isinstance(one, torch.nn.Module) or one == other
