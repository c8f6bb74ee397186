"""What makes a training step faster and leaves the recipe as it is: arithmetic, memory layout, compilers, CUDA graphs.

`choose` decides once for a run, and `make_training_step` builds what was chosen. Testing is always in float32.
"""

import ctypes
import functools
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from common import models
from common.cpu_kernels import chwn
from common.models.anatomy import batchnorm_sizes
from common.recipe import Options, Recipe
from common.system.errors import UserError
from common.training import distributed
from common.training.steps import Loss, make_forward_backward, nll_loss

# From how many steps of the optimizer on it pays. The compiler's start is won back on S7 block 3 and 2 cores by 17 s
# against 3.3 ms a step in float32, by 27 s against 1.4 ms in bfloat16 (`common.experiments.variants` measures both).
MIN_STEPS_COMPILED = {"float32": 5_000, "bfloat16": 20_000}
MIN_STEPS_CUDA_GRAPH = 100  # to record a graph takes less than a second
MIN_STEPS_CHWN = 800  # of which S7's gain 16 ms each: one such run wins back the 13 s of compiling once


@dataclass(frozen=True)
class Acceleration:
    """How a run computes its training steps: chosen once, and kept in its checkpoint and in its record."""

    precision: str = "float32"  # or "bfloat16": the arithmetic of the forward and the backward pass
    layers: str = "library"  # PyTorch's; or "chwn": those of `common.cpu_kernels`
    compiled: bool = False  # by torch.compile
    cuda_graph: bool = False


def choose(model: nn.Module, recipe: Recipe, options: Options, steps_per_epoch: int) -> Acceleration:
    """The fastest way to train this model that the options allow, by how long the run is and what is installed."""
    device, steps = next(model.parameters()).device, recipe.epochs * steps_per_epoch
    arithmetic = precision(options, device)
    is_chwn = device.type == "cpu" and arithmetic == "float32" and steps >= MIN_STEPS_CHWN
    is_chwn = is_chwn and chwn.supports(model)
    has_compiler = any(map(shutil.which, ("g++", "clang++", "cl")))
    compiled = options.compile and not is_chwn and has_compiler and steps >= MIN_STEPS_COMPILED[arithmetic]
    cuda_graph = device.type == "cuda" and steps >= MIN_STEPS_CUDA_GRAPH
    return Acceleration(arithmetic, "chwn" if is_chwn else "library", compiled, cuda_graph)


class TrainingStep:
    """The forward and the backward pass over a batch, computed as `chosen` says.

    Called with images [B, 1, 28, 28] and labels [B], it adds the gradients of the mean loss to those that the weights
    have, and returns the mean loss and the log-probabilities [B, 10].
    """

    def __init__(self, forward_backward: Callable, chosen: Acceleration):
        """`forward_backward` as `common.training.steps.make_forward_backward` makes it."""
        self.forward_backward, self.chosen = forward_backward, chosen
        self.fused_optimizer = chosen.layers == "chwn"  # elsewhere the optimizer's share of a step is small

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One batch; see the class's description."""
        return self.forward_backward(images, labels)


def make_training_step(
    model: nn.Module,
    recipe: Recipe,
    options: Options,
    steps_per_epoch: int,
    loss: Loss = nll_loss,
    checkpoint=None,
    group: distributed.Group | None = None,
) -> TrainingStep:
    """What trains the model fastest, or, when the `checkpoint` resumes a run, what that run began with.

    With a `group` of several processes each call computes a share of a batch.
    """
    chosen = checkpoint.acceleration() if checkpoint else None
    chosen = chosen or choose(model, recipe, options, steps_per_epoch)
    several = group is not None and group.count > 1
    if several:  # their exchange of gradients is neither compiled nor recorded
        chosen = replace(chosen, compiled=False, cuda_graph=False)
    if options.compile and not chosen.compiled:
        print(f"{'machine':<11}not compiled: {_why_not_compiled(chosen, several)}")
    model.trained_with = chosen  # for the record (`common.records.make`)
    keep_memory()
    if chosen.layers == "library":
        optimize_memory_layout(model)
    if several:
        network = distributed.with_synchronised_batchnorm(model) if group.device.type == "cuda" else model
        computed = forward(network, chosen.precision, layers=chosen.layers)
        return TrainingStep(group.forward_backward(network, computed, loss), chosen)
    computed = forward(model, chosen.precision, recipe.batch_size if chosen.compiled else None, chosen.layers)
    forward_backward = make_forward_backward(computed, loss, micro_batch_size(model))
    if chosen.cuda_graph:
        forward_backward = CudaGraphStep(model, forward_backward, recipe.batch_size)
    return TrainingStep(forward_backward, chosen)


def forward_in_testing(model: nn.Module, chosen: Acceleration) -> Callable[[Tensor], Tensor]:
    """What computes `model(images)` in the tests of a run that trains as `chosen` says."""
    return chwn.ChwnForward(model) if chosen.layers == "chwn" else model


def precision(options: Options, device: torch.device) -> str:
    """The arithmetic of the training's forward and backward pass: "float32" or "bfloat16".

    "auto" takes bfloat16 on a CPU with matrix units for it (Intel's AMX), where it is about twice as fast, unless the
    network is one for `common.cpu_kernels`, whose loops compute in float32. Weights, sums over a batch, the loss and
    the optimizer's step stay float32, and so does all testing.
    """
    if options.precision != "auto":
        return options.precision
    units = device.type == "cpu" and _has_matrix_units()
    return "bfloat16" if units and not supports_chwn(options.network) else "float32"


@functools.cache
def supports_chwn(name: str) -> bool:
    """Whether the network of that name (`common.models`) can train by `common.cpu_kernels`, and these can run here."""
    if name not in models.NETWORKS:
        return False
    with torch.device("meta"):  # draws no random numbers
        return chwn.supports(models.build(name))


