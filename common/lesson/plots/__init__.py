"""The course's figures, in one style. Each function returns a figure; `show` displays it or writes it as PNG."""

from common.lesson.plots.style import plt, show  # noqa: I001 - first of all: it chooses matplotlib's backend
from common.lesson.plots.ablation import forest
from common.lesson.plots.backprop import error_curves, valley, widening
from common.lesson.plots.batchnorm import histograms, picked_epochs
from common.lesson.plots.ceilings import ceilings
from common.lesson.plots.curves import curves
from common.lesson.plots.fields import path_bells, shared_squares, votes, where_digits_lie
from common.lesson.plots.images import confusion, grid, mistakes, percent, pictures, probabilities
from common.lesson.plots.maps import feature_maps, heatmaps, kernels, maps
from common.lesson.plots.networks import network, neurons, receptive_fields
from common.lesson.plots.pooling import class_maps, intervals, many_tests, shift_maps
from common.lesson.plots.rates import effective_rates, raw_and_averaged, spreads, swings
from common.lesson.plots.regularisation import kernel_steps, masked_maps
from common.lesson.plots.robustness import accuracy_curves, reliability
from common.lesson.plots.reading import preparation
from common.lesson.plots.separable import kernel_tables, slopes, split_convolution
from common.lesson.plots.speed import asking, growth, memory_orders, price_of_a_step, roofline
from common.lesson.plots.studies import cost_fit, frontier, ladder, schedules, speedups
from common.lesson.plots.teaching import softened
from common.lesson.plots.writers import against, rows_of_digits, spoilt

__all__ = [
    "accuracy_curves",
    "against",
    "asking",
    "ceilings",
    "class_maps",
    "confusion",
    "cost_fit",
    "curves",
    "effective_rates",
    "error_curves",
    "feature_maps",
    "forest",
    "frontier",
    "grid",
    "growth",
    "heatmaps",
    "histograms",
    "intervals",
    "kernel_steps",
    "kernel_tables",
    "kernels",
    "ladder",
    "many_tests",
    "maps",
    "masked_maps",
    "memory_orders",
    "mistakes",
    "network",
    "neurons",
    "path_bells",
    "percent",
    "picked_epochs",
    "pictures",
    "plt",
    "preparation",
    "price_of_a_step",
    "probabilities",
    "raw_and_averaged",
    "receptive_fields",
    "reliability",
    "roofline",
    "rows_of_digits",
    "schedules",
    "shared_squares",
    "shift_maps",
    "show",
    "slopes",
    "speedups",
    "split_convolution",
    "softened",
    "spoilt",
    "spreads",
    "swings",
    "valley",
    "votes",
    "where_digits_lie",
    "widening",
]
