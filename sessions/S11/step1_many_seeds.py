# %% [markdown]
# # S11 step 1: Share a thousand seeds out over a hundred machines
#
# Ten seeds of eleven rungs kept two cores busy for a night. A university has a cluster, a lab has a few machines. What
# do they gain? Seeds never talk to each other, so they are the easiest work to share out. Here you find out what still
# goes wrong with it.
#
# **What you'll do**
#
# 1. Write the least time that so many runs can take on so many machines.
# 2. Share the runs out in two ways, and put one slow machine among the others.
# 3. Take machines away in the middle of a run, and see what a checkpoint is worth.
# 4. Ask what a thousand seeds buy.
#
# **What you'll learn**: makespan, a queue of work, stragglers, preemption, and where more seeds stop helping.
#
# **What you'll need**: [how sure a number is](../S6/part2_step3_how_sure.ipynb), and about 25 minutes. The computer
# needs half a minute.
#
# *Before this*: [S10 step 2](../S10/step2_other_writers.ipynb), other writers. *After this*:
# [step 2](step2_data_parallel.ipynb), one network on several processes. The
# [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository; the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | 1,000 seeds on 100 equal machines, by a queue | within 20 % of the least time | what is lost at the end of the queue |
# | the same with ten slow machines among them | within 20 % again | a real cluster has old machines |
# | each machine taken away once in four hours | at most 5 % more time, with checkpoints | rented machines are cheap because they are taken away |

# %%
TRAIN = "recorded"  # nothing is trained: "full" does the same, "quick" makes the experiment smaller
try:
    from common.recipe import Recipe, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(step="S11/step1_many_seeds", epochs=1, batch_size=64, lr=0.1)
recipe, options = command_line(recipe, TRAIN)

# %%
import heapq  # noqa: F401 - for what you write
import math
import statistics
import subprocess
import sys
import time

import numpy
from scipy import stats

from common import records
from common.lesson import Exercises, plots

exercises = Exercises(recipe.step)
record = records.load("S8/under_20k")
runs = records.runs(record)
recorded = [run["seconds"] for run in runs]
print("Seconds of the ten recorded runs of S8's network under 20,000 parameters, each by one thread:")
print(" ".join(f"{seconds:,.0f}" for seconds in recorded))
print(f"mean {statistics.fmean(recorded):,.0f} seconds, longest {max(recorded):,.0f}")

# %% [markdown]
# ## The least time
#
# A thousand runs like these shall be done. We draw their times from the ten recorded ones.
#
# **Yours: the least time** (easy, 5 minutes). `machines` machines work side by side, each on one run at a time. No plan
# can be done sooner than a certain time. Two things forbid it: the work has to be done, and a run can't be split. Return
# that time in seconds.


# %%
def least_seconds(seconds: list[float], machines: int) -> float | None:
    # Your line here. Then return your result instead of None.
    return None


least_seconds = exercises.check(least_seconds, ([3, 3, 3, 3], 2), ([1, 1, 8], 2), ([5, 4, 3, 2, 1], 10))

# %% [markdown]
# <details><summary>Hint</summary>
#
# The larger of two numbers: all the work divided by the machines, and the longest run.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def least_seconds(seconds, machines):
#     return max(sum(seconds) / machines, max(seconds))
# ```
#
# </details>

# %%
random = numpy.random.RandomState(1)
thousand = [float(seconds) for seconds in random.choice(recorded, 1_000)]
print(f"{'machines':>9}{'least hours':>13}")
for machines in (1, 10, 100, 1_000, 10_000):
    print(f"{machines:>9,}{least_seconds(thousand, machines) / 3600:>13.2f}")
print(f"longest run: {max(thousand) / 3600:.2f} hours")

