"""Tables as text: a run held against its targets, a step's recorded runs, and the tables of the READMEs."""

import argparse
import json
import re
import statistics
from pathlib import Path

from torch import nn

from common import bench, compare, frontier, records, sprint
from common.data import Digits
from common.errors import UserError
from common.files import write_atomically, write_together
from common.recipe import ROOT, Target, in_notebook

# A number with its unit, directly followed by the query it answers in an HTML comment, which no renderer shows.
QUOTED = re.compile(
    r"(?:\?|\d[\d,.]*)(?: %| points| minutes| seconds| times| MB)?"
    r"<!--(?P<query>(?:bench (?:gpu |amx )?)?S\d[^>]*?|sprint \w+)-->"
)

NOTHING_YET = f"{'recorded':<11}nothing yet; `course.py study` measures a step over several seeds"


def number(value: float) -> str:
    """A count with thousands separators, an accuracy with two decimals and its sign."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f} %"


def target_text(target: Target) -> str:
    """For example `test accuracy >= 99.40 %`."""
    return f"{target.quantity} {target.relation} {number(target.bound)}"


def verdict(targets: tuple[Target, ...], record: dict, digits: Digits) -> str:
    """A line for each target: what this run measured, and whether that meets it.

    Accuracies on the built-in digits, after training on a part of MNIST, or by the source's protocol are shown and not
    compared: the targets are about all of MNIST and its test images. The first line says so.
    """
    measured = records.measure(record["runs"][0], record["parameters"])
    run, size = record["runs"][0], record["data"]
    whole = digits.name == "mnist" and size["train"] == 60_000 and run["protocol"] == "held-out"
    part = {"held-out": "test", "source": "training"}.get(run["protocol"], run["protocol"])
    images = (
        f"{run['history'][-1]['test_total']:,} {part} images of {digits.title}, after training on {size['train']:,}"
    )
    lines = [f"{'this run':<11}{'accuracy measured on':<53}{images}"]
    for target in targets:
        value = measured[target.quantity]
        if "accuracy" in target.quantity and not whole:
            outcome = "not compared"
        elif target.met_by(value):
            outcome = "met"
        else:
            outcome = f"missed by {number(abs(value - target.bound)).replace('%', 'points')}"
        lines.append(f"{'this run':<11}{target_text(target):<56}{number(value):>9}  {outcome}")
    return "\n".join(lines)


def recorded(step: str, targets: tuple[Target, ...]) -> str:
    """The recorded full runs, a line for each seed, then their mean and spread, then how many seeds met each target."""
    record = records.load_if_any(step)
    runs = records.runs(record)
    if not runs:
        return NOTHING_YET
    lines = [
        f"{'recorded':<11}seed {run['seed']:<5}{number(records.accuracy(run)):>9}   "
        f"{run['history'][-1]['test_total'] - run['history'][-1]['test_correct']:>3} of "
        f"{run['history'][-1]['test_total']:,} test images wrong; last three epochs "
        + " ".join(f"{100 * row['test_correct'] / row['test_total']:.2f}" for row in run["history"][-3:])
        for run in runs
    ]
    summary = records.summarise(record)
    if len(runs) > 1:
        low, high = compare.interval(summary.accuracies)
        lines.append(
            f"{'recorded':<11}mean      {number(summary.mean):>9}   standard deviation {summary.deviation:.2f} points; "
            f"95 % interval of the mean {low:.2f} to {high:.2f}"
        )
    measures = [records.measure(run, record["parameters"]) for run in runs]
    for target in targets:
        met = sum(target.met_by(measured[target.quantity]) for measured in measures)
        lines.append(f"{'recorded':<11}{target_text(target):<56}met by {met} of {len(runs)} seeds")
    return "\n".join(lines)


def bars(step: str, bounds: dict[str, float]) -> str:
    """A line for each bound on all recorded seeds together, met or missed: a bar knows no rounding.

    The bounds are least values of "seeds", "mean", "minimum", and "last three": the lowest accuracy of any seed in any
    of its last three epochs.
    """
    record = records.load_if_any(step)
    if not records.runs(record):
        return NOTHING_YET
    measured = compare.summary(record) | {"last three": compare.lowest(records.runs(record), 3)}
    names = {"mean": "mean of the seeds", "minimum": "lowest seed", "last three": "lowest of the last 3 epochs of all"}
    lines = []
    for name, bound in bounds.items():
        value, bar = measured[name], f"{names.get(name, name)} >= {number(bound)}"
        # 99.58 is the nearest binary fraction, and so is a mean: a billionth is no difference
        outcome = "met" if value >= bound - 1e-9 else f"missed by {bound - value:.3g}"
        lines.append(f"{'recorded':<11}{bar:<56}{number(value):>9}  {outcome}")
    return "\n".join(lines)


def claims(step: str, claimed: dict[int, int]) -> str:
    """What the source reported, and what our runs give by its protocol and on held-out images, epoch by epoch.

    `claimed` maps an epoch to the number of images that the source counted as correct by its protocol.
    """
    record = records.load_if_any(step)
    if not records.runs(record, "source") or not records.runs(record):
        return NOTHING_YET
    lines = [f"{'recorded':<11}{'epoch':>5}{'claimed':>11}{'its protocol, our seeds':>34}{'held-out':>28}"]
    for epoch, correct in claimed.items():
        sides = [records.summarise(record, protocol, epoch) for protocol in ("source", "held-out")]
        total = records.runs(record, "source")[0]["history"][0]["test_total"]
        ours = [f"{number(side.mean)} ({' '.join(f'{value:.2f}' for value in side.accuracies)})" for side in sides]
        lines.append(f"{'recorded':<11}{epoch:>5}{number(100 * correct / total):>11}{ours[0]:>34}{ours[1]:>28}")
    return "\n".join(lines)


def save(folder: Path, record: dict, model: nn.Module) -> None:
    """Write a run's record and weights into its folder, and say what lies there now."""
    content = {"record.json": records.as_text(record), "weights.safetensors": records.weights(model)}
    write_together({folder / name: text for name, text in content.items()})
    drawn = " and weights.safetensors" if in_notebook() else ", weights.safetensors and the figures"
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    print(f"{'written':<11}record.json{drawn} to {shown}")


