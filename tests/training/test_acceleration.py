"""What makes an epoch faster gives the same gradients: exactly, or to the tolerance that its arithmetic allows."""

import contextlib
import dataclasses
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from common import data, models
from common.data.loaders import InMemoryLoader
from common.recipe import ROOT, Options, Recipe
from common.system.errors import UserError
from common.training import acceleration, loops
from common.training.steps import make_forward_backward

CPU = torch.device("cpu")
needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


def batch(count=96):
    digits = data.load("builtin", limit=count)
    return InMemoryLoader(digits.train_images, digits.train_labels, count)


def network(step):
    torch.manual_seed(1)
    return models.build(step)


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def gradient(step, arithmetic="float32", compiled_for=None):
    """The gradient of the mean loss over a batch in evaluation mode: without the chance of dropout."""
    model = network(step).eval()
    images, labels = next(iter(batch()))
    F.nll_loss(acceleration.forward(model, arithmetic, compiled_for)(images), labels).backward()
    return flat(parameter.grad for parameter in model.parameters())


def distance(vector, reference):
    """Length of the difference, as a share of the reference's length."""
    return float((vector - reference).norm() / reference.norm())


def test_pieces_of_a_batch_give_the_gradient_of_the_batch():
    """One step on 96 images in pieces of 64 and 32, against the same step on all of them at once."""
    results = []
    for size in (64, 1_000):
        model = network("S5/step1_first_network")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        score = loops.train_epoch(model, batch(), optimizer, make_forward_backward(model, micro_batch_size=size))
        results.append((flat(model.state_dict().values()), score))
    (pieces, score_of_pieces), (whole, score_of_whole) = results
    assert torch.allclose(pieces, whole, atol=1e-7, rtol=1e-5)
    assert score_of_pieces.loss == pytest.approx(score_of_whole.loss, rel=1e-6)
    assert (score_of_pieces.correct, score_of_pieces.total) == (score_of_whole.correct, 96)


def test_batchnorm_needs_the_whole_batch():
    assert acceleration.micro_batch_size(network("S5/step1_first_network")) == 64
    assert acceleration.micro_batch_size(network("S7/block3")) is None


def test_channels_last_changes_no_value():
    """In float64, where rounding cannot send a max-pool to another pixel."""
    model, images = network("S5/step1_first_network").double(), next(iter(batch()))[0].double()
    before = model(images)
    acceleration.optimize_memory_layout(model)
    assert model.layers[2].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(model(images), before, atol=1e-12)


CHANNELS_LAST = {
    "S5/step1_first_network": True,
    "S6/part2_step3_global_pooling": True,
    "S7/block1": True,
    "S7/block3": False,
}


@pytest.mark.parametrize("step", CHANNELS_LAST)
def test_narrow_batchnorm_keeps_the_layout(step):
    """Of the values that are normalised, S7 block 3 has 13,608 of 39,144 in narrow layers, S6 step 3 490 of 20,874."""
    model = network(step)
    random, before = torch.get_rng_state(), flat(model.state_dict().values())
    acceleration.optimize_memory_layout(model)
    weights = [parameter for parameter in model.parameters() if parameter.ndim == 4 and parameter.shape[1] > 1]
    found = {weight.is_contiguous(memory_format=torch.channels_last) for weight in weights if weight.shape[2] > 1}
    assert found == {CHANNELS_LAST[step]}
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(before, flat(model.state_dict().values()))
    assert model.training


@pytest.mark.parametrize("step", ["S5/step1_first_network", "S6/part2_step3_global_pooling", "S7/block3"])
def test_bfloat16_gives_the_gradient_to_within_a_tenth(step):
    """bfloat16 keeps 8 binary digits. Two batches of 96 digits differ far more: by over half of their gradients."""
    exact, rough = gradient(step), gradient(step, "bfloat16")
    assert rough.dtype == torch.float32
    assert 0 < distance(rough, exact) < 0.1


