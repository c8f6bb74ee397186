"""3x3 convolutions that take every second place, with what stands behind them, held to float64 over odd shapes."""

import copy

import pytest
import torch
from torch import nn

from common.cpu_kernels import chwn

pytest.importorskip("numba")


def network(padding, bias):
    """Two strided blocks, the second behind a pool that puts no zeros around what it fills unless it is asked to."""
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2, padding=padding, bias=bias),
        nn.ReLU(),
        nn.BatchNorm2d(5, momentum=0.3),
        nn.AvgPool2d(1),
        nn.Conv2d(5, 9, 3, stride=2, padding=padding, bias=bias),
        nn.ReLU(),
        nn.BatchNorm2d(9),
    )


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("input_grad", [True, False])
@pytest.mark.parametrize(("count", "height", "width"), [(64, 15, 12), (33, 8, 9), (96, 7, 7), (70, 10, 11)])
def test_values_gradients_and_running_statistics_are_those_of_float64(padding, bias, input_grad, count, height, width):
    ours = network(padding, bias)
    theirs, maps = copy.deepcopy(ours).double(), torch.randn(count, 3, height, width)
    results = []
    for model, forward, batch in ((ours, chwn.ChwnForward(ours), maps), (theirs, theirs, maps.double())):
        batch.requires_grad_(input_grad)
        out = forward(batch)
        gradient = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
        gradients = torch.autograd.grad(out, [*([batch] if input_grad else []), *model.parameters()], gradient)
        statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        results.append([out, *gradients, *statistics])
    for two, one in zip(*results, strict=True):
        assert (two - one).norm() <= 2e-5 * max(one.norm(), 1)


@pytest.mark.parametrize("count", [16, 100])
def test_in_evaluation_mode_too(count):
    model, maps = network(1, True), torch.randn(count, 3, 13, 14)
    model(torch.randn(50, 3, 13, 14))
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(chwn.ChwnForward(model)(maps), model(maps), rtol=1e-4, atol=1e-5)


def test_alone_it_is_pytorchs():
    """Without the layers behind it there is no loop for it, and the model is not said to be one for the loops."""
    model = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 3, stride=(2, 1)))
    assert not chwn.supports(model)
    maps = torch.randn(20, 3, 12, 12)
    torch.testing.assert_close(chwn.ChwnForward(model)(maps), model(maps), rtol=1e-4, atol=1e-5)