# %% [markdown]
# Sixteen days become four hours with 100 machines. From 1,000 machines on, nothing is gained: each has one run, and all wait
# for the longest.
#
# ## Shares or a queue
#
# The time until the last run is done is called the **makespan**. There are two simple ways to share the runs out:
#
# - **Fixed shares**: each of 100 machines gets ten runs at the start.
# - **A queue**: whoever is free takes the next run.
#
# **Yours: the queue** (medium, 10 minutes). `slowness` has a number for each machine: 1 for a usual one, 2 for one that
# takes twice as long. Runs are taken in their order. Return for each run a triple: the machine, when it began, and when
# it was done. If several are free, the one with the lowest number takes the run.


# %%
def by_queue(seconds: list[float], slowness: list[float]) -> list[tuple[int, float, float]] | None:
    # Your lines here. Then return your result instead of None.
    return None


by_queue = exercises.check(by_queue, ([3, 3, 3], [1, 1]), ([2, 2, 2, 2, 2], [1, 4]), ([5, 1, 1, 1], [1, 1]))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Keep a heap of pairs (when it is free, machine). `heapq.heappop` gives the pair that comes first. Put the machine back
# with its new time by `heapq.heappush`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def by_queue(seconds, slowness):
#     free = [(0.0, machine) for machine in range(len(slowness))]
#     done = []
#     for one in seconds:
#         begin, machine = heapq.heappop(free)
#         end = begin + one * slowness[machine]
#         done.append((machine, begin, end))
#         heapq.heappush(free, (end, machine))
#     return done
# ```
#
# </details>


# %%
def by_shares(seconds: list[float], slowness: list[float]) -> list[tuple[int, float, float]]:
    """The runs dealt out like cards before anything begins, in the form of `by_queue`."""
    free, done = [0.0] * len(slowness), []
    for number, one in enumerate(seconds):
        machine = number % len(slowness)
        begin, free[machine] = free[machine], free[machine] + one * slowness[machine]
        done.append((machine, begin, free[machine]))
    return done


def makespan(plan: list[tuple[int, float, float]]) -> float:
    return max(end for _, _, end in plan)


# %% [markdown]
# A machine that takes much longer than the others is called a **straggler**.
#
# **Predict first.** Ten of the 100 machines are old and need twice as long for a run. How much longer does the whole take,
# by fixed shares and by the queue?
#
# <details><summary>Answer</summary>
#
# By fixed shares twice as long: the old machines have as many runs as the others, and everybody waits for them. By the
# queue hardly longer: they take fewer runs.
#
# </details>

# %%
usual, mixed = [1.0] * 100, [1.0] * 90 + [2.0] * 10
power = {"100 equal machines": (usual, 100), "ten of them twice as slow": (mixed, 90 + 10 / 2)}
print(f"{'hours until the last of 1,000 runs is done':<44}{'least':>8}{'shares':>9}{'queue':>8}")
for name, (slowness, machines) in power.items():
    times = [least_seconds(thousand, machines)] + [makespan(way(thousand, slowness)) for way in (by_shares, by_queue)]
    print(f"{name:<44}{times[0] / 3600:>8.2f}{times[1] / 3600:>9.2f}{times[2] / 3600:>8.2f}")
    print(f"{'':<44}{'':>8}{times[1] / times[0] - 1:>+9.0%}{times[2] / times[0] - 1:>+8.0%}")

# %%
few, slow_one = thousand[:24], [1.0, 1.0, 1.0, 2.0]
plans = {"fixed shares": by_shares(few, slow_one), "a queue": by_queue(few, slow_one)}
plots.show(plots.schedules(plans, "minutes", 60), options.out, "schedules")

# %% [markdown]
# Above are 24 runs on four machines, the last of which is slow. With shares three machines stand idle half of the time.
#
# With equal machines the shares do as well as the queue: all have ten runs of nearly the same length. The queue loses
# its time at the end, where some machines have nothing left to take. Shorter runs would lose less.
#
# ### Try it on your own machine
#
# **Predict first.** A stand-in for a seed is a sum over many numbers. It needs one core. We do four of them: one after the
# other, two at once, and four at once. How many times faster than one after the other is each? Write your guess for
# "four at once" into `prediction`, and run the cell.
#
# <details><summary>Answer</summary>
#
# About as many times as your machine has cores, and never more than four.
#
# </details>

