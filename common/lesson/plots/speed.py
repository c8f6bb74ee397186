"""Figures of speed: the order of numbers in memory, the roofline, a processor that asks and a GPU that runs, growth."""

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from common.lesson.plots.style import plt

COLORS = ("#1f77b4", "#d95f02", "#7570b3")


def memory_orders(images: int = 2, channels: int = 3, pixels: str = "abcd") -> Figure:
    """A strip of memory for each of three layouts: a colour for each channel, in each cell the image and its pixel."""
    places = [(n, c, p) for n in range(images) for c in range(channels) for p in pixels]
    orders = {
        "pixels last": lambda place: place,
        "channels last": lambda place: (place[0], place[2], place[1]),
        "batch last": lambda place: (place[1], place[2], place[0]),
    }
    figure, axis = plt.subplots(figsize=(10, 2.2))
    for row, (name, order) in enumerate(orders.items()):
        for column, (image, channel, pixel) in enumerate(sorted(places, key=order)):
            color = COLORS[channel % len(COLORS)]
            axis.add_patch(Rectangle((column, -1.5 * row), 1, 1, facecolor=color, alpha=0.45, edgecolor="white"))
            axis.text(column + 0.5, 0.48 - 1.5 * row, f"{image + 1}{pixel}", ha="center", va="center", fontsize="small")
        axis.text(-0.4, 0.5 - 1.5 * row, name, ha="right", va="center")
    axis.set(xlim=(-4.5, len(places) + 0.1), ylim=(-1.5 * len(orders) + 1.4, 1.1))
    axis.set_axis_off()
    return figure


def roofline(flops: float, bandwidth: float, could: dict[str, float], does: dict[str, tuple[float, float]]) -> Figure:
    """How many operations a second a machine allows, by the operations for each byte that is moved; both logarithmic.

    `flops` and `bandwidth` are the machine's, a second. `could` has the operations a byte of some layers, drawn on the
    roof; `does` has for what was measured the operations a byte and those that it reached in a second.
    """
    figure, axis = plt.subplots(figsize=(9, 4))
    ends = (0.5, flops / bandwidth, 1_000)
    axis.plot(ends, [min(flops, bandwidth * end) / 1e9 for end in ends], color="gray")
    side = {"textcoords": "offset points", "fontsize": "small"}
    for name, intensity in could.items():
        roof = min(flops, bandwidth * intensity) / 1e9
        axis.plot(intensity, roof, "o", color="#1f77b4")
        slope = intensity < flops / bandwidth
        place = {"xytext": (-6, 4), "ha": "right"} if slope else {"xytext": (-2, 6), "rotation": 28}
        axis.annotate(name, (intensity, roof), **place, **side)
    for name, (intensity, reached) in does.items():
        axis.plot(intensity, reached / 1e9, "D", color="#d95f02")
        axis.annotate(name, (intensity, reached / 1e9), (9, 0), va="center", **side)
    axis.set(xscale="log", yscale="log", xlabel="operations for each byte that is moved", ylabel="GFLOP/s")
    axis.set_ylim(bottom=min(axis.get_ylim()[0], bandwidth / 2e9), top=5 * flops / 1e9)
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter(lambda value, _: f"{value:g}")
    return figure


def asking(timelines: dict[str, list[tuple[float, float, float]]]) -> Figure:
    """For each way a lane of the processor that asks and one of the GPU that runs.

    A kernel is (asked for, begun, done), in microseconds; it is asked for since the one before it was.
    """
    figure, axes = plt.subplots(len(timelines), 1, figsize=(9, 1.5 * len(timelines) + 0.4), sharex=True, squeeze=False)
    for axis, (name, kernels) in zip(axes[:, 0], timelines.items(), strict=True):
        before = 0.0
        for asked, begun, done in kernels:
            style = {"height": 0.7, "edgecolor": "white"}
            axis.barh(1, asked - before, left=before, color="#7f7f7f", **style)
            axis.barh(0, done - begun, left=begun, color="#1f77b4", **style)
            before = asked
        axis.set_yticks([1, 0], ["processor asks", "GPU runs"])
        axis.set_title(f"{name}: done after {kernels[-1][2]:.0f} microseconds", loc="left")
    axes[-1, 0].set_xlabel("microseconds")
    return figure


def growth(seconds: dict[int, float]) -> Figure:
    """Seconds against the number of images, with the line from 0 through the last of them."""
    figure, axis = plt.subplots(figsize=(6, 3))
    last = max(seconds)
    axis.plot([0, last], [0, seconds[last]], color="gray", linestyle=":", label="linear")
    axis.plot(list(seconds), list(seconds.values()), "o", label="measured")
    axis.set(xlabel="images in an epoch", ylabel="seconds", xlim=(0, None), ylim=(0, None))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.legend(loc="upper left")
    return figure


def price_of_a_step(milliseconds: dict[int, float], fixed: float, each: float) -> Figure:
    """A step's milliseconds against its number of images, with the line `fixed` + `each` x images."""
    figure, axis = plt.subplots(figsize=(7, 3.2))
    last = max(milliseconds)
    axis.plot(
        [0, last], [fixed, fixed + each * last], color="gray", linestyle=":", label="fixed price + price of images"
    )
    axis.fill_between([0, last], [fixed, fixed], color="#d95f02", alpha=0.2, label="fixed price")
    axis.plot(list(milliseconds), list(milliseconds.values()), "o", label="measured")
    axis.set(xlabel="images in a batch", ylabel="milliseconds a step", xlim=(0, None), ylim=(0, None))
    axis.legend(loc="upper left")
    return figure
