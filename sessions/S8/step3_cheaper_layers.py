# %% [markdown]
# # S8 step 3: Split the convolutions, and spend on width what that saves
#
# S7 block 3 has 7,904 parameters. Nine of ten are in 3x3 convolutions. This page splits such a convolution into two
# cheap ones, asks what the cheap pair cannot do, and buys more channels with the savings. A second, smaller change is
# an activation without ReLU's edge.
#
# **What you'll do**
#
# 1. Split a convolution in two, and write the price of both kinds.
# 2. Find what the cheap kind cannot do, and the way around it.
# 3. See where two networks spend their parameters, and why the last layers are the wide ones.
# 4. Write the slope of SiLU, and see it beside ReLU's.
# 5. Train both changes for seconds, then read what five seeds of full trainings say of them.
#
# **What you'll learn**: separable convolutions, rank 1, SiLU.
#
# **What you'll need**: [1x1 convolutions](../S7/block3.ipynb) from S7, [the sigmoid and its
# slope](../S6/part1_backprop.ipynb) from S6 part 1, and about 30 minutes. The computer needs a minute or two.
#
# *Before this*: [step 2](step2_regularisation.ipynb), what regularises. *After this*: [step 4](step4_where_it_looks.ipynb), where a network looks.
# The [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository; the [notes on
# it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | weights of a layer from 40 to 40 channels | less than a seventh of the dense layer's | our network ends with such a layer |
# | parameters of our network | at most 7,904 | the same budget, so that only the way of spending differs |
# | what each change brings | a difference with its interval | a change with a good name may still bring nothing |
#
# The recipe below trains block 3's network without its dropout, by the one-cycle rate of step 1 and the weight decay of
# step 2.

# %%
TRAIN = "recorded"  # this page's experiments train for seconds: "full" does the same, "quick" only goes through them
try:
    from common.recipe import Augmentation, Recipe, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S8/step3_cheaper_layers",
    network="S8/under_8k_dense",
    epochs=15,
    batch_size=64,
    lr=0.2,
    momentum=0.9,
    nesterov=True,
    one_cycle=0.2,
    weight_decay=1e-4,
    augmentation=Augmentation(rotation=5, crop_probability=0.1),
)
recipe, options = command_line(recipe, TRAIN)

# %%
import dataclasses
import time
from collections import Counter

import torch
from torch import nn
from torch.nn import functional

from common import data, models, training
from common.experiments import ladder
from common.lesson import Exercises, experiment, plots

exercises = Exercises(recipe.step)
device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
print(digits)
print("This page has no record of its own: it reads the records of the ablation ladder.")

# %% [markdown]
# ## Two jobs, two layers
#
# A 3x3 convolution does two jobs at once. It looks at the neighbours of each place, and it mixes the channels. For
# both it needs one 3x3 kernel for each pair of an input and an output. From 3 to 4 channels these are 12 kernels, or
# 108 weights. (There are no biases on this page: BatchNorm has a shift of its own.)
#
# A **separable convolution** gives each job its own layer:
#
# - a **depthwise** convolution looks at the neighbours. Each channel gets one 3x3 kernel, and no channel meets another.
# - a **pointwise** convolution mixes the channels. It is a 1x1 convolution: one number for each pair, no neighbours.
#
# From 3 to 4 channels that is 27 + 12 = 39 weights.

# %%
plots.show(plots.split_convolution(), options.out, "split_convolution")

# %% [markdown]
# The idea is from Sifre's thesis. MobileNet is built of it ([Howard and others](https://arxiv.org/abs/1704.04861)). In
# PyTorch, `groups=inputs` makes a convolution depthwise.
#
# **Yours: the price list** (easy, 5 minutes). From C to D channels, return the number of weights of a dense 3x3
# convolution and of a separable one, as a pair.


# %%
def prices(inputs: int, outputs: int) -> tuple[int, int] | None:
    # Your lines here. Then return your pair instead of None.
    return None


prices = exercises.check(prices, (3, 4), (40, 40), (16, 10))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Count the kernels in the picture. On the left: one for each pair, with 9 weights. On the right: one for each input, and
# a single number for each pair.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def prices(inputs, outputs):
#     return 9 * inputs * outputs, 9 * inputs + inputs * outputs
# ```
#
# </details>
#
# **Predict first.** From 3 to 4 channels the separable layer costs about a third. From 64 to 64, is it a third again,
# more, or less?
#
# <details><summary>Answer</summary>
#
# Less: about an eighth. With many channels nearly all weights are in the pairs, and there the separable layer has one
# number where the dense one has nine. So it can never become more than nine times cheaper.
#
# </details>

