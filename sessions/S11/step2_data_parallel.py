# %% [markdown]
# # S11 step 2: Train one network on several processes, and predict when that stops helping
#
# A thousand seeds are a thousand runs. What if there is only one run, and it's too slow? Then each step of it has to be
# shared out. Several processes train copies of one network, each on its part of every batch. This is called **data
# parallel** training. All large networks are trained so. Ours is small. Is it worth it?
#
# **What you'll do**
#
# 1. Put the gradients of two half batches together, and get the gradient of the whole.
# 2. See which layer spoils that.
# 3. Pass numbers round a ring, and count the bytes.
# 4. Fit a model of cost with four numbers, and hold it against measurements that it has not seen.
# 5. Predict where this network stops gaining, and what a thousand million parameters need.
#
# **What you'll learn**: DistributedDataParallel, all-reduce, latency and bandwidth, BatchNorm by shares, FSDP.
#
# **What you'll need**: [S9 step 1](../S9/step1_speed.ipynb), what a step's time is made of, and about 30 minutes. The
# computer needs less than a minute.
#
# *Before this*: [step 1](step1_many_seeds.ipynb), many seeds. *After this*: the way ends here. The
# [map of the steps](../../README.md#the-map-of-the-steps) shows the whole of it. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository; the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | gradients of two halves, put together, against those of the whole batch | equal to rounding | else it is another training |
# | the model's prediction of steps that it has not seen, two processes on two cores | at most 20 % off | then its other predictions deserve a look |
# | two processes against one, both by PyTorch's layers, one thread each | at least 1.5 times faster | of at most 2 |
# | two processes against two threads of one process, both with the course's own loops | faster | else why would anyone |

# %%
TRAIN = "recorded"  # shows what was measured; "full" measures your machine, "quick" has a shorter experiment
try:
    from common.recipe import Augmentation, Recipe, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S11/step2_data_parallel",
    network="S7/block3",
    epochs=14,
    batch_size=64,
    lr=0.02,
    momentum=0.8,
    augmentation=Augmentation(rotation=5, crop_probability=0.1),
)
recipe, options = command_line(recipe, TRAIN)

# %%
import json

import torch
from torch.nn import functional

from common import data, models
from common.experiments import scaling, shares
from common.lesson import Exercises, plots

exercises = Exercises(recipe.step)
digits = data.load(options.data, options.limit, options.validate)
print(digits)
print("No network is trained here to its end: steps are computed, timed and compared.")

# %% [markdown]
# ## Two halves make a whole
#
# The loss of a batch is the *mean* over its images. So its gradient is the mean of the images' gradients. Each process
# computes the mean over its own share. Then the shares are put together.
#
# **Yours: put the gradients together** (easy, 5 minutes). `gradients` has one tensor from each process, all of one
# shape. `images` says how many images each process had. Return the gradient of the whole batch. Mind that shares may differ: a
# batch of 63 becomes 32 and 31.


# %%
def put_together(gradients: list[torch.Tensor], images: list[int]) -> torch.Tensor | None:
    # Your lines here. Then return your result instead of None.
    return None


halves = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])]
put_together = exercises.check(put_together, (halves, [1, 1]), (halves, [3, 1]), ([halves[0]], [5]))

# %% [markdown]
# <details><summary>Hint</summary>
#
# A mean that is weighed by the numbers of images.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def put_together(gradients, images):
#     parts = [gradient * count for gradient, count in zip(gradients, images, strict=True)]
#     return sum(parts) / sum(images)
# ```
#
# </details>

# %% [markdown]
# **Predict first.** We ask two networks: S5's, which has no BatchNorm, and S7 block 3's, which has. Whose gradients does
# `put_together` get right?
#
# <details><summary>Answer</summary>
#
# S5's, to rounding. BatchNorm takes its means and variances from the images that it sees. Half a batch has others than the
# whole.
#
# </details>


