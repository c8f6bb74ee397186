"""Convolutions of every kind with BatchNorm and an activation behind them: values and gradients, held to float64."""

import copy
import importlib

import pytest
import torch
from torch import nn

from common.cpu_kernels import chwn

pytest.importorskip("numba")
autograd = importlib.import_module("common.cpu_kernels.autograd")

CONVOLUTIONS = {
    "3x3": lambda bias: nn.Conv2d(6, 9, 3, bias=bias),
    "3x3, padded": lambda bias: nn.Conv2d(6, 9, 3, padding=1, bias=bias),
    "1x1": lambda bias: nn.Conv2d(6, 9, 1, bias=bias),
    "depthwise": lambda bias: nn.Conv2d(6, 6, 3, groups=6, bias=bias),
    "depthwise, padded": lambda bias: nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=bias),
}
ACTIVATIONS = {"none": [], "ReLU": [nn.ReLU()], "SiLU": [nn.SiLU()]}
SHAPES = [(64, 6, 9, 7), (33, 6, 5, 8), (19, 6, 3, 3), (5, 6, 12, 4)]


def block(kind, activation, bias=True):
    """A block whose BatchNorm has other numbers than those of the start."""
    torch.manual_seed(6)
    convolution = CONVOLUTIONS[kind](bias)
    norm = nn.BatchNorm2d(convolution.out_channels, momentum=0.3)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return nn.Sequential(convolution, norm, *ACTIVATIONS[activation])


def pass_through(model, forward, maps, gradient):
    """The values, and the gradients of the maps and of every parameter."""
    maps = maps.clone().requires_grad_()
    out = forward(maps)
    return [out.detach(), *torch.autograd.grad(out, [maps, *model.parameters()], gradient)]


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_values_gradients_and_running_statistics_are_those_of_float64(kind, activation, monkeypatch):
    plans, plan = [], autograd.ExecutionPlan
    monkeypatch.setattr(autograd, "ExecutionPlan", lambda *arguments: plans.append(plan(*arguments)) or plans[-1])
    for number, shape in enumerate(SHAPES):
        ours = block(kind, activation, bias=number % 2 == 0)
        theirs, library = copy.deepcopy(ours).double(), copy.deepcopy(ours)
        maps = 3 * torch.randn(shape)
        gradient = torch.randn(theirs(maps.double()).shape)
        theirs.load_state_dict(ours.state_dict())  # the running statistics from before
        results = pass_through(ours, chwn.ChwnForward(ours), maps, gradient)
        expected = pass_through(theirs, theirs, maps.double(), gradient.double())
        plain = pass_through(library, library, maps, gradient)
        for one, two, three in zip(expected, results, plain, strict=True):
            assert (two - one).norm() <= 2 * (three - one).norm() + 2e-6 * max(one.norm(), 1)
        for one, two in zip(theirs.buffers(), ours.buffers(), strict=True):
            torch.testing.assert_close(two.double(), one.double(), rtol=1e-5, atol=1e-6)
    assert len(plans) == len(SHAPES)  # else PyTorch was compared with itself


@pytest.mark.parametrize("kind", ["depthwise", "depthwise, padded"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_depthwise_convolution_alone_is_that_of_float64(kind, bias):
    """Between a layer that pads what it fills and a 1x1 convolution, as the frontier's networks have it."""
    for shape in SHAPES:
        torch.manual_seed(3)
        ours = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), CONVOLUTIONS[kind](bias), nn.Conv2d(6, 4, 1))
        theirs = copy.deepcopy(ours).double()
        maps, gradient = torch.randn(shape), torch.randn(theirs(torch.zeros(shape).double()).shape)
        results = pass_through(ours, chwn.ChwnForward(ours), maps, gradient)
        expected = pass_through(theirs, theirs, maps.double(), gradient.double())
        for one, two in zip(expected, results, strict=True):
            assert (two - one).norm() <= 5e-5 * max(one.norm(), 1)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_in_evaluation_mode_the_running_statistics_count_and_stay_as_they_are(kind, activation):
    model = block(kind, activation).eval()
    maps = torch.randn(201, 6, 9, 7)  # more than go through at once
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with torch.no_grad():
        ours, theirs = chwn.ChwnForward(model)(maps), copy.deepcopy(model).double()(maps.double())
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_a_mode_that_changes_takes_effect_at_once():
    """Training, testing and training again through one forward, with running statistics that moved in between."""
    ours = block("depthwise", "SiLU")
    theirs, forward, maps = copy.deepcopy(ours), chwn.ChwnForward(ours), torch.randn(16, 6, 6, 6)
    for training in (True, False, True, False):
        with torch.no_grad():
            torch.testing.assert_close(forward(maps), theirs(maps), rtol=1e-4, atol=1e-5)
        ours.train(training)
        theirs.train(training)


def test_silu_is_right_far_from_zero_and_nan_stays_nan():
    """e^x is computed within the range of float32; beyond it SiLU is x or 0."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0), nn.SiLU()).eval()
    nn.init.ones_(model[0].weight)
    values = torch.cat([torch.linspace(-200, 200, 4001), torch.tensor([1e-30, -1e-30, 3e38, -3e38, 0.0])])
    with torch.no_grad():
        ours = chwn.ChwnForward(model)(values.view(-1, 1, 1, 1)).flatten()
        assert chwn.ChwnForward(model)(torch.full((20, 1, 1, 1), float("nan"))).isnan().all()
    expected = nn.functional.silu(values.double())
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("kind", ["3x3", "depthwise"])
@pytest.mark.parametrize("bias", [-1000.0, 30.0])
def test_a_mean_far_from_zero_costs_no_digits(kind, bias):
    """E[x^2] - mean^2 in float32 has none left at 1000. What stays is the rounding of the convolution's sums."""
    ours = block(kind, "SiLU")
    with torch.no_grad():
        ours[0].bias.fill_(bias)
    theirs, maps = copy.deepcopy(ours).double(), torch.randn(32, 6, 9, 9)
    gradient = torch.randn(theirs(maps.double()).shape)
    results = pass_through(ours, chwn.ChwnForward(ours), maps, gradient)
    expected = pass_through(theirs, theirs, maps.double(), gradient.double())
    torch.testing.assert_close(results[0].double(), expected[0], rtol=0, atol=2e-6 * abs(bias))
    for one, two in zip(expected[1:3], results[1:3], strict=True):
        assert (two - one).norm() <= 1e-3 * one.norm()
