"""The numbers that texts quote from the records, and the command that brings them up to date: `course.py report`."""

import json
import re
import statistics
from pathlib import Path

from common import records
from common.experiments import bench, beside, course_time, frontier, looks, time_to_accuracy
from common.lesson.notebooks import lessons
from common.recipe import ROOT
from common.records import comparison
from common.system import command_lines
from common.system.errors import UserError
from common.system.files import write_atomically

# A number with its unit, directly followed by the query it answers in an HTML comment, which no renderer shows.
QUOTED = re.compile(
    r"(?:\?|\d[\d,.]*)(?: %| points| minutes| seconds| times| MB)?"
    r"<!--(?P<query>(?:bench (?:gpu |amx |layers )?|beside )?S\d[^>]*?|time_to_accuracy (?:99 )?\w+"
    r"|looks [\w ]+|course minutes)-->"
)


def quote(query: str) -> str:
    """The number that a query names, as the texts print it. Raises UserError for a query that makes no sense.

    A query takes one of these forms:

    - `STEP [source] QUANTITY [at EPOCH]`, a quantity over the recorded seeds, such as `S7/block3 source mean at 13`.
      Without `source` the runs are held-out ones, without `at` the epoch is the last.
    - `bench [gpu | amx | layers] STEP VARIANT QUANTITY`, of a recorded benchmark: `seconds`, `ratio`, `limit` or
      `memory` of a variant in `common.experiments.bench`. `amx` is a CPU with matrix units. `layers` compares PyTorch's
      layers (`float32`) with ours (`default`), and its ratio is to these.
    - `beside STEP SITUATION [spinning]`, how many times as long an epoch takes beside other programs: `alone`, `two` or
      `three` trainings at once, or one beside a `busy` program. `spinning` is with threads that do not follow the load.
    - `looks [large | frontier] with | without one | nine QUANTITY`, S8 step 7's small network (or its large one, or the
      one of 3,716 parameters of step 8) with a teacher or without, by one look or by nine: `mean`, `minimum`, `seeds`.
    - `course minutes`, of the whole course with every lesson in full.
    - `time_to_accuracy [99] QUANTITY`, of the recorded race to 99.40 % (or to 99.00 %), as `time_to_accuracy.figures`
      names them.

    Quantities of a step whose names do not explain themselves: `wrong` is the mean number of mistakes in 10,000 images.
    `low` and `high` bound the 95 % interval of the mean. `lowest3` and `lowest5` are the lowest accuracies of any seed
    in its last 3 or 5 epochs. `training` is the accuracy on training images as they were seen. `gap` is how far the
    source's protocol lies above the held-out one. `best` is the mean of each seed's best epoch, and `best_epoch_bias`
    how far that lies above the mean of the last epochs.
    """
    try:
        return _quoted(query)
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:  # UserError is none of these
        raise UserError(f"What is recorded does not answer {query!r} ({error}).") from error


def _quoted(query: str) -> str:
    if query.startswith("time_to_accuracy "):
        return _raced(query.removeprefix("time_to_accuracy "))
    if query == "course minutes":
        result = json.loads(course_time.RECORDED.read_text(encoding="utf-8"))
        return f"{sum(map(course_time.minutes, result['lessons'].values())):.0f} minutes"
    if seen := re.fullmatch(r"looks (?:(large|frontier) )?(with|without) (one|nine) (\w+)", query):
        way = f"{seen[1]}, {seen[2]} a teacher" if seen[1] else f"{seen[2]} a teacher"
        values = looks.accuracies(way, seen[3]).values()
        forms = {
            "mean": f"{statistics.fmean(values):.2f} %",
            "minimum": f"{min(values):.2f} %",
            "seeds": f"{len(values)}",
        }
        return forms[seen[4]]
    shared = re.fullmatch(r"beside (S\d+/\w+) (\w+)( spinning)?", query)
    if shared:
        result = json.loads(beside.RECORDED.read_text(encoding="utf-8"))
        return f"{beside.ratio(result, *shared.group(1, 2), follows=not shared[3]):.1f} times"
    timed = re.fullmatch(r"bench (gpu |amx |layers )?(S\d+/\w+) (\w+) (\w+)", query)
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
    low, high = comparison.interval(summary.accuracies)
    quotable |= {"low": f"{low:.2f} %", "high": f"{high:.2f} %"}
    quotable |= {f"lowest{last}": f"{comparison.lowest(runs, last):.2f} %" for last in (3, 5)}
    bias = best - records.summarise(record, protocol).mean
    quotable |= {"best": f"{best:.2f} %", "best_epoch_bias": f"{bias:.2f} points"}
    if quantity == "gap":
        return f"{records.summarise(record, 'source').mean - records.summarise(record).mean:.2f} points"
    if quantity not in quotable:
        raise UserError(f"There is no number {quantity!r} of a step; there is gap, {', '.join(quotable)}.")
    return quotable[quantity]


def _benchmarked(which: str | None, step: str, variant: str, quantity: str) -> str:
    forms = {"seconds": "{} seconds", "ratio": "{:.1f} times", "limit": "{:.0f} %", "memory": "{:,.0f} MB"}
    path = {
        None: bench.RECORDED,
        "gpu ": bench.RECORDED_GPU,
        "amx ": bench.RECORDED_AMX,
        "layers ": bench.RECORDED_LAYERS,
    }[which]
    result = json.loads(path.read_text(encoding="utf-8"))
    if variant not in result["steps"].get(step, {}).get("variants", {}) or quantity not in forms:
        raise UserError(f"The recorded benchmark has no number {quantity!r} of {variant!r} for the step {step}.")
    value = bench.figures(result, step, variant)[quantity]
    return forms[quantity].format(bench.short(value) if quantity == "seconds" else value)


def _raced(quantity: str) -> str:
    bar, _, quantity = quantity.rpartition(" ")
    path = time_to_accuracy.RECORDS[99.00 if bar else 99.40]
    figures = time_to_accuracy.figures(json.loads(path.read_text(encoding="utf-8")))
    seconds = ("seconds", "source_seconds", *time_to_accuracy.PHASES)
    forms = {"ratio": "{:.1f} times"} | dict.fromkeys(seconds, "{:.1f} seconds")
    form = "{:,}" if type(figures[quantity]) is int else "{:.2f} %"
    return forms.get(quantity, form).format(figures[quantity])


def fill(text: str) -> str:
    """The text with each number that names its source, as in `99.31 %<!--S7/block3 mean-->`, set from the record."""
    return QUOTED.sub(lambda found: f"{quote(found['query'])}<!--{found['query']}-->", text)


def texts(root: Path = ROOT) -> list[Path]:
    """The files whose numbers come from records: the READMEs, the pages of docs/ and the course's lessons."""
    pages = [root / "README.md", *sorted(root.glob("docs/*.md")), *sorted(root.glob("sessions/S*/**/README.md"))]
    return [*pages, *lessons(root / "sessions").values()]


def main() -> None:
    """Write today's numbers into every text that quotes a record."""
    command_lines.report().parse_args()
    for path in texts():
        text = path.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            write_atomically(path, filled)
            print(f"{path.relative_to(ROOT)}: numbers brought up to date")
    if frontier.write():
        print(f"{frontier.PICTURE.relative_to(ROOT)}: drawn again")


if __name__ == "__main__":
    main()
