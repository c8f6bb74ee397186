"""MNIST's four files, each checked against its MD5 sum: from a folder of yours, the cache, or a download."""

import contextlib
import gzip
import hashlib
import io
import os
import sys
import threading
import time
from concurrent.futures import Future, wait
from pathlib import Path
from urllib.parse import urlsplit

import filelock
import pooch
import requests
from tqdm import tqdm

from common.system import locks
from common.system.errors import UserError
from common.system.files import write_atomically

# The sums of the four files as they are and gzipped; the latter are those of `torchvision.datasets.MNIST.resources`.
MD5 = {
    "train-images-idx3-ubyte": {"": "6bbc9ace898e44ae57da46a324031adb", ".gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873"},
    "train-labels-idx1-ubyte": {"": "a25bea736e30d166cdddb491f175f624", ".gz": "d53e105ee54ea40749a09fcbcd1e9432"},
    "t10k-images-idx3-ubyte": {"": "2646ac647ad5339dbf082846283269ea", ".gz": "9fb629c4189551a2d022fa330f9573f3"},
    "t10k-labels-idx1-ubyte": {"": "27ae3e4e09519cfbb04c329615203637", ".gz": "ec29112dd5afa0611ce80d1b7f02629c"},
}
FORMS = (  # that `_read` takes
    " The files may be named train-images-idx3-ubyte or train-images.idx3-ubyte, gzipped (.gz) or not, and lie in the "
    "folder itself, in raw or in MNIST/raw."
)
LARGEST = 50_000_000  # bytes; the training images, the largest of the files, have 47,040,016
PATIENCE_SECONDS = 4.0  # without a new byte, before a try counts as failed
LOOKS = 8  # in that time; the time between two is all that a laptop's sleep can take from it
LONGEST_SECONDS = 600.0  # for one file from one server, which may drip: 20 kB a second are enough
PAUSES_SECONDS = (0.5, 1.5)  # before the second and the third round over the mirrors, which is the last
SILENCE_SECONDS = 6.0  # no further round when so long was spent on mirrors that sent nothing at all
LOCK_SECONDS = 600.0  # how long one run waits for another that downloads


class UnavailableError(UserError):
    """MNIST is neither at hand nor to be had; the built-in digits can stand in."""


def mnist_files() -> dict[str, bytes]:
    """The four checked files, uncompressed, by name: from MNIST_DIR when that is set, else from the cache.

    What the cache lacks, or holds damaged, is downloaded into it. Raises UserError when MNIST_DIR does not hold the
    four files, and UnavailableError when a download is needed and fails.
    """
    folder = os.environ.get("MNIST_DIR")
    if not folder:
        return _from_cache(cache_folder() / "MNIST" / "raw")  # where torchvision.datasets.MNIST(cache_folder()) looks
    try:
        folder = Path(folder).expanduser()
        list(folder.iterdir())
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"MNIST_DIR is {folder}, which cannot be read ({reason}); mend or unset it.") from None
    contents, faults = _survey(folder)
    if faults:
        forms = FORMS if any(fault.endswith("is missing") for fault in faults.values()) else ""
        raise UserError(f"MNIST_DIR is {folder}, but {', '.join(faults.values())}; mend or unset it.{forms}")
    return contents


def cache_folder() -> Path:
    """COURSE_CACHE, or a folder of the course in the user's cache folder; raises UnavailableError without a home."""
    try:
        return Path(os.environ.get("COURSE_CACHE") or pooch.os_cache("mnist-under-8k")).expanduser()
    except RuntimeError:  # a container's user, say, whom the list of users does not know
        raise UnavailableError("there is no home folder to keep it in (COURSE_CACHE can name another folder)") from None


def _from_cache(folder):
    contents, faults = _survey(folder)
    if not faults:
        return contents
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locks.wait_for_lock(folder / ".lock", LOCK_SECONDS):
            contents, faults = _survey(folder)  # another run may have downloaded in the meantime
            for name, fault in faults.items():
                print(f"{fault}: downloading it to {folder}", file=sys.stderr)
                contents[name] = _download(name, fault)
                _store(folder / name, contents[name])
            return contents
    except filelock.Timeout:
        raise UnavailableError(f"another run has kept {folder} locked for {LOCK_SECONDS / 60:.0f} minutes") from None
    except OSError as error:
        raise _unwritable(folder, error) from None


def _store(path, content):
    try:
        write_atomically(path, content)
    except UserError as error:
        raise _unwritable(path.parent, error.__cause__) from None


def _unwritable(folder, error):
    return UnavailableError(
        f"the cache folder {folder} cannot be written ({error.strerror or error}; COURSE_CACHE can name another)"
    )


def _survey(folder):
    """The good files of `folder`, uncompressed, by name; and by name what is wrong with the others."""
    contents, faults = {}, {}
    for name in MD5:
        try:
            contents[name] = _read(folder, name)
        except ValueError as fault:
            faults[name] = str(fault)
    return contents, faults


