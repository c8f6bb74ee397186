"""Train and measure a network: plain loops, to be read from top to bottom."""

import contextlib
import math
import os
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from tqdm.auto import tqdm

from common.recipe import Options, Recipe, in_notebook
from common.system.errors import UserError
from common.training import acceleration, optimizers
from common.training.checkpoints import RunState
from common.training.metrics import Metrics, MetricSums


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
    if name == "cuda":
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # in this process; else TF32, of 11 binary digits
    return torch.device(name)


def nll_loss(_images: Tensor, log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """The mean negative log-likelihood of the labels. (`common.training.distillation` has a loss that asks a teacher as well.)"""
    return F.nll_loss(log_probabilities, labels)


def make_forward_backward(forward, loss_of=nll_loss):
    """The forward and the backward pass, as one function of images [B, 1, S, S] and labels [B].

    `forward` computes the log-probabilities; it is the model itself, or a faster way to the same (`common.training.acceleration`).
    `loss_of` is what is minimised. The function adds the gradients, times `share`, to those that the weights have, and
    returns the mean loss and the log-probabilities [B, 10].
    """

    def passes(images: Tensor, labels: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        log_probabilities = forward(images)
        loss = loss_of(images, log_probabilities, labels)
        (loss * share).backward()
        return loss.detach(), log_probabilities.detach()

    return passes


def train_epoch(
    model: nn.Module,
    batches,
    optimizer,
    description: str = "training",
    passes=None,
    piece_size: int = 2**62,
    after_step=lambda: None,
) -> Metrics:
    """One pass over the training batches, one step of the optimizer for each.

    `passes` are what `passes_of` makes of the model, or a faster way to the same (`common.training.acceleration.CudaGraphStep`). A batch
    goes through them in pieces of at most `piece_size` images; their gradients add up to the batch's. `after_step` is
    called after each step. The score counts each image with the weights of the moment it was seen, augmented and with
    dropout on. Raises UserError, which names the batch, when the loss stops being a number.
    """
    device = next(model.parameters()).device
    model.train()
    passes, counter, sums = passes or make_forward_backward(model), MetricSums(device), []
    look_every = 1 if device.type == "cpu" else 50  # batches; an accelerator must wait for each look
    for images, labels in _progress(batches, description):
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        for some_images, some_labels in _pieces(images, labels, piece_size):
            loss, log_probabilities = passes(some_images, some_labels, len(some_labels) / len(labels))
            counter.add(loss, log_probabilities, some_labels)
        sums.append(counter.loss.clone())
        if len(sums) % look_every == 0:
            _refuse_no_number(sums, optimizer, description)
        optimizer.step()
        after_step()
    _refuse_no_number(sums, optimizer, description)
    return counter.score()


@torch.no_grad()
def evaluate(model: nn.Module, batches, description: str = "testing") -> Metrics:
    """One pass over the batches with the weights as they are: no dropout, BatchNorm's running means."""
    device = next(model.parameters()).device
    model.eval()
    counter, size = MetricSums(device), acceleration.micro_batch_size(model, training=False)
    for images, labels in _progress(batches, description):
        for some_images, some_labels in _pieces(images.to(device), labels.to(device), size):
            log_probabilities = model(some_images)
            counter.add(F.nll_loss(log_probabilities, some_labels), log_probabilities, some_labels)
    return counter.score()


@torch.no_grad()
def predict(model: nn.Module, batches) -> Tensor:
    """The network's log-probabilities for every image, float32 [N, 10], on the CPU, in the order of the batches."""
    device = next(model.parameters()).device
    model.eval()
    size = acceleration.micro_batch_size(model, training=False)
    return torch.cat([model(some.to(device)).cpu() for images, _ in batches for some in images.split(size)])


def fit(
    model: nn.Module,
    train_batches,
    test_batches: dict,
    recipe: Recipe,
    options: Options,
    checkpoint=None,
    loss_of=nll_loss,
) -> list:
    """Train for `recipe.epochs` epochs and return the history: one dict of measurements per epoch.

    `test_batches` holds a loader for each protocol; those that `options.protocol` asks for are measured. They are only
    ever looked at: nothing is chosen by them, and the result of a run is its last epoch. With a `Checkpoint` the run is
    saved after each epoch; interrupted and resumed with the same number of threads on a CPU, it ends with bit-identical
    weights. Where the recipe averages the weights, their mean is what is measured, and what `model` holds in the end.
    `loss_of` is what is minimised (`common.training.distillation`). Raises UserError when the loss stops being a number or another
    run is training in the checkpoint's folder, and Interrupted on Ctrl-C.
    """
    if recipe.teacher and loss_of is nll_loss:  # a record would name a teacher that had no part in the run
        raise UserError(
            f"{recipe.step} learns from labels alone; its recipe cannot have the teacher {recipe.teacher!r}."
        )
    measured = _measured(test_batches, options.protocol)
    acceleration.keep_memory()
    device, images = next(model.parameters()).device, len(train_batches) * recipe.batch_size
    is_innermost = acceleration.uses_chwn(recipe, options, device, images)
    acceleration.optimize_memory_layout(model, is_innermost)
    compiled_for = recipe.batch_size if acceleration.compiles(recipe, options, device, images) else None
    if options.compile and not compiled_for:
        print(f"{'machine':<11}not compiled: {acceleration.why_not_compiled(is_innermost)}")
    passes = make_forward_backward(
        acceleration.forward(model, acceleration.precision(options, device), compiled_for), loss_of
    )
    if acceleration.uses_cuda_graph(device, recipe.epochs * len(train_batches)):
        passes = acceleration.CudaGraphStep(model, passes, recipe.batch_size)
    optimizer = optimizers.make_optimizer(model, recipe, fused=is_innermost)
    schedule = optimizers.Schedule(optimizer, recipe, len(train_batches))
    mean = optimizers.weight_ema(model, recipe)
    tested = mean.module if mean else model
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule} | ({"mean": mean} if mean else {})
    run = RunState(parts, [train_batches, *measured.values()])

    def after_step() -> None:
        schedule.after_step()
        if mean:
            mean.update_parameters(model)

    with checkpoint.alone() if checkpoint else contextlib.nullcontext():
        if checkpoint and checkpoint.resumed:
            with checkpoint.refused_if_damaged():
                run.restore(checkpoint.resumed)
                said = "".join(f"{log_line(row, recipe.epochs)}\n" for row in run.history)
            print(said, end="")
        elif checkpoint:
            checkpoint.save(run.state())  # an unwritable folder shows now, not after the first epoch
        try:
            for epoch in range(len(run.history) + 1, recipe.epochs + 1):
                started = time.perf_counter()
                lr = optimizer.param_groups[0]["lr"]
                name, size = f"epoch {epoch}/{recipe.epochs}", acceleration.micro_batch_size(model)
                train = train_epoch(model, train_batches, optimizer, name, passes, size, after_step)
                row = {"epoch": epoch, "lr": lr, **train.row("train")}
                for protocol, batches in measured.items():
                    row |= evaluate(tested, batches).row(protocol)
                    row.setdefault("seconds", time.perf_counter() - started)  # a second protocol is not the run's own
                if not math.isfinite(row["test_loss"]):  # the last step broke the network: no state to go on from
                    raise UserError(f"The test loss is {row['test_loss']} after {name}; {_lower(optimizer)}.")
                schedule.after_epoch()
                run.history.append(row)
                print(log_line(row, recipe.epochs), flush=True)
                if checkpoint:
                    checkpoint.save(run.state())
        except KeyboardInterrupt:
            if checkpoint is None:
                raise
            raise Interrupted(
                f"Interrupted after {len(run.history)} of {recipe.epochs} epochs; "
                f"the same command with --resume goes on from {checkpoint.path}."
            ) from None
    if mean:
        model.load_state_dict(mean.module.state_dict())
    return run.history


def _measured(test_batches: dict, protocol: str) -> dict:
    """The loaders that this run measures, by the name that their numbers get in the history: "test" and "source"."""
    if protocol == "both":
        return {"test" if name == "held-out" else name: batches for name, batches in test_batches.items()}
    if protocol not in test_batches:
        raise UserError(f"--protocol {protocol}: this step's source measured the test images; use held-out.")
    return {"test": test_batches[protocol]}


def log_line(row: dict, epochs: int) -> str:
    """One epoch of a history as one aligned line."""
    train = Metrics(row["train_loss"], row["train_correct"], row["train_total"])
    test = Metrics(row["test_loss"], row["test_correct"], row["test_total"])
    return (
        f"{'epoch':<11}{row['epoch']:>2}/{epochs}  lr {row['lr']:<7.5g} "
        f"train loss {train.loss:.4f} accuracy {train.accuracy:6.2f} %  "
        f"test loss {test.loss:.4f} accuracy {test.accuracy:6.2f} %  {row['seconds']:5.1f} s"
    )


def _refuse_no_number(sums: list[Tensor], optimizer, where: str) -> None:
    """Raise UserError when the last of the epoch's running sums of losses is inf or NaN, which a sum then stays."""
    if sums and not math.isfinite(sums[-1]):
        kept = int(torch.stack(sums).isfinite().sum())
        raise UserError(f"The training loss is {sums[kept].item()} in {where}, batch {kept + 1}; {_lower(optimizer)}.")


def _lower(optimizer) -> str:
    return f"try a lower learning rate than {optimizer.param_groups[0]['lr']:.5g}"


def _pieces(images: Tensor, labels: Tensor, size: int):
    """The batch as pairs of at most `size` images and their labels."""
    return zip(images.split(size), labels.split(size), strict=True)


def _progress(batches, description: str):
    """A bar while it runs, nothing afterwards; none where there is no terminal to draw it on."""
    if os.environ.get("TQDM_DISABLE", "") not in ("", "0"):  # tqdm itself forgets the variable in a notebook
        return batches
    return tqdm(batches, desc=description, leave=False, disable=False if in_notebook() else None)
