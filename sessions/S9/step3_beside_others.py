# %% [markdown]
# # S9 step 3: Train beside other programs, over more images, and on a GPU
#
# All times so far were of a quiet machine with two cores. Yours has a browser, a call, a second notebook. Perhaps it
# has a GPU. This page asks what becomes of a fast loop there, and finds the same two costs again: waiting and asking.
#
# **What you'll do**
#
# 1. Let two threads wait for each other beside a busy program.
# 2. Write the rule by which the course takes its threads.
# 3. See whether time grows with the images, and memory with the epochs.
# 4. Compute when a GPU is done, and why it mostly waits.
#
# **What you'll learn**: to spin, linear growth, kernels of a GPU, CUDA graphs.
#
# **What you'll need**: [step 1](step1_speed.ipynb), [step 2](step2_loops.ipynb), and 25 minutes. The computer needs
# less than a minute, and no GPU. With `TRAIN = "full"` it measures for two minutes.
#
# *Before this*: [step 2](step2_loops.ipynb), loops. *After this*: [step 4](step4_time_to_accuracy.ipynb), how soon it
# is good enough. The [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository; the [notes on
# it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | two trainings at once on 2 cores | each takes at most twice as long as alone | each has half of the machine |
# | seconds for 60,000 images, from a sixth of them and from all | within a fifth of each other | else a time says nothing about another length |
# | peak memory after the fourth epoch | at most 2 % above that after the first | a long run must not end in a full memory |
# | an epoch of S7 block 3 on a GPU | at least 3 times faster than the sources' loop there | the same as on a CPU |

# %%
TRAIN = "recorded"  # shows times that were measured before; "full" measures on your machine, "quick" only goes through
try:
    from common.recipe import Augmentation, Recipe, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S9/step3_beside_others",
    network="S7/block3",
    epochs=1,
    batch_size=64,
    lr=0.02,
    momentum=0.8,
    augmentation=Augmentation(rotation=5, crop_probability=0.1),
)
recipe, options = command_line(recipe, TRAIN)

# %%
import math  # noqa: F401 - for your function
import subprocess
import sys
import time

import torch
from torch import nn

from common.experiments import bench, beside, course_time, parts, roofline
from common.lesson import Exercises, plots

exercises = Exercises(recipe.step)
if options.recorded:
    measured = bench.load(parts.RECORDED)
else:
    measured = beside.machine() | {"growth": parts.growth(options.quick), "megabytes": parts.megabytes(options.quick)}
print(bench.machine_line(measured))

# %% [markdown]
# ## How threads wait
#
# Two threads share a loop of ours, half of the lines each. Whoever is done first waits for the other. OpenMP's threads
# **spin** to wait: they ask again and again whether the other is done. That wakes faster than sleep.
#
# Now another program takes one of the two cores. The thread there has to stop in the middle of its half. The other
# thread spins, and keeps *its* core from everybody, for nothing.
#
# **Predict first.** A step alone takes one unit of time. Beside one busy program, two threads have one core and a half
# between them. How long does the step take: a little more, twice as long, or many times as long?
#
# <details><summary>Answer</summary>
#
# Often many times as long. Whenever a thread loses its core, all wait until it gets it back, and the system gives cores
# in slices that are longer than a whole step. And a step has some fifty such meetings.
#
# </details>
#
# What can be done? The settings `OMP_WAIT_POLICY=PASSIVE` and `GOMP_SPINCOUNT` have threads sleep sooner. Both help
# beside others, and slow down a training that is alone. The course does something else: about twice a second it asks
# the system how busy the cores are with other work, and takes as many threads as cores are idle.
#
# **Yours: how many threads** (easy, 5 minutes). Others keep `busy` cores of `cores` busy, such as 0.9 of 2. Return the
# number of idle cores, rounded down, but at least 1. Programs that need less than 0.3 of a core take no thread away: so
# add 0.3 before you round.


# %%
def threads_for(cores: int, busy: float) -> int | None:
    # Your line here. Then return your result instead of None.
    return None


