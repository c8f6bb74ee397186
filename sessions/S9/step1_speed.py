# %% [markdown]
# # S9 step 1: Climb from the sources' loop to ours, one timed rung at a time
#
# Every lesson so far had you wait for epochs, and every one used a loop that is faster than the one its source used.
# This lesson goes the way between the two. The way is an *ablation ladder*: each of its rungs changes one thing, and
# is timed against the rung below and against the source's loop, in turns, on your machine. Some rungs carry far.
# Some, with a good reputation, do nothing here, and say so. At the top you'll compute how fast this network could
# possibly be on this machine, and see how much of that is left.
#
# **What you'll do**
#
# 1. Say what a measurement of speed needs before it can be believed.
# 2. Climb the ladder: from image-by-image transforms in a DataLoader to loops that are compiled for your processor.
# 3. Check that the fast way trains the same network: exactly, to rounding, or within the spread over seeds.
# 4. Check that the cost grows linearly with the images, and that memory does not grow with the epochs.
# 5. Compute the physical limit from the network's arithmetic and traffic, and the machine's rates.
# 6. See what other programs do to a training, and what a training can do about it.
# 7. See what becomes of the ladder on a GPU.
# 8. Turn from the seconds of an epoch to what you wait for: a network that reads 99.40 %, started from nothing.
#
# **What you'll learn**: why a data loader can cost more than a network, what an allocator does between two steps,
# what a vector unit wants to find side by side in memory, bfloat16, compilation, CUDA graphs, the roofline bound, and
# how to credit a gain to its cause.
#
# **What you'll need**: block 3 of S7, whose network and recipe are timed. The page takes about 8 minutes on 2 CPU
# cores, and wants them for itself: close what else computes. (The ladder is a CPU's; a GPU has a section of its own.)
#
# *Before this*: [S7 block 3](../S7/block3.ipynb). *After this*:
# [S10 step 1](../S10/step1_your_own_digits.ipynb), digits of your own. The [map of the steps](../../README.md#the-map-of-the-steps) shows all of them. To run it in the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository, and the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target on 2 CPU cores | why this number |
# |---|---|---|
# | an epoch of S7 block 3, by default | at least 3 times faster than the source's loop | a lunch break becomes a coffee |
# | the same, compiler and bfloat16 allowed | at least 5 times | the coffee becomes a sip |
# | augmented images a second, from memory against a DataLoader with 2 workers | at least 20 times | then loading no longer shows in an epoch |
# | peak memory of the run | below 1,200 MB | so that two runs fit on a small laptop |
# | from the start of a process to 99.40 % with under 8,000 parameters, mean of 10 seeds | at least 12 times faster than the source's recipe with the source's loop | half a minute instead of a coffee |
#
# The same recipe, the same batch size, the same distribution of augmented images: a loop that does less is not
# faster.

# %%
try:
    from common.recipe import Augmentation, Recipe, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S9/step1_speed",
    epochs=1,
    batch_size=64,
    lr=0.02,
    momentum=0.8,
    augmentation=Augmentation(rotation=5, crop_probability=0.1),
)
recipe, options = command_line(recipe)

# %% [markdown]
# A short epoch will do: how long a batch takes does not depend on what is drawn on it, so each measurement trains on
# 80 batches of random pixels after two that do not count, and the time is scaled to 60,000 images. (With `--quick` it
# is 2 batches, once: the page runs, and its times mean nothing.)

# %%
import json
import statistics
import timeit

import torch
from torch import nn

from common import models, records, training
from common.experiments import ablation, bench, roofline, variants
from common.lesson import check, plots
from common.records import comparison

STEP = "S7/block3"
batches, repeats = (2, 1) if options.quick else (bench.BATCHES[STEP], 4)
device = training.choose_device("cpu")
print(records.machine_line(device, options))

# %% [markdown]
# ## What a measurement of speed needs
#
# **A process of its own.** A measurement leaves things behind: memory that the allocator holds, kernels that were
# chosen, caches. Whatever runs next in the same process inherits them. Here each number comes from a fresh Python.
#
# **Turns.** A laptop slows down when it gets warm; a virtual machine has neighbours. The gray lines in the figure
# below show how far apart the repeats of one rung can lie. If all repeats of A came before all repeats of B, a slow
# minute would be credited to B. So the rungs take turns, and a gain is the median of the ratios *within* a turn.
#
# **One change at a time, and the order said.** A rung's gain depends on what stands below it: a faster loader saves
# the same seconds everywhere, but a larger *share* when the rest is already fast. So each rung gets two numbers,
# against the rung below and against the bottom.
#
# **A verdict with a rule.** Below, a rung "helps" if it was faster than the rung below in every turn, and is "slower"
# if it was so in none. Anything else is no clear gain, however large the median. (By chance alone a rung that does
# nothing wins all four turns one time in sixteen: another look decides.)
#
# **A warm-up**, since the first steps pay for memory and for the choice of kernels, and **nothing else running**.

# %% [markdown]
# ## The rungs
#
# `TrainingVariant()`, with nothing changed, is the source's way. Each line names a rung, what it changes, and whether
# the rungs above stand on it.

