"""Write a file whole or not at all, and remove what a killed process left half written."""

import contextlib
import os
import re
from pathlib import Path

from common.system.errors import UserError

TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp", re.DOTALL)  # .NAME.PID.tmp
CLOCK_SECONDS = 5.0  # by how much a file's time and a process's may differ on one machine


def write_atomically(path: str | Path, content: bytes | str) -> Path:
    """Write `content` to `path` and return the path. A reader sees the old file or the new one, never a part.

    The bytes go to `.NAME.PID.tmp` in the same folder and are flushed to the disk. Then one rename gives them the final
    name. Missing folders are made. What killed processes left in this folder is removed.

    Raises UserError when the disk is full or read-only; the old file is then as it was.
    """
    path = Path(path)
    write_together({path: content})
    return path


def write_together(contents: dict[Path, bytes | str]) -> None:
    """Write files that belong together, each as `write_atomically` does. When the disk is full, none is written.

    All bytes are on the disk before the first rename, and a rename needs no space. A process that is killed between two
    renames leaves one new file and one old file. Raises UserError as `write_atomically` does.
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
    """Remove the temporary files in `folder` whose writers are gone. A process that is killed cannot do it itself.

    The name of a temporary file holds its writer's process number. The file stays while the writer lives. A process
    that started after the file was last written is another one with the same number. Other files are not touched.

    A writer on another machine or in another container cannot be seen. If it loses its file so, its write fails with
    one sentence, and the old file stays.
    """
    for path in folder.glob(".*.tmp"):
        found = TEMPORARY.fullmatch(path.name)
        with contextlib.suppress(OSError):  # gone in the meantime, or not ours to remove
            if found and not _lived(int(found[1]), path.lstat().st_mtime):
                path.unlink()


def _lived(number: int, moment: float) -> bool:
    """Whether the process with this number lives, and had started by `moment` (seconds since 1970)."""
    import psutil  # only where there is something to decide

    try:
        process = psutil.Process(number)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment + CLOCK_SECONDS
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return False
