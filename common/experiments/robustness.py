"""Choose a recipe by spoilt validation images: `python -m common.experiments.robustness --override '...' [...]`.

Each recipe is S10 step 2's with the overrides, trained on the training images but the last 5,000. These 5,000 judge it,
as they are and spoilt in each way of `common.data.corruptions`; no test image is read. Each trial is written to
`sessions/S10/search.json` at once, and one that stands there already is not trained again.
"""

import argparse
import json
from pathlib import Path

import torch

from common import data, models
from common.data.corruptions import CORRUPTIONS, corrupt
from common.recipe import ROOT, Augmentation, Options, Recipe, with_overrides
from common.system.files import write_atomically
from common.system.locks import wait_for_lock
from common.training import distillation, loops

LOG = ROOT / "sessions/S10/search.json"
BASE = Recipe(
    step="S10/step2_other_writers",
    epochs=4,
    batch_size=64,
    lr=0.2,
    momentum=0.9,
    nesterov=True,
    one_cycle=0.2,
    weight_decay=1e-4,
    ema_decay=0.998,
    augmentation=Augmentation(rotation=10, translation=0.08, scale=(0.9, 1.1), interpolation="bilinear"),
    network="S7/block4_one_view",
)


def main() -> None:
    """Train and judge each recipe in turn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--override", action="append", default=[], help="other values than the base recipe's")
    options = parser.parse_args()
    digits = data.load("mnist", validate=True)
    spoilt = {"": digits.test_images} | {kind: corrupt(digits.test_images, kind) for kind in CORRUPTIONS}
    for overrides in options.override:
        if any(row["overrides"] == overrides for row in log()):
            continue
        row = {"overrides": overrides, **judge(with_overrides(BASE, overrides), digits, spoilt)}
        with wait_for_lock(ROOT / "runs" / "search.lock"):
            write_atomically(LOG, json.dumps([*log(), row], indent=1) + "\n")
        print(f"clean {row['clean'] / 50:.2f} %  spoilt {row['mean']:.2f} %  {overrides}", flush=True)


def log() -> list[dict]:
    """The trials so far."""
    return json.loads(LOG.read_text()) if LOG.exists() else []


def judge(recipe: Recipe, digits: data.Digits, spoilt: dict) -> dict:
    """How many of the 5,000 the trained network reads, as they are and spoilt in each way."""
    device = torch.device("cpu")
    options = Options("mnist", None, "cpu", "held-out", "full", False, Path(), validate=True, network=recipe.network)
    torch.manual_seed(recipe.seed)
    model = models.build(recipe.network)
    moves = {"augmentation": recipe.augmentation, "shuffle": True, "seed": recipe.seed}
    batches = data.InMemoryLoader(digits.train_images, digits.train_labels, recipe.batch_size, **moves)
    tested = {"held-out": data.InMemoryLoader(digits.test_images, digits.test_labels, 1000)}
    loss = distillation.make_loss(recipe, digits, options, device)
    history = loops.fit(model, batches, tested, recipe, options, loss=loss)
    correct = {kind: right(model, images, digits.test_labels) for kind, images in spoilt.items()}
    clean, total = correct.pop(""), len(digits.test_labels)
    mean = 100 * sum(correct.values()) / total / len(correct)
    return {
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "clean": clean,
        "mean": round(mean, 3),
        "spoilt": correct,
        "seconds": round(sum(row["seconds"] for row in history), 1),
    }


def right(model, images, labels) -> int:
    """How many of the images the network reads as labelled."""
    return loops.evaluate(model, data.InMemoryLoader(images, labels, 1000)).correct


if __name__ == "__main__":
    main()
