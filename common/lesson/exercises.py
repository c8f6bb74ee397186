"""Immediate checks for the exercises: a line that says whether an answer is right, without giving it away."""

import math

from common.system.streams import in_notebook


def check(question: str, answer, expected, tolerance: float = 0.0) -> None:
    """Print whether `answer` is `expected`: equal, or for numbers within `tolerance`.

    None means that the stub is still empty: open, not wrong. A script, which nobody fills in, says nothing of it.
    Nothing is returned: a notebook would show it under the line.
    """
    if answer is None:
        if in_notebook():
            print(f"open       {question}")
        return
    try:
        right = math.isclose(answer, expected, abs_tol=tolerance, rel_tol=0) if tolerance else answer == expected
    except TypeError:  # text, say, where a number is asked for
        right = False
    print(f"{'right' if right else 'not yet':<11}{question}" + ("" if right else f": your answer is {answer!r}"))
