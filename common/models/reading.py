"""What a network reads in digits of MNIST's form: ten probabilities for each, and whether it is sure."""

import torch
from torch import Tensor, nn

from common.data.images import Page, PreparedDigit
from common.data.loaders import MEAN, STD, normalise
from common.system.errors import UserError

# Of MNIST's last 5,000 training images block 3 gives 67 a lower probability, and 16 of its 20 mistakes are among these;
# S8 step 7 gives it 29, with 6 of its 8. (Both networks were trained on these images too, so other images get more.)
SURE = 0.9
BACKGROUND, INK = (0 - MEAN) / STD, (1 - MEAN) / STD  # what a pixel without ink is once normalised, and one full of it


def probabilities(network: nn.Module, images: Tensor) -> Tensor:
    """The probability of each digit, [N, 10], for digits as bytes [N, 28, 28], or normalised already [N, 1, 28, 28].

    The bytes are normalised here, and the network reads in eval mode. Raises UserError for anything else: a network
    that is given unnormalised numbers answers all the same, and mostly wrong.
    """
    images = normalise(images) if _are_bytes(images) else _checked(images)
    parameter, was_training = next(network.parameters()), network.training
    network.eval()
    try:
        with torch.no_grad():
            return torch.cat([network(batch.to(parameter)) for batch in images.split(256)]).exp().cpu()
    finally:
        network.train(was_training)


def settle(network: nn.Module, page: Page) -> tuple[list[PreparedDigit], Tensor]:
    """The digits of a page and their probabilities [N, 10], in reading order.

    What is so wide that it may be two digits that touch is read both ways. It is two where the network is surer of each
    of the two than of the one.
    """
    digits = []
    for digit in page.digits:
        ways = torch.stack([one.image for one in (digit, *digit.parts)])
        as_one, *as_parts = probabilities(network, ways).amax(dim=1).tolist()
        digits += digit.parts if as_parts and min(as_parts) > as_one else [digit]
    return digits, probabilities(network, torch.stack([digit.image for digit in digits]))


def is_sure(probability: float) -> bool:
    """Whether a network that gives its answer this probability is taken at its word."""
    return probability >= SURE


def _are_bytes(images) -> bool:
    return isinstance(images, Tensor) and images.dtype == torch.uint8 and images.shape[1:] == (28, 28) and len(images)


def _checked(images) -> Tensor:
    """The images, if they are normalised digits: half of the pixels of each are background, none is over full ink."""
    expected = "Digits are read as bytes [N, 28, 28], or as floats [N, 1, 28, 28] normalised by common.data.normalise"
    if not isinstance(images, Tensor):
        raise UserError(f"{expected}, not as a {type(images).__name__}.")
    if not images.is_floating_point() or images.shape[1:] != (1, 28, 28) or not len(images):
        raise UserError(f"{expected}, not as {str(images.dtype).removeprefix('torch.')} {list(images.shape)}.")
    usual = images.flatten(1).median(dim=1).values
    if not bool(((usual - BACKGROUND).abs() < 0.05).all() and (images < INK + 0.05).all()):
        low, high = float(images.min()), float(images.max())
        raise UserError(
            f"{expected}; these go from {low:.3g} to {high:.3g}, and those from {BACKGROUND:.3f}, mostly, to {INK:.3f}."
        )
    return images
