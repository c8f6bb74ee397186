"""Figures of what a teacher says: what is drawn is what was given."""

import torch

from common.lesson import plots


def test_a_panel_for_each_answer_with_its_ten_bars():
    answers = {"T = 1": torch.eye(10)[4], "T = 3": torch.arange(10) / 45}
    figure = plots.softened(torch.rand(28, 28), answers, label=4)
    picture, *panels = figure.axes
    assert picture.get_title() == "label 4"
    for panel, (name, ten) in zip(panels, answers.items(), strict=True):
        assert panel.get_title() == name
        assert torch.allclose(torch.tensor([float(bar.get_height()) for bar in panel.patches]), 100 * ten)
        colors = [bar.get_facecolor() for bar in panel.patches]
        assert [colors.count(color) for color in colors].count(1) == 1
        assert colors.count(colors[4]) == 1
    assert [panel.texts[0].get_text() for panel in panels] == [">99.9 %", "20 %"]
