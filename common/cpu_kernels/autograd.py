"""Chains of `common.cpu_kernels.layers` as functions that autograd can differentiate.

A step of a small network is some fifty loops of a tenth of a millisecond each. With every layer an operation of
autograd's, and arrays made anew, Python would need as long again. So all that is equal in every step is done once, in
an `ExecutionPlan`: arrays for all maps, and lists of the calls that make a forward and a backward pass. (FFTW has the
idea, and the name.)
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from common.cpu_kernels.compiler import IN_TURN, follow_torch_threads
from common.cpu_kernels.layers import Layer, empty, with_padding

KEPT_KINDS = 3  # of plans: an epoch has two shapes of batches; what else is there is outdated
KEPT_PLANS = 2  # of each kind; a step needs one, or two where the graph before it still lives


class ExecutionPlan:
    """The calls of a forward and a backward pass through the layers, for maps of one shape, with all their arrays."""

    def __init__(self, layers: list[Layer], shape: tuple[int, int, int, int], input_grad: bool, training: bool = True):
        """For maps of this shape, [C, H, W, N]; `input_grad` says whether their gradient is wanted.

        In evaluation mode (not `training`) no random numbers are drawn.
        """
        padding = layers[0].padding
        maps, self.seeds = with_padding(shape, padding), np.empty(len(layers), np.uint64)
        self.maps = maps[:, padding : padding + shape[1], padding : padding + shape[2]]
        self.layers, self.input_grad, self.training, self.calls, self.kept = layers, input_grad, training, [], []
        self.settings, self.filled_in = [np.empty(len(layer.settings())) for layer in layers], None
        for index, (layer, behind) in enumerate(zip(layers, [*layers[1:], None], strict=True)):
            padding, seed = behind.padding if behind else 0, self.seeds[index : index + 1]
            call, maps, kept_by_layer = layer.forward(maps, padding, self.settings[index], seed)
            self.calls.append(call)
            self.kept.append(kept_by_layer)
        self.out, self.calls_back = maps, None

    def prepare_backward(self) -> None:
        """Make the arrays and the calls of the backward pass; not every plan has one."""
        self.grad_output, self.calls_back = empty(*self.out.shape), []
        self.shapes = [parameter.shape for layer in self.layers for parameter in layer.parameters()]
        self.grad_parameters = np.empty(sum(map(math.prod, self.shapes)), np.float32)
        grads, gradient = [*map(Tensor.numpy, self._split(torch.from_numpy(self.grad_parameters)))], self.grad_output
        for layer, kept_by_layer in zip(reversed(self.layers), reversed(self.kept), strict=True):
            first = len(grads) - len(layer.parameters())
            wanted = self.input_grad or layer is not self.layers[0]
            call, gradient = layer.backward(gradient, grads[first:], wanted, kept_by_layer)
            self.calls_back.append(call)
            grads = grads[:first]
        self.grad_input = gradient

    def forward(self, maps: np.ndarray, settings: list[tuple]) -> np.ndarray:
        """The last layer's maps, from maps [C, H, W, N] that may lie in memory in any order, with these settings."""
        follow_torch_threads()
        self.maps[:] = maps
        if self.training:
            self.seeds[:] = torch.randint(2**63 - 1, (len(self.seeds),)).numpy()
        if settings is not self.filled_in:
            for array, numbers in zip(self.settings, settings, strict=True):
                array[:] = numbers
            self.filled_in = settings
        with IN_TURN:
            for call, arguments in self.calls:
                call(*arguments)
        return self.out.copy()

    def backward(self, grad_output: np.ndarray) -> tuple[np.ndarray, list[Tensor]]:
        """The gradients of the maps (empty if not wanted) and of the parameters, from that of the last layer's maps."""
        if self.calls_back is None:
            self.prepare_backward()
        follow_torch_threads()
        self.grad_output[:] = grad_output
        with IN_TURN:
            for call, arguments in self.calls_back:
                call(*arguments)
        return self.grad_input.copy(), self._split(torch.from_numpy(self.grad_parameters.copy()))

    def _split(self, numbers: Tensor) -> list[Tensor]:
        """One tensor of each parameter's shape."""
        sizes = [shape.numel() for shape in self.shapes]
        return [part.view(shape) for part, shape in zip(numbers.split(sizes), self.shapes, strict=True)]


