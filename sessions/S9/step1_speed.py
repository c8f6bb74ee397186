# %% [markdown]
# # S9 step 1: Climb from the sources' loop to ours, one timed rung at a time
#
# Every lesson so far trained with a loop that is faster than the one its source used. This page goes the way between
# the two. Each rung of a ladder changes one thing, and is timed. Some rungs carry far. Some, with a good reputation, do
# little here, and the ladder says so.
#
# **What you'll do**
#
# 1. Say what a measurement of speed needs, and write the gain that a slow minute cannot spoil.
# 2. Time two loaders yourself.
# 3. Climb the ladder, rung by rung.
# 4. Compute from its parts how much faster a whole becomes.
#
# **What you'll learn**: to measure speed, why a loader can cost more than a network, Amdahl's law.
#
# **What you'll need**: [S7 block 3](../S7/block3.ipynb), whose network and recipe are timed, and 25 minutes. The
# computer needs seconds. With `TRAIN = "full"` it measures for about six minutes, and should have nothing else to do.
#
# *Before this*: [S8 step 8](../S8/step8_frontier.ipynb), how few parameters will do. *After this*: [step
# 2](step2_loops.ipynb), what should lie side by side. The [map of the steps](../../README.md#the-map-of-the-steps)
# shows the whole way. In the cloud: [Colab](https://colab.research.google.com/github/) opens a notebook from your copy
# of the repository; the [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course
# there.

# %% [markdown]
# ## Target
#
# | what, on 2 CPU cores | target | why this number |
# |---|---|---|
# | an epoch of S7 block 3, by default | at least 3 times faster than the sources' loop | a lunch break becomes a coffee |
# | the same, everything allowed | at least 5 times | the coffee becomes a sip |
# | an epoch of S5, everything allowed | at least 3 times | a wide network is another matter |
# | augmented images a second, from memory against a DataLoader with 2 workers | at least 20 times | then loading no longer shows in an epoch |
# | peak memory of the run | below 1,200 MB | two runs should fit on a small laptop |
#
# The recipe, the batch size and the distribution of the augmented images stay the same: a loop that does less is not
# faster.

# %%
TRAIN = "recorded"  # shows times that were measured before; "full" measures on your machine, "quick" only goes through
try:
    from common.recipe import Augmentation, Recipe, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S9/step1_speed",
    network="S7/block3",
    epochs=1,
    batch_size=64,
    lr=0.02,
    momentum=0.8,
    augmentation=Augmentation(rotation=5, crop_probability=0.1),
)
recipe, options = command_line(recipe, TRAIN)

# %%
import json
import math
import statistics
import time

import torch

from common import data
from common.experiments import ablation, bench, parts
from common.experiments.roofline import IMAGES
from common.lesson import Exercises, plots
from common.system.files import write_atomically

exercises = Exercises(recipe.step)
ladder = bench.load(ablation.RECORDED) if options.recorded else ablation.compare(quick=options.quick)
loading = bench.load(parts.RECORDED)["loading"] if options.recorded else parts.loading(options.quick)
if not options.recorded:
    write_atomically(options.out / "bench_ladder.json", json.dumps(ladder, indent=1))
print(bench.machine_line(ladder))

# %% [markdown]
# All times of the ladder are of the machine in this line. Each is of 80 batches of random pixels, scaled to the 60,000
# images of an epoch: how long a batch takes does not depend on what is drawn on it.
#
# ## What a measurement of speed needs
#
# - **A process of its own.** A measurement leaves things behind: memory, kernels that were chosen, warm caches.
#   Whatever runs next in the same process inherits them. So each number comes from a fresh Python.
# - **A warm-up.** The first steps pay for memory and for the choice of kernels. They do not count.
# - **Turns.** A laptop slows down when it gets warm, and a shared machine has neighbours. So two ways take turns, and
#   they are compared within each turn.
# - **A verdict with a rule.** Here a rung "helps" if it was faster than the rung below in every turn, and is "slower"
#   if in none. Anything else is no clear gain.
#
# **Predict first.** A takes 10 seconds and B takes 8, so B is 1.25 times faster. You measure each four times, first A,
# then B. After half of the eight measurements the machine gets warm, and everything takes twice as long. What gain do
# you find?
#
# <details><summary>Answer</summary>
#
# B seems to be slower: it gets all the slow measurements. With turns both get two of them, and the gain is right.
#
# </details>
#
# **Yours: the gain in turns** (easy, 5 minutes). `before` and `now` hold the seconds of two ways, turn by turn. Return
# the median of the ratios within the turns: how many times faster `now` is.


