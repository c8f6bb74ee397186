"""An ablation of speed: from the sources' training to ours, one change a step, each timed against the one before."""

import dataclasses
import statistics
from dataclasses import dataclass

from common.experiments.bench import TrainingVariant, measure, median, short


@dataclass(frozen=True)
class AblationStep:
    """One change on the way from the sources' loop to ours."""

    name: str
    variant: TrainingVariant  # with this change, and all kept ones before it
    kept: bool = True  # whether the next steps keep the change


def ablation_steps(changes: list[tuple[str, dict, bool]]) -> list[AblationStep]:
    """The steps, the sources' loop first.

    Each entry of `changes` is a step's name, the fields of `TrainingVariant` that it sets, and whether it is kept.
    """
    steps, base = [AblationStep("the sources' loop", TrainingVariant())], TrainingVariant()
    for name, change, kept in changes:
        steps.append(AblationStep(name, dataclasses.replace(base, **change), kept))
        base = steps[-1].variant if kept else base
    return steps


def measure_ablation(lesson: str, steps: list[AblationStep], repeats: int, batches: int) -> list[list[dict]]:
    """`repeats` measurements of each step, with the network and the recipe of `lesson`, such as S7/block3.

    The steps take turns, so that a slow minute of the machine hits them all.
    """
    turns = [[measure(lesson, step.variant, batches) for step in steps] for _ in range(repeats)]
    return [list(column) for column in zip(*turns, strict=True)]


def gains(steps: list[AblationStep], measured: list[list[dict]]) -> list[tuple[list[float], list[float]]]:
    """For each step how many times faster it was than the last kept one before it, and than the first, turn by turn.

    A ratio compares measurements of one turn. A few seconds apart, they find the machine in the same state.
    """

    def times_faster(theirs: list[dict], ours: list[dict]) -> list[float]:
        return [before["seconds"] / now["seconds"] for before, now in zip(theirs, ours, strict=True)]

    result, kept = [], measured[0]
    for step, mine in zip(steps, measured, strict=True):
        result.append((times_faster(kept, mine), times_faster(measured[0], mine)))
        kept = mine if step.kept else kept
    return result


def verdict(ratios: list[float]) -> str:
    """What the turns agree on: a step helps when it was faster in every one of them."""
    return "helps" if min(ratios) > 1 else "slower" if max(ratios) < 1 else "no clear gain"


def ablation_table(steps: list[AblationStep], measured: list[list[dict]]) -> str:
    """A line for each step: seconds an epoch, times faster than the step below (least-most), than the sources' loop."""
    lines = []
    for step, runs, (below, first) in zip(steps, measured, gains(steps, measured), strict=True):
        text = f"{short(median(runs))} s"
        if step is not steps[0]:
            text += f"   {statistics.median(below):.2f} x below ({min(below):.2f}-{max(below):.2f})"
            text += f"   {statistics.median(first):.2f} x the sources   {verdict(below)}"
        lines.append(f"{'measured':<11}{step.name:<38}  {text}{'' if step.kept else ', not kept'}")
    return "\n".join(lines)
