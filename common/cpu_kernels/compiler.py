"""How the loops are compiled: for this processor, on as many threads as PyTorch uses, and kept on the disk.

Importing this module sets numba up for the whole process. It raises UserError where numba cannot compile or has no
threads to run on, and ImportError where numba is missing.
"""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

import numba
import torch
from llvmlite import binding

from common.system.errors import UserError

HERE = Path(__file__).parent

# Sums may be computed in lanes, and a product and a sum in one instruction; unlike fastmath=True, NaN stays NaN.
OPTIONS = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}

# LLVM avoids AVX-512's widest vectors, since early processors slowed down for them; here they are up to twice as fast.
if not numba.config.CPU_FEATURES:  # NUMBA_CPU_FEATURES would set them
    numba.config.CPU_NAME = binding.get_host_cpu_name()
    numba.config.CPU_FEATURES = binding.get_host_cpu_features().flatten() + ",-prefer-256-bit"
CPU_FEATURES = numba.config.CPU_FEATURES


def compiled(function, parallel: bool = False):
    """A decorator: have numba compile a loop that one thread runs."""
    cache_dir, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(CACHE or "")
    try:
        return numba.njit(parallel=parallel, cache=CACHE is not None, **OPTIONS)(function)
    except RuntimeError:  # numba found no place for it after all: every process compiles it anew
        return numba.njit(parallel=parallel, **OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = cache_dir  # a student's own functions are kept where numba keeps them


def compiled_parallel(function):
    """A decorator: have numba compile a loop whose `prange` is shared out between threads."""
    return compiled(function, parallel=True)


def follow_torch_threads() -> None:
    """Have the loops use as many threads as PyTorch does now; numba has at most one for each core."""
    wanted = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    if numba.get_num_threads() != wanted:
        numba.set_num_threads(wanted)


def is_forked() -> bool:
    """Whether this process is a fork of the one that set the threads up. GNU's OpenMP ends a fork that runs a loop."""
    return os.getpid() != _PROCESS


def _launch_threads() -> None:
    """Start numba's threads, and leave PyTorch the number that it had.

    The two share one OpenMP library. When numba starts its threads it sets the library's number to that of the cores
    (`omp_set_num_threads` in numba's omppool.cpp), and PyTorch reads it there: a run that asked for one thread got two.
    """
    asked = torch.get_num_threads()
    try:
        follow_torch_threads()
    except ValueError as error:  # numba's message goes on for lines
        raise UserError(
            f"numba has no threads to run the CPU loops on: NUMBA_THREADING_LAYER is {numba.config.THREADING_LAYER!r}, "
            "which is not installed here. Unset it, or use omp."
        ) from error
    torch.set_num_threads(asked)


def _cache_folder() -> Path | None:
    """The folder for what numba compiles, made if need be; None where none can be written.

    numba looks only at the file that a loop is written in, and would keep machine code whose inner loops, in another
    file, have changed. So the folder is named after all of this room's source, and after the processor. It lies beside
    the source, else in the user's cache; NUMBA_CACHE_DIR is used if it is set.
    """
    source = hashlib.sha256()
    for path in sorted(HERE.glob("*.py")):
        source.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    target = f"{numba.__version__} {numba.config.CPU_NAME} {CPU_FEATURES}"
    name = f"{source.hexdigest()[:16]}-{hashlib.sha256(target.encode()).hexdigest()[:16]}"
    mine = f"cpu_kernels-{hashlib.sha256(str(HERE).encode()).hexdigest()[:16]}"  # of this copy of the course
    users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    for base in [Path(numba.config.CACHE_DIR)] if numba.config.CACHE_DIR else [HERE / "__pycache__", users]:
        folder = base / mine / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            _clear_old(folder)
            return folder
    return None


def _clear_old(folder: Path) -> None:
    """Delete the folders beside it that an earlier source has left; those for other processors may share a disk."""
    for other in folder.parent.iterdir():
        if other.name.split("-")[0] != folder.name.split("-")[0]:
            shutil.rmtree(other, ignore_errors=True)
    for file in (HERE / "__pycache__").glob("*.nb[ic]"):  # from when numba named the folder
        with contextlib.suppress(OSError):
            file.unlink()


if numba.config.DISABLE_JIT:
    raise UserError("NUMBA_DISABLE_JIT keeps numba from compiling the CPU loops. Unset it to have them.")
_launch_threads()
_PROCESS = os.getpid()
CACHE = _cache_folder()