# %% tags=["measured"]
def gradient(model, images, labels) -> torch.Tensor:
    """All gradients of the mean loss, as one long tensor."""
    model.zero_grad()
    functional.nll_loss(model(images), labels).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


images, labels = next(iter(data.InMemoryLoader(digits.train_images, digits.train_labels, 63, shuffle=True, seed=1)))
for step in ("S5/step1_first_network", "S7/block3"):
    torch.manual_seed(1)
    model = models.build(step)
    for layer in model.modules():
        if "Dropout" in type(layer).__name__:
            layer.eval()  # its masks would differ by chance
    parts = [gradient(model, images[part], labels[part]) for part in (slice(0, 32), slice(32, 63))]
    whole = gradient(model, images, labels)
    apart = ((put_together(parts, [32, 31]) - whole).norm() / whole.norm()).item()
    print(f"{step:<24} {'equal to rounding' if apart < 1e-5 else f'apart by {apart:.0%} of its length'}")

# %% [markdown]
# With BatchNorm each process trains by the statistics of its own share, as if batches were smaller. PyTorch has a cure
# on GPUs: before `SyncBatchNorm` normalises, it asks all processes for their sums. The course uses it there. It was not
# run for this page, and CPUs do not have it.
#
# What do smaller shares cost? ([Hoffer, Hubara and Soudry 2017](https://arxiv.org/abs/1705.08741) cut batches up on
# purpose.) S7 block 1's network was trained with five seeds by one process and by two, and tested on validation images.

# %%
differences = {seed: two - shares.accuracies(1)[seed] for seed, two in shares.accuracies(2).items()}
found = shares.paired()
print("trained with", " ".join(shares.TRAINED))
for seed, difference in differences.items():
    print(f"seed {seed}: one process {shares.accuracies(1)[seed]:.2f} %, two {difference:+.2f} points")
print(f"mean {found.difference:+.3f} points, 95 % interval {found.low:+.3f} to {found.high:+.3f} (one comparison)")
print("told from chance" if found.low > 0 or found.high < 0 else "not told from chance")

# %% [markdown]
# With 32 images each, no cost can be told from chance. A cost of a quarter of a point is not excluded. (Dropout's masks
# differ too, by chance.)
#
# ## Round the ring
#
# Each process needs the sum of all gradients. Putting them together so that everybody has the result is called an
# **all-reduce**. It is done without a centre. The processes stand in a ring, and each cuts its numbers into as many pieces
# as there are processes. In each round everybody sends one piece to the right. In the first rounds the pieces are added up, in
# the others the sums are handed on.


# %%
def ring(numbers: list[torch.Tensor]) -> tuple[list[torch.Tensor], int]:
    """The all-reduce of one tensor for each process: what each has in the end, and the rounds that it took."""
    count, rounds = len(numbers), 0
    pieces = [list(one.clone().tensor_split(count)) for one in numbers]
    for adding in (True, False):
        for turn in range(count - 1):
            number = [(rank - turn + (not adding)) % count for rank in range(count)]  # the piece that each one sends
            sent = [pieces[rank][number[rank]].clone() for rank in range(count)]
            for rank in range(count):
                right, piece = (rank + 1) % count, number[rank]
                pieces[right][piece] = pieces[right][piece] + sent[rank] if adding else sent[rank]
            rounds += 1
    return [torch.cat(one) for one in pieces], rounds


numbers = [torch.arange(8.0) + 10 * rank for rank in range(4)]
done, rounds = ring(numbers)
print("the sum:", sum(numbers).tolist())
print(f"after {rounds} rounds all four have it: {all(torch.equal(one, sum(numbers)) for one in done)}")

# %% [markdown]
# **Yours: count the bytes** (easy, 5 minutes). `size` bytes shall be all-reduced by `processes` processes in a ring. How
# many bytes does each of them send? Count the rounds, and the bytes in each.


