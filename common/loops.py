"""Train and measure a network: plain loops, to be read from top to bottom."""

import math
import os
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from tqdm.auto import tqdm

from common.checkpoints import Checkpoint
from common.errors import UserError
from common.recipe import Recipe, in_notebook


@dataclass(frozen=True)
class Score:
    """What a pass over some images gave: mean loss per image, and how many of them were classified correctly."""

    loss: float
    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """In per cent: correct / total, never a mean of batch means."""
        return 100 * self.correct / self.total


class Interrupted(UserError):
    """Ctrl-C: not a mistake, but the one sentence that follows it says how to go on."""

    exit_code = 130  # 128 + SIGINT, as shells expect


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes CUDA, else MPS, else the CPU. Raises UserError if it is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(candidate for candidate, there in available.items() if there)
    if not available[name]:
        usable = ", ".join(candidate for candidate, there in available.items() if there)
        raise UserError(f"--device {name}: PyTorch finds no such device here; usable are auto, {usable}.")
    return torch.device(name)


def train_epoch(model: nn.Module, batches, optimizer: torch.optim.Optimizer, description: str = "training") -> Score:
    """One pass over the training batches, one step of the optimizer for each.

    A batch goes through the network in the pieces that `piece_size` allows; their gradients add up to the batch's. The
    score counts each image with the weights of the moment it was seen, augmented and with dropout on.
    """
    device = next(model.parameters()).device
    model.train()
    counter, size = _Counter(device), piece_size(model)
    for images, labels in _progress(batches, description):
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        for some_images, some_labels in zip(images.split(size), labels.split(size), strict=True):
            log_probabilities = model(some_images)
            loss = F.nll_loss(log_probabilities, some_labels)
            (loss * (len(some_labels) / len(labels))).backward()
            counter.add(loss.detach(), log_probabilities.detach(), some_labels)
        optimizer.step()
    return counter.score()


def piece_size(model: nn.Module) -> int:
    """How many images at a time `train_epoch` sends through the network.

    On a CPU, 64: what a layer has written is then still in the cache when the next one reads it. A network with
    BatchNorm needs the whole batch at once, for its means are the batch's; a GPU is fastest with it.
    """
    whole = 2**62
    on_cpu = next(model.parameters()).device.type == "cpu"
    batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    return 64 if on_cpu and not batch_norm else whole


@torch.no_grad()
def evaluate(model: nn.Module, batches, description: str = "testing") -> Score:
    """One pass over the batches with the weights as they are: no dropout, BatchNorm's running means."""
    device = next(model.parameters()).device
    model.eval()
    counter = _Counter(device)
    for images, labels in _progress(batches, description):
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        log_probabilities = model(images)
        counter.add(F.nll_loss(log_probabilities, labels), log_probabilities, labels)
    return counter.score()


@torch.no_grad()
def predict(model: nn.Module, batches) -> Tensor:
    """The network's log-probabilities for every image, float32 [N, 10], on the CPU, in the order of the batches."""
    device = next(model.parameters()).device
    model.eval()
    return torch.cat([model(images.to(device)).cpu() for images, _ in batches])


def fit(
    model: nn.Module, train_batches, test_batches, recipe: Recipe, checkpoint: Checkpoint | None = None
) -> list[dict]:
    """Train for `recipe.epochs` epochs and return the history: one dict of measurements per epoch.

    `test_batches` are only ever looked at: nothing is chosen by them, and the result of a run is its last epoch. With a
    `checkpoint` the run is saved after each epoch; interrupted and resumed with the same number of threads on a CPU, it
    ends with bit-identical weights. Raises UserError when the loss stops being a number, and Interrupted on Ctrl-C.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, recipe.lr_step or recipe.epochs, recipe.lr_gamma)
    run = _Run(model, optimizer, schedule, train_batches, test_batches)
    if checkpoint and checkpoint.resumed:
        run.restore(checkpoint.resumed)
    elif checkpoint:
        checkpoint.save(run.state())  # an unwritable folder shows now, not after the first epoch
    try:
        for epoch in range(len(run.history) + 1, recipe.epochs + 1):
            started = time.perf_counter()
            lr = optimizer.param_groups[0]["lr"]
            train = train_epoch(model, train_batches, optimizer, f"epoch {epoch}/{recipe.epochs}")
            if not math.isfinite(train.loss):
                raise UserError(
                    f"The training loss is {train.loss} in epoch {epoch}; try a lower learning rate than {lr}."
                )
            test = evaluate(model, test_batches)
            schedule.step()
            run.history.append(
                {
                    "epoch": epoch,
                    "lr": lr,
                    "train_loss": train.loss,
                    "train_correct": train.correct,
                    "train_total": train.total,
                    "test_loss": test.loss,
                    "test_correct": test.correct,
                    "test_total": test.total,
                    "seconds": time.perf_counter() - started,
                }
            )
            print(log_line(run.history[-1], recipe.epochs), flush=True)
            if checkpoint:
                checkpoint.save(run.state())
    except KeyboardInterrupt:
        if checkpoint is None:
            raise
        raise Interrupted(
            f"Interrupted after {len(run.history)} of {recipe.epochs} epochs; "
            f"the same command with --resume goes on from {checkpoint.path}."
        ) from None
    return run.history


def log_line(row: dict, epochs: int) -> str:
    """One epoch of a history as one aligned line."""
    train = Score(row["train_loss"], row["train_correct"], row["train_total"])
    test = Score(row["test_loss"], row["test_correct"], row["test_total"])
    return (
        f"{'epoch':<11}{row['epoch']:>2}/{epochs}  lr {row['lr']:<7.5g} "
        f"train loss {train.loss:.4f} accuracy {train.accuracy:6.2f} %  "
        f"test loss {test.loss:.4f} accuracy {test.accuracy:6.2f} %  {row['seconds']:5.1f} s"
    )


class _Counter:
    """Sums over an epoch that stay on the device: reading a number after every batch would make an accelerator wait."""

    def __init__(self, device: torch.device):
        exact = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        self.loss = torch.zeros((), dtype=exact, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.total = 0

    def add(self, mean_loss: Tensor, log_probabilities: Tensor, labels: Tensor) -> None:
        self.loss += mean_loss * len(labels)
        self.correct += (log_probabilities.argmax(dim=1) == labels).sum()
        self.total += len(labels)

    def score(self) -> Score:
        return Score(self.loss.item() / self.total, int(self.correct), self.total)


class _Run:
    """All that changes while a network trains, as one value that can be saved and restored."""

    def __init__(self, model, optimizer, schedule, *loaders):
        self.parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
        self.generators = [loader.generator for loader in loaders if getattr(loader, "generator", None) is not None]
        self.history: list[dict] = []

    def state(self) -> dict:
        return {
            **{name: part.state_dict() for name, part in self.parts.items()},
            "history": self.history,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "random_mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
            "random_loaders": [generator.get_state() for generator in self.generators],
        }

    def restore(self, state: dict) -> None:
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


def _progress(batches, description: str):
    """A bar while it runs, nothing afterwards; none where there is no terminal to draw it on."""
    if os.environ.get("TQDM_DISABLE", "") not in ("", "0"):  # tqdm itself forgets the variable in a notebook
        return batches
    return tqdm(batches, desc=description, leave=False, disable=False if in_notebook() else None)
