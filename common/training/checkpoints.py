"""Save a training run after each epoch, and take it up again so exactly that the interruption leaves no trace."""

import contextlib
import dataclasses
import io
import json
import pickletools
import re
import zipfile
from collections.abc import Iterator

import torch
from torch import nn

from common.data import Digits
from common.models.fingerprint import structure_sha256
from common.recipe import Options, Recipe, non_default_fields
from common.system import locks
from common.system.errors import Interrupted, UserError
from common.system.files import write_atomically
from common.training import distributed
from common.training.acceleration import Acceleration, TrainingStep, precision

AGAIN = "start anew without --resume"
LARGEST = 2**28  # bytes; no run of the course comes near
# What a checkpoint's pickle may call. weights_only allows a little more, such as bytearray(10**11).
CALLABLE = re.compile(r"torch \w+Storage|torch\._utils _rebuild_tensor_v2|collections OrderedDict")


class Checkpoint:
    """One run's checkpoint file, `checkpoint.pt` in its output folder.

    It belongs to one recipe on one data set; any other is refused, because going on from it would give a result that no
    recipe describes. More epochs are no other recipe, unless the learning rate depends on their number.
    """

    def __init__(self, options: Options, recipe: Recipe, digits: Digits, device: torch.device):
        """With `options.resume`, read the file at once: a run that cannot go on ends before it has written anything.

        Without it `fit` starts anew and overwrites the file. Raises what `load` raises, and UserError while another
        run is training in the folder.
        """
        self.path, self.epochs = options.out / "checkpoint.pt", recipe.epochs
        said = non_default_fields(recipe)
        if not recipe.one_cycle:
            said.pop("epochs", None)
        self.identity = {
            "recipe": said,
            "data": digits.sha256,
            "training images": len(digits.train_labels),
            "measured on": digits.measured_on,
            "protocol": options.protocol,
            "precision": precision(options, device),
        }
        if locks.is_used(options.out):
            with self.exclusive():  # else a second run would draw its figures over the first one's before `fit` stops
                pass
        self.resumed = distributed.Group(device).from_first(self.load) if options.resume else None

    def exclusive(self) -> contextlib.AbstractContextManager:
        """Keep other runs out of the folder, for as long as it is written."""
        return locks.exclusive_run_lock(self.path.parent)

    def acceleration(self) -> Acceleration | None:
        """How the run that is resumed computes its steps; None for a new one."""
        if not self.resumed:
            return None
        with self.refused_if_damaged():
            kept = self.resumed["acceleration"]
            form = {field.name: type(field.default) for field in dataclasses.fields(Acceleration)}
            if type(kept) is not dict or {name: type(value) for name, value in kept.items()} != form:
                raise ValueError("its acceleration has another form")
            return Acceleration(**kept)

    def save(self, state: dict) -> None:
        """Write `state` (tensors, numbers, strings in dicts and lists) whole or not at all."""
        buffer = io.BytesIO()  # torch.save to a full disk leaves half a file; bytes in memory can be written atomically
        torch.save({"identity": json.dumps(self.identity), "state": state}, buffer)
        write_atomically(self.path, buffer.getvalue())

    def load(self) -> dict:
        """The state last saved. Raises UserError for a file that is missing, damaged, or of another run.

        Only tensors and plain values are read (`weights_only`): a checkpoint from a stranger cannot run code.
        """
        with self.refused_if_damaged(), self.path.open("rb") as file:
            _refuse_damage(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
            identity, state = dict(json.loads(content["identity"])), content["state"]
            if type(state) is not dict:  # a tensor unpacks to gigabytes
                raise ValueError("its state is no dict")
            done = len(state["history"])
        self._refuse_other(identity, json.loads(json.dumps(self.identity)))
        if done > self.epochs:
            raise UserError(f"The checkpoint {self.path} has {done} epochs already; --epochs must be at least {done}.")
        return state

    @contextlib.contextmanager
    def session(self, run: "RunState") -> Iterator[None]:
        """A run from its start, or from where it was interrupted, to its end, alone in its folder.

        Raises UserError where the checkpoint is of another network, and Interrupted, which says how to go on, on
        Ctrl-C.
        """
        with self.exclusive():
            if self.resumed:
                with self.refused_if_damaged():
                    theirs = self.resumed["network"]
                    if type(theirs) is not str:
                        raise ValueError("its network has no name")
                self._refuse_other({"network": theirs}, {"network": run.network})
                with self.refused_if_damaged():
                    run.restore(self.resumed)
            else:
                self.save(run.state())  # an unwritable folder shows now, not after the first epoch
            try:
                yield
            except KeyboardInterrupt:
                raise Interrupted(
                    f"Interrupted after {len(run.history)} of {self.epochs} epochs; "
                    f"the same command with --resume goes on from {self.path}."
                ) from None

    def _refuse_other(self, theirs: dict, mine: dict) -> None:
        if theirs != mine:
            raise UserError(
                f"The checkpoint {self.path} belongs to another run ({_first_difference(theirs, mine)}); "
                f"give the same options as then, or {AGAIN}."
            )

    @contextlib.contextmanager
    def refused_if_damaged(self) -> Iterator[None]:
        """Turn whatever the file's content makes zipfile and torch raise, which is not documented, into a sentence."""
        try:
            yield
        except FileNotFoundError:
            raise UserError(f"There is nothing to resume: {self.path} is missing; {AGAIN}.") from None
        except Exception as error:
            raise UserError(
                f"The checkpoint {self.path} is damaged or holds more than weights and numbers, "
                f"so it was not loaded; delete it and {AGAIN}."
            ) from error


def resumable(checkpoint: Checkpoint | None, run: "RunState") -> contextlib.AbstractContextManager:
    """The checkpoint's session for this run; without a checkpoint, nothing."""
    return checkpoint.session(run) if checkpoint else contextlib.nullcontext()


class RunState:
    """All that changes while a network trains, as one value that can be saved and restored."""

    def __init__(self, model: nn.Module, optimizer, schedule, ema, training_step: TrainingStep, loaders: list):
        """`ema` may be None. Of the loaders, those with a generator of their own count."""
        parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "ema": ema}
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.network, self.acceleration = structure_sha256(model), dataclasses.asdict(training_step.chosen)
        self.generators = [loader.generator for loader in loaders if getattr(loader, "generator", None) is not None]
        self.history: list[dict] = []

    def state(self) -> dict:
        """Everything as tensors and plain values, as `Checkpoint.save` takes it."""
        return {
            **{name: part.state_dict() for name, part in self.parts.items()},
            "network": self.network,
            "acceleration": self.acceleration,
            "history": self.history,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "random_mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
            "random_loaders": [generator.get_state() for generator in self.generators],
        }

    def restore(self, state: dict) -> None:
        """Go on from such a state; raises anything where it is not one of this run's."""
        _compare(state, self.state())
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
            for parameter, kept in getattr(part, "state", {}).items():  # an optimizer's
                if type(kept) is not dict:
                    raise ValueError("its momentum is no dict")
                _compare(kept, dict.fromkeys(kept, parameter.data), "momentum")
        self.history = list(state["history"])
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available() and state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        if torch.backends.mps.is_available() and state["random_mps"] is not None:
            torch.mps.set_rng_state(state["random_mps"])
        for generator, saved in zip(self.generators, state["random_loaders"], strict=True):
            generator.set_state(saved)


