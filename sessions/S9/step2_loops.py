# %% [markdown]
# # S9 step 2: Lay side by side what is computed alike
#
# On the ladder of step 1 our own loops left PyTorch's layers behind, compiled or not. This page opens one convolution
# and sees why: what lies beside what in memory, what a core can do at once, and how often a number travels. At the end
# you compute how fast the machine could be at best.
#
# **What you'll do**
#
# 1. Find a number's place in memory, in three layouts.
# 2. Fill a processor's vectors.
# 3. Measure one layer in two layouts.
# 4. See what a block of sums saves.
# 5. Compute the roofline limit of an epoch.
#
# **What you'll learn**: memory layouts, vectors, blocks of sums, the roofline.
#
# **What you'll need**: [step 1](step1_speed.ipynb), [S7 block 3](../S7/block3.ipynb), and 30 minutes. The computer
# needs seconds; where it has never run the course's loops, it first compiles some for half a minute.
#
# *Before this*: [step 1](step1_speed.ipynb), the ladder. *After this*: [step 3](step3_beside_others.ipynb), other
# programs and a GPU. The [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository; the [notes on
# it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | our block: values and gradients | PyTorch's, to a thousandth | a fast layer must be the same layer |
# | the block, forward and back | at least 2 times faster than the better of PyTorch's layouts | less would not pay for the work |
# | a convolution in blocks of sums | at least 2 times the plain loop | that is what the blocks are for |
# | an epoch | at least a quarter of what the machine's rates allow | so that little is left to find |

# %%
TRAIN = "recorded"  # shows times that were measured before; "full" measures on your machine, "quick" only goes through
try:
    from common.recipe import Augmentation, Recipe, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S9/step2_loops",
    network="S7/block3",
    epochs=1,
    batch_size=64,
    lr=0.02,
    momentum=0.8,
    augmentation=Augmentation(rotation=5, crop_probability=0.1),
)
recipe, options = command_line(recipe, TRAIN)

# %%
import inspect

import torch
from torch import nn

from common.cpu_kernels import chwn, convolution
from common.experiments import ablation, bench, parts, roofline
from common.lesson import Exercises, plots

exercises = Exercises(recipe.step)
calls = 3 if options.quick else 100
if options.recorded:
    measured, machine = bench.load(parts.RECORDED), bench.load(ablation.RECORDED)
else:
    machine = roofline.machine()
    measured = machine | {"block": parts.block(calls), "convolution": parts.convolution(calls)}
    measured["layouts"] = parts.layouts(calls)
print(bench.machine_line(measured))

# %% [markdown]
# ## Three layouts
#
# A batch of maps has four directions: images, channels, lines, pixels. Memory has one. So something has to be chosen to
# lie side by side. Here are two images with three channels of four pixels. A colour is a channel, "2c" is pixel c of
# image 2.

# %%
plots.show(plots.memory_orders(), options.out, "memory_orders")

# %% [markdown]
# - *Pixels last* is PyTorch's usual order. A channel is a picture in one piece.
# - *Channels last* has all channels of a pixel together. It is the usual advice for convolutions.
# - *Batch last* has the same pixel of all images. Its shape is channels, height, width, images, in short **CHWN**.
#
# **Yours: the place in memory** (medium, 5 minutes). The shape is that of batch-last maps: channels, height, width,
# images. Return how many numbers lie in front of the one that is asked for.


# %%
def place(channel: int, y: int, x: int, image: int, shape: tuple[int, int, int, int]) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


shape = (8, 26, 26, 64)
place = exercises.check(place, (0, 0, 0, 5, shape), (0, 0, 1, 0, shape), (7, 3, 2, 1, shape))

# %% [markdown]
# <details><summary>Hint</summary>
#
# One pixel to the right lies `images` numbers further on. One line down lies `width * images` further on.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def place(channel, y, x, image, shape):
#     _, height, width, images = shape
#     return ((channel * height + y) * width + x) * images + image
# ```
#
# </details>

# %%
maps = torch.randn(64, 8, 26, 26)
flat = maps.permute(1, 2, 3, 0).contiguous().flatten()
at = place(7, 3, 2, 1, shape)
print(f"image 1, channel 7, line 3, pixel 2 lies at {at:,}; the right number: {bool(flat[at] == maps[1, 7, 3, 2])}")
print(f"the pixel to its right lies {place(7, 3, 3, 1, shape) - at} numbers further on")