# %%
rungs = ablation.ablation_steps(
    [
        ("images decoded once", {"loader": "cached"}, True),
        ("no DataLoader", {"loader": "no DataLoader"}, True),
        ("the whole batch augmented at once", {"loader": "in memory"}, True),
        ("loss and accuracy read once an epoch", {"read_each_batch": False}, True),
        ("freed memory kept", {"keep_memory": True}, True),
        ("channels last", {"channels_last": True}, False),
        ("bfloat16", {"precision": "bfloat16"}, False),
        ("compiled", {"compiled": not options.quick}, False),
        ("batch last", {"chwn": True}, True),
        ("fused optimizer step", {"fused_optimizer": True}, True),
    ]
)

# %% [markdown]
# 1. **The source's loop.** `DataLoader` asks for one image at a time; each becomes a PIL image, is cropped, resized,
#    turned, made a tensor and normalised; 64 of them are stacked. After every batch the loop reads the loss and the
#    number of correct images back, to print them.
# 2. **Images decoded once.** The PIL images are made before the first epoch instead of in every epoch.
# 3. **No DataLoader.** The same transforms, the same images, in a plain loop: what do the DataLoader's sampler,
#    fetcher and collation cost when there are no workers to hide them?
# 4. **The whole batch augmented at once.** `InMemoryLoader`: one gather, one crop, one warp, one normalisation for
#    eight batches, 512 images. No Python runs for a single image any more.
# 5. **Loss and accuracy read once an epoch.** The sums stay tensors until the epoch is over. On a GPU each reading
#    makes the processor wait for everything that it has asked for; on a CPU there is nothing to wait for.
# 6. **Freed memory kept.** A training step allocates tens of megabytes of activations and frees them all. The C
#    library then returns them to the operating system. The next step gets them back page by page, each page 4 kB,
#    each cleared first. Two numbers, set with `mallopt`, tell it to keep what it has. (Linux with glibc only.)
# 7. **Channels last** (PyTorch's `channels_last`). A convolution over 32 channels wants the 32 values of a pixel side
#    by side.
# 8. **bfloat16.** Forward and backward pass in numbers of 16 bits, with 8 significant binary digits. Half the
#    traffic, and some processors have matrix units for them; others have to make do, and are slower. Weights, the
#    loss and the update stay float32.
# 9. **Compiled.** `torch.compile` writes C++ for this network and this batch size, and fuses what it can: ReLU,
#    BatchNorm and Dropout become one pass over memory instead of three. The convolutions stay the library's. The time
#    that this takes is not in the numbers below, and has a line of its own under them.
# 10. **Batch last.** The network's layers as loops of our own, with the same pixel of all 64 images side by side in
#     memory. The layout is called CHWN: channels, height, width, images. The loops are written in Python, and numba
#     compiles them. A closer look follows below.
# 11. **Fused optimizer step.** One kernel for the update of all 7,904 weights instead of several for each tensor. (On
#     by default together with the rung below.)
#
# Three more things are on by default and do nothing for this network. Where a network has no such loops, its Dropout
# layers draw their masks 16 bits at a time, while PyTorch draws them number by number. S5's network has no
# BatchNorm, so its batches of 512 can be computed in *micro-batches* of 64 that stay in the processor's cache. And
# the layout is channels-last in the networks that have no BatchNorm of few channels on a large map, like S5's.

# %%
measured = ablation.measure_ablation(STEP, rungs, repeats, batches)
print(ablation.ablation_table(rungs, measured))

# %% [markdown]
# What compilers cost before the first step: the time of the first two batches. (The longest of the turns. What they
# have once written, they keep on the disk for the next time, and where they have run before, as here, even the longest
# shows a warm start. A cold one took PyTorch's compiler 27 seconds in bfloat16 and 17 in float32, and numba 13.) So
# both are for long runs. `--compile`, for networks without such loops, is used from 20,000 steps on in bfloat16 and from
# 5,000 in float32, which win its time back; numba's loops from 800 on, which an epoch of block 3 has.

# %%
for name in ("freed memory kept", "compiled", "batch last"):
    runs = measured[[rung.name for rung in rungs].index(name)]
    print(f"{'measured':<11}{'before it starts, ' + name:<38}  {max(run['start_seconds'] for run in runs):.1f} s")

# %% [markdown]
# ### What should lie side by side?
#
# Channels last is the advice that everybody gives for convolutions. Here are two of this network's convolutions and
# two of its BatchNorms in both layouts, forward and backward, the median of a hundred times each:

# %%
layers = {
    "convolution 32 to 8, 1x1": (nn.Conv2d(32, 8, 1, bias=False), 32),
    "convolution 8 to 10, 3x3": (nn.Conv2d(8, 10, 3, bias=False), 8),
    "BatchNorm of 32 channels": (nn.BatchNorm2d(32), 32),
    "BatchNorm of 8 channels": (nn.BatchNorm2d(8), 8),
}


def milliseconds(layer, channels, layout):
    """Forward and backward on a batch of 64 maps of 26x26."""
    inputs = torch.randn(64, channels, 26, 26).to(memory_format=layout).requires_grad_()
    layer = layer.to(memory_format=layout)
    gradient = torch.randn_like(layer(inputs))
    seconds = timeit.repeat(lambda: layer(inputs).backward(gradient), number=1, repeat=3 if options.quick else 100)
    return 1e3 * statistics.median(seconds)


