"""An epoch computed as a `TrainingVariant` of the benchmark says, and timed: the sources' way, ours, and between."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader
from tqdm import tqdm

from common import models, records
from common.cpu_kernels import chwn
from common.cpu_kernels.dropout import Dropout
from common.data import loaders
from common.experiments.bench import TrainingVariant
from common.experiments.roofline import IMAGES
from common.recipe import Options, Recipe
from common.training import acceleration, distillation, loops
from common.training.steps import make_forward_backward, nll_loss


def augmented_images_per_second(step: str, count: int, workers: int | None) -> float:
    """How fast the step's augmented training batches come: from memory (None), or from a DataLoader with `workers`."""
    recipe = recorded_recipe(step)
    images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8)
    arguments = {"augmentation": recipe.augmentation, "shuffle": True}
    labels = torch.zeros(count, dtype=torch.int64)
    if workers is None:
        loader = loaders.InMemoryLoader(images, labels, recipe.batch_size, **arguments)
    else:
        loader = loaders.classic_loader(images, labels, recipe.batch_size, workers=workers, **arguments)
    for _ in range(2):  # the first pass starts the workers
        started = time.perf_counter()
        for _batch in loader:
            pass
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure what the one argument asks for, as JSON; print the result as JSON."""
    request = json.loads(sys.argv[1])
    variant = TrainingVariant(**request.pop("variant"))
    print(json.dumps(time_epoch(variant=variant, **request)))


def time_epoch(step: str, variant: TrainingVariant, batches: int, epochs: int = 1) -> dict:
    """Seconds for an epoch of 60,000 images, from the last of `epochs` short ones, and the peak memory after each.

    `start_seconds` is what the two batches before them took: with a compiler, mostly its own time.
    """
    recipe = recorded_recipe(step)
    torch.manual_seed(recipe.seed)
    warm_up, count = 2 * recipe.batch_size, batches * recipe.batch_size  # first steps pay for memory and for kernels
    images = torch.randint(0, 256, (warm_up + count, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (len(images),))
    model = models.build(step).to(loops.choose_device(variant.device))
    train, started = trainer(model, recipe, variant), time.perf_counter()
    train(make_loader(variant, images[:warm_up], labels[:warm_up], recipe))
    start_seconds = time.perf_counter() - started
    loader, megabytes = make_loader(variant, images[warm_up:], labels[warm_up:], recipe), []
    if variant.workers:
        for _batch in loader:  # starts the workers, and leaves nothing of theirs to wait for
            pass
    for _ in range(epochs):
        started = time.perf_counter()
        train(loader)
        seconds = time.perf_counter() - started
        megabytes.append(peak_megabytes(variant.device))
    return {
        "seconds": seconds * IMAGES / count,
        "start_seconds": start_seconds,
        "precision": arithmetic(variant, step),
        "peak_megabytes": megabytes[-1],
        "megabytes_after_each_epoch": megabytes,
    }


def recorded_recipe(step: str) -> Recipe:
    """The recipe of the step's record."""
    return records.recipe_of(step, records.load(step)["recipe"])


def options_of(variant: TrainingVariant, step: str) -> Options:
    """The options of a run by this variant."""
    network = step if variant.chwn else ""
    return Options(
        data="auto",
        limit=None,
        device=variant.device,
        protocol="held-out",
        train="full",
        resume=False,
        out=Path(),
        precision=variant.precision,
        compile=variant.compiled,
        network=network,
    )


def arithmetic(variant: TrainingVariant, step: str) -> str:
    """The variant's precision, "auto" as `common.training.acceleration` settles it for the step on this machine."""
    return acceleration.precision(options_of(variant, step), torch.device(variant.device))


