"""Batches by shares: `python -m common.experiments.shares` trains by one process and by two what is missing.

On CPUs each process's BatchNorm sees its share of a batch only. S7 block 1's network is trained with each seed by one
process and by two, for few epochs on few images, and tested on validation images. Each finished run is written to
`sessions/S11/batchnorm_shares.json` at once: its count of right images after the last epoch.
"""

import argparse
import json

import torch

from common.experiments.seed_run import SeedRun
from common.recipe import ROOT
from common.records import comparison, store
from common.system import locks
from common.system.files import write_atomically

STEP = "S7/block1"
RECORD = ROOT / "sessions/S11/batchnorm_shares.json"
FOLDER = ROOT / "runs/batchnorm_shares"
PROCESSES = (1, 2)
TRAINED = ("--data=mnist", "--validate", "--limit=10000", "--epochs=3", "--device=cpu")


def main() -> None:
    """Train the seeds that the record lacks, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    for processes in PROCESSES:
        for seed in range(1, asked.seeds + 1):
            if seed not in accuracies(processes):
                train(processes, seed)


def train(processes: int, seed: int) -> None:
    """Train one seed, from its last checkpoint where there is one, and record it. Each process has one thread."""
    out = FOLDER / f"processes-{processes}" / f"seed-{seed}"
    options = [*TRAINED, f"--seed={seed}", f"--processes={processes}", f"--out={out}"]
    run = SeedRun(f"{STEP} with seed {seed}, processes: {processes}", ROOT / f"sessions/{STEP}.py", options, out)
    run.train(1, lambda line: None)
    (trained,) = json.loads(run.record.read_text(encoding="utf-8"))["runs"]
    last = trained["history"][-1]
    machine = {name: trained[name] for name in (*store.machine(torch.device("cpu")), "precision", "layers")}
    counts = {"correct": last["test_correct"], "total": last["test_total"], "seconds": round(trained["seconds"], 1)}
    keep({"processes": trained.get("processes", 1), "seed": seed, **counts, **machine})


def recorded() -> list[dict]:
    """The runs, in the order of the processes and the seeds."""
    return json.loads(RECORD.read_text(encoding="utf-8"))["runs"] if RECORD.exists() else []


def accuracies(processes: int) -> dict[int, float]:
    """On the validation images, in per cent, by seed."""
    return {run["seed"]: 100 * run["correct"] / run["total"] for run in recorded() if run["processes"] == processes}


def paired() -> comparison.Comparison:
    """Two processes against one, seed by seed."""
    return comparison.paired(*(accuracies(processes) for processes in PROCESSES))


def keep(run: dict) -> None:
    """Add a run to the record, which another process may have changed."""

    def key(one: dict) -> tuple[int, int]:
        return one["processes"], one["seed"]

    with locks.wait_for_lock(FOLDER / "turn.lock"):
        runs = sorted([*(one for one in recorded() if key(one) != key(run)), run], key=key)
        write_atomically(RECORD, json.dumps({"step": STEP, "options": TRAINED, "runs": runs}, indent=1) + "\n")
    print(f"processes {run['processes']}, seed {run['seed']}: {run['correct']:,} of {run['total']:,}", flush=True)


if __name__ == "__main__":
    main()
