"""Pools in CHWN layout give PyTorch's values and gradients, also for ties, NaN and odd sizes."""

import importlib

import pytest
import torch
from torch import nn

pytest.importorskip("numba")
layers = importlib.import_module("common.cpu_kernels.layers")
Chain = importlib.import_module("common.cpu_kernels.autograd").Chain

POOLS = [(nn.MaxPool2d(2), layers.MaxPool()), (nn.AvgPool2d(3), layers.AveragePool(3))]


@pytest.mark.parametrize("shape", [(40, 4, 6, 6), (33, 3, 7, 9), (1, 1, 3, 3), (64, 10, 8, 5)])
@pytest.mark.parametrize(("plain", "ours"), POOLS)
def test_a_pool_sends_the_gradient_where_pytorch_does_also_from_ties_and_in_every_step(plain, ours, shape):
    """What an odd size leaves over gets zeros in the second step too, though the plan's arrays are used once more."""
    chain = Chain([ours], [plain])
    for seed in range(2):
        maps = torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed)).float()
        results = []
        for pool in (plain, chain):
            leaf = maps.clone().requires_grad_()
            out = pool(leaf)
            weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
            results.append((out.detach(), *torch.autograd.grad((out * weights).sum(), leaf)))
        for one, two in zip(*results, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_max_pool_passes_nan_on(place):
    maps = torch.randn(20, 2, 4, 4)
    maps[3, 1, 2 + place[0], place[1]] = float("nan")
    results = []
    for pool in (nn.MaxPool2d(2), Chain([layers.MaxPool()], [])):
        leaf = maps.clone().requires_grad_()
        out = pool(leaf)
        out.backward(torch.ones_like(out))
        results.append((out.detach(), leaf.grad))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(two, one, equal_nan=True)
