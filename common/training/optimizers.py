"""How the weights move: the optimizer, the schedule of its learning rate, a running mean of the weights."""

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common.recipe import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe, fused: bool = False) -> torch.optim.SGD:
    """SGD by the recipe; weight decay pulls on kernels and dense weights alone.

    `fused` moves all weights in one call, which differs by rounding.

    A bias or BatchNorm's scale and shift are single numbers a channel, and pulling them towards 0 does not make the
    function simpler (He et al. 2019, https://arxiv.org/abs/1812.01187, section 3.1).
    """
    settings = {"lr": recipe.lr, "momentum": recipe.momentum, "nesterov": recipe.nesterov, "fused": fused or None}
    if not recipe.weight_decay:
        return torch.optim.SGD(model.parameters(), **settings)
    weights, others = [], []
    for parameter in model.parameters():
        (weights if parameter.ndim > 1 else others).append(parameter)
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others}]
    return torch.optim.SGD(groups, **settings)


def one_cycle(done: float, rise: float) -> float:
    """The share of the highest learning rate when the share `done` of a run is over, and `rise` of it is the rise.

    Along half a cosine from 1/25 up to 1, along another down to 0 (Smith and Topin 2018,
    https://arxiv.org/abs/1708.07120). torch's OneCycleLR draws the same curve but for one step; by shares, a short run
    has the rates of a long one at the beginning of each epoch.
    """
    if done < rise:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * done / rise)) / 2
    return (1 + math.cos(math.pi * (done - rise) / (1 - rise))) / 2


class Schedule:
    """The learning rate over a run: after each step of the optimizer call `after_step`, after each epoch `after_epoch`.

    With `recipe.one_cycle` it is moved with every step, as `one_cycle` says; else it falls by a
    factor after some epochs, or never.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int):
        """See the class."""
        schedules, self.every_step = torch.optim.lr_scheduler, recipe.one_cycle > 0
        if self.every_step:
            steps = recipe.epochs * steps_per_epoch
            self.schedule = schedules.LambdaLR(optimizer, lambda step: one_cycle(step / steps, recipe.one_cycle))
        else:
            self.schedule = schedules.StepLR(optimizer, recipe.lr_step or recipe.epochs, recipe.lr_gamma)

    def after_step(self) -> None:
        """Move on, if this schedule moves with every step."""
        if self.every_step:
            self.schedule.step()

    def after_epoch(self) -> None:
        """Move on, if this schedule moves with every epoch."""
        if not self.every_step:
            self.schedule.step()

    def state_dict(self) -> dict:
        """Where the schedule stands."""
        return self.schedule.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Go on from there."""
        self.schedule.load_state_dict(state)


def weight_ema(model: nn.Module, recipe: Recipe) -> AveragedModel | None:
    """A second model whose weights and BatchNorm means follow the first's, or None where the recipe has no averaging.

    Each call of its `update_parameters(model)` keeps the share `recipe.ema_decay` of what it has and adds the rest of
    what `model` has: an exponential mean over the last 1 / (1 - averaging) steps or so (Polyak and Juditsky 1992;
    `torch.optim.swa_utils`). The noise of the single steps averages out, as it would with a lower learning rate. In the
    first steps it keeps less, (1 + n) / (10 + n) after n of them, so that the untrained weights are soon forgotten.
    """
    if not recipe.ema_decay:
        return None

    def average(means: list, weights: list, steps: torch.Tensor) -> None:
        keep = min(recipe.ema_decay, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(keep)(means, weights, steps)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