def _refuse_damage(file) -> None:
    """Raise for a file that torch.load cannot be trusted with, and leave it at its beginning.

    torch.save writes zip files whose parts are stored as they are; torch.load skips their checksums.
    """
    with zipfile.ZipFile(file) as archive:
        parts, size = archive.infolist(), file.seek(0, io.SEEK_END)
        if sum(part.file_size for part in parts) > size or size > LARGEST:
            raise ValueError("it would unpack to more than it is")
        if damaged_part := archive.testzip():
            raise ValueError(f"{damaged_part} has another checksum")
        for part in parts:
            for code, called, _ in pickletools.genops(archive.read(part)) if part.filename.endswith(".pkl") else ():
                if "GLOBAL" in code.name and not CALLABLE.fullmatch(str(called)):
                    raise ValueError(f"it calls {called}")
    file.seek(0)


def _compare(saved, own, name: str = "") -> None:
    """Raise ValueError unless a saved value has the form that this run's own has; a history may have any length."""
    if name == "history":
        if type(saved) is not list or any(type(row) is not dict for row in saved):  # a tensor unpacks to gigabytes
            raise ValueError("its history is no list of epochs")
        if not all(type(value) in (int, float) and value >= 0 for row in saved for value in row.values()):
            raise ValueError("its history holds something else than numbers")
        if any(row["epoch"] != epoch or row.keys() != saved[0].keys() for epoch, row in enumerate(saved, 1)):
            raise ValueError("its epochs are out of order")
    elif isinstance(own, dict) and own:  # an optimizer has no state of its own before its first step
        if not isinstance(saved, dict) or saved.keys() != own.keys():
            raise ValueError(f"{name} has other parts")
        for key, value in own.items():
            _compare(saved[key], value, key)
    elif isinstance(own, list) and name != "random_cuda":  # of as many devices as that machine had
        if type(saved) is not list or len(saved) != len(own):
            raise ValueError(f"{name} is of another length")
        for saved_item, own_item in zip(saved, own, strict=True):
            _compare(saved_item, own_item, name)
    elif isinstance(own, torch.Tensor):
        if not isinstance(saved, torch.Tensor) or (saved.shape, saved.dtype) != (own.shape, own.dtype):
            raise ValueError(f"{name} is not a tensor of this network")
    elif type(saved) is not type(own) and name != "random_mps":  # of a machine with MPS, or of one without
        raise ValueError(f"{name} is of another kind")


def _first_difference(theirs: dict, ours: dict) -> str:
    flat_theirs, flat_ours = ({**side.get("recipe", {}), **side} for side in (theirs, ours))
    for name in {**flat_ours, **flat_theirs}:
        if name != "recipe" and flat_theirs.get(name) != flat_ours.get(name):
            return f"{name} {_short(flat_theirs.get(name))} there, {_short(flat_ours.get(name))} here"
    return "a recipe of another form"


def _short(value) -> str:
    return value[:12] if isinstance(value, str) else str(value)
