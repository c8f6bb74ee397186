"""ReLU, Dropout and BatchNorm where no convolution stands right before them, held to float64 and to their masks."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from common.cpu_kernels import chwn
from common.cpu_kernels.dropout import Dropout

pytest.importorskip("numba")


def statistics(model):
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


def network():
    """Each of the three between layers that are chained, the last ones before a convolution that wants zeros."""
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.BatchNorm2d(5, momentum=0.3),
        nn.Conv2d(5, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 6, 3),
    )
    for layer in model:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return model


@pytest.mark.parametrize("count", [64, 33, 9])
def test_values_gradients_and_running_statistics_are_those_of_float64(count):
    ours = network()
    theirs, maps = copy.deepcopy(ours).double(), torch.randn(count, 3, 13, 16)
    results = []
    for model, forward, batch in ((ours, chwn.ChwnForward(ours), maps), (theirs, theirs, maps.double())):
        batch.requires_grad_()
        out = forward(batch)
        gradient = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
        results.append([out, *torch.autograd.grad(out, [batch, *model.parameters()], gradient), *statistics(model)])
    for two, one in zip(*results, strict=True):
        assert (two - one).norm() <= 1e-5 * max(one.norm(), 1)


def test_in_evaluation_mode_they_go_by_the_running_statistics():
    model = network().insert(5, Dropout(0.5)).eval()
    maps = torch.randn(50, 3, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(chwn.ChwnForward(model)(maps), model(maps), rtol=1e-4, atol=1e-5)


def test_a_share_of_the_values_is_dropped_and_the_same_ones_in_the_backward_pass():
    """A 1x1 convolution by 1 hands the values on, so that what comes out shows which of them were dropped."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1), Dropout(0.3), nn.AvgPool2d(1))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2).view(2, 2, 1, 1))
        model[0].bias.zero_()
    forward, maps = chwn.ChwnForward(model), torch.ones(64, 2, 20, 20, requires_grad=True)
    first = forward(maps)
    first.sum().backward()
    assert first.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (first == 0).float().mean() == pytest.approx(0.3, abs=0.01)  # 51,200 draws: five standard deviations
    assert (first == 0).float().mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.3, 0.3], abs=0.015)
    assert torch.equal(maps.grad, first)
    second = forward(maps)
    kept = (first == 0) & (second == 0)
    assert kept.float().mean() == pytest.approx(0.09, abs=0.01)  # the next step drops others


def test_at_exactly_zero_no_gradient_passes_a_relu():
    """In a network a layer before it would hide that: what is 0 there has often been stopped already."""
    from common.cpu_kernels import elementwise

    maps = torch.tensor([-1.0, -0.0, 0.0, 1e-30, 2.0], requires_grad=True)
    torch.relu(maps).sum().backward()
    found = np.empty((1, 1, 1, 5), np.float32)
    elementwise.relu_backward(np.ones_like(found), maps.detach().numpy().reshape(found.shape), found)
    assert found.ravel().tolist() == maps.grad.tolist() == [0, 0, 0, 1, 1]