threads_for = exercises.check(threads_for, (2, 0.1), (2, 0.95), (2, 2.4), (8, 1.5), (8, 0.25))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `math.floor` rounds down. `max(1, ...)` gives at least 1.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def threads_for(cores, busy):
#     return max(1, math.floor(cores - busy + 0.3))
# ```
#
# </details>
#
# **Experiment.** A block of layers is computed forward and backward, by all threads alone, then beside one busy
# program, then by as many threads as your rule says. How many times as long does the second take as the first? (Close
# what else computes.)

# %% tags=["experiment", "measured"]
prediction = None  # how many times as long, such as 1.5
block = nn.Sequential(nn.Conv2d(8, 10, 3), nn.ReLU(), nn.Conv2d(10, 16, 3), nn.ReLU())
maps, threads = torch.randn(64, 8, 26, 26), torch.get_num_threads()


def milliseconds(threads: int) -> float:
    """Of a pass over the batch, as a mean over a second or two."""
    torch.set_num_threads(threads)
    block(maps).mean().backward()
    passes, started = 0, time.perf_counter()
    while time.perf_counter() < started + (0.1 if options.quick else 2):
        block(maps).mean().backward()
        passes += 1
    return 1e3 * (time.perf_counter() - started) / passes


alone = milliseconds(threads)
other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
try:
    both, ruled = milliseconds(threads), milliseconds(threads_for(threads, 1.0))
finally:
    other.kill()
    other.wait()
    torch.set_num_threads(threads)
print(f"alone, threads: {threads}, {alone:.1f} ms")
print(f"beside a busy program, threads: {threads}, {both:.1f} ms, {both / alone:.1f} times as long")
print(
    f"beside it, by the rule, threads: {threads_for(threads, 1.0)}, {ruled:.1f} ms, {ruled / alone:.1f} times as long"
)
print("You made no prediction." if prediction is None else f"You predicted {prediction} and found {both / alone:.1f}.")

# %% [markdown]
# How bad it gets depends on the machine, and on how often the threads meet. Here is a whole training, recorded: seconds
# an epoch, and in brackets how many times as long as alone. The last line of each block is what the lessons do.
# (`course.py bench --beside` measures it.)

# %%
shared = bench.load(beside.RECORDED)
print(beside.table(shared))

# %% [markdown]
# With spinning threads, two trainings at once took 64.6 times<!--beside S7/block3 two spinning--> as long as one alone,
# each. By the rule it is 1.8 times<!--beside S7/block3 two-->. Beside a busy program one thread is left, which waits
# for nobody: 1.8 times<!--beside S7/block3 busy-->.
#
# Does the result depend on the number of threads? Our loops compute each sum in one thread, in a fixed order. So the
# weights stay the same to the bit, however often the number changes (`tests/training/test_threads.py`).
#
# ## Does it grow as it should?
#
# Time should grow linearly with the images: six times the images, six times the seconds. And memory should not grow
# with the epochs, for a step needs what the one before it gave back.

# %%
growth = {int(images): seconds for images, seconds in measured["growth"].items()}
scaled = [seconds * roofline.IMAGES / images for images, seconds in growth.items()]
for sixths, (images, seconds), all_of_them in zip(parts.SIXTHS, growth.items(), scaled, strict=True):
    told = f"{images:,} images in {seconds:.1f} s, so 60,000 in {all_of_them:.1f} s"
    print(f"{'measured':<11}{f'{sixths}/6 of the images':<38}  {told}")
print(f"{'measured':<11}{'peak memory after each of four epochs':<38}  {parts.told(measured['megabytes'])}")
plots.show(plots.growth(growth), options.out, "growth")

# %% [markdown]
# And what all of it comes to: every lesson trained in full (`course.py bench --course`). S9 is left out, which trains
# nothing, and so are networks that no page trains by itself, such as S8's large one.

# %%
print(course_time.table(bench.load(course_time.RECORDED)))