for name, (layer, channels) in layers.items():
    contiguous, channels_last = (
        milliseconds(layer, channels, layout) for layout in (torch.contiguous_format, torch.channels_last)
    )
    print(f"{'measured':<11}{name:<38}  {contiguous:.2f} ms, channels last {channels_last:.2f} ms")

# %% [markdown]
# PyTorch's BatchNorm of few channels gives back what the convolutions gain, and more. And there is a deeper trouble
# with either layout. A processor computes in **vectors**: one instruction multiplies and adds 8 numbers, or 16, that
# lie side by side. A library's convolution fills a vector with channels, and most layers here have 8, 10 or 16 of them;
# or it fills it with the pixels of a row, and the rows are 24, 12, 10 or 8 long, with an edge at every end.
#
# What is there 64 of, all to be treated alike, with no edge? The images of the batch. So here each map lies in memory
# as [channels, height, width, **batch**], the CHWN layout: first the top left pixel of all 64 images, then the next
# pixel of all 64. Every vector is full, a row of a map becomes one long line, and a neighbour to the right is 64
# numbers further on. This is a convolution's whole arithmetic, for the lines at height y of some output maps. Each
# number of a line is a sum over k, the places that a kernel looks at in all input maps:

# %%
import inspect

import numba

from common.cpu_kernels import chwn, compiler, convolution

print(inspect.getsource(convolution.short_lines.py_func))


# %% [markdown]
# numba turns such a loop into machine code for the processor that it finds, with the innermost loop in vectors. But it
# loads a vector of the map *and* one of the sum for each product, and stores the sum again. A core can load only as
# many numbers in a cycle as it can multiply and add, so it computes at a third of its speed, at best. The loop that
# the training uses (`weighted_sums` in `common/cpu_kernels/registers.py`) therefore works on a **block of sums**: four or five
# output maps and, where a vector holds 16 numbers, 64 numbers of a line. The block stays in the processor's registers
# until the sum over k is done. A number that is loaded serves a whole row or column of it, so that eight or nine loads
# feed sixteen or twenty vectors of products. A compiler does not find that by itself. The same convolution three times, in thousand million operations a second:


# %%
@numba.njit(parallel=True, **compiler.OPTIONS)
def convolve_number_by_number(maps, weights, bias, out):
    """Maps [8, 26, 26, 64] with a 3x3 kernel's weights [72, 10] to out [10, 24, 24, 64]."""
    window, flat = convolution.window(maps.shape, 3), maps.reshape(-1)
    for y in numba.prange(out.shape[1]):
        convolution.short_lines(flat, y * maps.shape[2] * maps.shape[3], window, weights, bias, 0, len(out), y, out)


maps, conv = torch.randn(64, 8, 26, 26), nn.Conv2d(8, 10, 3)
weight, bias = (parameter.detach().numpy() for parameter in conv.parameters())
lines = maps.permute(1, 2, 3, 0).contiguous().numpy(), convolution.forward_weights(weight), bias
out, operations = torch.empty(10, 24, 24, 64).numpy(), 2 * 8 * 9 * 10 * 24 * 24 * 64
with torch.no_grad():
    for name, call in (
        ("PyTorch's", lambda: conv(maps)),
        ("ours, number by number", lambda: convolve_number_by_number(*lines, out)),
        ("ours, in blocks of sums", lambda: convolution.convolve(*lines, 3, out)),
    ):
        call()
        taken = statistics.median(timeit.repeat(call, number=1, repeat=3 if options.quick else 100))
        print(f"{'measured':<11}{'the convolution 8 to 10, ' + name:<52}  {operations / taken / 1e9:.0f} GFLOP/s")

# %% [markdown]
# Around the convolutions, two more things count. **Passes over memory**: ReLU and dropout follow on a line while it
# is still in the nearest cache, BatchNorm needs one more pass, and its gradient another
# (`common/cpu_kernels/batchnorm.py`). And **calls**: a step has some fifty such loops, and Python, PyTorch and
# autograd take longer to ask for one than some of them run. So everything that is equal in every step is prepared
# once (`common/cpu_kernels/autograd.py`), and all layers up to the last activation are one operation of autograd's.
#
# One of this network's blocks, forward and backward, in the three orders:


# %%
def block_milliseconds(order):
    """A 3x3 convolution from 8 to 10 channels with what belongs to it, on a batch of 64 maps of 26x26."""
    block = nn.Sequential(nn.Conv2d(8, 10, 3, bias=False), nn.ReLU(), nn.BatchNorm2d(10), nn.Dropout2d(0.01))
    inputs = torch.randn(64, 8, 26, 26)
    if order == "channels last":
        block, inputs = (part.to(memory_format=torch.channels_last) for part in (block, inputs))
    forward = block
    if order == "batch last":
        forward = chwn.ChwnForward(block)
        inputs = inputs.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    inputs.requires_grad_()
    gradient = torch.randn_like(forward(inputs))
    seconds = timeit.repeat(lambda: forward(inputs).backward(gradient), number=1, repeat=3 if options.quick else 100)
    return 1e3 * statistics.median(seconds)


for order in ("pixels last", "channels last", "batch last"):
    print(f"{'measured':<11}{'the block 8 to 10, ' + order:<44}  {block_milliseconds(order):.2f} ms")

