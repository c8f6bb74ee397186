"""How `pytest --nbval` runs the notebooks: quick on the built-in digits, or with `--full` on MNIST."""

import os
import re
import signal
from queue import Empty
from unittest import mock

import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

from common.system.environment import absolute_folders, kernel_environment

DEAD_WIDGET = "application/vnd.jupyter.widget-view+json"  # a progress bar whose run has ended
LOOK_AFTER = 2.0  # seconds between two looks at whether a silent kernel still lives
LONGEST = (  # what takes longest, from the longest; the notebooks follow, and then all that takes seconds
    *("training/test_distributed.py", "experiments/test_cluster.py"),
    *("cpu_kernels/test_chwn.py", "training/test_loops.py", "lesson/test_nbval.py", "faults/test_killed.py"),
    *("records/test_recorded.py", "faults/test_disk_and_signals.py", "cpu_kernels/test_bn_activation.py"),
    *("cpu_kernels/test_batchnorm.py", "site/test_site.py", "training/test_acceleration.py", "test_course.py"),
    *("experiments/test_bench.py", "site/test_draw.py", "lesson/test_pad.py", "lesson/test_experiment.py"),
    *("faults/test_hostile_input.py", "experiments/test_read.py", "data/test_photos.py", "lesson/test_pairs.py"),
)


def pytest_addoption(parser):
    """Add `--full` and `--faults-full`."""
    parser.addoption("--full", action="store_true", help="run the notebooks in full on MNIST (takes long)")
    parser.addoption("--faults-full", action="store_true", help="inject the faults in full (takes about half an hour)")


def pytest_configure(config):
    """Give nbval its file of regexes, and a wait that notices a dead kernel."""
    # An absolute path: the one in a setting would depend on the folder that pytest is started from.
    config.option.nbval_sanitize_with = config.option.nbval_sanitize_with or str(config.rootpath / "nbval.ini")
    RunningKernel.await_reply = _await_reply
    config.option.loadscopereorder = False  # xdist would begin with the files of most tests, not of the longest
    if not config.getoption("numprocesses", None):  # a process that runs tests itself, and not xdist's first one
        os.environ.update(absolute_folders())  # tests start processes in other folders
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # inherited from a shell's background job, and handed on to
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the processes that tests mean to interrupt
    if config.getoption("--full") and config.option.nbval:
        _notebooks().get_mnist()


def _notebooks():
    """The module, imported where it is needed: it takes seconds, for which xdist's other processes would wait."""
    from common.lesson import notebooks

    return notebooks


def pytest_collectstart(collector):
    """Have nbval count PNG figures too; nbval.ini keeps their pixels out of the comparison."""
    if isinstance(collector, IPyNbFile):
        collector.skip_compare = tuple(key for key in collector.skip_compare if key != "image/png")


def pytest_ignore_collect(collection_path, config):
    """Leave out a student's own notebooks beside the lessons, unless the command line names them."""
    sessions = config.rootpath / "sessions"
    if collection_path.suffix != ".ipynb" or sessions not in collection_path.parents:
        return None  # as pytest decides
    named = {(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args}
    listed = {path.with_suffix(".ipynb") for path in _notebooks().lessons(sessions).values()}
    return None if collection_path in named | listed else True


def pytest_itemcollected(item):
    """Run a student's own cells and compare nothing of them; overlook the progress bars that JupyterLab stores."""
    if not isinstance(item, IPyNbCell):
        return
    if "measured" in item.cell.metadata.get("tags", []):
        sanitize = item.sanitize
        item.sanitize = lambda text: without_numbers(sanitize(text))
    item.cell.outputs = [output for output in item.cell.outputs if DEAD_WIDGET not in output.get("data", {})]
    if "course" in item.parent.nb.metadata and _notebooks().is_own(item.cell, item.parent.nb):
        item.options["check"] = False
        item.add_marker(pytest.mark.xfail(reason="a student's own cell, which may do what it likes"))


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest: then two processes end at about the same time."""
    ranks = {f"tests/{name}": rank for rank, name in enumerate(LONGEST)}

    def rank(item):
        return ranks.get(item.nodeid.partition("::")[0], len(ranks) + (not isinstance(item, IPyNbCell)))

    items.sort(key=rank)


def without_numbers(text: str) -> str:
    """The words of an output, with # for every number: what a cell with the tag "measured" is compared by.

    A number that is nan or inf is a word, and so is what stands where a number should be.
    """
    text = re.sub(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", "#", text)
    return re.sub(r" +", " ", text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """Show the course's variables to the notebooks' kernels, which start here, and not to the other tests.

    The slowest cases are left to `--faults-full`.
    """
    if item.get_closest_marker("in_full") and not item.config.getoption("--faults-full"):
        pytest.skip("needs --faults-full")
    if not isinstance(item, IPyNbCell):
        return (yield)
    environment = kernel_environment("full" if item.config.getoption("--full") else "quick")
    with mock.patch.dict(os.environ, environment, clear=True):
        return (yield)


_wait_for_reply = RunningKernel.await_reply


def _await_reply(kernel, msg_id, timeout):
    """nbval's own wait, in short turns: it ends soon when the kernel has died, not after the cell's timeout."""
    left = timeout
    while True:
        turn = min(left, LOOK_AFTER)
        try:
            return _wait_for_reply(kernel, msg_id, timeout=turn)
        except Empty:
            if not kernel.is_alive():
                raise RuntimeError("The kernel died") from None
            left -= turn
            if left <= 0:
                raise
