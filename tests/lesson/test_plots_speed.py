"""The figures of speed."""

import pytest

from common.lesson import plots


def test_each_layout_has_the_numbers_in_its_order():
    figure = plots.memory_orders(images=2, channels=2, pixels="ab")
    texts = [text.get_text() for text in figure.axes[0].texts]
    pixels, channels, batch = texts[:8], texts[9:17], texts[18:26]
    assert pixels == ["1a", "1b", "1a", "1b", "2a", "2b", "2a", "2b"]
    assert channels == ["1a", "1a", "1b", "1b", "2a", "2a", "2b", "2b"]
    assert batch == ["1a", "2a", "1b", "2b"] * 2
    plots.plt.close(figure)


def test_a_layer_lies_on_the_roof_left_and_right_of_its_bend():
    figure = plots.roofline(3e11, 2e10, {"left": 3.0, "right": 300.0}, {"an epoch": (9.0, 4e10)})
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == [(3.0, 60.0), (300.0, 300.0)]
    (diamond,) = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert (diamond.get_xdata()[0], diamond.get_ydata()[0]) == (9.0, 40.0)
    plots.plt.close(figure)


def test_a_kernel_runs_from_its_beginning_to_its_end_below_the_asking():
    figure = plots.asking({"one": [(5, 5, 7), (10, 10, 12)], "two": [(5, 5, 9)]})
    bars = [(bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2)) for bar in figure.axes[0].patches]
    assert bars == [(0, 5, 1), (5, 2, 0), (5, 5, 1), (10, 2, 0)]
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "one: done after 12 microseconds",
        "two: done after 9 microseconds",
    ]
    plots.plt.close(figure)


def test_the_lines_under_the_measured_dots():
    figure = plots.growth({10: 2.0, 60: 9.0})
    line, dots = figure.axes[0].lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0, 60], [0, 9.0])
    assert list(dots.get_ydata()) == [2.0, 9.0]
    plots.plt.close(figure)
    figure = plots.price_of_a_step({32: 6.0, 512: 30.0}, fixed=4.0, each=0.05)
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx([4.0, 4.0 + 0.05 * 512])
    plots.plt.close(figure)


def test_the_ladder_has_a_limit_only_where_one_is_given():
    seconds = [[50.0, 40.0, 60.0], [8.0, 9.0, 7.0]]
    without, limited = plots.ladder(["a", "b"], seconds), plots.ladder(["a", "b"], seconds, 2.0)
    assert [bar.get_width() for bar in without.axes[0].patches] == [50.0, 8.0]
    assert without.axes[0].get_legend() is None
    assert limited.axes[0].get_legend().get_texts()[0].get_text() == "roofline limit: 2.0 s"
    for figure in (without, limited):
        plots.plt.close(figure)
