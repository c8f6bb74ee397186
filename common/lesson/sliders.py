"""A slider under a figure, where somebody sits in front of the page and can move it."""

import math
import os
from collections.abc import Callable

from common.system.streams import in_notebook


def someone_watches() -> bool:
    """Whether the page runs in a kernel that nobody but a reader has started.

    Where the course runs its own notebooks, to store or to compare their outputs, it switches off what moves: progress
    bars, by the variable TQDM_DISABLE, and sliders, whose stored picture would be dead.
    """
    return in_notebook() and not os.environ.get("TQDM_DISABLE")


def slider(draw: Callable[[float], None], name: str, low: float, high: float, first: float):
    """A logarithmic slider from `low` to `high`; `draw(value)` shows a figure, again for each new value.

    Gives the widget, already displayed; None, and nothing is shown, in a script, in a test, or without ipywidgets.
    """
    if not someone_watches():
        return None
    try:
        import ipywidgets
        from IPython.display import display
    except ImportError:  # a page without its slider is still whole
        return None
    moved = ipywidgets.FloatLogSlider(
        value=first,
        base=10,
        min=math.log10(low),
        max=math.log10(high),
        step=0.02,
        description=name,
        continuous_update=False,
        readout_format=".3g",
        style={"description_width": "initial"},
        layout={"width": "32em"},
    )
    both = ipywidgets.VBox([moved, ipywidgets.interactive_output(lambda value: draw(value), {"value": moved})])
    display(both)
    return both
