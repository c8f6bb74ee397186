"""An ablation of speed: from the sources' training to ours, one change a step, each timed against the one before.

`course.py bench --ladder` measures S9 step 1's, RUNGS, and `--record` keeps it in RECORDED.
"""

import dataclasses
import statistics
import sys
from dataclasses import dataclass

from common.experiments import roofline
from common.experiments.bench import BATCHES, TrainingVariant, measure, median, short
from common.recipe import ROOT

STEP = "S7/block3"  # whose network and recipe are timed
RECORDED = ROOT / "sessions/S9/bench_ladder.json"
TURNS = 4


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


RUNGS = ablation_steps(
    [
        ("images decoded once", {"loader": "cached"}, True),
        ("no DataLoader", {"loader": "no DataLoader"}, True),
        ("the whole batch augmented at once", {"loader": "in memory"}, True),
        ("loss and accuracy read once an epoch", {"read_each_batch": False}, True),
        ("freed memory kept", {"keep_memory": True}, True),
        ("channels last", {"channels_last": True}, False),
        ("bfloat16", {"precision": "bfloat16"}, False),
        ("compiled", {"compiled": True}, False),
        ("batch last", {"chwn": True}, True),
        ("fused optimizer step", {"fused_optimizer": True}, True),
    ]
)


def compare(turns: int = TURNS, quick: bool = False) -> dict:
    """RUNGS, each measured so many times, and the machine with its rates and what an epoch cannot do without.

    The rungs take turns, so that a slow minute of the machine hits them all. A quick one has one turn of two batches,
    in this process and without a compiler: it goes through the code, and its times mean nothing.
    """
    columns = [[] for _ in RUNGS]
    for turn in range(1 if quick else turns):
        for rung, runs in zip(RUNGS, columns, strict=True):
            runs.append(_timed(rung.variant, quick))
            if not quick:
                said = f"turn {turn + 1}, {rung.name}: {short(runs[-1]['seconds'])} s an epoch"
                print(f"{'measured':<11}{said}", file=sys.stderr)
    rungs = [{"name": rung.name, "runs": runs} for rung, runs in zip(RUNGS, columns, strict=True)]
    return {**roofline.machine(), "step": STEP, **roofline.least_work(STEP), "rungs": rungs}


def _timed(variant: TrainingVariant, quick: bool) -> dict:
    if not quick:
        return measure(STEP, variant, BATCHES[STEP])
    from common.experiments import variants

    return variants.time_epoch(STEP, dataclasses.replace(variant, compiled=False), batches=2)


def runs_of(result: dict) -> list[list[dict]]:
    """The measurements of each of RUNGS, as `gains` and `ablation_table` take them."""
    return [rung["runs"] for rung in result["rungs"]]


def table(result: dict) -> str:
    """The ladder as text, with the machine."""
    machine = f"{result['threads']} threads, {result['machine']}, torch {result['torch']}"
    return f"{ablation_table(RUNGS, runs_of(result))}\n{machine}"


def figures(result: dict, name: str) -> dict[str, float]:
    """Of one rung: median seconds, and how many times faster than the rung below and than the sources' loop."""
    measured, index = runs_of(result), [rung.name for rung in RUNGS].index(name)
    runs, (below, first) = measured[index], gains(RUNGS, measured)[index]
    return {"seconds": median(runs), "below": statistics.median(below), "gain": statistics.median(first)}


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
