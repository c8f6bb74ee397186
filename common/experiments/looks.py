"""One look beside nine, with a teacher and without: `python -m common.experiments.looks` trains what is missing.

S8 step 7's small network is trained by its recipe with each seed, once with the teacher and once without. Its large
network is trained without a teacher, and step 8's of 3,716 parameters with one: how these do the other way, their own
records say. Nine looks belong to the test alone, so each trained network is tested by one look and by nine. Each
finished run is written to `sessions/S8/looks.json` at once: counts of right test images after the last epoch. Nothing
is chosen by them.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from common import data, models
from common.experiments.seed_run import SeedRun
from common.experiments.study import cores, default_jobs
from common.models import test_time_augmentation
from common.recipe import ROOT
from common.records import comparison, store
from common.system import locks
from common.system.files import write_atomically
from common.training import distillation

STEP = "S8/step7_two_budgets"
RECORD = ROOT / "sessions/S8/looks.json"
NETWORKS = {  # of each way
    "without a teacher": "S8/under_8k_one_view",
    "with a teacher": "S8/under_8k_one_view",
    "large, without a teacher": "S8/under_20k_one_view",
    "frontier, with a teacher": "S8/frontier_3716",
}
SMALL = ("with a teacher", "without a teacher")  # the ways of the small network


def main() -> None:
    """Train the seeds that the record lacks, and test each by one look and by nine."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="runs side by side")
    asked = parser.parse_args()
    missing = [(how, seed) for how in NETWORKS for seed in range(1, asked.seeds + 1) if not run_of(how, seed)]
    with ThreadPoolExecutor(asked.jobs) as pool:
        work = [pool.submit(train, how, seed, max(1, cores() // asked.jobs)) for how, seed in missing]
        try:
            for one in work:
                one.result()
        except BaseException:  # also Ctrl-C, which reaches the runs themselves: no other one starts
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def train(how: str, seed: int, threads: int) -> None:
    """Train one seed, from its last checkpoint where there is one, and record both tests."""
    out = ROOT / "runs/looks" / how.replace(", ", "_").replace(" ", "_") / f"seed-{seed}"
    changes = f"network='{NETWORKS[how]}'" + (" teacher=''" if "without" in how else "")
    options = ["--data=mnist", f"--seed={seed}", f"--out={out}", f"--override={changes}"]
    run = SeedRun(f"{STEP} {how}, seed {seed}", ROOT / "sessions" / f"{STEP}.py", options, out)
    run.train(threads, lambda line: None)
    network = models.build(NETWORKS[how])
    network.load_state_dict(load_file(run.weights))
    digits = data.load("mnist")
    trained = json.loads(run.record.read_text(encoding="utf-8"))["runs"][0]
    epochs = [epoch["test_correct"] for epoch in trained["history"]]
    machine = {name: trained[name] for name in store.machine(torch.device("cpu"))}
    tested = counts(network.layers, digits.test_images, digits.test_labels)
    keep(how, {"seed": seed, **tested, "one look by epoch": epochs, **machine, "precision": trained["precision"]})


def counts(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, int]:
    """How many of the bytes [N, 28, 28] a network reads rightly: by one look, by nine, and what changed.

    `mended` are those that only nine looks read rightly, `broken` those that only one look does.
    """
    answers = look(network, images)
    one, nine = answers[0].argmax(dim=1) == labels, answers.mean(dim=0).argmax(dim=1) == labels
    found = {"one": one, "nine": nine, "mended": nine & ~one, "broken": one & ~nine}
    return {name: int(these.sum()) for name, these in found.items()} | {"total": len(labels)}


@torch.no_grad()
def look(network: nn.Module, images: Tensor) -> Tensor:
    """Log-probabilities [9, N, 10] of bytes [N, 28, 28], look by look; the first look is the image as it is.

    For speed BatchNorm's work is put into the kernels, which changes no answer.
    """
    quick = distillation.fuse_batchnorm(network).to(memory_format=torch.channels_last)
    device = next(network.parameters()).device
    looks = [test_time_augmentation.augment_views(data.normalise(part)).to(device) for part in images.split(28)]
    return torch.cat([quick(nine).unflatten(0, (9, -1)).cpu() for nine in looks], dim=1)


def recorded() -> dict[str, list[dict]]:
    """The runs by the ways of `NETWORKS`, each list by seed."""
    kept = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return {how: kept.get(how, []) for how in NETWORKS}


def run_of(how: str, seed: int) -> dict | None:
    """The recorded run of this seed, if there is one."""
    return next((run for run in recorded()[how] if run["seed"] == seed), None)


def accuracies(how: str, looks: str) -> dict[int, float]:
    """By seed, in per cent, with "one" look or "nine"."""
    return {run["seed"]: 100 * run[looks] / run["total"] for run in recorded()[how]}


def paired(first: tuple[str, str], second: tuple[str, str]) -> comparison.Comparison:
    """The second of two ways of training and looking against the first, seed by seed."""
    return comparison.paired(accuracies(*first), accuracies(*second))


def keep(how: str, run: dict) -> None:
    """Add a run to the record, which another process may have changed."""
    with locks.wait_for_lock(ROOT / "runs/looks/turn.lock"):
        record = recorded()
        record[how] = sorted(
            [*(one for one in record[how] if one["seed"] != run["seed"]), run], key=lambda one: one["seed"]
        )
        write_atomically(RECORD, json.dumps(record, indent=1) + "\n")
    print(f"{how}, seed {run['seed']}: one look {run['one']:,}, nine {run['nine']:,}", flush=True)


if __name__ == "__main__":
    main()
