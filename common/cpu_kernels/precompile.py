"""Compile the loops before a run: `python -m common.cpu_kernels.precompile [LOOP...]`, in processes of their own.

A process that compiles the loops does not run the machine code that it keeps. numba compiles a loop for itself, and
once more as a part of the loop that calls it; the two round differently, and the process runs whichever came first. So
a first run on a machine would end with other bits than all later ones. What the cache lacks is compiled by processes
that do nothing else, and the run loads what every later run will load.
"""

import os
import subprocess
import sys
import time

import torch
from torch import nn

from common.cpu_kernels import compiler
from common.cpu_kernels.autograd import ExecutionPlan
from common.cpu_kernels.layers import (
    AveragePool,
    BatchNorm,
    ConvBatchNorm,
    ConvBatchNormTesting,
    Convolution,
    ConvReluBatchNorm,
    DepthwiseConvolution,
    Dropout,
    Layer,
    MaxPool,
    ReLU,
)
from common.system import locks
from common.system.streams import in_notebook


def precompile(layers: list[Layer]) -> None:
    """Fill the cache with the loops that these layers need, in training and in testing.

    What fails here, fails in the run too.
    """
    if compiler.CACHE is None:
        return
    loops = {name for layer in layers for name in LOOPS[type(layer), getattr(layer, "is_depthwise", False)]}
    if not _missing(loops):
        return
    quiet, started = in_notebook(), time.perf_counter()  # a page would keep the lines
    if not quiet:
        print(f"Compiling {len(_missing(loops))} CPU loops for this processor, once on a machine ...", file=sys.stderr)
    with locks.wait_for_lock(compiler.CACHE / "turn.lock"):  # of several runs that start together, one compiles
        _compile_in_processes(_missing(loops))
    if not quiet:
        print(f"... took {time.perf_counter() - started:.0f} seconds.", file=sys.stderr)


def _missing(loops: set[str]) -> list[str]:
    """Those of the loops that the cache lacks."""
    return sorted(name for name in loops if not (compiler.CACHE / f"{name}.complete").exists())


def _compile_in_processes(names: list[str]) -> None:
    """Compile the loops of these names in as many processes as there are cores, and mark what is done."""
    names = sorted(names, key=lambda name: -SECONDS.get(name, 1))
    count = min(len(names), os.cpu_count() or 1, 4)
    shares: list[list[str]] = [[] for _ in range(count)]
    for name in names:  # to whoever has the least to do
        min(shares, key=lambda share: sum(SECONDS.get(one, 1) for one in share)).append(name)
    root = compiler.HERE.parents[1]
    paths = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {"cwd": root, "env": os.environ | {"PYTHONPATH": paths}, "stdin": subprocess.DEVNULL}
    outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen([sys.executable, "-m", __name__, *share], **settings, **outputs) for share in shares]
    for share, process in zip(shares, processes, strict=True):
        if not process.wait():
            for name in share:
                (compiler.CACHE / f"{name}.complete").touch()


def calls() -> dict[str, tuple]:
    """Each loop that a plan calls, by its name, with arguments of the types that every plan gives it."""

    def dense(padding: int = 1) -> nn.Conv2d:
        return nn.Conv2d(4, 4, 3, padding=padding)

    depthwise, norm = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4)
    training = [
        ConvReluBatchNorm(dense(), norm),
        ConvBatchNorm(dense(), norm, None),
        ConvBatchNorm(depthwise, norm, None),
        DepthwiseConvolution(depthwise),
        Convolution(dense(0)),
        ReLU(),
        Dropout(nn.Dropout(0.1)),
        BatchNorm(norm, training=True),
        MaxPool(),
        AveragePool(2),
    ]
    testing = [
        ConvBatchNormTesting(dense(), norm, None, relu_first=True),
        ConvBatchNormTesting(depthwise, norm, None, relu_first=False),
        BatchNorm(norm, training=False),
    ]
    found = {}
    for layers, in_training in ((training, True), (testing, False)):
        plan = ExecutionPlan(layers, (4, 12, 12, 16), input_grad=True, training=in_training)
        if in_training:
            plan.prepare_backward()
        found |= {loop.__name__: (loop, arguments) for loop, arguments in (*plan.calls, *(plan.calls_back or ()))}
    return found


_RELU_BN = "conv_relu_bn_forward", "conv_relu_bn_backward", "conv_bn_testing"
_BN = "conv_bn_forward", "conv_bn_backward", "conv_bn_testing"
_DEPTHWISE_BN = "depthwise_bn_forward", "depthwise_bn_backward", "depthwise_bn_testing"
LOOPS = {  # of each kind of layer, depthwise or not
    (ConvReluBatchNorm, False): _RELU_BN,
    (ConvBatchNorm, False): _BN,
    (ConvBatchNorm, True): _DEPTHWISE_BN,
    (ConvBatchNormTesting, False): ("conv_bn_testing",),
    (ConvBatchNormTesting, True): ("depthwise_bn_testing",),
    (Convolution, False): ("conv_forward", "conv_backward"),
    (DepthwiseConvolution, False): ("depthwise_forward", "depthwise_backward"),
    (ReLU, False): ("relu_forward", "relu_backward"),
    (Dropout, False): ("dropout_forward", "dropout_backward"),
    (BatchNorm, False): ("bn_forward", "bn_backward", "bn_testing"),
    (MaxPool, False): ("max_pool_forward", "max_pool_backward"),
    (AveragePool, False): ("average_pool_forward", "average_pool_backward"),
}
SECONDS = {  # that the longest take to compile, about; the others one or less
    "conv_relu_bn_forward": 6,
    "conv_relu_bn_backward": 5,
    "conv_bn_forward": 5,
    "conv_bn_backward": 5,
    "depthwise_bn_forward": 4,
    "depthwise_bn_backward": 4,
    "conv_backward": 3,
    "conv_bn_testing": 3,
    "depthwise_bn_testing": 2,
    "bn_forward": 3,
    "bn_backward": 2,
    "depthwise_backward": 2,
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    of_name = calls()
    for _name in sys.argv[1:] or of_name:
        _loop, _arguments = of_name[_name]
        _loop(*_arguments)
