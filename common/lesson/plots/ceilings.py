"""A figure for each lesson's ceilings: what is possible at most, beside what was measured."""

from matplotlib.figure import Figure

from common.lesson.plots.style import plt


def ceilings(possible: list[float], measured: list[float]) -> Figure:
    """For each digit a bar, what was measured in per cent, and a black line above it, the most that is possible."""
    figure, axis = plt.subplots(figsize=(8, 3.6))
    digits = range(len(measured))
    axis.bar(digits, measured, color="#9ecae1", width=0.8, label="measured")
    lefts, rights = [digit - 0.4 for digit in digits], [digit + 0.4 for digit in digits]
    axis.hlines(possible, lefts, rights, color="black", linewidth=2, label="ceiling")
    for digit, value in zip(digits, measured, strict=True):
        axis.annotate(f"{value:.1f}", (digit, value), xytext=(0, -4), textcoords="offset points", ha="center", va="top")
    axis.set(xticks=digits, xlabel="digit", ylabel="read correctly in %", ylim=(0, 119), yticks=range(0, 101, 20))
    axis.legend(loc="upper right", ncols=2)
    return figure
