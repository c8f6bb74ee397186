"""One run in a folder at a time, and one writer of a file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from common.system.errors import UserError
from common.system.files import remove_leftovers, unwritable

NAME = ".lock"  # stays when the run has ended: removing a lock file is how two processes come to hold it


@contextlib.contextmanager
def exclusive_run_lock(folder: Path) -> Iterator[None]:
    """Keep every other run out of the folder. Make the folder if it is missing, and remove what killed runs left in it.

    The operating system frees the lock when this process ends, also after kill -9. Raises UserError at once when
    another run holds the lock, or when the folder cannot be written.
    """
    lock = filelock.FileLock(folder / NAME, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"Another run is training in {folder}; wait until it has ended, or choose another folder with "
            "--out (in a notebook: the variable COURSE_OUT)."
        ) from None
    except OSError as error:
        raise unwritable(folder, error) from error
    except NotImplementedError:  # a file system without locks: the run is worth more than the guard
        pass
    try:
        remove_leftovers(folder)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def wait_for_lock(path: Path, seconds: float = -1) -> Iterator[None]:
    """Wait for the lock file `path` and hold it. Where the file system has no locks, go on without one.

    Raises filelock.Timeout when another process still holds it after so many seconds (-1: wait for ever), and OSError
    when the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=seconds)
    with contextlib.suppress(NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_used(folder: Path) -> bool:
    """Whether a run has ever locked the folder. It may still hold the lock."""
    return (folder / NAME).exists()
