"""Errors that are told in one clear sentence on standard error, without a traceback."""

import sys

from common.system import processes, streams


class UserError(Exception):
    """Something that the person at the keyboard can mend. The message says what is wrong and what to do.

    Uncaught in a script, it prints its message and exits with `exit_code`. In a notebook, IPython shows the message
    alone, without the stack.
    """

    exit_code = 2

    def _render_traceback_(self) -> list[str]:
        """IPython's hook for an exception that draws itself (`IPython.core.interactiveshell`)."""
        return [f"{type(self).__name__}: {self}"]


class Interrupted(UserError):
    """Ctrl-C. It is no mistake; the sentence says how to go on."""

    exit_code = 130  # 128 + SIGINT, as shells expect


class OutputError(UserError):
    """Standard output cannot be written, as on a full disk."""

    exit_code = 1


class ReaderGone(OutputError):
    """The program that read the output has ended, as `head` does. Nobody waits for a sentence, so there is none."""

    exit_code = 141  # 128 + SIGPIPE, as shells show it


def _print_sentence(kind, error, traceback):
    if issubclass(kind, UserError):
        try:
            sys.stdout.flush()
        except OutputError as other:
            error = other
        if not isinstance(error, ReaderGone):
            processes.tell(str(error))
        sys.exit(error.exit_code)  # an exit raised in the hook becomes the exit code of the process
    if issubclass(kind, KeyboardInterrupt):
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)  # 128 + SIGINT, as shells expect
    sys.__excepthook__(kind, error, traceback)


sys.excepthook = _print_sentence
streams.set_up(OutputError, ReaderGone)
