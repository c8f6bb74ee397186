"""The environment variables that a lesson's own process gets, whether it is a script's or a notebook's kernel.

Only the standard library is imported here: a job on a cluster starts with this, and its script imports the rest.
"""

import os
from pathlib import Path

INHERITED = ("COURSE_CACHE", "COURSE_DATA", "COURSE_DEVICE")  # the other COURSE_ variables would change what is run


def absolute_folders() -> dict[str, str]:
    """The variables that name the digits' folders, made absolute (~ is): a kernel runs in its notebook's folder."""
    set_ones = {name: os.environ[name] for name in ("MNIST_DIR", "COURSE_CACHE") if os.environ.get(name)}
    return {name: folder if folder[0] == "~" else str(Path(folder).absolute()) for name, folder in set_ones.items()}


def kernel_environment(train: str = "") -> dict[str, str]:
    """The environment in which a lesson's kernel runs: "quick" on the built-in digits, else on MNIST.

    `train` is "full", "quick" or "recorded"; "" leaves the choice to the page's own switch. Whatever the shell sets to
    change a run (COURSE_EPOCHS, ...) or to draw elsewhere (MPLBACKEND) is left out.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in INHERITED or not (name.startswith("COURSE_") or name == "MPLBACKEND")
    }
    environment |= {"TQDM_DISABLE": "1", **absolute_folders()}
    data = "builtin" if train == "quick" else environment.get("COURSE_DATA") or "mnist"
    return environment | {"COURSE_DATA": data} | ({"COURSE_TRAIN": train} if train else {})
