"""A ladder of changes from one way of training to another, each timed against the one below and against the first."""

import dataclasses
import statistics
from dataclasses import dataclass

from common.experiments.bench import TrainingVariant, measure, median, short


@dataclass(frozen=True)
class AblationStep:
    """One change on the way from the sources' loop to ours."""

    name: str
    way: TrainingVariant  # with all kept changes so far, and this one
    kept: bool = True  # whether the rungs above stand on this one


def ablation_steps(changes: list[tuple[str, dict, bool]]) -> list[AblationStep]:
    """The ladder that starts with the sources' way: each entry is a name, what it changes, whether it is kept."""
    ladder, foot = [AblationStep("the sources' loop", TrainingVariant())], TrainingVariant()
    for name, change, kept in changes:
        ladder.append(AblationStep(name, dataclasses.replace(foot, **change), kept))
        foot = ladder[-1].way if kept else foot
    return ladder


def measure_ablation(step: str, ladder: list[AblationStep], repeats: int, batches: int) -> list[list[dict]]:
    """For each rung its measurements; the rungs take turns, so that a slow minute of the machine hits them all."""
    turns = [[measure(step, rung.way, batches) for rung in ladder] for _ in range(repeats)]
    return [list(column) for column in zip(*turns, strict=True)]


def gains(ladder: list[AblationStep], measured: list[list[dict]]) -> list[tuple[list[float], list[float]]]:
    """For each rung how many times faster it was, turn by turn, than the last kept rung below it, and than the first.

    Ratios within a turn: two measurements a few seconds apart share the machine's mood.
    """

    def times_faster(theirs: list[dict], ours: list[dict]) -> list[float]:
        return [before["seconds"] / now["seconds"] for before, now in zip(theirs, ours, strict=True)]

    result, below = [], measured[0]
    for rung, mine in zip(ladder, measured, strict=True):
        result.append((times_faster(below, mine), times_faster(measured[0], mine)))
        below = mine if rung.kept else below
    return result


def verdict(ratios: list[float]) -> str:
    """What the turns agree on: a rung helps when it was faster in every one of them."""
    return "helps" if min(ratios) > 1 else "slower" if max(ratios) < 1 else "no clear gain"


def ablation_table(ladder: list[AblationStep], measured: list[list[dict]]) -> str:
    """A line for each rung: seconds an epoch, times the rung below (least-most), times the sources' loop."""
    lines = []
    for rung, runs, (below, foot) in zip(ladder, measured, gains(ladder, measured), strict=True):
        text = f"{short(median(runs))} s"
        if rung is not ladder[0]:
            text += f"   {statistics.median(below):.2f} x below ({min(below):.2f}-{max(below):.2f})"
            text += f"   {statistics.median(foot):.2f} x the sources   {verdict(below)}"
        lines.append(f"{'measured':<11}{rung.name:<38}  {text}{'' if rung.kept else ', not kept'}")
    return "\n".join(lines)
