"""The page "Draw a digit": the files of `site/draw`, and beside them every recorded network in a browser's form.

The page must also open from a folder, where a browser lets a script read no file. So weights are scripts: each puts the
float32 numbers of one network, in base64, into a variable. The page loads such a script when its network is chosen.
"""

import argparse
import base64
import json
import re
import shutil
from pathlib import Path

import torch
from torch import nn

from common import models
from common.data.augmentation import inverse_matrix
from common.data.loaders import MEAN, STD
from common.data.strokes import BOX, MOST_POINTS, PEN, SIDE
from common.experiments import frontier
from common.lesson.notebooks import lessons
from common.lesson.pad import UNSURE
from common.models.test_time_augmentation import VIEWS
from common.recipe import ROOT
from common.system.files import write_atomically

SOURCES = ROOT / "site" / "draw"
SHARED = ROOT / "common" / "lesson" / "ink.js"  # the notebooks' pad has it too
FIRST = "S7/block3"  # the network that the page starts with


def build(folder: Path) -> Path:
    """Write the whole page into `folder`, in place of what is there, and return the path of its index.html.

    Raises UserError where a file cannot be written, or a network's weights are missing.
    """
    points = offered()
    for path in (*SOURCES.iterdir(), SHARED):
        write_atomically(folder / path.name, path.read_bytes())
    shutil.rmtree(folder / "weights", ignore_errors=True)
    entries = []
    for point in points:
        entry, weights = network(point)
        entries.append(entry)
        text = json.dumps(base64.b64encode(weights).decode())
        write_atomically(
            folder / entry["file"], f"window.weights = {{...window.weights, {entry['name']!r}: {text}}};\n"
        )
    settings = {"side": SIDE, "box": BOX, "pen": PEN, "mostPoints": MOST_POINTS, "mean": MEAN, "std": STD}
    catalogue = {**settings, "unsure": UNSURE, "first": FIRST, "networks": entries}
    write_atomically(folder / "networks.js", f"window.course = {json.dumps(catalogue, separators=(',', ':'))};\n")
    return folder / "index.html"


def offered() -> list[frontier.Point]:
    """Every recorded network whose trained weights the course keeps, most parameters first."""
    return sorted((point for point in frontier.points() if weights_of(point.whose).exists()), key=_size, reverse=True)


def _size(point: frontier.Point) -> tuple[int, str]:
    return point.parameters, point.whose


def weights_of(step: str) -> Path:
    """Where the course keeps the trained weights of a step."""
    session, name = step.split("/")
    return ROOT / "sessions" / session / "weights" / f"{name}.safetensors"


def network(point: frontier.Point) -> tuple[dict, bytes]:
    """What the page has to know of a network, and its numbers as little-endian float32, layer by layer."""
    model = models.load_trained(point.whose)
    layers, numbers = trace(model)
    weights = torch.cat(numbers).numpy().astype("<f4").tobytes()
    name = point.whose.replace("/", "_")
    entry = {
        "name": point.whose,
        "title": title(point.whose),
        "lesson": f"sessions/{point.whose}.html" if point.whose in lessons() else None,
        "parameters": point.parameters,
        "accuracy": round(point.mean, 2),
        "seeds": len(point.accuracies),
        "file": f"weights/{name}.js",
        "bytes": len(base64.b64encode(weights)),
        "views": views(model),
        "layers": layers,
    }
    return entry, weights


def title(step: str) -> str:
    """A step's name as a reader says it: "S6 part 2 step 2: fixed" for S6/part2_step2_fixed."""
    words = re.sub(r"(?<= )(part|step|block)(?=\d)", r"\1 ", re.sub("[/_]", " ", step))
    place, name = re.fullmatch(r"(S\d+(?: (?:part|step|block) \d+)*) ?(.*)", words).groups()
    return f"{place}: {name}" if name else place


@torch.no_grad()
def trace(model: nn.Module) -> tuple[list[dict], list[torch.Tensor]]:
    """The layers of a chain, each with the shape of its output [channels, height, width], and their numbers.

    A layer says at which of the numbers each of its tensors begins. Raises TypeError for a layer that the page cannot
    compute, and for a network that is no chain of `model.layers`.
    """
    layers, numbers, count = [], [], 0
    values = torch.zeros(1, 1, SIDE, SIDE)
    for module in leaves(model.layers):
        values = module(values)
        shape = [*values.shape[1:], 1, 1][:3]
        layer = {"kind": type(module).__name__.replace("Dropout2d", "Dropout"), "shape": shape} | _settings(module)
        for key, tensor in module.state_dict().items():
            if tensor.dim():  # all but BatchNorm's count of batches
                layer[key] = count
                numbers.append(tensor.flatten())
                count += tensor.numel()
        layers.append(layer)
    return layers, numbers


def leaves(module: nn.Module) -> list[nn.Module]:
    """The layers of a chain in their order, without the chains inside of it."""
    if type(module) is nn.Sequential:
        return [leaf for child in module for leaf in leaves(child)]
    return [module]


def _settings(module: nn.Module) -> dict:
    if isinstance(module, nn.Conv2d):
        square = all(size[0] == size[1] for size in (module.kernel_size, module.stride, module.padding))
        if square and module.dilation == (1, 1) and module.padding_mode == "zeros":
            sizes = {"kernel": module.kernel_size[0], "stride": module.stride[0], "padding": module.padding[0]}
            return {**sizes, "groups": module.groups}
    elif isinstance(module, nn.BatchNorm2d):
        return {"eps": module.eps}
    elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        if module.kernel_size == module.stride and not module.padding and not module.ceil_mode:
            return {"kernel": module.kernel_size}
    elif isinstance(module, nn.ReLU | nn.SiLU | nn.Dropout | nn.Dropout2d | nn.Flatten | nn.Linear | nn.LogSoftmax):
        return {}
    raise TypeError(f"The page 'Draw a digit' cannot compute {module}")


@torch.no_grad()
def views(model: nn.Module) -> list[dict]:
    """What a network that averages several views of an image looks at: for each its moves and its matrix, row by row.

    Empty for a network that looks once.
    """
    seen = []
    first = leaves(model.layers)[0].register_forward_hook(lambda _layer, inputs, _output: seen.append(len(inputs[0])))
    model(torch.zeros(1, 1, SIDE, SIDE))
    first.remove()
    if seen == [1]:
        return []
    moves = torch.tensor(VIEWS)
    matrices = inverse_matrix(moves[:, 0], moves[:, 1:3], moves[:, 3], torch.zeros(len(VIEWS))).flatten(1).tolist()
    said = [_said(*view) for view in VIEWS]
    return [{"said": words, "matrix": matrix} for words, matrix in zip(said, matrices, strict=True)]


def _said(angle: float, right: float, down: float, scale: float) -> str:
    """A view in words."""
    if angle:
        return f"turned by {abs(angle)} degrees {'right' if angle > 0 else 'left'}"
    if right or down:
        way = ("right" if right > 0 else "left") if right else ("down" if down > 0 else "up")
        return f"{abs(right or down)} pixel {way}"
    return "as it is" if scale == 1 else f"{scale:g} times as large"


def main() -> None:
    """Write the page into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "runs" / "draw", help="default: runs/draw")
    print(build(parser.parse_args().folder))


if __name__ == "__main__":
    main()
