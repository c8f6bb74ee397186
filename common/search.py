"""The log of a search, kept in a step's record: what was tried on the validation images, and what it scored there.

A trial is a recipe, named by how it differs from the step's own (`common.changes`), with a run for each seed.
"""

from common import records
from common.errors import UserError


def trial(record: dict, change: str) -> dict | None:
    """What was tried under this change, or None."""
    return next((one for one in record.get("search", []) if one["change"] == change), None)


def accuracies(tried: dict | None) -> dict[int, float]:
    """Last-epoch accuracy on the validation images by seed, in per cent; none of a trial that there is not."""
    return {run["seed"]: 100 * run["correct"][-1] / run["total"] for run in (tried or {"runs": []})["runs"]}


def add(record: dict, change: str, found: dict) -> dict:
    """The record with a validated run in its log; one of the same seed is replaced. `found` is the run's own record.

    Raises UserError where the log holds runs of another recipe under this change, as it does when the step's recipe
    itself has changed.
    """
    run = found["runs"][0]
    brief = {"correct": [row["test_correct"] for row in run["history"]], "total": run["history"][-1]["test_total"]}
    brief["loss"] = run["history"][-1]["test_loss"]
    brief |= {name: value for name, value in run.items() if name not in ("protocol", "history", "compiled")}
    tried = trial(record, change) or {"change": change, "recipe": found["recipe"], "runs": []}
    if records.recipe_of(record["step"], tried["recipe"]) != records.recipe_of(record["step"], found["recipe"]):
        raise UserError(f"The search holds runs of another recipe under {change!r}; --validate --anew forgets them.")
    others = [other for other in tried["runs"] if other["seed"] != brief["seed"]]
    tried = {**tried, "runs": sorted([*others, brief], key=lambda one: one["seed"])}
    log = record.get("search", [])
    if trial(record, change) is None:
        return {**record, "search": [*log, tried]}
    return {**record, "search": [tried if one["change"] == change else one for one in log]}


def without(record: dict, change: str) -> dict:
    """The record without what was tried under this change."""
    return {**record, "search": [one for one in record.get("search", []) if one["change"] != change]}
