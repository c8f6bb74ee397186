"""How long an epoch takes, the sources' way and ours, side by side on this machine: `python -m common.bench`.

Each measurement is a process of its own, so that nothing one loop leaves behind (caches, an allocator's free list)
helps or hurts the other, and the two take turns, so that a machine that slows down slows both. The images are random
pixels: how long a batch takes does not depend on what is drawn, and the benchmark needs no network.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common.errors import UserError
from common.files import write_atomically
from common.recipe import ROOT, Augmentation, Recipe

IMAGES = 60_000  # of MNIST's training set: the epoch that times are given for
LOOPS = ("sources", "ours")
STEPS = {  # the sources' recipes, and how many batches are timed: a few seconds' worth
    "S5/step1_first_network": (
        Recipe(
            step="S5/step1_first_network",
            epochs=20,
            batch_size=512,
            lr=0.01,
            momentum=0.9,
            augmentation=Augmentation(rotation=15, crop_probability=0.1),
        ),
        4,
    ),
    "S6/part2_step3_global_pooling": (
        Recipe(step="S6/part2_step3_global_pooling", epochs=20, batch_size=128, lr=0.01, momentum=0.9),
        40,
    ),
    "S7/block3": (
        Recipe(
            step="S7/block3",
            epochs=14,
            batch_size=64,
            lr=0.02,
            momentum=0.8,
            augmentation=Augmentation(rotation=5, crop_probability=0.1),
        ),
        80,
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """The command line: print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="course.py bench", description=__doc__.split(":")[0] + ".")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each loop (default: 3)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench.json", help="default: runs/bench.json")
    parser.add_argument("--worker", nargs=2, metavar=("STEP", "LOOP"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps(time_epoch(*options.worker)))
        return
    if options.repeats < 1:
        raise UserError(f"--repeats must be at least 1, not {options.repeats}.")
    result = compare(options.repeats)
    print(table(result))
    write_atomically(options.out, json.dumps(result, indent=1) + "\n")


def compare(repeats: int) -> dict:
    """Every step's two loops in turn, `repeats` times, and what the machine can do at best."""
    import torch

    from common import anatomy, models, records

    flops, bandwidth = matrix_product_rate(), copy_bandwidth()
    steps = {}
    for step in STEPS:
        runs = {loop: [] for loop in LOOPS}
        for _ in range(repeats):
            for loop in LOOPS:
                runs[loop].append(_measure(step, loop))
                print(f"{'measured':<11}{step} {loop}: {runs[loop][-1]['seconds']:.1f} s an epoch", file=sys.stderr)
        multiply_adds = sum(layer.multiply_adds for layer in anatomy.layers(models.build(step)))
        # A backward pass costs two forward passes: one for the gradient of the inputs, one for that of the weights.
        steps[step] = {**runs, "least_seconds": 3 * 2 * multiply_adds * IMAGES / flops}
    here = records.machine(torch.device("cpu"))
    return {**here, "matrix_product_flops": flops, "copy_bytes_per_second": bandwidth, "steps": steps}


def table(result: dict) -> str:
    """The comparison as aligned text: medians, with minimum and maximum in brackets."""
    lines = [
        f"{'seconds an epoch of 60,000 images':<34}{'sources':>20}{'ours':>20}{'ratio':>7}"
        f"{'images/s':>10}{'of the limit':>14}{'memory':>9}"
    ]
    for step, runs in result["steps"].items():
        seconds = {loop: sorted(run["seconds"] for run in runs[loop]) for loop in LOOPS}
        middle = {loop: statistics.median(values) for loop, values in seconds.items()}
        shown = [f"{middle[loop]:.1f} ({seconds[loop][0]:.1f}-{seconds[loop][-1]:.1f})" for loop in LOOPS]
        memory = max(run["peak_megabytes"] or 0 for run in runs["ours"])
        lines.append(
            f"{step:<34}{shown[0]:>20}{shown[1]:>20}{middle['sources'] / middle['ours']:>7.1f}"
            f"{IMAGES / middle['ours']:>10,.0f}{100 * runs['least_seconds'] / middle['ours']:>12.0f} %{memory:>6.0f} MB"
        )
    lines.append(
        f"{result['device']}, {result['threads']} threads, {result['machine']}, torch {result['torch']}; "
        f"matrix product {result['matrix_product_flops'] / 1e9:.0f} GFLOP/s, "
        f"copy {result['copy_bytes_per_second'] / 1e9:.0f} GB/s"
    )
    return "\n".join(lines)


def _measure(step: str, loop: str) -> dict:
    command = [sys.executable, "-m", "common.bench", "--worker", step, loop]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"The measurement of {step}, {loop}, failed (see above).")
    return json.loads(done.stdout)


