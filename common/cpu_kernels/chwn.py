"""Training a network in CHWN layout on a CPU: which of its layers can be computed so, and a forward pass that does it.

`ChwnForward` computes what stands in a model's `nn.Sequential` containers: 3x3, 1x1 and depthwise convolutions with
BatchNorm, an activation and dropout behind them, and pools (`common.cpu_kernels.layers`). Between these, maps lie in
memory as [C, H, W, N], the batch last; any other layer gets them as [N, C, H, W], as always. Weights, gradients and
BatchNorm's running statistics are PyTorch's, up to rounding.
"""

import functools
from operator import attrgetter
from types import NoneType

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from common.cpu_kernels.dropout import Dropout
from common.system.errors import UserError

WIDEST = 32  # channels; a library's 3x3 convolution of more, with the channels in a vector's lanes, is as fast
AT_ONCE_IN_TESTING = 96  # images: what a layer has written is still in a cache when the next one reads it
LARGEST_SHARE = 1 - 2**-32  # of what dropout drops: its draws have 32 bits


def supports(model: nn.Module) -> bool:
    """Whether the loops can compute all that takes time in the model, are faster for it, and can run here."""
    known = set()
    for container in model.modules():
        layers = list(container) if isinstance(container, nn.Sequential) else []
        for index, layer in enumerate(layers):
            if _is_convolution(layer):
                length = _block_length(layers[index:])
                if length > 1 or layer.stride == (1, 1):
                    known |= set(layers[index : index + length])
            elif type(layer) is Dropout or (type(layer) is nn.BatchNorm2d and _is_batch_norm(layer)):
                known.add(layer)
    slow = {layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d, Dropout, nn.SiLU))}
    dense = [layer for layer in known if isinstance(layer, nn.Conv2d) and not _is_1x1(layer) and layer.groups == 1]
    narrow = all(layer.out_channels <= WIDEST for layer in dense)
    return bool(known) and slow <= known and narrow and why_unavailable() is None


@functools.cache
def why_unavailable() -> str | None:
    """Why the loops cannot run in this process, in one sentence; None where they can."""
    try:
        from common.cpu_kernels import compiler  # noqa: F401 - here, since numba takes a while to import
    except ModuleNotFoundError as error:
        return f"The CPU loops need {error.name}, which is not installed here."
    except (ImportError, UserError) as error:
        return str(error)
    return None


class ChwnForward:
    """A model's forward pass with its containers computed in CHWN layout, wherever that gives PyTorch's values.

    It uses the model's own layers and weights, and leaves the model as it is: during a call the containers get another
    `forward`, and after it they have their own again. Each call looks at how the layers are at that moment. What the
    loops do not compute goes by PyTorch's layers:

    - a model in evaluation mode when gradients are wanted of it, and a layer in another mode than its container;
    - layers with hooks, parametrisations or pruned weights;
    - autocast, torch.compile, and other types, devices and memory layouts than float32 on a CPU;
    - a process that was forked after the threads had started;
    - shapes and shares of dropout for which PyTorch raises an error, or which the loops have no numbers for.

    A graph serves one backward pass: a second one raises RuntimeError, also with retain_graph=True.
    """

    def __init__(self, model: nn.Module):
        """The model may change later, in any way. Raises UserError where the loops cannot run."""
        if reason := why_unavailable():
            raise UserError(reason)
        self.model = model
        self.containers = [_ContainerForward(module) for module in model.modules() if type(module) is nn.Sequential]
        for container in self.containers:  # compiles what is needed, before anything is timed
            container.look()

    def __call__(self, images: Tensor) -> Tensor:
        """What `model(images)` is, and can be differentiated as that."""
        differentiated = not self.model.training and torch.is_grad_enabled()
        if differentiated or torch.compiler.is_compiling() or _is_forked():
            return self.model(images)
        changed = []
        try:
            for forward in self.containers:
                attributes = forward.container.__dict__
                if "forward" not in attributes:  # else it is another's, to be left alone
                    attributes["forward"] = forward
                    changed.append(attributes)
            return self.model(images)
        finally:
            for attributes in changed:
                attributes.pop("forward", None)


