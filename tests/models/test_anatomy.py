"""The anatomy of a network against numbers worked out by hand."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common import models
from common.models import anatomy
from common.models.test_time_augmentation import VIEWS


@pytest.fixture
def block3():
    torch.manual_seed(0)
    return models.build("S7/block3")


class DeadLayer(nn.Module):
    """Builds a layer that it never calls, as one of the sources does."""

    def __init__(self):
        super().__init__()
        self.used = nn.Conv2d(1, 10, 3)  # 10 * 9 + 10 = 100
        self.forgotten = nn.Conv2d(32, 32, 3)  # 32 * 32 * 9 + 32 = 9,248

    def forward(self, images):
        return self.used(images)


def test_block3_has_7904_parameters_by_both_counts(block3):
    # kernels: 288 + 256 + 720 + 1440 + 160 + 900 + 1440 + 2304 + 160; BatchNorm: 2 * (32+8+10+16+10+10+16+16)
    assert anatomy.count_parameters(block3) == 7668 + 236 == 7904
    text = anatomy.summary(block3)
    assert "Total params: 7,904\n" in text
    assert text.endswith("Parameters that the module holds: 7,904")


def test_summary_of_a_dead_layer_says_so_loudly():
    text = anatomy.summary(DeadLayer())
    assert "Total params: 100\n" in text
    assert text.splitlines()[-1].startswith("!!! torchsummary counts 100, the module holds 9,348: 9,248 parameters")


def test_summary_disturbs_neither_the_network_nor_the_generator(block3):
    state = torch.get_rng_state()
    means = [module.running_mean.clone() for module in block3.modules() if isinstance(module, nn.BatchNorm2d)]
    anatomy.summary(block3)
    anatomy.layer_rows(block3)
    assert torch.equal(state, torch.get_rng_state())
    assert block3.training
    after = [module.running_mean for module in block3.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(map(torch.equal, means, after))


def test_a_depthwise_kernel_multiplies_one_channel_only():
    rows = anatomy.layer_rows(models.build("S8/step7_two_budgets"))
    assert (rows[1].parameters, rows[1].multiply_adds) == (16 * 9, 16 * 24 * 24 * 9)
    assert (rows[2].parameters, rows[2].multiply_adds) == (16 * 24, 24 * 24 * 24 * 16)
    # 3x3 kernels add 2, from the first pool on 4, from the second on 8; the pools add 1 and 2, the average 3 * 4.
    assert [row.receptive_field for row in rows if row.kernel > 1] == [3, 5, 6, 10, 14, 16, 24, 32, 44]


def test_receptive_fields_of_block3(block3):
    rows = anatomy.layer_rows(block3)
    assert [row.shape for row in rows] == [
        (32, 26, 26), (8, 26, 26), (10, 24, 24), (10, 12, 12), (16, 12, 12), (10, 12, 12),
        (10, 10, 10), (16, 8, 8), (16, 6, 6), (16, 1, 1), (10, 1, 1),
    ]  # fmt: skip
    # 3x3 kernels add 2; the pool adds 1 and doubles the jump; then 3x3 kernels add 4, the pool of 6 adds 5 * 2.
    assert [row.receptive_field for row in rows] == [3, 3, 5, 6, 10, 10, 14, 18, 22, 32, 32]
    assert [row.jump for row in rows] == [1, 1, 1, 2, 2, 2, 2, 2, 2, 12, 12]
    assert [row.parameters for row in rows] == [288, 256, 720, 0, 1440, 160, 900, 1440, 2304, 0, 160]
    # An output value of the first layer costs 9 multiply-adds, of the second 32, of the third 72, ...
    by_hand = [32 * 26**2 * 9, 8 * 26**2 * 32, 10 * 24**2 * 72, 0, 16 * 12**2 * 90, 10 * 12**2 * 16]
    by_hand += [10 * 10**2 * 90, 16 * 8**2 * 90, 16 * 6**2 * 144, 0, 10 * 16]
    assert [row.multiply_adds for row in rows] == by_hand


def test_the_receptive_field_is_what_the_gradient_reaches(block3):
    """One value in the middle of the last 3x3 layer must depend on exactly the pixels that the table promises."""
    until = nn.Sequential(*list(block3.layers.children())[:9]).eval()
    for module in until.modules():  # make every path count: positive weights let no path cancel or die in a ReLU
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 0.01)
    until[3] = nn.AvgPool2d(2)  # a maximum passes the gradient to one of four pixels only
    image = torch.rand(1, 1, 28, 28, requires_grad=True)
    until(image)[0, :, 2, 2].sum().backward()
    rows, columns = image.grad[0, 0].nonzero(as_tuple=True)
    field = anatomy.layer_rows(block3)[8].receptive_field
    reached = (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)
    # Output 2 of 6 starts at pixel 2 * 2 - 2: the padding of the second block is two image pixels wide.
    assert reached == (field, field)
    # And it lies where the table says: in the middle of the image, and cell 2's middle is that of cell 0 and two jumps.
    centre = anatomy.layer_rows(block3)[8].centre + 2 * anatomy.layer_rows(block3)[8].jump
    assert (rows.min() + rows.max() + 1) / 2 == centre


def test_strides_padding_dense_layers_and_groups():
    network = nn.Sequential(
        nn.Conv2d(2, 4, 5, stride=2, padding=2, groups=2),  # [4, 4, 4]; 25 inputs each
        nn.AdaptiveAvgPool2d(2),  # [4, 2, 2]: kernel 2, stride 2
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    rows = anatomy.layer_rows(network, (2, 8, 8))
    assert [(row.kernel, row.stride, row.jump) for row in rows] == [(5, 2, 2), (2, 2, 4), (1, 1, 4)]
    # 5; 5 + 1 * 2 = 7; the dense layer sees two positions, 4 pixels apart: 11.
    assert [row.receptive_field for row in rows] == [5, 7, 11]
    assert [row.multiply_adds for row in rows] == [4 * 16 * 25, 0, 48]
    # The kernel of 5 with padding 2 stays over the first pixel; the pool lies between two; the dense layer's is 3.5.
    assert [row.centre for row in rows] == [0.5, 1.5, 3.5]


def test_the_table_adds_up(block3):
    lines = anatomy.layer_table(block3).splitlines()
    assert lines[-2].split() == ["between", "them", "236"]
    assert lines[-1].split() == ["total", "7,904", "1,278,128"]


def test_an_unknown_layer_is_refused_not_skipped():
    with pytest.raises(TypeError, match="Upsample"):
        anatomy.layer_rows(nn.Sequential(nn.Upsample(scale_factor=2)))


SEVERAL_VIEWS = {"S8/under_20k", "S8/under_20k_no_dropout", "S8/step7_two_budgets", "S9/time_to_accuracy"}


@pytest.mark.parametrize("step", models.NETWORKS)
def test_multiply_adds_are_half_the_operations_that_pytorch_counts(step):
    network = models.build(step).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 1, 28, 28))
    counted = counter.get_flop_counts()["Global"]
    counted.pop(torch.ops.aten.bmm, None)  # what turns the views of test-time augmentation is no layer
    rows, views = anatomy.layer_rows(network), len(VIEWS) if step in SEVERAL_VIEWS else 1  # the table has one view
    assert 2 * views * sum(row.multiply_adds for row in rows) == sum(counted.values())
