"""Choose a recipe by spoilt validation images: `python -m common.experiments.robustness --override '...' [...]`.

Each recipe is S10 step 2's with the overrides, trained on the training images but the last 5,000. These 5,000 judge it,
as they are and spoilt in each way of `common.data.corruptions`; no test image is read. Each trial is written to
`sessions/S10/search.json` at once, and one that stands there already is not trained again.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from common import data, models
from common.data.corruptions import CORRUPTIONS, TOGETHER, corrupt
from common.recipe import ROOT, Options, Recipe, with_overrides
from common.records import store
from common.system.files import write_atomically
from common.system.locks import wait_for_lock
from common.training import distillation, loops

LOG = ROOT / "sessions/S10/search.json"


def base() -> Recipe:
    """S8 step 7's recipe as it is recorded, with one look and without its teacher, for four epochs."""
    recipe = store.recipe_of("S10/step2_other_writers", store.load("S8/step7_two_budgets")["recipe"])
    return replace(recipe, epochs=4, network="S8/under_8k_one_view", teacher="")


def main() -> None:
    """Train and judge each recipe in turn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--override", action="append", default=[], help="other values than the base recipe's")
    options = parser.parse_args()
    digits = data.load("mnist", validate=True)
    spoilt = {"": digits.test_images} | {kind: corrupt(digits.test_images, kind) for kind in (*CORRUPTIONS, *TOGETHER)}
    for overrides in options.override:
        if any(row["overrides"] == overrides for row in log()):
            continue
        row = {"overrides": overrides, **judge(with_overrides(base(), overrides), digits, spoilt)}
        with wait_for_lock(ROOT / "runs" / "search.lock"):
            write_atomically(LOG, json.dumps([*log(), row], indent=1) + "\n")
        print(f"clean {100 * row['clean'] / row['total']:.2f} %  spoilt {row['mean']:.2f} %  {overrides}", flush=True)


def log() -> list[dict]:
    """The trials so far."""
    return json.loads(LOG.read_text()) if LOG.exists() else []


def judge(recipe: Recipe, digits: data.Digits, spoilt: dict) -> dict:
    """How many of the validation images the trained network reads, as they are and spoilt in each way."""
    labels = digits.test_labels
    model, history = train(recipe, digits, (digits.test_images, labels))
    correct = measure(model, {kind: (images, labels) for kind, images in spoilt.items()})
    clean, total = correct.pop(""), len(labels)
    mean = 100 * sum(correct.values()) / total / len(correct)
    seconds = sum(row["seconds"] for row in history)
    brief = {"seed": recipe.seed, "epochs": recipe.epochs, "total": total, "clean": clean, "mean": round(mean, 3)}
    return {**brief, "spoilt": correct, "seconds": round(seconds, 1)}


def train(recipe: Recipe, digits: data.Digits, shown: tuple[Tensor, Tensor]) -> tuple[nn.Module, list[dict]]:
    """The recipe's network, trained on MNIST, and its history, measured on the images and labels `shown`."""
    options = Options("mnist", None, "cpu", "held-out", "full", False, Path(), network=recipe.network)
    torch.manual_seed(recipe.seed)
    model = models.build(recipe.network)
    moves = {"augmentation": recipe.augmentation, "shuffle": True, "seed": recipe.seed}
    batches = data.InMemoryLoader(digits.train_images, digits.train_labels, recipe.batch_size, **moves)
    loss = distillation.make_loss(recipe, digits, options, torch.device("cpu"))
    history = loops.fit(model, batches, {"held-out": data.InMemoryLoader(*shown, 1000)}, recipe, options, loss=loss)
    return model, history


def measure(network: nn.Module, sets: dict[str, tuple[Tensor, Tensor]]) -> dict[str, int]:
    """How many of each set of images [N, 28, 28] and labels [N] the network reads; an empty image is never read."""
    counts = {}
    for name, (images, labels) in sets.items():
        answers = loops.predict(network, data.InMemoryLoader(images, labels, 1000)).argmax(dim=1)
        counts[name] = int(((answers == labels) & (images.amax(dim=(1, 2)) > 0)).sum())
    return counts


if __name__ == "__main__":
    main()
