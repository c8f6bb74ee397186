"""The networks against the sources: parameters to the unit, shapes layer by layer, what they give."""

import copy
import inspect

import numpy as np
import pytest
import torch
from torch import nn

from common import models
from common.cpu_kernels.dropout import Dropout
from common.models import anatomy
from common.system.errors import UserError

# Outputs of the convolution, pooling and dense layers, in order.
SHAPES = {
    "S5/step1_first_network": [
        (32, 26, 26), (64, 24, 24), (64, 12, 12), (128, 10, 10), (256, 8, 8), (256, 4, 4), (50,), (10,),
    ],
    "S6/part2_step1_dense_head": [
        (16, 28, 28), (32, 28, 28), (32, 14, 14), (10, 14, 14), (10, 7, 7), (20,), (10,),
    ],
    "S6/part2_step2_strided": [
        (16, 28, 28), (16, 14, 14), (16, 7, 7), (16, 7, 7), (16, 4, 4), (16, 2, 2), (16, 2, 2), (16, 1, 1),
    ],
    "S6/part2_step2_fixed": [
        (16, 28, 28), (16, 14, 14), (16, 7, 7), (16, 7, 7), (16, 4, 4), (16, 2, 2), (16, 2, 2), (10, 1, 1),
    ],
    "S6/part2_step3_global_pooling": [
        (16, 28, 28), (16, 14, 14), (32, 14, 14), (32, 7, 7), (32, 7, 7), (10, 7, 7), (10, 3, 3), (10, 1, 1),
    ],
    "S8/under_20k": [
        (16, 26, 26), (16, 24, 24), (32, 24, 24), (32, 12, 12), (32, 12, 12), (48, 12, 12), (48, 12, 12), (48, 12, 12),
        (48, 6, 6), (48, 6, 6), (64, 6, 6), (64, 6, 6), (64, 6, 6), (64, 4, 4), (60, 4, 4), (60, 1, 1), (10, 1, 1),
    ],
    "S7/block1": [
        (16, 26, 26), (32, 24, 24), (8, 24, 24), (8, 12, 12), (16, 10, 10), (32, 8, 8), (16, 8, 8), (16, 4, 4),
        (32, 2, 2), (32, 1, 1), (10,),
    ],
    "S7/block2": [
        (32, 26, 26), (8, 26, 26), (10, 24, 24), (10, 12, 12), (16, 12, 12), (10, 12, 12),
        (10, 10, 10), (16, 8, 8), (16, 6, 6), (16, 1, 1), (10, 1, 1),
    ],
    "S7/block3": [
        (32, 26, 26), (8, 26, 26), (10, 24, 24), (10, 12, 12), (16, 12, 12), (10, 12, 12),
        (10, 10, 10), (16, 8, 8), (16, 6, 6), (16, 1, 1), (10, 1, 1),
    ],
    "S8/step7_two_budgets": [
        (16, 26, 26), (16, 24, 24), (24, 24, 24), (24, 12, 12), (24, 12, 12), (32, 12, 12), (32, 12, 12), (32, 12, 12),
        (32, 6, 6), (32, 6, 6), (40, 6, 6), (40, 4, 4), (40, 4, 4), (40, 1, 1), (10, 1, 1),
    ],
    "S8/teacher": [
        (32, 26, 26), (32, 24, 24), (32, 12, 12), (64, 12, 12), (64, 12, 12), (64, 6, 6), (128, 6, 6), (128, 4, 4),
        (128, 1, 1), (10, 1, 1),
    ],
    "S9/time_to_accuracy": [
        (16, 12, 12), (16, 12, 12), (16, 6, 6), (16, 6, 6), (16, 4, 4), (16, 1, 1), (10, 1, 1),
    ],
}  # fmt: skip
SHAPES["S9/time_to_accuracy_one_view"] = SHAPES["S9/time_to_accuracy"]
SHAPES["S8/under_20k_one_view"] = SHAPES["S8/under_20k"]
SHAPES["S8/under_20k_no_dropout"] = SHAPES["S8/under_20k"]
SHAPES["S8/under_8k_dense"] = SHAPES["S7/block3"]
SHAPES["S8/under_8k_relu"] = SHAPES["S8/under_8k_one_view"] = SHAPES["S8/step7_two_budgets"]


