"""Several looks: each against torchvision, and their vote by hand."""

import math

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from common import models
from common.looks import BACKGROUND, LOOKS, seen, vote


def test_the_looks_are_those_that_torchvision_would_give():
    torch.manual_seed(1)
    images = torch.rand(3, 1, 28, 28) * 3 + BACKGROUND
    for (degrees, right, down, size), look in zip(LOOKS, seen(images).split(3), strict=True):
        moves = {"angle": degrees, "translate": [right, down], "scale": size, "shear": [0.0]}
        expected = affine(images, **moves, interpolation=InterpolationMode.BILINEAR, fill=[BACKGROUND])
        assert torch.allclose(look[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], atol=1e-4)
    first, to_the_right, *_ = seen(images).split(3)
    assert torch.allclose(first, images, atol=1e-4)
    assert torch.allclose(to_the_right[..., 1:], images[..., :-1], atol=1e-4)
    assert to_the_right[..., 0].sub(BACKGROUND).abs().max() < 1e-4


def test_a_vote_by_hand():
    """All looks but one say 1:1; one is sure of the first class with 4:1, which weighs a ninth in the logarithm."""

    def network(images):
        answers = torch.full((len(images), 2), 0.5).log()
        answers[2] = torch.tensor([0.8, 0.2]).log()  # the third look of a batch of one
        return answers

    first, second = vote(network, torch.zeros(1, 1, 28, 28)).exp()[0].tolist()
    assert first / second == pytest.approx(4 ** (1 / len(LOOKS)), abs=1e-5)
    assert math.isclose(first + second, 1, abs_tol=1e-6)


def test_a_vote_keeps_the_images_apart():
    torch.manual_seed(1)
    network, images = models.build("S7/block4"), torch.randn(4, 1, 28, 28)
    for _ in range(30):  # for BatchNorm's running means: without them all scores are nearly 0
        network(images)
    network.eval()
    together, alone = network(images), torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-4)
    one_look = models.build("S7/block4_one_look").eval()
    one_look.load_state_dict(network.state_dict())
    by_hand = torch.stack([one_look(look) for look in seen(images).split(4)]).mean(dim=0).log_softmax(dim=1)
    assert torch.allclose(together, by_hand, atol=1e-4)
    assert not torch.allclose(together, one_look(images), atol=1e-2)


def test_training_has_one_look():
    network, images = models.build("S7/block4").train(), torch.randn(4, 1, 28, 28)
    one_look = models.build("S7/block4_one_look").train()
    one_look.load_state_dict(network.state_dict())
    assert torch.equal(network(images), one_look(images))