def time_epoch(step: str, loop: str) -> dict:
    """In this process: seconds for an epoch of 60,000 images, from fewer, and the process's peak memory in MB."""
    import torch

    from common import loaders, loops, models

    recipe, batches = STEPS[step]
    torch.manual_seed(recipe.seed)
    images = torch.randint(0, 256, ((batches + 2) * recipe.batch_size, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (len(images),))
    model = models.build(step)
    if loop == "sources":
        use_pytorch_dropout(model)
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum)
    make, epoch = {
        "sources": (loaders.classic_loader, sources_epoch),
        "ours": (loaders.InMemoryLoader, loops.train_epoch),
    }[loop]
    warm_up = 2 * recipe.batch_size  # the first steps pay for memory and for the choice of kernels
    for part in (slice(0, warm_up), slice(warm_up, None)):
        loader = make(images[part], labels[part], recipe.batch_size, augmentation=recipe.augmentation, shuffle=True)
        started = time.perf_counter()
        epoch(model, loader, optimizer)
        seconds = time.perf_counter() - started
    return {"seconds": seconds * IMAGES / (batches * recipe.batch_size), "peak_megabytes": _peak_megabytes()}


def use_pytorch_dropout(model) -> None:
    """Turn the course's faster Dropout layers back into PyTorch's, which the sources have."""
    from torch import nn

    from common.layers import Dropout

    for module in model.modules():
        if isinstance(module, Dropout):
            module.__class__ = nn.Dropout


def sources_epoch(model, loader, optimizer) -> tuple[float, int]:
    """An epoch as the sources write it: a bar with the loss, and two numbers read back after every batch.

    Returns the last loss and the number of correct images, for a comparison with `common.loops.train_epoch`.
    """
    import torch.nn.functional as F  # noqa: N812
    from tqdm import tqdm

    model.train()
    correct = processed = 0
    bar = tqdm(loader, disable=None)
    for data, target in bar:
        optimizer.zero_grad()
        prediction = model(data)
        loss = F.nll_loss(prediction, target)
        loss.backward()
        optimizer.step()
        correct += prediction.argmax(dim=1, keepdim=True).eq(target.view(-1, 1)).sum().item()
        processed += len(data)
        bar.set_description(f"loss={loss.item()} accuracy={100 * correct / processed:0.2f}")
    return loss.item(), correct


def matrix_product_rate(size: int = 2048) -> float:
    """Floating-point operations a second in the best of five float32 products of two [size, size] matrices."""
    import torch

    matrix = torch.rand(size, size)
    return 2 * size**3 / _best_of_five(lambda: matrix @ matrix)


def copy_bandwidth(count: int = 2**26) -> float:
    """Bytes read and written a second in the best of five copies of `count` float32 numbers."""
    import torch

    source, target = torch.rand(count), torch.empty(count)
    return 2 * 4 * count / _best_of_five(lambda: target.copy_(source))


def _best_of_five(action) -> float:
    times = []
    for _ in range(6):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _peak_megabytes() -> float | None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    unit = 1e6 if sys.platform == "darwin" else 1e3  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
