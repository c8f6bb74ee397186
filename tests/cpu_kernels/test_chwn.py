"""A model that trains by ChwnForward gives the values and gradients that it gives without, whatever is done to it."""

import copy
import importlib
import io
import os
import pickle
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, prune

from common import models
from common.cpu_kernels import chwn
from common.cpu_kernels.dropout import Dropout
from common.recipe import ROOT

numba = pytest.importorskip("numba")
autograd = importlib.import_module("common.cpu_kernels.autograd")

SUPPORTED = [
    "S6/part2_step1_dense_head",
    "S6/part2_step2_strided",
    "S6/part2_step3_global_pooling",
    "S8/under_20k",
    "S7/block1",
    "S7/block3",
    "S8/step7_two_budgets",
    "S8/under_8k_dense",
    "S8/step8_frontier",
]
LIKE_THEM = [  # the same layers in other widths and numbers
    "S8/under_20k_one_view",
    "S8/under_20k_no_dropout",
    "S7/block2",
    "S8/under_8k_one_view",
    "S8/under_8k_relu",
    "S8/frontier_1196",
    "S8/frontier_1782",
    "S8/frontier_2784",
    "S8/frontier_3716",
    "S8/frontier_693",
    "S8/frontier_559",
    "S8/frontier_dense",
    "S8/frontier_hybrid",
    "S8/frontier_deep",
    "S8/frontier_overlapping",  # but for its pools
    "S8/frontier_shared",
    "S10/step2_other_writers",
]


def network(step, dropout=False, max_pool=True):
    """An untrained network in training mode, whose dropout is off unless asked for: its draws are not PyTorch's."""
    torch.manual_seed(1)
    model = models.build(step).train()
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)) and not dropout:
            module.p = 0.0
        for name, layer in module.named_children():
            if isinstance(layer, nn.MaxPool2d) and not max_pool:
                setattr(module, name, nn.AvgPool2d(2))
    return model


def small():
    """Two blocks and what stands around them."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout2d(0.0)),
        nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.ReLU(), Dropout(0.0), nn.BatchNorm2d(6, momentum=0.3)),
        nn.Conv2d(6, 5, 1),
        nn.AvgPool2d(2),
        nn.Flatten(),
    )


def separable():
    """The same positions, filled with the other kind of blocks: BatchNorm before an activation, and depthwise."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.SiLU()),
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4, momentum=0.3), nn.ReLU()),
        nn.Conv2d(4, 5, 1),
        nn.AvgPool2d(2),
        nn.Flatten(),
    )


def images(count, seed=2, size=28):
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def gradients(model, forward, batch):
    """What one pass forward and back gives: the outputs, and every parameter's gradient."""
    model.zero_grad()
    out = forward(batch)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return [out.detach(), *(parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None)]


def both_ways(change=lambda model: None, batch=None, make=small):
    """The same change to two equal models, after a step of each; then a step as PyTorch has it, and one of ours."""
    batch, results = images(8, size=8) if batch is None else batch, []
    for wrap in (lambda model: model, chwn.ChwnForward):
        model = make().train()
        forward = wrap(model)
        gradients(model, forward, batch)
        change(model)
        results.append([*gradients(model, forward, batch), *model.buffers()])
    return results


def assert_same(theirs, ours):
    for one, two in zip(theirs, ours, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)


def plans_asked_for(monkeypatch):
    """The plans that are made from now on."""
    made, plan = [], autograd.ExecutionPlan

    def make(*arguments):
        made.append(plan(*arguments))
        return made[-1]

    monkeypatch.setattr(autograd, "ExecutionPlan", make)
    return made


