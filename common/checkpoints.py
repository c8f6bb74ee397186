"""Save a training run after each epoch, and take it up again so exactly that the interruption leaves no trace."""

import hashlib
import io
import json
import zipfile

import torch

from common import models, speed
from common.changes import stated
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
            "recipe": stated(recipe),
            "network": hashlib.sha256(models.source(recipe.step).encode()).hexdigest(),
            "data": digits.sha256,
            "training images": len(digits.train_labels),
            "measured on": digits.measured_on,
            "protocol": options.protocol,
            "precision": speed.precision(options, device),
            "compiled": speed.compiles(recipe, options, device, len(digits.train_labels)),
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


class RunState:
    """All that changes while a network trains, as one value that can be saved and restored."""

    def __init__(self, parts: dict, loaders: list):
        """`parts` have a state_dict; of the loaders, those with a generator of their own count."""
        self.parts = parts
        self.generators = [loader.generator for loader in loaders if getattr(loader, "generator", None) is not None]
        self.history: list[dict] = []

    def state(self) -> dict:
        """Everything as tensors and plain values, as `Checkpoint.save` takes it."""
        return {
            **{name: part.state_dict() for name, part in self.parts.items()},
            "history": self.history,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "random_mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
            "random_loaders": [generator.get_state() for generator in self.generators],
        }

    def restore(self, state: dict) -> None:
        """Go on from such a state."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.history = list(state["history"])
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available() and state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        if torch.backends.mps.is_available() and state["random_mps"] is not None:
            torch.mps.set_rng_state(state["random_mps"])
        for generator, saved in zip(self.generators, state["random_loaders"], strict=True):
            generator.set_state(saved)


def _first_difference(theirs: dict, ours: dict) -> str:
    flat_theirs, flat_ours = ({**side.get("recipe", {}), **side} for side in (theirs, ours))
    for name in {**flat_ours, **flat_theirs}:
        if name != "recipe" and flat_theirs.get(name) != flat_ours.get(name):
            return f"{name} {_short(flat_theirs.get(name))} there, {_short(flat_ours.get(name))} here"
    return "a recipe of another form"


def _short(value) -> str:
    return value[:12] if isinstance(value, str) else str(value)
