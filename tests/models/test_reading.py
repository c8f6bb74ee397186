"""What a network reads: bytes are normalised, floats that are not normalised are refused."""

import pytest
import torch
from drawings import DIGITS

from common import models
from common.data import normalise
from common.data.strokes import draw
from common.models import reading
from common.system.errors import UserError


@pytest.fixture(scope="module")
def network():
    return models.load_trained("S7/block3")


@pytest.fixture(scope="module")
def drawn():
    return torch.stack([draw(DIGITS[digit]) for digit in range(10)])


def test_bytes_and_normalised_floats_give_the_same_ten_probabilities(network, drawn):
    read = reading.probabilities(network, drawn)
    assert read.shape == (10, 10)
    assert read.argmax(dim=1).tolist() == list(range(10))
    assert torch.allclose(read.sum(dim=1), torch.ones(10), atol=1e-5)
    assert torch.equal(reading.probabilities(network, normalise(drawn)), read)


def test_a_network_in_training_reads_in_eval_mode_and_goes_on_training(network, drawn):
    expected = reading.probabilities(network, drawn)
    network.train()
    try:
        before = {name: value.clone() for name, value in network.state_dict().items()}
        assert torch.equal(reading.probabilities(network, drawn), expected)
        assert network.training
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    finally:
        network.eval()


WRONG = {
    "0 to 1": lambda drawn: drawn.unsqueeze(1) / 255,
    "0 to 255": lambda drawn: drawn.unsqueeze(1).float(),
    "-1 to 1": lambda drawn: drawn.unsqueeze(1) / 127.5 - 1,
    "inverted": lambda drawn: normalise(255 - drawn),
    "nan": lambda drawn: normalise(drawn) * float("nan"),
    "one of ten": lambda drawn: torch.cat([normalise(drawn[:9]), drawn[9:].unsqueeze(1) / 255]),
    "no channel": lambda drawn: normalise(drawn)[:, 0],
    "another size": lambda drawn: drawn[:, :20, :20],
    "whole numbers": lambda drawn: drawn.long(),
    "none": lambda drawn: drawn[:0],
    "a list": lambda drawn: drawn.tolist(),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_neither_is_refused_in_one_sentence(network, drawn, wrong):
    with pytest.raises(UserError, match=r"^Digits are read as bytes[^\n]*\.$"):
        reading.probabilities(network, WRONG[wrong](drawn))


def test_sure_begins_at_its_bound():
    assert reading.is_sure(reading.SURE)
    assert not reading.is_sure(reading.SURE - 1e-6)
