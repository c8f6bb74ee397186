"""What the tests of training by several processes run in each of them: `python shared_step.py FILE`.

Everything is computed on the CPU and saved by the first process into FILE, for the test to compare.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from common import data, models
from common.recipe import Options, Recipe
from common.system import processes
from common.training import distributed, loops
from common.training.acceleration import make_training_step

CPU = torch.device("cpu")


def batch(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with labels, the same in each process."""
    generator = torch.Generator().manual_seed(7)
    pixels = torch.randn(images, 1, 28, 28, generator=generator)
    return pixels, torch.randint(10, (images,), generator=generator)


def network(name: str) -> nn.Module:
    torch.manual_seed(1)
    return models.build(name)


def step_over(name: str, images: int, group=None) -> dict:
    """The gradients of one batch, its mean loss in this process and how many images that is the mean of."""
    model, recipe = network(name), Recipe(name, epochs=1, batch_size=64, lr=0.1)
    options = Options("builtin", None, "cpu", "held-out", "full", False, Path("nowhere"), "float32")
    training_step = make_training_step(model, recipe, options, 1, group=group)
    batches = [batch(images)]
    model.train()
    for some_images, some_labels in group.shares(batches) if group else batches:
        loss, _ = training_step(some_images, some_labels)
    gradients = [weight.grad.clone() for weight in model.parameters()]
    return {"gradients": gradients, "loss": float(loss), "images": len(some_labels), "model": model}


def short_run() -> list[dict]:
    """The history of two epochs of a network without BatchNorm; the last batch of each has 16 of 32 images."""
    digits = data.load("builtin", limit=48)
    train = data.InMemoryLoader(digits.train_images, digits.train_labels, 32, shuffle=True, seed=1)
    test = {"held-out": data.InMemoryLoader(digits.test_images[:20], digits.test_labels[:20], 20)}
    recipe = Recipe("S5/step1_first_network", epochs=2, batch_size=32, lr=0.01, momentum=0.9)
    options = Options("builtin", None, "cpu", "held-out", "full", False, Path("nowhere"), "float32")
    return loops.fit(network(recipe.step), train, test, recipe, options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    processes.begin()
    group = distributed.Group(CPU)
    found = {f"of {images}": step_over("S5/step1_first_network", images, group) for images in (64, 63, 2)}
    found = {name: {**values, "model": None} for name, values in found.items()}
    history = short_run()
    group.begin_epoch()
    drawn = [torch.zeros(()) for _ in range(group.count)]
    torch.distributed.all_gather(drawn, torch.rand(()))
    ghost = step_over("S7/block1", 64, group)["model"]
    group.average_statistics(ghost)
    statistics = torch.cat([buffer.flatten() for buffer in ghost.buffers() if buffer.is_floating_point()])
    both = [torch.zeros_like(statistics) for _ in range(group.count)]
    torch.distributed.all_gather(both, statistics)
    if group.rank == 0:
        torch.save({**found, "history": history, "drawn": drawn, "statistics": both}, sys.argv[1])
