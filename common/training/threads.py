"""How many threads to use beside whatever else the machine does.

Threads that share a computation wait for each other at the end of every loop, and OpenMP's wait by spinning: a thread
that another program keeps from its core holds up all others, and they keep that program from theirs. Two trainings
with two threads each on two cores took five times as long as one alone. With as many threads as there are idle cores,
nobody waits.
"""

import functools
import math
import time
from collections.abc import Iterable, Iterator

import psutil
import torch

INTERVAL = 0.4  # seconds between two looks; the system counts in hundredths of a second
SPARE = 0.3  # cores: other programs that need less than this take no thread away


def beside_others(batches: Iterable) -> Iterator:
    """The batches, while PyTorch uses as many threads as cores are idle, and never more than it did at first."""
    asked = torch.get_num_threads()
    if asked == 1:
        yield from batches
        return
    watch = _watch(asked)
    try:
        for batch in batches:
            threads = watch.threads()
            if threads != torch.get_num_threads():
                torch.set_num_threads(threads)
            yield batch
    finally:
        torch.set_num_threads(asked)


class Watch:
    """Counts the cores that other programs leave idle."""

    def __init__(self, most: int):
        """`most` is the largest number of threads wanted."""
        self.most, self.found = most, most
        self.at, self.busy, self.own = time.perf_counter(), _busy_seconds(), time.process_time()

    def threads(self) -> int:
        """As many as there were idle cores lately, at least 1."""
        now = time.perf_counter()
        elapsed = now - self.at
        if elapsed >= INTERVAL:
            busy, own = _busy_seconds(), time.process_time()
            others = (busy - self.busy - (own - self.own)) / elapsed
            if elapsed < 10 * INTERVAL:  # after a pause it says nothing about now
                self.found = min(self.most, max(1, math.floor(cores() - others + SPARE)))
            self.at, self.busy, self.own = now, busy, own
        return self.found


@functools.cache
def _watch(most: int) -> Watch:
    """One for all loops of the process, so that a loop begins with what the one before it found."""
    return Watch(most)


@functools.cache
def _own_cores() -> tuple[int, ...] | None:
    """The numbers of the cores that this process may run on; None where the system has no such limits."""
    process = psutil.Process()
    return tuple(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else None


def cores() -> int:
    """How many cores this process may run on."""
    return len(_own_cores() or ()) or psutil.cpu_count() or 1


def _busy_seconds() -> float:
    """Seconds that this process's cores have worked, for any program, since the machine started."""
    each, total = psutil.cpu_times(percpu=True), 0.0
    for number in _own_cores() or range(len(each)):
        times = each[number]
        total += times.user + times.system + getattr(times, "nice", 0) + getattr(times, "irq", 0)
        total += getattr(times, "softirq", 0)
    return total