# %%
def bytes_sent(size: float, processes: int) -> float | None:
    # Your line here. Then return your result instead of None.
    return None


bytes_sent = exercises.check(bytes_sent, (8_000, 2), (8_000, 4), (4e9, 1_000))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Two times (processes - 1) rounds, and one piece in each.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def bytes_sent(size, processes):
#     return 2 * (processes - 1) * size / processes
# ```
#
# </details>

# %%
size = 4 * sum(parameter.numel() for parameter in models.build("S7/block3").parameters())
for processes in (2, 4, 16, 1_024):
    print(
        f"{processes:>5} processes: each sends {bytes_sent(size, processes):,.0f} bytes for the {size:,} of the gradients"
    )

# %% [markdown]
# However many there are, nobody sends more than twice the gradients. That is the beauty of the ring. But the rounds grow with
# the processes, and each round has to wait for a message. The time until even the shortest message has arrived is its
# **latency**.
#
# ## What it costs
#
# Four numbers shall describe a step on n processes:
#
# - a price for each step, whatever the batch is, and a price for each image: the computing;
# - a latency for each of the 2 (n - 1) messages, and a **bandwidth**, in bytes a second: the all-reduce.
#
# **Yours: the seconds of a step** (medium, 10 minutes). `cost` has `per_step`, `per_image`, `latency` and `bandwidth`.
# Return the seconds of a step over a batch of `images` with gradients of `size` bytes. Each process has a core of its own.
# Use `bytes_sent`.


# %%
def step_seconds(cost: scaling.Cost, images: int, size: float, processes: int) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


easy = scaling.Cost(per_step=1.0, per_image=0.5, latency=0.25, bandwidth=100.0)
step_seconds = exercises.check(step_seconds, (easy, 8, 200, 1), (easy, 8, 200, 2), (easy, 9, 200, 3))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Each process computes `images / processes` images. One process sends no message.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def step_seconds(cost, images, size, processes):
#     computing = cost.per_step + cost.per_image * images / processes
#     messages = 2 * (processes - 1) * cost.latency
#     return computing + messages + bytes_sent(size, processes) / cost.bandwidth
# ```
#
# </details>
#
# The first two numbers are fitted to steps of one process with batches of 8 to 256 images, the others to all-reduces of 4 bytes
# to 16 MB between two processes. Each process has one thread.

# %% tags=["measured"]
recorded = json.loads(scaling.RECORDED.read_text(encoding="utf-8"))
measured = scaling.measure() if options.train == "full" else recorded
cost = scaling.fit(measured)
print(f"{'measured' if options.train == 'full' else 'recorded'} on {measured['machine']}, torch {measured['torch']}")
print(f"a step {1e3 * cost.per_step:.1f} ms, an image {1e3 * cost.per_image:.2f} ms")
print(f"a message {1e3 * cost.latency:.2f} ms, bandwidth {cost.bandwidth / 1e9:.1f} GB a second")

# %%
plots.show(plots.cost_fit(measured, cost), options.out, "cost")

# %% [markdown]
# The dots are measured, the lines are the model's. The all-reduce of 4 kB takes longer than the model has it: four
# numbers do not see everything. Now for what the fit has not seen: steps of two processes.
#
# **Predict first.** Two processes on two cores, a batch of 64 images, 32 for each. How many times faster than one process with
# one thread?
#
# <details><summary>Answer</summary>
#
# See the table below. It's less than 2: the price of a step is paid by both, and the gradients have to travel.
#
# </details>

# %% tags=["measured"]
print(f"{'processes':>9}{'images':>8}{'predicted':>12}{'measured':>11}{'off by':>9}{'no messages':>15}")
off = {}
for processes, steps in measured["together"].items():
    for images, seconds in steps.items():
        predicted = cost.step(int(images), measured["bytes"], int(processes), measured["cores"])
        off[processes, images] = seconds / predicted - 1
        line = f"{processes:>9}{images:>8}{1e3 * predicted:>9.1f} ms{1e3 * seconds:>8.1f} ms{off[processes, images]:>+9.0%}"
        print(f"{line}{1e3 * measured['side by side, no messages'][processes][images]:>12.1f} ms")

