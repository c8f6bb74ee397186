"""Each step's network by its name: untrained, trained, and as source text."""

import inspect

from torch import nn

from common import networks, own_networks
from common.errors import UserError
from common.recipe import ROOT

NETWORKS = {
    "S5/step1_first_network": networks.S5Step1,
    "S6/part2_step1_dense_head": networks.S6Part2Step1,
    "S6/part2_step2_strided": networks.S6Part2Step2,
    "S6/part2_step2_fixed": networks.S6Part2Step2Fixed,
    "S6/part2_step3_global_pooling": networks.S6Part2Step3,
    "S7/block1": networks.S7Block1,
    "S7/block2": networks.S7Block3,  # block 3 keeps block 2's network and trains it by another recipe
    "S7/block3": networks.S7Block3,
    "S7/block4": own_networks.S7Block4,
}


def build(step: str) -> nn.Module:
    """The step's untrained network, its weights from torch's global generator. Raises UserError for an unknown step."""
    if step not in NETWORKS:
        raise UserError(f"There is no network for the step {step!r}; there is one for each of {', '.join(NETWORKS)}.")
    return NETWORKS[step]()


def source(step: str) -> str:
    """The Python source of the step's network, as it runs: shown in a lesson, it cannot drift from the code."""
    return inspect.getsource(NETWORKS[step]).rstrip()


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