# %% [markdown]
# ## Fill the vectors
#
# A core computes in **vectors**: one instruction multiplies and adds 8 numbers, or 16, that lie side by side. If a line
# has 24 numbers, a vector of 16 is full once, and then half empty. Each place in a vector is called a **lane**.
#
# **Yours: the share of lanes that work** (easy, 5 minutes). A line of `length` numbers is computed by vectors of
# `lanes` numbers. Return the share of all their lanes that have a number. By hand, for 24 and 16: two vectors have 32
# lanes, and three quarters of them work.


# %%
def lanes_used(length: int, lanes: int) -> float | None:
    # Your line here. Then return your result instead of None.
    return None


lanes_used = exercises.check(lanes_used, (24, 16), (64, 16), (10, 16), (26, 8))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `-(-length // lanes)` is the number of vectors: a division that rounds up.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def lanes_used(length, lanes):
#     return length / (-(-length // lanes) * lanes)
# ```
#
# </details>
#
# **Predict first.** A library fills its vectors with the pixels of a line or with channels. Block 3's lines have 26,
# 24, 12, 10 and 8 pixels, its layers 8, 10, 16 or 32 channels. How many of these fill vectors of 16 wholly? And what is
# there 64 of?
#
# <details><summary>Answer</summary>
#
# Of the lines none, of the channels 16 and 32. There are 64 images in a batch, all to be treated alike, with no edge.
#
# </details>

# %%
for what, lengths in {"pixels": (26, 24, 12, 10, 8), "channels": (8, 10, 16, 32), "images": (64,)}.items():
    print(f"{what:<10}" + "".join(f"{length:>5}: {100 * lanes_used(length, 16):>3.0f} %" for length in lengths))

# %% [markdown]
# ## Measure a layer in two layouts
#
# **Experiment.** BatchNorm of 8 channels, forward and backward on a batch. How many times as long does it take with the
# channels last as with the pixels last? Write your guess into `prediction`, and run the cell. Three layers more are
# measured beside it.

# %% tags=["experiment", "measured"]
prediction = None  # how many times as long, such as 0.5 or 2
for name, seconds in parts.layouts(3 if options.quick else 20).items():
    before, now = (1e3 * value for value in seconds.values())
    print(f"{name:<26}pixels last {before:6.2f} ms, channels last {now:6.2f} ms: {now / before:.1f} times as long")
print("You made no prediction." if prediction is None else f"You predicted {prediction} and found {now / before:.1f}.")

# %% [markdown]
# The record, of the machine in the line above:

# %%
for name, seconds in measured["layouts"].items():
    before, now = seconds.values()
    print(f"{'measured':<11}{name:<38}  {1e3 * before:.2f} ms, channels last {1e3 * now:.2f} ms")

# %% [markdown]
# A layout suits a layer, not a network. Where one layer gains and its neighbour loses, a rung of the ladder gains
# nothing. So a good advice is a question to a machine.
#
# ## A block of sums
#
# With the batch last, every vector is full, and a whole line of a map becomes one long row of numbers. This is a
# convolution's arithmetic in that layout. Each number is a sum over k, the places that a kernel looks at:

# %%
print(inspect.getsource(convolution.short_lines.py_func))

# %% [markdown]
# numba compiles such a loop for the processor that it finds. But for every product it loads a vector of the map *and*
# one of the sum, and stores the sum again. A core can load only as many numbers in a cycle as it can multiply, so most
# of it waits.
#
# The loop that trains the course's networks (`weighted_sums` in `common/cpu_kernels/registers.py`) works on a **block
# of sums**: five output maps and four vectors of a line. The block stays in the processor's registers, its fastest
# memory, until the sum over k is done. For each k it loads 4 vectors of the map and 5 weights, and with these 9 loads
# it computes 20 vectors of products.

# %%
print(f"plain loop: {2 / 1:.2f} loads for each vector of products")
print(f"block of 5 x 4 sums: {(5 + 4) / (5 * 4):.2f} loads")
for name, rate in measured["convolution"].items():
    print(f"{'measured':<11}{'the convolution 8 to 10, ' + name:<52}  {rate / 1e9:.0f} GFLOP/s")

