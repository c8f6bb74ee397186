"""Curves of accuracy against a change, reliability diagrams, and pictures of any size."""

import numpy as np
import pytest
import torch

from common.lesson import plots
from common.records.comparison import wilson


def test_a_curve_has_a_point_for_each_size_and_a_band_of_its_interval():
    counts = {"shift": {"one": {0: (9, 10), 2: (5, 10)}, "other": {0: (10, 10), 2: (0, 10)}}, "turn": {"one": {}}}
    counts["turn"] = {"one": {30: (1, 10), 0: (9, 10)}, "other": {0: (9, 10), 30: (1, 10)}}
    figure = plots.accuracy_curves(counts)
    left, right = figure.axes
    assert list(left.lines[0].get_xydata().flatten()) == [0, 90, 2, 50]
    assert list(right.lines[0].get_xydata().flatten()) == [0, 90, 30, 10]  # in the order of the sizes
    band = left.collections[0].get_paths()[0].vertices
    assert {round(y, 6) for x, y in band if x == 2} == {round(bound, 6) for bound in wilson(5, 10)}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "other"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["shift", "turn"]
    plots.plt.close(figure)


def test_a_reliability_diagram_puts_each_answer_into_its_bin():
    """Three answers with 50 to 60 %, one of them right; one with 95 %, right; one with 100 %, in the last bin."""
    probabilities = torch.tensor([0.52, 0.55, 0.58, 0.95, 1.0])
    right = torch.tensor([True, False, False, True, False])
    figure = plots.reliability({"some": (probabilities, right)})
    (axis,) = figure.axes
    bars = {round(bar.get_x()): bar.get_height() for bar in axis.patches}
    assert bars == {50: pytest.approx(100 / 3), 90: pytest.approx(50)}
    assert [text.get_text() for text in axis.texts] == ["3", "2"]
    plots.plt.close(figure)


def test_pictures_of_other_sizes_keep_their_own():
    shown = [np.full((30, 50), 0.5), np.ones((7, 5, 3)), np.full((9, 9), 100, np.uint8)]
    figure = plots.pictures(shown, ["a", "b", "c"], columns=3)
    assert [axis.images[0].get_array().shape for axis in figure.axes] == [(30, 50), (7, 5, 3), (9, 9)]
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c"]
    assert [figure.axes[i].images[0].get_clim() for i in (0, 2)] == [(0, 1), (0, 255)]  # grey stays grey
    plots.plt.close(figure)


def test_a_grid_shows_pale_ink_as_pale_where_it_is_told_what_full_ink_is():
    pale = torch.full((1, 28, 28), 50, dtype=torch.uint8)
    pale[0, 0, 0] = 10
    for ink, limits in ((255, (0, 255)), (None, (10, 50))):
        figure = plots.grid(pale, ["one"], ink=ink)
        assert figure.axes[0].images[0].get_clim() == limits
        plots.plt.close(figure)
