"""The figures of step 3: one form in every run, and each number where it belongs."""

import pytest
import torch

from common.lesson import plots


@pytest.mark.parametrize("count", [1, 4])
def test_class_maps_have_a_row_for_each_image_and_room_for_all(count):
    images, maps = torch.zeros(count, 28, 28, dtype=torch.uint8), torch.randn(count, 10, 3, 3)
    scores = maps.sum(dim=(2, 3))
    figure = plots.class_maps(images, maps, ["is 7"] * count, scores, "maps", cell=8, field=30, rows=4)
    assert len(figure.axes) == 4 * 11 + 1  # and the colour bar
    first = figure.axes[:11]
    assert [axis.get_title().splitlines()[-1] for axis in first[1:]] == [f"{score:.1f}" for score in scores[0]]
    assert {axis.images[0].get_clim() for axis in first[1:]} == {(-maps.abs().max().item(), maps.abs().max().item())}
    place, field = first[0].patches
    assert (place.get_xy(), place.get_width()) == ((8, 8), 8)  # the middle cell of three, each 8 pixels wide
    assert (field.get_xy(), field.get_width()) == ((-3, -3), 30)
    plots.plt.close(figure)


def test_shift_maps_share_a_scale_and_have_shifts_down_as_rows():
    accuracies = {"one": torch.tensor([[90.0, 80.0], [70.0, 60.0]]), "other": torch.full((2, 2), 50.0)}
    figure = plots.shift_maps([-4, 0], accuracies)
    left, right = figure.axes[:2]
    assert left.images[0].get_clim() == right.images[0].get_clim() == (50, 100)
    assert [text.get_text() for text in left.texts] == ["90", "80", "70", "60"]
    assert left.get_ylabel() == "shift down in pixels"
    assert [label.get_text() for label in left.get_xticklabels()] == ["-4", "0"]
    plots.plt.close(figure)


def test_simulated_tests_and_intervals_show_what_they_are_given():
    figure = plots.many_tests(torch.tensor([3, 4, 4, 5]), {"claims": [2, 9]}, 100)
    (axis,) = figure.axes
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axis.patches}
    assert heights == {2: 0, 3: 1, 4: 2, 5: 1, 6: 0, 7: 0, 8: 0, 9: 0}
    plots.plt.close(figure)
    figure = plots.intervals({"a run": (5.0, 2.0, 8.0)}, "wrong images")
    (axis,) = figure.axes
    assert [list(line.get_xdata()) for line in axis.lines] == [[2, 8], [5]]
    plots.plt.close(figure)
