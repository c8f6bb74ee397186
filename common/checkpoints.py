"""Save a training run after each epoch, and take it up again so exactly that the interruption leaves no trace."""

import dataclasses
import hashlib
import io
import json
import zipfile

import torch

from common import models, speed
from common.data import Digits
from common.errors import UserError
from common.files import write_atomically
from common.recipe import Options, Recipe


class Checkpoint:
    """One run's checkpoint file, `checkpoint.pt` in its output folder.

    It belongs to one recipe on one data set; any other is refused, because going on from it would give a result that no
    recipe describes.
    """

    def __init__(self, options: Options, recipe: Recipe, digits: Digits, device: torch.device):
        """With `options.resume`, read the file at once: a run that cannot go on ends before it has written anything.

        Without it `fit` starts anew and overwrites the file. Raises what `load` raises.
        """
        self.path = options.out / "checkpoint.pt"
        self.identity = {
            "recipe": dataclasses.asdict(recipe),
            "network": hashlib.sha256(models.source(recipe.step).encode()).hexdigest(),
            "data": digits.sha256,
            "training images": len(digits.train_labels),
            "protocol": options.protocol,
            "precision": speed.precision(options, device),
            "compile": options.compile,
        }
        self.resumed = self.load() if options.resume else None

    def save(self, state: dict) -> None:
        """Write `state` (tensors, numbers, strings in dicts and lists) whole or not at all."""
        buffer = io.BytesIO()  # torch.save to a full disk leaves half a file; bytes in memory can be written atomically
        torch.save({"identity": json.dumps(self.identity), "state": state}, buffer)
        write_atomically(self.path, buffer.getvalue())

    def load(self) -> dict:
        """The state last saved. Raises UserError for a file that is missing, damaged, or of another run.

        Only tensors and plain values are read (`weights_only`): a checkpoint from a stranger cannot run code.
        """
        again = "start anew without --resume"
        try:
            with zipfile.ZipFile(self.path) as archive:  # torch.save writes zip files, torch.load skips their checksums
                damaged_part = archive.testzip()
            if damaged_part:
                raise zipfile.BadZipFile(damaged_part)
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            identity, state = dict(json.loads(content["identity"])), dict(content["state"])
        except FileNotFoundError:
            raise UserError(f"There is nothing to resume: {self.path} is missing; {again}.") from None
        except Exception as error:  # what a file of arbitrary bytes makes zipfile and torch raise is not documented
            raise UserError(
                f"The checkpoint {self.path} is damaged or holds more than weights and numbers, "
                f"so it was not loaded; delete it and {again}."
            ) from error
        mine = json.loads(json.dumps(self.identity))
        if identity != mine:
            raise UserError(
                f"The checkpoint {self.path} belongs to another run ({_first_difference(identity, mine)}); "
                f"give the same options as then, or {again}."
            )
        return state


def _first_difference(theirs: dict, ours: dict) -> str:
    flat_theirs, flat_ours = ({**side.get("recipe", {}), **side} for side in (theirs, ours))
    for name in flat_ours:
        if name != "recipe" and flat_theirs.get(name) != flat_ours[name]:
            return f"{name} {_short(flat_theirs.get(name))} there, {_short(flat_ours[name])} here"
    return "a recipe of another form"


def _short(value) -> str:
    return value[:12] if isinstance(value, str) else str(value)