def quote(query: str) -> str:
    """The number that a query names, as the texts print it. Raises UserError for a query that makes no sense.

    A query is `STEP [source] QUANTITY [at EPOCH]`: a quantity over the recorded seeds, by the source's protocol where
    it says so, at the last epoch where it does not say which; for example `S7/block3 source mean at 13`. `wrong` is the
    mean number of mistakes in 10,000 images, `low` and `high` bound the 95 % interval of the mean, `lowest3` and
    `lowest5` are the lowest accuracies of any seed in its last epochs, `gap` how far the source's protocol lies above
    the held-out one, `training` the accuracy on training images as they were seen, `best` the mean of each seed's best
    epoch, and `flattery` how far that lies above the mean of the last. `bench STEP WAY QUANTITY` is a number of the
    recorded benchmark: `seconds`, `ratio`, `limit` or `memory` of one of `common.bench.WAYS`; `bench gpu ...` is one of
    the GPU's, of `GPU_WAYS`, and `bench amx ...` one of a CPU's with matrix units. `sprint QUANTITY` is a number of the
    recorded race to 99.40 %, as `common.sprint.figures` names them.
    """
    try:
        return _quoted(query)
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:  # UserError is none of these
        raise UserError(f"What is recorded does not answer {query!r} ({error}).") from error


