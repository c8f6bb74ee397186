"""Training with the batch innermost gives the plain layers' values and gradients."""

import copy
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from common import innermost, models, speed
from common.recipe import ROOT, Options, Recipe

numba = pytest.importorskip("numba")
kernels_norm = importlib.import_module("common.kernels_norm")
differentiable = importlib.import_module("common.differentiable")

CPU = torch.device("cpu")
FITTING = ["S6/part2_step3_global_pooling", "S7/block3", "S7/block4_dense"]


def plain_and_innermost(step, dropout=False):
    """The same untrained network twice, in training mode; dropout, whose draws differ, is off unless asked for."""
    torch.manual_seed(1)
    plain = models.build(step).train()
    for layer in plain.modules():
        if isinstance(layer, (nn.Dropout, nn.Dropout2d)) and not dropout:
            layer.p = 0.0
    other = copy.deepcopy(plain)
    innermost.arrange(other)
    return plain, other


def images(count, seed=2):
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def gradients(model, batch):
    model.zero_grad()
    F.nll_loss(model(batch), torch.arange(len(batch)) % 10).backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("count", [64, 33])
@pytest.mark.parametrize("step", FITTING)
def test_gradients_and_running_means_are_the_plain_networks(step, count):
    """Rounding sends a few max-pools of random pixels to another pixel, and with them a hundredth of a gradient."""
    plain, other = plain_and_innermost(step)
    batch = images(count)
    for one, two in zip(gradients(plain, batch), gradients(other, batch), strict=True):
        assert (two - one).norm() <= 2e-2 * one.norm() + 1e-6
    for one, two in zip(plain.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)
    assert plain.state_dict().keys() == other.state_dict().keys()


def test_in_a_test_the_layers_are_the_plain_ones():
    plain, other = (model.eval() for model in plain_and_innermost("S7/block3", dropout=True))
    assert torch.equal(plain(images(20)), other(images(20)))


@pytest.mark.parametrize(("size", "padding"), [(3, 0), (3, 1), (1, 0)])
def test_a_convolution_and_its_gradients_are_pytorchs(size, padding):
    generator = torch.Generator().manual_seed(4)
    shapes = (5, 3, 7, 9), (4, 3, size, size), (4,)  # [N, I, H, W], [O, I, 3, 3], [O]
    maps, kernels, bias = (torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)
    expected = F.conv2d(maps, kernels, bias, padding=padding)
    result = differentiable.Convolution.apply(maps.permute(1, 2, 3, 0).contiguous(), kernels, bias, padding)
    torch.testing.assert_close(result.permute(3, 0, 1, 2), expected)
    gradient = torch.randn(expected.shape, generator=generator)
    theirs = torch.autograd.grad(expected, (maps, kernels, bias), gradient)
    ours = torch.autograd.grad(result, (maps, kernels, bias), gradient.permute(1, 2, 3, 0))
    for one, two in zip(theirs, ours, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [6, 7])
def test_a_pool_sends_the_gradient_where_pytorch_does_also_from_ties(size):
    maps = torch.randint(0, 3, (4, 2, size, size), generator=torch.Generator().manual_seed(5)).float().requires_grad_()
    expected = F.max_pool2d(maps, 2)
    result = differentiable.Pool.apply(maps.permute(1, 2, 3, 0).contiguous())
    assert torch.equal(result.permute(3, 0, 1, 2), expected)
    weights = torch.arange(expected.numel(), dtype=torch.float32).view_as(expected) + 1
    (theirs,) = torch.autograd.grad((expected * weights).sum(), maps)
    (ours,) = torch.autograd.grad((result * weights.permute(1, 2, 3, 0)).sum(), maps)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("dropped", "dropped_maps"), [(0.3, 0.0), (0.0, 0.3), (0.2, 0.2)])