# %% [markdown]
# ## The physical limit
#
# Whatever the software, two things must happen. The **arithmetic**: each multiply-add of the forward pass is two
# operations, and the backward pass does twice as much again, for the gradient of the inputs and for that of the
# weights. And the **traffic**: each layer's output is written once, read by the next layer, read once more on the way
# back, and its gradient is written and read: five times four bytes for each value. (Values between a convolution and
# its pool or successor, after ReLU or BatchNorm, are taken as free, as if they never left the processor.)

# %%
least = roofline.least_work(STEP)
print(f"an image needs {least['flop'] / roofline.IMAGES / 1e6:.1f} million operations forward and back,")
megabytes = least["bytes"] / roofline.IMAGES / 1e6
print(f"and moves {megabytes:.2f} MB in float32: {least['flop'] / least['bytes']:.1f} operations a byte")

# %% [markdown]
# The machine has two rates to hold against this: operations a second in a large matrix product, and bytes a second in
# a large copy. The time of an epoch can be no less than the larger of the two quotients, even if both go on at the
# same time. This is the **roofline** bound (Williams, Waterman and Patterson, 2009). It takes the traffic to go to
# main memory. What stays in a cache moves faster than the copy that is timed here, so where it is the traffic that
# binds, the line is a yardstick and no wall.

# %%
rates = roofline.machine()
for precision in ("float32", "bfloat16"):
    arithmetic, limit = least["flop"] / rates[f"{precision}_flops"], roofline.limit_seconds(least, rates, precision)
    print(
        f"measured   {precision + ': matrix product, copy':<44}  {rates[f'{precision}_flops'] / 1e9:,.0f} GFLOP/s, "
        f"{rates['copy_bytes_per_second'] / 1e9:.0f} GB/s: arithmetic {arithmetic:.1f} s, at least {limit:.1f} s an epoch"
    )

# %%
seconds = [[run["seconds"] for run in runs] for runs in measured]
limit = min(roofline.limit_seconds(least, rates, precision) for precision in ("float32", "bfloat16"))
figure = plots.ladder([rung.name for rung in rungs], seconds, limit)
plots.show(figure, options.out, "ladder")

# %% [markdown]
# The dotted line is the lower of the two limits. The distance to the last bars holds, among other things, what the
# limit takes as free: ReLU, BatchNorm and Dropout behind each convolution, which read what was just written, once for
# the mean and variance, once to apply them, and twice again on the way back. The rate of arithmetic is that of a large
# matrix product, which a convolution of 8 to 32 channels is not. And every step still makes its way through Python and
# PyTorch, at a price that does not depend on how little is computed.

# %% [markdown]
# ## Batches by themselves
#
# The loaders alone, without a network: the augmented images of S7 block 3, from memory and from a DataLoader with two
# worker processes.

# %%
count = 256 if options.quick else 12_000
loading = {workers: variants.augmented_images_per_second(STEP, count, workers) for workers in (None, 2)}
print(f"{'measured':<11}{'in memory':<44}  {loading[None]:,.0f} images a second")
print(f"{'measured':<11}{'DataLoader, 2 workers':<44}  {loading[2]:,.0f} images a second")

# %% [markdown]
# ## Does it grow as it should?
#
# Cost should grow linearly: six times the images, six times the seconds, so the seconds *per 60,000 images* below
# should be the same in every line. And memory should depend on the batch, not on how long the run goes on: the peak
# after the fourth epoch should be that after the first, or hardly more.

# %%
default = bench.VARIANTS["default"]
sixth = 2 if options.quick else 156  # batches in a sixth of MNIST
for sixths in (1, 2, 4, 6):
    run = bench.measure(STEP, default, sixths * sixth)
    images = sixths * sixth * recipe.batch_size
    taken = run["seconds"] * images / roofline.IMAGES
    print(f"{'measured':<11}{f'{sixths}/6 of the images':<44}  {taken:.1f} s, {run['seconds']:.1f} s for 60,000")

# %%
run = bench.measure(STEP, default, batches, epochs=4)
megabytes = ", ".join("unknown" if value is None else f"{value:,.0f}" for value in run["megabytes_after_each_epoch"])
print(f"{'measured':<11}{'peak memory after each of four epochs':<44}  {megabytes} MB")

# %% [markdown]
# ## Beside other programs
#
# All numbers so far are of a quiet machine. Yours has a browser, a call, a second notebook. What happens to two
# trainings at once on two cores? Each should take about twice as long.
#
# It was many times as long, as the first line of each table below has it. The reason is how threads wait. Two threads share each loop, and whoever is done
# first waits for the other. To wait, OpenMP's threads **spin**: they ask again and again whether the other is done,
# which wakes faster than sleep. Now let another program take one of the two cores. The thread on the other core spins,
# and keeps *its* core from everybody, for nothing. With two trainings, four threads spin for each other.
#
# There are settings for it. `OMP_WAIT_POLICY=PASSIVE` has threads sleep at once, and `GOMP_SPINCOUNT` says how long
# they spin. Both help two trainings, and both slow down one that is alone, for it has some fifty such waits in a step.
#
# The course does something else. About twice a second a training asks the system how busy its cores are with other
# work, and takes as many threads as cores are idle (`common/training/threads.py`). Beside another program
# that is one thread, which waits for nobody. Alone it is both. Our loops compute each sum in one thread, in a fixed
# order, so the weights stay the same to the bit, however often the number changes (`tests/training/test_threads.py`).
#
# Seconds an epoch, recorded, with the ratio to the training alone in brackets (`course.py bench --beside` measures it):