class _ContainerForward:
    """Takes the place of an nn.Sequential's `forward`: chains of CHWN layers, and between them PyTorch's."""

    def __init__(self, container: nn.Sequential):
        self.container, self.modules, self.watched = container, [], None
        self.states, self.stages = [], []

    def __call__(self, input: Tensor) -> Tensor:
        """Maps [N, C, H, W]; what the layers make of them."""
        if torch.is_autocast_enabled("cpu") or _has_any_global_hook():
            return nn.Sequential.forward(self.container, input)
        if _watched(self.modules) != self.watched or self.watched is None:
            self.look()
        if self.container.training:
            return self._through_stages(input)
        return torch.cat([self._through_stages(part) for part in input.split(AT_ONCE_IN_TESTING)])

    def _through_stages(self, input: Tensor) -> Tensor:
        for stage in self.stages:
            input = stage(input)
        return input

    def look(self) -> None:
        """Find out which layers there are, and which of them the loops can compute."""
        from common.cpu_kernels.autograd import Chain  # here, since numba takes a while to import
        from common.cpu_kernels.precompile import precompile

        training = self.container.training
        states = [_state(layer, training) for layer in _flat(self.container)]
        if states != self.states:
            self.stages, self.states = _stages(states, training), states
            precompile([layer for stage in self.stages if isinstance(stage, Chain) for layer in stage.layers])
        else:  # other weights, other numbers
            for stage in self.stages:
                if not isinstance(stage, nn.Module):
                    stage.refresh()
        self.modules = list(self.container.modules())
        self.watched = _watched(self.modules)


def _watched(modules: list[nn.Module]) -> list:
    """All that a container's stages depend on, as a list to compare with that of the last call: some 50 microseconds.

    A longer look at each layer, at each call, would take a tenth of a step of the smallest networks.
    """
    values = []
    for module in modules:
        kind = type(module)
        values.append(kind)
        if kind not in WATCHED:
            continue
        values.append(_is_plain(module))
        values += WATCHED[kind](module)
        if kind is nn.Sequential:
            values += module._modules.values()
        for tensors in (module._parameters, module._buffers):
            for tensor in tensors.values():
                if tensor is not None:
                    values += id(tensor), tensor.data_ptr(), tensor.shape, tensor.is_contiguous()
    return values


def _flat(container: nn.Sequential) -> list[nn.Module]:
    """The layers of the container and of those in it; one with hooks is a layer of its own."""
    layers = []
    for layer in container._modules.values():
        layers += _flat(layer) if type(layer) is nn.Sequential and _is_plain(layer) else [layer]
    return layers


def _state(layer: nn.Module, training: bool) -> tuple:
    """The layer, the kind of layer that the loops can compute it as now (None if they cannot), and what it computes.

    `training` is the container's mode: a layer with another mode goes by PyTorch.
    """
    kind = type(layer)
    ready = kind in IS_READY and _is_plain(layer) and layer.training == training and IS_READY[kind](layer)
    kind = kind if ready else None
    if kind is nn.Conv2d:
        return layer, kind, training, layer.padding, layer.stride, layer.groups, layer._parameters["weight"].shape
    return layer, kind, training, layer.kernel_size if kind is nn.AvgPool2d else None


def _stages(states: list[tuple], training: bool) -> list:
    """The layers in that state, with those that the loops can compute joined to chains."""
    from common.cpu_kernels.autograd import Chain  # here, since numba takes a while to import

    stages, chain, chained = [], [], []

    def end_chain() -> None:
        if any(isinstance(module, nn.Conv2d) for module in chained):
            stages.append(Chain([*chain], [*chained], training))
        else:  # too little to lay the maps out anew for
            stages.extend(chained)
        chain.clear()
        chained.clear()

    if not training:  # nothing is dropped
        states = [state for state in states if state[1] not in (Dropout, nn.Dropout, nn.Dropout2d)]
    layers, kinds, index = [layer for layer, *_ in states], [kind for _, kind, *_ in states], 0
    while index < len(layers):
        length = _block_length(layers[index:], kinds[index:]) if kinds[index] is nn.Conv2d else 1
        block = layers[index : index + length]
        chwn_layer = _chwn_layer(block, kinds[index], training)
        if chwn_layer is None or (chwn_layer.padding and chain and not chain[-1].pads_output):
            end_chain()
        if chwn_layer is None:
            stages.append(layers[index])
        else:
            chain.append(chwn_layer)
            chained.extend(block)
        index += length
    end_chain()
    return stages