@pytest.mark.parametrize("count", [64, 33])
@pytest.mark.parametrize("step", SUPPORTED)
def test_gradients_and_running_statistics_are_those_of_float64(step, count):
    """To within three times what PyTorch's float32 layers are from it. (Max-pools would send near ties elsewhere.)"""
    plain, batch, results = network(step, max_pool=False), images(count), []
    models = (plain, copy.deepcopy(plain), copy.deepcopy(plain).double())
    for model, wrap in zip(models, (lambda one: one, chwn.ChwnForward, lambda one: one), strict=True):
        outputs = wrap(model)(batch.to(next(model.parameters()).dtype))
        F.nll_loss(outputs, torch.arange(count) % 10).backward()
        results.append([parameter.grad for parameter in model.parameters()])
    for pytorchs, ours, exact in zip(*results, strict=True):
        assert (ours - exact).norm() <= 3 * (pytorchs - exact).norm() + 1e-5 * exact.norm() + 1e-9
    for one, two in zip(models[2].buffers(), models[1].buffers(), strict=True):
        torch.testing.assert_close(two.double(), one.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", SUPPORTED)
def test_gradients_are_pytorchs_through_max_pools_too(step):
    """Rounding sends a few max-pools of random pixels to another pixel, and with them a hundredth of a gradient."""
    plain, batch, results = network(step), images(64), []
    for model, wrap in ((plain, lambda one: one), (copy.deepcopy(plain), chwn.ChwnForward)):
        F.nll_loss(wrap(model)(batch), torch.arange(64) % 10).backward()
        results.append([parameter.grad for parameter in model.parameters()])
    for one, two in zip(*results, strict=True):
        assert (two - one).norm() <= 2e-2 * one.norm() + 1e-6


def test_the_loops_are_used(monkeypatch):
    """Else every comparison here would be of PyTorch's layers with themselves."""
    made = plans_asked_for(monkeypatch)
    both_ways()
    assert [len(plan.calls) for plan in made] == [4]  # of both steps


def test_the_model_stays_a_plain_one_during_and_after_training():
    model = small()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    forward = chwn.ChwnForward(model)
    gradients(model, forward, images(8, size=8))
    with pytest.raises(RuntimeError):
        forward(torch.zeros(8, 2, 8, 8))  # two channels too many
    for name, module in model.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert type(module).__module__.startswith(("torch.", "common.cpu_kernels.dropout"))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)):
        assert all(type(module) in {type(one) for one in small().modules()} for module in other.modules())
        assert_same(gradients(model, model, images(8, size=8)), gradients(other, other, images(8, size=8)))


@pytest.mark.parametrize("step", [*SUPPORTED, "S8/frontier_overlapping"])
def test_in_evaluation_mode_the_values_are_the_models(step):
    """Dropout is off, BatchNorm goes by its running statistics; with gradients wanted PyTorch computes them."""
    model = network(step, dropout=True)
    forward = chwn.ChwnForward(model)
    with torch.no_grad():
        for number in range(3):  # statistics that are not those of the start
            forward(images(50, seed=number))
        model.eval()
        torch.testing.assert_close(forward(images(100)), model(images(100)), rtol=1e-4, atol=1e-5)
    assert torch.equal(forward(images(20)), model(images(20)))
    assert forward(images(20)).requires_grad


def replace_weights(model):
    model.load_state_dict({name: -2 * value for name, value in model.state_dict().items()}, assign=True)


def move_weights(model):
    for parameter in model.parameters():
        parameter.data = parameter.data * 2


def narrow(model):
    """Fewer outputs, at the same place in memory."""
    model[2].weight.data, model[2].bias.data = model[2].weight.data[:3], model[2].bias.data[:3]


def add_layers(model):
    model[1].append(nn.Sigmoid())
    model.insert(3, nn.MaxPool2d(2, stride=1))


def set_momentum(model):
    model[0][2].momentum, model[1][3].eps = 0.9, 0.5


def replace_block(model):
    torch.manual_seed(3)
    model[0] = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))