# %% [markdown]
# ## On a GPU
#
# A GPU turns the question round. It has more arithmetic than this network knows what to do with, and what is slow is
# the asking. Each operation becomes one or more kernels. (A *kernel* of a GPU is a small program, not the kernel of a
# convolution.) The processor asks for one after the other, and goes on without waiting for them. The GPU runs them in
# order.
#
# By hand: to ask for a kernel takes 5 microseconds, and to run one takes 2. The first is done at 7. The second is asked
# for at 10, and done at 12. The GPU has waited 3 microseconds in between.
#
# **Yours: when is the GPU done?** (medium, 10 minutes). `runs` has the microseconds of each kernel. Each takes `ask` to
# ask for, one after the other. A kernel begins when it has been asked for and the one before it is done. Return a list
# with a triple for each: when it was asked for, when it begins, and when it is done.


# %%
def timeline(ask: float, runs: list[float]) -> list[tuple[float, float, float]] | None:
    # Your lines here. Then return your list instead of None.
    return None


timeline = exercises.check(timeline, (5.0, [2.0, 2.0, 2.0]), (1.0, [4.0, 4.0, 1.0]), (5.0, [2.0, 12.0, 2.0, 2.0]))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Keep two moments: when the next kernel will have been asked for, and when the last one is done. A kernel begins at the
# later of the two.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def timeline(ask, runs):
#     kernels, asked, done = [], 0, 0
#     for run in runs:
#         asked += ask
#         begun = max(asked, done)
#         done = begun + run
#         kernels.append((asked, begun, done))
#     return kernels
# ```
#
# </details>
#
# Here are eight kernels of a small network, then the same on a network with 16 times the work, then the small one
# again, where the eight are asked for together.

# %%
small = [2.0, 3.0, 1.0, 2.0, 2.0, 3.0, 1.0, 2.0]
ways = {
    "a small network": timeline(5, small),
    "16 times the work": timeline(5, [16 * run for run in small]),
    "the small one, asked for at once": [(5, 5 + sum(small[:n]), 5 + sum(small[: n + 1])) for n in range(len(small))],
}
for name, kernels in ways.items():
    busy = sum(done - begun for _, begun, done in kernels) / kernels[-1][2]
    print(f"{name:<34}done after {kernels[-1][2]:4.0f} microseconds, the GPU runs {100 * busy:.0f} % of the time")
plots.show(plots.asking({name: ways[name] for name in list(ways)[::2]}), options.out, "asking")

# %% [markdown]
# The third way is a **CUDA graph**. The forward pass, the loss and the backward pass are recorded once, and replayed
# for each batch: hundreds of kernels for one call (`common.training.acceleration.CudaGraphStep`).
#
# The ladder on a GPU, one change after the other:
#
# - *sources*: four worker processes make the images, each batch travels to the GPU, and after each the loss and the
#   number of correct images are read back.
# - *resident*: the whole set lies on the GPU and is augmented there.
# - *unread*: loss and accuracy are read every 50 batches. To read a number, the processor waits until all that it asked
#   for is done, and meanwhile asks for nothing.
# - *default*: the step is replayed as a CUDA graph.
# - *fused*, *bfloat16*, *compiled*: each on top of the default, to see whether it would help.
#
# **Predict first.** Which of them gains most?
#
# <details><summary>Answer</summary>
#
# The graph. What made most of the ladder on a CPU, images in whole batches, is a small gain here.
#
# </details>

# %%
recorded = bench.load(bench.RECORDED_GPU)
print(bench.table(recorded))
for before, now in (("sources", "resident"), ("resident", "unread"), ("unread", "default"), ("default", "bfloat16")):
    ways = [bench.median(recorded["steps"]["S7/block3"]["variants"][name]) for name in (before, now)]
    print(f"S7 block 3, from {before} to {now}: {ways[0] / ways[1]:.1f} times faster")