def frontier(a, b, c, d, e, f):
    """The shapes of S8's blueprint with these widths."""
    maps = [(a, 26, 26), (a, 24, 24), (b, 24, 24), (b, 12, 12), (b, 12, 12), (c, 12, 12), (c, 12, 12), (d, 12, 12)]
    return [*maps, (d, 6, 6), (d, 6, 6), (e, 6, 6), (e, 4, 4), (f, 4, 4), (f, 1, 1), (10, 1, 1)]


SHAPES["S8/step8_frontier"] = frontier(12, 18, 24, 24, 30, 30)
SHAPES["S8/frontier_2784"] = frontier(8, 14, 18, 18, 22, 22)
SHAPES["S8/frontier_1782"] = frontier(6, 10, 14, 14, 16, 16)
SHAPES["S8/frontier_1196"] = frontier(6, 8, 10, 10, 12, 12)
SHAPES["S8/frontier_3716"] = frontier(11, 16, 20, 22, 26, 28)
SHAPES["S8/frontier_693"] = frontier(4, 6, 7, 7, 7, 8)
SHAPES["S8/frontier_559"] = frontier(4, 5, 5, 6, 6, 7)
shared = frontier(4, 5, 7, 7, 7, 7)
SHAPES["S8/frontier_693_shared"] = [
    *shared[:8],
    *shared[6:8],
    shared[8],
    *shared[9:11],
    (7, 6, 6),
    (7, 6, 6),
    *shared[11:],
]
SHAPES["S8/frontier_dense"] = [  # a dense convolution is one layer, not two
    *[(6, 26, 26), (6, 24, 24), (6, 12, 12), (8, 12, 12), (9, 12, 12), (9, 6, 6), (10, 6, 6), (12, 4, 4)],
    *[(12, 1, 1), (10, 1, 1)],
]
SHAPES["S8/frontier_hybrid"] = [(8, 26, 26), *frontier(8, 8, 20, 20, 26, 28)[2:]]
SHAPES["S8/frontier_deep"] = [
    *[(8, 26, 26), (8, 24, 24), (12, 24, 24), (12, 24, 24), (12, 24, 24), (12, 12, 12), (12, 12, 12), (18, 12, 12)],
    *[(18, 12, 12), (18, 12, 12), (18, 6, 6), (18, 6, 6), (22, 6, 6), (22, 6, 6), (22, 6, 6), (22, 4, 4), (22, 4, 4)],
    *[(22, 1, 1), (10, 1, 1)],
]
SHAPES["S8/frontier_overlapping"] = SHAPES["S8/frontier_strided"] = SHAPES["S8/frontier_1782"]
SHAPES["S10/step2_other_writers"] = frontier(16, 24, 32, 40, 40, 40)
SHAPES["S10/teacher"] = [
    (channels // 2 if channels > 10 else channels, *sides) for channels, *sides in SHAPES["S8/teacher"]
]
twice = [(14, 12, 12), (14, 12, 12)]  # one layer's two convolutions once more
SHAPES["S8/frontier_shared"] = SHAPES["S8/frontier_shared_convolutions"] = [
    *SHAPES["S8/frontier_1782"][:8],
    *twice,
    *SHAPES["S8/frontier_1782"][8:],
]
PARAMETERS = {
    "S5/step1_first_network": 593_200,
    "S6/part2_step1_dense_head": 17_920,
    "S6/part2_step2_strided": 11_952,
    "S6/part2_step2_fixed": 11_050,
    "S6/part2_step3_global_pooling": 17_118,
    "S8/under_20k": 19_760,
    "S8/under_20k_one_view": 19_760,
    "S8/under_20k_no_dropout": 19_760,
    "S7/block1": 16_562,
    "S7/block2": 7_904,
    "S7/block3": 7_904,
    "S8/step7_two_budgets": 7_552,
    "S8/under_8k_relu": 7_552,
    "S8/under_8k_one_view": 7_552,
    "S8/under_8k_dense": 7_904,
    "S8/teacher": 288_160,
    "S10/step2_other_writers": 7_928,
    "S10/teacher": 72_656,
    "S9/time_to_accuracy": 7_600,
    "S9/time_to_accuracy_one_view": 7_600,
    "S8/step8_frontier": 4_500,
    "S8/frontier_2784": 2_784,
    "S8/frontier_1782": 1_782,
    "S8/frontier_1196": 1_196,
    "S8/frontier_3716": 3_716,
    "S8/frontier_693": 693,
    "S8/frontier_693_shared": 680,
    "S8/frontier_559": 559,
    "S8/frontier_dense": 3_570,
    "S8/frontier_hybrid": 3_622,
    "S8/frontier_deep": 3_712,
    "S8/frontier_overlapping": 1_782,
    "S8/frontier_strided": 1_782 + 4 * (10 + 14),
    "S8/frontier_shared": 1_782,
    "S8/frontier_shared_convolutions": 1_782 + 2 * 14,
}


def test_every_network_is_listed_here():
    assert set(models.NETWORKS) == set(SHAPES) == set(PARAMETERS)


@pytest.mark.parametrize("step", models.NETWORKS)
def test_parameters_to_the_unit_by_both_counts(step):
    network = models.build(step)
    assert anatomy.count_parameters(network) == PARAMETERS[step]
    convolutions, norm = 14 * 9 + 14 * 14, 2 * 14  # torchsummary counts each call
    again = {"S8/frontier_shared": convolutions + norm, "S8/frontier_shared_convolutions": convolutions}
    again["S8/frontier_693_shared"] = 2 * (7 * 9 + 7 * 7)
    called_twice = again.get(step, 0)
    assert f"Total params: {PARAMETERS[step] + called_twice:,}\n" in anatomy.summary(network)


@pytest.mark.parametrize("step", models.NETWORKS)
def test_shapes_layer_by_layer(step):
    assert [layer.shape for layer in anatomy.layer_rows(models.build(step))] == SHAPES[step]


@pytest.mark.parametrize("step", models.NETWORKS)
def test_outputs_are_log_probabilities(step):
    outputs = models.build(step).eval()(torch.randn(5, 1, 28, 28)).detach()
    assert outputs.shape == (5, 16 if step == "S6/part2_step2_strided" else 10)
    assert outputs.exp().sum(dim=1).tolist() == pytest.approx([1] * 5, abs=1e-5)


def test_the_order_of_the_layers_in_a_block():
    """Conv, ReLU, BatchNorm, Dropout is not conv, ReLU, Dropout, BatchNorm: each source has its own order."""
    block3 = models.build("S7/block3").layers
    assert [type(module) for module in block3[0]] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.Dropout2d]
    pooling = models.build("S6/part2_step3_global_pooling").layers
    assert [type(module) for module in pooling[0]] == [nn.Conv2d, nn.ReLU, Dropout, nn.BatchNorm2d]
    assert [type(module) for module in pooling[5]] == [nn.Conv2d, nn.ReLU, Dropout, nn.BatchNorm2d]
    first = models.build("S5/step1_first_network").layers
    assert [type(module) for module in first[2:5]] == [nn.Conv2d, nn.MaxPool2d, nn.ReLU]


