"""Write a file whole or not at all, and clear away what a killed process had begun."""

import contextlib
import os
import re
from pathlib import Path

from common.system.errors import UserError

TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp", re.DOTALL)  # .NAME.PID.tmp
CLOCK_SECONDS = 5.0  # by how much a file's time and a process's may differ on one machine


def write_atomically(path: str | Path, content: bytes | str) -> Path:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes go to `.NAME.PID.tmp` in the same folder, are flushed to the disk, and take the final name in one rename.
    Missing folders are made, and what killed processes left in this one is removed. Raises UserError, and leaves the
    old file as it was, when the disk is full or read-only.
    """
    path = Path(path)
    write_together({path: content})
    return path


def write_together(contents: dict[Path, bytes | str]) -> None:
    """Write files that belong together, each as `write_atomically` does: when the disk is full, none of them.

    The renames, which need no space, come when all bytes are on the disk.
    """
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in contents}
    path = None
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            with temporaries[path].open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> UserError:
    """The sentence for a file that the system does not let us write."""
    return UserError(f"Cannot write {path}: {error.strerror or error}; free some space or choose another folder.")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in `folder` whose writers are gone: kill -9 leaves them no time to do it.

    A file stays as long as a process with the number in its name lives that was there when the file was last written;
    a later process that was given the same number does not count. Nothing else is touched. Processes of another
    machine or container that write into the same folder at this moment cannot be seen; if one loses its file so, its
    write fails with a sentence, and the old file stays.
    """
    for path in folder.glob(".*.tmp"):
        found = TEMPORARY.fullmatch(path.name)
        with contextlib.suppress(OSError):  # gone in the meantime, or not ours to remove
            if found and not _lived(int(found[1]), path.lstat().st_mtime):
                path.unlink()


def _lived(number: int, moment: float) -> bool:
    """Whether the process with this number still lives and had been started at `moment`, in seconds of the epoch."""
    import psutil  # only where there is something to decide

    try:
        process = psutil.Process(number)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment + CLOCK_SECONDS
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return False
