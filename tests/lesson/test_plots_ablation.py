"""The forest plot of an ablation."""

import pytest

from common.lesson import plots
from common.records import comparison

ROWS = {"a small gain": [0.1, 0.2, 0.15], "one far out": [0.0, 0.01, 3.0], "nothing": [-0.1, 0.1, 0.0]}


def test_each_row_has_its_dots_its_mean_and_its_interval():
    figure = plots.forest(ROWS, "points")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == list(ROWS)
    assert axis.yaxis_inverted()
    rows = [line for line in axis.lines if line.get_linewidth() == 2.4]
    for line, values in zip(rows, ROWS.values(), strict=True):
        assert list(line.get_xdata()) == pytest.approx(comparison.interval(values))
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == list(ROWS.values())
    plots.plt.close(figure)


def test_what_lies_beyond_the_limit_is_a_triangle_at_the_edge_with_its_value():
    figure = plots.forest(ROWS, "points", limit=0.5)
    (axis,) = figure.axes
    assert axis.get_xlim() == (-0.5, 0.5)
    (triangle,) = [line for line in axis.lines if line.get_marker() == ">"]
    assert list(triangle.get_xdata()) == [0.5]
    assert [text.get_text() for text in axis.texts] == ["+3.00"]
    assert all(abs(x) <= 0.5 for line in axis.lines[1:] for x in line.get_xdata())
    plots.plt.close(figure)
