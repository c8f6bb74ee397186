"""MNIST from everywhere it can come from: a folder, the cache, and a real server on loopback with faults."""

import gzip
import hashlib
import http.server
import os
import random
import shutil
import signal
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import faulty
import numpy as np
import pytest
import torch
from torchvision import datasets

from common import data
from common.data import mnist_files
from common.system.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
WRONG = b"<html>Please log in to this network.</html>"
WRONG_MD5 = "7cfa3ce10f08b2626c05cc655f248012"
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither fork nor these signals")


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


def _fingerprint(files: dict[str, bytes]) -> str:
    """What `faulty.download` prints of these files."""
    return _md5(b"".join(gzip.decompress(files[name]) for name in NAMES))


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
    yield monkeypatch
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
        if fault:
            faulty.INJECTED.append(fault)
        content = self.server.files.get(name.removesuffix(".gz"))
        if fault == "503" or content is None:
            self.send_error(503 if fault else 404)
        elif fault == "silent":
            self.server.closing.wait()
        elif fault == "redirects":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            plan.append(fault)
        elif isinstance(fault, bytes):
            self.wfile.write(fault)
        else:
            self.send(content, fault)

    def send(self, content, fault):
        length = len(content)
        if fault == "wrong bytes":
            content, length = WRONG, len(WRONG)
        if fault == "another file":
            content = self.server.files[NAMES[3]]
            length = len(content)
        if fault == "slow":
            time.sleep(1)
        if fault == "waits to be told":
            self.server.told.wait()
        self.send_response(200)
        if fault == "declared as an encoding":
            self.send_header("Content-Encoding", "gzip")
        if fault != "endless":
            self.send_header("Content-Length", str(length + {"too long": 9, "too short": -9}.get(fault, 0)))
        self.end_headers()
        if fault in ("cut", "hanging"):
            content = content[: length // 2]
        step = 1100 if fault == "drips" else len(content)
        for start in range(0, len(content), step):
            self.wfile.write(content[start : start + step])
            time.sleep(0.05 if fault == "drips" else 0)
        if fault == "hanging":
            self.server.closing.wait()
        while fault == "endless" and not self.server.closing.is_set():
            self.wfile.write(bytes(10_000))

    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A reader that has gone is no fault of the server's."""


@pytest.fixture
def serve(monkeypatch):
    """`serve(files, {name: [faults of its first requests]})` starts a server, which is then the only mirror."""
    servers = []

    def start(files, plan=None):
        server = _Server(("127.0.0.1", 0), _Handler)
        server.files, server.served, server.closing, server.told = files, [], threading.Event(), threading.Event()
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


@posix
def test_eight_processes_on_an_empty_cache_download_each_file_once(serve, files, cache):
    server = serve(files, {NAMES[0]: ["slow"]})  # so that all have seen the cache empty
    together = faulty.CONTEXT.Barrier(8)
    runs = [faulty.Run(faulty.download, mnist_files.MD5, together) for _ in range(8)]
    assert [run.end() for run in runs] == [0] * 8, [run.said for run in runs]
    assert {run.said.splitlines()[-1] for run in runs} == {_fingerprint(files)}
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


@pytest.mark.parametrize(
    "faults",
    [["503"], ["503", "503"], ["cut"], ["wrong bytes"], ["silent"], ["hanging"], ["too long"], ["too short"]]
    + [["another file"], ["cut", "503"], [b"", b"\0\xff"]],
)
def test_a_fault_that_passes_is_tried_again(serve, files, cache, monkeypatch, faults):
    if faults in (["silent"], ["hanging"]):
        monkeypatch.setattr(mnist_files, "PATIENCE_SECONDS", 1.0)
    _fill(cache, {name: files[name] for name in NAMES[:2]})
    server = serve(files, {NAMES[2]: faults})
    assert data.load("mnist").name == "mnist"
    assert server.served == [f"{NAMES[2]}.gz"] * (len(faults) + 1) + [f"{NAMES[3]}.gz"]
    assert set(_contents(cache)) == {f"{NAMES[0]}.gz", f"{NAMES[1]}.gz", NAMES[2], NAMES[3]}


def test_a_slow_line_is_waited_for(serve, small, monkeypatch):
    monkeypatch.setattr(mnist_files, "PATIENCE_SECONDS", 1.5)  # in all it takes longer
    server = serve(small, {NAMES[0]: ["drips"]})
    assert data.load("mnist").name == "mnist"
    assert len(server.served) == 4


@pytest.mark.parametrize(
    ("fault", "said", "setting", "value"),
    [
        ("drips", r"only [\d,]+ bytes in 0\.5 seconds", "LONGEST_SECONDS", 0.5),
        ("endless", "over 100,000 bytes", "LARGEST", 100_000),
        ("redirects", "it redirects without end", "LONGEST_SECONDS", 600),
    ],
)
def test_a_server_that_never_ends_is_left_after_one_try(serve, small, cache, monkeypatch, fault, said, setting, value):
    monkeypatch.setattr(mnist_files, setting, value)
    monkeypatch.setattr(mnist_files, "PATIENCE_SECONDS", 2.0)
    server = serve(small, {NAMES[0]: [fault] * 3})
    with pytest.raises(UserError, match=rf"MNIST is not at hand: .* \(127\.0\.0\.1: {said}\)"):
        data.load("mnist")
    assert len(server.served) == (31 if fault == "redirects" else 1)
    assert _contents(cache) == {}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("503", "HTTP 503"),
        ("cut", "cut off half way"),
        ("silent", "under 1 kB received in 0.5 seconds"),
        ("hanging", "under 1 kB received in 0.5 seconds"),
        ("wrong bytes", f"expected MD5 {{expected}}, found {WRONG_MD5}"),
        ("another file", "expected MD5 {expected}, found {other}"),
        ("too long", "cut off half way"),
        ("too short", "expected MD5 {expected}, found "),
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
    assert said.format(expected=_md5(small[NAMES[1]]), other=_md5(small[NAMES[3]])) in str(error.value)
    assert server.served == [f"{NAMES[1]}.gz"] * 3
    assert set(_contents(cache)) == {f"{NAMES[0]}.gz"}  # no part of the other is left


def test_auto_falls_back_with_one_line_that_says_why(serve, small, cache, capsys):
    serve(small, {NAMES[1]: ["wrong bytes"] * 9})
    assert data.load("auto").name == "builtin"
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
    faulty.INJECTED.append("404")
    with pytest.raises(UserError, match="HTTP 404"):
        data.load("mnist")
    assert len(server.served) == 1


def test_no_network(nobody, monkeypatch, capsys):
    monkeypatch.setenv("MNIST_MIRROR", nobody)
    faulty.INJECTED.append("refused")
    with pytest.raises(UserError, match="no connection.*MNIST_DIR.*--data builtin"):
        data.load("mnist")
    assert data.load("auto").name == "builtin"
    assert "no connection" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["ftp://example.org/mnist", "http://", "http:///mnist", "http://[::1/mnist"])
