"""A slider under a figure, where somebody sits in front of the page and can move it."""

import math
from collections.abc import Callable

from common.system.streams import in_notebook, may_move


def slider(draw: Callable[[float], None], name: str, low: float, high: float, first: float):
    """A logarithmic slider from `low` to `high`; `draw(value)` shows a figure, again for each new value.

    Gives the widget, already displayed; None, and nothing is shown, in a script, in a test, or without ipywidgets.
    """
    if not (in_notebook() and may_move()):
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