CHANGES = {
    "frozen BatchNorm": lambda model: model[0][2].eval(),
    "all BatchNorms frozen": lambda model: (model[0][2].eval(), model[1][3].eval()),
    "frozen dropout": lambda model: (setattr(model[0][3], "p", 0.5), model[0][3].eval()),
    "all channels dropped": lambda model: setattr(model[0][3], "p", 1.0),
    "all values dropped": lambda model: setattr(model[1][2], "p", 1.0),
    "nearly all values dropped": lambda model: setattr(model[1][2], "p", 1 - 1e-12),
    "cumulative momentum": lambda model: setattr(model[0][2], "momentum", None),
    "other momentum and epsilon": set_momentum,
    "pruned weight": lambda model: prune.l1_unstructured(model[0][0], "weight", 0.5),
    "pruned bias": lambda model: prune.l1_unstructured(model[0][0], "bias", 0.5),
    "weight norm": lambda model: parametrizations.weight_norm(model[1][0]),
    "weights put in another's place": replace_weights,
    "weights moved in memory": move_weights,
    "weights turned in place": lambda model: setattr(model[1][0].weight, "data", model[1][0].weight.data.mT),
    "fewer outputs at the same place": narrow,
    "frozen weights": lambda model: model[1].requires_grad_(False),
    "other layers": add_layers,
    "another block": replace_block,
    "other stride": lambda model: setattr(model[1][0], "stride", (2, 2)),
    "own forward": lambda model: setattr(model[0][1], "forward", torch.sigmoid),
    "hook that changes a layer's output": lambda model: model[0][1].register_forward_hook(lambda *args: args[2] * 2),
    "hook that changes a layer's input": lambda model: model[1][3].register_forward_pre_hook(lambda _, x: x[0] * 2),
    "hook of a container": lambda model: model[0].register_forward_hook(lambda *args: args[2] * 2),
    "hook of the model": lambda model: model.register_forward_hook(lambda *args: args[2] * 2),
    "backward hook": lambda model: model[0][1].register_full_backward_hook(lambda _, grads, __: (2 * grads[0],)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_to_the_model_takes_effect_in_the_next_step(change):
    assert_same(*both_ways(change))


CHANGES_TO_SEPARABLE = {
    "frozen BatchNorm": lambda model: model[0][1].eval(),
    "frozen depthwise BatchNorm": lambda model: model[1][1].eval(),
    "other momentum": lambda model: setattr(model[1][1], "momentum", 0.9),
    "pruned kernel": lambda model: prune.l1_unstructured(model[1][0], "weight", 0.5),
    "weight norm": lambda model: parametrizations.weight_norm(model[1][0]),
    "weights put in another's place": replace_weights,
    "weights moved in memory": move_weights,
    "kernels turned in place": lambda model: setattr(model[1][0].weight, "data", model[1][0].weight.data.mT),
    "frozen weights": lambda model: model[1].requires_grad_(False),
    "padded": lambda model: setattr(model[1][0], "padding", (1, 1)),
    "other stride": lambda model: setattr(model[1][0], "stride", (2, 2)),
    "another activation": lambda model: setattr(model[0], "2", nn.Tanh()),
    "no activation": lambda model: model[0].pop(2),
    "own forward": lambda model: setattr(model[0][2], "forward", torch.sigmoid),
    "hook that changes a layer's output": lambda model: model[1][1].register_forward_hook(lambda *args: args[2] * 2),
    "backward hook": lambda model: model[0][2].register_full_backward_hook(lambda _, grads, __: (2 * grads[0],)),
}


@pytest.mark.parametrize("change", CHANGES_TO_SEPARABLE.values(), ids=CHANGES_TO_SEPARABLE.keys())
def test_a_change_to_separable_layers_takes_effect_in_the_next_step(change):
    assert_same(*both_ways(change, make=separable))


def test_weights_of_a_functional_call_take_effect():
    class Wrapped(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.model = small()
            self.compute = wrap(self.model)

        def forward(self, batch):
            return self.compute(batch)

    results = []
    for wrap in (lambda model: model.forward, chwn.ChwnForward):
        model, weight = Wrapped(wrap), torch.linspace(-1, 1, 36).view(4, 1, 3, 3).requires_grad_()
        model(images(8, size=8)).sum().backward()
        out = torch.func.functional_call(model, {"model.0.0.weight": weight}, images(8, size=8))
        out.square().sum().backward()
        results.append([out, weight.grad])
    assert_same(*results)


def test_a_hook_of_all_modules_is_called():
    seen = []
    hook = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    try:
        chwn.ChwnForward(small())(images(8, size=8))
    finally:
        hook.remove()
    assert seen.count(nn.Conv2d) == 3


def test_autocast_gives_what_it_gives_without():
    model = small()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(images(8, size=8)), chwn.ChwnForward(model)(images(8, size=8)))


@pytest.mark.parametrize(
    ("change", "batch"),
    [
        (lambda model: model.double(), images(8, size=8).double()),
        (lambda model: model, images(8, size=8)[:, :, :, ::2].repeat_interleave(2, 3).mT),  # in another order
        (lambda model: model, images(8, size=8)[:, :, ::2].repeat(1, 1, 2, 1)),
    ],
)
def test_other_types_and_layouts_of_images_are_computed(change, batch):
    assert_same(*both_ways(batch=batch, make=lambda: change(small())))


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(1, 1, 3, 3),  # one value in each channel
        torch.zeros(0, 1, 8, 8),
        torch.zeros(4, 1, 2, 2),  # smaller than the kernel
        torch.zeros(4, 3, 8, 8),  # three channels for a network of one
        torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
    ],
)
def test_what_pytorch_refuses_gets_its_error_and_changes_nothing(batch):
    errors = []
    for wrap in (lambda model: model, chwn.ChwnForward):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))
        forward = wrap(model)
        try:
            forward(batch)
            errors.append(None)
        except (RuntimeError, ValueError) as error:
            errors.append(str(error))
        assert model[2].running_mean.isfinite().all()
        assert model[2].running_var.isfinite().all()
    assert errors[0] == errors[1]


def test_forward_passes_without_gradients_and_graphs_that_are_dropped_use_one_plan(monkeypatch):
    made, forward, batch = plans_asked_for(monkeypatch), chwn.ChwnForward(small()), images(8, size=8)
    for _ in range(3):
        with torch.no_grad():
            forward(batch)
        forward(batch)
    assert len(made) == 1


def test_settings_that_change_in_every_step_need_no_new_plan(monkeypatch):
    made, model = plans_asked_for(monkeypatch), small()
    forward = chwn.ChwnForward(model)
    for step in range(4):
        model[0][2].momentum, model[0][3].p = 0.1 * step, 0.1 * step
        gradients(model, forward, images(8, size=8))
    assert len(made) == 1


