"""How the weights move: the optimizer, its learning rate over a run, and a moving average of the weights."""

import inspect
import math

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common.recipe import Recipe


class SGD(torch.optim.SGD):
    """PyTorch's SGD, whose methods do not first import PyTorch's compiler, as the original's do: 1 s of every run."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


def make_optimizer(model: nn.Module, recipe: Recipe, fused: bool = False) -> SGD:
    """SGD by the recipe. Weight decay pulls on kernels and dense weights alone.

    A bias, or BatchNorm's scale and shift, is a single number per channel: pulling it towards 0 does not make the
    function simpler (He et al. 2019, https://arxiv.org/abs/1812.01187, section 3.1). `fused` moves all weights in one
    call, which is faster and differs by rounding.
    """
    settings = {"lr": recipe.lr, "momentum": recipe.momentum, "nesterov": recipe.nesterov, "fused": fused or None}
    if not recipe.weight_decay:
        return SGD(model.parameters(), **settings)
    weights, others = [], []
    for parameter in model.parameters():
        (weights if parameter.ndim > 1 else others).append(parameter)
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others}]
    return SGD(groups, **settings)


def one_cycle(done: float, rise: float) -> float:
    """The learning rate, as a share of the highest, when the share `done` of a run is over.

    `rise` is the share of the run in which the rate goes up, less than 1. It goes from 1/25 up to 1 along half a
    cosine, and down to 0 along another (Smith and Topin 2018, https://arxiv.org/abs/1708.07120). torch's OneCycleLR
    draws the same curve but for one step. Since all is in shares, epochs of fewer batches have the same rates.
    """
    if done < rise:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * done / rise)) / 2
    return (1 + math.cos(math.pi * (done - rise) / (1 - rise))) / 2


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int):
    """The learning rate over a run, as a scheduler of PyTorch's whose `step()` follows every step of the optimizer.

    With `recipe.one_cycle` it follows `one_cycle`; with `recipe.lr_step` it is multiplied by `recipe.lr_gamma` after
    every so many epochs; else it stays.
    """
    schedulers = torch.optim.lr_scheduler
    if recipe.one_cycle:
        steps = recipe.epochs * steps_per_epoch
        return schedulers.LambdaLR(optimizer, lambda step: one_cycle(step / steps, recipe.one_cycle))
    if recipe.lr_step:
        return schedulers.StepLR(optimizer, recipe.lr_step * steps_per_epoch, recipe.lr_gamma)
    return schedulers.LambdaLR(optimizer, lambda step: 1.0)


def weight_ema(model: nn.Module, recipe: Recipe) -> AveragedModel | None:
    """A second model that holds an exponential moving average (EMA) of the first's weights and BatchNorm statistics.

    None where the recipe has no `ema_decay`. Each call of its `update_parameters(model)` keeps the share
    `recipe.ema_decay` of the average and adds the rest of what `model` has now: an average over the last
    1 / (1 - ema_decay) steps or so (Polyak and Juditsky 1992; `torch.optim.swa_utils`). The noise of the single steps
    averages out, as it would with a lower learning rate. After n of the first steps it keeps less,
    (1 + n) / (10 + n), so that the untrained weights are soon forgotten.
    """
    if not recipe.ema_decay:
        return None

    def average(means: list, weights: list, steps: torch.Tensor) -> None:
        keep = min(recipe.ema_decay, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(keep)(means, weights, steps)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