# %%
from common.experiments import beside, course_time

print(beside.table(json.loads(beside.RECORDED.read_text(encoding="utf-8"))))

# %% [markdown]
# And what all of it comes to: every lesson of the course trained in full, but this one, which trains nothing and takes
# its eight minutes (`course.py bench --course`).

# %%
print(course_time.table(json.loads(course_time.RECORDED.read_text(encoding="utf-8"))))

# %% [markdown]
# ## On a GPU
#
# A GPU turns the question round. It has more arithmetic than this network knows what to do with, and what is slow is
# the asking. Each operation of PyTorch becomes one or more **kernels**, programs that the processor asks the GPU to
# run, one after the other. To ask takes some microseconds of Python and driver. In a network this small, to run a
# kernel takes less than to ask for it, so the GPU waits most of the time. The ladder up from there is another one:
#
# - **sources**: the source's loop as such notebooks have it on a GPU. Four worker processes make the images, each
#   batch travels to the GPU, and after each the loss and the number of correct images are read back. (Two things
#   differ from such a notebook on Colab: there are 16 cores for the workers, and the convolutions compute in full
#   float32, where PyTorch by itself would round their factors to 11 binary digits.)
# - **resident**: the whole set lies on the GPU, 47 MB of it, and is augmented there (`InMemoryLoader`).
# - **unread**: loss and accuracy are summed on the GPU and read once an epoch; every 50 batches there is a look at
#   whether the loss is still a number. To read a number, the processor must wait until all that it has asked for is
#   done, and while it waits it asks for nothing.
# - **default**: the forward pass, the loss and the backward pass are recorded once, as a **CUDA graph**, and replayed
#   for each batch. Their hundreds of kernels follow each other without being asked for (`common.training.acceleration.CudaGraphStep`).
# - **fused**, **bfloat16**, **compiled**: each on top of the default, to see whether it would help.
#
# If there is a GPU in your machine, here is what it needs for an epoch, measured once each, so that a difference of a
# tenth means nothing:

# %%
for name, variant in bench.GPU_VARIANTS.items():
    on_the_gpu = "no GPU here"
    if torch.cuda.is_available() and options.quick and variant.compiled:
        on_the_gpu = "not tried"
    elif torch.cuda.is_available():
        on_the_gpu = f"{bench.short(bench.measure(STEP, variant, bench.GPU_TIMES * batches)['seconds'])} s"
    print(f"{'measured':<11}{'on a GPU, ' + name:<38}  {on_the_gpu}")

# %% [markdown]
# And a recorded benchmark (`course.py bench --device cuda` measures it on yours). The memory is what PyTorch has
# reserved on the GPU, and the limit is computed as above, from the GPU's own rates:

# %%
recorded_gpu = json.loads(bench.RECORDED_GPU.read_text(encoding="utf-8"))
print(bench.table(recorded_gpu))

# %% [markdown]
# ## Is it still the same training?
#
# A fast loop that trains another network is worth nothing. Three kinds of sameness, each checked where it can be:
#
# - **To the bit**: reading the loss later and keeping memory change no arithmetic. One epoch either way ends with
#   equal weights (`tests/experiments/test_bench.py`).
# - **To rounding**: micro-batches, layouts, our own loops, the fused step and the compiler add up the same numbers in
#   another order. Gradients agree to a hundred-thousandth (`tests/training/test_acceleration.py`), those of our
#   loops, layer by layer, at least to a thousandth (`tests/cpu_kernels/test_chwn.py`), and the warped batches pixel
#   by pixel with torchvision's (`tests/data/test_loaders.py`). On a GPU, where the order of a sum is not always the
#   same, a replayed graph's gradients agree with the plain ones to a ten-thousandth.
# - **Within the spread over seeds**: bfloat16 rounds every product's factors to 8 binary digits. A gradient differs
#   by a few per cent of its length, where another batch differs by most of it. Our loops and a GPU draw other masks
#   of dropout. Whether that matters for the result only runs can say: the same seeds, trained in full in each way.

# %%
trained = {
    "float32": records.load(bench.RECORDED.with_name("block3_float32.json")),
    "batch last": records.load(bench.RECORDED.with_name("block3_chwn.json")),
    "bfloat16": records.load(STEP),
    "float32 on a GPU": records.load(bench.RECORDED.with_name("block3_gpu.json")),
}
read = {name: {run["seed"]: records.accuracy(run) for run in records.runs(one)} for name, one in trained.items()}
for name, accuracies in read.items():
    each = " ".join(f"{accuracy:.2f}" for accuracy in accuracies.values())
    before = [records.accuracy(run, -epoch) for run in records.runs(trained[name]) for epoch in range(2, 7)]
    print(f"{'recorded':<11}{name:<18}{each} %; mean of the five epochs before {statistics.fmean(before):.2f} %")
for name in ("batch last", "bfloat16", "float32 on a GPU"):
    found = comparison.paired(read["float32"], read[name])
    print(
        f"{'recorded':<11}{name:<18}mean difference {found.difference:+.2f} points over {found.seeds} seeds, "
        f"95 % interval {found.low:+.2f} to {found.high:+.2f} (paired by seed, Student's t)"
    )