def _chwn_layer(block: list[nn.Module], kind: type | None, training: bool):
    """The CHWN layer for a block of layers, of which the first is of that kind; None where there is no such layer."""
    from common.cpu_kernels import layers as chwn_layers

    first, *rest = block
    if kind is nn.MaxPool2d:
        return chwn_layers.MaxPool()
    if kind is nn.AvgPool2d:
        return chwn_layers.AveragePool(first.kernel_size)
    if kind is nn.ReLU:
        return chwn_layers.ReLU()
    if kind is Dropout:
        return chwn_layers.Dropout(first)
    if kind is nn.BatchNorm2d:
        return chwn_layers.BatchNorm(first, training)
    if kind is not nn.Conv2d:
        return None
    if not rest and first.stride != (1, 1):
        return None
    if not rest:
        return (chwn_layers.DepthwiseConvolution if _is_depthwise(first) else chwn_layers.Convolution)(first)
    norm = next(layer for layer in rest if isinstance(layer, nn.BatchNorm2d))
    relu_first = norm is not rest[0]
    activation = None if relu_first else next(iter(rest[1:]), None)
    if not training:
        return chwn_layers.ConvBatchNormTesting(first, norm, activation, relu_first)
    if relu_first:
        before, after = rest[1 : rest.index(norm)], rest[rest.index(norm) + 1 :]
        return chwn_layers.ConvReluBatchNorm(first, norm, *(before or [None]), *after)
    return chwn_layers.ConvBatchNorm(first, norm, activation)


def _block_length(layers: list[nn.Module], kinds: list | None = None) -> int:
    """How many layers make one with the convolution that they begin with; 1 if they make none.

    What may follow is BatchNorm2d[, SiLU or ReLU], unless it has a stride, or, unless it is depthwise, ReLU[, Dropout],
    BatchNorm2d[, Dropout or Dropout2d]. `kinds` are the layers' types, or None for those that the loops cannot compute
    now.
    """
    kinds = kinds or [type(layer) for layer in layers]
    if kinds[1:2] == [nn.BatchNorm2d] and _is_batch_norm(layers[1]) and layers[0].stride == (1, 1):
        return 3 if kinds[2:3] == [nn.SiLU] or kinds[2:3] == [nn.ReLU] else 2
    if _is_depthwise(layers[0]):
        return 1
    norm = 3 if kinds[2:3] == [Dropout] else 2
    if kinds[1:2] != [nn.ReLU] or kinds[norm : norm + 1] != [nn.BatchNorm2d] or not _is_batch_norm(layers[norm]):
        return 1
    return norm + (2 if kinds[norm + 1 : norm + 2] in ([nn.Dropout2d], [Dropout]) else 1)


# What a layer must be for the loops to compute it


def _is_convolution(layer: nn.Module) -> bool:
    """Whether it is a 3x3 or a 1x1 convolution from all channels to all, or a depthwise one.

    At every pixel; a 3x3 one from all channels to all may also take every second.
    """
    if type(layer) is not nn.Conv2d or layer.dilation != (1, 1):
        return False
    is_3x3 = layer.kernel_size == (3, 3) and layer.padding in ((0, 0), (1, 1)) and layer.padding_mode == "zeros"
    if layer.stride != (1, 1):
        return is_3x3 and layer.stride == (2, 2) and layer.groups == 1
    return is_3x3 and (layer.groups == 1 or _is_depthwise(layer)) or _is_1x1(layer)


