"""A user's mistake gets one clear sentence: never a traceback, always exit code 2."""

import sys


class UserError(Exception):
    """Something that the person at the keyboard can mend; the message says what, and how.

    Uncaught in a script it prints its message on stderr and exits with `exit_code`; in a notebook IPython shows the
    message alone, without the stack.
    """

    exit_code = 2

    def _render_traceback_(self) -> list[str]:
        """IPython's hook for an exception that draws itself (`IPython.core.interactiveshell`)."""
        return [f"{type(self).__name__}: {self}"]


class Interrupted(UserError):
    """Ctrl-C: not a mistake, but the one sentence that follows it says how to go on."""

    exit_code = 130  # 128 + SIGINT, as shells expect


def _print_sentence(kind, error, traceback):
    if issubclass(kind, UserError):
        sys.stdout.flush()
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)  # an exit raised in the hook becomes the exit code of the process
    if issubclass(kind, KeyboardInterrupt):
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)  # 128 + SIGINT, as shells expect
    sys.__excepthook__(kind, error, traceback)


sys.excepthook = _print_sentence
