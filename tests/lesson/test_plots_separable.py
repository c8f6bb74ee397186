"""The figures of S8 step 3: as many kernels as weights are told, and one scale for all tables."""

import torch

from common.lesson import plots


def test_the_diagram_draws_a_kernel_for_each_line_or_channel_and_counts_the_weights():
    figure = plots.split_convolution(3, 4)
    dense, split = figure.axes
    assert len(dense.patches) == 3 + 4 + 12 * 9  # maps, and the cells of the kernels
    assert len(split.patches) == 3 + 3 + 4 + 3 * 9
    assert dense.get_title().endswith("3 x 4 x 9 = 108 weights")
    assert split.get_title().endswith("3 x 9 + 3 x 4 = 39 weights")
    plots.plt.close(figure)


def test_kernel_tables_share_a_scale_and_have_a_row_for_each_output():
    some, others = torch.ones(2, 3, 3, 3), torch.full((2, 3, 3, 3), -4.0)
    figure = plots.kernel_tables({"some": some, "others": others})
    assert len(figure.axes) == 2 * 6
    assert {axis.images[0].get_clim() for axis in figure.axes} == {(-4.0, 4.0)}
    assert [axis.get_ylabel() for axis in figure.axes[:6]] == ["output 1", "", "", "output 2", "", ""]
    plots.plt.close(figure)


def test_slopes_draw_each_function_twice():
    points = torch.linspace(-1, 1, 5)
    figure = plots.slopes(points, {"twice": (2 * points, torch.full((5,), 2.0))})
    for axis, values in zip(figure.axes, ([-2, -1, 0, 1, 2], [2] * 5), strict=True):
        assert axis.lines[0].get_ydata().tolist() == values
    plots.plt.close(figure)