def test_a_mirror_that_is_no_http_address(monkeypatch, address):
    monkeypatch.setenv("MNIST_MIRROR", address)
    with pytest.raises(UserError) as error:
        data.load("auto")
    assert str(error.value) == (
        f"MNIST_MIRROR must be an address that begins with http:// or https://, not {address!r}."
    )


def _answer(*headers: bytes, status: bytes = b"200 OK", body: bytes = b"abc") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"", body])


ANSWERS = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "a status that is no number": _answer(status=b"two hundred"),
    "for ever 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "a negative length": _answer(b"Content-Length: -5"),
    "a length of 5,000 digits": _answer(b"Content-Length: " + b"9" * 5000),
    "two lengths": _answer(b"Content-Length: 3", b"Content-Length: 4"),
    "no gzip": _answer(b"Content-Encoding: gzip", b"Content-Length: 3"),
    "gzip 50 times": _answer(b"Content-Encoding: " + b", ".join([b"gzip"] * 50), b"Content-Length: 3"),
    "chunks without sizes": _answer(b"Transfer-Encoding: chunked", body=b"zz\r\nabc"),
    "a header of 100,000 letters": _answer(b"A: " + b"b" * 100_000),
    "to a file": _answer(b"Location: file:///etc/passwd", status=b"302 Found"),
    "to no address": _answer(b"Location: http://[::1/", status=b"302 Found"),
    "to a port that is none": _answer(b"Location: http://127.0.0.1:99999/", status=b"302 Found"),
    "to a terminal": _answer(b"Location: gopher:\x1b[2J\x07" + b"z" * 3000, status=b"302 Found"),
    "to bytes": _answer(b"Location: \xff\xfe", status=b"302 Found"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_whatever_a_server_says_the_error_is_one_short_sentence(serve, small, cache, answer):
    serve(small, {NAMES[0]: [answer] * 3})
    with pytest.raises(UserError) as error:
        data.load("mnist")
    assert str(error.value).startswith(f"MNIST is not at hand: {NAMES[0]} is missing and cannot be downloaded (127.")
    assert str(error.value).isprintable() and len(str(error.value)) < 500
    assert _contents(cache) == {}


# --- The cache -------------------------------------------------------------------------------------------------------


def test_a_damaged_file_in_the_cache_is_downloaded_again(serve, small, cache, capsys):
    _fill(cache, small, gzipped=False)
    good = data.load("mnist").sha256
    faulty.INJECTED.append("a damaged file")
    (cache / NAMES[0]).write_bytes(gzip.decompress(small[NAMES[0]])[:-1] + b"!")
    server = serve(small)
    assert data.load("mnist").sha256 == good
    assert server.served == [f"{NAMES[0]}.gz"]
    assert f"{cache / NAMES[0]} is damaged (expected MD5 " in capsys.readouterr().err
    assert (cache / NAMES[0]).read_bytes() == gzip.decompress(small[NAMES[0]])


def test_a_damaged_file_in_the_cache_is_named_when_nothing_replaces_it(small, cache, nobody, monkeypatch):
    _fill(cache, small, gzipped=False)
    faulty.INJECTED.append("a damaged file")
    (cache / NAMES[3]).write_bytes(b"damaged")
    monkeypatch.setenv("MNIST_MIRROR", nobody)
    expected, found = _md5(gzip.decompress(small[NAMES[3]])), _md5(b"damaged")
    with pytest.raises(UserError) as error:
        data.load("mnist")
    assert f"{cache / NAMES[3]} is damaged (expected MD5 {expected}, found {found})" in str(error.value)
    assert data.load("auto").name == "builtin"


def test_a_cache_that_cannot_be_written(serve, small, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    faulty.INJECTED.append("a file instead of a folder")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    server = serve(small)
    with pytest.raises(UserError, match="the cache folder .* cannot be written .*COURSE_CACHE"):
        data.load("mnist")
    assert data.load("auto").name == "builtin"
    assert "cannot be written" in capsys.readouterr().out
    assert server.served == []


@posix
def test_a_user_without_a_home_folder(monkeypatch, capsys):
    import pwd

    def unknown(_):
        raise KeyError("getpwuid(): uid not found")

    faulty.INJECTED.append("no home folder")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "COURSE_CACHE", "MNIST_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="no home folder .*COURSE_CACHE.*--data builtin"):
        data.load("mnist")
    monkeypatch.setenv("COURSE_CACHE", "~/digits")
    assert data.load("auto").name == "builtin"
    assert "no home folder" in capsys.readouterr().out


def test_a_full_disk(serve, small, cache, monkeypatch):
    def fail(_):
        faulty.INJECTED.append("full")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    serve(small)
    with pytest.raises(UserError, match="cannot be written .No space left on device"):
        data.load("mnist")
    assert _contents(cache) == {}


@posix
def test_a_cache_that_can_only_be_read(serve, small, folders):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to `nobody`, whom root becomes for this
        cache = _fill(Path(folder) / "MNIST" / "raw", small, gzipped=False)
        Path(folder).chmod(0o755)
        cache.chmod(0o555)
        folders.setenv("COURSE_CACHE", folder)
        server = serve(small)
        run = faulty.Run(faulty.download, mnist_files.MD5, as_nobody=True)
        assert (run.end(), run.said) == (0, _fingerprint(small) + "\n")  # whole, it serves
        (cache / NAMES[1]).unlink()
        faulty.INJECTED.append("a folder that is only read")
        run = faulty.Run(faulty.download, mnist_files.MD5, as_nobody=True)
        assert run.end() == 2
        assert f"the cache folder {cache} cannot be written (Permission denied; COURSE_CACHE can name" in run.said
        assert run.said.count("\n") == 1
        assert set(_contents(cache)) == {*NAMES} - {NAMES[1]}
        assert server.served == []


@posix
def test_a_killed_download_is_done_again_and_keeps_what_was_whole(serve, small, cache, full, tmp_path):
    for _ in range(2):  # the first one also waits for the fork server
        shutil.rmtree(cache, ignore_errors=True)
        serve(small)
        started = time.monotonic()
        assert faulty.Run(faulty.download, mnist_files.MD5).end() == 0
        seconds = time.monotonic() - started
    moments = [f"in write {number}" for number in (1, 2, 3, 4)] + ["in transfer"]
    moments = moments * 2 + [random.uniform(0, 0.9 * seconds) for _ in range(25)] if full else random.sample(moments, 2)
    for moment in moments:
        shutil.rmtree(cache)
        server = serve(small, {NAMES[2]: ["hanging"]} if moment == "in transfer" else {})
        write = int(moment[-1]) if str(moment).startswith("in write") else 0
        run = faulty.Run(faulty.download, mnist_files.MD5, fault="kill" if write else "", write=write)
        if moment == "in transfer":
            assert faulty.wait_until(lambda server=server: len(server.served) == 3)
        if not write:
            time.sleep(moment if isinstance(moment, float) else 0.1)
            run.send(signal.SIGKILL)
        assert run.end() in (-signal.SIGKILL, 0), run.said  # 0: it was faster than usual
        assert len(faulty.strays(tmp_path)) == bool(write) or isinstance(moment, float)
        whole = [name for name in NAMES if (cache / name).exists()]
        server = serve(small)
        again = faulty.Run(faulty.download, mnist_files.MD5)
        assert again.end() == 0, (moment, again.said)
        assert again.said.splitlines()[-1] == _fingerprint(small)
        assert server.served == [f"{name}.gz" for name in NAMES if name not in whole], moment
        assert set(_contents(cache)) == set(NAMES), moment  # no temporary file


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_download_that_is_stopped_keeps_what_is_whole(serve, small, cache, number, code):
    server = serve(small, {NAMES[2]: ["hanging"]})
    run = faulty.Run(faulty.download, mnist_files.MD5)
    assert faulty.wait_until(lambda: len(server.served) == 3)
    run.send(number)
    assert run.end() == code
    assert "Traceback" not in run.said
    assert set(_contents(cache)) == set(NAMES[:2])
    assert data.load("mnist").name == "mnist"
    assert server.served[3:] == [f"{name}.gz" for name in NAMES[2:]]


@posix
def test_a_laptop_that_sleeps_while_downloading(serve, small, full):
    """It was silent for longer than any server may be, before the first byte, and no fault of the server's."""
    server = serve(small, {NAMES[0]: ["waits to be told"]})
    run = faulty.Run(faulty.download, mnist_files.MD5, PATIENCE_SECONDS=1.0, SILENCE_SECONDS=1.5)
    assert faulty.wait_until(lambda: server.served)
    run.send(signal.SIGSTOP)
    server.told.set()
    time.sleep(60 if full else 2)
    run.send(signal.SIGCONT)
    assert run.end() == 0, run.said
    assert run.said.splitlines()[-1] == _fingerprint(small)
    assert server.served == [f"{name}.gz" for name in NAMES]


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


@pytest.mark.parametrize("inner", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("dotted", [True, False])
@pytest.mark.parametrize("gzipped", [True, False])
def test_a_folder_may_hold_mnist_as_torchvision_and_other_pages_have_it(
    files, tmp_path, monkeypatch, inner, dotted, gzipped
):
    folder = _fill(tmp_path / "mine" / inner, files, gzipped)
    if dotted:
        for path in list(folder.iterdir()):
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    monkeypatch.setenv("MNIST_DIR", str(tmp_path / "mine"))
    assert mnist_files.mnist_files().keys() == set(NAMES)


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_folder_that_does_not_hold_mnist_is_an_error(serve, small, tmp_path, monkeypatch, source):
    server = serve(small)  # a good mirror must not hide the mistake
    folder = tmp_path / "mine"
    monkeypatch.setenv("MNIST_DIR", str(folder))

    with pytest.raises(UserError, match="MNIST_DIR is .*mine, which cannot be read"):
        data.load(source)
    folder.mkdir()
    with pytest.raises(UserError, match=", ".join(f"{name} is missing" for name in NAMES)) as error:
        data.load(source)
    assert "train-images.idx3-ubyte, gzipped (.gz) or not" in str(error.value)
    _fill(folder, small)
    (folder / f"{NAMES[2]}.gz").write_bytes(small[NAMES[2]][:-8])
    with pytest.raises(UserError) as error:
        data.load(source)
    expected, found = _md5(small[NAMES[2]]), _md5(small[NAMES[2]][:-8])
    assert f"{folder / NAMES[2]}.gz is damaged (expected MD5 {expected}, found {found})" in str(error.value)
    assert "missing" not in str(error.value)
    assert server.served == []


def test_the_sums_are_torchvisions():
    assert {(f"{name}.gz", sums[".gz"]) for name, sums in mnist_files.MD5.items()} == set(datasets.MNIST.resources)
