"""A network's fingerprint: of what it computes, not of how its source is written."""

import pytest
import torch
from torch import nn

from common import models
from common.models.fingerprint import structure_sha256


class Plain(nn.Module):
    """Two convolutions and a dense layer."""

    def __init__(self, kernel_size=3, padding=0, share=0.1, shared=False):
        super().__init__()
        self.first, second = (
            nn.Conv2d(1, 1, kernel_size, padding=padding),
            nn.Conv2d(1, 1, kernel_size, padding=padding),
        )
        self.second = self.first if shared else second
        self.dropout, self.pool, self.dense = nn.Dropout(share), nn.AdaptiveAvgPool2d(2), nn.Linear(4, 10)

    def forward(self, images):
        return self.dense(self.pool(self.dropout(self.second(self.first(images)))).flatten(1))


class Renamed(Plain):
    """The same by another name, with another docstring."""


class Swapped(Plain):
    def forward(self, images):
        return self.dense(self.pool(self.second(self.dropout(self.first(images)))).flatten(1))


class SeveralViews(Plain):
    def forward(self, images):
        if self.training:
            return super().forward(images)
        return super().forward(images.repeat(9, 1, 1, 1)).view(9, -1, 10).mean(0)


def test_a_name_and_a_docstring_do_not_count():
    assert structure_sha256(Plain()) == structure_sha256(Renamed())


@pytest.mark.parametrize(
    "other",
    [
        lambda: Plain(kernel_size=5),
        lambda: Plain(padding=1),
        lambda: Plain(share=0.2),
        lambda: Plain(shared=True),
        Swapped,
        SeveralViews,
    ],
)
def test_what_is_computed_counts(other):
    assert structure_sha256(Plain()) != structure_sha256(other())


def test_asking_for_it_changes_nothing():
    model = models.build("S7/block3").eval()
    state, random = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    structure_sha256(model)
    assert not model.training and torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
