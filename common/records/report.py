"""Tables as text: a run held against its targets, a step's recorded runs, and the tables of the READMEs."""

from torch import nn

from common.data.digits import TITLES
from common.recipe import ROOT, Options, Target
from common.records import comparison, store
from common.system.files import write_together
from common.system.streams import in_notebook, labelled

NOTHING_YET = "nothing yet; `course.py study` measures a step over several seeds"


def number(value: float) -> str:
    """A count with thousands separators, an accuracy with two decimals and its sign."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f} %"


def target_text(target: Target) -> str:
    """For example `test accuracy >= 99.40 %`."""
    return f"{target.quantity} {target.relation} {number(target.bound)}"


def verdict(targets: tuple[Target, ...], record: dict) -> str:
    """A line for each target: what a run measured, and whether that meets it.

    Accuracies on the built-in digits, after training on a part of MNIST, or by the source's protocol are shown and not
    compared: the targets are about all of MNIST and its test images. The first line says so.
    """
    run, size = record["runs"][0], record["data"]
    measured = store.measure(run, record["parameters"])
    whole = size["name"] == "mnist" and size["train"] == 60_000 and run["protocol"] == "held-out"
    part = {"held-out": "test", "source": "training"}.get(run["protocol"], run["protocol"])
    images = (
        f"{run['history'][-1]['test_total']:,} {part} images of {TITLES[size['name']]}, "
        f"after training on {size['train']:,} with seed {run['seed']}"
    )
    lines = [labelled("this run", f"{'accuracy measured on':<27}{images}")]
    for target in targets:
        value = measured[target.quantity]
        if "accuracy" in target.quantity and not whole:
            outcome = "not compared"
        elif target.met_by(value):
            outcome = "met"
        elif "accuracy" in target.quantity:
            outcome = f"missed by {number(abs(value - target.bound)).replace('%', 'points')}"
        else:
            relation = {"<": "less than", "<=": "at most", ">": "more than", ">=": "at least"}[target.relation]
            outcome = f"missed: {number(value)} is not {relation} {number(target.bound)}"
        lines.append(labelled("this run", f"{target_text(target):<56}{number(value):>9}  {outcome}"))
    return "\n".join(lines)


def recorded(step: str, targets: tuple[Target, ...]) -> str:
    """The recorded full runs, a line for each seed, then their mean and spread, then how many seeds met each target."""
    record = store.load_if_any(step)
    runs = store.runs(record)
    if not runs:
        return labelled("recorded", NOTHING_YET)
    lines = [
        f"seed {run['seed']:<5}{number(store.accuracy(run)):>9}   "
        f"{run['history'][-1]['test_total'] - run['history'][-1]['test_correct']:>3} of "
        f"{run['history'][-1]['test_total']:,} test images wrong; last three epochs "
        + " ".join(f"{100 * row['test_correct'] / row['test_total']:.2f}" for row in run["history"][-3:])
        for run in runs
    ]
    summary = store.summarise(record)
    if len(runs) > 1:
        low, high = comparison.interval(summary.accuracies)
        lines.append(
            f"mean      {number(summary.mean):>9}   standard deviation {summary.deviation:.2f} points; "
            f"95 % interval of the mean {low:.2f} to {high:.2f}"
        )
    if others := store.other_processors(runs):
        lines.append(store.mark(others))
    measures = [store.measure(run, record["parameters"]) for run in runs]
    for target in targets:
        met = sum(target.met_by(measured[target.quantity]) for measured in measures)
        lines.append(f"{target_text(target):<56}met by {met} of {len(runs)} seeds")
    return "\n".join(labelled("recorded", line) for line in lines)


def bars(step: str, bounds: dict[str, float]) -> str:
    """A line for each bound on all recorded seeds together, met or missed: a bar knows no rounding.

    The bounds are least values of "seeds", "mean", "minimum", and "last three": the lowest accuracy of any seed in any
    of its last three epochs.
    """
    record = store.load_if_any(step)
    if not store.runs(record):
        return labelled("recorded", NOTHING_YET)
    measured = comparison.summary(record) | {"last three": comparison.lowest(store.runs(record), 3)}
    names = {"mean": "mean of the seeds", "minimum": "lowest seed", "last three": "lowest of the last 3 epochs of all"}
    lines = []
    for name, bound in bounds.items():
        value, bar = measured[name], f"{names.get(name, name)} >= {number(bound)}"
        # 99.58 is the nearest binary fraction, and so is a mean: a billionth is no difference
        outcome = "met" if value >= bound - 1e-9 else f"missed by {bound - value:.3g}"
        lines.append(f"{bar:<56}{number(value):>9}  {outcome}")
    return "\n".join(labelled("recorded", line) for line in lines)


def claims(step: str, claimed: dict[int, int]) -> str:
    """What the source reported, and what our runs give by its protocol and on held-out images, epoch by epoch.

    `claimed` maps an epoch to the number of images that the source counted as correct by its protocol.
    """
    record = store.load_if_any(step)
    if not store.runs(record, "source") or not store.runs(record):
        return labelled("recorded", NOTHING_YET)
    lines = [f"{'epoch':>5}{'claimed':>11}{'its protocol, our seeds':>34}{'held-out':>28}"]
    for epoch, correct in claimed.items():
        sides = [store.summarise(record, protocol, epoch) for protocol in ("source", "held-out")]
        total = store.runs(record, "source")[0]["history"][0]["test_total"]
        ours = [f"{number(side.mean)} ({' '.join(f'{value:.2f}' for value in side.accuracies)})" for side in sides]
        lines.append(f"{epoch:>5}{number(100 * correct / total):>11}{ours[0]:>34}{ours[1]:>28}")
    return "\n".join(labelled("recorded", line) for line in lines)


def save(options: Options, record: dict, model: nn.Module) -> None:
    """Write a run's record and weights into its folder, and say what lies there now; a recorded run writes nothing."""
    if options.recorded:
        print(labelled("recorded", "This is the recorded run: its record and weights stay as they are."))
        return
    folder = options.out
    content = {"record.json": store.as_text(record), "weights.safetensors": store.weights(model)}
    write_together({folder / name: text for name, text in content.items()})
    drawn = " and weights.safetensors" if in_notebook() else ", weights.safetensors and the figures"
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    print(labelled("written", f"record.json{drawn} are in {shown}"))
