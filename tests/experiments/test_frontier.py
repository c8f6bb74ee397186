"""The picture of the frontier: its points, and that the one that is kept shows today's records."""

import dataclasses
import itertools

import pytest
from matplotlib.text import Text

from common import records
from common.experiments import frontier
from common.lesson import plots


def test_a_point_is_the_mean_of_its_seeds():
    assert frontier.Point("ours", 100, (99.0, 99.2, 99.7), 15).mean == pytest.approx(99.3)


def test_the_points_are_those_of_the_records():
    found = {point.whose: point for point in frontier.points()}
    assert found["S7/block3"].retold
    assert (
        not found["S9/time_to_accuracy"].retold and not found["S6/part2_step2_fixed"].retold
    )  # the fix is the course's own
    assert (found["S9/time_to_accuracy"].parameters, len(found["S9/time_to_accuracy"].accuracies)) == (7_600, 10)
    assert [point.parameters for point in frontier.points()] == sorted(point.parameters for point in found.values())


def test_the_best_epoch_of_the_best_seed_is_found_by_hand():
    found = {point.whose: point for point in frontier.points()}["S7/block3"]
    rows = [row for run in records.load("S7/block3")["runs"] if run["protocol"] == "held-out" for row in run["history"]]
    assert found.best == pytest.approx(max(row["test_correct"] for row in rows) / 100)
    assert found.best > max(found.accuracies)


def test_the_kept_picture_shows_todays_records():
    assert frontier.shown(frontier.PICTURE) == frontier.fingerprint(frontier.points()), "run `course.py report`"


def test_the_picture_is_drawn_again_when_a_number_changes(tmp_path, monkeypatch):
    path, ours = tmp_path / "frontier.png", [frontier.Point("S7/block3", 7_904, (99.3, 99.4), 14)]
    monkeypatch.setattr(frontier, "points", lambda: ours)
    assert [frontier.write(path), frontier.write(path)] == [True, False]
    ours[0] = dataclasses.replace(ours[0], accuracies=(99.3, 99.5))
    assert frontier.write(path)
    assert frontier.shown(path) == frontier.fingerprint(ours)


def test_no_name_in_the_picture_covers_another():
    figure = plots.frontier(frontier.points(), frontier.PUBLISHED)
    renderer = figure.canvas.get_renderer()
    boxes = [Text.get_window_extent(name, renderer) for name in figure.axes[0].texts]
    assert len(boxes) == len(frontier.points())
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    plots.plt.close(figure)