def micro_batch_size(model: nn.Module) -> int | None:
    """How many images at a time go through the network in training; None is the whole batch.

    On a CPU, 64: what a layer has written is then still in the cache when the next one reads it. A network with
    BatchNorm trains on the whole batch at once, for its means are the batch's; a GPU needs it whole to be kept busy.
    """
    return 64 if _on_cpu(model) and not distributed.has_batchnorm(model) else None


def optimize_memory_layout(model: nn.Module) -> None:
    """Lay the weights out channels-last where that is faster on a CPU; their values stay as they are.

    Convolutions and max-pools are faster that way. PyTorch's BatchNorm of fewer than 16 channels is several times
    slower, which costs more than the rest wins where over a tenth of the normalised values are in such layers.
    """
    if not _on_cpu(model):
        return
    sizes = batchnorm_sizes(model)
    narrow = sum(values for channels, values in sizes if channels < 16)
    if narrow < 0.1 * max(1, sum(values for _, values in sizes)):
        model.to(memory_format=torch.channels_last)


def keep_memory() -> None:
    """Have the C library keep freed memory for the next step, instead of returning it to the system page by page.

    Each step allocates the same activations, megabytes each. On Linux, glibc gives them back when they are freed, and
    the system hands out and clears every page anew, up to thousands of times a step. Here blocks up to 32 MB, glibc's
    limit, come from the heap, and the heap never shrinks (M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # musl has none
        mallopt(-3, 2**25)
        mallopt(-1, 2**31 - 1)


def forward(
    model: nn.Module, arithmetic: str, compiled_for: int | None = None, layers: str = "library"
) -> Callable[[Tensor], Tensor]:
    """A function from images [N, 1, 28, 28] to log-probabilities float32 [N, 10] that shares the model's weights.

    `arithmetic` and `layers` are as `Acceleration` has them. `compiled_for` is the batch size to compile for; batches
    of another size (an epoch's last) go through the model as it is, rather than through the compiler once more.
    """
    if compiled_for:  # torch would warn that it finds no CUDA, also where nobody asked for it
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        _keep_compiled_apart()
    if layers == "chwn":
        return chwn.ChwnForward(model)
    compiled = torch.compile(model, dynamic=False) if compiled_for else model
    device = next(model.parameters()).device.type

    def compute(images: Tensor) -> Tensor:
        network = compiled if len(images) == compiled_for else model
        with torch.autocast(device, torch.bfloat16, enabled=arithmetic == "bfloat16"):
            log_probabilities = network(images)
        return log_probabilities.float()

    return compute


class CudaGraphStep:
    """A forward and a backward pass over batches of one size, recorded once as a CUDA graph and replayed in one call.

    A step of a small network is some hundreds of kernels of a few microseconds each, and to ask for one takes the
    processor longer than the GPU needs to run it. Recorded, they follow each other unasked
    (https://pytorch.org/docs/stable/notes/cuda.html#whole-network-capture). A graph reads and writes at fixed places:
    each batch is copied to where it looks for one, and the gradients are where it puts them. Batches of another size
    (an epoch's last) go the plain way. What happens before the recording leaves no trace: gradients, BatchNorm's
    running statistics and the random numbers are set back.
    """

    def __init__(self, model: nn.Module, forward_backward: Callable, batch_size: int):
        """`forward_backward` is for this model, on a GPU. Raises UserError if it cannot be recorded.

        Python code in the network and the loss runs now, and not again: it must not read a number back from the GPU.
        """
        device, self.weights = next(model.parameters()).device, list(model.parameters())
        self.forward_backward = forward_backward
        self.images = torch.zeros(batch_size, 1, 28, 28, device=device)
        self.labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
        before, self.graph = [buffer.clone() for buffer in model.buffers()], torch.cuda.CUDAGraph()
        model.train()
        with torch.random.fork_rng([device]):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):  # kernels are chosen and compiled in the first calls, outside the recording
                    forward_backward(self.images, self.labels)
            torch.cuda.current_stream().wait_stream(aside)
            model.zero_grad()
            try:
                with torch.cuda.graph(self.graph):
                    self.results = forward_backward(self.images, self.labels)
            except RuntimeError as error:
                raise UserError(
                    f"The training step cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}). Take what "
                    "reads a number back (.item(), print, if) out of the network and the loss, or use --device cpu."
                ) from error
        self.gradients = [weight.grad for weight in self.weights]
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
        model.zero_grad()

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss and the log-probabilities of a batch, whose gradients take the place of earlier ones.

        The next call overwrites the tensors that this one returns.
        """
        if len(labels) != len(self.labels):
            return self.forward_backward(images, labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            weight.grad = gradient
        return self.results


def _why_not_compiled(chosen: Acceleration, several: bool) -> str:
    """What a run is told that asked for the compiler and goes without."""
    if several:
        return "several processes train this network together"
    if chosen.layers == "chwn":
        return "this network's loops are compiled by numba instead"
    return "the run is too short to gain by it, or there is no C++ compiler here"


def _keep_compiled_apart() -> None:
    """Give each CPU's vector units a folder of compiled networks of their own.

    PyTorch's is shared: what it holds for AVX-512 is also given to a CPU with AVX2 alone, which computes NaN with it.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    shared = default_cache_dir()
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR", shared) == shared:  # PyTorch's own modules may have set it to that
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{shared}_{torch.backends.cpu.get_cpu_capability()}"


def _on_cpu(model: nn.Module) -> bool:
    return next(model.parameters()).device.type == "cpu"


@functools.cache
def _has_matrix_units() -> bool:
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