def test_dropout_is_a_mask_and_its_gradient_autograds(dropped, dropped_maps):
    """The masks that were drawn, read off the results, then the same computed from plain operations in float64."""
    generator, shape = torch.Generator().manual_seed(6), (3, 6, 5, 40)  # [C, H, W, N]
    maps, gradient = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    weight, bias = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.1, 0.2, -0.3])
    seen, out, mean, inverse = maps.clone(), torch.empty(shape), np.empty(3), np.empty(3)
    dropout = dropped, dropped_maps, np.uint64(77)
    arrays = seen.numpy(), weight.numpy(), bias.numpy(), mean, inverse
    kernels_norm.normalise(*arrays, 1e-5, *dropout, out.numpy())
    before, sums = torch.empty(3, 8, 7, 40), torch.empty(3, 3)
    arrays = gradient.numpy(), seen.numpy(), weight.numpy(), mean, inverse
    kernels_norm.normalise_gradient(*arrays, *dropout, 1, before.numpy(), sums.numpy())

    kept = (seen != 0) | (maps <= 0)
    kept_maps = (out != 0).any(dim=1).any(dim=1)[:, None, None, :]
    assert kept[maps > 0].float().mean() == pytest.approx(1 - dropped, abs=0.05)
    assert kept_maps.float().mean() == pytest.approx(1 - dropped_maps, abs=0.12)
    leaves = [tensor.double().requires_grad_() for tensor in (maps, weight, bias)]
    values = leaves[0].relu() * kept / (1 - dropped)
    variance, average = torch.var_mean(values, (1, 2, 3), correction=0, keepdim=True)
    values = (values - average) / (variance + 1e-5).sqrt() * leaves[1].view(3, 1, 1, 1) + leaves[2].view(3, 1, 1, 1)
    values = values * kept_maps / (1 - dropped_maps)
    torch.testing.assert_close(out.double(), values, rtol=1e-4, atol=1e-5)
    theirs = torch.autograd.grad(values, leaves, gradient.double())
    ours = before[:, 1:-1, 1:-1], sums[0], sums[1]
    for one, two in zip(theirs, ours, strict=True):
        torch.testing.assert_close(two.double(), one, rtol=1e-3, atol=1e-4)
    assert torch.equal(before, F.pad(before[:, 1:-1, 1:-1], (0, 0, 1, 1, 1, 1)))  # the border holds zeros
    torch.testing.assert_close(sums[2], before.sum((1, 2, 3)), rtol=1e-3, atol=1e-3)


def test_equal_seeds_drop_the_same_and_the_next_step_something_else():
    _, model = plain_and_innermost("S6/part2_step3_global_pooling", dropout=True)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results += [model(images(16)), model(images(16))]
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[4])


def test_draws_are_spread_evenly_and_neighbours_do_not_agree():
    """A million draws of 32 bits: each of 256 equal ranges holds its share, and each bit is as often 0 as 1."""
    for seed in (0, 1, 2**63 - 2):
        draws = _draws(np.uint64(seed), 2**20)
        counts = np.bincount(draws >> 24, minlength=256)
        assert abs(counts - 2**12).max() < 6 * 64  # six standard deviations
        for bit in range(32):
            ones = (draws >> bit) & 1
            assert abs(int(ones.sum()) - 2**19) < 6 * 2**9
            assert abs(int((ones[1:] == ones[:-1]).sum()) - 2**19) < 6 * 2**9


@numba.njit
def _draws(seed, count):
    draws = np.empty(count, np.uint32)
    for position in range(count):
        draws[position] = kernels_norm._draw(seed, position)
    return draws


def test_a_network_depends_on_the_threads_to_rounding_at_most():
    """A library's matrix products, for the 1x1 convolutions, add up in another order."""
    _, model = plain_and_innermost("S7/block3", dropout=True)
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        torch.manual_seed(3)
        one = copy.deepcopy(model)
        results.append([*gradients(one, images(64)), *one.buffers()])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_the_loops_give_the_same_bits_with_any_number_of_threads():
    torch.manual_seed(1)
    block = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(6), nn.Dropout2d(0.2), nn.MaxPool2d(2)
    )
    innermost.arrange(block)
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        torch.manual_seed(3)
        one = copy.deepcopy(block)
        out = one(images(40))
        out.backward(torch.linspace(-1, 1, out.numel()).view_as(out))
        results.append([out.detach(), *(parameter.grad for parameter in one.parameters()), *one.buffers()])
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_what_is_no_number_stays_none():
    """A run that has broken down must say so: a ReLU that turned NaN into 0 would hide it."""
    plain, other = plain_and_innermost("S7/block3")
    for model in (plain, other):
        with torch.no_grad():
            model.layers[0][0].weight[0, 0, 0, 0] = float("nan")
        assert F.nll_loss(model(images(8)), torch.zeros(8, dtype=torch.int64)).isnan()


