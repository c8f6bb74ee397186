"""The figures of S6 part 2, step 1: same form in every run, and marks where the picks are."""

import pytest
import torch

from common.lesson import plots


def test_histograms_show_the_mean_and_the_deviation_of_each_channel_before_and_after():
    before = torch.arange(24.0).reshape(2, 3, 2, 2) ** 2
    after = torch.nn.BatchNorm2d(3)(before)
    figure = plots.histograms(before, after, [2, 0])
    titles = [axis.get_title() for axis in figure.axes]
    some = before[:, 2]
    assert titles[0] == f"before, channel 2\nmean {some.mean():.2f}, deviation {some.std(unbiased=False):.2f}"
    assert titles[2:] == [f"after, channel {channel}\nmean 0.00, deviation 1.00" for channel in (2, 0)]
    for axis in figure.axes:  # all values are in bars, and the shares add up
        assert sum(bar.get_height() for bar in axis.patches[1:]) == pytest.approx(100, abs=13)  # 0.1 % are cut off
        assert axis.get_xlabel()
    plots.plt.close(figure)


def test_the_picks_are_marked_on_the_test_accuracy():
    tested = {1: [98.0, 99.2, 99.4], 2: [98.5, 99.3, 99.1]}
    picks = {1: {"the last": 3, "the best": 3, "first at 99.40 %": 3, "best in validation": 2}}
    picks[2] = {"the last": 3, "the best": 2, "first at 99.40 %": None, "best in validation": 1}
    figure = plots.picked_epochs(tested, {1: [98.1, 99.0, 98.9], 2: [99.0, 98.0, 98.0]}, picks, lowest=98)
    for axis, seed in zip(figure.axes, (1, 2), strict=True):
        drawn = {line.get_label(): line.get_xydata().tolist() for line in axis.get_lines()}
        for rule, epoch in picks[seed].items():
            assert drawn[rule] == ([[epoch, tested[seed][epoch - 1]]] if epoch else [])
        assert axis.get_ylim() == pytest.approx((98, 99.44))
    plots.plt.close(figure)