# %%
def gain_in_turns(before: list[float], now: list[float]) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


gain_in_turns = exercises.check(gain_in_turns, ([10, 10, 20], [8, 8, 16]), ([3, 5, 4, 8], [1, 1, 2, 2]))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `zip(before, now)` gives the turns, one pair after the other. `statistics.median` takes a list.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def gain_in_turns(before, now):
#     return statistics.median([one / other for one, other in zip(before, now, strict=True)])
# ```
#
# </details>

# %%
slowness = [1, 1, 1, 1, 2, 2, 2, 2]  # of the machine, in eight measurements
a_first = [10 * s for s in slowness[:4]], [8 * s for s in slowness[4:]]
in_turns = [10 * s for s in slowness[::2]], [8 * s for s in slowness[1::2]]
print(f"first all of A, then all of B: B is {gain_in_turns(*a_first):.2f} times as fast")
print(f"A and B in turns:              B is {gain_in_turns(*in_turns):.2f} times as fast")
print(f"a change that does nothing wins four turns of four by chance: once in {1 / 0.5**4:.0f}")

# %% [markdown]
# So "helps" is no proof either. With ten rungs, one such piece of luck is to be expected every second time: another
# look decides.
#
# ### Time two loaders yourself
#
# The sources let a `DataLoader` fetch one image at a time. Each becomes a PIL image, is perhaps cropped, is turned,
# made a tensor and normalised, and then 64 of them are stacked. The course's `InMemoryLoader` does the same with eight
# batches at once, and no Python runs for a single image.
#
# **Experiment.** How many times faster is it? Write your guess into `prediction`, and run the cell. It takes seconds.

# %% tags=["experiment", "measured"]
prediction = None  # how many times faster, such as 3
count = 256 if options.quick else 1_920
images, labels = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
changes = {"augmentation": recipe.augmentation, "shuffle": True}
loaders = {"one": data.classic_loader, "all": data.InMemoryLoader}
loaders = {name: make(images, labels, recipe.batch_size, **changes) for name, make in loaders.items()}


def seconds_of(loader) -> float:
    """Seconds that all batches take, when nothing is done with them."""
    started = time.perf_counter()
    for _batch in loader:
        pass
    return time.perf_counter() - started


taken = {name: [] for name in loaders}
for turn in range(4):
    for name, loader in loaders.items():
        seconds = seconds_of(loader)
        if turn > 0:  # the first turn is the warm-up
            taken[name].append(seconds)
found = gain_in_turns(taken["one"], taken["all"])
print(f"one image at a time: {count / statistics.median(taken['one']):,.0f} images a second")
print(f"all at once: {count / statistics.median(taken['all']):,.0f} images a second, {found:.1f} times as many")
print("You made no prediction." if prediction is None else f"You predicted {prediction}, and found {found:.1f}.")

# %% [markdown]
# The arithmetic of a crop and a turn is small. What is slow is to start it: some ten calls for every image, each with a
# price that does not depend on how little it computes.
#
# ## The rungs
#
# Each rung stands on the kept ones before it.
#
# 1. **The sources' loop.** As above, and after every batch it reads the loss and the number of correct images, to print
#    them.
# 2. **Images decoded once.** The PIL images are made before the first epoch.
# 3. **No DataLoader.** The same transforms in a plain loop.
# 4. **The whole batch augmented at once**, by `InMemoryLoader`.
# 5. **Loss and accuracy read once an epoch.** The sums stay tensors. On a GPU each reading makes the processor wait; on
#    a CPU there is nothing to wait for.
# 6. **Freed memory kept.** A step allocates tens of megabytes and frees them all. The C library gives them back to the
#    system, and gets them again page by page, each cleared first. Two settings tell it to keep what it has (on Linux).
# 7. **Channels last.** All channels of a pixel lie side by side, not all pixels of a channel. [Step
#    2](step2_loops.ipynb) looks closer. Not kept.
# 8. **bfloat16.** Numbers of 16 bits: half of the traffic, and some processors have matrix units for them. Not kept.
# 9. **Compiled.** `torch.compile` writes C++ for this network, and joins ReLU, BatchNorm and Dropout into one pass over
#    the memory. The convolutions stay the library's. Not kept.
# 10. **Batch last.** The network's layers as loops of our own, with all images of the batch side by side. numba
#     compiles them. They are step 2's subject.
# 11. **Fused optimizer step.** One kernel for the update of all weights, in the place of several for each tensor.
#
# **Predict first.** Which two rungs carry farthest?
#
# <details><summary>Answer</summary>
#
# "The whole batch augmented at once" and "batch last". Both have the loop over the images inside one call.
#
# </details>

