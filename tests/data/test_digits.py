"""The digits: scikit-learn's made to look like MNIST's, idx files by hand, and what `data.load` promises.

tests/faults/test_download.py has MNIST from a folder, the cache and a server.
"""

import dataclasses
import socket
import struct

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from common import data
from common.data.digits import _parse_idx, enlarge
from common.system.errors import UserError

BUILTIN_SHA256 = "2fb6e066c5f69ab42918b3a876ca3b44b52f744c3951ad2f0a9ed0b197b94873"


# --- The built-in digits ---------------------------------------------------------------------------------------------


def test_the_builtin_digits_are_the_same_everywhere_and_need_no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("no network here")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    digits = data.load("builtin")
    assert digits.sha256 == BUILTIN_SHA256
    assert digits.train_images.shape == (1437, 28, 28) and digits.test_images.shape == (360, 28, 28)
    assert digits.train_images.dtype == digits.test_images.dtype == torch.uint8
    assert digits.train_labels.dtype == digits.test_labels.dtype == torch.int64
    assert digits.train_labels.bincount().tolist() == [142, 146, 141, 147, 144, 146, 145, 143, 139, 144]
    assert digits.test_labels.bincount().tolist() == [36, 36, 36, 36, 37, 36, 36, 36, 35, 36]


def test_the_builtin_digits_are_enlarged_bilinearly_and_centred_by_mass():
    from sklearn.datasets import load_digits

    source = torch.from_numpy(load_digits().images)
    enlarged = torch.from_numpy(enlarge(source.numpy().astype(np.int64), white=16))
    theirs = interpolate(source[:, None] * 255 / 16, size=(20, 20), mode="bilinear", align_corners=False)[:, 0]
    assert (enlarged - theirs).abs().max() <= 0.5 + 1e-9

    digits = data.load("builtin")
    images = torch.cat([digits.train_images, digits.test_images]).double()
    assert images.sum() == enlarged.sum()  # centring cuts nothing off
    place = torch.arange(28, dtype=torch.double)
    for axis in (1, 2):
        centre = (images.sum(dim=axis) * place).sum(dim=1) / images.sum(dim=(1, 2))
        assert centre.min() >= 13.5 and centre.max() <= 14.5


# --- What load promises ----------------------------------------------------------------------------------------------


def test_the_line_that_names_the_data():
    digits = data.load("builtin", limit=512)
    assert str(digits) == "data       built-in digits: 512 training and 360 test images, sha256 2fb6e066c5f6"
    images = torch.zeros(60_000, 1, 1), torch.zeros(10_000, 1, 1)
    mnist = data.Digits(images[0], images[0], images[1], images[1], "mnist", "3f1c9a2b77d0" + "0" * 52)
    assert str(mnist) == "data       MNIST: 60,000 training and 10,000 test images, sha256 3f1c9a2b77d0"


def test_validation_leaves_the_test_images_out_altogether():
    every, some = data.load("builtin"), data.load("builtin", validate=True)
    assert (len(some.train_labels), len(some.test_labels)) == (1318, 119)  # a twelfth of 1,437 is 119
    assert torch.equal(torch.cat([some.train_images, some.test_images]), every.train_images)
    assert torch.equal(torch.cat([some.train_labels, some.test_labels]), every.train_labels)
    assert str(some) == "data       built-in digits: 1,318 training and 119 validation images, sha256 2fb6e066c5f6"
    limited = data.load("builtin", limit=10, validate=True)
    assert torch.equal(limited.test_images, some.test_images[:10])


def test_a_limit_takes_the_first_images_and_keeps_the_fingerprint():
    every, some = data.load("builtin"), data.load("builtin", limit=100)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(some, name), getattr(every, name)[:100])
    assert some.sha256 == every.sha256


def test_of_mnist_a_limit_leaves_all_test_images(monkeypatch):
    every = data.load("builtin")
    monkeypatch.setattr("common.data.digits.mnist", lambda: dataclasses.replace(every, name="mnist"))
    some = data.load("mnist", limit=100)
    assert (len(some.train_labels), len(some.test_labels)) == (100, 360)
    assert len(data.load("builtin", limit=1_000_000).train_images) == 1437


@pytest.mark.parametrize(("source", "limit", "said"), [("nowhere", None, "--data"), ("builtin", 0, "--limit")])
def test_a_request_that_makes_no_sense(source, limit, said):
    with pytest.raises(UserError, match=said):
        data.load(source, limit)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        struct.pack(">4B2I", 0, 0, 8, 3, 1, 2),  # the third size is missing
        struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 2) + bytes(7),  # a value too few
        struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 2) + bytes(9),  # a value too many
        struct.pack(">4B3I", 0, 0, 13, 3, 1, 1, 1) + bytes(1),  # type 13 is float
        struct.pack(">4B3I", 0, 0, 8, 3, *[2**32 - 1] * 3) + bytes(1),
    ],
)
def test_a_file_that_is_not_idx(content):
    with pytest.raises(UserError, match="not an idx file"):
        _parse_idx(content, 3)


def test_an_idx_file_by_hand():
    content = b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x01" + b"\0\0\0\x03" + bytes([1, 2, 3, 4, 5, 255])
    assert _parse_idx(content, 3).tolist() == [[[1, 2, 3]], [[4, 5, 255]]]
