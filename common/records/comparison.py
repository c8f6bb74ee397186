"""What the seeds say together, and whether two recipes differ: `course.py study --compare S7/block2 S7/block3`."""

import math
import statistics
from dataclasses import dataclass

from common.records import search_log, store
from common.system.errors import UserError


@dataclass(frozen=True)
class Comparison:
    """The second side less the first, in points, over the seeds that both have."""

    seeds: int
    first: float  # mean accuracies in per cent
    second: float
    difference: float
    low: float  # the 95 % confidence interval of the difference
    high: float
    p: float  # how often chance alone would put the mean of the differences this far from 0, or farther


def paired(first: dict[int, float], second: dict[int, float]) -> Comparison:
    """Compare two sides, each an accuracy in per cent by seed, with the paired t-test (Student 1908).

    The same seed gives both sides the same order and the same augmentation, so their difference is less noisy than
    that of two strangers. Raises UserError for fewer than two seeds in common.
    """
    from scipy import stats

    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < 2:
        raise UserError(f"A comparison needs at least 2 seeds that both sides have, and here are {len(seeds)}.")
    before, after = ([side[seed] for seed in seeds] for side in (first, second))
    differences = [late - early for early, late in zip(before, after, strict=True)]
    mean = statistics.fmean(differences)
    if len({round(difference, 9) for difference in differences}) == 1:  # no spread, and t would divide by it
        low = high = mean
        p = 0.0 if abs(mean) > 1e-9 else 1.0
    else:
        result = stats.ttest_rel(after, before)
        (low, high), p = result.confidence_interval(0.95), float(result.pvalue)
    return Comparison(len(seeds), statistics.fmean(before), statistics.fmean(after), mean, float(low), float(high), p)


def accuracies(side: str) -> dict[int, float]:
    """Last-epoch accuracy by seed: of a step's recorded runs, or with a colon of its runs on the validation images.

    Raises UserError where there are none.
    """
    step, colon, overrides = side.partition(":")
    record = store.load(step)
    if not colon:
        return {run["seed"]: store.accuracy(run) for run in store.runs(record)}
    found = search_log.accuracies(search_log.trial(record, overrides))
    if not found:
        named = repr(overrides or "its recipe")
        raise UserError(f"The record of {step} has no validated runs of {named}; course.py study makes them.")
    return found


def text(first: str, second: str) -> str:
    """The comparison as two lines."""
    found = paired(accuracies(first), accuracies(second))
    return (
        f"{first}: {found.first:.2f} %, {second}: {found.second:.2f} %, {found.seeds} seeds in common\n"
        f"difference {found.difference:+.3f} points, 95 % interval {found.low:+.3f} to {found.high:+.3f}, "
        f"p = {found.p:.2g} (t-test, paired by seed)"
    )


def summary(record: dict, last: int = 5) -> dict:
    """What the record's held-out runs say together, for the record itself; accuracies in per cent, spread in points."""
    found, runs = store.summarise(record), store.runs(record)
    low, high = interval(found.accuracies)
    others = store.other_processors(runs)
    return {
        **({"seeds_on_other_processors": list(others)} if others else {}),
        "seeds": len(runs),
        "mean": found.mean,
        "deviation": found.deviation,
        "minimum": found.minimum,
        "maximum": found.maximum,
        "interval_95": None if len(runs) < 2 else [low, high],
        f"lowest_of_last_{last}_epochs": lowest(runs, last),
        "seconds": statistics.fmean(run["seconds"] for run in runs),
    }


def lowest(runs: list[dict], last: int) -> float:
    """The lowest test accuracy of any of these runs in any of its last epochs, in per cent."""
    return min(store.accuracy(run, -back) for run in runs for back in range(1, 1 + min(last, len(run["history"]))))


def interval(values: list[float], level: float = 0.95) -> tuple[float, float]:
    """The confidence interval of the values' mean, by their spread and Student's t; infinite for a single value.

    (scipy's `t.interval` is not a number where all values are equal, as three seeds of S5's are.)
    """
    from scipy import stats

    mean = statistics.fmean(values)
    if len(values) < 2:
        return -math.inf, math.inf
    reach = statistics.stdev(values) / math.sqrt(len(values)) * float(stats.t.ppf((1 + level) / 2, len(values) - 1))
    return mean - reach, mean + reach


def wilson(right: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """The confidence interval of a share of right answers, in per cent, by the choice of the images (Wilson 1927).

    Unlike the accuracy plus and minus two standard errors it stays between 0 and 100 %, and has a width where all are
    right.
    """
    from scipy import stats

    low, high = stats.binomtest(right, total).proportion_ci(level, method="wilson")
    return 100 * float(low), 100 * float(high)
