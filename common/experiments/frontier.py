"""Accuracy against parameters: every recorded network of the course, and the published ones beside them."""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

from common import models, records
from common.experiments import time_to_accuracy
from common.lesson import plots
from common.models import ours
from common.recipe import ROOT
from common.system.files import write_atomically

PICTURE = ROOT / "sessions" / "S8" / "frontier.png"
NUMBERS = "Comment"  # the picture's text field that holds the fingerprint of the numbers it shows


@dataclass(frozen=True)
class Point:
    """One network; accuracies on MNIST's test images in per cent, of the last epoch unless `whose` says otherwise."""

    whose: str  # a network's name in common.models, or who published it
    parameters: int
    accuracies: tuple[float, ...]  # one for each seed
    epochs: int
    retold: bool = False  # ours, but for the network, which is a source's
    best: float = float("nan")  # the best epoch of the best seed, by the test images: what others often report

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)


# What others report of networks this small, all measured on the test images by their authors.
PUBLISHED = (
    Point("github.com/JoshWarn/Parameter-Efficient-MNIST, best epoch of about 700 runs", 697, (99.03,), 2_000),
    Point("github.com/hexhowells/NeuralGolfing, after pruning", 575, (98.00,), 20),
    Point("github.com/adilsammar/woolly-of-cv, one run", 3_762, (99.52,), 15),
    Point("firekind, ERA4 session 6, one run", 6_174, (99.47,), 15),
    Point("santule, ERA session 7, one run", 7_120, (99.41,), 15),
    Point("a student of ERA V1, session 6, one run", 19_088, (99.52,), 15),
)


def points() -> list[Point]:
    """A point for each network that has recorded runs, fewest parameters first."""
    found = []
    for name in models.NETWORKS:
        if not records.path_of(name).exists() or not records.runs(record := records.load(name)):
            continue
        accuracies = records.summarise(record).accuracies
        retold = models.NETWORKS[name].__module__ != ours.__name__
        epochs = record["recipe"]["epochs"]
        best = max(records.accuracy(run, epoch) for run in records.runs(record) for epoch in range(1, epochs + 1))
        found.append(Point(name, record["parameters"], accuracies, epochs, retold, best))
    race = json.loads(time_to_accuracy.RECORDS[99.40].read_text(encoding="utf-8"))
    accuracies = tuple(100 * run["correct"] / run["total"] for run in race["ours"])
    found.append(Point(race["recipe"]["network"], race["parameters"], accuracies, race["recipe"]["epochs"]))
    return sorted(found, key=lambda point: point.parameters)


def fingerprint(ours: list[Point]) -> str:
    """Of everything that the picture shows."""
    return hashlib.sha256(repr((ours, PUBLISHED)).encode()).hexdigest()


def write(path: Path = PICTURE) -> bool:
    """Draw the picture of the README again, unless it shows today's records already; returns whether it was drawn."""
    ours = points()
    if path.exists() and shown(path) == fingerprint(ours):
        return False
    png = io.BytesIO()
    figure = plots.frontier(ours, PUBLISHED)
    figure.savefig(png, format="png", dpi=110, metadata={NUMBERS: fingerprint(ours)})
    plots.plt.close(figure)
    write_atomically(path, png.getvalue())
    return True


def shown(path: Path) -> str | None:
    """The fingerprint of the numbers that the picture was drawn from."""
    from PIL import Image

    with Image.open(path) as image:
        return image.info.get(NUMBERS)
