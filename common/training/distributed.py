"""Data parallel: several processes train one network, each with a share of every batch (DistributedDataParallel).

torchrun starts the processes (`common.system.processes`). Each has the whole network and draws the same batches, with
the same changes, from the same seed. It computes the gradients of its share. PyTorch's DistributedDataParallel (DDP)
adds them up between the processes, and each takes the same step of the optimizer. So the recipe is that of one process:
two of them with 32 images each take the step of a batch of 64.

BatchNorm is the exception. On a CPU each process normalises its share by the share's own mean and variance. On GPUs
SyncBatchNorm takes those of the whole batch.
"""

import atexit
import contextlib
import copy
import datetime
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.system import processes
from common.system.errors import UserError
from common.training import threads
from common.training.metrics import Metrics
from common.training.steps import Loss

LONGEST_WAIT = datetime.timedelta(minutes=10)  # for the others; a machine that has lost its network says nothing
BATCHNORM = nn.modules.batchnorm._BatchNorm


def take_place(device: torch.device) -> torch.device:
    """Give this process its GPU, or its part of the machine's cores. Raises UserError where there are too few GPUs."""
    if processes.count() == 1:
        return device
    if device.type == "mps":
        raise UserError("Several processes train on CPUs or on NVIDIA GPUs; add --device cpu.")
    if device.type == "cuda":
        if processes.local_count() > torch.cuda.device_count():
            raise UserError(
                f"{processes.local_count()} processes need as many GPUs, and this machine has "
                f"{torch.cuda.device_count()}; start fewer, or add --device cpu."
            )
        torch.cuda.set_device(processes.local_rank())
    elif processes.local_count() > 1 and os.environ.get("OMP_NUM_THREADS", "1") == "1":  # which torchrun itself sets
        torch.set_num_threads(max(1, threads.cores() // processes.local_count()))
    return device


class Group:
    """The processes that train together, and this one's part of the work. One process alone does all of it."""

    def __init__(self, device: torch.device):
        """Meet the others, if this is the first time. Raises UserError when one of them has ended."""
        self.device, self.rank, self.count = device, processes.rank(), processes.count()
        self.whole = 0  # how many images the batch has of which this process computes a share
        if self.count > 1 and not dist.is_initialized():
            told_by = sys.excepthook
            with self.together():
                dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
            sys.excepthook = told_by  # torch's own, which it has put there, would swallow the sentences
            atexit.register(_leave)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What needs all processes: when one has ended, the others end with one sentence (UserError)."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
                raise
            raise UserError(processes.ENDED) from error

    def from_first(self, find: Callable):
        """What the first process finds; the others are told."""
        found = [find() if self.rank == 0 else None]
        if self.count > 1:
            with self.together():
                dist.broadcast_object_list(found, device=self.device)
        return found[0]

    def shares(self, batches):
        """Of each batch this process's share: neighbours, and as many as the others have, or one more."""
        return batches if self.count == 1 else _Shares(batches, self)

    def begin_epoch(self) -> None:
        """Give each process random numbers of its own (dropout's), which follow from the first one's."""
        if self.count > 1:
            seed = self.from_first(lambda: int(torch.randint(2**31, ())))
            torch.manual_seed(seed + self.rank)

    def forward_backward(self, model: nn.Module, forward: Callable, loss: Loss) -> Callable:
        """As `steps.make_forward_backward`, for this process's share; the gradients are those of the whole batch.

        `forward` computes what `model` does. DDP averages gradients over the processes, and shares may differ by an
        image, so each mean loss counts by the size of its share.
        """
        with self.together():
            # Without `find_unused_parameters` DDP sorts the gradients anew after the first step. A resumed run would
            # then add in another order than one that was never interrupted.
            network = nn.parallel.DistributedDataParallel(_Network(model, forward), find_unused_parameters=True)

        def forward_backward(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            log_probabilities = network(images)
            mean = loss(images, log_probabilities, labels) if len(labels) else log_probabilities.sum()  # of nothing: 0
            (mean * (len(labels) * self.count / self.whole)).backward()
            return mean.detach(), log_probabilities.detach()

        return forward_backward

    def total(self, metrics: Metrics) -> Metrics:
        """The metrics over all images, of those over each process's shares."""
        if self.count == 1:
            return metrics
        sums = [metrics.loss * metrics.total, metrics.correct, metrics.total]
        sums = torch.tensor(sums, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        loss, correct, total = sums.tolist()
        return Metrics(loss / total, int(correct), int(total))

    def average_statistics(self, *networks: nn.Module) -> None:
        """Give all processes the mean of their BatchNorms' running statistics, so that they test the same network."""
        if self.count == 1:
            return
        for buffer in [buffer for network in networks for buffer in network.buffers() if buffer.is_floating_point()]:
            dist.all_reduce(buffer)
            buffer /= self.count

    def said(self, model: nn.Module, batch_size: int) -> str:
        """How the work is shared, in one line."""
        least = batch_size // self.count
        each = f"{least}" if batch_size % self.count == 0 else f"{least} or {least + 1}"
        line = f"{'processes':<11}{self.count} train this network, each on {each} images of a batch of {batch_size}"
        if not has_batchnorm(model):
            return line
        if self.device.type == "cuda":
            return f"{line}; BatchNorm normalises by the whole batch"
        return f"{line}; BatchNorm normalises each share by itself"


def _leave() -> None:
    """End gloo's threads while Python still runs: one that wakes up later would abort the process."""
    gc.collect()  # DDP is part of a cycle, and holds them
    dist.destroy_process_group()


def has_batchnorm(model: nn.Module) -> bool:
    """Whether the network normalises by the statistics of a batch."""
    return any(isinstance(module, BATCHNORM) for module in model.modules())


def with_synchronised_batchnorm(model: nn.Module) -> nn.Module:
    """A twin of a model for GPUs that shares its weights and running statistics, and normalises by the whole batch."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model, shared)).train()


class _Network(nn.Module):
    """A network as DDP takes it: the weights of `model`, and the way in which `forward` computes it.

    DDP does not see BatchNorm's running statistics, which it would copy from the first process before each step.
    """

    def __init__(self, model: nn.Module, forward: Callable):
        super().__init__()
        self.weights, self.compute = nn.ParameterList(model.parameters()), forward

    def forward(self, images: Tensor) -> Tensor:
        return self.compute(images)


class _Shares:
    """Batches of which this process gets its share. The group knows how large each batch was as a whole."""

    def __init__(self, batches: Iterable, group: Group):
        self.batches, self.group = batches, group

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.batches:
            self.group.whole = len(labels)
            yield tuple(part.tensor_split(self.group.count)[self.group.rank] for part in (images, labels))