def make_loader(variant: TrainingVariant, images: Tensor, labels: Tensor, recipe: Recipe):
    """Batches of the same distribution, made by the loader that `variant.loader` names.

    "DataLoader" is torchvision's usual pipeline, "cached" the same with the images decoded beforehand, "no DataLoader"
    the same transforms in a plain loop, and "in memory" is `common.data.loaders.InMemoryLoader`.
    """
    arguments = {"augmentation": recipe.augmentation, "shuffle": True}
    if variant.loader == "in memory":
        return loaders.InMemoryLoader(images, labels, recipe.batch_size, **arguments, device=variant.device)
    classic = loaders.classic_loader(images, labels, recipe.batch_size, **arguments, workers=variant.workers)
    classic.pin_memory = variant.device == "cuda"
    if variant.loader == "DataLoader":
        return classic
    classic.dataset.images = [Image.fromarray(image) for image in images.numpy()]
    classic.dataset.decode = lambda image: image
    return {"cached": classic, "no DataLoader": Stacked(classic)}[variant.loader]


class Stacked:
    """The batches of a DataLoader's set without the DataLoader: shuffled, transformed one by one, stacked."""

    def __init__(self, classic: DataLoader):
        """`classic` gives the set and the size of a batch."""
        self.dataset, self.batch_size = classic.dataset, classic.batch_size

    def __len__(self) -> int:
        """The number of batches."""
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch."""
        for rows in torch.randperm(len(self.dataset)).split(self.batch_size):
            images, labels = zip(*(self.dataset[row] for row in rows.tolist()), strict=True)
            yield torch.stack(images), torch.tensor(labels)


def trainer(model: nn.Module, recipe: Recipe, variant: TrainingVariant):
    """A function that trains the model for one pass over a loader, as the variant says."""
    if not variant.fast_dropout:
        use_pytorch_dropout(model)
    if variant.keep_memory:
        acceleration.keep_memory()
    network = models.of(recipe)
    is_chwn = variant.chwn and arithmetic(variant, network) == "float32" and chwn.supports(model)
    if not is_chwn and variant.channels_last == "where it helps":
        acceleration.optimize_memory_layout(model)
    elif not is_chwn and variant.channels_last:
        model.to(memory_format=torch.channels_last)
    fused = is_chwn if variant.fused_optimizer == "with chwn" else variant.fused_optimizer
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, fused=fused or None)
    compiled_for = recipe.batch_size if variant.compiled else None
    layers = "chwn" if is_chwn else "library"
    forward = acceleration.forward(model, arithmetic(variant, network), compiled_for, layers)
    size = acceleration.micro_batch_size(model) if variant.micro_batches else None
    loss = nll_loss
    if recipe.teacher:  # an untrained one takes as long
        loss = distillation.loss_with(models.build(recipe.teacher), recipe, options_of(variant, network))
    training_step = make_forward_backward(forward, loss, size)
    if variant.cuda_graph:
        training_step = acceleration.CudaGraphStep(model, training_step, recipe.batch_size)
    if variant.read_each_batch:
        return lambda loader: sources_epoch(model, loader, optimizer)
    return lambda loader: loops.train_epoch(model, loader, optimizer, training_step)


def use_pytorch_dropout(model: nn.Module) -> None:
    """Turn the course's faster Dropout layers back into PyTorch's, which the sources have."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.__class__ = nn.Dropout


def sources_epoch(model: nn.Module, loader, optimizer) -> tuple[float, int]:
    """An epoch as the sources write it: a bar with the loss, and two numbers read back after every batch.

    Returns the last loss and the number of correct images, for a comparison with `common.training.loops.train_epoch`.
    """
    model.train()
    correct = processed = 0
    bar, device = tqdm(loader, disable=None), next(model.parameters()).device
    for data, target in bar:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        prediction = model(data)
        loss = F.nll_loss(prediction, target)
        loss.backward()
        optimizer.step()
        correct += prediction.argmax(dim=1, keepdim=True).eq(target.view(-1, 1)).sum().item()
        processed += len(data)
        bar.set_description(f"loss={loss.item()} accuracy={100 * correct / processed:0.2f}")
    return loss.item(), correct


def peak_megabytes(device: str = "cpu") -> float | None:
    """The most memory that this process has had so far; on a GPU what PyTorch reserved there; None on Windows."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved() / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage also counts what the parent had when it started this process
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts bytes


if __name__ == "__main__":
    main()