# %%
runs = ablation.runs_of(ladder)
print(ablation.ablation_table(ablation.RUNGS, runs))

# %% [markdown]
# Behind the seconds stands the gain over the rung below, with the least and the most of the turns, then the gain over
# the sources' loop, then the verdict. In the figure a gray line goes from the fastest turn to the slowest.

# %%
figure = plots.ladder([rung.name for rung in ablation.RUNGS], [[run["seconds"] for run in rung] for rung in runs])
plots.show(figure, options.out, "ladder")

# %% [markdown]
# A bar can be shorter than the one above it by luck, and the gray lines show how much luck there was. So read the
# verdicts. Two rungs have a price that the bars do not show: compilers work before the first step. (This is the price
# of a warm start. What they have written once, they keep on the disk.)

# %%
for name in ("freed memory kept", "compiled", "batch last"):
    (started,) = (rung["runs"] for rung in ladder["rungs"] if rung["name"] == name)
    print(
        f"{'measured':<11}{'the first two batches, ' + name:<42}  {max(run['start_seconds'] for run in started):.1f} s"
    )

# %% [markdown]
# ## How much faster does the whole become?
#
# A part of the time gets faster, the rest stays. **Amdahl's law** adds up what is left. By hand: an epoch has 10
# seconds of loading and 20 of training. Loading for nothing makes 30 seconds into 20, which is only 1.5 times faster.
#
# **Yours: Amdahl's law** (easy, 5 minutes). Each part is a pair: its seconds, and how many times faster it becomes.
# Return how many times faster the whole becomes.


# %%
def total_speedup(parts: list[tuple[float, float]]) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


total_speedup = exercises.check(total_speedup, ([(10, 20), (20, 1)],), ([(10, 20), (20, 2)],), ([(10, 1e12), (20, 1)],))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Seconds before, divided by seconds after. A part of 10 seconds that becomes 20 times faster takes 10 / 20.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def total_speedup(parts):
#     return sum(seconds for seconds, _ in parts) / sum(seconds / factor for seconds, factor in parts)
# ```
#
# </details>
#
# **Predict first.** The same loader is put under slow layers and under fast ones. Where does it gain more?
#
# <details><summary>Answer</summary>
#
# Under fast layers. It saves the same seconds, and of a shorter epoch they are a larger share.
#
# </details>

# %%
print(f"10 s of loading for nothing, 20 s as before:        {total_speedup([(10, math.inf), (20, 1)]):.1f} times")
print(f"10 s of loading 20 times faster, 20 s as before:    {total_speedup([(10, 20), (20, 1)]):.2f} times")
last = total_speedup([(10, 20), (20, 2)]) / total_speedup([(10, 1), (20, 2)])
print(f"the same loader, where training is faster already:  {last:.2f} times")

# %% [markdown]
# So the gain of a rung depends on what stands below it, and a ladder has to say its order. Now the law on our own
# ladder. The loaders alone, without a network, and what follows from them for rung 4:

# %%
for name, rate in loading.items():
    print(f"{'measured':<11}{name:<42}  {rate:,.0f} images a second")
sources = ablation.figures(ladder, "the sources' loop")["seconds"]
load = min(IMAGES / loading["DataLoader"], sources)
faster = loading["in memory"] / loading["DataLoader"]
foretold = total_speedup([(load, faster), (sources - load, 1)])
found = ablation.figures(ladder, "the whole batch augmented at once")["gain"]
print(f"{'measured':<11}{'loading, of the epoch of the sources':<42}  {load:.1f} of {sources:.1f} s")
print(f"{'measured':<11}{'rung 4 by the law, and on the ladder':<42}  {foretold:.2f} and {found:.2f} times faster")

# %% [markdown]
# The law takes the parts as if they did not touch each other. They do: each image that the loader makes pushes the
# network's numbers out of the cache. So the two numbers agree only roughly.

# %% [markdown]
# ## Result
#
# The ladder's numbers against the targets. S5's are from the benchmark below it, and so is its machine.

