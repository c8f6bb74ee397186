"""One of several processes that train one network together: which one this is, and what it may say and write.

torchrun starts the same script in each process and says so in variables: WORLD_SIZE is how many there are, RANK which
one this is, LOCAL_RANK which one on this machine. All do what the script does. Only the first one, of rank 0, is heard
and leaves files: the others print nowhere and have a folder of their own, which is removed when they end.
"""

import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

ENDED = (
    "A process of this training was ended, and all others with it; "
    "the same command with --resume goes on after the last whole epoch."
)
GRACE = 5  # seconds that the first process has to tell of a Ctrl-C
TELLING = threading.Lock()
INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT, 128 + SIGTERM, as shells expect
interrupted = threading.Event()  # by Ctrl-C, in all but the first process


def count() -> int:
    """How many processes train together; 1 for a process that torchrun did not start."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def local_rank() -> int:
    """The number of this process among those on this machine, from 0."""
    return int(os.environ["LOCAL_RANK"]) if count() > 1 else 0


def local_count() -> int:
    """How many of the processes are on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if count() > 1 else 1


def own_folder(folder: Path) -> Path:
    """Where this process leaves what belongs into `folder`: there, or for all but the first in a place of its own."""
    return folder if rank() == 0 else _torchruns_folder() / f"rank-{rank()}" / folder.name


def begin() -> None:
    """Called once, before a script does anything: silence all but the first process, and end well when told to.

    A process that waits for the others in a collective hears no signal before they answer, so a thread listens to
    signals. It also ends this process when torchrun itself is gone.
    """
    if count() == 1 or threading.current_thread() is not threading.main_thread():
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings come once from each process
    if rank() > 0:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for good
        os.environ["TQDM_DISABLE"] = "1"
        atexit.register(_remove_own_folder)
    if os.name == "nt":
        return
    signals, theirs = os.pipe()
    os.set_blocking(theirs, False)
    signal.set_wakeup_fd(theirs)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, _interrupt_once if rank() == 0 else lambda *_: None)
    threading.Thread(target=_listen, args=[signals, os.getppid()], daemon=True).start()


def tell(sentence: str) -> None:
    """Write why this process ends to standard error, unless another one on this machine has told it already."""
    with TELLING:
        if _has_the_word():
            print(sentence, file=sys.stderr, flush=True)


def launch(processes: int) -> None:
    """Run this script in so many processes, as `torchrun --standalone` does, and exit as they do, without its report.

    torchrun tells of a failed process in some forty lines; the process itself has told it in one sentence.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # for all who start with torch imported already
    logging.disable()  # the launcher's own words
    with tempfile.TemporaryDirectory(prefix="course_") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="course",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)(*sys.argv)
            code = 0
        except ChildFailedError as error:
            code = error.get_first_failure()[1].exitcode
        except SignalException as error:
            code = -int(error.sigval)
    sys.exit(code if code >= 0 else 128 - code)


def _torchruns_folder() -> Path:
    """A temporary folder that torchrun makes for a run, and which all its processes on this machine know."""
    return Path(os.environ["TORCHELASTIC_ERROR_FILE"]).parents[1]


def _has_the_word() -> bool:
    if count() == 1:
        return True
    if interrupted.is_set():  # the first process tells of it, and how far the training has come
        return False
    try:
        os.close(os.open(_torchruns_folder() / "told", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    except OSError:  # rather twice than not at all
        pass
    return True


def _remove_own_folder() -> None:
    shutil.rmtree(_torchruns_folder() / f"rank-{rank()}", ignore_errors=True)


def _interrupt_once(_number, _frame) -> None:
    """Ctrl-C comes twice: from the terminal, and from torchrun, which hands it on."""
    signal.signal(signal.SIGINT, lambda *_: None)
    raise KeyboardInterrupt


def _listen(signals: int, torchrun: int) -> None:
    """End this process at SIGTERM, and when torchrun has ended; at Ctrl-C let the first process be the first to end."""
    import select

    while os.getppid() == torchrun:
        if not select.select([signals], [], [], 1)[0]:
            continue
        numbers = os.read(signals, 64)
        if signal.SIGTERM in numbers:
            break
        if signal.SIGINT in numbers and rank() > 0 and not interrupted.is_set():
            interrupted.set()
            _end_later()
    tell(ENDED)
    _end(TERMINATED)


def _end(code: int) -> None:
    """At once, whatever the main thread waits for; what is half written is as after kill -9: nowhere."""
    with TELLING:
        if rank() > 0:
            _remove_own_folder()
        os._exit(code)


def _end_later() -> None:
    timer = threading.Timer(GRACE, _end, [INTERRUPTED])
    timer.daemon = True  # else Python would wait for it when the script has ended
    timer.start()
