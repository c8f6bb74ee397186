"""Each step's network by its name: untrained, trained, and as source text."""

import inspect

from torch import Tensor, nn

from common.models import ours, s5, s6, s7
from common.recipe import ROOT, Recipe
from common.system.errors import UserError

NETWORKS = {
    "S5/step1_first_network": s5.S5Step1,
    "S6/part2_step1_dense_head": s6.S6Part2Step1,
    "S6/part2_step2_strided": s6.S6Part2Step2,
    "S6/part2_step2_fixed": ours.S6Part2Step2Fixed,
    "S6/part2_step3_global_pooling": s6.S6Part2Step3,
    "S8/under_20k": ours.S8Under20k,
    "S8/under_20k_one_view": ours.S8Under20kOneView,
    "S8/under_20k_no_dropout": ours.S8Under20kNoDropout,
    "S7/block1": s7.S7Block1,
    "S7/block2": s7.S7Block3,  # block 3 keeps block 2's network and trains it by another recipe
    "S7/block3": s7.S7Block3,
    "S8/step7_two_budgets": ours.S8Under8k,
    "S8/under_8k_one_view": ours.S8Under8kOneView,  # rungs of S8 step 7's ladder
    "S8/under_8k_relu": ours.S8Under8kReLU,
    "S8/under_8k_dense": ours.S8Under8kDense,
    "S8/teacher": ours.S8Teacher,
    "S9/time_to_accuracy": ours.S9TimeToAccuracy,
    "S9/time_to_accuracy_one_view": ours.S9TimeToAccuracyOneView,
    "S8/step8_frontier": ours.S8Frontier,
    "S8/frontier_2784": ours.S8Frontier2784,
    "S8/frontier_1782": ours.S8Frontier1782,
    "S8/frontier_1196": ours.S8Frontier1196,
    "S8/frontier_693": ours.S8Frontier693,
    "S8/frontier_693_shared": ours.S8Frontier693Shared,
    "S8/frontier_559": ours.S8Frontier559,
    "S8/frontier_overlapping": ours.S8FrontierOverlapping,  # other ways to build frontier_1782
    "S8/frontier_strided": ours.S8FrontierStrided,
    "S8/frontier_shared": ours.S8FrontierShared,
    "S8/frontier_shared_convolutions": ours.S8FrontierSharedConvolutions,
    "S8/frontier_3716": ours.S8Frontier3716,
    "S8/frontier_dense": ours.S8FrontierDense,  # other ways to spend as many parameters
    "S8/frontier_hybrid": ours.S8FrontierHybrid,
    "S8/frontier_deep": ours.S8FrontierDeep,
    "S10/step2_other_writers": ours.S10OtherWriters,
    "S10/teacher": ours.S10Teacher,
}


def build(name: str) -> nn.Module:
    """The untrained network of that name, its weights from torch's global generator.

    Raises UserError for a name that there is not. The network refuses what is no batch of digits in one sentence.
    """
    network = _named(name)()
    network.register_forward_pre_hook(refuse_other_images, with_kwargs=True)
    return network


def refuse_other_images(network: nn.Module, inputs: tuple, named: dict) -> None:
    """A hook before each forward pass: raises UserError unless the network is given the images that it was made for.

    An image of another size would go through a network that ends in a global average, and give an answer that means
    nothing.
    """
    images = next(iter((*inputs, *named.values())), None)
    if not isinstance(images, Tensor):
        got = f"a {type(images).__name__}"
    elif images.shape[1:] == (1, 28, 28) and images.is_floating_point():
        return
    else:
        got = f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
        if images.shape[-2:] == (28, 28) and images.dim() == 3:
            got += " (the dimension of the batch or of the channel is missing: images.unsqueeze adds one)"
    raise UserError(
        f"{type(network).__name__} takes images as float [B, 1, 28, 28], normalised as common.data's loaders do it, "
        f"not {got}."
    )


def source(name: str) -> str:
    """The Python source of the network, as it runs: shown in a lesson, it cannot drift from the code."""
    classes = [one for one in reversed(_named(name).__mro__) if one.__module__.startswith("common.")]
    return "\n\n\n".join(inspect.getsource(one).rstrip() for one in classes)


def of(recipe: Recipe) -> str:
    """The name of the network that the recipe trains: the step's, unless it says another."""
    return recipe.network or recipe.step


def _named(name: str) -> type[nn.Module]:
    if name not in NETWORKS:
        raise UserError(f"There is no network {name!r}; there is one for each of {', '.join(NETWORKS)}.")
    return NETWORKS[name]


def load_trained(step: str) -> nn.Module:
    """The step's network with the weights that the course trained, on the CPU, in eval mode.

    Raises UserError when the step has no weights or they do not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    network = build(step)
    session, name = step.split("/")
    path = ROOT / "sessions" / session / "weights" / f"{name}.safetensors"
    try:
        load_model(network, path)
    except FileNotFoundError:
        raise UserError(f"The step {step} has no trained weights: {path} is missing.") from None
    except (SafetensorError, RuntimeError, OSError):
        raise UserError(f"The weights in {path} do not fit the network {step}; restore the file.") from None
    return network.eval()