def test_many_live_graphs_leave_few_plans():
    model = small()
    forward = chwn.ChwnForward(model)
    for size in range(8, 14):  # more kinds of batches than an epoch has
        outputs = [forward(images(8, seed, size)) for seed in range(6)]
        sum(out.sum() for out in outputs).backward()
    chain = next(stage for stages in forward.containers for stage in stages.stages if isinstance(stage, autograd.Chain))
    assert len(chain.idle) == autograd.KEPT_KINDS
    assert {len(plans) for plans in chain.idle.values()} == {autograd.KEPT_PLANS}


def test_weights_that_change_between_the_passes_are_an_error_as_in_pytorch():
    model = small()
    out = chwn.ChwnForward(model)(images(8, size=8))
    with torch.no_grad():
        model[1][0].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_running_statistics_that_a_graph_needs_may_not_change_unseen():
    model = small()
    forward = chwn.ChwnForward(model)
    out = model.eval()(images(8, size=8).requires_grad_())
    model.train()
    forward(images(8, size=8))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_steps_may_overlap_and_a_backward_pass_is_for_once():
    """Two forward passes before the first backward pass, as where gradients of two micro-batches are added up."""
    model = small()
    forward, batches = chwn.ChwnForward(model), [images(8, seed, 8) for seed in (1, 2)]
    outputs = [forward(batch) for batch in batches]
    for batch, out in zip(batches, outputs, strict=True):
        model.zero_grad()
        out.square().sum().backward(retain_graph=True)
        ours = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        model(batch).square().sum().backward()
        assert_same([parameter.grad for parameter in model.parameters()], ours)
    with pytest.raises(RuntimeError, match="second backward pass"):
        outputs[0].sum().backward()


def test_one_block_in_two_places_and_one_container_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4))
            block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4))
            self.rest = nn.Sequential(block, block, nn.MaxPool2d(2))

        def forward(self, maps):
            return self.rest(self.rest(self.first(maps)))

    assert_same(*both_ways(make=Twice))


def test_a_gradient_for_the_images_is_pytorchs():
    model, results = small(), []
    for forward in (model, chwn.ChwnForward(model)):
        batch = images(8, size=8).requires_grad_()
        forward(batch).square().sum().backward()
        results.append(batch.grad)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_two_threads_may_use_one_forward():
    model = small()
    forward, batch = chwn.ChwnForward(model), images(8, size=8)
    expected, results = model(batch).detach(), []

    def compute():
        results.extend(forward(batch).detach() for _ in range(20))

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 40
    for result in results:
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    assert not any("forward" in vars(module) for module in model.modules())


def test_two_threads_may_use_one_forward_where_there_is_no_openmp():
    """Then numba has threads of its own, and ends a process that uses them from two of Python's at once."""
    test = f"{__file__}::test_two_threads_may_use_one_forward"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(
        command, env=os.environ | {"NUMBA_THREADING_LAYER": "workqueue"}, cwd=ROOT, capture_output=True, text=True
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_equal_seeds_drop_the_same_and_the_next_step_something_else():
    forward, results = chwn.ChwnForward(network("S6/part2_step3_global_pooling", dropout=True)), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results += [forward(images(16)), forward(images(16))]
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[4])


def test_the_loops_give_the_same_bits_with_any_number_of_threads():
    asked, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            model = network("S7/block3", dropout=True)
            torch.manual_seed(3)
            F.nll_loss(chwn.ChwnForward(model)(images(40)), torch.arange(40) % 10).backward()
            results.append([*(parameter.grad for parameter in model.parameters()), *model.buffers()])
    finally:
        torch.set_num_threads(asked)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_what_is_no_number_stays_none():
    """A run that has broken down must say so: a ReLU that turned NaN into 0 would hide it."""
    model = network("S7/block3")
    with torch.no_grad():
        model.layers[0][0].weight[0, 0, 0, 0] = float("nan")
    for forward in (model, chwn.ChwnForward(model)):
        assert F.nll_loss(forward(images(8)), torch.zeros(8, dtype=torch.int64)).isnan()


def test_layers_it_does_not_know_are_computed_as_ever():
    """A network with others between the known ones: strides, a SiLU, a wider pool, a dense end."""

    def make():
        torch.manual_seed(1)
        return nn.Sequential(
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

    assert not chwn.supports(make())
    assert_same(*both_ways(batch=images(12), make=make))


def test_only_networks_with_nothing_else_in_them_are_supported():
    with torch.device("meta"):
        supported = {name for name in models.NETWORKS if chwn.supports(models.build(name))}
    assert supported == {*SUPPORTED, *LIKE_THEM}