# %%
by_default = ablation.figures(ladder, "fused optimizer step")["gain"]
fastest = max(ablation.figures(ladder, rung.name)["gain"] for rung in ablation.RUNGS)
memory = max(run["peak_megabytes"] or 0 for run in runs[-1])
ratio = loading["in memory"] / loading["DataLoader, 2 workers"]
for text, value, met in (
    ("default, at least 3 times the sources", by_default, by_default >= 3),
    ("everything allowed, at least 5 times", fastest, fastest >= 5),
    ("loading, at least 20 times", ratio, ratio >= 20),
    ("peak memory below 1,200 MB", memory, memory < 1_200),
):
    outcome = "not compared" if options.quick else "met" if met else "missed"
    print(f"{'measured':<11}{text:<42}  {value:,.1f}  {outcome}")

# %%
recorded = bench.load(bench.RECORDED)
s5 = max(bench.figures(recorded, "S5/step1_first_network", name)["ratio"] for name in ("float32", "default"))
print(f"S5, everything allowed, at least 3 times: {s5:.1f}, {'met' if s5 >= 3 else 'missed'}\n")
print(bench.table(recorded))

# %% [markdown]
# This benchmark is a record in both ways of running the page. "sources" is the bottom of the ladder, "float32" the
# lessons' loop with PyTorch's layers, "default" what the lessons do unasked, and "compiled" PyTorch's layers with
# `torch.compile`. `course.py bench` measures it on your machine in about four minutes.
#
# ## Analysis
#
# The numbers here are those of the benchmark's record.
#
# **What carried.** The sources' loop takes 49.0 seconds<!--bench S7/block3 sources seconds--> for an epoch of S7 block
# 3. Fed from memory that is kept, the same layers take 29.8 seconds<!--bench S7/block3 float32 seconds-->. Our own
# loops take 8.0 seconds<!--bench S7/block3 default seconds-->, 6.1 times<!--bench S7/block3 default ratio--> faster
# than the source. PyTorch's compiler gets to 2.4 times<!--bench S7/block3 compiled ratio-->, for it leaves the
# convolutions to the library.
#
# **What was missed.** S5 was to become three times faster. Its convolutions of up to 256 channels are what the library
# is made for, and its time is arithmetic. On a processor with matrix units for bfloat16 it became
# 6.6 times<!--bench amx S5/step1_first_network default ratio--> faster ([an older
# record](../../sessions/S9/bench_amx.json)).
#
# **How sure this is.** On that processor "float32" and "default" are the same computation for S5. They differ all the
# same: 2.3 times<!--bench S5/step1_first_network float32 ratio--> and
# 2.1 times<!--bench S5/step1_first_network default ratio-->. So much is the machine's noise.
#
# **What the next step asks.** Why do loops of our own beat a library that experts wrote? [Step 2](step2_loops.ipynb)
# opens the convolution.

# %% [markdown]
# ## Quiz
#
# **Question 1.** You time a change five times before it and five times after it, one after the other. What is wrong?
#
# - **a** Five times are too few for a median.
# - **b** A slow minute hits one of the two ways only.
# - **c** The same process must be used for both.
#
# <details><summary>Answer</summary>
#
# **b.** Turns cure it. a: more repeats would hit the same slow minute. c is the opposite of what is needed: a process
# inherits what the one before left behind.
#
# </details>
#
# **Question 2.** Loading is a tenth of an epoch. How many times faster can the epoch become by a better loader?
#
# - **a** At most 10 / 9 times
# - **b** 10 times
# - **c** As many times as the loader becomes faster
#
# <details><summary>Answer</summary>
#
# **a.** Nine tenths stay. b would need the other nine tenths to vanish, and c forgets them.
#
# </details>
#
# **Question 3.** By the median a rung is 4 % faster than the one below. The turns go from 5 % slower to 10 % faster.
# What do you write?
#
# - **a** It makes the epoch 4 % faster.
# - **b** It is useless.
# - **c** No clear gain: the turns disagree.
#
# <details><summary>Answer</summary>
#
# **c.** A small gain and none both fit these turns. a believes the median, b takes "not shown" for "shown to be
# absent".
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. A measurement needs its own process, a warm-up, turns, and a rule for its verdict. The gain is a median of ratios
#    within turns.
# 2. A loader that takes whole batches pays the price of a call once, and not for every image.
# 3. On the ladder two rungs carry far, and both have the loop over the images inside one call. The rungs that did
#    nothing stand on it too.
# 4. By Amdahl's law a part can save no more than it takes, and the last rungs look steep because the others are below.
