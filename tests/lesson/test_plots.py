"""The figures: what of them a lesson's text, or the comparison of a notebook with a new run, relies on."""

import pytest
import torch

from common.lesson import plots


@pytest.mark.parametrize("wrong", [0, 3, 20])
def test_the_surest_mistakes_come_first_and_the_figure_has_one_form(wrong):
    """Of 40 images labelled 4 the first `wrong` are read as 9, image i with a probability of 0.95 - i / 100."""
    labels = torch.full((40,), 4)
    probabilities = torch.full((40, 10), 0.001)
    probabilities[:, 4] = 0.9
    for image in range(wrong):
        probabilities[image, 4], probabilities[image, 9] = 0.002, 0.95 - image / 100
    figure = plots.mistakes(torch.zeros(40, 28, 28, dtype=torch.uint8), labels, probabilities.log())
    assert len(figure.axes) == 12
    captions = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert captions == [f"4 as 9, {95 - image} %" for image in range(min(wrong, 12))]
    plots.plt.close(figure)


def test_the_ceilings_are_lines_over_the_bars_of_what_was_measured():
    figure = plots.ceilings([100.0, 93.75], [99.5, 93.3])
    (axis,) = figure.axes
    assert [bar.get_height() for bar in axis.patches] == [99.5, 93.3]
    assert [float(line[0][1]) for line in axis.collections[0].get_segments()] == [100.0, 93.75]
    assert axis.get_xlabel() == "digit"
    assert axis.get_ylabel() == "read correctly in %"
    plots.plt.close(figure)
