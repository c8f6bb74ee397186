"""Train and measure a network: plain loops, to be read from top to bottom."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from tqdm.auto import tqdm

from common.models.anatomy import batchnorm_sizes
from common.recipe import Options, Recipe
from common.system.errors import UserError
from common.system.streams import in_notebook, may_move
from common.training import distributed
from common.training.acceleration import forward_in_testing, make_training_step
from common.training.checkpoints import RunState, resumable
from common.training.metrics import Metrics, MetricSums
from common.training.optimizers import make_optimizer, make_schedule, weight_ema
from common.training.steps import Loss, for_testing, make_forward_backward, nll_loss
from common.training.threads import beside_others


def train_epoch(
    model: nn.Module, batches, optimizer, training_step=None, schedule=None, ema=None, description: str = "training"
) -> Metrics:
    """One pass over the training batches, with one step of the optimizer for each.

    `training_step` computes the loss of a batch and calls its `backward()`: `steps.make_forward_backward(model)`, or a
    faster way to the same. `schedule` moves the learning rate, and `ema` the average of the weights, after every step
    of the optimizer. The metrics count each image as it was seen: augmented, with dropout on, with the weights of that
    moment. Raises UserError, which names the batch, when the loss stops being a number.
    """
    device, sums = _device(model), MetricSums(_device(model))
    training_step = training_step or make_forward_backward(model)
    model.train()
    for images, labels in beside_others(_progress(batches, description)):
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        loss, log_probabilities = training_step(images, labels)  # forward pass, loss, loss.backward()
        sums.add(loss, log_probabilities, labels)
        _refuse_divergence(sums.divergence(), optimizer, description)
        optimizer.step()
        if schedule:
            schedule.step()
        if ema:
            ema.update_parameters(model)
    _refuse_divergence(sums.divergence(last=True), optimizer, description)  # on a GPU not every batch was looked at
    return sums.metrics()


@torch.no_grad()
def evaluate(model: nn.Module, batches, description: str = "testing", forward: Callable | None = None) -> Metrics:
    """One pass over the batches, without training: no dropout, BatchNorm by its running statistics.

    The networks give log-probabilities, so the negative log-likelihood of the labels is their cross-entropy.
    `forward` computes the same as the model, faster.
    """
    device, sums = _device(model), MetricSums(_device(model))
    model.eval()
    for images, labels in beside_others(for_testing(_progress(batches, description), device)):
        log_probabilities = (forward or model)(images)
        sums.add(F.nll_loss(log_probabilities, labels), log_probabilities, labels)
    return sums.metrics()


def fit(
    model: nn.Module,
    train_batches,
    test_batches: dict,
    recipe: Recipe,
    options: Options,
    checkpoint=None,
    loss: Loss = nll_loss,
) -> list[dict]:
    """Train for `recipe.epochs` epochs and return the history: one dict of measurements per epoch.

    `test_batches` holds a loader for each protocol: "held-out" images, and what the lesson's "source" measured. Those
    that `options.protocol` asks for are measured after each epoch. No epoch is picked by them: the last one counts.
    With a `Checkpoint` the run is saved after each epoch. Interrupted and resumed on a CPU it ends with exactly the
    weights of a run that was never interrupted, with as many threads throughout; where `common.cpu_kernels` computes,
    with any number. A training takes as many threads as cores are idle (`threads`). Where the recipe has an exponential
    moving average of the weights, the average is tested, and is what `model` holds in the end. Where torchrun has
    started several processes they train the one network together (`distributed`). Raises UserError for
    what cannot be trained, when the loss stops being a number, and when another run is training in the checkpoint's
    folder; raises Interrupted on Ctrl-C.
    """
    group = distributed.Group(_device(model))  # of the processes that train together; of this one alone as a rule
    _refuse_impossible(model, train_batches, recipe, loss, group.count)
    measured = _measured(test_batches, options.protocol)
    training_step = make_training_step(model, recipe, options, len(train_batches), loss, checkpoint, group)
    optimizer = make_optimizer(model, recipe, training_step.fused_optimizer)
    schedule = make_schedule(optimizer, recipe, len(train_batches))
    ema = weight_ema(model, recipe)
    tested = ema.module if ema else model
    forward = forward_in_testing(tested, training_step.chosen)
    run = RunState(model, optimizer, schedule, ema, training_step, [train_batches, *measured.values()])

    if group.count > 1:
        model.processes = group.count  # for the record
        print(group.said(model, recipe.batch_size))
    with resumable(checkpoint, run), group.together():  # fills the run's history and weights, if it goes on
        for row in run.history:  # what came before the interruption
            print(log_line(row, recipe.epochs))
        for epoch in range(len(run.history) + 1, recipe.epochs + 1):
            started, lr, name = time.perf_counter(), optimizer.param_groups[0]["lr"], f"epoch {epoch}/{recipe.epochs}"
            group.begin_epoch()
            train = train_epoch(model, group.shares(train_batches), optimizer, training_step, schedule, ema, name)
            group.average_statistics(model, tested)
            row = {"epoch": epoch, "lr": lr, **group.total(train).row("train")}
            for part, batches in measured.items():
                row |= group.total(evaluate(tested, group.shares(batches), forward=forward)).row(part)
                row.setdefault("seconds", time.perf_counter() - started)  # a second protocol is not the run's own
            if not math.isfinite(row["test_loss"]):  # the last step broke the network: no state to go on from
                raise UserError(f"The test loss is {row['test_loss']} after {name}; {_lower(optimizer)}.")
            run.history.append(row)
            if checkpoint:
                checkpoint.save(run.state())
            print(log_line(row, recipe.epochs), flush=True)
    if ema:
        model.load_state_dict(ema.module.state_dict())
    return run.history


@torch.no_grad()
def predict(model: nn.Module, batches) -> Tensor:
    """The network's log-probabilities for every image, float32 [N, 10], on the CPU, in the order of the batches."""
    model.eval()
    parts = beside_others(for_testing(batches, _device(model)))
    return torch.cat([model(images).cpu() for images, _ in parts])


