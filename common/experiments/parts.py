"""The parts of an epoch, timed one by one: layouts, loops, loaders, growth, the price of a step.

`course.py bench --parts` measures them, and `--record` keeps them in RECORDED, which the pages of S9 show. What is
compared takes turns, call by call, so that a slow moment of the machine hits all of it.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from common.experiments import bench, roofline
from common.experiments.ablation import STEP
from common.recipe import ROOT

RECORDED = ROOT / "sessions/S9/bench_parts.json"
LAYERS = {  # four of S7 block 3's, on maps of 26x26, by the channels that come in and go out, and the kernel's side
    "convolution 32 to 8, 1x1": (32, 8, 1),
    "convolution 8 to 10, 3x3": (8, 10, 3),
    "BatchNorm of 32 channels": (32, 32, 0),
    "BatchNorm of 8 channels": (8, 8, 0),
}
SIXTHS = (1, 2, 4, 6)  # of MNIST's training images
BATCH_SIZES = (32, 64, 128, 256, 512)
RACE = "S9/time_to_accuracy"  # the network of the race to 99.40 %


def compare(quick: bool = False) -> dict:
    """All parts, and the machine."""
    from common.experiments.beside import machine

    calls = 3 if quick else 100
    return {
        **machine(),
        "layouts": layouts(calls),
        "convolution": convolution(calls),
        "block": block(calls),
        "loading": loading(quick),
        "growth": growth(quick),
        "megabytes": megabytes(quick),
        "steps": steps(calls),
        "start": start(quick),
    }


def medians(ways: dict[str, Callable[[], object]], calls: int) -> dict[str, float]:
    """The median seconds of a call of each way; they take turns, and the first call of each does not count."""
    taken = {name: [] for name in ways}
    for call in ways.values():
        call()
    for _ in range(calls):
        for name, call in ways.items():
            started = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def layouts(calls: int = 100) -> dict[str, dict[str, float]]:
    """Seconds of each of LAYERS, forward and backward on a batch of 64, with the pixels last and the channels last."""
    import torch
    from torch import nn

    names = {"pixels last": torch.contiguous_format, "channels last": torch.channels_last}

    def way(inputs: int, outputs: int, side: int, layout) -> Callable[[], object]:
        layer = nn.Conv2d(inputs, outputs, side, bias=False) if side else nn.BatchNorm2d(inputs)
        layer = layer.to(memory_format=layout)
        maps = torch.randn(64, inputs, 26, 26).to(memory_format=layout).requires_grad_()
        gradient = torch.randn_like(layer(maps))
        return lambda: layer(maps).backward(gradient)

    return {
        name: medians({words: way(*sizes, layout) for words, layout in names.items()}, calls)
        for name, sizes in LAYERS.items()
    }


def block(calls: int = 100) -> dict[str, float]:
    """Seconds of one of S7 block 3's blocks, forward and backward on 64 maps of 26x26, in each of three layouts.

    The block is a 3x3 convolution from 8 to 10 channels, ReLU, BatchNorm and Dropout.
    """
    import torch
    from torch import nn

    from common.cpu_kernels import chwn

    def way(layout: str) -> Callable[[], object]:
        layers = nn.Sequential(nn.Conv2d(8, 10, 3, bias=False), nn.ReLU(), nn.BatchNorm2d(10), nn.Dropout2d(0.01))
        maps, forward = torch.randn(64, 8, 26, 26), layers
        if layout == "channels last":
            layers, maps = (part.to(memory_format=torch.channels_last) for part in (layers, maps))
        if layout == "batch last":
            forward, maps = chwn.ChwnForward(layers), maps.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
        maps.requires_grad_()
        gradient = torch.randn_like(forward(maps))
        return lambda: forward(maps).backward(gradient)

    return medians({layout: way(layout) for layout in ("pixels last", "channels last", "batch last")}, calls)


def convolution(calls: int = 100) -> dict[str, float]:
    """Operations a second of a 3x3 convolution from 8 to 10 channels on 64 maps of 26x26, forward, in three ways.

    PyTorch's, the plain loop that S9 step 2 shows, and the blocks of sums that train the course's networks.
    """
    import numba
    import torch
    from torch import nn

    from common.cpu_kernels import compiler
    from common.cpu_kernels import convolution as ours

    @numba.njit(parallel=True, **compiler.OPTIONS)
    def number_by_number(maps, weights, bias, out):
        window, flat = ours.window(maps.shape, 3), maps.reshape(-1)
        for y in numba.prange(out.shape[1]):
            ours.short_lines(flat, y * maps.shape[2] * maps.shape[3], window, weights, bias, 0, len(out), y, out)

    maps, layer = torch.randn(64, 8, 26, 26), nn.Conv2d(8, 10, 3)
    weight, bias = (parameter.detach().numpy() for parameter in layer.parameters())
    lines = maps.permute(1, 2, 3, 0).contiguous().numpy(), ours.forward_weights(weight), bias
    out, operations = torch.empty(10, 24, 24, 64).numpy(), 2 * 8 * 9 * 10 * 24 * 24 * 64
    ways = {
        "PyTorch's": lambda: layer(maps),
        "ours, number by number": lambda: number_by_number(*lines, out),
        "ours, in blocks of sums": lambda: ours.convolve(*lines, 3, out),
    }
    with torch.no_grad():
        return {name: operations / seconds for name, seconds in medians(ways, calls).items()}


def loading(quick: bool = False) -> dict[str, float]:
    """Augmented images a second, without a network: from memory, and from a DataLoader without and with workers."""
    from common.experiments import variants

    ways = {"in memory": None, "DataLoader": 0, "DataLoader, 2 workers": 2}
    count = 256 if quick else 6_000
    return {name: variants.augmented_images_per_second(STEP, count, workers) for name, workers in ways.items()}


def growth(quick: bool = False) -> dict[str, float]:
    """Seconds of an epoch over so many images, by the default of the lessons; the keys are the numbers of images."""
    sixth = 2 if quick else 156  # batches
    found = {}
    for sixths in SIXTHS:
        images = 64 * sixths * sixth
        found[str(images)] = _default(sixths * sixth, quick)["seconds"] * images / roofline.IMAGES
    return found


def megabytes(quick: bool = False) -> list[float | None]:
    """The peak memory of a process after each of four epochs, each of a twelfth of MNIST."""
    return _default(2 if quick else bench.BATCHES[STEP], quick, epochs=4)["megabytes_after_each_epoch"]


def _default(batches: int, quick: bool, epochs: int = 1) -> dict:
    if not quick:
        return bench.measure(STEP, bench.VARIANTS["default"], batches, epochs)
    from common.experiments import variants

    return variants.time_epoch(STEP, bench.VARIANTS["default"], batches, epochs)


def steps(calls: int = 100) -> dict[str, float]:
    """Seconds of a training step of the race's network, by its number of images: PyTorch's layers in float32."""
    import torch

    from common import models
    from common.experiments.time_to_accuracy import RECIPE
    from common.training import optimizers, steps

    def way(size: int) -> Callable[[], object]:
        model = models.build(RACE)
        optimizer = optimizers.make_optimizer(model, RECIPE, False)
        images, labels = torch.randn(size, 1, 28, 28), torch.randint(0, 10, (size,))
        forward_backward = steps.make_forward_backward(model, steps.nll_loss, None)

        def step() -> None:
            optimizer.zero_grad()
            forward_backward(images, labels)
            optimizer.step()

        return step

    return medians({str(size): way(size) for size in BATCH_SIZES}, calls)


START = """
import time
moments = [time.time()]
import torch
moments.append(time.time())
from common import data, models
from common.experiments import time_to_accuracy
from common.training import acceleration, loops, optimizers
moments.append(time.time())
data.load("{digits}")
moments.append(time.time())
print(moments)
"""
PHASES = ("Python", "PyTorch", "the course", "reading the digits")


def start(quick: bool = False) -> dict[str, float]:
    """Seconds that a new process takes before the race's training can begin, by what it does."""
    code, began = START.format(digits="builtin" if quick else "mnist"), time.time()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    moments = [began, *json.loads(done.stdout.splitlines()[-1])]
    return {phase: after - before for phase, before, after in zip(PHASES, moments[:-1], moments[1:], strict=True)}