# %% [markdown]
# A compiler does not find that by itself. GFLOP/s are thousand million operations in a second.
#
# ### Passes and calls
#
# Around the convolution, two more things count. **Passes over memory**: ReLU and dropout follow on a line while it is
# still in the nearest cache. BatchNorm needs one more pass, and its gradient another. **Calls**: a step has some fifty
# such loops, and to ask for one can take longer than to run it. So all layers up to the last activation are one
# operation of autograd's. (S5's network has no BatchNorm, so its large batches can go through in
# [micro-batches](../S5/step1_first_network.ipynb) of 64 that stay in a cache.) Here is a block of the network, of
# convolution, ReLU, BatchNorm and Dropout, in the three layouts.

# %%
for layout, seconds in measured["block"].items():
    print(f"{'measured':<11}{'the block 8 to 10, ' + layout:<44}  {1e3 * seconds:.2f} ms")

# %% [markdown]
# Is it the same block? Both ways get the same weights and maps (without Dropout, which draws other masks).

# %%
block = nn.Sequential(nn.Conv2d(8, 10, 3, bias=False), nn.ReLU(), nn.BatchNorm2d(10))
results = []
for forward in (block, chwn.ChwnForward(block)):
    block.zero_grad()
    out = forward(maps)
    (out**3).mean().backward()
    results.append([out.detach(), *(weight.grad.clone() for weight in block.parameters())])
apart = max(float((one - other).norm() / one.norm()) for one, other in zip(*results, strict=True))
print("values and gradients agree to a thousandth:", apart < 1e-3)

# %% [markdown]
# ## The roofline
#
# How fast could it be? Two things must happen, whatever the software. The **arithmetic**: two operations for each
# multiply-add, and the backward pass takes twice as many again. The **traffic**: each layer's output is written, read
# by the next layer, read once more on the way back, and its gradient is written and read. That is five times 4 bytes.
# (ReLU, BatchNorm and Dropout are taken as free.)

# %%
least = roofline.least_work("S7/block3")
operations, moved = (least[name] / roofline.IMAGES / 1e6 for name in ("flop", "bytes"))
print(f"an image: {operations:.1f} million operations forward and back, {moved:.2f} MB moved")
print(f"so {operations / moved:.1f} operations for each byte")

# %% [markdown]
# The machine has two rates: operations a second in a large matrix product, and bytes a second in a large copy. Both can
# go on at the same time. So the time is at least the longer of the two. This bound is the **roofline** ([Williams,
# Waterman and Patterson](https://doi.org/10.1145/1498765.1498785)). It takes the traffic to go to main memory; what
# stays in a cache moves faster. So where the traffic binds it is a yardstick and no wall.
#
# **Yours: the least seconds** (easy, 5 minutes). `flops` and `bandwidth` are the rates, in operations and bytes a
# second.


# %%
def least_seconds(operations: float, moved: float, flops: float, bandwidth: float) -> float | None:
    # Your line here. Then return your result instead of None.
    return None


least_seconds = exercises.check(least_seconds, (6e11, 2e10, 3e11, 2e10), (1e10, 4e10, 3e11, 2e10))

# %% [markdown]
# <details><summary>Hint</summary>
#
# One quotient is the time of the arithmetic, one that of the traffic. They overlap.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def least_seconds(operations, moved, flops, bandwidth):
#     return max(operations / flops, moved / bandwidth)
# ```
#
# </details>
#
# **Predict first.** S5 has a 3x3 convolution from 128 to 256 channels. S7 block 3 begins with one from 1 to 32. Which of
# them waits for arithmetic, and which for memory?
#
# <details><summary>Answer</summary>
#
# S5's does 1,152 multiply-adds for each number that it writes, and waits for arithmetic. S7's does 9, and waits for
# memory. There a faster matrix product is of no use.
#
# </details>

# %%
layers = {"S7: 1 to 32, 3x3": 1 * 9, "S7: 32 to 8, 1x1": 32, "S7: 8 to 10, 3x3": 8 * 9, "S5: 128 to 256, 3x3": 128 * 9}
flops, bandwidth = machine["float32_flops"], machine["copy_bytes_per_second"]
could = {}
for name, multiply_adds in layers.items():
    could[name] = 3 * 2 * multiply_adds / (5 * 4)
    print(f"{name:<22}{multiply_adds:>6,} multiply-adds for each output, {could[name]:6.1f} operations a byte")
print(f"{'measured':<11}{'the machine':<38}  {flops / 1e9:,.0f} GFLOP/s, {bandwidth / 1e9:.0f} GB/s")

