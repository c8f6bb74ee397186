"""The networks by their names, one module for each session (`s5`, `s6`, `s7`, `ours`), and tables that explain them.

Read the module of your session; `anatomy` makes the tables, `explanations` shows what a network sees in an image,
`layers` and `test_time_augmentation` hold what ours add.
"""

from common.models.anatomy import count_parameters, layer_rows, layer_table, summary
from common.models.explanations import class_maps, feature_maps, grad_cam
from common.models.registry import NETWORKS, build, load_trained, of, source

__all__ = [
    "NETWORKS",
    "build",
    "class_maps",
    "count_parameters",
    "feature_maps",
    "grad_cam",
    "layer_rows",
    "layer_table",
    "load_trained",
    "of",
    "source",
    "summary",
]