# %% [markdown]
# For two processes the model is a little too hopeful. The last column says why: there the same processes compute side by
# side and send nothing, as fast as predicted or faster. So what the model misses is in the exchange. (We did not take
# it apart. Each process waits for the slower one, and sending may have a price of its own besides the message.) Three
# processes on two cores have to take turns, and here a third one gains nothing. Give each process a core of its own.
#
# ## Is it worth it here?

# %% tags=["measured"]
both = f"one process, {measured['cores']} threads"
ways = {
    "PyTorch's layers": {
        "one process, 1 thread": measured["one process"]["64"],
        both: measured["one process, all cores"]["PyTorch's layers"],
        "two processes": measured["together"]["2"]["64"],
    },
    "the course's loops": {
        "one process, 1 thread": measured["one process, our loops"]["64"],
        both: measured["one process, all cores"]["our loops"],
        "two processes": measured["together, our loops"]["2"]["64"],
    },
}
for kind, rows in ways.items():
    for name, seconds in rows.items():
        gain = rows["one process, 1 thread"] / seconds
        print(f"{kind:<22}{name:<26}{1e3 * seconds:>6.1f} ms a step of 64 images {gain:>5.1f} times")

# %% [markdown]
# With PyTorch's layers two processes gain, about as much as two *threads* of one process. With the course's own loops the
# computing is so short that two processes gain next to nothing, and the threads are ahead: they need no all-reduce. Those
# loops gain most of all, by one thread already. So on one machine make one process fast first. Take more of them when
# there are more machines. (A machine is not equally fast all the time. So each number is the median of five rounds.)
#
# ### Try it on your own machine
#
# **Predict first.** How many times faster are two processes than one, with batches of 64? Write it into `prediction`, and
# run the cell. It starts the processes with the same program that trains a lesson on several processes, `torchrun`.
#
# <details><summary>Answer</summary>
#
# Less than 2. On the recorded page they gained less than in the table, though nothing else was running: there the step by
# one thread took three quarters of the time. A virtual machine shares its processor with strangers. So run the cell
# again.
#
# </details>

# %% tags=["experiment", "measured"]
prediction = None  # your guess, such as 1.8
one, two = scaling.one_and_two(repeats=1 if options.quick else 40)
print(f"one process {1e3 * one:.1f} ms, two {1e3 * two:.1f} ms: {one / two:.2f} times")
if prediction is not None:
    print(f"You predicted {prediction:.2f}.")

# %% [markdown]
# ## Where it stops
#
# Suppose that there were as many cores as you like, and that messages between machines were as fast as they are here between two
# processes. (Between machines both are usually slower.)

# %% tags=["measured"]
counts = [2**power for power in range(9)]
for images in (64, 1_024):
    seconds = {n: step_seconds(cost, images, measured["bytes"], n) for n in counts if n <= images}
    best = min(seconds, key=seconds.get)
    print(f"batches of {images:,}: fastest by {best} processes, {seconds[1] / seconds[best]:.1f} times as fast as one")
curves = {f"batches of {images:,}": images for images in (64, 1_024)}
faster = {
    name: {
        n: step_seconds(cost, images, measured["bytes"], 1) / step_seconds(cost, images, measured["bytes"], n)
        for n in counts
        if n <= images
    }
    for name, images in curves.items()
}
plots.show(plots.speedups(faster), options.out, "speedups")

# %% [markdown]
# At first the images are shared out and the curve climbs. Then the price of a step is all that is left of the computing, and each
# process more makes the ring longer. A larger batch moves the end out, for it has more to share. But it is another recipe: fewer
# steps an epoch, and another learning rate.
#
# **A thousand million parameters.** Their gradients are 4 GB. How long does the computing have to be, so that the all-reduce takes
# no more than a tenth of it?

