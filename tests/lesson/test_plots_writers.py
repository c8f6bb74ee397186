"""Figures of digits by other writers: what is drawn is what was given."""

import pytest
import torch

from common.lesson import plots
from common.records.comparison import wilson


def test_a_row_of_digits_for_each_name():
    rows = {"one": torch.rand(5, 28, 28), "two": torch.rand(5, 1, 28, 28)}
    figure = plots.rows_of_digits(rows)
    assert len(figure.axes) == 10
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == ["one", "two"]
    drawn = figure.axes[7].images[0].get_array()
    assert torch.equal(torch.as_tensor(drawn.data).float(), rows["two"][2, 0])


def test_each_dot_lies_at_its_numbers_and_one_is_marked():
    figure = plots.against({"a": (1.0, 2.0), "b": (3.0, 5.0)}, "x", "y", marked="b")
    (axis,) = figure.axes
    assert [tuple(line.get_xydata()[0]) for line in axis.lines] == [(1, 2), (3, 5)]
    assert axis.lines[0].get_color() != axis.lines[1].get_color()
    assert [text.get_text() for text in axis.texts] == ["a", "b"]


def test_what_is_read_of_spoilt_digits_has_its_interval():
    figure = plots.spoilt(
        {"first": {"thin": (90, 100), "bent": (50, 100)}, "second": {"thin": (80, 100), "bent": (0, 9)}}
    )
    (axis,) = figure.axes
    shares = [list(line.get_xdata()) for line in axis.lines]
    assert shares == [[90, 50], [80, 0]]
    (low, _), (high, _) = axis.collections[0].get_segments()[0]
    assert (low, high) == pytest.approx(wilson(90, 100))
    assert [label.get_text() for label in axis.get_yticklabels()] == ["thin", "bent"]