# %%
climbed = bench.load(ablation.RECORDED)
seconds = {name: ablation.figures(climbed, name)["seconds"] for name in ("freed memory kept", "fused optimizer step")}
names = {"freed memory kept": "an epoch by PyTorch's layers", "fused optimizer step": "an epoch by ours"}
reached = {names[name]: (operations / moved, least["flop"] / value) for name, value in seconds.items()}
plots.show(plots.roofline(flops, bandwidth, could, reached), options.out, "roofline")

# %% [markdown]
# The gray line is the roof: left of the bend memory decides, right of it arithmetic. The dots are what layers could do,
# the diamonds what whole epochs of the ladder did. What lies between the upper diamond and the roof? What the bound
# takes as free, layers that are no large matrix product, and the calls.

# %% [markdown]
# ## Result

# %%
limit = least_seconds(least["flop"], least["bytes"], climbed["float32_flops"], climbed["copy_bytes_per_second"])
share = 100 * limit / seconds["fused optimizer step"]
pixels, channels, batch = measured["block"].values()
plain, blocks = (measured["convolution"][name] for name in ("ours, number by number", "ours, in blocks of sums"))
for text, value, met in (
    ("the block, at least 2 times", min(pixels, channels) / batch, min(pixels, channels) / batch >= 2),
    ("blocks of sums, at least 2 times the loop", blocks / plain, blocks / plain >= 2),
    ("the ladder's epoch, at least 25 % of the limit", share, share >= 25),
):
    outcome = "not compared" if options.quick else "met" if met else "missed"
    print(f"{'measured':<11}{text:<46}  {value:.1f}  {outcome}")
print("values and gradients to a thousandth: met" if apart < 1e-3 else "values and gradients to a thousandth: missed")

# %% [markdown]
# And for every kind of network that our loops compute, the epoch by PyTorch's layers ("float32") and by ours
# ("default"), a record of another machine (`course.py bench --layers`). Those of S8 step 7 are timed with their
# teacher.

# %%
print(bench.table(bench.load(bench.RECORDED_LAYERS)))

# %% [markdown]
# ## Analysis
#
# **What worked.** Whatever is computed alike lies side by side, and is loaded once for many products. In the table
# above our loops are 3.7 times<!--bench layers S7/block3 default ratio--> as fast as PyTorch's layers for S7 block 3,
# and 1.6 times<!--bench layers S6/part2_step1_dense_head default ratio--> where the layers are wider.
#
# **What is left.** In the benchmark of step 1 the default reaches 26 %<!--bench S7/block3 default limit--> of its
# machine's roofline limit on S7 block 3, and 56 %<!--bench S5/step1_first_network default limit--> on S5. The small
# network is the harder one to run fast, though it needs a thirtieth of the arithmetic: it has little to multiply and
# much to move.
#
# **What the next step asks.** All this is for a machine that does nothing else. [Step 3](step3_beside_others.ipynb)
# starts another program.

# %% [markdown]
# ## Quiz
#
# **Question 1.** Why do vectors like the batch in last place?
#
# - **a** A batch is smaller than a map.
# - **b** All images are treated alike, and 64 is a multiple of a vector's length.
# - **c** The images of a batch are alike.
#
# <details><summary>Answer</summary>
#
# **b.** a: it is about the length of a row, not about size. c: what is computed is alike, what is drawn need not be.
#
# </details>
#
# **Question 2.** What does a block of sums save?
#
# - **a** Products.
# - **b** Loads and stores: a loaded number serves several sums.
# - **c** Memory.
#
# <details><summary>Answer</summary>
#
# **b.** a: every product is still computed. c: the maps are as large as before.
#
# </details>
#
# **Question 3.** A layer does 4 operations for each byte, and the machine can do 12 in the time of one byte. You find a
# matrix product that is twice as fast. What do you gain?
#
# - **a** Nothing, by the roofline: the layer waits for memory.
# - **b** The layer becomes twice as fast.
# - **c** The layer becomes three times as fast.
#
# <details><summary>Answer</summary>
#
# **a.** The longer of the two times is that of the traffic. b would be right beyond the bend of the roof.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. Memory has one direction. In the CHWN layout the same pixel of all images lies side by side.
# 2. With 64 images in a row every lane works; with 10 pixels in a row, 62 % do.
# 3. A layout that suits one layer may harm its neighbour. Measure both.
# 4. A block of 5 x 4 sums needs 9 loads for 20 vectors of products, the plain loop 40.
# 5. An epoch takes at least the longer of its arithmetic and its traffic.
