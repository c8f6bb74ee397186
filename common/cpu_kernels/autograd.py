"""Chains of `common.cpu_kernels.layers` as functions that autograd can differentiate.

A step of a small network is some fifty loops of a tenth of a millisecond each. With every layer an operation of
autograd's, and arrays made anew, Python would need as long again. So all that is equal in every step is done once, in a
`Plan`: arrays for all maps, and lists of the calls that make a forward and a backward pass. (FFTW has the idea, and the
name.)
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from common.cpu_kernels.layers import Layer, empty, with_border


class ExecutionPlan:
    """The calls of a forward and a backward pass through the layers, for maps of one shape, with all their arrays."""

    def __init__(self, layers: list[Layer], shape: tuple[int, int, int, int], wanted: bool):
        """Maps [C, H, W, N] have this shape; whether their gradient is wanted."""
        padding = layers[0].padding
        maps, self.seeds = with_border(shape, padding), np.empty(len(layers), np.uint64)
        self.maps = maps[:, padding : padding + shape[1], padding : padding + shape[2]]
        self.calls, self.calls_back, steps = [], [], []
        for index, (layer, behind) in enumerate(zip(layers, [*layers[1:], None], strict=True)):
            border = behind.padding if behind else 0
            call, maps, kept = layer.forward(maps, border, self.seeds[index : index + 1])
            self.calls.append(call)
            steps.append((layer, kept))
        self.out, self.gradient = maps, empty(*maps.shape)
        self.shapes = [parameter.shape for layer in layers for parameter in layer.parameters()]
        self.of_parameters = np.empty(sum(map(np.prod, self.shapes)), np.float32)
        results, gradient = [*map(np.asarray, self._parted(torch.from_numpy(self.of_parameters)))], self.gradient
        for layer, kept in reversed(steps):
            first = len(results) - len(layer.parameters())
            call, gradient = layer.backward(gradient, results[first:], wanted or layer is not layers[0], kept)
            self.calls_back.append(call)
            results = results[:first]
        self.of_maps = gradient

    def forward(self, maps: np.ndarray) -> np.ndarray:
        """The layers' maps, from maps [C, H, W, N] that may lie in memory in any order."""
        self.maps[:] = maps
        self.seeds[:] = torch.randint(2**63 - 1, (len(self.seeds),)).numpy()
        for call, arguments in self.calls:
            call(*arguments)
        return self.out.copy()

    def backward(self, gradient: np.ndarray) -> tuple[np.ndarray, list[Tensor]]:
        """The gradients of the maps (none if not wanted) and of the parameters, from that of the last layer's maps."""
        self.gradient[:] = gradient
        for call, arguments in self.calls_back:
            call(*arguments)
        return self.of_maps.copy(), self._parted(torch.from_numpy(self.of_parameters.copy()))

    def _parted(self, numbers: Tensor) -> list[Tensor]:
        sizes = [shape.numel() for shape in self.shapes]
        return [part.view(shape) for part, shape in zip(numbers.split(sizes), self.shapes, strict=True)]


class Chain:
    """Layers one after the other, as a function of maps [N, C, H, W] that autograd can differentiate."""

    def __init__(self, layers: list[Layer]):
        """See the class."""
        self.layers, self.idle = layers, {}
        self.parameters = [parameter for layer in layers for parameter in layer.parameters()]
        self.tensors = [*self.parameters, *(buffer for layer in layers for buffer in layer.buffers())]

    def __call__(self, maps: Tensor) -> Tensor:
        """Maps to maps [N, C, H, W], which lie in memory as [C, H, W, N]."""
        places = tuple(tensor.data_ptr() for tensor in self.tensors)
        settings = maps.shape, maps.requires_grad, places, tuple(layer.dropout() for layer in self.layers)
        if settings not in self.idle and len(self.idle) > 3:  # an epoch has two shapes; what else is there, is outdated
            self.idle.clear()
        idle = self.idle.setdefault(settings, [])
        count, *shape = maps.shape
        plan = idle.pop() if idle else ExecutionPlan(self.layers, (*shape, count), maps.requires_grad)
        return ChainFunction.apply(maps, plan, idle, *self.parameters)

    def __getstate__(self) -> dict:
        """A copy makes plans of its own, for its own parameters."""
        return {**self.__dict__, "idle": {}}


class ChainFunction(torch.autograd.Function):
    """A plan as an operation of autograd's. It is nobody else's until the backward pass is over."""

    @staticmethod
    def forward(
        ctx, maps: Tensor, plan: ExecutionPlan, idle: list[ExecutionPlan], *_parameters: nn.Parameter
    ) -> Tensor:
        """Maps [N, C, H, W] to maps; the parameters are there for autograd to see."""
        ctx.plan, ctx.idle = plan, idle
        return torch.from_numpy(plan.forward(maps.permute(1, 2, 3, 0).numpy())).permute(3, 0, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        """From the gradient of the plan's outputs that of the maps, if it is wanted, and the parameters'."""
        plan, ctx.plan = ctx.plan, None
        if plan is None:
            raise RuntimeError("A second backward pass through the same maps: compute them once more before it.")
        of_maps, of_parameters = plan.backward(gradient.permute(1, 2, 3, 0).numpy())
        ctx.idle.append(plan)
        of_maps = torch.from_numpy(of_maps).permute(3, 0, 1, 2) if ctx.needs_input_grad[0] else None
        return of_maps, None, None, *of_parameters
