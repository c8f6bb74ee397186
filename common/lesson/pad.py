"""A pad to draw a digit on, beside what a network makes of it while one draws.

It runs the kernel's own model: the network that the reader has just trained. The widget is an anywidget
(https://anywidget.dev), which JupyterLab, VS Code and Colab can show. Nothing that is drawn is written anywhere.
"""

import base64
from pathlib import Path

import torch
from torch import Tensor, nn

from common.data import normalise
from common.data.strokes import draw
from common.lesson import plots
from common.models.explanations import watch
from common.recipe import Options
from common.system.streams import in_notebook, may_move

HERE = Path(__file__).parent
MAPS = 8
UNSURE = 0.8  # below this probability the answer is called a guess
# A 3, for where nobody can draw: two arcs.
EXAMPLE = [
    [(0.26, 0.19), (0.34, 0.11), (0.47, 0.09), (0.61, 0.12), (0.70, 0.22), (0.70, 0.34), (0.62, 0.44), (0.48, 0.49)]
    + [(0.64, 0.52), (0.74, 0.62), (0.74, 0.76), (0.64, 0.88), (0.48, 0.92), (0.33, 0.89), (0.23, 0.81)]
]


def answer_to(strokes: list, model: nn.Module, layer: nn.Module | None = None) -> dict:
    """What the network makes of a drawing: its image, its ten probabilities, and feature maps of `layer`.

    Images are bytes in base64, 255 is full ink; a map is scaled from its least to its largest value. Raises what `draw`
    raises.
    """
    image = draw(strokes)
    shown = {"image": _base64(image), "probabilities": [], "read": -1, "maps": [], "side": 1, "said": "Draw a digit."}
    if not image.any():
        return shown
    log_probabilities, maps = look(image, model, layer)
    probabilities = log_probabilities.exp()
    best = int(probabilities.argmax())
    sure = float(probabilities[best])
    shown |= {"probabilities": probabilities.tolist(), "read": best}
    shown["said"] = (
        f"It reads {best}, with {plots.percent(sure)}."
        if sure >= UNSURE
        else f"It is not sure: {best}, with {plots.percent(sure)}."
    )
    if maps is not None:
        shown |= {"maps": [_base64(_stretched(one)) for one in maps], "side": maps.shape[-1]}
    return shown


@torch.no_grad()
def look(image: Tensor, model: nn.Module, layer: nn.Module | None = None) -> tuple[Tensor, Tensor | None]:
    """The network's ten log-probabilities for an image, uint8 [28, 28], and up to 8 maps of `layer`."""
    device = next(model.parameters()).device
    log_probabilities, _, maps = watch(model, model if layer is None else layer, normalise(image[None]).to(device))
    return log_probabilities[0].cpu(), maps[0, :MAPS].cpu() if maps.dim() == 4 else None


def drawing_pad(model: nn.Module, options: Options, layer: nn.Module | None = None):
    """Show the pad; where nobody can draw (a script, a stored page) show a drawn example instead, and say so.

    Gives the widget, already displayed, or None.
    """
    widget = _widget(model, layer) if in_notebook() and may_move() else None
    if widget is None:
        print("Nobody can draw here; this is a drawn example. In a live notebook a drawing pad stands in its place.")
        image = draw(EXAMPLE)
        log_probabilities, maps = look(image, model, layer)
        plots.show(plots.probabilities(image, log_probabilities), options.out, "drawn_example")
        if maps is not None:
            captions = [f"map {number}" for number in range(len(maps))]
            plots.show(plots.maps(maps, captions, columns=MAPS), options.out, "drawn_example_maps")
        return None
    from IPython.display import display

    display(widget)
    return widget


def _widget(model: nn.Module, layer: nn.Module | None):
    try:
        import anywidget
        import traitlets
    except ImportError:  # a page without its pad is still whole
        return None

    class DrawingPad(anywidget.AnyWidget):
        _esm = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("ink.js", "pad.js"))
        _css = HERE / "pad.css"
        strokes = traitlets.List([]).tag(sync=True)
        answer = traitlets.Dict(answer_to([], model, layer)).tag(sync=True)

        @traitlets.observe("strokes")
        def _drawn(self, change) -> None:
            self.answer = answer_to(change.new, model, layer)

    return DrawingPad()


def _stretched(values: Tensor) -> Tensor:
    low, high = values.min(), values.max()
    return (255 * (values - low) / (high - low).clamp(min=1e-12)).round().to(torch.uint8)


def _base64(image: Tensor) -> str:
    return base64.b64encode(image.numpy().tobytes()).decode()