def table(result: dict) -> str:
    """Every part as text."""
    lines = []
    for name, found in result["layouts"].items():
        lines.append(f"{name:<26}" + "".join(f"{layout:>16} {1e3 * s:.2f} ms" for layout, s in found.items()))
    lines += [f"block 8 to 10, {layout:<28}{1e3 * seconds:>8.2f} ms" for layout, seconds in result["block"].items()]
    lines += [f"convolution, {name:<30}{rate / 1e9:>8.0f} GFLOP/s" for name, rate in result["convolution"].items()]
    lines += [f"loading, {name:<34}{rate:>8,.0f} images a second" for name, rate in result["loading"].items()]
    lines += [f"{int(images):>6,} images {seconds:>8.1f} s" for images, seconds in result["growth"].items()]
    lines.append("peak memory after each of four epochs: " + told(result["megabytes"]))
    lines += [f"a step of {size:>3} images{1e3 * seconds:>8.2f} ms" for size, seconds in result["steps"].items()]
    lines += [f"before the first batch, {phase:<20}{seconds:>6.2f} s" for phase, seconds in result["start"].items()]
    lines.append(f"{result['threads']} threads, {result['machine']}, torch {result['torch']}")
    return "\n".join(lines)


def told(megabytes: list[float | None]) -> str:
    """Peaks of memory in words; Windows does not tell them."""
    return ", ".join("unknown" if value is None else f"{value:,.0f}" for value in megabytes) + " MB"