# %% tags=["experiment", "measured"]
prediction = None  # your guess for four at once, such as 3.0
work = "sum(range(3_000_000))" if options.quick else "sum(range(60_000_000))"
taken = {}
for at_once in (1, 2, 4):
    started = time.perf_counter()
    for _ in range(4 // at_once):
        some = [subprocess.Popen([sys.executable, "-c", work]) for _ in range(at_once)]
        for process in some:
            process.wait()
    taken[at_once] = time.perf_counter() - started
    print(f"{at_once} at once: {taken[at_once]:.1f} seconds, {taken[1] / taken[at_once]:.1f} times as fast")
if prediction is not None:
    print(f"You predicted {prediction:.1f} for four at once.")

# %% [markdown]
# ## Machines that are taken away
#
# A cluster takes a machine away when a more important job comes. This is called **preemption**. Rented machines of the
# cheapest kind go the same way. Suppose that a machine is taken away at random, on average once in four hours, and that
# the run starts anew at once on another one.
#
# A run of T seconds shall be taken away at the rate r, so r is one divided by four hours. If each time all is lost, the
# run needs (exp(r T) - 1) / r seconds on average ([Young 1974](https://doi.org/10.1145/361147.361115) has such sums, and asks how often to save). For
# a short run that is about T. For a long one it grows without end.
#
# **Yours: what a checkpoint is worth** (medium, 10 minutes). A run consists of `pieces` equal pieces, and after each a
# checkpoint is written. Only the piece that is under way is lost. Return the mean seconds of the whole run. `seconds` is T.


# %%
def with_checkpoints(seconds: float, pieces: int, rate: float) -> float | None:
    # Your line here. Then return your result instead of None.
    return None


with_checkpoints = exercises.check(with_checkpoints, (1_000, 1, 1e-3), (1_000, 10, 1e-3), (50_000, 25, 1e-4))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Each piece is a little run by itself. `math.expm1(x)` is exp(x) - 1.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def with_checkpoints(seconds, pieces, rate):
#     return pieces * math.expm1(rate * seconds / pieces) / rate
# ```
#
# </details>
#
# We check the formula by a simulation of 20,000 runs before we believe it.


# %%
def simulated(seconds: float, pieces: int, rate: float, times: int = 20_000) -> float:
    """The mean seconds of a run whose machine goes away at random."""
    random, total = numpy.random.RandomState(2), 0.0
    for _ in range(pieces):
        left = numpy.arange(times)
        while len(left):  # those that have not got through this piece
            until = random.exponential(1 / rate, len(left))
            total += numpy.minimum(until, seconds / pieces).sum()
            left = left[until < seconds / pieces]
    return total / times


rate, mean = 1 / (4 * 3600), statistics.fmean(recorded)
print(f"{'times as long as undisturbed':<46}{'formula':>8}{'simulated':>12}")
for name, factor in {"our run": 1, "ten times as long": 10, "thirty times as long": 30}.items():
    for pieces in (1, 19 * factor):
        said = "no checkpoint" if pieces == 1 else "a checkpoint each epoch"
        one, other = (way(factor * mean, pieces, rate) / (factor * mean) for way in (with_checkpoints, simulated))
        print(f"{name + ', ' + said:<46}{one:>8.3f}{other:>12.3f}")

# %% [markdown]
# Our run is short, and loses little. The run that is thirty times as long needs nearly six times its time without a
# checkpoint. With one after each epoch it hardly notices.
#
# The course saves after each epoch, and goes on so exactly that the weights are the same to the bit. So this is all that
# a study on a cluster needs: a queue, and checkpoints. This command has both:
#
# ```
# python3 course.py study S8/step8_frontier --seeds 100 --on slurm
# ```
#
# [Slurm](https://slurm.schedmd.com) is the program that shares out most universities' machines. The [page on
# clusters](../../docs/cluster.md) has the rest.
#
# ## What a thousand seeds buy
#
# **Predict first.** Ten seeds gave the mean below. How many times narrower does its interval become with 1,000 seeds?
#
# <details><summary>Answer</summary>
#
# The standard error falls with the root of the number, so ten times; a little more, since ten seeds also need a larger t.
#
# </details>

# %%
accuracies = [records.accuracy(run) for run in runs]
deviation = statistics.stdev(accuracies)
print(f"mean {statistics.fmean(accuracies):.3f} %, standard deviation over seeds {deviation:.3f} points")
for seeds in (10, 100, 1_000):
    half = stats.t.ppf(0.975, seeds - 1) * deviation / math.sqrt(seeds)
    hours = seeds * mean / 3600
    print(f"{seeds:>6,} seeds: 95 % interval of the mean +- {half:.3f} points, {hours:>6.1f} hours of one core")
share = statistics.fmean(accuracies) / 100
images = 1.96 * 100 * math.sqrt(share * (1 - share) / 10_000)
print(f"other 10,000 test images: +- {images:.2f} points, whatever the number of seeds")

# %% [markdown]
# The mean *on these 10,000 images* can be known as exactly as one likes. But nobody wants to read just these. For digits in
# general the last line stays, and no seed makes it smaller. More seeds pay for comparisons, where both sides read the
# same images. ([S8 step 6](../S8/step6_which_change.ipynb) has what these need.)

# %% [markdown]
# ## Result

# %%
queue = [makespan(by_queue(thousand, slowness)) / least_seconds(thousand, n) - 1 for slowness, n in power.values()]
lost = with_checkpoints(mean, 19, 1 / (4 * 3600)) / mean - 1
for text, value, bar in (
    ("100 equal machines, a queue", queue[0], 0.20),
    ("ten of them slow, a queue", queue[1], 0.20),
    ("machines taken away, with checkpoints", lost, 0.05),
):
    print(f"{text:<40} at most +{bar:.0%}: {value:+.1%}, {'met' if value <= bar else 'missed'}")

# %% [markdown]
# ## Analysis
#
# - **Seeds scale as well as anything can.** A hundred machines do them a hundred times faster, but for the end of the queue.
# - **A queue needs no plan.** It doesn't have to know which machine is slow. Fixed shares do.
# - **The end is where time is lost.** When the queue is empty, machines wait for the last runs. So long runs go first, or
#   many runs per machine make the end a small part.
# - **What the simulation leaves out.** The ten times come from one machine. All seeds read the same files at the same moment.
#   People wait in Slurm's own queue, often for longer than the work takes.
# - **Another kind of processor rounds otherwise.** Its seeds are no worse, but they aren't the same to the bit. The record
#   names each run's machine.

# %% [markdown]
# ## Quiz
#
# **Question 1.** 100 runs of an hour, 60 machines, a queue. When is the last one done?
#
# - **a** after 1 hour and 40 minutes
# - **b** after 2 hours
# - **c** after 3 hours
#
# <details><summary>Answer</summary>
#
# **b**. In the first hour 60 runs are done, and 40 are left: one more hour, in which 20 machines stand idle. The least
# time by work alone is 100 / 60 hours, but a run can't be split.
#
# </details>
#
# **Question 2.** A run of 20 epochs is taken away once, in its last epoch. With a checkpoint after each epoch it loses
#
# - **a** all 20 epochs
# - **b** at most one epoch
# - **c** nothing at all
#
# <details><summary>Answer</summary>
#
# **b**. It goes on with the last epoch's beginning.
#
# </details>
#
# **Question 3.** Over ten seeds each, one network misreads three images of 10,000 fewer than another. You run 1,000 seeds
# of each, and the difference stays. What do you know?
#
# - **a** The first reads digits in general better.
# - **b** The first reads these 10,000 images better, on average over seeds.
# - **c** Nothing more than before.
#
# <details><summary>Answer</summary>
#
# **b**. Three images of 10,000 may just be three odd images.
#
# </details>

# %% [markdown]
# **Next**: a seed is as small as a piece of this work gets. Or is it? [Step 2](step2_data_parallel.ipynb) splits a single
# step of a single network.
