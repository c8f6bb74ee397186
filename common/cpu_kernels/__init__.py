"""Layers that train narrow networks faster on a CPU, compiled by numba. Nobody needs to read them before S9 step 1.

PyTorch keeps a batch of feature maps as [N, C, H, W] (NCHW). Here the batch comes last, [C, H, W, N], which the field
calls CHWN: the 64 images of a batch fill a vector unit's lanes, where 8 or 16 channels would leave most of them empty.

To be read in this order:

- `chwn`: which networks can be computed so (`supports`), and a forward pass that does it (`ChwnForward`);
- `autograd`, `layers`: a chain of layers as one operation that autograd can differentiate; each layer's arrays;
- `convolution`, `depthwise`, `batchnorm`, `bn_activation`, `elementwise`, `pooling`: the loops; `registers`: the
  innermost part of a convolution;
- `compiler`, `precompile`: how numba compiles them, where the machine code is kept, and how many threads run it.

`dropout` is nn.Dropout with faster masks, for networks of any kind. It needs no numba.

**What is not supported.** Strides, but for 2 in a 3x3 convolution with ReLU behind it; other groups than depthwise;
kernels other than 3x3 and 1x1; other activations than ReLU and SiLU behind BatchNorm; other pools; and everything that
`ChwnForward` names. These go by PyTorch's layers. So do networks whose dense 3x3 convolutions have more than 32
channels. A second backward pass through one graph, and a second derivative, raise RuntimeError. A process that was
forked after the first step uses PyTorch's layers as well: GNU's OpenMP, whose threads numba shares with PyTorch, ends a
fork that runs a loop.

**How it is tested.** `tests/cpu_kernels` holds each loop, forward and backward, against PyTorch's layers in float64,
over odd sizes, and a model that trains by `ChwnForward` against itself without it. Results do not depend on the number
of threads, nor on whether the machine code is new or was kept.
"""