# %% [markdown]
# These are two repeats, not three, and the sources' loop took between 4.0 and 5.3 seconds. So the ratios to it are
# rough. For S5 it is measured too slow: its workers were still busy with batches of an epoch before. (The benchmark
# waits for them now.) `course.py bench --device cuda` measures it on a GPU of yours.
#
# ## Result

# %%
two = beside.ratio(shared, "S7/block3", "two", follows=True)
on_gpu = bench.figures(recorded, "S7/block3", "default")["ratio"]
print(f"two trainings at once, each at most twice as long: {two:.1f} times, {'met' if two <= 2 else 'missed'}")
print(f"on a GPU, at least 3 times faster: {on_gpu:.1f} times, {'met' if on_gpu >= 3 else 'missed'}")
apart, peaks = max(scaled) / min(scaled), [value or 1 for value in measured["megabytes"]]
for text, value, met in (
    ("60,000 images, within a fifth", f"{apart:.2f} times apart", apart <= 1.2),
    ("memory, at most 2 % more", f"{100 * (peaks[-1] / peaks[0] - 1):.1f} % more", peaks[-1] <= 1.02 * peaks[0]),
):
    outcome = "not compared" if options.quick else "met" if met else "missed"
    print(f"{'measured':<11}{text:<38}  {value}, {outcome}")

# %% [markdown]
# ## Analysis
#
# **Beside others.** What is fastest alone can be the slowest in company. The rule costs little alone and saves a
# training that shares its cores.
#
# **On the GPU.** An epoch of S7 block 3 takes 0.68 seconds<!--bench gpu S7/block3 default seconds--> on an NVIDIA H200,
# where the sources' loop takes 4.6 seconds<!--bench gpu S7/block3 sources seconds-->. Nearly all of that gain is the
# graph's. bfloat16 loses: it adds kernels that convert numbers, and saves arithmetic that was not what took the time.
#
# **How far from the end.** By this GPU's rates the default is at 2 %<!--bench gpu S7/block3 default limit--> of the
# [roofline](step2_loops.ipynb) limit. 64 images of a small network do not keep its many processors busy. The wide
# network of S5 with its large batches reaches 41 %<!--bench gpu S5/step1_first_network default limit-->.
#
# **What the next step asks.** Seconds an epoch are a means. [Step 4](step4_time_to_accuracy.ipynb) asks whether the
# fast way still trains the same network, and how soon it is good enough.

# %% [markdown]
# ## Quiz
#
# **Question 1.** Two trainings with two spinning threads each share two cores. Why is that worse than one after the
# other?
#
# - **a** They do not fit into the memory.
# - **b** A thread that waits keeps its core busy, often while the one it waits for has none.
# - **c** Each computes twice as much.
#
# <details><summary>Answer</summary>
#
# **b.** a: two small networks fit easily. c: the work is the same, the waiting is new.
#
# </details>
#
# **Question 2.** To ask for a kernel takes 5 microseconds. A step has 200 kernels that run 2 microseconds each. What
# makes it much faster?
#
# - **a** A GPU that computes twice as fast.
# - **b** To ask for all of them in one call.
# - **c** Smaller batches.
#
# <details><summary>Answer</summary>
#
# **b.** The step takes a millisecond of asking, and the GPU waits most of it. a shortens what is not waited for. c
# makes more steps, and each is asked for in the same time.
#
# </details>
#
# **Question 3.** A training prints its loss after every batch. On which machine does that cost most?
#
# - **a** On a CPU, for it is slower.
# - **b** On both the same.
# - **c** On a GPU, for the processor must wait until the GPU is done, and asks for nothing meanwhile.
#
# <details><summary>Answer</summary>
#
# **c.** On a CPU the number is there as soon as the step is done.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. Threads that wait spin, and beside another program they hold up everybody.
# 2. The course takes as many threads as cores are idle. Its weights do not depend on it, to the bit.
# 3. Time should grow with the images, and memory not with the epochs: the lines above say how exactly.
# 4. A GPU is done when the last kernel was asked for and has run. For a small network the asking decides, and a CUDA
#    graph asks once.
