"""Winograd's convolution gives that of float64, over odd shapes, and at the edges what zeros beyond them give."""

import importlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from common.cpu_kernels import chwn

pytest.importorskip("numba")
autograd = importlib.import_module("common.cpu_kernels.autograd")
winograd = importlib.import_module("common.cpu_kernels.winograd")


@pytest.mark.parametrize("inputs", [1, 5, 32, 130])  # more than fit into the room for a tile, too
@pytest.mark.parametrize("outputs", [1, 4, 35])
@pytest.mark.parametrize(("height", "width", "batch"), [(1, 1, 64), (2, 3, 64), (7, 6, 96), (5, 9, 80)])
def test_it_is_the_convolution_of_float64(inputs, outputs, height, width, batch):
    generator = torch.Generator().manual_seed(4)
    sizes = (batch, inputs, height + 2, width + 2), (outputs, inputs, 3, 3), (outputs,)
    maps, weight, bias = (torch.randn(size, generator=generator) for size in sizes)
    out = np.full((outputs, height, width, batch), np.nan, np.float32)
    lines, factors = maps.permute(1, 2, 3, 0).contiguous().numpy(), winograd.kernel_factors(weight.numpy())
    winograd.convolve_winograd(lines, factors, bias.numpy(), out)
    expected = F.conv2d(maps.double(), weight.double(), bias.double()).permute(1, 2, 3, 0).numpy()
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6 * max(1, abs(expected).max()))


def test_the_factors_of_a_kernel_are_worked_by_hand():
    """G g G^T for a kernel with one number: its rows and columns 0 or 2 are copied, halved or negated."""
    weight = np.zeros((1, 1, 3, 3), np.float32)
    weight[0, 0, 0, 1] = 4
    expected = [[0, 2, -2, 0], [0, 1, -1, 0], [0, 1, -1, 0], [0, 0, 0, 0]]
    assert winograd.kernel_factors(weight).reshape(4, 4).tolist() == expected


@pytest.mark.parametrize("count", [64, 97])  # the second is more than go through at once, with a rest of one
def test_a_wide_network_is_tested_by_it(count, monkeypatch):
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.SiLU()),
        nn.Sequential(nn.Conv2d(32, 40, 3, padding=1, bias=False), nn.ReLU(), nn.BatchNorm2d(40)),
        nn.Sequential(nn.Conv2d(40, 33, 3, bias=False), nn.BatchNorm2d(33), nn.SiLU()),
    )
    plans, plan = [], autograd.ExecutionPlan
    monkeypatch.setattr(autograd, "ExecutionPlan", lambda *arguments: plans.append(plan(*arguments)) or plans[-1])
    maps = torch.randn(count, 3, 11, 12)
    with torch.no_grad():
        model(torch.randn(100, 3, 11, 12))  # running statistics that are not those of the start
        model.eval()
        torch.testing.assert_close(chwn.ChwnForward(model)(maps), model(maps), rtol=1e-4, atol=1e-5)
    assert [loop.__name__ for loop, _ in plans[0].calls].count("winograd_bn_testing") == 2