def _read(folder, name):
    """The checked file of that name, as MNIST's authors, torchvision's folders or pages that write a dot have it."""
    names = [f"{form}{suffix}" for form in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    for path in (folder / inner / called for inner in ("", "raw", "MNIST/raw") for called in names):
        suffix = ".gz" if path.suffix == ".gz" else ""
        try:
            with path.open("rb") as file:  # a file that is too large is not read into memory whole
                return _checked(file.read(LARGEST), name, suffix)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error})") from None
    raise ValueError(f"{name} is missing")


def _checked(content: bytes, name: str, suffix: str) -> bytes:
    """`content` uncompressed; raises ValueError with both sums when it is the file `name` neither gzipped nor plain.

    The sum decides, not the suffix: browsers, and servers that declare gzip as an encoding, unpack a .gz unasked.
    """
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found == MD5[name][""]:
        return content
    if found == MD5[name][".gz"]:
        return gzip.decompress(content)
    raise ValueError(f"expected MD5 {MD5[name][suffix]}, found {found}")


def _download(name, fault):
    """The checked bytes of the file `name` from the first mirror that gives them, in at most three rounds."""
    mirrors, failures, silence = _mirrors(), {}, 0.0
    for pause in (0.0, *PAUSES_SECONDS):
        time.sleep(pause)
        for mirror in list(mirrors):
            received, start = Received(), time.monotonic()
            try:
                receive(f"{mirror}{name}.gz", received)
                return _checked(received.getvalue(), name, ".gz")
            except (OSError, ValueError) as error:  # requests' exceptions are OSErrors
                failures[mirror] = f"{urlsplit(mirror).hostname}: {in_words(error)}"
                if _is_final(error):
                    mirrors.remove(mirror)
                if not received.tell():
                    silence += min(time.monotonic() - start, PATIENCE_SECONDS)  # the rest of it we slept
        if not mirrors or silence > SILENCE_SECONDS:
            break
    raise UnavailableError(f"{fault} and cannot be downloaded ({'; '.join(failures.values())})")


def _mirrors() -> list[str]:
    own = os.environ.get("MNIST_MIRROR")
    if own:
        with contextlib.suppress(ValueError):
            if urlsplit(own).scheme in ("http", "https") and urlsplit(own).hostname:
                return [f"{own.rstrip('/')}/"]
        raise UserError(f"MNIST_MIRROR must be an address that begins with http:// or https://, not {own!r}.")
    from torchvision.datasets import MNIST

    return list(MNIST.mirrors)


class _EndlessError(ValueError):
    """The server drips, or sends more than a file can have."""


class Received(io.BytesIO):
    """What a server has sent so far: never much more than a file can have, however much it sends or unpacks to."""

    def write(self, chunk) -> int:
        """Take another piece; raises _EndlessError when there are too many."""
        if self.tell() > LARGEST:
            raise _EndlessError(f"over {LARGEST:,} bytes")
        return super().write(chunk)


def receive(url, received: io.BytesIO):
    """Download `url`, at most 50 MB, into `received`, with a progress bar in a terminal; raises OSError or ValueError.

    A time-out of requests starts again at each address of a host and does not cover the look-up of its name, so behind
    a closed firewall it adds up to minutes. Here a thread downloads, and requests.Timeout is raised when
    PATIENCE_SECONDS have passed without a new byte, whatever it waits for. Looks are counted, not seconds: the process
    may have been asleep.
    """
    outcome = Future()

    def fetch():
        try:
            name = urlsplit(url).path.split("/")[-1]
            with tqdm(desc=name, total=1, unit="B", unit_scale=True, disable=None) as bar:  # None: in a terminal only
                get = pooch.HTTPDownloader(progressbar=bar, timeout=2 * PATIENCE_SECONDS)
                get(url, received, None)
            outcome.set_result(None)
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=fetch, daemon=True).start()
    before, looks, silent = 0, 0, 0
    while not wait([outcome], timeout=PATIENCE_SECONDS / LOOKS).done:
        looks, silent = looks + 1, silent + 1 if received.tell() == before else 0
        before = received.tell()
        if silent == LOOKS:
            raise requests.Timeout
        if looks * PATIENCE_SECONDS / LOOKS > LONGEST_SECONDS:
            raise _EndlessError(f"only {before:,} bytes in {LONGEST_SECONDS:g} seconds")
    outcome.result()


def _is_final(error) -> bool:
    """Whether the next try would end in the same way: the server lacks the file, or there is no end to it."""
    refused = isinstance(error, requests.HTTPError) and error.response.status_code < 500
    return refused or isinstance(error, requests.TooManyRedirects | _EndlessError)


def in_words(error) -> str:
    """What went wrong with a download, in a few words."""
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return f"under 1 kB received in {PATIENCE_SECONDS:g} seconds"  # what pooch hands on at once
    if isinstance(error, requests.TooManyRedirects):
        return "it redirects without end"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "cut off half way"
    return "".join(sign for sign in str(error) if sign.isprintable())[:200]  # it may quote what the server said
