"""How the weights move: each number worked out by hand, or held against PyTorch's own."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from common.recipe import Recipe
from common.training import optimizers


def recipe(**values) -> Recipe:
    return Recipe(**{"step": "S7/block3", "epochs": 2, "batch_size": 4, "lr": 0.1} | values)


def test_weight_decay_pulls_on_kernels_and_on_nothing_else():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = optimizers.make_optimizer(model, recipe(weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        factor = 1 - 0.1 * 0.5 if new.ndim > 1 else 1
        torch.testing.assert_close(new.detach(), factor * old)


def test_nesterov_looks_ahead():
    weight = nn.Parameter(torch.zeros(()))
    optimizer = optimizers.make_optimizer(nn.ParameterList([weight]), recipe(momentum=0.9, nesterov=True))
    for _ in range(2):
        weight.grad = torch.ones(())
        optimizer.step()
    # v = 1, then 1.9; each step is lr (g + 0.9 v): 0.1 (1.9 + 2.71)
    assert weight.item() == pytest.approx(-0.461, abs=1e-6)


def test_the_optimizer_is_pytorchs_to_the_bit_and_does_without_its_compiler():
    script = """
import sys
import torch
from common.training import optimizers

def trained(kind, **settings):
    torch.manual_seed(1)
    layer = torch.nn.Linear(5, 3)
    groups = [{"params": [layer.weight], "weight_decay": 0.1}, {"params": [layer.bias]}]
    optimizer = kind(groups, lr=0.1, momentum=0.9, nesterov=True, **settings)
    for step in range(5):
        optimizer.zero_grad()
        layer(torch.randn(4, 5)).square().sum().backward()
        optimizer.step()
        if step == 2:
            optimizer.load_state_dict(optimizer.state_dict())
    return layer.weight.detach()

ours = trained(optimizers.SGD), trained(optimizers.SGD, fused=True)
assert "torch._dynamo" not in sys.modules
assert torch.equal(ours[0], trained(torch.optim.SGD))
assert torch.equal(ours[1], trained(torch.optim.SGD, fused=True))
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def rates(one: Recipe, steps_per_epoch: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=one.lr)
    schedule = optimizers.make_schedule(optimizer, one, steps_per_epoch)
    found = []
    for _ in range(one.epochs):
        for _ in range(steps_per_epoch):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    return found


def test_one_cycle_rises_to_the_top_and_falls_to_nothing():
    found = rates(recipe(one_cycle=0.25, lr=0.1), steps_per_epoch=10)
    top = found.index(max(found))
    assert top == 5  # a quarter of 20 steps
    assert found[0] == pytest.approx(0.1 / 25)
    assert max(found) == pytest.approx(0.1)
    assert found[:6] == sorted(found[:6])
    assert found[5:] == sorted(found[5:], reverse=True)
    assert found[10] == pytest.approx(0.1 * (1 + math.cos(math.pi / 3)) / 2)  # a third of the way down
    assert 0 < found[-1] < 0.1 * 0.02


def test_one_cycle_is_torchs_but_for_a_step():
    steps = 1_000
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps, pct_start=0.3, cycle_momentum=False)
    for step in range(steps):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(
            0.1 * optimizers.one_cycle(step / steps, 0.3), abs=0.0006
        )
        optimizer.step()
        theirs.step()


def test_a_short_run_has_the_rates_of_a_long_one_at_the_beginning_of_each_epoch():
    one = recipe(one_cycle=0.2, epochs=15)
    assert rates(one, 8)[::8] == pytest.approx(rates(one, 938)[::938], rel=1e-12)


def test_a_stepped_rate_moves_with_the_epochs_alone():
    assert rates(recipe(lr_step=1, lr_gamma=0.5), steps_per_epoch=3) == pytest.approx([0.1] * 3 + [0.05] * 3)
    assert rates(recipe(), steps_per_epoch=3) == pytest.approx([0.1] * 6)


def test_the_running_mean_is_the_exponential_one_and_takes_batchnorm_along():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    mean = optimizers.weight_ema(model, recipe(ema_decay=0.9))
    expected = None
    for steps, value in enumerate((1.0, 2.0, 5.0)):
        with torch.no_grad():
            model[0].weight.fill_(value)
            model[1].running_mean.fill_(10 * value)
        mean.update_parameters(model)
        keep = (1 + steps) / (10 + steps)  # these few steps never reach 0.9
        expected = value if expected is None else keep * expected + (1 - keep) * value
    assert mean.module[0].weight.item() == pytest.approx(expected)
    assert mean.module[1].running_mean.item() == pytest.approx(10 * expected)
    assert math.isclose(expected, (3 / 12) * (1 * 2 / 11 + 2 * 9 / 11) + (9 / 12) * 5)
    assert optimizers.weight_ema(model, recipe()) is None


def test_after_many_steps_the_running_mean_keeps_what_the_recipe_says():
    weight = nn.ParameterList([nn.Parameter(torch.zeros(()))])
    mean = optimizers.weight_ema(weight, recipe(ema_decay=0.9))
    for _ in range(200):
        mean.update_parameters(weight)
    with torch.no_grad():
        weight[0].fill_(1.0)
    for _ in range(2):
        mean.update_parameters(weight)
    assert mean.module[0].item() == pytest.approx(0.1 + 0.9 * 0.1)