# %% [markdown]
# In the CHWN layout five runs of one and the same recipe end up to 29 images in 10,000 apart: at a rate that never
# falls, each epoch ends somewhere else. ([S8 step 1](../S8/step1_learning_rate.ipynb) cures that.) So no interval here is narrower
# than a quarter of a point, and none says that two ways differ; nor do the five epochs before the last.

# %% [markdown]
# ## Time to accuracy: the shortest way to 99.40 %
#
# Seconds an epoch are a means. What you wait for is a network that is good enough, and then everything may change:
# the number of epochs, the batch, the recipe, the network itself, as long as it holds under 8,000 parameters. The
# [rules](../../sessions/S9/records/README.md) say where the clock starts and stops and what must not be chosen by a test image.
#
# Block 3's network spends most of its work on maps of 26x26 and 24x24. Here the first convolution takes two pixels at
# a time, and everything after it works on 12x12 and less:

# %%
from common.experiments import time_to_accuracy

for step in (STEP, "S9/time_to_accuracy"):
    rows = models.layer_rows(models.build(step))
    print(f"{step:<11}{sum(row.parameters for row in rows):>6,} parameters in layers that multiply")
    for row in rows:
        print(f"{'':<11}{row.name:<14}{'x'.join(map(str, row.shape)):>10}{row.multiply_adds:>12,} multiply-adds")
    print(f"{'':<11}{'all':<14}{'':>10}{sum(row.multiply_adds for row in rows):>12,} multiply-adds")

# %% [markdown]
# Halving the maps at once costs accuracy: [step 2](../S8/step8_frontier.ipynb) keeps the large maps, and reads
# 99.50 %<!--S8/step8_frontier mean--> with 4,500<!--S8/step8_frontier parameters--> parameters, but its runs take
# 6 minutes<!--S8/step8_frontier minutes-->. Here the recipe makes up for it. Block 3's source had a rate that never
# falls. This one has one cycle of a high rate, weight decay on the kernels, digits that are moved and scaled, and an
# exponential moving average of the weights (`common/training/optimizers.py` has the formulas). With these, nine
# epochs of 128 images a batch do.

# %%
print("\n".join(f"{name:<14}{value}" for name, value in vars(time_to_accuracy.RECIPE).items()))

# %% [markdown]
# `course.py time-to-accuracy` runs the race: ten processes of ours and, half way, one of the source's. It takes about ten
# minutes, so here stands the recorded one. The seconds are those of whole processes.

# %%
print(time_to_accuracy.text(json.loads(time_to_accuracy.RECORDED.read_text(encoding="utf-8"))))

# %% [markdown]
# About three of our seconds are spent before the first batch and after the last: Python, PyTorch, reading and
# checking the files, the test, the weights. In the rest the arithmetic is the small part. A step of 128 images is
# some two hundred calls into PyTorch, and each has its price, however little it computes. With half the
# multiply-adds, by a second convolution that takes two pixels at a time, an epoch was only 8 % faster. Batches of 256
# halve the number of calls, and need more epochs for the same accuracy. The log on the [rules'
# page](../../sessions/S9/records/README.md) has what became of the accuracy.

# %% [markdown]
# ## Result
#
# This machine, now, against the targets:

# %%
by_foot = [statistics.median(foot) for _, foot in ablation.gains(rungs, measured)]
names = [rung.name for rung in rungs]
by_default = by_foot[names.index("fused optimizer step")]
memory = max(value or 0 for value in run["megabytes_after_each_epoch"])
for text, value, met in (
    ("default, at least 3.0 times the sources", by_default, by_default >= 3),
    ("fastest, at least 5.0 times the sources", max(by_foot), max(by_foot) >= 5),
    ("loading, at least 20 times", loading[None] / loading[2], loading[None] / loading[2] >= 20),
    ("peak memory below 1,200 MB", memory, memory < 1200),
):
    outcome = "not compared" if options.quick else "met" if met else "missed"
    print(f"{'measured':<11}{text:<44}  {value:,.1f}  {outcome}")

# %% [markdown]
# The last target is the recorded race's:

# %%
race = time_to_accuracy.figures(json.loads(time_to_accuracy.RECORDED.read_text(encoding="utf-8")))
for text, value, met in (
    (
        f"mean of {race['seeds']} seeds >= {time_to_accuracy.BAR:.2f} %",
        f"{race['mean']:.3f} %",
        race["mean"] >= time_to_accuracy.BAR,
    ),
    ("to 99.40 %, at least 12 times the source", f"{race['ratio']:.1f}", race["ratio"] >= 12),
):
    print(f"{'recorded':<11}{text:<44}  {value}  {'met' if met else 'missed'}")

# %% [markdown]
# And the recorded benchmark of three networks. `course.py bench` measures it on your machine, in about four minutes:
# "sources" is the bottom of the ladder, "float32" the lessons' loop with PyTorch's layers in float32, "default" what the
# lessons do unasked, and "compiled" PyTorch's layers with `torch.compile`.

# %%
recorded = json.loads(bench.RECORDED.read_text(encoding="utf-8"))
print(bench.table(recorded))

# %% [markdown]
# And a later record, of another machine: PyTorch's layers ("float32") against ours ("default") for every kind of
# network that our loops compute, with the same loader. Those of S8 step 7 are timed with their teacher
# (`course.py bench --layers`).

