"""A small experiment on a page: one value of a recipe is changed, and both ways are trained for seconds."""

import dataclasses
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from common import models, records
from common.data import Digits, InMemoryLoader
from common.recipe import Options, Recipe, overrides_between, with_overrides
from common.records import comparison
from common.system.streams import in_notebook
from common.training import evaluate, train_epoch
from common.training.acceleration import make_training_step
from common.training.optimizers import make_optimizer, make_schedule, weight_ema
from common.training.steps import Loss, nll_loss

HELD_OUT = 5_000  # training images, the last ones: nothing is chosen by the test images


def experiment(
    recipe: Recipe,
    options: Options,
    digits: Digits,
    device: torch.device,
    change: str = "",
    *,
    prediction: float | None = None,
    images: int = 2_000,
    held_out: int = HELD_OUT,
    epochs: int = 5,
    batch_size: int = 64,
    seeds: tuple[int, ...] = (1, 2, 3),
    network: Callable[[], nn.Module] | None = None,
    loss: Loss | None = None,
    in_training: bool = False,
    spoil: Callable[[Tensor], Tensor] | None = None,
) -> comparison.Comparison:
    """Train the recipe as it stands and with `change`, such as "lr=0.1", on a part of the digits, and print both.

    Each seed trains both ways from the same first weights (where the networks are the same) in the same order of the
    images. `network` builds another network for the changed side, and `loss` is what that side minimises. Accuracies,
    in per cent, are of `held_out` training images that are set aside. `prediction` is the reader's guess of the
    difference, in points. In a quick run, and in a script that trains the lesson's network in full, the experiment
    shrinks to one pass over 128 images. The random numbers that come after it are those that would come without it.
    With `in_training` it also prints the accuracies in training. `spoil` is done to the images that are set aside,
    uint8 [N, 28, 28], before they are measured.
    """
    headless = not in_notebook() and options.train == "full" and records.path_of(recipe.step).exists()
    if headless:  # nobody is there to compare it with a prediction, and a study would wait for it with every seed
        print(f"{'experiment':<11}shortened: it is for the notebook, or for --train recorded")
    if options.quick or headless:
        images, epochs = min(images, 128), 1
    held_out = min(held_out, len(digits.train_labels) // 4)
    some = slice(0, min(images, len(digits.train_labels) - held_out))
    rest = slice(len(digits.train_labels) - held_out, None)
    aside = spoil(digits.train_images[rest]) if spoil else digits.train_images[rest]
    test = InMemoryLoader(aside, digits.train_labels[rest], 1_000, device=device)
    small = dataclasses.replace(recipe, epochs=epochs, batch_size=batch_size)
    options = dataclasses.replace(options, train="full", protocol="held-out")

    def accuracies(recipe: Recipe, seed: int, build: Callable[[], nn.Module] | None, loss: Loss) -> tuple[float, float]:
        torch.manual_seed(seed)
        model = (build() if build else models.build(models.of(recipe))).to(device)
        batches = InMemoryLoader(
            digits.train_images[some],
            digits.train_labels[some],
            recipe.batch_size,
            augmentation=recipe.augmentation,
            shuffle=True,
            seed=seed,
            device=device,
        )
        recipe = dataclasses.replace(recipe, seed=seed)
        training_step = make_training_step(model, recipe, options, len(batches), loss, None)
        optimizer = make_optimizer(model, recipe, training_step.fused_optimizer)
        schedule, ema = make_schedule(optimizer, recipe, len(batches)), weight_ema(model, recipe)
        for _ in range(recipe.epochs):
            trained = train_epoch(model, batches, optimizer, training_step, schedule, ema)
        return evaluate(ema.module if ema else model, test).accuracy, trained.accuracy

    changed = with_overrides(small, change)
    started = time.perf_counter()
    ways = ((small, None, nll_loss), (changed, network, loss or nll_loss))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # batches this small gain little by a second one, and lose much beside another program
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            both = [{seed: accuracies(one, seed, build, by) for seed in seeds} for one, build, by in ways]
    finally:
        torch.set_num_threads(threads)
    seconds = time.perf_counter() - started
    sides = [{seed: tested for seed, (tested, _) in side.items()} for side in both]
    found = comparison.paired(*sides)
    other = "the other network" if network else "by the other loss" if loss else "the same again"
    names = ("as it is", overrides_between(small, changed) or other)
    width = max(map(len, names))
    for name, side in zip(names, sides, strict=True):
        each = "".join(f"{value:8.2f}" for value in side.values())
        print(
            f"{name:<{width}}  seeds {', '.join(map(str, seeds))}:{each}   mean {statistics.fmean(side.values()):.2f} %"
        )
    print(
        f"difference {found.difference:+.2f} points, 95 % interval {found.low:+.2f} to {found.high:+.2f} "
        f"({found.seeds} pairs, one comparison)"
    )
    if in_training:
        means = [statistics.fmean(trained for _, trained in side.values()) for side in both]
        told = ", ".join(f"{name} {mean:.2f} %" for name, mean in zip(names, means, strict=True))
        print(f"in training, last epoch, mean of the seeds: {told}")
    if prediction is None:
        print("You made no prediction.")
    else:
        print(f"You predicted {prediction:+.2f}: {abs(prediction - found.difference):.2f} points away.")
    trained = min(some.stop, len(digits.train_labels))
    print(
        f"Trained on {trained:,} images, {changed.epochs} epochs, batches of {changed.batch_size}; "
        f"measured on {held_out:,} others of the training images{', spoilt' if spoil else ''}; {seconds:.0f} seconds."
    )
    return found