# %%
print(f"{'from C to D':<14}{'dense':>8}{'separable':>12}{'times cheaper':>16}")
for inputs, outputs in ((3, 4), (10, 16), (16, 16), (40, 40), (64, 64)):
    dense, separable = prices(inputs, outputs)
    print(f"{f'{inputs} to {outputs}':<14}{dense:>8,}{separable:>12,}{dense / separable:>16.1f}")

# %% [markdown]
# ## What the cheap layer cannot do
#
# Between the two halves there is no activation. So the pair as a whole only multiplies and adds, and there is a single
# dense kernel that does the same. What does it look like?
#
# **Yours: the pair as one kernel** (medium, 5 minutes). `depthwise` has the shape [inputs, 1, 3, 3] and `pointwise` the
# shape [outputs, inputs, 1, 1]. Return the dense kernel, of the shape [outputs, inputs, 3, 3].


# %%
def as_one_kernel(depthwise: torch.Tensor, pointwise: torch.Tensor) -> torch.Tensor | None:
    # Your line here. Then return your result instead of None.
    return None


edges = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
depthwise = torch.stack([edges, edges.T, torch.ones(3, 3) / 2])[:, None]
pointwise = torch.tensor([[1.0, 0.5, -1], [-1, 0.2, 0.6], [0.4, -1, 0.3], [0.1, 0.8, 1]])[..., None, None]
as_one_kernel = exercises.check(as_one_kernel, (depthwise, pointwise), (depthwise[:2], pointwise[:1, :2]))

# %% [markdown]
# <details><summary>Hint</summary>
#
# The kernel from input i to output o is the input's kernel times one number: `pointwise[o, i] * depthwise[i, 0]`. You
# need no loop: `depthwise[:, 0]` has the shape [inputs, 3, 3], and PyTorch repeats it for each output.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def as_one_kernel(depthwise, pointwise):
#     return pointwise * depthwise[:, 0]
# ```
#
# </details>

# %%
maps = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(1))
one = as_one_kernel(depthwise, pointwise)
in_two = functional.conv2d(functional.conv2d(maps, depthwise, padding=1, groups=3), pointwise)
in_one = functional.conv2d(maps, one, padding=1)
print("the pair and the one kernel give the same:", torch.allclose(in_two, in_one, atol=1e-4))

dense = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(2))
plots.show(plots.kernel_tables({"dense": dense, "separable, as one kernel": one}), options.out, "kernel_tables")

# %% [markdown]
# Compare the columns. (Red is above zero, blue is below.) In the dense layer all 12 kernels differ. In the separable
# layer each column has a single pattern. It is stronger or weaker, and where its number is negative its colours
# change places. So all outputs look at an input in the same way.
#
# Write a column as a table: a row for each output, with the kernel's nine numbers in it. When all rows are multiples of
# one row, the table has **rank 1**. A dense layer's tables can have any rank up to 9.
#
# (A BatchNorm between the halves, as our network has it, multiplies each channel by a number and adds one. That does
# not change the rank.)
#
# Here is a case where rank 1 is too little. From one map, two outputs are wanted: its vertical edges and its horizontal
# ones. With one kernel for both, the best that can be had is a mixture. (Grey is 0 in the three pictures on the right.)

# %%
wanted = torch.stack([edges, edges.T])[:, None]  # from one input to two outputs
digit = digits.train_images[:1, None].cpu() / 255
both = functional.conv2d(digit, wanted, padding=1)[0]
mixture = functional.conv2d(digit, wanted.mean(dim=0, keepdim=True), padding=1)[0]
captions = ["the map", "vertical edges", "horizontal edges", "one kernel for both"]
plots.show(plots.grid(torch.cat([digit[0], both, mixture]), captions, columns=4), options.out, "edges")

# %% [markdown]
# The way around it: let the layer in front deliver the map twice. Then each copy has a kernel of its own.

# %%
twice = digit.repeat(1, 2, 1, 1)  # the map, two times
found = functional.conv2d(functional.conv2d(twice, wanted, padding=1, groups=2), torch.eye(2)[..., None, None])
print("with the map there twice, a separable layer gives both:", torch.allclose(found[0], both))

# %% [markdown]
# **What a separable layer lacks is not a function, but channels.** Where a dense layer looks at a channel in two ways,
# it needs two channels. And channels are what the savings buy.
#
# ## Where the parameters go
#
# Here is our network for block 3's budget, first with ReLU. Its first layer stays dense: with a single input there is
# nothing to split.

# %%
print(models.layer_table(models.build("S8/under_8k_relu")))


# %%
for name, step in (("S7 block 3", "S7/block3"), ("ours", "S8/under_8k_relu")):
    network, spent = models.build(step), Counter()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            pointwise, depthwise = layer.kernel_size == (1, 1), layer.groups > 1
            kind = "1x1" if pointwise else "depthwise" if depthwise else "dense 3x3"
            spent[kind] += models.count_parameters(layer)
    all_in_all = models.count_parameters(network)
    spent["BatchNorm"] = all_in_all - spent.total()
    print(f"{name:<12}{all_in_all:,}: " + ", ".join(f"{count:,} {kind}" for kind, count in spent.items()))

