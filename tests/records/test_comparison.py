"""Comparisons paired by seed: by hand, against scipy's own, and when there is nothing to compare."""

import math

import pytest
from scipy import stats

from common import records
from common.records import comparison
from common.system.errors import UserError


def test_a_difference_by_hand():
    found = comparison.paired({1: 99.0, 2: 99.1, 3: 99.2, 9: 0.0}, {3: 99.5, 1: 99.2, 2: 99.2, 4: 0.0})
    # differences 0.2, 0.1, 0.3: mean 0.2, standard deviation 0.1, standard error 0.1 / sqrt(3), t(2, 97.5 %) = 4.3027
    assert (found.seeds, found.difference) == (3, pytest.approx(0.2))
    assert (found.high - found.low) / 2 == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-5)
    assert (found.first, found.second) == (pytest.approx(99.1), pytest.approx(99.3))
    assert found.p == pytest.approx(stats.ttest_rel([99.2, 99.2, 99.5], [99.0, 99.1, 99.2]).pvalue)


def test_sides_without_any_spread():
    assert comparison.paired({1: 99.0, 2: 99.0}, {1: 99.0, 2: 99.0}).p == 1
    assert comparison.paired({1: 99.0, 2: 99.5}, {1: 99.25, 2: 99.75}).p == 0


def test_one_seed_tells_nothing():
    with pytest.raises(UserError, match="at least 2 seeds"):
        comparison.paired({1: 99.0, 2: 99.0}, {1: 99.0, 3: 99.0})


def test_the_interval_of_a_mean_is_scipys():
    values = [99.5, 99.6, 99.55, 99.62]
    expected = stats.t.interval(0.95, 3, loc=sum(values) / 4, scale=stats.sem(values))
    assert comparison.interval(values) == pytest.approx(expected)
    assert comparison.interval([99.5]) == (-math.inf, math.inf)


def test_a_summary_by_hand():
    def run(seed, *correct):
        rows = [{"epoch": epoch, "test_correct": count, "test_total": 1000} for epoch, count in enumerate(correct, 1)]
        return {"seed": seed, "protocol": "held-out", "seconds": 10.0 * seed, "history": rows}

    found = comparison.summary({"step": "S7/x", "runs": [run(1, 900, 990, 980), run(2, 950, 970, 990)]}, last=2)
    assert found["mean"] == pytest.approx(98.5)
    assert found["deviation"] == pytest.approx(0.5**0.5)
    assert (found["minimum"], found["maximum"], found["seconds"], found["seeds"]) == (98, 99, 15, 2)
    assert found["lowest_of_last_2_epochs"] == 97  # not seed 1's 90 % in its first epoch
    # the standard error is sqrt(0.5 / 2) = 0.5, and t(1, 97.5 %) = 12.7062
    assert found["interval_95"] == pytest.approx([98.5 - 6.3531, 98.5 + 6.3531], abs=1e-4)


def test_recorded_steps_are_compared_by_their_last_epochs():
    assert comparison.accuracies("S7/block3") == {
        run["seed"]: records.accuracy(run) for run in records.runs(records.load("S7/block3"))
    }
    assert "t-test, paired by seed" in comparison.text("S7/block2", "S7/block3")
    with pytest.raises(UserError, match="no validated runs"):
        comparison.accuracies("S7/block3:lr=77")


def test_wilsons_interval_by_hand():
    """(p + z2 / 2n +- z sqrt(p q / n + z2 / 4n2)) / (1 + z2 / n), with p = 0.9, n = 10, z = 1.959964."""
    z2 = 1.959964**2
    middle, reach = (0.9 + z2 / 20) / (1 + z2 / 10), math.sqrt(z2 * (0.09 / 10 + z2 / 400)) / (1 + z2 / 10)
    assert comparison.wilson(9, 10) == pytest.approx((100 * (middle - reach), 100 * (middle + reach)), rel=1e-5)
    low, high = comparison.wilson(10, 10)
    assert low == pytest.approx(100 / (1 + z2 / 10), rel=1e-5) and high == 100
