"""The course's own layers against PyTorch's."""

import math

import pytest
import torch
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from common import models
from common.cpu_kernels.dropout import Dropout
from common.models.layers import Twice, TwiceNormalised
from common.models.test_time_augmentation import BACKGROUND, VIEWS, augment_views, predict_with_tta


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


def test_the_looks_are_those_that_torchvision_would_give():
    torch.manual_seed(1)
    images = torch.rand(3, 1, 28, 28) * 3 + BACKGROUND
    for (degrees, right, down, size), seen in zip(VIEWS, augment_views(images).split(3), strict=True):
        moves = {"angle": degrees, "translate": [right, down], "scale": size, "shear": [0.0]}
        expected = affine(images, **moves, interpolation=InterpolationMode.BILINEAR, fill=[BACKGROUND])
        assert torch.allclose(seen[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], atol=1e-4)
    first, to_the_right, *_ = augment_views(images).split(3)
    assert torch.allclose(first, images, atol=1e-4)
    assert torch.allclose(to_the_right[..., 1:], images[..., :-1], atol=1e-4)
    assert to_the_right[..., 0].sub(BACKGROUND).abs().max() < 1e-4


def test_a_vote_by_hand():
    """All looks but one say 1:1; one is sure of the first class with 4:1, which weighs a ninth in the logarithm."""

    def network(images):
        answers = torch.full((len(images), 2), 0.5).log()
        answers[2] = torch.tensor([0.8, 0.2]).log()  # the third look of a batch of one
        return answers

    first, second = predict_with_tta(network, torch.zeros(1, 1, 28, 28)).exp()[0].tolist()
    assert first / second == pytest.approx(4 ** (1 / len(VIEWS)), abs=1e-5)
    assert math.isclose(first + second, 1, abs_tol=1e-6)


def test_a_vote_keeps_the_images_apart():
    torch.manual_seed(1)
    network, images = models.build("S8/step7_two_budgets"), torch.randn(4, 1, 28, 28)
    for _ in range(30):  # for BatchNorm's running means: without them all scores are nearly 0
        network(images)
    network.eval()
    together, alone = network(images), torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-4)
    one_look = models.build("S8/under_8k_one_view").eval()
    one_look.load_state_dict(network.state_dict())
    by_hand = torch.stack([one_look(seen) for seen in augment_views(images).split(4)]).mean(dim=0).log_softmax(dim=1)
    assert torch.allclose(together, by_hand, atol=1e-4)
    assert not torch.allclose(together, one_look(images), atol=1e-2)


def test_training_has_one_look():
    network, images = models.build("S8/step7_two_budgets").train(), torch.randn(4, 1, 28, 28)
    one_look = models.build("S8/under_8k_one_view").train()
    one_look.load_state_dict(network.state_dict())
    assert torch.equal(network(images), one_look(images))
