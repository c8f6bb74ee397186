"""What was measured: records as JSON files, read and written by `store`, and the statistics over their seeds.

`report` turns a record into the lines of a page; `comparison` says whether two steps differ; `search_log` keeps what
was tried on the validation images; `schema` says what a record must look like.
"""

from common.records.report import NOTHING_YET, bars, claims, recorded, save, target_text, verdict  # noqa: I001 - stands on `store`
from common.records.store import (
    Summary,
    accuracy,
    add_run,
    add_runs,
    as_text,
    fingerprint,
    head,
    load,
    load_if_any,
    machine,
    machine_line,
    make,
    measure,
    path_of,
    recipe_of,
    restore,
    runs,
    summarise,
    training_accuracy,
    weights,
    without_runs,
    write,
)

__all__ = [
    "NOTHING_YET",
    "Summary",
    "accuracy",
    "add_run",
    "add_runs",
    "as_text",
    "bars",
    "claims",
    "fingerprint",
    "head",
    "load",
    "load_if_any",
    "machine",
    "machine_line",
    "make",
    "measure",
    "path_of",
    "recipe_of",
    "recorded",
    "restore",
    "runs",
    "save",
    "summarise",
    "target_text",
    "training_accuracy",
    "verdict",
    "weights",
    "without_runs",
    "write",
]
