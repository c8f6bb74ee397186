"""Run a script that ends when its starter ends: `python -m common.system.child SCRIPT ...`.

The starter gives the script a pipe as its standard input and keeps the other end. The system closes that end when the
starter has ended, also after kill -9. So no run goes on unseen in a folder where the next one wants to begin.
"""

import os
import runpy
import sys
import threading


def end_with_starter() -> None:
    """Wait, in a thread beside the script, until the other end of standard input is closed; then end at once."""
    while sys.stdin.buffer.raw.read(1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_starter, daemon=True).start()
    del sys.argv[0]
    sys.path[0] = os.path.dirname(sys.argv[0])  # noqa: PTH120 - as Python itself has it for a script
    runpy.run_path(sys.argv[0], run_name="__main__")
