"""The style of all figures, and `show`, which displays a figure or writes it as PNG."""

import io
import os
from pathlib import Path

from common.system.errors import UserError
from common.system.files import write_atomically
from common.system.streams import in_notebook

try:
    import matplotlib
except ValueError:  # it reads the variable when it is imported
    raise UserError(
        f"MPLBACKEND must name a backend of matplotlib, such as agg, not {os.environ.get('MPLBACKEND')!r}; unset it."
    ) from None
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

if not in_notebook():
    matplotlib.use("Agg")  # no window, so that a script also runs where there is no screen

STYLE = {
    "figure.dpi": 120,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "legend.frameon": False,
    "image.cmap": "gray_r",
    "axes.prop_cycle": matplotlib.cycler(color=["#1f77b4", "#d95f02", "#7570b3", "#1b9e77"]),
}
plt.rcParams.update(STYLE)


def show(figure: Figure, folder: Path, name: str) -> None:
    """In a notebook, display the figure; in a script, write it to `folder`/figures/`name`.png."""
    if in_notebook():
        plt.show()
    else:
        png = io.BytesIO()
        figure.savefig(png, format="png")
        write_atomically(Path(folder) / "figures" / f"{name}.png", png.getvalue())
    plt.close(figure)
