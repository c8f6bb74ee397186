"""A fingerprint of what a network computes, that does not change with the names or the comments of its source."""

import copy
import hashlib
import json

import torch
from torch import nn

SETTINGS = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "p", "eps", "momentum", "dim")


def structure(network: nn.Module) -> list:
    """The layers of a network in the order in which they are called, while training and in a test, as plain values.

    For each call of a layer without parts: its kind, its settings, the shapes of its parameters and of its output, and
    whether an earlier call had the same layer. Two images [2, 1, 28, 28] are sent through a copy on the CPU. What
    `forward` computes without a layer (an addition, `torch.relu`) shows only in the shapes.
    """
    network = copy.deepcopy(network).cpu().float()
    parts = [module for module in network.modules() if not list(module.children())]
    calls: list = []

    def note(layer: nn.Module, _inputs, output) -> None:
        settings = {name: getattr(layer, name) for name in SETTINGS if hasattr(layer, name)}
        parameters = [list(parameter.shape) for parameter in layer.parameters()]
        calls.append([parts.index(layer), type(layer).__name__, settings, parameters, list(output.shape)])

    for part in parts:
        part.register_forward_hook(note)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for training in (True, False):
            calls.append("training" if training else "test")
            network.train(training)(torch.zeros(2, 1, 28, 28))
    return calls


def structure_sha256(network: nn.Module) -> str:
    """SHA-256 of the network's `structure`: equal for networks that differ in the values of their weights alone."""
    return hashlib.sha256(json.dumps(structure(network), sort_keys=True).encode()).hexdigest()
