"""The figures of what is inside of a network: every kernel in its place, one scale, and each cell where it looks."""

import torch
from torch import nn

from common.lesson import plots
from common.models import build, layer_rows


def pictures(figure):
    return [axis.images[0] for axis in figure.axes if axis.images and axis.get_title()]


def test_kernels_have_one_scale_around_white_and_their_numbers():
    layer = nn.Conv2d(2, 3, 3)
    figure = plots.kernels(layer)
    drawn = pictures(figure)
    assert [axis.get_title() for axis in figure.axes[:6]] == ["0, 0", "0, 1", "1, 0", "1, 1", "2, 0", "2, 1"]
    assert torch.equal(torch.tensor(drawn[3].get_array()), layer.weight[1, 1].detach())
    reach = layer.weight.abs().max().item()
    assert {one.get_clim() for one in drawn} == {(-reach, reach)}
    plots.plt.close(figure)


def test_depthwise_kernels_are_named_by_their_output_and_1x1_kernels_are_one_picture():
    figure = plots.kernels(nn.Conv2d(4, 4, 3, groups=4))
    assert [axis.get_title() for axis in figure.axes[:4]] == ["0", "1", "2", "3"]
    plots.plt.close(figure)
    layer = nn.Conv2d(5, 4, 1)
    figure = plots.kernels(layer)
    (drawn,) = pictures(figure)
    assert torch.equal(torch.tensor(drawn.get_array()), layer.weight[:, :, 0, 0].detach())
    plots.plt.close(figure)


def test_too_many_kernels_are_cut_and_the_title_says_so():
    figure = plots.kernels(nn.Conv2d(8, 16, 3), most=10, title="second")
    assert len(pictures(figure)) == 10
    assert figure.get_suptitle() == "second (the first 10 of 128 kernels)"
    plots.plt.close(figure)


def test_feature_maps_show_the_digit_first_and_then_each_map():
    image, values = torch.randint(256, (28, 28), dtype=torch.uint8), torch.randn(3, 5, 5)
    figure = plots.feature_maps(image, values)
    drawn = pictures(figure)
    assert torch.equal(torch.tensor(drawn[0].get_array()), image)
    assert [axis.get_title() for axis in figure.axes[:4]] == ["the digit", "0", "1", "2"]
    assert torch.allclose(torch.tensor(drawn[3].get_array()), values[2])
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    plots.plt.close(figure)


def test_a_heatmap_lies_where_its_cells_look():
    """Block 3's last maps are 6x6, 2 pixels apart; its first cell sees pixels -2 to 20, with the middle at 9."""
    row = next(row for row in reversed(layer_rows(build("S7/block3"))) if row.shape == (16, 6, 6))
    images, values = torch.zeros(2, 28, 28, dtype=torch.uint8), torch.randn(2, 6, 6)
    figure = plots.heatmaps(images, values, ["one", "two"], row, columns=2)
    digit, heat = figure.axes[1].images
    assert heat.get_extent() == [8, 20, 20, 8]
    assert digit.get_extent() == [0, 28, 28, 0]
    assert torch.allclose(torch.tensor(heat.get_array()), values[1] / values[1].abs().max())
    plots.plt.close(figure)
