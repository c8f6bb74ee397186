"""Digits of other writers, in MNIST's form."""

import bz2

import numpy as np
import pytest
import torch

from common.data import digits, mnist_files, other_writers
from common.system.errors import UserError


def usps_line(label: int, image: np.ndarray) -> str:
    """As the file has it: the label from 1 to 10, then the 256 values from -1 to 1."""
    return f"{label + 1} " + " ".join(f"{i + 1}:{value:.6f}" for i, value in enumerate(image.ravel() * 2 - 1))


@pytest.fixture
def usps_folder(tmp_path, monkeypatch):
    bar = np.zeros((16, 16))
    bar[2:14, 6:9] = 1  # off centre
    lines = "\n".join([usps_line(1, bar), usps_line(0, np.roll(bar, 3, axis=1))])
    (tmp_path / "usps.t.bz2").write_bytes(bz2.compress(f"{lines}\n".encode()))
    monkeypatch.setenv("USPS_DIR", str(tmp_path))
    return tmp_path


def test_the_digits_of_scikit_learn_are_all_there():
    images, labels = other_writers.scikit_learn()
    assert images.shape == (1797, 28, 28) and images.dtype == torch.uint8
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.usefixtures("usps_folder")
def test_usps_comes_out_centred_by_its_mass():
    images, labels = other_writers.usps()
    assert labels.tolist() == [1, 0] and images.shape == (2, 28, 28)
    columns = torch.arange(28.0)
    for image in images.float():
        assert float(image.sum(dim=0) @ columns / image.sum()) == pytest.approx(14, abs=0.51)
        assert float(image.sum(dim=1) @ columns / image.sum()) == pytest.approx(14, abs=0.51)
    assert images[0].max() == 255
    assert [int((images[0] > 127).any(dim=axis).sum()) for axis in (1, 0)] == [20, 5]  # of 12 rows and 3 columns


def test_what_is_faint_around_a_usps_digit_does_not_make_it_smaller(tmp_path, monkeypatch):
    faint = np.full((16, 16), 0.2)  # less than a quarter of full ink
    faint[2:14, 6:9] = 1
    (tmp_path / "usps.t.bz2").write_bytes(bz2.compress(f"{usps_line(1, faint)}\n".encode()))
    monkeypatch.setenv("USPS_DIR", str(tmp_path))
    (image,) = other_writers.usps()[0]
    assert [int((image > 127).any(dim=axis).sum()) for axis in (1, 0)] == [20, 5]


def test_a_digit_with_its_mass_at_the_edge_stays_inside():
    image = np.zeros((20, 20), dtype=np.int64)
    image[0, 0] = 255
    assert digits.centre(image)[8, 8] == 255


@pytest.mark.parametrize("content", [None, b"", b"not bz2", bz2.compress(b"1 1:0.5\n"), bz2.compress(b"x")[:9]])
def test_what_is_not_the_file_is_said_in_one_sentence(usps_folder, content):
    path = usps_folder / "usps.t.bz2"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="is not USPS's test file") as raised:
        other_writers.usps()
    assert "USPS_DIR" in str(raised.value) and str(path) in str(raised.value)


def test_without_a_network_it_is_said_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.delenv("USPS_DIR", raising=False)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(other_writers, "receive", lambda url, received: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(mnist_files.UnavailableError, match="named in USPS_DIR"):
        other_writers.usps()
    assert not list(tmp_path.rglob("*.bz2")), "nothing half is left behind"


def test_half_a_download_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("USPS_DIR", raising=False)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    whole = bz2.compress(b"x" * 10_000)
    monkeypatch.setattr(other_writers, "receive", lambda url, received: received.write(whole[: len(whole) // 2]))
    with pytest.raises(mnist_files.UnavailableError):
        other_writers.usps()
    assert not list(tmp_path.rglob("usps*"))
