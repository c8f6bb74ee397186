"""Immediate checks for the exercises: a line that says whether an answer is right, without giving it away."""

import math


def check(question: str, answer, expected, tolerance: float = 0.0) -> bool | None:
    """Print and return whether `answer` is `expected`: equal, or for numbers within `tolerance`.

    None means that the stub is still empty; that is reported as open, not as wrong.
    """
    if answer is None:
        print(f"open       {question}")
        return None
    try:
        right = math.isclose(answer, expected, abs_tol=tolerance, rel_tol=0) if tolerance else answer == expected
    except TypeError:  # text, say, where a number is asked for
        right = False
    print(f"{'right' if right else 'not yet':<11}{question}" + ("" if right else f": your answer is {answer!r}"))
    return right