# %%
print(bench.table(json.loads(bench.RECORDED_LAYERS.read_text(encoding="utf-8"))))

# %% [markdown]
# ## Analysis
#
# The numbers here are the recorded ones, of the machine that the last line above names. The ladder of this page was
# climbed on the machine that its `machine` line names, and may tell another story.
#
# **What carried.** On the record, the source's loop takes 49.0 seconds<!--bench S7/block3 sources seconds--> for an
# epoch of S7 block 3. The same layers, fed from memory that is kept, take
# 29.8 seconds<!--bench S7/block3 float32 seconds-->, 1.6 times<!--bench S7/block3 float32 ratio--> faster. The
# default, by loops in the CHWN layout, takes 8.0 seconds<!--bench S7/block3 default seconds-->:
# 6.1 times<!--bench S7/block3 default ratio--> faster than the source. PyTorch's compiler gets to
# 2.4 times<!--bench S7/block3 compiled ratio-->, for it leaves the convolutions to the library. For S6 step 3 the
# default is 4.7 times<!--bench S6/part2_step3_global_pooling default ratio--> faster than the source's loop, where
# the library's layers are 2.2 times<!--bench S6/part2_step3_global_pooling float32 ratio-->. S5's convolutions of up
# to 256 channels fill any vector; the library's are hard to beat, and its epoch is
# 2.1 times<!--bench S5/step1_first_network default ratio--> faster by default,
# 2.3 times<!--bench S5/step1_first_network float32 ratio--> in float32. On that processor these two are the same
# computation: so much is the machine's noise.
#
# **How far from the end.** The default reaches 26 %<!--bench S7/block3 default limit--> of the roofline limit on S7
# block 3 and 56 %<!--bench S5/step1_first_network default limit--> on S5. The small network is the harder one to run
# fast, though it needs a thirtieth of the arithmetic: it has little to multiply and much to move. In a profile of S7
# on that machine, our loops took 6.5 of a step's 8.4 milliseconds. Nearly half of these went to the first two layers,
# whose 32 maps of 26x26 are too large for the nearer caches: what a convolution writes there, BatchNorm must fetch again.
#
# **What did not carry.** An honest ladder keeps the rungs that do nothing; the table above says which they are on
# your machine. *Channels last* suits this network's convolutions and not its BatchNorms of few channels, as the
# closer look shows. *bfloat16* needs matrix units to be fast, and the processor of this record has none. *Compiled*
# is a gain over the library's layers, and no longer one over loops that fit the network. The *fused optimizer step*
# has 7,904 weights to update, and a fifth of a millisecond to gain: less than such a ladder can see in the machine's
# noise.
# *Winograd's convolution* needs 16 products where a 3x3 kernel has 36. It was written for wide networks such as a
# teacher, and left out again: what it saves it pays in additions, and beside the library's layers little was left.
#
# **What was missed.** S5, with everything allowed, was to become three times faster. It was where a processor has
# matrix units (below). Without them its time is arithmetic in float32, which nothing on this ladder makes less of.
#
# **Another processor.** [bench_amx.json](../../sessions/S9/bench_amx.json) is an older record, of a processor with Intel's matrix units
# for bfloat16, from before there were our own loops. There the library's layers in bfloat16 were
# 2.5 times<!--bench amx S7/block3 bfloat16 ratio--> faster than the source's loop for S7, compiled
# 2.9 times<!--bench amx S7/block3 compiled ratio-->, and S5, whose large matrix products such units are built for, was
# 6.6 times<!--bench amx S5/step1_first_network default ratio--> faster. S5 still computes so there. How fast our loops
# are on such a processor has not been measured yet.
#
# **What a GPU changes.** Nearly everything. On an NVIDIA H200 the source's loop takes
# 4.6 seconds<!--bench gpu S7/block3 sources seconds--> for an epoch of S7 block 3, and ours
# 0.68 seconds<!--bench gpu S7/block3 default seconds-->, 6.9 times<!--bench gpu S7/block3 default ratio--> faster.
# What carries far on a CPU, the images made as whole batches, is a small gain here
# (1.1 times<!--bench gpu S7/block3 resident ratio-->), since on 16 cores four workers keep up with a network that
# waits for its own orders. Waiting less for numbers is another small gain. The great one is the graph: five times.
# Above it a fused optimizer step gains two per cent, and the compiler nothing clear. bfloat16 loses: it adds kernels,
# probably those that convert numbers, and saves arithmetic that was not what took the time. By this GPU's rates an
# epoch could take an eightieth of a second, and the default reaches 2 %<!--bench gpu S7/block3 default limit--> of
# that: 64 images of a small network do not keep its 132 multiprocessors busy. The wide network of S5, with batches of
# 512, reaches 41 %<!--bench gpu S5/step1_first_network default limit-->. (Two repeats, not three. The source's loop
# took 4.0 and 5.3 seconds in them, so the ratios to it are rough. For S5 it is measured too slow, perhaps by a third:
# its workers were still busy with batches of an epoch before. The benchmark waits for them now.)
#
# **How sure the baseline is.** Less sure than its three repeats look. The same source's loop for S7 took between 24
# and 35 seconds an epoch in one quiet hour, each time in a process of its own, and hardly varied within one. What
# differs is what the C library has learned of the process by then: it keeps freed blocks up to the largest that it
# has seen freed. After the course's own reading of MNIST, as in the race above, the loop took about 24 seconds every
# time in that hour, and against that bfloat16, the default of that day, was only 1.8 times faster. "Freed memory kept"
# takes this luck away: it is the rung that the source gets for nothing on a good day.

