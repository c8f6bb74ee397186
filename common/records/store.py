"""What was measured, kept as JSON: one file per step, counts instead of percentages, every run, also the bad ones."""

import dataclasses
import hashlib
import json
import os
import platform
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from common import models
from common.data.digits import Digits
from common.models import anatomy
from common.models.fingerprint import structure
from common.recipe import ROOT, Augmentation, Options, Recipe, non_default_fields, overrides_between
from common.records import schema
from common.system.errors import UserError
from common.system.files import write_atomically
from common.system.streams import labelled
from common.training import acceleration
from common.training.loops import log_line


@dataclass(frozen=True)
class Summary:
    """The last-epoch test accuracies of a step's runs, in per cent; `deviation` is the sample standard deviation."""

    accuracies: tuple[float, ...]  # one per seed, in the order of the seeds
    mean: float
    deviation: float  # 0 for a single run, which says nothing about the spread
    minimum: float
    maximum: float


def machine(device: torch.device) -> dict:
    """Where a run took place: device, threads, processor, host and versions, as the record keeps them."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():  # Linux's platform.processor() is empty or only the architecture
        models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "machine": f"{processor}, {os.cpu_count()} cores, {platform.system()}",
        "host": os.environ.get("SLURMD_NODENAME") or platform.node(),  # on a cluster, the node as Slurm calls it
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def machine_line(device: torch.device, options: Options) -> str:
    """The machine as one line of a run's output."""
    return labelled("machine", _told(machine(device) | {"precision": acceleration.precision(options, device)}))


def head(recipe: Recipe, options: Options, digits: Digits, device: torch.device) -> str:
    """What a run's numbers stand on, in three lines: the digits, the machine, and whether anything is trained."""
    if options.recorded:
        run = _shipped(load(recipe.step))
        how = f"Recorded run: the weights and the history of seed {run['seed']}, trained before on {_told(run)}."
    elif options.quick:
        how = f"Quick run: {recipe.epochs} epochs over {len(digits.train_labels):,} images; its numbers mean little."
    else:
        how = f"Full run: {recipe.epochs} epochs over {len(digits.train_labels):,} images, seed {recipe.seed}."
    return f"{digits}\n{machine_line(device, options)}\n{labelled('training', how)}"


def _told(run: dict) -> str:
    """A run's machine in one line."""
    several = f"{run['processes']} processes, each with " if run.get("processes", 1) > 1 else ""
    return (
        f"{run['device']}, {several}{run['threads']} thread{'s' * (run['threads'] > 1)}, {run['precision']}, "
        f"{run['machine']}, torch {run['torch']}, Python {run['python']}"
    )


def fingerprint(recipe: Recipe, network: nn.Module | None = None) -> str:
    """SHA-256 of what was trained: the network's structure and what the recipe says, but for the seed.

    A record whose fingerprint is not today's was measured on another network or with another recipe. Values that are a
    field's default do not count, so that a recipe that gains a field keeps its fingerprint. Without `network` it is
    the one that the recipe names.
    """
    if network is None:
        with torch.random.fork_rng(devices=[]):
            network = models.build(models.of(recipe))
    said = non_default_fields(dataclasses.replace(recipe, seed=Recipe.seed))
    return hashlib.sha256(json.dumps([structure(network), said], sort_keys=True).encode()).hexdigest()


