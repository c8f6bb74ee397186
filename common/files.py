"""Write a file whole or not at all."""

import contextlib
import os
from pathlib import Path

from common.errors import UserError


def write_atomically(path: str | Path, content: bytes | str) -> Path:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes go to `.NAME.PID.tmp` in the same folder, are flushed to the disk, and take the final name in one rename.
    Missing folders are made. Raises UserError, and leaves the old file as it was, when the disk is full or read-only.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"Cannot write {path}: {reason}; free some space or choose another folder.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path