def log_line(row: dict, epochs: int) -> str:
    """One epoch of a history as one aligned line."""
    train = Metrics(row["train_loss"], row["train_correct"], row["train_total"])
    test = Metrics(row["test_loss"], row["test_correct"], row["test_total"])
    return (
        f"{'epoch':<11}{row['epoch']:>2}/{epochs}  lr {row['lr']:<7.5g} "
        f"train loss {train.loss:.4f} accuracy {train.accuracy:6.2f} %  "
        f"test loss {test.loss:.4f} accuracy {test.accuracy:6.2f} %  {row['seconds']:5.1f} s"
    )


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes CUDA, else MPS, else the CPU. Raises UserError if it is not there.

    On CUDA, convolutions compute in float32 from now on; PyTorch's default is coarser there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(candidate for candidate, there in available.items() if there)
    if not available.get(name):
        usable = ", ".join(candidate for candidate, there in available.items() if there)
        raise UserError(f"--device {name}: PyTorch finds no such device here; usable are auto, {usable}.")
    if name == "cuda":
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # in this process; else TF32, of 11 binary digits
    return distributed.take_place(torch.device(name))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _measured(test_batches: dict, protocol: str) -> dict:
    """The loaders that this run measures, by the name that their numbers get in the history: "test" and "source"."""
    if protocol == "both":
        return {"test" if name == "held-out" else name: batches for name, batches in test_batches.items()}
    if protocol not in test_batches:
        raise UserError(f"--protocol {protocol}: this step's source measured the test images; use --protocol held-out.")
    return {"test": test_batches[protocol]}


def _refuse_impossible(model: nn.Module, train_batches, recipe: Recipe, loss: Loss, processes: int) -> None:
    """Raise UserError for a run that would fail in an hour, or whose record would say what is not true."""
    if recipe.teacher and loss is nll_loss:
        raise UserError(
            f"{recipe.step} learns from labels alone; its recipe cannot have the teacher {recipe.teacher!r}."
        )
    images = getattr(train_batches, "total", None) or len(getattr(train_batches, "dataset", ()))
    if recipe.batch_size < processes:
        raise UserError(
            f"A batch of {recipe.batch_size} is not enough for {processes} processes; start fewer, or choose a larger "
            "--batch-size."
        )
    last = images % recipe.batch_size or recipe.batch_size if images else recipe.batch_size
    if processes > 1 and distributed.has_batchnorm(model):
        least = min(last, recipe.batch_size) // processes  # images of the smallest share
        if least == 0 or (least == 1 and _has_single_values(model)):
            raise UserError(
                f"Batches of {recipe.batch_size} from {images:,} images leave a process with {least} of a batch's, too "
                "few for BatchNorm's variance; choose another --batch-size or --limit, or start fewer processes."
            )
    if images and 1 in (images, recipe.batch_size, images % recipe.batch_size) and _has_single_values(model):
        raise UserError(
            f"Batches of {recipe.batch_size} from {images:,} images leave a batch with one image, and then a BatchNorm "
            "of this network has one value per channel, which has no variance; choose another --batch-size or --limit."
        )


def _has_single_values(model: nn.Module) -> bool:
    """Whether some BatchNorm sees one value per channel when a batch holds one image."""
    return any(values == channels for channels, values in batchnorm_sizes(model))  # maps of one place


def _refuse_divergence(found: tuple[float, int] | None, optimizer, where: str) -> None:
    """Raise UserError if a loss was inf or NaN; the message names its batch."""
    if found:
        raise UserError(f"The training loss is {found[0]} in {where}, batch {found[1]}; {_lower(optimizer)}.")


def _lower(optimizer) -> str:
    group = optimizer.param_groups[0]
    return f"try a lower learning rate than {group.get('initial_lr', group['lr']):.5g}"  # as the recipe has it


def _progress(batches, description: str):
    """A bar while it runs, nothing afterwards; none where there is no terminal to draw it on."""
    if not may_move():  # tqdm itself forgets the variable in a notebook
        return batches
    return tqdm(batches, desc=description, leave=False, disable=False if in_notebook() else None)