def _is_1x1(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and layer.padding == (0, 0) and layer.groups == 1


def _is_depthwise(layer: nn.Conv2d) -> bool:
    """Whether each channel has one kernel, larger than 1x1, and becomes one channel."""
    return layer.groups == layer.in_channels == layer.out_channels > 1 and layer.kernel_size != (1, 1)


def _is_batch_norm(layer: nn.BatchNorm2d) -> bool:
    """Whether it has a weight and a bias, and running statistics that move by a fixed share."""
    return layer.affine and layer.track_running_stats and layer.momentum is not None


def _is_max_pool(layer: nn.MaxPool2d) -> bool:
    """Whether it is of 2x2 values side by side."""
    settings = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    return settings == (2, 2, 0, 1) and not layer.return_indices and not layer.ceil_mode


def _is_average_pool(layer: nn.AvgPool2d) -> bool:
    """Whether it is of squares side by side."""
    if layer.padding or layer.ceil_mode or layer.divisor_override:
        return False
    return isinstance(layer.kernel_size, int) and layer.stride == layer.kernel_size


# What it must be like at the moment of a call


def _is_plain(layer: nn.Module) -> bool:
    """Whether a call of the layer is its class's forward and nothing else: no hooks, no `forward` of its own."""
    return not (
        layer._forward_pre_hooks
        or layer._forward_hooks
        or layer._backward_pre_hooks
        or layer._backward_hooks
        or type(layer.__dict__.get("forward")) not in (NoneType, _ContainerForward)
    )


def _is_ready_convolution(layer: nn.Conv2d) -> bool:
    tensors = layer._parameters  # pruning takes the weight out, a parametrisation changes the type of the layer
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if not _is_convolution(layer) or "bias" not in tensors or not _is_array(weight):
        return False
    if weight.shape[2:] != layer.kernel_size or (layer.groups > 1 and weight.shape[:2] != (layer.groups, 1)):
        return False
    return bias is None or (_is_array(bias) and bias.shape == weight.shape[:1])


def _is_ready_batch_norm(layer: nn.BatchNorm2d) -> bool:
    if not _is_batch_norm(layer):
        return False
    parameters, buffers = layer._parameters, layer._buffers
    weight, count = parameters.get("weight"), buffers.get("num_batches_tracked")
    others = parameters.get("bias"), buffers.get("running_mean"), buffers.get("running_var")
    if not _is_array(weight) or not all(_is_array(tensor) and tensor.shape == weight.shape for tensor in others):
        return False
    return _is_array(count, torch.int64) and not count.shape


def _is_ready_dropout(layer: nn.Module) -> bool:
    return not layer.training or 0 <= layer.p < LARGEST_SHARE


IS_READY = {
    nn.Conv2d: _is_ready_convolution,
    nn.BatchNorm2d: _is_ready_batch_norm,
    nn.ReLU: lambda layer: True,
    nn.SiLU: lambda layer: True,
    Dropout: _is_ready_dropout,
    nn.Dropout: lambda layer: not layer.training,
    nn.Dropout2d: _is_ready_dropout,
    nn.MaxPool2d: _is_max_pool,
    nn.AvgPool2d: _is_average_pool,
}

# What a container's forward looks at before each call, beside hooks and tensors; two at least, for a tuple
WATCHED = {
    nn.Conv2d: attrgetter("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"),
    nn.BatchNorm2d: attrgetter("training", "momentum", "eps", "affine", "track_running_stats"),
    nn.ReLU: lambda layer: (),
    nn.SiLU: lambda layer: (),
    Dropout: attrgetter("training", "p"),
    nn.Dropout: attrgetter("training", "p"),
    nn.Dropout2d: attrgetter("training", "p"),
    nn.MaxPool2d: attrgetter("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    nn.AvgPool2d: attrgetter("kernel_size", "stride", "padding", "ceil_mode", "divisor_override"),
    nn.Sequential: lambda layer: (layer.training,),
}


def _is_array(tensor: object, dtype: torch.dtype = torch.float32) -> bool:
    """Whether it is a tensor whose numbers the loops can use where they are."""
    return (
        type(tensor) in (nn.Parameter, Tensor)
        and tensor.dtype == dtype
        and tensor.is_cpu
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
    )


def _is_forked() -> bool:
    from common.cpu_kernels import compiler

    return compiler.is_forked()
