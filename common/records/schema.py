"""What a record must look like; a damaged one is refused where it is read, and whoever reads it can rely on it."""

LARGEST = 2**24  # bytes of a record's file; the course's own have a thousandth
MOST = 10**12  # for counts, seconds and losses, so that no arithmetic overflows


def check(record) -> None:
    """Raise TypeError, ValueError or KeyError, with what is wrong, unless `record` has a record's form.

    A value that nobody reads back is not looked at.
    """
    _require(type(record) is dict, "it is no object")
    _require(type(record["runs"]) is list, "its runs are not a list")
    if record["runs"]:
        _count(record["parameters"], "parameters", 0)
        _require(type(record["data"]) is dict, "its data is no object")
    for run in record["runs"]:
        _require(type(run["protocol"]) is str, "a protocol is no text")
        _number(run["seconds"], "seconds")
        _seeded(run)
        _require(type(run["history"]) is list and run["history"] != [], "a history has no epochs")
        for epoch, row in enumerate(run["history"], 1):
            _require(row["epoch"] == epoch, f"epoch {epoch} is not where it belongs")
            for part in ("train", "test"):
                _share(row[f"{part}_correct"], row[f"{part}_total"])
    for trial in record.get("search", []):
        _require(
            (type(trial["overrides"]), type(trial["recipe"])) == (str, dict), "a trial has no overrides or no recipe"
        )
        _require(type(trial["runs"]) is list and trial["runs"] != [], "a trial has no runs")
        for run in trial["runs"]:
            _seeded(run)
            _number(run["loss"], "a loss")
            _require(type(run["precision"]) is str, "a trial's arithmetic is no text")
            _require(type(run["correct"]) is list and run["correct"] != [], "a trial has no epochs")
            for correct in run["correct"]:
                _share(correct, run["total"])
    if (weights := record.get("weights")) is not None:
        _seeded(weights)
        _share(weights["test_correct"], weights["test_total"])


def _require(right: bool, wrong: str) -> None:
    if not right:
        raise ValueError(wrong)


def _count(value, name: str, least: int) -> None:
    _require(type(value) is int and least <= value <= MOST, f"{name} is no count")


def _number(value, name: str) -> None:
    _require(type(value) in (int, float) and 0 <= value <= MOST, f"{name} is no number")


def _seeded(run) -> None:
    _require(type(run) is dict and type(run["seed"]) is int, "a seed is no whole number")


def _share(correct, total) -> None:
    _count(total, "a total", 1)
    _count(correct, "a count of correct images", 0)
    _require(correct <= total, "more images are correct than there are")