@pytest.mark.parametrize("step", models.NETWORKS)
def test_what_is_no_batch_of_digits_is_refused_in_one_sentence(step):
    """Networks that end in a global average would answer nonsense for images of another size."""
    network = copy.deepcopy(models.build(step)).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 28, 28)).shape[0] == 2
        for images, got in (
            (torch.zeros(2, 1, 56, 56), r"float32 \[2, 1, 56, 56\]"),
            (torch.zeros(2, 3, 28, 28), r"float32 \[2, 3, 28, 28\]"),
            (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), r"uint8 \[2, 1, 28, 28\]"),
            (torch.zeros(1, 28, 28), r"float32 \[1, 28, 28\] \(the dimension of the batch"),
            (np.zeros((2, 1, 28, 28)), "a ndarray"),
        ):
            with pytest.raises(UserError, match=rf"takes images as float \[B, 1, 28, 28\].*, not {got}") as caught:
                network(images)
            assert "\n" not in str(caught.value)
        name = next(iter(inspect.signature(network.forward).parameters))
        assert network(**{name: torch.zeros(2, 1, 28, 28)}).shape[0] == 2
        with pytest.raises(UserError, match="takes images as float"):
            network(**{name: torch.zeros(2, 1, 56, 56)})


def test_a_network_that_refuses_can_still_be_kept_and_copied(tmp_path):
    torch.save(models.build("S7/block3"), tmp_path / "whole.pt")
    network = torch.load(tmp_path / "whole.pt", weights_only=False)
    with pytest.raises(UserError, match="takes images as float"):
        network(torch.zeros(2, 1, 56, 56))