# %% tags=["measured"]
large = 4e9
for name, bandwidth in {"as here": cost.bandwidth, "25 GB a second, a fast network": 25e9}.items():
    travel = bytes_sent(large, 64) / bandwidth
    print(
        f"64 processes, {name}: {travel:.2f} seconds for the gradients, so at least {10 * travel:.1f} of computing a step"
    )
print(f"and each process holds {16 * 1e9 / 1e9:.0f} GB: weights, gradients, and two numbers of Adam's for each weight")

# %% [markdown]
# So such a network is trained with batches of millions of words. Here it is the bytes that count, and for our network
# it was the latency.
#
# **FSDP** (fully sharded data parallel) goes one step further. Each process keeps only its part of the weights, the gradients and
# the optimizer's numbers, and asks the others for a layer's weights just before it needs them. That sends half as many bytes
# again, and lets a network be trained that no single machine could hold. Ours needs 32 kB, so it has no use for it
# here.
#
# ## On several processes, for real
#
# Each lesson that trains a network can do it. The batch stays the recipe's and is shared out:
#
# ```
# .venv/bin/torchrun --nproc-per-node 2 sessions/S7/block3.py
# ```
#
# Only the first process prints, writes and draws. If one of them dies, all end, and `--resume` goes on. The
# [page on clusters](../../docs/cluster.md) has the lines for several machines.

# %% [markdown]
# ## Result

# %% tags=["measured"]
seen = max(abs(value) for (processes, _), value in off.items() if processes == "2")
library, loops = ways.values()
gain = library["one process, 1 thread"] / library["two processes"]
for text, value, met in (
    ("gradients put together", "equal to rounding without BatchNorm, not with it", True),
    ("prediction for two processes, at most 20 % off", f"{seen:.0%}", seen <= 0.2),
    ("two processes, at least 1.5 times faster", f"{gain:.2f} times", gain >= 1.5),
    (
        "our loops: two processes faster than threads",
        f"{loops[both] / loops['two processes']:.2f} times",
        loops["two processes"] < loops[both],
    ),
):
    print(f"{text:<50}{value}: {'met' if met else 'missed'}")

# %% [markdown]
# ## Analysis
#
# - **The mathematics of it is exact, the layers may not be.** Means of means are means. BatchNorm sees only its
#   share. Five seeds did not show that it costs anything.
# - **A small network has a small all-reduce, and a short step.** Its latency is what counts. With few images for each process, the
#   price of a step is.
# - **One process was not used up.** Better loops gain more than a second process. First make one fast.
# - **A model of four numbers goes far.** It predicts what it has not seen, as long as its assumptions hold: a core for each process.
# - **What is not measured here:** two real machines with a network between them. Its latency and bandwidth can be put into the
#   model.

# %% [markdown]
# ## Quiz
#
# **Question 1.** Four processes, a batch of 64, each computes the mean loss over its 16 images. What must be done with the
# four gradients?
#
# - **a** Add them.
# - **b** Take their mean.
# - **c** Take the largest.
#
# <details><summary>Answer</summary>
#
# **b**. Each is already a mean over 16 images. The sum would be a step four times as long.
#
# </details>
#
# **Question 2.** The number of processes is doubled, the batch stays. What does *not* become smaller?
#
# - **a** the images of each process
# - **b** the bytes that each sends
# - **c** the memory for each one's maps
#
# <details><summary>Answer</summary>
#
# **b**. It goes towards twice the gradients.
#
# </details>
#
# **Question 3.** Why does a batch of 1,024 gain from more processes than one of 64?
#
# - **a** Its gradients are larger.
# - **b** There is more computing to share out for the same all-reduce.
# - **c** Its messages are faster.
#
# <details><summary>Answer</summary>
#
# **b**. The gradients have the size of the weights, whatever the batch.
#
# </details>
