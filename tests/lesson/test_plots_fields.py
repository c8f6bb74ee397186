"""The figures of S8 step 4: squares where they belong, and bells over the right pixels."""

import torch

from common.lesson import plots


def test_squares_lie_in_the_middle_of_the_mean_digit():
    figure = plots.where_digits_lie(torch.zeros(28, 28), [20, 28], {"as they are": [25.0, 100.0]}, [20])
    left, right = figure.axes
    assert (left.patches[0].get_xy(), left.patches[0].get_width()) == ((4, 4), 20)
    assert right.lines[0].get_ydata().tolist() == [25, 100]
    plots.plt.close(figure)


def test_fields_of_the_corner_cells_meet_in_the_shared_square():
    figure = plots.shared_squares(torch.zeros(28, 28), {"block 3": (22, 6, 2), "ours": (40, 4, 4)}, [12, 28])
    for axis, (field, side) in zip(figure.axes, ((22, 12), (40, 28)), strict=True):
        _, *fields, shared = axis.patches
        assert [square.get_width() for square in fields] == [field] * 4
        left = max(square.get_x() for square in fields)
        right = min(square.get_x() + field for square in fields)
        assert (left, right) == (shared.get_x(), shared.get_x() + side)
    plots.plt.close(figure)


def test_bells_stand_over_their_cells_and_sum_to_all_paths():
    figure = plots.path_bells([1, 2, 1], {"a cell": 7.0}, torch.ones(28))
    (bell, ink) = figure.axes[0].lines
    assert bell.get_xdata().tolist() == [6, 7, 8]
    assert bell.get_ydata().tolist() == [25, 50, 25]
    assert ink.get_ydata().tolist() == [50] * 28
    plots.plt.close(figure)


def test_votes_have_a_number_in_each_cell():
    figure = plots.votes({"alone": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "nothing": torch.zeros(2, 2)})
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.0", "2.0", "3.0", "4.0"]
    plots.plt.close(figure)