def make(recipe: Recipe, options: Options, model: nn.Module, digits: Digits, history: list[dict]) -> dict:
    """The record of one run, in the form of the step's record: a list of runs, with an entry for each protocol.

    Where nothing was trained it is the recorded run.
    """
    if options.recorded:
        record = load(recipe.step)
        return {**record, "runs": [_shipped(record)]}
    device, steps_per_epoch = next(model.parameters()).device, -(-len(digits.train_labels) // recipe.batch_size)
    chosen = getattr(model, "trained_with", None) or acceleration.choose(model, recipe, options, steps_per_epoch)
    how = {"precision": chosen.precision, "layers": chosen.layers, "compiled": chosen.compiled}
    here = {**machine(device), **how}
    if hasattr(model, "processes"):
        here["processes"] = model.processes
    seconds = sum(row["seconds"] for row in history)
    histories = _by_protocol(history, options.protocol)
    if digits.measured_on == "validation":
        histories = {"validation": histories[options.protocol]}
    runs = [
        {"seed": recipe.seed, "protocol": protocol, **here, "seconds": seconds, "history": rows}
        for protocol, rows in histories.items()
    ]
    return {
        "step": recipe.step,
        "recipe": {name: value for name, value in dataclasses.asdict(recipe).items() if name not in ("step", "seed")},
        "parameters": anatomy.count_parameters(model),
        "fingerprint": fingerprint(recipe, model),
        "data": {
            "name": digits.name,
            "sha256": digits.sha256,
            "train": len(digits.train_labels),
            "test": len(digits.test_labels),
        },
        "runs": runs,
    }


def restore(recipe: Recipe, model: nn.Module) -> list[dict]:
    """The history of the recorded run whose weights the course keeps; these weights go into `model`.

    It prints what `training.fit` printed when the run was trained. Raises UserError where there is no such run, or it
    was one of another recipe or network: what it measured would say nothing about this one.
    """
    record = load(recipe.step)
    run = _shipped(record)
    if fingerprint(recipe, model) != record["fingerprint"]:
        changed = overrides_between(recipe_of(recipe.step, record["recipe"]), recipe)
        other = f"recipe, which has {changed}" if changed else "network"
        raise UserError(f'The recorded run of {recipe.step} is not of this {other}; set TRAIN to "full" or "quick".')
    model.load_state_dict(models.load_trained(recipe.step).state_dict())
    for row in run["history"]:
        print(log_line(row, recipe.epochs))
    return run["history"]


def _shipped(record: dict) -> dict:
    """The held-out run of the record whose weights the course keeps. Raises UserError where it keeps none."""
    seed = (record.get("weights") or {}).get("seed")
    kept = [run for run in runs(record) if run["seed"] == seed]
    if not kept:
        raise UserError(f'The course keeps no trained weights of {record["step"]}; set TRAIN to "full".')
    return kept[0]


def write(path: Path, record: dict) -> Path:
    """Write the record `as_text`."""
    return write_atomically(path, as_text(record))


def as_text(record: dict) -> str:
    """The record as JSON, floats rounded to six decimals, a line for each epoch or trial, for a diff to be read."""
    text = json.dumps(_rounded(record), indent=1) + "\n"
    return re.sub(r'\{\s+"(?:epoch|correct)".*?\}', lambda row: " ".join(row[0].split()), text, flags=re.DOTALL)


def weights(model: nn.Module) -> bytes:
    """The weights and BatchNorm's running means in safetensors: numbers only, nothing that could run."""
    from safetensors.torch import save

    return save({name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()})


def path_of(step: str) -> Path:
    """Where the record of a step lies in the repository: sessions/S7/records/block3.json for S7/block3.

    Raises UserError for what cannot be a step's name, so that no name leads out of the sessions' folder.
    """
    if not re.fullmatch(r"S\d+/\w+", step):
        raise UserError(f"A step has a name such as S7/block3, not {step!r}.")
    session, name = step.split("/")
    return ROOT / "sessions" / session / "records" / f"{name}.json"


def load(path_or_step: Path | str) -> dict:
    """A record, from a file or by its step's name. Raises UserError for one that is missing or damaged."""
    path = path_or_step if isinstance(path_or_step, Path) else path_of(path_or_step)
    try:
        if path.stat().st_size > schema.LARGEST:
            raise ValueError(f"it has over {schema.LARGEST:,} bytes")
        record = json.loads(path.read_text(encoding="utf-8"))
        schema.check(record)
    except FileNotFoundError:
        raise UserError(f"There is no record {path}; `course.py study` measures a step and writes it.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise UserError(f"The record {path} is damaged ({error}); restore it from the repository.") from error
    return record


def load_if_any(step: str) -> dict:
    """The step's record, or one without runs: a new step trains before it has a record, and its study fills it."""
    return load(step) if path_of(step).exists() else {"step": step, "runs": []}


def add_run(record: dict, run: dict) -> dict:
    """The record with the run in it; a run of the same seed and protocol is replaced."""

    def key(run: dict):
        return run["protocol"], run["seed"]

    others = [other for other in record["runs"] if key(other) != key(run)]
    return {**record, "runs": sorted([*others, run], key=key)}


def add_runs(record: dict, found: dict, path: Path) -> dict:
    """The record with the runs of `found`. Raises UserError where they are of another network, recipe or data set."""
    if record["runs"] and any(found[name] != record.get(name) for name in ("fingerprint", "data")):
        raise UserError(f"{path} holds runs of another network, recipe or data set; --anew forgets them.")
    record = {**found, **{name: record[name] for name in ("runs", "weights", "search") if name in record}}
    for run in found["runs"]:
        record = add_run(record, run)
    return record


def without_runs(record: dict) -> dict:
    """The record without its runs and what follows from them; the log of the search stays."""
    return {**record, "runs": [], "weights": None, "summary": None}


def recipe_of(step: str, stored: dict) -> Recipe:
    """The recipe that a record, or a trial in its log, keeps as JSON, which knows no tuples."""
    augmentation = Augmentation(**{**stored["augmentation"], "scale": tuple(stored["augmentation"]["scale"])})
    return Recipe(**{**stored, "step": step, "augmentation": augmentation})


def runs(record: dict, protocol: str = "held-out") -> list[dict]:
    """The record's runs that were measured by this protocol, in the order of their seeds."""
    return [run for run in record["runs"] if run["protocol"] == protocol]


def processor(run: dict) -> str:
    """What computed a run: its GPU, or the kind of its CPU, as the system names it."""
    cpu = run.get("machine", "").rsplit(", ", 2)[0]
    return cpu if run.get("device", "cpu") == "cpu" else run["device"]


def other_processors(runs: list[dict]) -> dict[int, str]:
    """The seeds that another kind of processor computed than most of these runs, each with that processor."""
    if not runs:
        return {}
    kinds = [processor(run) for run in runs]
    usual = max(kinds, key=kinds.count)  # of equally many, the first
    return {run["seed"]: kind for run, kind in zip(runs, kinds, strict=True) if kind != usual}


def mark(others: dict[int, str]) -> str:
    """The seeds that `other_processors` found, in one line."""
    named = ", ".join(f"{seed} ({kind or 'unknown'})" for seed, kind in others.items())
    return f"computed on another kind of processor than most, so with other roundings: seed {named}"


def accuracy(run: dict, epoch: int = -1) -> float:
    """Test accuracy of a run in per cent at the given epoch, counted from 1; -1 is the last."""
    row = run["history"][epoch if epoch < 0 else epoch - 1]
    return 100 * row["test_correct"] / row["test_total"]


def summarise(record: dict, protocol: str = "held-out", epoch: int = -1) -> Summary:
    """Mean and spread over the seeds, at the given epoch. Raises ValueError when no run used this protocol."""
    values = tuple(accuracy(run, epoch) for run in runs(record, protocol))
    if not values:
        raise ValueError(f"the record of {record['step']} has no run by the protocol {protocol!r}")
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Summary(values, statistics.fmean(values), deviation, min(values), max(values))


def training_accuracy(record: dict) -> float:
    """Mean of the held-out runs' last-epoch accuracies on the training images as they were seen, in per cent."""
    last = [run["history"][-1] for run in runs(record)]
    return statistics.fmean(100 * row["train_correct"] / row["train_total"] for row in last)


def measure(run: dict, parameters: int) -> dict[str, float]:
    """The quantities that targets speak of, measured on one run; accuracies in per cent."""
    return {
        "parameters": parameters,
        "epochs": len(run["history"]),
        "test accuracy": accuracy(run),
        "test accuracy in each of the last 3 epochs": min(
            accuracy(run, -back) for back in (1, 2, 3)[: len(run["history"])]
        ),
    }


def _by_protocol(history: list[dict], protocol: str) -> dict[str, list[dict]]:
    """A history that measured both protocols as the two that would have measured one each."""
    if "source_total" not in history[-1]:
        return {"held-out" if protocol == "both" else protocol: history}
    held_out = [{name: value for name, value in row.items() if not name.startswith("source_")} for row in history]
    source = [
        {**row, **{f"test_{name}": full[f"source_{name}"] for name in ("loss", "correct", "total")}}
        for row, full in zip(held_out, history, strict=True)
    ]
    return {"held-out": held_out, "source": source}


def _rounded(value):
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
