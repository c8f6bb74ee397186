"""A convolution with ReLU, dropout and BatchNorm in CHWN layout: values, gradients, masks, and hard numbers."""

import importlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from common.cpu_kernels.dropout import Dropout

numba = pytest.importorskip("numba")
batchnorm = importlib.import_module("common.cpu_kernels.batchnorm")
ConvReluBatchNorm = importlib.import_module("common.cpu_kernels.layers").ConvReluBatchNorm
Chain = importlib.import_module("common.cpu_kernels.autograd").Chain


def make_block(padding=0, shares=(0.0, 0.0), after=nn.Dropout2d):
    """A block of 6 channels whose BatchNorm has other weights than 1 and 0, and the chain of it."""
    torch.manual_seed(6)
    conv, norm = nn.Conv2d(2, 6, 3, padding=padding), nn.BatchNorm2d(6, momentum=0.3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    block = ConvReluBatchNorm(conv, norm, Dropout(shares[0]), after(shares[1]))
    return block, Chain([block], [])


def reference(block, padding, maps, mask=None, map_mask=None):
    """The block in float64 from plain operations, with the masks given: leaves, values, mean, variance."""
    leaves = [tensor.detach().double().requires_grad_() for tensor in (maps, *block.parameters())]
    values = F.conv2d(leaves[0], leaves[1], leaves[2], padding=padding).relu()
    values = values if mask is None else values * mask
    variance, mean = torch.var_mean(values, (0, 2, 3), correction=0, keepdim=True)
    out = (values - mean) / (variance + block.norm.eps).sqrt() * leaves[3].view(-1, 1, 1) + leaves[4].view(-1, 1, 1)
    return leaves, out if map_mask is None else out * map_mask, mean.flatten(), variance.flatten()


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("input_grad", [True, False])
@pytest.mark.parametrize(("dropped", "dropped_after"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.2, 0.2)])
@pytest.mark.parametrize("after", [nn.Dropout2d, Dropout])
def test_a_block_is_what_its_masks_make_of_plain_operations(dropped, dropped_after, after, input_grad, padding):
    """The masks that were drawn, read off the results, then the same computed from plain operations in float64."""
    block, chain = make_block(padding, (dropped, dropped_after), after)
    maps = torch.randn(40, 2, 8, 7, requires_grad=input_grad)
    out = chain(maps)
    ((_, arguments),) = out.grad_fn.lease.plan.calls
    normalised = torch.from_numpy(arguments[-3]).permute(3, 0, 1, 2).clone()
    gradient = torch.randn(out.shape)
    ours = torch.autograd.grad(out, [*([maps] if input_grad else []), *block.parameters()], gradient)

    convolved = F.conv2d(maps.double(), *(tensor.double() for tensor in block.parameters()[:2]), padding=padding)
    mask = (normalised != 0) | (convolved <= 0)
    map_mask = (out != 0).any(dim=3).any(dim=2)[:, :, None, None] if after is nn.Dropout2d else out != 0
    assert mask[convolved > 0].float().mean() == pytest.approx(1 - dropped, abs=0.05)
    assert map_mask.float().mean() == pytest.approx(1 - dropped_after, abs=0.12)
    leaves, values, mean, variance = reference(
        block, padding, maps, mask / (1 - dropped), map_mask / (1 - dropped_after)
    )
    torch.testing.assert_close(out.double(), values, rtol=1e-4, atol=1e-5)
    theirs = torch.autograd.grad(values, leaves[0 if input_grad else 1 :], gradient.double())
    for one, two in zip(theirs, ours, strict=True):
        assert (two - one).norm() <= 1e-4 * one.norm()
    count, norm = values[:, 0].numel(), block.norm
    torch.testing.assert_close(norm.running_mean.double(), 0.3 * mean, rtol=1e-4, atol=1e-6)
    unbiased = variance * count / (count - 1)
    torch.testing.assert_close(norm.running_var.double(), 0.7 + 0.3 * unbiased, rtol=1e-4, atol=1e-6)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("bias", [1000.0, 30.0])
def test_a_mean_far_from_zero_costs_no_digits(bias):
    """E[x^2] - mean^2 in float32 has none left at 1000. What stays is the rounding of the convolution's sums."""
    block, chain = make_block()
    with torch.no_grad():
        block.module.bias.fill_(bias)
    maps = torch.randn(32, 2, 9, 9, requires_grad=True)
    out, gradient = chain(maps), torch.randn(32, 6, 7, 7)
    leaves, values, _, variance = reference(block, 0, maps)
    torch.testing.assert_close(out.double(), values, rtol=0, atol=2e-6 * bias)
    ours = torch.autograd.grad(out, [maps, block.module.weight, *block.parameters()[2:]], gradient)
    theirs = torch.autograd.grad(values, [leaves[0], leaves[1], *leaves[3:]], gradient.double())
    for one, two in zip(theirs, ours, strict=True):  # of the convolution's bias the gradient is 0: nothing to compare
        assert (two - one).norm() <= 1e-3 * one.norm()
    count = values[:, 0].numel()
    unbiased = variance * count / (count - 1)
    torch.testing.assert_close(block.norm.running_var.double(), 0.7 + 0.3 * unbiased, rtol=1e-4, atol=0)


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
        draws[position] = batchnorm.draw(seed, position)
    return draws
