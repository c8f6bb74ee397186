"""The ablation ladder: one change a rung, and its numbers as statistics gives them."""

import statistics

import pytest
from scipy import stats

from common.experiments import ladder
from common.recipe import overrides_between


def test_it_goes_from_block_3_to_the_top_by_ten_changes():
    rungs = ladder.rungs()
    assert [one.number for one in rungs] == list(range(11))
    assert rungs[0].recipe.step == "S7/block3"
    assert rungs[-1].recipe == ladder.top_recipe()
    changed = {one.title: overrides_between(ladder.below(one).recipe, one.recipe) for one in rungs[2:]}
    assert changed["a teacher"] == "teacher='S8/teacher'"
    assert changed["an EMA of the weights"] == "ema_decay=0.998"
    assert changed["a one-cycle rate"] == "epochs=15 lr=0.2 momentum=0.9 one_cycle=0.2"


def test_every_rung_has_the_same_five_seeds():
    assert {tuple(one.validated()) for one in ladder.rungs()} == {(1, 2, 3, 4, 5)}


def test_a_line_says_what_students_t_says():
    values = list(ladder.differences("a one-cycle rate").values())
    p = stats.ttest_1samp(values, 0).pvalue
    low, high = stats.t.interval(0.95, 4, statistics.fmean(values), stats.sem(values))
    assert ladder.line("a one-cycle rate") == (
        f"a one-cycle rate: {statistics.fmean(values):+.3f} points, 95 % interval {low:+.3f} to {high:+.3f} "
        f"(5 seeds, one of 10 comparisons), p = {p:.2g}: perhaps"
    )


@pytest.mark.parametrize(
    ("p", "said"), [(0.004, "told from chance"), (0.006, "perhaps"), (0.04, "perhaps"), (0.06, "not told from chance")]
)
def test_the_level_is_divided_by_the_comparisons(p, said):
    assert ladder.verdict(p) == said