def test_float32_means_the_model_itself():
    model = network("S7/block3").eval()
    images, _ = next(iter(batch()))
    assert torch.equal(acceleration.forward(model, "float32")(images), model(images))


@pytest.mark.in_full
@pytest.mark.skipif(not shutil.which("g++") or sys.platform != "linux", reason="needs a C++ compiler")
def test_the_compiled_network_gives_the_same_gradient():
    assert distance(gradient("S7/block3", compiled_for=96), gradient("S7/block3")) < 1e-5


def test_the_compiled_network_leaves_the_last_batch_to_the_model(monkeypatch):
    called = []
    monkeypatch.setattr(
        torch, "compile", lambda model, dynamic: lambda images: called.append(len(images)) or model(images)
    )
    compute = acceleration.forward(network("S7/block3").eval(), "float32", compiled_for=64)
    for count in (64, 32):
        compute(torch.zeros(count, 1, 28, 28))
    assert called == [64]


def test_what_is_compiled_for_one_kind_of_cpu_is_not_given_to_another(monkeypatch, tmp_path):
    """Code for AVX-512 out of a shared folder gave NaN as the gradient where only AVX2 was in use."""
    folders = set()
    for vectors in ("AVX2", "AVX512"):
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda vectors=vectors: vectors)
        acceleration.forward(network("S7/block3"), "float32", compiled_for=64)
        folders.add(os.environ.get("TORCHINDUCTOR_CACHE_DIR"))
    assert len(folders) == 2
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    acceleration.forward(network("S7/block3"), "float32", compiled_for=64)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)


def options(precision="auto", compile=False):
    return Options("builtin", None, "cpu", "held-out", True, False, Path(), precision, compile)


def test_auto_is_bfloat16_only_where_the_cpu_has_units_for_it(monkeypatch):
    monkeypatch.setattr(acceleration, "_has_matrix_units", lambda: True)
    assert acceleration.precision(options(), CPU) == "bfloat16"
    assert acceleration.precision(options(), torch.device("cuda")) == "float32"
    assert acceleration.precision(options("float32"), CPU) == "float32"
    monkeypatch.setattr(acceleration, "_has_matrix_units", lambda: False)
    assert acceleration.precision(options(), CPU) == "float32"
    assert acceleration.precision(options("bfloat16"), CPU) == "bfloat16"


def test_short_runs_and_machines_without_a_compiler_do_not_compile(monkeypatch):
    """14 epochs of 938 steps are long enough in float32, where the compiler starts faster and gains more."""
    step = "S5/step1_first_network"  # the loops of `common.cpu_kernels` leave it to PyTorch's layers
    recipe, model = Recipe(step, epochs=14, batch_size=64, lr=0.02), network(step)

    def compiled(precision, steps_per_epoch=938, asked=True):
        return acceleration.choose(model, recipe, options(precision, compile=asked), steps_per_epoch).compiled

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert compiled("float32")
    assert not compiled("bfloat16")
    assert compiled("bfloat16", 2 * 938)
    assert not compiled("float32", asked=False)
    assert not compiled("float32", 8)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not compiled("float32")


def test_a_run_that_asked_for_the_compiler_in_vain_is_told(capsys):
    recipe = Recipe("S7/block3", epochs=1, batch_size=32, lr=0.02)
    loops.fit(network("S7/block3"), batch(), {"held-out": batch(10)}, recipe, options(compile=True))
    assert capsys.readouterr().out.startswith("machine    not compiled: the run is too short")


@needs_a_gpu
@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_captured_passes_give_the_same_gradients_and_leave_no_trace(arithmetic):
    """Three batches one after another, the last a short one; S7 block 1 has dropout, whose masks go on as before."""
    seen = []
    for captured in (False, True):
        model = network("S7/block1").to(loops.choose_device("cuda")).train()
        torch.cuda.manual_seed(5)
        passes = make_forward_backward(acceleration.forward(model, arithmetic))
        passes = acceleration.CudaGraphStep(model, passes, 96) if captured else passes
        gradients = []
        for count in (96, 96, 32):
            images, labels = (part.to("cuda") for part in next(iter(batch(count))))
            model.zero_grad()
            passes(images, labels)
            gradients.append(flat(parameter.grad for parameter in model.parameters()).clone())
        seen.append((gradients, flat(buffer.double() for buffer in model.buffers())))
    (plain, means), (replayed, captured_means) = seen
    assert len({gradient.sum().item() for gradient in plain}) == 3
    for one, other in zip(plain, replayed, strict=True):
        assert distance(other, one) < 1e-4
    torch.testing.assert_close(captured_means, means, rtol=1e-4, atol=1e-6)


