"""What makes an epoch faster and leaves the recipe as it is: memory, pieces, layouts, arithmetic, compilers, a graph.

`forward` joins most of them: the function with which `common.training.loops` computes the training images' log-probabilities.
Testing always uses the network itself, in float32.
"""

import ctypes
import functools
import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from common import models
from common.cpu_kernels import chwn
from common.recipe import Options, Recipe
from common.system.errors import UserError

# Steps of the optimizer that win back the compiler's start, on S7 block 3 and 2 cores: 17 s against 3.3 ms a step in
# float32, 27 s against 1.4 ms in bfloat16 (`common.experiments.variants` measures both). Rounded.
MIN_STEPS_COMPILED = {"float32": 5_000, "bfloat16": 20_000}
MIN_STEPS_CUDA_GRAPH = 100  # steps; to record a graph takes less than a second
MIN_STEPS_CHWN = 800  # steps, of which S7's gain 16 ms each: two such runs win back the 22 s of compiling once


def has_batchnorm(model: nn.Module) -> bool:
    """Whether an image's output depends on the other images of its batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def micro_batch_size(model: nn.Module, training: bool = True) -> int:
    """How many images at a time `common.training.loops` sends through the network.

    On a CPU, 64: what a layer has written is then still in the cache when the next one reads it. In a test 32, for some
    networks look at each image nine times (`common.models.test_time_augmentation.predict_with_tta`), and the heap ends at blocks of 32 MB (`keep_memory`).
    A network with BatchNorm trains on the whole batch at once, for its means are the batch's; a GPU needs it whole to
    be kept busy.
    """
    whole = 2**62
    if not _on_cpu(model) or (training and has_batchnorm(model)):
        return whole
    return 64 if training else 32


def optimize_memory_layout(model: nn.Module, uses_chwn: bool = False) -> None:
    """Lay the network out in the way that is fastest on a CPU; its values stay as they are.

    That is with the batch innermost where `batch_innermost` says so, else with the channels where that helps.
    Convolutions and max-pools are faster that way. PyTorch's BatchNorm of fewer than 16 channels is several times
    slower, which costs more than the rest wins where over a tenth of the normalised values are in such layers.
    """
    if not uses_chwn and _on_cpu(model) and _narrow_share(model) < 0.1:
        model.to(memory_format=torch.channels_last)


def uses_chwn(recipe: Recipe, options: Options, device: torch.device, images: int) -> bool:
    """Whether this run trains with the batch innermost in memory (`common.cpu_kernels.chwn`): in float32, and long enough."""
    steps = recipe.epochs * -(-images // recipe.batch_size)
    float32 = device.type == "cpu" and precision(options, device) == "float32"
    return float32 and steps >= MIN_STEPS_CHWN and supports_chwn(models.of(recipe))


@functools.cache
def supports_chwn(name: str) -> bool:
    """Whether the network of that name (`common.models`) can train by `common.cpu_kernels`, and numba is there."""
    if name not in models.NETWORKS or not importlib.util.find_spec("numba"):
        return False
    with torch.device("meta"):  # draws no random numbers
        return chwn.supports(models.build(name))


def _narrow_share(model: nn.Module) -> float:
    """The share of the values that BatchNorm sees for an image which lie in layers of fewer than 16 channels."""
    sizes: list[tuple[int, int]] = []

    def note(layer: nn.BatchNorm2d, _inputs, output: Tensor) -> None:
        sizes.append((layer.num_features, output.numel()))

    training, layers = model.training, [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():  # in evaluation mode, which draws nothing and changes no running mean
        model.eval()(torch.zeros(1, 1, 28, 28, dtype=next(model.parameters()).dtype))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return sum(size for channels, size in sizes if channels < 16) / max(1, sum(size for _, size in sizes))


def precision(options: Options, device: torch.device) -> str:
    """The arithmetic of the training's forward and backward pass: "float32" or "bfloat16".

    "auto" takes bfloat16 on a CPU with matrix units for it (Intel's AMX), where it is about twice as fast, unless the
    network is one for `common.cpu_kernels.chwn`, whose loops compute in float32. Weights, sums over a batch, the loss and the
    optimizer's step stay float32, and so does all testing.
    """
    if options.precision != "auto":
        return options.precision
    units = device.type == "cpu" and _has_matrix_units()
    return "bfloat16" if units and not supports_chwn(options.network) else "float32"


def compiles(recipe: Recipe, options: Options, device: torch.device, images: int) -> bool:
    """Whether this run uses `torch.compile`: asked for, with a C++ compiler there, and long enough to gain by it.

    A run with the batch innermost does not: numba has compiled its loops.
    """
    if not options.compile or uses_chwn(recipe, options, device, images):
        return False
    worth = MIN_STEPS_COMPILED[precision(options, device)]
    steps = recipe.epochs * -(-images // recipe.batch_size)
    return steps >= worth and any(map(shutil.which, ("g++", "clang++", "cl")))


def why_not_compiled(uses_chwn: bool) -> str:
    """What a run is told that asked for the compiler and goes without."""
    if uses_chwn:
        return "this network's loops are compiled by numba instead"
    return "the run is too short to gain by it, or there is no C++ compiler here"


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
    model: nn.Module, arithmetic: str, compiled_for: int | None = None, uses_chwn: bool = False
) -> Callable[[Tensor], Tensor]:
    """A function from images [N, 1, 28, 28] to log-probabilities float32 [N, 10] that shares the model's weights.

    `arithmetic` is what `precision` says. `compiled_for` is the batch size to compile for; batches of another size
    (an epoch's last) go through the model as it is, rather than through the compiler once more.
    """
    if compiled_for:  # torch would warn that it finds no CUDA, also where nobody asked for it
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        _keep_compiled_apart()
    if uses_chwn:
        return chwn.ChwnForward(model)
    compiled = torch.compile(model, dynamic=False) if compiled_for else model
    device = next(model.parameters()).device.type

    def compute(images: Tensor) -> Tensor:
        network = compiled if len(images) == compiled_for else model
        with torch.autocast(device, torch.bfloat16, enabled=arithmetic == "bfloat16"):
            log_probabilities = network(images)
        return log_probabilities.float()

    return compute


def uses_cuda_graph(device: torch.device, steps: int) -> bool:
    """Whether a run of so many steps replays its passes as a CUDA graph: on a GPU with CUDA, unless it is soon over."""
    return device.type == "cuda" and steps >= MIN_STEPS_CUDA_GRAPH


class CudaGraphStep:
    """The passes over batches of one size, recorded once as a CUDA graph and then replayed in one call.

    A step of a small network is some hundreds of kernels of a few microseconds each, and to ask for one takes the
    processor longer than the GPU needs to run it. Recorded, they follow each other unasked
    (https://pytorch.org/docs/stable/notes/cuda.html#whole-network-capture). A graph reads and writes at fixed places:
    each batch of 28x28 images is copied to where it looks for one, the gradients are where it puts them. Batches of
    another size (an epoch's last) go the plain way. What the passes do before the recording leaves no trace: gradients,
    BatchNorm's running means and the random numbers are set back.
    """

    def __init__(self, model: nn.Module, passes: Callable, batch_size: int):
        """`passes` as `common.training.loops.make_forward_backward` makes them for this model. Raises UserError if they cannot be recorded.

        Python code in the network and the loss runs now, and not again: it must not read a number back from the GPU.
        """
        device, self.weights, self.passes = next(model.parameters()).device, list(model.parameters()), passes
        self.images = torch.zeros(batch_size, 1, 28, 28, device=device)
        self.labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
        before, self.graph = [buffer.clone() for buffer in model.buffers()], torch.cuda.CUDAGraph()
        model.train()
        with torch.random.fork_rng([device]):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):  # kernels are chosen and compiled in the first passes, outside the recording
                    passes(self.images, self.labels)
            torch.cuda.current_stream().wait_stream(aside)
            model.zero_grad()
            try:
                with torch.cuda.graph(self.graph):
                    self.results = passes(self.images, self.labels)
            except RuntimeError as error:
                raise UserError(
                    f"The training step cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}). Take what "
                    "reads a number back (.item(), print, if) out of the network and the loss, or use --device cpu."
                ) from error
        self.gradients = [weight.grad for weight in self.weights]
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
        model.zero_grad()

    def __call__(self, images: Tensor, labels: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """What `passes` do and return, for a whole batch; the next call overwrites the tensors that this one returns.

        Replayed gradients are not scaled, and take the place of earlier ones: raises ValueError unless `share` is 1.
        """
        if share != 1:
            raise ValueError(f"A graph replays whole batches, not a share of {share} of one.")
        if len(labels) != len(self.labels):
            return self.passes(images, labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            weight.grad = gradient
        return self.results


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
