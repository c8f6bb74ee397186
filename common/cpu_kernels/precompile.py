"""Compile all loops and keep them on the disk: `python -m common.cpu_kernels.precompile`, in a process of its own.

A process that compiles the loops does not run the machine code that it keeps. numba compiles a loop for itself, and
once more as a part of the loop that calls it; the two round differently, and the process runs whichever came first. So
a first run on a machine would end with other bits than all later ones. Where the cache is empty, a process that does
nothing else fills it, and the run loads what every later run will load.
"""

import os
import subprocess
import sys

import torch
from torch import nn

from common.cpu_kernels import compiler
from common.system.streams import in_notebook


def precompile() -> None:
    """Fill the cache if that has not been done, which takes about 20 seconds. What fails here, fails in the run too."""
    if compiler.CACHE is None or (compiler.CACHE / "complete").exists():
        return
    if not in_notebook():  # a page would keep the line
        print("The CPU loops are compiled for this processor, once; that takes about 20 seconds.", file=sys.stderr)
    root = compiler.HERE.parents[1]
    paths = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        cwd=root,
        env=os.environ | {"PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if not done.returncode:
        (compiler.CACHE / "complete").touch()


def compile_all() -> None:
    """Run each loop once, forward and backward, on a chain that has every layer, in every form."""
    from common.cpu_kernels.autograd import Chain
    from common.cpu_kernels.layers import AveragePool, Convolution, ConvReluBatchNorm, MaxPool

    def block(inputs: int, outputs: int) -> ConvReluBatchNorm:
        return ConvReluBatchNorm(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), [])

    layers = [block(1, 4), block(4, 4), MaxPool(), AveragePool(2), Convolution(nn.Conv2d(4, 4, 1))]
    Chain(layers, [])(torch.zeros(16, 1, 8, 8)).sum().backward()


if __name__ == "__main__":
    compile_all()
