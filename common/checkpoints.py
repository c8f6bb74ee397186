"""Save a training run after each epoch, and take it up again so exactly that the interruption leaves no trace."""

import dataclasses
import io
import json
import pickle
import zipfile
from pathlib import Path

import torch

from common.data import Digits
from common.errors import UserError
from common.files import write_atomically
from common.recipe import Recipe

# What a file of arbitrary bytes makes the readers raise.
UNREADABLE = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)


class Checkpoint:
    """One run's checkpoint file, `checkpoint.pt` in its output folder.

    It belongs to one recipe on one data set; any other is refused, because going on from it would give a result that no
    recipe describes.
    """

    def __init__(self, folder: Path, recipe: Recipe, digits: Digits, resume: bool = False):
        """With `resume`, read the file at once, so that a run that cannot go on ends before it has written anything.

        Without it `fit` starts anew and overwrites the file. Raises what `load` raises.
        """
        self.path = Path(folder) / "checkpoint.pt"
        self.identity = {
            "recipe": dataclasses.asdict(recipe),
            "data": digits.sha256,
            "training images": len(digits.train_labels),
        }
        self.resumed = self.load() if resume else None

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
        if not self.path.exists():
            raise UserError(f"There is nothing to resume: {self.path} is missing; {again}.")
        try:
            with zipfile.ZipFile(self.path) as archive:  # torch.save writes zip files, torch.load skips their checksums
                damaged_part = archive.testzip()
            if damaged_part:
                raise zipfile.BadZipFile(damaged_part)
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            identity, state = json.loads(content["identity"]), content["state"]
        except (*UNREADABLE, pickle.UnpicklingError) as error:
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
