"""A teacher: a larger network, trained first, whose answers a small one learns beside the labels."""

import dataclasses
import hashlib

import filelock
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from common import loops, models, records, speed
from common.data import Digits
from common.errors import UserError
from common.files import write_atomically
from common.loaders import InMemoryLoader
from common.recipe import ROOT, Options, Recipe


class SoftTargets:
    """The loss of a network that learns from labels and from a teacher (Hinton, Vinyals and Dean 2015).

    A label says "4"; a teacher says "4, and a little like a 9", and of a smudge that it could be either. Divided by
    the temperature T, both networks' scores become softer probabilities, in which such second thoughts can be seen. The
    loss is (1 - trust) times that of the labels and trust T^2 times the Kullback-Leibler divergence of the student's
    soft probabilities from the teacher's; T^2 makes up for gradients that shrink like 1 / T^2
    (https://arxiv.org/abs/1503.02531, section 2).
    """

    def __init__(self, teacher: nn.Module, recipe: Recipe, arithmetic: str = "float32"):
        """`teacher` gives log-probabilities; it is only asked, in `arithmetic` (`common.speed`), and never changed."""
        self.answers = speed.forward(teacher.eval(), arithmetic)
        self.temperature, self.trust = recipe.temperature, recipe.trust

    def __call__(self, images: Tensor, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch: images [B, 1, S, S], the student's log-probabilities [B, 10], labels [B]."""
        with torch.no_grad():
            answers = F.log_softmax(self.answers(images) / self.temperature, dim=1)
        softened = F.log_softmax(log_probabilities / self.temperature, dim=1)
        distance = F.kl_div(softened, answers, reduction="batchmean", log_target=True) * self.temperature**2
        return self.trust * distance + (1 - self.trust) * loops.labels_alone(images, log_probabilities, labels)


def loss_of(recipe: Recipe, digits: Digits, options: Options, device: torch.device):
    """What `common.loops.fit` minimises by this recipe; a teacher that nobody has trained yet is trained first."""
    if not recipe.teacher:
        return loops.labels_alone
    return SoftTargets(teacher(recipe, digits, options, device), recipe, speed.precision(options, device))


def teacher(recipe: Recipe, digits: Digits, options: Options, device: torch.device) -> nn.Module:
    """The recipe's teacher, trained by the same recipe on the same training images, with seed 1.

    It is kept in runs/teachers, under a name that follows from its recipe and its images, so that all seeds of a study
    share it, and a study on validation images has one that has not seen them either. Raises UserError where the kept
    file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    own = dataclasses.replace(recipe, network=recipe.teacher, teacher="", seed=1)
    learned = f"{records.source_sha256(own)} {digits.sha256} {len(digits.train_labels)}"
    path = ROOT / "runs" / "teachers" / f"{hashlib.sha256(learned.encode()).hexdigest()[:16]}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(own.seed)
        network = models.build(own.network).to(device)
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{path}.lock"):  # of several seeds that start together, one trains it and the others wait
        if not path.exists():
            print(f"{'teacher':<11}{own.network} is trained first, once, and kept in {path.parent.relative_to(ROOT)}")
            images, labels, changes = digits.train_images, digits.train_labels, own.augmentation
            batches = InMemoryLoader(
                images, labels, own.batch_size, augmentation=changes, shuffle=True, seed=own.seed, device=device
            )
            tested = {"held-out": InMemoryLoader(digits.test_images, digits.test_labels, 1000, device=device)}
            loops.fit(network, batches, tested, own, dataclasses.replace(options, protocol="held-out"))
            write_atomically(path, records.weights(network))
    try:
        load_model(network, path)
    except (SafetensorError, RuntimeError, OSError):
        raise UserError(f"The teacher in {path} is damaged; remove the file, and it is trained again.") from None
    return network
