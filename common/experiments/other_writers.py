"""Measure every network of the course on digits of other writers: `python -m common.experiments.other_writers`.

The networks are those whose weights are recorded. What they read is written to `sessions/S10/other_writers.json`:
counts, and for S10 step 2's own network those of each seed, whose weights its study left in `runs/study`. Nothing is
chosen by these numbers; `common.experiments.robustness` chooses, by MNIST's validation images.

With `ablation` it trains S8 step 7's recipe with one thing changed, for three epochs and three seeds each, and measures
these networks in the same way.
"""

import argparse
import json
from dataclasses import replace

import torch
from safetensors.torch import load_file
from torch import Tensor

from common import data, models
from common.data import other_writers
from common.data.corruptions import corrupt
from common.data.images import grey_and_resize, prepare
from common.data.photos import photos
from common.experiments.robustness import base, measure, train
from common.recipe import ROOT, with_overrides
from common.records import store
from common.system.errors import UserError
from common.system.files import write_atomically

RECORD = ROOT / "sessions/S10/other_writers.json"
OWN = "S10/step2_other_writers"
PHOTOS, PHOTO_SEED = 200, 2026  # photos of each kind; no choice was made by this seed's
SETS = {
    "mnist": "MNIST test",
    "scikit-learn": "scikit-learn",
    "usps": "USPS",
    "coarse": "MNIST, coarse",
    "photos as they are": "photos, grey",
    "photos": "photos, prepared",
    "thin pens": "thin pens",
}
EPOCHS = 3  # of each network of the ablation
ABLATION = {  # one thing changed in S8 step 7's recipe without its teacher and with one look
    "S8 step 7, one look": "",
    "block 3's augmentation": "augmentation.rotation=5 augmentation.translation=0.0 augmentation.scale=(1.0,1.0) "
    "augmentation.crop_probability=0.1 augmentation.interpolation='nearest'",
    "ReLU in place of SiLU": "network='S8/under_8k_relu'",
    "blurred digits in training": "augmentation.blur=0.8",
}


def main() -> None:
    """Measure the recorded networks, or the ablation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=("networks", "ablation"), default="networks")
    options = parser.parse_args()
    if options.what == "ablation":
        ablation()
    else:
        networks()


def networks() -> None:
    """Every network with recorded weights; of our own every seed."""
    sets = load_sets()
    for path in sorted(ROOT.glob("sessions/S*/weights/*.safetensors")):
        name = f"{path.parts[-3]}/{path.stem}"
        if name not in models.NETWORKS:
            continue
        files = sorted((ROOT / "runs/study" / OWN).glob("seed-*/weights.safetensors")) if name == OWN else [path]
        if not files:
            print(f"{OWN} is left as it was recorded: its seeds are measured after `course.py study {OWN} --seeds 5`.")
            continue
        rows = []
        for file in files:
            network = models.build(name)
            network.load_state_dict(load_file(file))
            rows.append(measure(network, sets))
        keep("networks", name, {"parameters": models.count_parameters(network), "correct": rows}, sets)


def ablation() -> None:
    """S8 step 7's recipe with one thing changed; nine looks at the images besides, by the weights of the first."""
    sets = {name: pair for name, pair in load_sets().items() if name in ("mnist", "scikit-learn", "coarse")}
    digits = data.load("mnist")
    for name, overrides in ABLATION.items():
        done = recorded().get("ablation", {}).get(name, {}).get("correct", [])
        rows, nine = list(done), list(recorded().get("ablation", {}).get("nine looks", {}).get("correct", []))
        for seed in range(len(done) + 1, 4):
            recipe = replace(with_overrides(base(), overrides), seed=seed, epochs=EPOCHS)
            network, _ = train(recipe, digits, (digits.train_images[:1000], digits.train_labels[:1000]))
            rows.append(measure(network, sets))
            if not overrides:
                looks = models.build("S8/step7_two_budgets")
                looks.load_state_dict(network.state_dict())
                nine.append(measure(looks, sets))
                keep("ablation", "nine looks", {"overrides": "", "correct": nine}, sets)
            keep("ablation", name, {"overrides": overrides, "correct": rows}, sets)


def load_sets() -> dict[str, tuple[Tensor, Tensor]]:
    """Images uint8 [N, 28, 28] and labels [N] of each of `SETS`; raises UserError where MNIST or USPS is missing."""
    mnist = data.load("mnist")
    sets = {"mnist": (mnist.test_images, mnist.test_labels)}
    sets["scikit-learn"], sets["usps"] = other_writers.scikit_learn(), other_writers.usps()
    sets["coarse"] = corrupt(mnist.test_images, "coarse, 7 dots"), mnist.test_labels
    taken = photos(PHOTOS, PHOTO_SEED)
    labels = torch.tensor([one.label for one in taken])
    sets["photos as they are"] = torch.stack([grey_and_resize(one.image) for one in taken]), labels
    sets["photos"] = torch.stack([only_digit(one.image) for one in taken]), labels
    thin = photos(PHOTOS, PHOTO_SEED + 1, pen="thin")
    sets["thin pens"] = torch.stack([only_digit(one.image) for one in thin]), torch.tensor([one.label for one in thin])
    return sets


def only_digit(image) -> Tensor:
    """The one digit of a photo in MNIST's form; where none or several were found, an empty image, which is an error."""
    try:
        found = prepare(image).images
    except UserError:
        found = []
    return found[0] if len(found) == 1 else torch.zeros(28, 28, dtype=torch.uint8)


def recorded() -> dict:
    """What was measured before."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def keep(part: str, name: str, found: dict, sets: dict) -> None:
    """Write one network's counts to the record at once."""
    record = recorded()
    totals = {one: len(labels) for one, (_, labels) in sets.items()}
    record["totals"] = record.get("totals", {}) | totals
    record[part] = record.get(part, {}) | {name: found | {"machine": store.machine(torch.device("cpu"))}}
    write_atomically(RECORD, json.dumps(record, indent=1) + "\n")
    means = {one: sum(row[one] for row in found["correct"]) / len(found["correct"]) for one in totals}
    print(name, *(f"{one} {100 * means[one] / totals[one]:.2f}" for one in totals), sep="  ", flush=True)


if __name__ == "__main__":
    main()
