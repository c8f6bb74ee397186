"""Layers that train narrow networks faster on a CPU, compiled by numba. Nobody needs to read them before S8 step 1.

PyTorch keeps a batch of maps as [N, C, H, W] (NCHW). Here the batch comes last, [C, H, W, N], which the field calls
CHWN: the 64 images of a batch fill a vector unit's lanes, where 8 or 16 channels would leave most of them empty.

- `chwn` finds the layers of a model that can be computed in this layout, and has the model train by them.
- `layers` says for each layer which arrays it needs and which loops compute it; `autograd` joins layers to one
  operation that autograd can differentiate.
- `convolution`, `batchnorm`, `pooling` hold the loops, `registers` the innermost part of a convolution; `dropout` is
  nn.Dropout with faster masks.

`tests/cpu_kernels` holds each loop, forward and backward, against PyTorch's own layers and float64, over odd sizes.
"""