@needs_a_gpu
def test_a_captured_training_ends_where_a_plain_one_does(monkeypatch):
    """Batches of 32 and a short one, one cycle and a running mean; S8 step 7's network without its looks."""
    recipe = Recipe("S8/under_8k_one_view", epochs=2, batch_size=32, lr=0.02, one_cycle=0.2, ema_decay=0.9)
    asked, ends = dataclasses.replace(options(), device="cuda"), []
    for worth in (1, 10**9):
        monkeypatch.setattr(acceleration, "MIN_STEPS_CUDA_GRAPH", worth)
        model, digits = network(recipe.step).to(loops.choose_device("cuda")), data.load("builtin", limit=1_040)
        train = InMemoryLoader(digits.train_images, digits.train_labels, 32, shuffle=True, device="cuda")
        history = loops.fit(model, train, {"held-out": batch(360)}, recipe, asked)
        ends.append((flat(tensor.double() for tensor in model.state_dict().values()), history[-1]["test_loss"]))
    (captured, loss), (plain, plain_loss) = ends
    assert distance(captured, plain) < 0.01  # sums in another order, and a training lets such differences grow
    assert loss == pytest.approx(plain_loss, rel=0.05)


class Stream(contextlib.nullcontext):
    def wait_stream(self, other):
        pass


def test_what_cannot_be_recorded_is_refused_in_one_sentence(monkeypatch):
    """A stand-in for CUDA, since what a network that reads a number back does to a real recording may outlast it."""

    def refuse(graph):
        raise RuntimeError("operation not permitted when stream is capturing\nand ten more lines")

    for name, replacement in (
        ("CUDAGraph", object),
        ("Stream", Stream),
        ("stream", lambda stream: stream),
        ("current_stream", Stream),
        ("graph", refuse),
    ):
        monkeypatch.setattr(torch.cuda, name, replacement)
    monkeypatch.setattr(torch.random, "fork_rng", contextlib.nullcontext)
    model = network("S7/block3")
    with pytest.raises(UserError, match=r"graph \(operation not permitted when stream is capturing\). Take what reads"):
        acceleration.CudaGraphStep(model, make_forward_backward(model), 32)


def test_a_cpu_records_no_graph():
    recipe = Recipe("S7/block3", epochs=14, batch_size=64, lr=0.02)
    assert not acceleration.choose(network("S7/block3"), recipe, options("float32"), 938).cuda_graph


FAULTS = """
import resource, torch
from common.training import acceleration

if {kept}:
    acceleration.keep_memory()
for _ in range(3):  # what the first rounds take from the system is not counted
    activations = [torch.ones(2**20) for _ in range(10)]
    del activations
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    activations = [torch.ones(2**20) for _ in range(10)]
    del activations
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_kept_memory_is_not_asked_for_again():
    """20 rounds of 40 MB: hardly a page is handed out twice, where without it every page would be, each time.

    Left to itself, glibc moves its thresholds as it goes, and may keep the memory by luck; here it starts with fixed
    ones that give every block back.
    """
    faults, returns_all = {}, {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    for kept in (True, False):
        command = [sys.executable, "-c", FAULTS.format(kept=kept)]
        environment = {**os.environ, **returns_all}
        run = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT, env=environment)
        faults[kept] = int(run.stdout)
    assert faults[False] >= 20 * 10 * 2**22 / 2**16  # pages of up to 64 kB
    assert 10 * faults[True] < faults[False]
