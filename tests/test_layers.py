"""The course's own layers against PyTorch's."""

import pytest
import torch
from torch import nn

from common.layers import Dropout, Twice, TwiceNormalised


def kept_share(layer, count=1_000_000):
    torch.manual_seed(1)
    return (layer(torch.ones(count)) != 0).float().mean().item()


@pytest.mark.parametrize("p", [0.05, 0.1, 0.25, 0.5, 0.9])
def test_a_share_of_p_is_dropped_and_the_rest_scaled_as_in_pytorch(p):
    standard_error = (p * (1 - p) / 1_000_000) ** 0.5
    assert kept_share(Dropout(p)) == pytest.approx(1 - p, abs=4 * standard_error)
    torch.manual_seed(1)
    ours = Dropout(p)(torch.full((100, 3), 2.0)).unique()
    torch.manual_seed(1)
    theirs = nn.Dropout(p)(torch.full((100, 3), 2.0)).unique()
    assert torch.allclose(ours, theirs)


def test_neighbours_are_dropped_independently():
    """The four draws of a 64-bit word, and those of neighbouring words: the correlation of shifted masks is noise."""
    torch.manual_seed(2)
    mask = (Dropout(0.5)(torch.ones(400_000)) != 0).double() - 0.5
    for shift in (1, 2, 3, 4, 8):
        correlation = (mask[shift:] * mask[:-shift]).mean().item() / 0.25
        assert abs(correlation) < 4 / 400_000**0.5


def test_the_gradient_passes_where_values_passed():
    values = torch.ones(1_001, requires_grad=True)  # not a multiple of four
    outputs = Dropout(0.25)(values)
    outputs.sum().backward()
    assert torch.equal(values.grad, outputs.detach())


def test_equal_seeds_give_equal_masks_and_each_call_another():
    layer, values = Dropout(0.5), torch.ones(64)
    torch.manual_seed(3)
    first, second = layer(values), layer(values)
    torch.manual_seed(3)
    assert torch.equal(first, layer(values))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("layer", [Dropout(0.0), Dropout(0.5).eval()])
def test_nothing_is_dropped_in_eval_mode_or_at_zero(layer):
    values = torch.randn(10)
    assert torch.equal(layer(values), values)


def test_everything_is_dropped_at_one():
    assert Dropout(1.0)(torch.ones(10)).sum() == 0


def test_a_layer_used_twice_collects_its_gradient_from_both_places():
    layer = nn.Linear(1, 1, bias=False)
    twice = Twice(layer)
    nn.init.constant_(layer.weight, 0.7)
    twice(torch.tensor([[3.0]])).backward()
    assert layer.weight.grad.item() == pytest.approx(2 * 0.7 * 3)  # d(w w x)/dw
    assert [name for name, _ in twice.named_parameters()] == ["layer.weight"]


def test_each_use_of_shared_convolutions_has_running_means_of_its_own():
    convolution = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(convolution.weight, 3.0)
    layer = TwiceNormalised(convolution, 1)
    values = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
    layer(values)
    first, second = (norm[0].running_mean.item() for norm in layer.norms)
    assert first == pytest.approx(0.1 * 3.0)  # the mean of 0 and 6, of which BatchNorm takes a tenth
    silu = nn.functional.silu(torch.tensor([-1.0, 1.0]))  # the first use normalises 0 and 6 to -1 and 1
    assert second == pytest.approx(0.1 * 3 * silu.mean().item(), abs=1e-4)
    assert len(list(layer.parameters())) == 1 + 4
