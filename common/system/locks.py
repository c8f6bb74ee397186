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
    """Keep every other run out of the folder, which is made where it is missing, and clear away what killed runs left.

    The system frees the lock when this process ends, also by kill -9. Raises UserError at once when another run has
    it, and when the folder cannot be written.
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
    """Hold the lock file `path` after whoever has it now; where the file system has no locks, go on without.

    Raises filelock.Timeout when it is still held after so many seconds (-1: wait for ever), and OSError.
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
    """Whether a run had the folder before, and so may still have it."""
    return (folder / NAME).exists()
