"""The roofline: what an epoch cannot do without, and how fast this machine multiplies and copies."""

import time

IMAGES = 60_000  # of MNIST's training set: the epoch that times are given for


def least_work(step: str) -> dict:
    """What an epoch of 60,000 images cannot do without: floating-point operations, and bytes to and from memory.

    A forward pass takes two operations for each multiply-add; a backward pass two forward passes, one for the gradient
    of the inputs and one for that of the weights. Each convolution's, pool's and dense layer's output is written and
    read once on the way forward, read once more on the way back, and its gradient is written and read: five times four
    bytes a value in float32. What lies between (ReLU, BatchNorm, Dropout) is taken as free, so this is a lower bound.
    """
    import math

    from common import models
    from common.models import anatomy

    layers = anatomy.layer_rows(models.build(step))
    return {
        "flop": 3 * 2 * sum(layer.multiply_adds for layer in layers) * IMAGES,
        "bytes": 5 * 4 * sum(math.prod(layer.shape) for layer in layers) * IMAGES,
    }


def limit_seconds(least: dict, rates: dict, precision: str = "float32") -> float:
    """The time in which this machine could do the least work, arithmetic and copying at the same time."""
    width = 4 if precision == "float32" else 2
    return max(least["flop"] / rates[f"{precision}_flops"], least["bytes"] * width / 4 / rates["copy_bytes_per_second"])


def machine(device: str = "cpu") -> dict:
    """The machine as the records describe it, and its measured rates of arithmetic and of copying."""
    import torch

    from common import records

    return {
        **records.machine(torch.device(device)),
        "float32_flops": matrix_product_rate(torch.float32, device),
        "bfloat16_flops": matrix_product_rate(torch.bfloat16, device),
        "copy_bytes_per_second": copy_bandwidth(device),
    }


def matrix_product_rate(dtype, device: str = "cpu", size: int | None = None) -> float:
    """Floating-point operations a second in the best of five products of two [size, size] matrices of this type.

    By default the size is 2,048 on a CPU and 8,192 on a GPU.
    """
    import torch

    size = size or (2048 if device == "cpu" else 8192)
    matrix = torch.rand(size, size, device=device).to(dtype)
    return 2 * size**3 / _best_of_five(lambda: matrix @ matrix, device)


def copy_bandwidth(device: str = "cpu", count: int = 2**26) -> float:
    """Bytes read and written a second in the best of five copies of `count` float32 numbers."""
    import torch

    source, target = torch.rand(count, device=device), torch.empty(count, device=device)
    return 2 * 4 * count / _best_of_five(lambda: target.copy_(source), device)


def _best_of_five(action, device: str) -> float:
    import torch

    times = []  # by hand: torch.utils.benchmark prints a warning about CUDA where there is none
    for _ in range(6):
        started = time.perf_counter()
        action()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])
