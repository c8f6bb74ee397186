"""Where output goes: a notebook, or standard streams that may be missing, full or closed.

`set_up` is called once, when `common.system.errors` is imported, which every script does.

- Where there is no stream at all (a scheduler, pythonw), what is written goes nowhere and the program runs.
- When the reader of standard output has gone (`| head`), the program stops without a word, with exit code 141. This is
  the code that a shell gives a program that SIGPIPE ended: 128 + 13. A run keeps its last checkpoint.
- When standard output cannot be written (a full disk), the program stops with one sentence and exit code 1.
- What cannot be written to standard error is dropped: a message that nobody gets is no reason to stop.
"""

import errno
import os
import sys
from pathlib import Path

CLOSED = {errno.EPIPE} if os.name != "nt" else {errno.EPIPE, errno.EINVAL}  # Windows tells a closed pipe so
FULL = "Cannot write to standard output: {}; free some space or send the output elsewhere."
NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}


def in_notebook() -> bool:
    """Whether this code runs in a Jupyter kernel."""
    return hasattr(ipython(), "kernel")  # IPython in a terminal has none


def ipython():
    """The running IPython shell, in a kernel or a terminal; None in plain Python."""
    package = sys.modules.get("IPython")
    return package.get_ipython() if package else None


def may_move() -> bool:
    """Whether progress bars and widgets may be shown: TQDM_DISABLE, tqdm's own variable, switches both off.

    The course sets it where it runs its own notebooks, whose stored output would hold a dead bar.
    """
    return os.environ.get("TQDM_DISABLE", "") in ("", "0")


def labelled(label: str, text: str) -> str:
    """A line of output: a script's begins with its label, in a column of its own; a page reads as text."""
    return text if in_notebook() else f"{label:<11}{text}"


def set_up(output_error: type[Exception], reader_gone: type[Exception]) -> None:
    """Open what is missing, and have standard output raise these two instead of OSError.

    They are no OSErrors, so that no `except OSError` around a print takes them for a fault of a file. A notebook's
    streams, and those of a test, are not the process's own and stay as they are.
    """
    open_missing()

    def stop(error: OSError):
        if error.errno in CLOSED:
            raise reader_gone("The reader of the output has gone.") from error
        raise output_error(FULL.format(error.strerror or error)) from error

    if sys.stdout is sys.__stdout__ and not isinstance(sys.stdout, _Guarded):
        sys.stdout.reconfigure(line_buffering=True)  # an error comes with its line, and not when the program ends
        sys.stdout = sys.__stdout__ = _Guarded(sys.stdout, stop)
    if sys.stderr is sys.__stderr__ and not isinstance(sys.stderr, _Guarded):
        sys.stderr = sys.__stderr__ = _Guarded(sys.stderr, lambda error: None)


def open_missing() -> None:
    """Let every missing stream lead nowhere; else the next file that is opened would get the stream's number."""
    for name, number in NUMBERS.items():
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest free number: this one
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open("w" if number else "r", encoding="utf-8")  # noqa: SIM115 - for good
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


class _Guarded:
    """A text stream whose OSErrors go to `failed`; what comes after the first of them leads nowhere."""

    def __init__(self, stream, failed):
        self._stream, self._failed = stream, failed

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # Python writes what it still holds when the process ends
        os.close(nowhere)
        self._failed(error)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)
