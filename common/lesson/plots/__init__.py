"""The course's figures, in one style. Each function returns a figure; `show` displays it or writes it as PNG."""

from common.lesson.plots.style import plt, show  # noqa: I001 - first of all: it chooses matplotlib's backend
from common.lesson.plots.backprop import error_curves, valley, widening
from common.lesson.plots.batchnorm import histograms, picked_epochs
from common.lesson.plots.ceilings import ceilings
from common.lesson.plots.curves import curves
from common.lesson.plots.images import confusion, grid, mistakes, percent, pictures, probabilities
from common.lesson.plots.maps import feature_maps, heatmaps, kernels, maps
from common.lesson.plots.networks import network, neurons, receptive_fields
from common.lesson.plots.pooling import class_maps, intervals, many_tests, shift_maps
from common.lesson.plots.robustness import accuracy_curves, reliability
from common.lesson.plots.reading import preparation
from common.lesson.plots.seeds import paired_dots
from common.lesson.plots.studies import frontier, ladder
from common.lesson.plots.writers import against, rows_of_digits, spoilt

__all__ = [
    "accuracy_curves",
    "against",
    "ceilings",
    "class_maps",
    "confusion",
    "curves",
    "error_curves",
    "feature_maps",
    "frontier",
    "grid",
    "heatmaps",
    "histograms",
    "intervals",
    "kernels",
    "ladder",
    "many_tests",
    "maps",
    "mistakes",
    "network",
    "neurons",
    "paired_dots",
    "percent",
    "picked_epochs",
    "pictures",
    "plt",
    "preparation",
    "probabilities",
    "receptive_fields",
    "reliability",
    "rows_of_digits",
    "shift_maps",
    "show",
    "spoilt",
    "valley",
    "widening",
]