# %% [markdown]
# Block 3 spends nearly everything on dense 3x3 kernels, and its last layers have 16 channels. Ours spends most on
# mixing: 5,456 of 7,552 parameters are in 1x1 convolutions. With fewer parameters it affords
# 32 and 40 channels. More BatchNorms are
# part of the price, because each half has one.
#
# ### Where to be wide
#
# A channel costs the same number of parameters on every map. It does not cost the same work: a weight is used once for
# each cell. In the table above, Conv2d-6 has 384 weights on a map of 24x24, which is 576 cells. That makes 221,184
# multiply-adds. Conv2d-28 has 1,600 weights, four times as many. But its map of 4x4 has only 16 cells, and it does
# 25,600. So the network begins narrow and ends wide.
#
# ## SiLU: an activation without an edge
#
# ReLU's slope is 0 for everything negative. The gradient is multiplied by that slope, so where a value is
# negative, no gradient passes. **SiLU** is x times sigmoid(x). Far to the right the sigmoid is 1 and SiLU is nearly
# x. Far to the left it is nearly 0. In between it dips below 0 and has no edge ([Hendrycks and
# Gimpel](https://arxiv.org/abs/1606.08415); [Ramachandran and others](https://arxiv.org/abs/1710.05941)).
#
# One number by hand, x = 1: sigmoid(1) is 0.731, so SiLU(1) = 0.731. For x = -1 it is -1 times 0.269, so -0.269.
#
# **Yours: the slope of SiLU** (medium, 5 minutes). Use the rule for products. The slope of the sigmoid s is s (1 - s).


# %%
def silu_slope(x: torch.Tensor) -> torch.Tensor | None:
    # Your lines here. Then return your result instead of None.
    return None


points = torch.linspace(-6, 6, 241)
silu_slope = exercises.check(silu_slope, (torch.tensor([-1.0, 0.0, 1.0]),), (points,))

# %% [markdown]
# <details><summary>Hint</summary>
#
# The slope of u times v is (slope of u) v + u (slope of v). Here u is x, whose slope is 1, and v is the sigmoid.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def silu_slope(x):
#     s = torch.sigmoid(x)
#     return s + x * s * (1 - s)
# ```
#
# </details>

# %%
relu, silu = (torch.relu(points), (points > 0).float()), (functional.silu(points), silu_slope(points))
plots.show(plots.slopes(points, {"ReLU": relu, "SiLU": silu}), options.out, "slopes")
for x in torch.tensor([-4.0, -1.0, 0.0, 1.0, 4.0]):
    print(f"x = {x:>4g}   sigmoid {torch.sigmoid(x):.3f}   ", end="")
    print(f"SiLU {functional.silu(x):6.3f}   its slope {silu_slope(x):6.3f}")

# %% [markdown]
# ReLU's slope jumps from 0 to 1. SiLU's has no jump. It is a little below 0 on the left and a little above 1 on the
# right. SiLU has no parameters.
#
# ## Train them yourself
#
# **Experiment 1: separable against dense.** Block 3's network as it is, and ours with ReLU, for the same budget. Write
# your guess of the difference in points into `prediction`.

# %% tags=["measured"]
prediction = None  # such as 0.5; negative if you expect a loss
found = experiment(recipe, options, digits, device, "network=S8/under_8k_relu", prediction=prediction, epochs=4)

# %% [markdown]
# <details><summary>What came out here</summary>
#
# Ours read 1.23 points more: three pairs of seeds, one comparison, 95 % interval +0.16 to +2.29. So on 2,000 images and
# after 4 epochs it is ahead. Which of its differences does it, the width or another, this experiment does not say.
#
# </details>
#
# **Experiment 2: SiLU against ReLU.** The same network, and only the activation changes.

# %% tags=["measured"]
prediction = None  # in points
ours = dataclasses.replace(recipe, network="S8/under_8k_relu")
small = {"images": 1_000, "epochs": 6}
found = experiment(ours, options, digits, device, "network=S8/under_8k_one_view", prediction=prediction, **small)

# %% [markdown]
# <details><summary>What came out here</summary>
#
# SiLU read 0.21 points more, with a 95 % interval from -1.57 to +1.99. Three seeds cannot even tell the sign.
#
# </details>

# %% [markdown]
# ## Result
#
# Now the full trainings, from the ablation ladder: a row of recipes, each with one change more than the one below it. Each
# was trained for 15 epochs with five seeds, and measured on the 5,000 validation images, which it was not trained on.

# %%
for title in ("separable convolutions", "SiLU"):
    print(ladder.line(title))
    each = " ".join(f"{value:+.2f}" for value in ladder.differences(title).values())
    print(f"{'by seed':>{len(title)}}: {each}")

