"""The figures of S8 steps 1 and 2: each number where it belongs, and one form in every run."""

import math

import torch

from common.lesson import plots


def test_rates_and_swings_show_every_step():
    figure = plots.effective_rates({"one": (2, [0.1, 0.2, 0.3, 0.4]), "other": (1, [0.5, 0.5])})
    one, other = figure.axes[0].get_lines()
    assert list(one.get_xdata()) == [0, 0.5, 1, 1.5]
    assert list(other.get_xdata()) == [0, 0.5]
    plots.plt.close(figure)
    figure = plots.swings({"plain": [1.0, 0.9, 0.7, 0.4, 0.1], "Nesterov": [1.0, 0.8, 0.5, 0.2, -0.1]}, first=3)
    left, right = figure.axes
    assert [len(line.get_xdata()) for line in left.get_lines()] == [101, 4, 4]
    assert list(right.get_lines()[1].get_ydata()) == [1.0, 0.8, 0.5, 0.2, -0.1]
    assert [text.get_text() for text in left.texts] == ["1", "2", "3"] * 2
    plots.plt.close(figure)


def test_the_weights_and_their_average_have_a_panel_for_each_run():
    panels = {"one": ([1, 2], [90.0, 91.0], [92.0, 93.0]), "other": ([1], [85.0], [86.0])}
    figure = plots.raw_and_averaged(panels, "accuracy in %")
    assert [axis.get_title() for axis in figure.axes] == ["one", "other"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["90"]
    assert [list(line.get_ydata()) for line in figure.axes[0].get_lines()] == [[10, 9], [8, 7]]  # errors
    plots.plt.close(figure)


def test_spreads_have_a_panel_for_each_training_a_row_for_each_block_and_a_column_for_each_step():
    one = [torch.tensor([[1.0, 3.0], [4.0, 4.0], [0.5, 0.5]]), torch.tensor([[1.0], [0.0], [math.nan]])]
    figure = plots.spreads({"one": one, "other": [torch.ones(4, 2)]})
    first, other, bar = figure.axes
    assert [axis.get_title() for axis in (first, other)] == ["one", "other"]
    image = first.images[0]
    assert image.get_array().filled(-1).tolist() == [[2, 4, 0.5], [1, 0, -1]]  # means over the channels
    assert image.get_extent() == [0.5, 3.5, 2.5, 0.5]  # the first step and block are 1, and the first block is on top
    colors = image.to_rgba(image.get_array())[..., :3]
    black = [[bool((color == 0).all()) for color in row] for row in colors]
    assert black == [[False, False, False], [False, True, True]]
    assert colors[1, 0].min() > 0.95  # a deviation of 1 is white
    assert colors[0, 1, 0] > colors[0, 1, 2] and colors[0, 2, 0] < colors[0, 2, 2]  # more is red, less is blue
    assert other.images[0].get_array().shape == (1, 4)
    assert "1/32" in [label.get_text() for label in bar.get_yticklabels()]
    plots.plt.close(figure)


def test_what_a_mask_drops_is_marked():
    maps = torch.arange(8.0).reshape(2, 2, 2)
    mask = torch.tensor([[[0.0, 2.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    figure = plots.masked_maps(maps, {"one": mask})
    assert [axis.get_title() for axis in figure.axes] == ["channel 0", "channel 1"]
    counts = [int(axis.images[1].get_array().count()) for axis in figure.axes]  # what is not masked is orange
    assert counts == [1, 4]
    plots.plt.close(figure)


def test_lengths_and_ratios_stand_side_by_side():
    figure = plots.kernel_steps({"decay 0": ([1.0, 2.0], [0.1, 0.05])})
    assert [list(axis.get_lines()[0].get_ydata()) for axis in figure.axes] == [[1, 2], [0.1, 0.05]]
    assert figure.axes[1].get_yscale() == "log"
    plots.plt.close(figure)
