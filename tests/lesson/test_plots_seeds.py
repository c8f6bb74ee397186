"""The figure of runs paired by seed: a ring for each seed, above the interval of its own comparison."""

from common.lesson import plots


def test_each_comparison_has_its_seeds_its_mean_and_its_interval():
    rows = {"one": ([-0.1, 0.2, 0.2], -0.3, 0.5), "other": ([0.4, 0.6], 0.1, 0.9)}
    figure = plots.paired_dots(rows, "points")
    (axis,) = figure.axes
    zero, *lines = axis.lines
    assert list(zero.get_xdata()) == [0, 0]
    for (differences, low, high), (reach, mean, rings) in zip(rows.values(), (lines[:3], lines[3:]), strict=True):
        assert list(reach.get_xdata()) == [low, high]
        assert abs(float(mean.get_xdata()[0]) - sum(differences) / len(differences)) < 1e-9
        assert list(rings.get_xdata()) == differences
    assert [label.get_text() for label in axis.get_yticklabels()] == list(rows)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["95 % interval", "mean", "one seed"]
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first row on top
    plots.plt.close(figure)