# %%
dense, separable = prices(40, 40)
print(f"40 to 40: {dense:,} weights dense, {separable:,} separable, less than a seventh: {7 * separable < dense}")
parameters = models.count_parameters(models.build("S8/under_8k_relu"))
print(f"our network: {parameters:,} parameters, at most 7,904: {parameters <= 7_904}")

# %% [markdown]
# Both changes point upwards: four of five seeds gain by each. Neither is told from chance. The intervals contain zero,
# and these are two of ten planned comparisons. So "may bring a twentieth of a point" is all that can be said.
#
# The first comparison has a second limit. With the split came other widths, a second max-pool, BatchNorm in front of
# the activation, and a last map of 4x4 instead of 6x6. It measures all of that together.
#
# ### What it costs
#
# Our network needs fewer multiply-adds than block 3. Is it faster, then?

# %% tags=["measured"]
images = digits.train_images[:64, None].float().to(device)
for step in ("S8/under_8k_dense", "S8/under_8k_relu"):
    network, seconds = models.build(step).to(device), []
    for _ in range(8):
        started = time.perf_counter()
        network(images)[:, 0].sum().backward()
        seconds.append(time.perf_counter() - started)
    work = sum(row.multiply_adds for row in models.layer_rows(network))
    print(
        f"{step:<16}{work:>10,} multiply-adds an image, 64 forward and back in {1000 * min(seconds):.0f} milliseconds"
    )

# %% [markdown]
# Here it is not. A likely reason: a depthwise convolution does only nine multiply-adds for each number that it reads, so
# it waits for the memory. And there are more layers to call. S9 measures where time goes.
#
# One more count. Work in a test depends on how often the network is asked. A larger network of ours is built of the same
# layers, [step 7](step7_two_budgets.ipynb). For one look at an image it needs less work than [S6 step
# 3](../S6/part2_step3_global_pooling.ipynb). But its recorded accuracy comes from nine looks at each image, of which
# step 5 tells.

# %%
work = {}
for step in ("S6/part2_step3_global_pooling", "S8/under_20k"):
    work[step] = sum(row.multiply_adds for row in models.layer_rows(models.build(step)))
    print(f"{step:<31}{work[step]:>12,} multiply-adds for one look")
one_look = work["S8/under_20k"] / work["S6/part2_step3_global_pooling"]
print(f"times as much: {one_look:.2f} with one look, {9 * one_look:.1f} with nine")

# %% [markdown]
# ## Analysis
#
# **What worked.** From 40 to 40 channels the split needs 1,960 weights instead of 14,400. So the same budget pays for
# 40 channels where block 3 has 16.
#
# **What is not shown.** That the split or SiLU reads more digits. We keep both: the seeds show no loss.
#
# **What the next step asks.** The last layers got wide. [Step 4](step4_where_it_looks.ipynb) asks what each of their
# cells can see.

# %% [markdown]
# ## Quiz
#
# **Question 1.** A depthwise 3x3 convolution on 40 channels, without biases. How many weights has it?
#
# - **a** 360
# - **b** 1,600
# - **c** 14,400
#
# <details><summary>Answer</summary>
#
# **a.** One kernel of nine weights for each channel. b is the pointwise layer from 40 to 40: one number for each pair.
# c is the dense layer: nine weights for each pair.
#
# </details>
#
# **Question 2.** What can a dense 3x3 layer do that a separable one with the same channels cannot?
#
# - **a** Mix all channels.
# - **b** Look at one channel in two ways, for two outputs.
# - **c** See more than 3x3 cells.
#
# <details><summary>Answer</summary>
#
# **b.** That needs a table of rank 2. a is the job of the pointwise half. c neither can: both see 3x3 cells.
#
# </details>
#
# **Question 3.** SiLU gained 0.052 points over five seeds, with a 95 % interval from -0.010 to +0.114. What follows?
#
# - **a** SiLU is better: the mean is above 0.
# - **b** SiLU does nothing.
# - **c** An effect of 0.1 points fits these runs, and so does none.
#
# <details><summary>Answer</summary>
#
# **c.** Both lie in the interval. a takes a mean for a fact. b takes "not shown" for "shown to be absent".
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. A depthwise layer looks at the neighbours, a pointwise one mixes the channels. From C to D channels that is
#    9 C + C D weights instead of 9 C D.
# 2. All outputs look at an input in the same way: rank 1. Where two ways are needed, the layer needs two channels.
# 3. Block 3 spends its budget on dense kernels, ours on 1x1 convolutions. The last maps are wide, because there a
#    weight does the least work.
# 4. SiLU's slope is s + x s (1 - s). It has no jump, and most negative values still pass some gradient.
# 5. Separable convolutions gained 0.048 points and SiLU 0.052, each over five seeds. Neither is told from chance.
