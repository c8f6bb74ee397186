"""What a network sees in an image: its feature maps, its exact class maps, and Grad-CAM.

Images are normalised, float [N, 1, 28, 28], as `common.data.normalise` makes them. The layer is one whose output is
maps, [N, channels, height, width]. A network that averages several views of each image (test-time augmentation) is
asked about the first of them, the image as it is.
"""

import torch
from torch import Tensor, nn

from common.system.errors import UserError


def watch(network: nn.Module, layer: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One forward pass in evaluation mode: the network's output, the class scores [M, C], and the layer's output.

    The scores are what goes into the LogSoftmax, or the output where there is none. The layer's output is an empty
    tensor where the pass does not call the layer, and that of its last call where it is called more than once. M is N,
    but with V views of each image it is V * N, and the first N rows are the images as they are.
    """
    seen: dict[str, Tensor] = {}
    hooks = [layer.register_forward_hook(lambda _layer, _inputs, output: seen.update(maps=output))]
    for module in network.modules():
        if isinstance(module, nn.LogSoftmax):
            hooks.append(module.register_forward_pre_hook(lambda _module, inputs: seen.update(scores=inputs[0])))
    training = network.training
    try:
        output = network.eval()(images)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return output, seen.get("scores", output), seen.get("maps", output.new_empty(0))


@torch.no_grad()
def feature_maps(network: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """The layer's maps for each image, [N, channels, height, width]; raises UserError for a layer without maps."""
    return _maps(watch(network, layer, images)[2])[: len(images)]


@torch.enable_grad()  # also where the caller has switched it off
def class_maps(network: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """What each cell of the layer's maps adds to each class score, [N, classes, height, width].

    It is the sum over the channels of value times derivative of the score. Where everything behind the layer is linear
    (an average and a 1x1 convolution), these are the class activation maps of Zhou and others (2016, arXiv 1512.04150):
    they add up to the scores but for the biases. With ReLU behind the layer they do so too, by the neurons that it lets
    through for this image. Raises UserError where the layer gives no maps.
    """
    scores, maps = _scores_and_maps(network, layer, images)
    by_class = [(_gradient(score, maps) * maps).sum(dim=1) for score in scores[: len(images)].unbind(dim=1)]
    return torch.stack(by_class, dim=1)[: len(images)].detach()


@torch.enable_grad()
def grad_cam(network: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor, rectified: bool = True) -> Tensor:
    """Grad-CAM of Selvaraju and others (2017, arXiv 1610.02391, equations 1 and 2) for any network, [N, height, width].

    `classes` [N] names the class whose score is asked about for each image. A channel's weight is the mean of the
    score's derivatives over its cells. The map is the weighted sum of the channels, and negative values become 0 if
    `rectified`. Behind an average over all cells the map is the exact class map, up to one factor. Raises UserError
    where the layer gives no maps.
    """
    scores, maps = _scores_and_maps(network, layer, images)
    asked = scores[: len(images)].gather(1, classes.to(scores.device)[:, None])
    weights = _gradient(asked, maps).mean(dim=(2, 3), keepdim=True)
    found = (weights * maps).sum(dim=1)[: len(images)].detach()
    return found.relu() if rectified else found


def _scores_and_maps(network: nn.Module, layer: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    images = images.detach().clone().requires_grad_()  # so that the maps of frozen weights have a derivative too
    _, scores, maps = watch(network, layer, images)
    return scores, _maps(maps)


def _gradient(scores: Tensor, maps: Tensor) -> Tensor:
    """The derivative of each image's score by its own maps: in evaluation mode no image touches another's score."""
    (gradient,) = torch.autograd.grad(scores.sum(), maps, retain_graph=True)
    return gradient


def _maps(output: Tensor) -> Tensor:
    if output.dim() != 4:
        got = "is not called" if not output.numel() else f"gives {list(output.shape)}"
        raise UserError(f"This needs a layer that gives maps [N, channels, height, width], and the one given {got}.")
    return output