def test_where_no_folder_can_be_written_the_loops_are_compiled_all_the_same():
    lines = [
        "from numba.core import caching",
        "caching.FunctionCache._impl_class._locator_classes = []  # numba then finds no place",
        "from common import kernels",
        "import numpy as np",
        "out, index = np.empty((1, 1, 1, 2), np.float32), np.empty((1, 1, 1, 2), np.uint8)",
        "kernels.pool(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2), out, index)",
        "print(out.ravel())",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[6. 7.]\n"


def test_layers_it_does_not_know_are_computed_as_ever():
    """A network with others between the known ones: strides, a SiLU, a wider pool, a dense end."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=2),
        nn.SiLU(),
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.BatchNorm2d(8, momentum=0.3)),
        nn.Dropout(0.0),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
        nn.LogSoftmax(dim=1),
    )
    other = copy.deepcopy(model)
    innermost.arrange(other)
    assert not innermost.fits(model)
    for one, two in zip(gradients(model, images(12)), gradients(other, images(12)), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)
    for one, two in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)


def options(step, precision="auto", compile=False):
    out = ROOT / "runs" / "nothing is written here"
    return Options("builtin", None, "cpu", "held-out", True, False, out, precision, compile, network=step)


def test_only_networks_with_nothing_else_in_them_fit():
    fitting = {name for name in models.NETWORKS if innermost.fits_network(name)}
    assert fitting == {*FITTING, "S7/block2"}
    assert not innermost.fits_network("no such network")


def test_long_runs_in_float32_on_a_cpu_have_the_batch_innermost():
    recipe = Recipe("S7/block3", epochs=1, batch_size=64, lr=0.02)
    asked = options("S7/block3")
    assert speed.batch_innermost(recipe, asked, CPU, 60_000)
    assert not speed.batch_innermost(recipe, asked, CPU, 6_000)
    assert not speed.batch_innermost(recipe, asked, torch.device("cuda"), 60_000)
    assert not speed.batch_innermost(recipe, options("S7/block3", "bfloat16"), CPU, 60_000)
    assert not speed.batch_innermost(Recipe("S7/block4", 1, 64, 0.02), options("S7/block4"), CPU, 60_000)


def test_where_numba_is_missing_the_plain_layers_train(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    innermost.fits_network.cache_clear()
    assert not innermost.fits_network("S7/block3")
    innermost.fits_network.cache_clear()


def test_auto_is_float32_on_matrix_units_too_where_the_batch_can_be_innermost(monkeypatch):
    monkeypatch.setattr(speed, "_has_matrix_units", lambda: True)
    assert speed.precision(options("S7/block3"), CPU) == "float32"
    assert speed.precision(options("S5/step1_first_network"), CPU) == "bfloat16"
    assert speed.precision(options("S7/block3", "bfloat16"), CPU) == "bfloat16"


def test_what_numba_has_compiled_is_not_compiled_by_torch(monkeypatch):
    monkeypatch.setattr(speed.shutil, "which", lambda name: f"/usr/bin/{name}")
    recipe = Recipe("S7/block3", epochs=14, batch_size=64, lr=0.02)
    assert not speed.compiles(recipe, options("S7/block3", "float32", compile=True), CPU, 60_000)
    assert "compiled by numba" in speed.why_not_compiled(batch_innermost=True)
    block4 = Recipe("S7/block4", epochs=14, batch_size=64, lr=0.02)
    assert speed.compiles(block4, options("S7/block4", "float32", compile=True), CPU, 60_000)
