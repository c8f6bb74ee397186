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

from common import models
from common.cpu_kernels import chwn
from common.recipe import ROOT, Options, Recipe
from common.training import acceleration

numba = pytest.importorskip("numba")
convolution, batchnorm = (
    importlib.import_module(f"common.cpu_kernels.{name}") for name in ("convolution", "batchnorm")
)
innermost_layers = importlib.import_module("common.cpu_kernels.layers")
Chain = importlib.import_module("common.cpu_kernels.autograd").Chain

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
    chwn.use_chwn(other)
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


@pytest.mark.parametrize("count", [3, 40, 64])  # images: shorter lines than a block of sums, with a rest, without one
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 4), (3, 7), (12, 10), (2, 1)])
@pytest.mark.parametrize(("size", "padding"), [(3, 0), (3, 1), (1, 0)])
def test_a_convolution_and_its_gradients_are_pytorchs(size, padding, inputs, outputs, count):
    generator = torch.Generator().manual_seed(4)
    shapes = (count, inputs, 7, 8), (outputs, inputs, size, size), (outputs,)  # [N, I, H, W], [O, I, 3, 3], [O]
    maps, weights, bias = (torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)
    expected = F.conv2d(maps, weights, bias, padding=padding)
    bordered = innermost_order(F.pad(maps, (padding,) * 4))
    out, arrays = (
        np.empty(innermost_order(expected).shape, np.float32),
        [weights.detach().numpy(), bias.detach().numpy()],
    )
    convolution.convolve(bordered, convolution.forward_weights(arrays[0]), arrays[1], size, out)
    np.testing.assert_allclose(out, innermost_order(expected), rtol=1e-4, atol=1e-5)

    gradient = torch.randn(expected.shape, generator=generator)
    border = size - 1 - padding
    around = innermost_order(F.pad(gradient, (border,) * 4))
    of_maps, of_weights = np.empty((inputs, 7, 8, count), np.float32), np.empty(shapes[1], np.float32)
    convolution.convolve(around, convolution.backward_weights(arrays[0]), np.zeros(inputs, np.float32), size, of_maps)
    convolution.kernel_gradient(bordered, around, border, of_weights)
    theirs = torch.autograd.grad(expected, (maps, weights), gradient)
    np.testing.assert_allclose(of_maps, innermost_order(theirs[0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_weights, theirs[1].numpy(), rtol=1e-3, atol=1e-4)


def innermost_order(maps):
    """[N, C, H, W] as a NumPy array [C, H, W, N]."""
    return np.ascontiguousarray(maps.detach().permute(1, 2, 3, 0).numpy())


@pytest.mark.parametrize(("pool", "size"), [(nn.MaxPool2d(2), 6), (nn.MaxPool2d(2), 7), (nn.AvgPool2d(3), 8)])
def test_a_pool_sends_the_gradient_where_pytorch_does_also_from_ties_and_in_every_step(pool, size):
    """What an odd size leaves over gets zeros, though the layer before may have written there in the last step."""
    torch.manual_seed(5)
    before = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))
    plain = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(1), *before, pool)
    other = copy.deepcopy(plain)
    chwn.use_chwn(other)
    assert len(other.stages) == 1
    for seed in range(2):
        maps = torch.randint(0, 3, (40, 1, size, size), generator=torch.Generator().manual_seed(seed)).float()
        results = []
        for model in (plain, other):
            model.zero_grad()
            out = model(maps)
            (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
            results.append([out, *(parameter.grad for parameter in model.parameters())])
        for one, two in zip(*results, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize(("dropped", "dropped_maps"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.2, 0.2)])
def test_a_block_is_what_its_masks_make_of_plain_operations(dropped, dropped_maps, wanted, padding):
    """The masks that were drawn, read off the results, then the same computed from plain operations in float64."""
    torch.manual_seed(6)
    convolution, norm = nn.Conv2d(2, 6, 3, padding=padding), nn.BatchNorm2d(6, momentum=0.3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    dropouts = [nn.Dropout(dropped), nn.Dropout2d(dropped_maps)]
    block = innermost_layers.Block(convolution, norm, dropouts)
    chain, maps = Chain([block]), torch.randn(40, 2, 8, 7, requires_grad=wanted)
    out = chain(maps)
    ((_, arguments),) = out.grad_fn.plan.calls
    before = torch.from_numpy(arguments[-3]).permute(3, 0, 1, 2).clone()  # what BatchNorm saw
    gradient = torch.randn(out.shape)
    leaves = [*([maps] if wanted else []), *block.parameters()]
    ours = torch.autograd.grad(out, leaves, gradient)

    doubles = [tensor.detach().double().requires_grad_() for tensor in (maps, *block.parameters())]
    convolved = F.conv2d(doubles[0], doubles[1], doubles[2], padding=padding)
    mask = (before != 0) | (convolved <= 0)
    kept_maps = (out != 0).any(dim=3).any(dim=2)[:, :, None, None]
    assert mask[convolved > 0].float().mean() == pytest.approx(1 - dropped, abs=0.05)
    assert kept_maps.float().mean() == pytest.approx(1 - dropped_maps, abs=0.12)
    values = convolved.relu() * mask / (1 - dropped)
    variance, average = torch.var_mean(values, (0, 2, 3), correction=0, keepdim=True)
    values = (values - average) / (variance + norm.eps).sqrt() * doubles[3].view(6, 1, 1) + doubles[4].view(6, 1, 1)
    values = values * kept_maps / (1 - dropped_maps)
    torch.testing.assert_close(out.double(), values, rtol=1e-4, atol=1e-5)
    theirs = torch.autograd.grad(values, doubles[0 if wanted else 1 :], gradient.double())
    for one, two in zip(theirs, ours, strict=True):
        torch.testing.assert_close(two.double(), one, rtol=1e-3, atol=1e-3)
    count = values[:, 0].numel()
    torch.testing.assert_close(norm.running_mean.double(), 0.3 * average.flatten(), rtol=1e-4, atol=1e-6)
    unbiased = variance.flatten() * count / (count - 1)
    torch.testing.assert_close(norm.running_var.double(), 0.7 + 0.3 * unbiased, rtol=1e-4, atol=1e-6)
    assert norm.num_batches_tracked == 1


def test_steps_may_overlap_and_a_backward_pass_is_for_once():
    """Two forward passes before the first backward pass, as where gradients of two pieces are added up."""
    plain, other = plain_and_innermost("S7/block4_dense")
    losses = [F.nll_loss(other(images(20, seed)), torch.zeros(20, dtype=torch.int64)) for seed in (1, 2)]
    for seed, loss in zip((1, 2), losses, strict=True):
        other.zero_grad()
        loss.backward(retain_graph=True)
        plain.zero_grad()
        F.nll_loss(plain(images(20, seed)), torch.zeros(20, dtype=torch.int64)).backward()
        for one, two in zip(plain.parameters(), other.parameters(), strict=True):
            assert (two.grad - one.grad).norm() <= 2e-2 * one.grad.norm() + 1e-6
    with pytest.raises(RuntimeError, match="second backward pass"):
        losses[0].backward()


def test_weights_that_move_in_memory_and_copies_of_a_model_are_followed():
    """A step makes plans for the arrays of that moment; they must not outlive them."""
    plain, other = plain_and_innermost("S7/block4_dense")
    gradients(other, images(20))
    follower = copy.deepcopy(other)
    for model in (plain, follower):
        with torch.no_grad():
            model.layers[0][0].weight.mul_(-1)
    for parameter in other.parameters():
        parameter.data = parameter.data * 2
    for one, two in zip(gradients(plain, images(20)), gradients(follower, images(20)), strict=True):
        assert (two - one).norm() <= 2e-2 * one.norm() + 1e-6
    doubled, _ = plain_and_innermost("S7/block4_dense")
    for parameter in doubled.parameters():
        parameter.data = parameter.data * 2
    for one, two in zip(gradients(doubled, images(20)), gradients(other, images(20)), strict=True):
        assert (two - one).norm() <= 2e-2 * one.norm() + 1e-6


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
        draws[position] = batchnorm._draw(seed, position)
    return draws


def test_the_loops_give_the_same_bits_with_any_number_of_threads():
    _, model = plain_and_innermost("S7/block3", dropout=True)
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        torch.manual_seed(3)
        one = copy.deepcopy(model)
        results.append([*gradients(one, images(40)), *one.buffers()])
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
        "from common.cpu_kernels import pooling",
        "import numpy as np",
        "out, index = np.empty((1, 1, 1, 2), np.float32), np.empty((1, 1, 1, 2), np.uint8)",
        "pooling.pool(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2), 0, out, index)",
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
    chwn.use_chwn(other)
    assert not chwn.supports(model)
    for one, two in zip(gradients(model, images(12)), gradients(other, images(12)), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)
    for one, two in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)


def options(step, precision="auto", compile=False):
    out = ROOT / "runs" / "nothing is written here"
    return Options("builtin", None, "cpu", "held-out", True, False, out, precision, compile, network=step)


def test_only_networks_with_nothing_else_in_them_fit():
    fitting = {name for name in models.NETWORKS if acceleration.supports_chwn(name)}
    assert fitting == {*FITTING, "S7/block2"}
    assert not acceleration.supports_chwn("no such network")


def test_long_runs_in_float32_on_a_cpu_have_the_batch_innermost():
    recipe = Recipe("S7/block3", epochs=1, batch_size=64, lr=0.02)
    asked = options("S7/block3")
    assert acceleration.uses_chwn(recipe, asked, CPU, 60_000)
    assert not acceleration.uses_chwn(recipe, asked, CPU, 6_000)
    assert not acceleration.uses_chwn(recipe, asked, torch.device("cuda"), 60_000)
    assert not acceleration.uses_chwn(recipe, options("S7/block3", "bfloat16"), CPU, 60_000)
    assert not acceleration.uses_chwn(Recipe("S7/block4", 1, 64, 0.02), options("S7/block4"), CPU, 60_000)


def test_where_numba_is_missing_the_plain_layers_train(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    acceleration.supports_chwn.cache_clear()
    assert not acceleration.supports_chwn("S7/block3")
    acceleration.supports_chwn.cache_clear()


def test_auto_is_float32_on_matrix_units_too_where_the_batch_can_be_innermost(monkeypatch):
    monkeypatch.setattr(acceleration, "_has_matrix_units", lambda: True)
    assert acceleration.precision(options("S7/block3"), CPU) == "float32"
    assert acceleration.precision(options("S5/step1_first_network"), CPU) == "bfloat16"
    assert acceleration.precision(options("S7/block3", "bfloat16"), CPU) == "bfloat16"


def test_what_numba_has_compiled_is_not_compiled_by_torch(monkeypatch):
    monkeypatch.setattr(acceleration.shutil, "which", lambda name: f"/usr/bin/{name}")
    recipe = Recipe("S7/block3", epochs=14, batch_size=64, lr=0.02)
    assert not acceleration.compiles(recipe, options("S7/block3", "float32", compile=True), CPU, 60_000)
    assert "compiled by numba" in acceleration.why_not_compiled(batch_innermost=True)
    block4 = Recipe("S7/block4", epochs=14, batch_size=64, lr=0.02)
    assert acceleration.compiles(block4, options("S7/block4", "float32", compile=True), CPU, 60_000)
