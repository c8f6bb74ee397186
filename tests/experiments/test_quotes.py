"""The numbers in the texts: each is what its record says."""

import pytest

from common import records
from common.experiments import quotes
from common.recipe import ROOT
from common.system.errors import UserError


def run(seed, correct=(9_900, 9_930, 9_940, 9_950)):
    """A held-out run with these correct answers of 10,000 in the test after each epoch."""
    part = {"train_correct": 59_000, "train_total": 60_000, "test_total": 10_000}
    history = [{"epoch": epoch, "test_correct": count, **part} for epoch, count in enumerate(correct, 1)]
    return {"seed": seed, "protocol": "held-out", "seconds": 4.0, "history": history}


def record(*runs):
    return {"step": "S7/block3", "parameters": 7_904, "runs": list(runs)}


def test_a_quoted_number_is_recomputed(monkeypatch):
    monkeypatch.setattr(records, "load", lambda step: record(run(1), run(2, correct=(0, 0, 0, 9_940))))
    text = "It got 12.34 %<!--S7/block3 mean--> (?<!--S7/block3 deviation-->) over ?<!--S7/block3 seeds--> seeds."
    expected = (
        "It got 99.45 %<!--S7/block3 mean--> (0.07 points<!--S7/block3 deviation-->) over 2<!--S7/block3 seeds-->"
    )
    assert quotes.fill(text) == f"{expected} seeds."
    # The best epochs are 99.5 and 99.4 %, the last ones too; an earlier peak of 99.6 % flatters by 0.05 on average.
    peak = run(1, correct=(9_900, 9_960, 9_940, 9_950))
    monkeypatch.setattr(records, "load", lambda step: record(peak, run(2, correct=(0, 0, 0, 9_940))))
    assert quotes.quote("S7/block3 best") == "99.50 %"
    assert quotes.quote("S7/block3 best_epoch_bias") == "0.05 points"
    with pytest.raises(UserError, match="no number 'luck' of 'default' for the step S7/block3"):
        quotes.fill("1<!--bench S7/block3 default luck-->")
    with pytest.raises(UserError, match="There is no number 'luck'"):
        quotes.fill("1<!--S7/block3 luck-->")


@pytest.mark.parametrize("path", quotes.texts(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_quoted_number_agrees_with_its_record(path):
    text = path.read_text(encoding="utf-8")
    assert len(quotes.QUOTED.findall(text)) == text.count("<!--"), "a line break parts a number from its unit or source"
    assert quotes.fill(text) == text, "`python3 course.py report` writes today's numbers"