# %% [markdown]
# ## Exercises
#
# Each has a stub, a check that answers at once, and a solution to unfold.
#
# **Exercise 1: why the last rung is steep** (easy, 5 minutes). An epoch takes 10 seconds of loading and 20 seconds of
# training. Loading is made 20 times faster, then training twice as fast. Give the total speed-up after each step,
# from a list of (seconds, factor) pairs. (This is Amdahl's law.)


# %%
def total_speedup(parts: list[tuple[float, float]]) -> float | None:
    """`parts` are (seconds before, how many times faster it became)."""
    # Your lines here. Then return your result instead of None.
    return None


check("only loading, 20 times faster", total_speedup([(10, 20), (20, 1)]), 1.4634, tolerance=0.0001)
check("and training, twice as fast", total_speedup([(10, 20), (20, 2)]), 2.8571, tolerance=0.0001)
check("loading for nothing, and nothing else", total_speedup([(10, 1e12), (20, 1)]), 1.5, tolerance=0.0001)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def total_speedup(parts):
#     return sum(seconds for seconds, _ in parts) / sum(seconds / factor for seconds, factor in parts)
# ```
#
# The same loader is worth 1.46 times alone. On top of the faster training it is worth 20 / 10.5 = 1.90 times: the
# rung has not changed, the ladder under it has.
#
# </details>

# %% [markdown]
# **Exercise 2: which roof?** (medium, 10 minutes). A layer of S5, the convolution 128 -> 256 of 3x3 that gives 8x8
# values, and one of S7 block 3, the 1x1 convolution 32 -> 8 on 26x26. For each: multiply-adds per value that it
# writes. A processor that does 300 GFLOP/s and copies 20 GB/s can do how many operations in the time that it moves 4
# bytes?


# %%
def multiply_adds_per_output(inputs: int, kernel: int) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


def operations_while_moving(gigaflops: float, gigabytes: float, size: int) -> float | None:
    """How many operations fit into the time in which `size` bytes are moved."""
    # Your lines here. Then return your result instead of None.
    return None


check("S5's 128 -> 256 by 3x3", multiply_adds_per_output(128, 3), 1_152)
check("S7's 32 -> 8 by 1x1", multiply_adds_per_output(32, 1), 32)
check("operations while 4 bytes move", operations_while_moving(300, 20, 4), 60.0, tolerance=1e-9)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def multiply_adds_per_output(inputs, kernel):
#     return inputs * kernel * kernel
#
#
# def operations_while_moving(gigaflops, gigabytes, size):
#     return gigaflops / gigabytes * size
# ```
#
# S5's layer does 2,304 operations for each value that it writes, S7's does 64. One move costs the time of 60. So the
# first is bound by arithmetic, and the second, which also reads its inputs, by traffic: there, a faster matrix
# product is of no use.
#
# </details>

# %% [markdown]
# **Exercise 3: eight binary digits** (medium, 10 minutes). bfloat16 keeps 8 significant binary digits. Between 1 and
# 2 its numbers lie 2**-7 apart. Round a number to the nearest bfloat16 (for a tie either neighbour will do). Then see
# why the weights themselves stay float32: what becomes of 1 after a step of 0.0015?


# %%
def to_bfloat16(value: float) -> float | None:
    # Your lines here: math.frexp(value) gives m and e with value = m * 2**e and 0.5 <= m < 1. Then return your result.
    return None


check("1/3", to_bfloat16(1 / 3), 0.333984375)
check("3.14159", to_bfloat16(3.14159), 3.140625)
check("1 after a step of 0.0015", to_bfloat16(1 - 0.0015), 1.0)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def to_bfloat16(value):
#     import math
#
#     mantissa, exponent = math.frexp(value)
#     return math.ldexp(round(mantissa * 2**8) / 2**8, exponent)
# ```
#
# A relative error of up to 2**-8, about 0.4 %, in every factor; in a sum of many products the errors mostly cancel.
# But a weight of 1 that is stored in bfloat16 does not feel a small step at all: below 1 the next number is 2**-8 =
# 0.0039 away. Thousands of small steps would be lost one by one. So products are bfloat16, and the weights float32.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. A measurement needs its own process, turns, a warm-up, a quiet machine, and a spread beside its median.
# 2. The ladder: the recorded default is 6.1 times<!--bench S7/block3 default ratio--> faster than the source's loop,
#    with the batch last in memory; the rungs that did nothing are on it too.
# 3. Keeping memory changes no bit; micro-batches, layouts and our own loops change the rounding; bfloat16 and other
#    masks of dropout stay within the spread over seeds, in the paired runs above.
# 4. Seconds grow with the images, memory does not grow with the epochs: the lines above say how exactly.
# 5. The default is at 26 %<!--bench S7/block3 default limit--> of the roofline limit on S7 block 3, and at
#    56 %<!--bench S5/step1_first_network default limit--> on S5, whose layers are large matrix products.
# 6. On a GPU what costs is the asking. A step that is recorded once and replayed made an epoch five times faster, and
#    nothing else on that ladder came near.
