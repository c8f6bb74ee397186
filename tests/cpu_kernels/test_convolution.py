"""Convolutions in CHWN layout give PyTorch's values and gradients, in float64, over odd shapes."""

import importlib

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

pytest.importorskip("numba")
convolution = importlib.import_module("common.cpu_kernels.convolution")


def batch_last(maps):
    """[N, C, H, W] as a float32 array [C, H, W, N]."""
    return np.ascontiguousarray(maps.detach().float().permute(1, 2, 3, 0).numpy())


def shapes():
    """Random shapes, from shorter lines than a block of sums to many blocks with a rest."""
    random = np.random.default_rng(7)
    for _ in range(25):
        count, inputs, outputs = (int(random.integers(1, most)) for most in (70, 14, 18))
        yield count, inputs, outputs, int(random.integers(3, 12)), int(random.integers(3, 12))
    yield 64, 1, 32, 28, 28
    yield 1, 1, 1, 3, 3


@pytest.mark.parametrize(("size", "padding"), [(3, 0), (3, 1), (1, 0)])
def test_a_convolution_and_its_gradients_are_pytorchs(size, padding):
    for count, inputs, outputs, height, width in shapes():
        generator = torch.Generator().manual_seed(4)
        sizes = (count, inputs, height, width), (outputs, inputs, size, size), (outputs,)
        maps, weight, bias = (torch.randn(size, generator=generator).double().requires_grad_() for size in sizes)
        expected = F.conv2d(maps, weight, bias, padding=padding)
        padded = batch_last(F.pad(maps, (padding,) * 4))
        out, arrays = (
            np.empty(batch_last(expected).shape, np.float32),
            [tensor.detach().float().numpy() for tensor in (weight, bias)],
        )
        convolution.convolve(padded, convolution.forward_weights(arrays[0]), arrays[1], size, out)
        close(out, batch_last(expected))

        gradient = torch.randn(expected.shape, generator=generator).double()
        around = size - 1 - padding
        grad_output, zeros = batch_last(F.pad(gradient, (around,) * 4)), np.zeros(inputs, np.float32)
        grad_input, grad_weight = np.empty((inputs, height, width, count), np.float32), np.empty_like(arrays[0])
        convolution.convolve(grad_output, convolution.backward_weights(arrays[0]), zeros, size, grad_input)
        convolution.weight_gradient(padded, grad_output, around, 1, grad_weight)
        theirs = torch.autograd.grad(expected, (maps, weight), gradient)
        close(grad_input, batch_last(theirs[0]))
        close(grad_weight, theirs[1].float().numpy())


def close(ours, theirs):
    """To a hundred thousandth of the largest value: each is a sum of many products in float32."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1, abs(theirs).max()))