def _quoted(query: str) -> str:
    if query.startswith("sprint "):
        return _raced(query.removeprefix("sprint "))
    timed = re.fullmatch(r"bench (gpu |amx )?(S\d+/\w+) (\w+) (\w+)", query)
    if timed:
        return _benchmarked(*timed.groups())
    found = re.fullmatch(r"(S\d+/\w+)( source)? (\w+)(?: at (\d+))?", query)
    if not found:
        raise UserError(f"A number's source must read `STEP [source] QUANTITY [at EPOCH]`, not {query!r}.")
    step, source, quantity, epoch = found.groups()
    record, protocol = records.load(step), "source" if source else "held-out"
    summary = records.summarise(record, protocol, int(epoch) if epoch else -1)
    runs = records.runs(record, protocol)
    quotable = {
        "mean": f"{summary.mean:.2f} %",
        "deviation": f"{summary.deviation:.2f} points",
        "minimum": f"{summary.minimum:.2f} %",
        "maximum": f"{summary.maximum:.2f} %",
        "spread": f"{summary.maximum - summary.minimum:.2f} points",
        "wrong": f"{100 * (100 - summary.mean):.0f}",
        "training": f"{records.training_accuracy(record):.2f} %",
        "seeds": f"{len(runs)}",
        "epochs": f"{len(runs[0]['history'])}",
        "parameters": f"{record['parameters']:,}",
        "minutes": f"{statistics.fmean(run['seconds'] for run in runs) / 60:.0f} minutes",
    }
    best = statistics.fmean(max(records.accuracy(run, row["epoch"]) for row in run["history"]) for run in runs)
    low, high = compare.interval(summary.accuracies)
    quotable |= {"low": f"{low:.2f} %", "high": f"{high:.2f} %"}
    quotable |= {f"lowest{last}": f"{compare.lowest(runs, last):.2f} %" for last in (3, 5)}
    quotable |= {"best": f"{best:.2f} %", "flattery": f"{best - records.summarise(record, protocol).mean:.2f} points"}
    if quantity == "gap":
        return f"{records.summarise(record, 'source').mean - records.summarise(record).mean:.2f} points"
    if quantity not in quotable:
        raise UserError(f"There is no number {quantity!r} of a step; there is gap, {', '.join(quotable)}.")
    return quotable[quantity]


def _benchmarked(which: str | None, step: str, way: str, quantity: str) -> str:
    forms = {"seconds": "{} seconds", "ratio": "{:.1f} times", "limit": "{:.0f} %", "memory": "{:,.0f} MB"}
    path = {None: bench.RECORDED, "gpu ": bench.RECORDED_GPU, "amx ": bench.RECORDED_AMX}[which]
    result = json.loads(path.read_text(encoding="utf-8"))
    if way not in result["steps"].get(step, {}).get("ways", {}) or quantity not in forms:
        raise UserError(f"The recorded benchmark has no number {quantity!r} of {way!r} for the step {step}.")
    value = bench.figures(result, step, way)[quantity]
    return forms[quantity].format(bench.short(value) if quantity == "seconds" else value)


def _raced(quantity: str) -> str:
    figures = sprint.figures(json.loads(sprint.RECORDED.read_text(encoding="utf-8")))
    forms = {"ratio": "{:.1f} times"} | dict.fromkeys(("seconds", "source_seconds"), "{:.1f} seconds")
    form = "{:,}" if type(figures[quantity]) is int else "{:.2f} %"
    return forms.get(quantity, form).format(figures[quantity])


def fill(text: str) -> str:
    """The text with each number that names its source, as in `99.31 %<!--S7/block3 mean-->`, set from the record."""
    return QUOTED.sub(lambda found: f"{quote(found['query'])}<!--{found['query']}-->", text)


def texts(root: Path = ROOT) -> list[Path]:
    """The files whose numbers come from records: the READMEs and the lessons."""
    return [root / "README.md", *sorted(root.glob("sessions/S*/**/README.md")), *sorted(root.glob("sessions/S*/*.py"))]


def main() -> None:
    """Write today's numbers into every text that quotes a record."""
    argparse.ArgumentParser(prog="course.py report", description=main.__doc__).parse_args()
    for path in texts():
        text = path.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            write_atomically(path, filled)
            print(f"{path.relative_to(ROOT)}: numbers brought up to date")
    if frontier.write():
        print(f"{frontier.PICTURE.relative_to(ROOT)}: drawn again")


if __name__ == "__main__":
    main()
