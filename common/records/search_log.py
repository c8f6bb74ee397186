"""The log of a search, kept in a step's record: what was tried on the validation images, and what it scored there.

A trial is a recipe, named by its overrides of the step's own (`common.recipe`), with a run for each seed.
"""

import statistics
from collections.abc import Mapping

from common.recipe import Recipe, overrides_between
from common.records import store
from common.system.errors import UserError


def trial(record: dict, overrides: str) -> dict | None:
    """The trial with these overrides, or None."""
    return next((one for one in record.get("search", []) if one["overrides"] == overrides), None)


def accuracies(tried: dict | None, epoch: int = -1) -> dict[int, float]:
    """Accuracy on the validation images by seed, in per cent; none of a trial that there is not.

    After the last epoch, or after the one with the number `epoch`, counted from 1.
    """
    row = epoch if epoch < 0 else epoch - 1
    return {run["seed"]: 100 * run["correct"][row] / run["total"] for run in (tried or {"runs": []})["runs"]}


def validated(recipe: Recipe, epoch: int = -1) -> dict[int, float]:
    """What this recipe scored by the log of its step, as `accuracies` has it."""
    tried = store.load_if_any(recipe.step).get("search", [])
    same = (one for one in tried if not overrides_between(recipe, store.recipe_of(recipe.step, one["recipe"])))
    return accuracies(next(same, None), epoch)


def listing(own: Recipe, names: Mapping[str, str] | None = None) -> str:
    """The log of a step's search: a line for each trial with its seeds, mean accuracy, mean loss and arithmetic.

    A trial is called by its difference from the step's `own` recipe, or by what `names` has for that difference.
    """
    tried = store.load_if_any(own.step).get("search", [])
    lines = [f"{'recorded':<11}{len(tried)} recipes tried, {sum(len(one['runs']) for one in tried)} runs"]
    for one in tried:
        overrides = overrides_between(own, store.recipe_of(own.step, one["recipe"]))
        accuracy = statistics.fmean(accuracies(one).values())
        loss = statistics.fmean(run["loss"] for run in one["runs"])
        arithmetic = " and ".join(sorted({run["precision"] for run in one["runs"]}))
        called = (names or {}).get(overrides, overrides) or "the recipe as it stands"
        scored = f"{len(one['runs']):>2} seeds {accuracy:>8.3f} %  loss {loss:.5f}"
        lines.append(f"{'recorded':<11}{scored}  {arithmetic}  {called}")
    return "\n".join(lines)


def add(record: dict, overrides: str, found: dict) -> dict:
    """The record with a validated run in its log; one of the same seed is replaced. `found` is the run's own record.

    Raises UserError where the log holds runs of another recipe under these overrides: the step's recipe has changed.
    """
    run = found["runs"][0]
    brief = {"correct": [row["test_correct"] for row in run["history"]], "total": run["history"][-1]["test_total"]}
    brief["loss"] = run["history"][-1]["test_loss"]
    brief |= {name: value for name, value in run.items() if name not in ("protocol", "history", "compiled")}
    tried = trial(record, overrides) or {"overrides": overrides, "recipe": found["recipe"], "runs": []}
    if store.recipe_of(record["step"], tried["recipe"]) != store.recipe_of(record["step"], found["recipe"]):
        raise UserError(f"The search holds runs of another recipe under {overrides!r}; --validate --anew forgets them.")
    others = [other for other in tried["runs"] if other["seed"] != brief["seed"]]
    tried = {**tried, "runs": sorted([*others, brief], key=lambda one: one["seed"])}
    log = record.get("search", [])
    if trial(record, overrides) is None:
        return {**record, "search": [*log, tried]}
    return {**record, "search": [tried if one["overrides"] == overrides else one for one in log]}


def without(record: dict, overrides: str) -> dict:
    """The record without the trial with these overrides."""
    return {**record, "search": [one for one in record.get("search", []) if one["overrides"] != overrides]}
