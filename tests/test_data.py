"""The digits from everywhere they can come from: folder, cache, a real server on loopback with faults, scikit-learn."""

import gzip
import hashlib
import http.server
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torchvision import datasets

from common import data, mnist_files
from common.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
WRONG = b"<html>Please log in to this network.</html>"
WRONG_MD5 = "7cfa3ce10f08b2626c05cc655f248012"
BUILTIN_SHA256 = "2fb6e066c5f69ab42918b3a876ca3b44b52f744c3951ad2f0a9ed0b197b94873"


# --- The files that the tests serve ----------------------------------------------------------------------------------


def _real_files() -> dict[str, bytes] | None:
    """The four gzipped files of MNIST, where a folder on this machine has them."""
    for folder in (os.environ.get("MNIST_DIR"), ROOT.parent / "shared" / "mnist"):
        if folder and all((Path(folder) / f"{name}.gz").is_file() for name in NAMES):
            return {name: (Path(folder) / f"{name}.gz").read_bytes() for name in NAMES}
    return None


def _generated_files() -> dict[str, bytes]:
    """Four gzipped idx files of noise, so small that a test may write them many times."""
    noise = np.random.default_rng(0)
    files = {}
    for half, count in (("train", 60), ("t10k", 20)):
        images = noise.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = noise.integers(0, 10, count, dtype=np.uint8)
        files[f"{half}-images-idx3-ubyte"] = struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + images.tobytes()
        files[f"{half}-labels-idx1-ubyte"] = struct.pack(">4BI", 0, 0, 8, 1, count) + labels.tobytes()
    return {name: gzip.compress(content) for name, content in files.items()}


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def _sums(files: dict[str, bytes]) -> dict[str, dict[str, str]]:
    return {name: {"": _md5(gzip.decompress(packed)), ".gz": _md5(packed)} for name, packed in files.items()}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """No variable of the user counts, the cache is empty, and waiting is short; the files are removed afterwards."""
    for variable in ("MNIST_DIR", "MNIST_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    monkeypatch.setattr(mnist_files, "PATIENCE_SECONDS", 60)  # a busy machine is no fault; tests of silence set it
    monkeypatch.setattr(mnist_files, "PAUSES_SECONDS", (0.01, 0.01))
    yield
    for path in tmp_path.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def small(monkeypatch):
    """Generated files; their sums stand in for MNIST's."""
    files = _generated_files()
    monkeypatch.setattr(mnist_files, "MD5", _sums(files))
    return files


@pytest.fixture
def files(monkeypatch):
    """MNIST's own files where they are at hand, else generated ones."""
    real = _real_files()
    if real is None:
        real = _generated_files()
        monkeypatch.setattr(mnist_files, "MD5", _sums(real))
    return real


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "MNIST" / "raw"


def _fill(folder: Path, files: dict[str, bytes], gzipped: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, packed in files.items():
        path = folder / (f"{name}.gz" if gzipped else name)
        path.write_bytes(packed if gzipped else gzip.decompress(packed))
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    """Everything in the cache but the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


# --- The server ------------------------------------------------------------------------------------------------------


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802 (the base class looks for this name)
        name = self.path.removeprefix("/mnist/")
        self.server.served.append(name)
        plan = self.server.plan.get(name, [])
        fault = plan.pop(0) if plan else None
        content = self.server.files.get(name.removesuffix(".gz"))
        if fault == "503" or content is None:
            self.send_error(503 if fault else 404)
            return
        if fault == "silent":
            self.server.closing.wait()
            return
        if fault == "slow":
            time.sleep(1)
        if fault == "wrong bytes":
            content = WRONG
        self.send_response(200)
        if fault == "declared as an encoding":
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault in ("cut", "hanging") else content)
        if fault == "hanging":
            self.wfile.flush()
            self.server.closing.wait()

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """`serve(files, {name: [faults of its first requests]})` starts a server, which is then the only mirror."""
    servers = []

    def start(files, plan=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.files, server.served, server.closing = files, [], threading.Event()
        server.plan = {f"{name}.gz": list(faults) for name, faults in (plan or {}).items()}
        server.url = f"http://127.0.0.1:{server.server_port}/mnist"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("MNIST_MIRROR", server.url)
        return server

    yield start
    for server in servers:
        server.closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def nobody():
    """An address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


# --- A download that works -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_download_fills_the_cache_once(serve, small, cache, monkeypatch, ending):
    server = serve(small)
    monkeypatch.setenv("MNIST_MIRROR", server.url + ending)
    first = data.load("mnist")
    assert sorted(server.served) == sorted(f"{name}.gz" for name in NAMES)
    assert _contents(cache) == {name: gzip.decompress(packed) for name, packed in small.items()}
    assert data.load("mnist").sha256 == first.sha256
    assert len(server.served) == 4


def test_torchvision_reads_what_was_downloaded(serve, files, cache):
    serve(files)
    digits = data.load("auto")
    assert digits.name == "mnist"
    for train, images, labels in (
        (True, digits.train_images, digits.train_labels),
        (False, digits.test_images, digits.test_labels),
    ):
        theirs = datasets.MNIST(root=mnist_files.cache_folder(), train=train, download=False)
        assert images.dtype == torch.uint8 and torch.equal(images, theirs.data)
        assert labels.dtype == torch.int64 and torch.equal(labels, theirs.targets)
    concatenated = b"".join(
        t.numpy().tobytes() for t in (digits.train_images, digits.train_labels, digits.test_images, digits.test_labels)
    )
    assert digits.sha256 == hashlib.sha256(concatenated).hexdigest()


def test_four_processes_on_an_empty_cache_download_each_file_once(serve, files, cache):
    server = serve(files, {NAMES[0]: ["slow"]})  # so that all four have seen the cache empty
    program = (
        "import hashlib, json, sys\n"
        "from common import mnist_files\n"
        "mnist_files.MD5 = json.loads(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "input()\n"
        "files = mnist_files.mnist_files()\n"
        "print(hashlib.md5(b''.join(files[name] for name in sys.argv[2:])).hexdigest())\n"
    )
    command = [sys.executable, "-c", program, json.dumps(mnist_files.MD5), *NAMES]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    runs = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(4)]
    assert [run.stdout.readline() for run in runs] == ["ready\n"] * 4
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    printed = [run.communicate(timeout=120)[0].strip() for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    assert printed == [_md5(b"".join(gzip.decompress(files[name]) for name in NAMES))] * 4
    assert Counter(server.served) == dict.fromkeys((f"{name}.gz" for name in NAMES), 1)
    assert set(_contents(cache)) == set(NAMES)


def test_torchvisions_mirrors_are_tried_in_turn(serve, small, nobody, monkeypatch):
    empty, full = serve({}), serve(small)
    monkeypatch.delenv("MNIST_MIRROR")
    monkeypatch.setattr(datasets.MNIST, "mirrors", [nobody, f"{empty.url}/", f"{full.url}/"])
    assert len(data.load("mnist").train_images) == 60
    assert sorted(empty.served) == sorted(full.served) == sorted(f"{name}.gz" for name in NAMES)


def test_a_server_that_declares_gzip_as_an_encoding(serve, small):
    serve(small, {name: ["declared as an encoding"] for name in NAMES})
    assert len(data.load("mnist").train_images) == 60


# --- A download with faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["503", "cut", "wrong bytes", "silent", "hanging"])
def test_a_fault_that_passes_is_tried_again(serve, files, cache, monkeypatch, fault):
    if fault in ("silent", "hanging"):
        monkeypatch.setattr(mnist_files, "PATIENCE_SECONDS", 1.0)
    _fill(cache, {name: files[name] for name in NAMES[:2]})
    server = serve(files, {NAMES[2]: [fault]})
    assert data.load("mnist").name == "mnist"
    assert server.served == [f"{NAMES[2]}.gz"] * 2 + [f"{NAMES[3]}.gz"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("503", "HTTP 503"),
        ("cut", "cut off half way"),
        ("silent", "nothing received for 0.5 seconds"),
        ("hanging", "nothing received for 0.5 seconds"),
        ("wrong bytes", f"expected MD5 {{expected}}, found {WRONG_MD5}"),
    ],
)
def test_a_fault_that_stays_ends_after_three_tries(serve, small, cache, monkeypatch, fault, said):
    if fault in ("silent", "hanging"):
        monkeypatch.setattr(mnist_files, "PATIENCE_SECONDS", 0.5)
    _fill(cache, {NAMES[0]: small[NAMES[0]]})
    server = serve(small, {NAMES[1]: [fault] * 9})
    with pytest.raises(UserError) as error:
        data.load("mnist")
    assert str(error.value).startswith(
        f"MNIST is not at hand: {NAMES[1]} is missing and cannot be downloaded (127.0.0.1"
    )
    assert said.format(expected=_md5(small[NAMES[1]])) in str(error.value)
    assert server.served == [f"{NAMES[1]}.gz"] * 3
    assert set(_contents(cache)) == {f"{NAMES[0]}.gz"}  # no part of the other is left


def test_auto_falls_back_with_one_line_that_says_why(serve, small, cache, capsys):
    serve(small, {NAMES[1]: ["wrong bytes"] * 9})
    assert data.load("auto").sha256 == BUILTIN_SHA256
    assert capsys.readouterr().out == (
        f"MNIST is not at hand, so this run uses the built-in digits: {NAMES[1]} is missing and cannot be downloaded "
        f"(127.0.0.1: expected MD5 {_md5(small[NAMES[1]])}, found {WRONG_MD5}).\n"
    )
    assert set(_contents(cache)) == {NAMES[0]}  # what came whole is kept


def test_a_silent_network_is_not_waited_for_three_times(serve, small, monkeypatch):
    monkeypatch.setattr(mnist_files, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(mnist_files, "SILENCE_SECONDS", 0.1)
    server = serve(small, {NAMES[0]: ["silent"] * 9})
    assert data.load("auto").name == "builtin"
    assert len(server.served) == 1


def test_a_file_that_a_mirror_does_not_have_is_asked_for_once(serve):
    server = serve({})
    with pytest.raises(UserError, match="HTTP 404"):
        data.load("mnist")
    assert len(server.served) == 1


def test_no_network(nobody, monkeypatch, capsys):
    monkeypatch.setenv("MNIST_MIRROR", nobody)
    with pytest.raises(UserError, match="no connection.*MNIST_DIR.*--data builtin"):
        data.load("mnist")
    assert data.load("auto").name == "builtin"
    assert "no connection" in capsys.readouterr().out


def test_a_mirror_that_is_no_http_address(monkeypatch):
    monkeypatch.setenv("MNIST_MIRROR", "ftp://example.org/mnist")
    with pytest.raises(UserError, match="MNIST_MIRROR must be an address .* not 'ftp://example.org/mnist'"):
        data.load("auto")


# --- The cache -------------------------------------------------------------------------------------------------------


def test_a_damaged_file_in_the_cache_is_downloaded_again(serve, small, cache, capsys):
    _fill(cache, small, gzipped=False)
    good = data.load("mnist").sha256
    (cache / NAMES[0]).write_bytes(gzip.decompress(small[NAMES[0]])[:-1] + b"!")
    server = serve(small)
    assert data.load("mnist").sha256 == good
    assert server.served == [f"{NAMES[0]}.gz"]
    assert f"{cache / NAMES[0]} is damaged (expected MD5 " in capsys.readouterr().err
    assert (cache / NAMES[0]).read_bytes() == gzip.decompress(small[NAMES[0]])


def test_a_damaged_file_in_the_cache_is_named_when_nothing_replaces_it(small, cache, nobody, monkeypatch):
    _fill(cache, small, gzipped=False)
    (cache / NAMES[3]).write_bytes(b"damaged")
    monkeypatch.setenv("MNIST_MIRROR", nobody)
    expected, found = _md5(gzip.decompress(small[NAMES[3]])), _md5(b"damaged")
    with pytest.raises(UserError) as error:
        data.load("mnist")
    assert f"{cache / NAMES[3]} is damaged (expected MD5 {expected}, found {found})" in str(error.value)
    assert data.load("auto").name == "builtin"


def test_a_cache_that_cannot_be_written(serve, small, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    server = serve(small)
    with pytest.raises(UserError, match="the cache folder .* cannot be written .*COURSE_CACHE"):
        data.load("mnist")
    assert data.load("auto").name == "builtin"
    assert "cannot be written" in capsys.readouterr().out
    assert server.served == []


def test_a_full_disk(serve, small, cache, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    serve(small)
    with pytest.raises(UserError, match="cannot be written .No space left on device"):
        data.load("mnist")
    assert _contents(cache) == {}


# --- MNIST_DIR -------------------------------------------------------------------------------------------------------


def test_a_folder_gzipped_or_not_gives_the_same_digits(files, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_DIR", str(_fill(tmp_path / "packed", files)))
    packed = data.load("auto")
    monkeypatch.setenv("MNIST_DIR", str(_fill(tmp_path / "plain", files, gzipped=False)))
    plain = data.load("mnist")
    assert packed.name == plain.name == "mnist"
    assert packed.sha256 == plain.sha256
    assert torch.equal(packed.test_images, plain.test_images)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_folder_that_does_not_hold_mnist_is_an_error(serve, small, tmp_path, monkeypatch, source):
    server = serve(small)  # a good mirror must not hide the mistake
    folder = tmp_path / "mine"
    monkeypatch.setenv("MNIST_DIR", str(folder))

    with pytest.raises(UserError, match="MNIST_DIR is .*mine, which cannot be read"):
        data.load(source)
    folder.mkdir()
    with pytest.raises(UserError, match=", ".join(f"{name} is missing" for name in NAMES)):
        data.load(source)
    _fill(folder, small)
    (folder / f"{NAMES[2]}.gz").write_bytes(small[NAMES[2]][:-8])
    with pytest.raises(UserError) as error:
        data.load(source)
    expected, found = _md5(small[NAMES[2]]), _md5(small[NAMES[2]][:-8])
    assert f"{folder / NAMES[2]}.gz is damaged (expected MD5 {expected}, found {found})" in str(error.value)
    assert "missing" not in str(error.value)
    assert server.served == []


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
    enlarged = torch.from_numpy(data._enlarged(source.numpy().astype(np.int64)))
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
    assert str(mnist) == "data       mnist: 60,000 training and 10,000 test images, sha256 3f1c9a2b77d0"


def test_validation_leaves_the_test_images_out_altogether():
    every, some = data.load("builtin"), data.load("builtin", validate=True)
    assert (len(some.train_labels), len(some.test_labels)) == (1318, 119)  # a twelfth of 1,437 is 119
    assert torch.equal(torch.cat([some.train_images, some.test_images]), every.train_images)
    assert torch.equal(torch.cat([some.train_labels, some.test_labels]), every.train_labels)
    assert str(some) == "data       built-in digits: 1,318 training and 119 validation images, sha256 2fb6e066c5f6"
    limited = data.load("builtin", limit=10, validate=True)
    assert torch.equal(limited.test_images, some.test_images)


def test_a_limit_takes_the_first_training_images_and_keeps_the_fingerprint():
    every, some = data.load("builtin"), data.load("builtin", limit=100)
    assert torch.equal(some.train_images, every.train_images[:100])
    assert torch.equal(some.train_labels, every.train_labels[:100])
    assert torch.equal(some.test_images, every.test_images)
    assert some.sha256 == every.sha256
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
        data._parse_idx(content, 3)


def test_an_idx_file_by_hand():
    content = b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x01" + b"\0\0\0\x03" + bytes([1, 2, 3, 4, 5, 255])
    assert data._parse_idx(content, 3).tolist() == [[[1, 2, 3]], [[4, 5, 255]]]


def test_the_sums_are_torchvisions():
    assert {(f"{name}.gz", sums[".gz"]) for name, sums in mnist_files.MD5.items()} == set(datasets.MNIST.resources)
