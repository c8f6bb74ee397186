"""Distillation: a larger network is trained first, and a small one learns its answers beside the labels."""

import copy
import dataclasses
import hashlib
import itertools
import json

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.fusion import fuse_conv_bn_eval

from common import models
from common.data import Digits, InMemoryLoader
from common.models.fingerprint import structure_sha256
from common.recipe import ROOT, Options, Recipe
from common.system import locks
from common.system.errors import Interrupted
from common.system.processes import own_folder
from common.training import acceleration, distributed, loops
from common.training.checkpoints import Checkpoint
from common.training.steps import Loss, nll_loss


class DistillationLoss:
    """The loss of a network that learns from labels and from a teacher (Hinton, Vinyals and Dean 2015).

    A label says "4". A teacher says "4, and a little like a 9", or of a smudge that it could be either. Both networks'
    logits are divided by the temperature T: their probabilities become softer, and such second thoughts can be seen.
    The loss is (1 - alpha) times that of the labels, plus alpha T^2 times the Kullback-Leibler divergence of the
    student's soft probabilities from the teacher's. T^2 makes up for gradients that shrink like 1 / T^2
    (https://arxiv.org/abs/1503.02531, section 2).
    """

    def __init__(self, teacher: nn.Module, recipe: Recipe, precision: str = "float32"):
        """`teacher` gives log-probabilities. It is only asked, in arithmetic of this precision, and never changed."""
        self.teacher = acceleration.forward(teacher.eval(), precision)
        self.temperature, self.alpha = recipe.temperature, recipe.alpha

    def __call__(self, images: Tensor, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch: images [B, 1, S, S], the student's log-probabilities [B, 10], labels [B]."""
        with torch.no_grad():
            answers = F.log_softmax(self.teacher(images) / self.temperature, dim=1)
        softened = F.log_softmax(log_probabilities / self.temperature, dim=1)
        distance = F.kl_div(softened, answers, reduction="batchmean", log_target=True) * self.temperature**2
        return self.alpha * distance + (1 - self.alpha) * nll_loss(images, log_probabilities, labels)


def make_loss(recipe: Recipe, digits: Digits, options: Options, device: torch.device) -> Loss:
    """What `loops.fit` minimises by this recipe. A teacher that nobody has trained yet is trained first."""
    if not recipe.teacher:
        return nll_loss
    teacher = train_teacher(recipe, digits, options, device)
    return loss_with(teacher, recipe, options)


def loss_with(teacher: nn.Module, recipe: Recipe, options: Options) -> DistillationLoss:
    """The loss with this trained teacher, who is asked in the fastest way."""
    device = next(teacher.parameters()).device
    arithmetic = acceleration.precision(dataclasses.replace(options, network=recipe.teacher), device)
    teacher = fuse_batchnorm(teacher)
    acceleration.optimize_memory_layout(teacher)
    return DistillationLoss(teacher, recipe, arithmetic)


def fuse_batchnorm(model: nn.Module) -> nn.Module:
    """A copy of a model for testing, whose convolutions do the work of the BatchNorm right behind them.

    In a test BatchNorm multiplies and shifts each channel by fixed numbers, which the kernels and biases can hold. The
    log-probabilities are the same up to rounding, without a pass over each map.
    """
    model = copy.deepcopy(model).eval()
    for layers in [module for module in model.modules() if type(module) is nn.Sequential]:
        for index, (layer, behind) in enumerate(itertools.pairwise(layers)):
            if isinstance(layer, nn.Conv2d) and isinstance(behind, nn.BatchNorm2d):
                layers[index], layers[index + 1] = fuse_conv_bn_eval(layer, behind), nn.Identity()
    return model


def train_teacher(recipe: Recipe, digits: Digits, options: Options, device: torch.device) -> nn.Module:
    """The recipe's teacher, trained by the same recipe on the same training images, with seed 1.

    It is a run of its own, in a folder of runs/teachers whose name follows from all that its result depends on. So
    every seed of a study goes on from the same checkpoint, and so does every step whose recipe differs in the network
    alone; a study on validation images has a teacher that has not seen them either. Its epochs are printed, whether it
    is trained now or was before. Raises UserError where the checkpoint is damaged.
    """
    own = dataclasses.replace(recipe, step=recipe.teacher, network="", teacher="", seed=1)  # of any step that asks
    asked = dataclasses.replace(
        options, network=own.step, protocol="held-out", resume=False, out=own_folder(ROOT / "runs" / "teachers")
    )
    print(f"{'teacher':<11}{own.step}, trained by the same recipe, kept in runs/teachers")
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(own.seed)
        network = models.build(own.step).to(device)
        identity = [Checkpoint(asked, own, digits, device).identity, own.epochs, structure_sha256(network)]
        folder = asked.out / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        with locks.wait_for_lock(folder / "turn.lock"):  # of several seeds that start together, one trains it
            begun = distributed.Group(device).from_first((folder / "checkpoint.pt").exists)
            asked = dataclasses.replace(asked, out=folder, resume=begun)
            checkpoint = Checkpoint(asked, own, digits, device)
            images, labels = digits.train_images, digits.train_labels
            moves = {"augmentation": own.augmentation, "shuffle": True, "seed": own.seed}
            batches = InMemoryLoader(images, labels, own.batch_size, **moves, device=device)
            tested = {"held-out": InMemoryLoader(digits.test_images, digits.test_labels, 1000, device=device)}
            try:
                loops.fit(network, batches, tested, own, asked, checkpoint)
            except Interrupted:
                raise Interrupted(
                    "Interrupted while the teacher was trained; the same command goes on with it."
                ) from None
    return network