class Chain:
    """Layers one after the other, as a function of maps [N, C, H, W] that autograd can differentiate."""

    def __init__(self, layers: list[Layer], modules: list[nn.Module], training: bool = True):
        """`modules` are PyTorch's for the same layers: they compute what the loops cannot, and raise its errors.

        Layers in evaluation mode (not `training`) leave their buffers as they are, and have no backward pass.
        """
        self.layers, self.modules, self.training, self.idle = layers, modules, training, {}
        self.refresh()

    def refresh(self) -> None:
        """Look at the layers anew: to be called when their tensors or settings are others than before."""
        self.parameters = [parameter for layer in self.layers for parameter in layer.parameters()]
        self.buffers = [buffer for layer in self.layers for buffer in layer.buffers()]
        self.places = tuple(tensor.data_ptr() for tensor in (*self.parameters, *self.buffers))
        self.settings, self.computable = [layer.settings() for layer in self.layers], {}

    def __call__(self, maps: Tensor) -> Tensor:
        """Maps to maps [N, C, H, W], which lie in memory as [C, H, W, N]."""
        if not self._can_compute(maps):
            for module in self.modules:
                maps = module(maps)
            return maps
        has_grad = torch.is_grad_enabled()
        input_grad = has_grad and maps.requires_grad
        idle = self._idle_plans((maps.shape, input_grad, self.places))
        lease = Lease(idle, self.layers, _batch_last(maps.shape), input_grad, self.training)
        if self.buffers and self.training:  # the loops write to them, and autograd must know
            torch.autograd.graph.increment_version(self.buffers)
        if self.training and (
            input_grad or (has_grad and any(parameter.requires_grad for parameter in self.parameters))
        ):
            return ChainFunction.apply(maps, lease, self.settings, *self.parameters)
        return _run_forward(maps, lease, self.settings)  # no backward pass follows: the plan is free afterwards

    def _can_compute(self, maps: Tensor) -> bool:
        """Whether the loops can compute these maps; if not, PyTorch can, or has an error to raise."""
        is_float32 = type(maps) is Tensor and maps.dtype == torch.float32 and maps.is_cpu
        if not is_float32 or maps.layout != torch.strided or maps.dim() != 4:
            return False
        if maps.shape not in self.computable:
            shape = _batch_last(maps.shape) if len(maps) else None
            for layer in self.layers:
                shape = shape and layer.output_shape(shape)
            self.computable[maps.shape] = shape is not None
        return self.computable[maps.shape]

    def _idle_plans(self, kind: tuple) -> list[ExecutionPlan]:
        """The list of the plans of that kind that nobody uses; the kinds that were not used for longest go."""
        idle = self.idle[kind] = self.idle.pop(kind, [])
        while len(self.idle) > KEPT_KINDS:
            del self.idle[next(iter(self.idle))]
        return idle


class Lease:
    """A plan that is in use by one graph. It goes back when the backward pass is over, or the graph is gone."""

    def __init__(self, idle: list[ExecutionPlan], *arguments):
        """One of the idle plans, else a new one from the arguments of `ExecutionPlan`."""
        self.idle = idle
        try:
            self.plan = idle.pop()
        except IndexError:
            self.plan = ExecutionPlan(*arguments)

    def end(self) -> None:
        """Give the plan back; later calls do nothing."""
        plan, self.plan = self.plan, None
        if plan is not None and len(self.idle) < KEPT_PLANS:
            self.idle.append(plan)

    def __del__(self):
        """The graph is gone, with or without a backward pass."""
        if hasattr(self, "plan"):  # not if it could not be made
            self.end()


class ChainFunction(torch.autograd.Function):
    """The forward and backward pass of a plan as one operation of autograd's."""

    @staticmethod
    def forward(ctx, maps: Tensor, lease: Lease, settings: list[tuple], *parameters: Tensor) -> Tensor:
        """Maps [N, C, H, W] to maps. Autograd raises an error if a parameter changes before the backward pass."""
        ctx.lease = lease
        ctx.save_for_backward(*parameters)
        return _run_forward(maps, lease, settings)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):
        """From the gradient of the last maps that of the first, if it is wanted, and the parameters'."""
        _ = ctx.saved_tensors  # autograd looks for changes when they are asked for
        if ctx.lease.plan is None:
            raise RuntimeError("A second backward pass through the same maps: compute them once more before it.")
        grad_input, grad_parameters = ctx.lease.plan.backward(grad_output.permute(1, 2, 3, 0).numpy())
        ctx.lease.end()
        grad_input = torch.from_numpy(grad_input).permute(3, 0, 1, 2) if ctx.needs_input_grad[0] else None
        return grad_input, None, None, *grad_parameters


def _run_forward(maps: Tensor, lease: Lease, settings: list[tuple]) -> Tensor:
    return torch.from_numpy(lease.plan.forward(maps.permute(1, 2, 3, 0).numpy(), settings)).permute(3, 0, 1, 2)


def _batch_last(shape: torch.Size) -> tuple[int, int, int, int]:
    """[N, C, H, W] to [C, H, W, N]."""
    batch, *rest = shape
    return (*rest, batch)
