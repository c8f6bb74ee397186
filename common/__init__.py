"""What the lessons share, in nine rooms.

A student reads `training/loops.py` first, then `data/loaders.py`, then the network of a lesson in `models/`. Below, the
rooms stand in the order of their imports: none imports one that comes after it.

- `system`: files written whole or not at all, locks, and mistakes told in one sentence. For the curious.
- `recipe`: what a run depends on, and the command line that changes it. Everybody.
- `data`: the digits, and the batches that a network trains on. Everybody reads `data/loaders.py`.
- `cpu_kernels`: faster layers for narrow networks on a CPU. Nobody needs them before the lesson on speed, S9 step 1.
- `models`: the networks, a module for each session, and tables that take them apart. Everybody.
- `training`: the loop, and what makes it fast and resumable. Everybody: `training/loops.py` takes five minutes.
- `records`: what was measured, kept as JSON, and the statistics of it. Whoever doubts a number.
- `lesson`: figures, exercises, the notebooks and their scripts. Whoever writes a lesson.
- `experiments`: studies over seeds, benchmarks, the race to 99.40 %. Whoever measures again.
"""

import atexit
import gc

atexit.register(gc.freeze)  # or Python, as it ends, would search all of PyTorch's objects for garbage: a quarter second
