# %% [markdown]
# # S6 part 2, step 4: Design a network for 20,000 parameters, from its budget and its receptive field
#
# Three solutions of the same assignment lie behind us, and on the test images their means over the seeds are
# 99.35 %<!--S6/part2_step1_dense_head mean-->, 99.19 %<!--S6/part2_step2_strided mean--> and
# 99.25 %<!--S6/part2_step3_global_pooling mean-->, where 99.40 % was asked for. This step is ours, not a source's. It
# takes its recipe from [S7 block 4](../S7/block4.ipynb), which explains it, and asks what that page does not: given
# 20,000 parameters, where should they go? The answer is worked out on paper, before anything is trained. There are
# two prices to know, of a parameter and of a multiply-add, and one map to draw: what each layer can see.
#
# **What you'll do**
#
# 1. Read off where five networks spent their parameters, one of them a published one.
# 2. Buy the same layer dense and separable, and find out by its rank what the cheap one cannot represent.
# 3. Measure where the ink lies, and plan the maps so that every cell of the last one can see all of it.
# 4. Put the wide layers where a weight is cheap, and check the plan against the network.
# 5. Find the one place where dropout does no harm to a BatchNorm, compare the network with and without it, then train
#    it and hold the recorded seeds against a bar.
#
# **What you'll learn**: what separable convolutions give up, the rank of a kernel, the square of the image that all
# cells of a map share, parameters against multiply-adds, and what dropout does to a variance.
#
# **What you'll need**: [step 3](part2_step3_global_pooling.ipynb), for global pooling, and
# [S7 block 4](../S7/block4.ipynb), for the recipe. A recorded seed took
# 23 minutes<!--S6/part2_step4_under_20k minutes--> on the machine that the record names.
# `python3 course.py run S6/part2_step4_under_20k --quick` goes through every step in seconds.
#
# *Before this*: [step 3](part2_step3_global_pooling.ipynb), the last of the three solutions. *After this*:
# [S7 block 1](../S7/block1.ipynb), if you read the sessions in their order. All steps are on the
# [map](../../README.md#the-map-of-the-steps). To run it in the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository, and the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | parameters | fewer than 20,000 | the assignment's bound: by itself, one dense 3x3 convolution from 48 to 48 channels breaks it |
# | epochs | fewer than 20 | the assignment's bound; step 3 missed it by one |
# | test accuracy, of a run | at least 99.40 % | the assignment's bound: at most 60 mistakes in 10,000 |
# | test accuracy, mean of 10 seeds | at least 99.65 % | 35 mistakes in 10,000; the best published run of this size that we found has 48 |
# | means | BatchNorm and Dropout; a dense layer or global average pooling if you like | Dropout stays unless it is shown to hurt: see below |
#
# The published run is a student's, of the same assignment: 19,088 parameters, 15 epochs, 9,952 of 10,000 test images
# after the last epoch, which is 99.52 %. It is one run, and by block 3's formula the standard error of such a number
# is 0.07 points. Its accuracies after the four last epochs are 99.42, 99.47, 99.49 and 99.52 %. We quote it with that
# respect, and ask of ourselves ten seeds.
#
# A single run can be held against the first three rows, and that is what `targets` says. `planned` keeps the recipe
# as it stands here, whatever the command line changes for one run.

# %%
TRAIN = "full"  # trains as the recipe says; "recorded" shows what a full run left, "quick" takes seconds on a part
try:
    from common.recipe import Augmentation, Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S6/part2_step4_under_20k",
    epochs=15,
    batch_size=64,
    lr=0.2,
    momentum=0.9,
    nesterov=True,
    one_cycle=0.2,
    weight_decay=1e-4,
    ema_decay=0.998,
    augmentation=Augmentation(rotation=10, translation=0.08, scale=(0.9, 1.1), interpolation="bilinear"),
    teacher="S7/teacher",
    temperature=3,
    alpha=0.9,
)
planned = recipe
recipe, options = command_line(recipe, TRAIN)

# %%
targets = (
    Target("parameters", "<", 20_000),
    Target("epochs", "<", 20),
    Target("test accuracy", ">=", 99.40),
)

# %%
import statistics
from collections import Counter
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from common import data, models, records, training
from common.data import MEAN, STD
from common.lesson import check, plots
from common.recipe import overrides_between
from common.records import comparison, search_log
from common.system.errors import UserError
from common.training import distillation

device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
checkpoint = training.Checkpoint(options, recipe, digits, device)
print(digits)
print(records.machine_line(device, options))

# %% [markdown]
# ## The data
#
# A plan of receptive fields needs to know how large a digit is *and where it is*. MNIST's digits were scaled to fit
# into 20x20 pixels, and that is the number that everybody knows, this course included. But they were then centred by
# their mass, not by that box: a 7 has its ink at the top, so its box hangs low. How large a square around the middle
# of the image has to be until it holds the whole digit, is therefore another question, and it can be measured. We
# count a pixel as ink when it is at least half black, and look at the first 5,000 training images, once as they are
# and once as the network will meet them: turned, shifted and scaled by the recipe's augmentation.

# %%
train_batches = data.InMemoryLoader(
    digits.train_images,
    digits.train_labels,
    recipe.batch_size,
    augmentation=recipe.augmentation,
    shuffle=True,
    seed=recipe.seed,
    device=device,
)
test_batches = {"held-out": data.InMemoryLoader(digits.test_images, digits.test_labels, batch_size=1000, device=device)}


def smallest_square(ink: torch.Tensor) -> torch.Tensor:
    """For each image [N, 28, 28] of bools, the side of the smallest square in the middle that holds all its ink."""
    from_the_middle = (torch.arange(28) - 13.5).abs()
    farthest = [(ink.any(dim=axis) * from_the_middle).amax(dim=1) for axis in (1, 2)]
    return (2 * torch.maximum(*farthest) + 1).int()


some, labels = digits.train_images[:5000].cpu(), digits.train_labels[:5000].cpu()
moved, _ = next(iter(data.InMemoryLoader(some, labels, len(some), augmentation=recipe.augmentation, seed=5)))
needed = {
    "as they are": smallest_square(some >= 128),
    "as the network meets them": smallest_square(moved[:, 0] * STD + MEAN >= 0.5),
}
for name, sides in needed.items():
    for side in (20, 24, 28):
        share = 100 * (sides <= side).float().mean()
        print(f"{'this run':<11}{f'images {name}: inside the middle {side}x{side}':<60}  {share:5.1f} %")

# %%
figure, axis = plots.plt.subplots(figsize=(8, 3.2))
for name, sides in needed.items():
    axis.plot(range(14, 29, 2), [100 * (sides <= side).float().mean() for side in range(14, 29, 2)], "o-", label=name)
axis.set(xlabel="side of a square in the middle of the image", ylabel="per cent of the digits inside")
axis.legend()
plots.show(figure, options.out, "where_the_ink_is")

# %% [markdown]
# The 20x20 box is a size and no place. On MNIST the middle 20x20 pixels hold only about a quarter of the digits
# completely; it takes 26 pixels for nearly all, and all 28 once the augmentation has moved them. So "a receptive
# field of 20 sees a whole digit" is true of a cell that happens to sit over that digit's box. A plan should not count
# on it.

# %% [markdown]
# ## The network
#
# ### Where others spent theirs
#
# First the books of steps 1 to 3, and of the published network. The latter is rebuilt from the table of layers in its
# README, to be counted and not to be trained. A kernel's biases are counted with it.

# %%
PUBLISHED = [(1, 16, 3, 1), (16, 24, 3, 1), "pool", (24, 16, 1, 0), (16, 24, 3, 1), (24, 32, 3, 1), "pool"]
PUBLISHED += [(32, 24, 1, 0), (24, 12, 3, 0), (12, 10, 3, 0)]  # inputs, outputs, kernel, padding


def published() -> nn.Sequential:
    """The layers that hold parameters or change a shape; BatchNorm behind every convolution but the last."""
    layers = []
    for layer in PUBLISHED:
        if layer == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            inputs, outputs, kernel, padding = layer
            convolution = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers[:-1], nn.AvgPool2d(3), nn.Flatten())


def spending(network: nn.Module) -> Counter:
    """Parameters by the kind of layer that holds them."""
    spent = Counter()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            kind = "1x1" if layer.kernel_size == (1, 1) else "dense 3x3" if layer.groups == 1 else "depthwise"
        elif isinstance(layer, nn.Linear | nn.BatchNorm2d):
            kind = {nn.Linear: "linear", nn.BatchNorm2d: "BatchNorm"}[type(layer)]
        else:
            continue
        spent[kind] += models.count_parameters(layer)
    return spent


KINDS = ("dense 3x3", "depthwise", "1x1", "linear", "BatchNorm")
books = {
    "step 1": models.build("S6/part2_step1_dense_head"),
    "step 2": models.build("S6/part2_step2_strided"),
    "step 3": models.build("S6/part2_step3_global_pooling"),
    "published": published(),
    "this step": models.build(planned.step),
}
print(f"{'':<11}" + "".join(f"{kind:>11}" for kind in KINDS) + f"{'all':>9}{'multiply-adds':>15}")
for name, network in books.items():
    spent, work = spending(network), sum(row.multiply_adds for row in models.layer_rows(network))
    columns = "".join(f"{spent[kind]:>11,}" for kind in KINDS)
    print(f"{name:<11}{columns}{spent.total():>9,}{work:>15,}")

# %% [markdown]
# In the books of the others there is one large item: dense 3x3 convolutions. Only step 1 pays even more for its head,
# most of it for 9,820 weights and biases between 490 numbers and 20. Step 3 did away with the head, and its three
# last convolutions take 16,778 of 17,118. The published network puts 1x1 convolutions between its 3x3 ones, as [S7
# block 3](../S7/block3.ipynb) does, and so affords six 3x3 layers where step 3 has four. It computes three times as
# much as step 3, because it already has 24 channels on its first maps of 28x28.
#
# The last row is where this page is going: hardly a dense 3x3 kernel in it, and four fifths of everything in 1x1.

# %% [markdown]
# ### The price list
#
# [Block 4](../S7/block4.ipynb) splits a 3x3 convolution in two: *depthwise*, one 3x3 kernel for each channel, and
# *pointwise*, a 1x1 convolution that mixes the channels. By hand, from C to D channels without biases:
#
# ```
# dense       9 C D             48 to 48: 9 x 2,304 = 20,736      64 to 64: 9 x 4,096 = 36,864
# separable   9 C + C D         48 to 48: 432 + 2,304 = 2,736     64 to 64: 576 + 4,096 = 4,672
# ```
#
# One dense layer of 48 channels is over the whole budget, and one of 64 nearly twice over. Separably they cost 7.6
# and 7.9 times less. The table below has complete layers, with a BatchNorm behind every convolution: 2 D for a dense
# layer, and 2 C + 2 D for a separable one, which has two.

# %%
WIDTHS = (16, 32, 48, 48, 64, 64, 60)  # channels behind each of the seven 3x3 layers; the first is dense


def dense_price(inputs: int, outputs: int) -> int:
    """A dense 3x3 convolution and its BatchNorm."""
    return 9 * inputs * outputs + 2 * outputs


def separable_price(inputs: int, outputs: int) -> int:
    """A depthwise 3x3 convolution and a pointwise one, each with its BatchNorm."""
    return 9 * inputs + 2 * inputs + inputs * outputs + 2 * outputs


print(f"{'layer':<12}{'dense':>10}{'separable':>12}{'times cheaper':>16}")
pairs = list(zip(WIDTHS, WIDTHS[1:], strict=False))
for inputs, outputs in pairs:
    dense, separable = dense_price(inputs, outputs), separable_price(inputs, outputs)
    print(f"{f'{inputs} to {outputs}':<12}{dense:>10,}{separable:>12,}{dense / separable:>16.1f}")
rest = dense_price(1, WIDTHS[0]) + 10 * WIDTHS[-1]
sums = [rest + sum(price(*pair) for pair in pairs) for price in (dense_price, separable_price)]
print(f"{'first, last':<12}{rest:>10,}{rest:>12,}")
print(f"{'all':<12}{sums[0]:>10,}{sums[1]:>12,}{sums[0] / sums[1]:>16.1f}")

# %% [markdown]
# The first layer stays dense. It has one input channel, where depthwise means nothing: 9 x 16 = 144 weights either
# way. And "first, last" holds the last layer, 60 averages times 10 logits. So the same seven layers would cost 7
# times the budget as dense ones. What did we sell to get them at this price?

# %% [markdown]
# ### What a separable layer cannot represent
#
# Between depthwise and pointwise there is no activation, so the two are one linear map, and there is a single dense
# kernel that does the same. Let P be the pointwise weights and D the depthwise kernels, one for each input i. Output
# o sums P[o, i] D[i] over the inputs, and so the kernel from i to o is that one product. Fix an input channel: its
# kernels to all outputs are multiples of the same D[i]. Written as a table with a row for each output and nine
# columns, they have **rank 1**. A dense layer's can have rank 9.

# %%
numbers = torch.Generator().manual_seed(1)
depthwise = torch.randn(48, 1, 3, 3, dtype=torch.double, generator=numbers)
pointwise = torch.randn(48, 48, 1, 1, dtype=torch.double, generator=numbers)
dense = torch.randn(48, 48, 3, 3, dtype=torch.double, generator=numbers)
maps = torch.randn(1, 48, 12, 12, dtype=torch.double, generator=numbers)
equivalent = pointwise * depthwise[:, 0]  # [48, 48, 3, 3]

in_two = functional.conv2d(functional.conv2d(maps, depthwise, padding=1, groups=48), pointwise)
in_one = functional.conv2d(maps, equivalent, padding=1)
print(f"depthwise, then pointwise, equals one dense kernel: {torch.allclose(in_two, in_one)}")


def ranks(kernel: torch.Tensor) -> set[int]:
    """The ranks, over the input channels, of the outputs x 9 tables of a kernel [outputs, inputs, 3, 3]."""
    return set(torch.linalg.matrix_rank(kernel.transpose(0, 1).flatten(2)).tolist())


print(f"ranks over the 48 input channels: separable {ranks(equivalent)}, dense {ranks(dense)}")

# %% [markdown]
# (A BatchNorm between the two multiplies each channel by a number and adds one. The first changes no rank, the second
# comes out as a bias.)
#
# What that means is clearest in the smallest case: one map, of which two outputs are wanted, its vertical edges and
# its horizontal ones. The classic kernels for this, Sobel's, are at right angles to each other as lists of nine
# numbers: of the nine products five are 0, and the corners give 1 - 1 - 1 + 1 = 0. Both have the squared length 12,
# so no mixture of them is a better single kernel for the two than another. Their mean is as good as any, and holds
# half of what is wanted.

# %%
vertical = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
horizontal = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])
wanted = torch.stack([vertical, horizontal])[:, None]  # [2, 1, 3, 3]


def held_by_rank(kernel: torch.Tensor) -> torch.Tensor:
    """Of a kernel's sum of squares, the share that the best kernel of rank 1, 2, ..., 9 per input channel holds."""
    squares = torch.linalg.svdvals(kernel.double().transpose(0, 1).flatten(2)) ** 2  # [inputs, at most 9]
    return squares.sum(dim=0).cumsum(dim=0) / squares.sum()


print("held by rank 1, 2: " + ", ".join(f"{100 * share:.0f} %" for share in held_by_rank(wanted)))

digit = digits.train_images[:1, None].cpu() / 255
edges = functional.conv2d(digit, wanted, padding=1)
twice = functional.conv2d(digit, torch.ones(2, 1, 1, 1))  # a 1x1 convolution in front: the map, two times
found = functional.conv2d(functional.conv2d(twice, wanted, padding=1, groups=2), torch.eye(2)[..., None, None])
print(f"with the map there twice, a separable layer gives both: {torch.allclose(found, edges)}")

one_kernel = functional.conv2d(digit, wanted.mean(dim=0, keepdim=True), padding=1)[:, 0]
pictures = torch.cat([digit[:, 0], edges[0, :1], edges[0, 1:], one_kernel])
captions = ["the map", "vertical edges", "horizontal edges", "one kernel for both"]
plots.show(plots.grid(pictures, captions, columns=4), options.out, "edges")

# %% [markdown]
# There is the way out, too. The layer in front may deliver the map twice, and then each copy has a kernel of its own.
# In a stack of separable layers the pointwise half of one is free to do that for the next. **What a separable layer
# lacks is not a function but a width**: wherever a dense layer would look at a channel in two ways, it needs two
# channels. Width is what we bought with the savings.
#
# Is the restriction a real one, or did the dense layers of step 3 look at each channel in one way anyhow? Its trained
# weights are in the repository. The singular values of each outputs x 9 table say what share of its squares the best
# table of rank 1 would hold, and the best of rank 2, and so on to 9. The dotted lines are the same layers before
# their training: what pure chance has.

# %%
trained = models.load_trained("S6/part2_step3_global_pooling")
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(1)
    untrained = models.build("S6/part2_step3_global_pooling")


def dense_kernels(network: nn.Module) -> list[torch.Tensor]:
    """The weights of its 3x3 convolutions of more than one channel."""
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.in_channels > 1]
    return [layer.weight.detach() for layer in convolutions]


figure, axis = plots.plt.subplots(figsize=(8, 3.4))
print(f"{'recorded':<11}{'step 3, layer':<16}{'rank 1':>9}{'before training':>18}{'rank 3':>9}{'rank 6':>9}")
for kernel, start in zip(dense_kernels(trained), dense_kernels(untrained), strict=True):
    name = f"{kernel.shape[1]} to {kernel.shape[0]}"
    held, chance = 100 * held_by_rank(kernel), 100 * held_by_rank(start)
    print(f"{'recorded':<11}{name:<16}{held[0]:>7.0f} %{chance[0]:>16.0f} %{held[2]:>7.0f} %{held[5]:>7.0f} %")
    (line,) = axis.plot(range(1, 10), held, "o-", markersize=3, label=name)
    axis.plot(range(1, 10), chance, ":", color=line.get_color())
axis.axvline(1, color="gray", linewidth=0.8)
axis.set(xlabel="rank for each input channel", ylabel="per cent of the squares", ylim=(0, 103))
axis.set_title("dense kernels of step 3; a separable layer has rank 1")
axis.legend()
plots.show(figure, options.out, "ranks")

# %% [markdown]
# Training has moved these layers towards rank 1, but not far: a separable copy of the two larger ones would keep less
# than a third of their squares. So separable convolutions are no compression of a dense network. They are another
# network, in which the neighbourhood is looked at in few ways (each channel has one) and the channels are mixed in
# many. Whether that is the better use of a budget is a matter for measurement. Block 4 measures it, on one rung of
# its *ablation ladder*: a row of trainings, each with one change more than the one before.
#
# The idea is Sifre's (*Rigid-motion scattering for image classification*, thesis, 2014). Chollet (2017, [arXiv
# 1610.02357](https://arxiv.org/abs/1610.02357)) reads it as the extreme case of splitting channels into groups, and
# finds it best without an activation between the halves, as we have it. MobileNet (Howard et al. 2017, [arXiv
# 1704.04861](https://arxiv.org/abs/1704.04861)) has one there. 95 % of its multiply-adds are in its 1x1 convolutions;
# here it will be 78 %.

# %% [markdown]
# ### The plan of what is seen
#
# With prices known, the next question is how many layers, and at which resolution. Each layer's field grows by the
# formula of [block 3](../S7/block3.ipynb): by (kernel - 1) jumps. So a 3x3 layer is worth 2 pixels on the first maps,
# 4 after one pooling and 8 after two, at the same price in parameters. Reach is cheap late.
#
# But how much reach is enough? An average over the last map gives each of its cells the same weight, so the plan
# should look at the cell that is worst off, the one in the corner. Cells of a map are `jump` pixels apart; with n of
# them in a row, the corner cell is centred (n - 1) / 2 jumps from the middle of the image. What *every* cell of the
# map can see is therefore a square in the middle of the image of side
#
# ```
# shared square = receptive field - (n - 1) x jump
# ```
#
# and we have measured how large it should be: 26 pixels for nearly all digits as they are, 28 for all that
# augmentation makes of them.

# %%
PLAN = [  # what, kernel, stride, padding
    ("3x3", 3, 1, 0),
    ("separable", 3, 1, 0),
    ("max-pool", 2, 2, 0),
    ("separable", 3, 1, 1),
    ("separable", 3, 1, 1),
    ("max-pool", 2, 2, 0),
    ("separable", 3, 1, 1),
    ("separable", 3, 1, 1),
    ("separable", 3, 1, 0),
]


def walk(plan: list[tuple]) -> list[dict]:
    """For each layer the cells in a row, jump, field, centre of the first and the last cell, and the shared square."""
    cells, jump, field, first, rows = 28, 1, 1, 0.0, []
    for what, kernel, stride, padding in plan:
        field += (kernel - 1) * jump
        first += ((kernel - 1) / 2 - padding) * jump
        cells = (cells + 2 * padding - kernel) // stride + 1
        jump *= stride
        last, shared = first + (cells - 1) * jump, max(0, field - (cells - 1) * jump)
        rows.append(
            {"what": what, "cells": cells, "jump": jump, "field": field, "first": first, "last": last, "shared": shared}
        )
    return rows


plan = walk(PLAN)
print(f"{'layer':<12}{'map':>8}{'jump':>6}{'field':>8}{'centres':>16}{'shared square':>16}")
for row in plan:
    size, field, shared = (f"{row[key]}x{row[key]}" if row[key] else "-" for key in ("cells", "field", "shared"))
    centres = f"{row['first']:g} to {row['last']:g}"
    print(f"{row['what']:<12}{size:>8}{row['jump']:>6}{field:>8}{centres:>16}{shared:>16}")

# %% [markdown]
# Read the last three rows. After the first separable layer of the last stage the field has 24 pixels, more than a
# digit's box, and one could stop. But the cells in the corners would judge by a fraction of the image: all 36 share
# no more than 4x4 pixels. A second layer makes it 32, shared 12x12. The third does two things. It adds 8 pixels, and
# without padding it drops the outermost cells, so that 16 are left. The sum comes out exactly: a field of 40, less 3
# jumps of 4, is 28. **Each of the 16 cells sees every pixel.**
#
# The first two layers have no padding for another reason: 28 - 2 - 2 = 24 can be halved twice without a remainder,
# and 28 can be halved twice, too, but then 7 is odd and step 3's third pooling dropped a row and a column. Here no
# cell is lost, and the centres are the proof: 7.5 to 19.5, with 13.5 in the middle, which is the middle of the image.
# Step 3's were 11.5 on average.
#
# In the figure, the corner cell of the last map with its field as it grows through the last stage. The dotted square
# is the image; what lies outside of it is the padding of the layers in between.

# %%
figure, axis = plots.plt.subplots(figsize=(5.6, 4.6))
axis.imshow(digits.train_images[0].reshape(28, 28).cpu(), extent=(-0.5, 27.5, 27.5, -0.5), alpha=0.6)
corner = plan[-1]["first"]
for row, color in zip(plan[-3:], ("#1f77b4", "#d95f02", "#7570b3"), strict=True):
    side = row["field"]
    square = plots.plt.Rectangle((corner - side / 2,) * 2, side, side, fill=False, edgecolor=color, linewidth=2)
    axis.add_patch(square)
    square.set_label(f"a field of {side} pixels")
image_border = plots.plt.Rectangle(
    (-0.5, -0.5), 28, 28, fill=False, edgecolor="black", linestyle=":", label="the image"
)
axis.add_patch(image_border)
centres = [corner + 4 * step for step in range(4)]
axis.plot(*zip(*[(x, y) for x in centres for y in centres], strict=True), "k.", markersize=4, label="the 16 cells")
axis.set(xlim=(-13.5, 28.5), ylim=(28.5, -13.5), xticks=(0, 27), yticks=(0, 27))
axis.legend(loc="upper left", bbox_to_anchor=(1.02, 1), title="the corner cell")
plots.show(figure, options.out, "corner_cell")

# %% [markdown]
# The shared square is a principle of ours, and not a law: the cells of the last map of [S7 block
# 2](../S7/block2.ipynb) share 12x12 pixels, and its 7,904 parameters are at 99.50 %<!--S7/block2 mean-->. Nor does
# seeing a pixel mean minding it. From the middle of a field many more paths lead to the cell than from its rim. Along
# one axis and with equal weights, their number over the field comes of repeated convolution, and looks like a bell
# (Luo et al. 2016, [arXiv 1701.04128](https://arxiv.org/abs/1701.04128), who call what it weighs the effective
# receptive field):

# %%
paths, jump = torch.ones(1, 1, 1, dtype=torch.double), 1
for _, kernel, stride, _ in PLAN:
    step = torch.zeros(1, 1, (kernel - 1) * jump + 1, dtype=torch.double)
    step[..., ::jump] = 1
    paths = functional.conv1d(paths, step, padding=step.shape[-1] - 1)
    jump *= stride
paths = paths.flatten() / paths.sum()
for middle in (12, 20, 28, 40):
    rim = (len(paths) - middle) // 2
    print(f"along one axis, the middle {middle} of {len(paths)} pixels: {100 * paths[rim : rim + middle].sum():5.1f} %")

# %% [markdown]
# So a field of 40 on an image of 28 is less lavish than it sounds.

# %% [markdown]
# ### Where to be wide
#
# The widths are what is left to choose. In the currency of parameters a channel costs the same on every map. In
# multiply-adds it does not: a weight of a 1x1 convolution is used once for each cell, 576 times on a 24x24 map, 144
# times on 12x12, 36 times on 6x6. That speaks for widening as the maps shrink. So does what the channels have to
# hold. A value of the first layer describes nine pixels, and 16 kernels are already more than a linear description of
# nine numbers needs. A value of the last has to tell what ten digits look like.
#
# The function below counts both prices for any seven widths. Ours, the same widths in reverse, and seven equal ones:

# %%
SIDES = tuple(row["cells"] for row in plan if row["what"] != "max-pool")


def costs(widths: tuple[int, ...]) -> tuple[int, int]:
    """Parameters and multiply-adds of the plan with these widths, with BatchNorm and the ten logits."""
    parameters, work = dense_price(1, widths[0]), 9 * widths[0] * SIDES[0] ** 2
    for inputs, outputs, side in zip(widths, widths[1:], SIDES[1:], strict=False):
        parameters += separable_price(inputs, outputs)
        work += (9 * inputs + inputs * outputs) * side**2
    return parameters + 10 * widths[-1], work + 10 * widths[-1]


print(f"{'widths':<34}{'parameters':>12}{'multiply-adds':>15}")
for widths in (WIDTHS, WIDTHS[::-1], (50,) * 7):
    parameters, work = costs(widths)
    print(f"{' '.join(map(str, widths)):<34}{parameters:>12,}{work:>15,}")

# %% [markdown]
# For about the same number of parameters, the wrong order computes nearly three times as much. (A narrow beginning
# has its limit, too: what 16 channels do not pass on, no later layer can see.)
#
# ### The network itself
#
# And here it is, printed from the module that is about to be trained.

# %%
torch.manual_seed(recipe.seed)
model = models.build(models.of(recipe)).to(device)
print(models.source(models.of(recipe)))

# %%
print(models.summary(model))

# %%
print(models.layer_table(model))

# %% [markdown]
# Now the plan against the network: the fields behind every 3x3 layer and pooling, the parameters and the
# multiply-adds, from the table and from the three functions above.

# %%
layers = models.layer_rows(model)
fields = [row.receptive_field for row in layers if row.kernel > 1][:-1]  # without the average at the end
parameters, work = costs(WIDTHS)
print(f"fields         {fields == [row['field'] for row in plan]}")
print(f"parameters     {parameters == models.count_parameters(model)}")
print(f"multiply-adds  {work == sum(row.multiply_adds for row in layers)}")

# %%
print(f"{'maps':<12}{'parameters':>12}{'share':>9}{'multiply-adds':>16}{'share':>9}")
stages = {"26x26, 24x24": (26, 24), "12x12": (12,), "6x6, 4x4": (6, 4), "1x1": (1,)}
kernels = sum(row.parameters for row in layers)
for name, sides in stages.items():
    rows = [row for row in layers if row.shape[-1] in sides]
    held, done = sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)
    print(f"{name:<12}{held:>12,}{100 * held / kernels:>7.0f} %{done:>16,}{100 * done / work:>7.0f} %")
norms = models.count_parameters(model) - kernels
print(f"{'BatchNorm':<12}{norms:>12,}   on top, {100 * norms / (kernels + norms):.1f} % of all parameters")

# %% [markdown]
# 4 % of the kernels' weights do a third of the work, on the first maps, and the last stage holds two thirds of the
# weights and does a quarter. In all, the network needs 7 % fewer multiply-adds than step 3's, with seven 3x3 layers
# where that one has four. That is no promise of speed. A depthwise convolution does nine multiply-adds for each
# number that it reads and writes, so the memory sets its pace, and there are 13 BatchNorms where step 3 has four. The
# record of step 3 says 8 minutes<!--S6/part2_step3_global_pooling minutes--> for 20 epochs, and the one of this step
# 23 minutes<!--S6/part2_step4_under_20k minutes--> for 15, with a teacher to ask and nine views of each image in
# every test. (They are of different processors, too: step 3 was trained in bfloat16, on one with matrix units for it,
# this step in float32, on one without.)
#
# What else differs from step 3's network:
#
# - **BatchNorm** stands in front of the activation, behind both halves of a layer, and takes 6 % of the parameters.
#   It has a shift of its own, so that the convolutions need no biases. It no longer touches the logits.
# - **SiLU**, x times sigmoid(x), takes the place of ReLU: nearly x on the right, nearly 0 on the left, with a rounded
#   dip in between that lets some gradient pass on both sides. Hendrycks and Gimpel (2016, [arXiv
#   1606.08415](https://arxiv.org/abs/1606.08415)) wrote it down, and Ramachandran et al. (2017, [arXiv
#   1710.05941](https://arxiv.org/abs/1710.05941)) found it again by a search over formulas; block 4 has a table of
#   it.
# - **Pooling comes before the logits.** Step 3 averaged ten maps of logits. Here 60 maps are averaged, and 600
#   weights turn 60 averages into ten logits, which nothing squeezes: no ReLU, no BatchNorm, no Dropout.
# - **Dropout** has a single place, between the averages and the logits. The next part says why there.
# - **Nine views.** A test uses *test-time augmentation*, as with block 4's network. The network gets nine views of
#   each image, each moved a little, and their logits are averaged. The table above counts the multiply-adds of one
#   view.

# %% [markdown]
# ## Training
#
# ### Where dropout may stand
#
# The assignment asks for Dropout. Step 3 has it behind every convolution, right in front of a BatchNorm, and step 2
# behind every pooling, in front of a convolution and its BatchNorm. The two do not go well together (Li et al. 2018,
# [arXiv 1801.05134](https://arxiv.org/abs/1801.05134)). Dropout keeps the mean of a value, for what survives is
# divided by 1 - p. But it raises the variance, in training only. With mean m and variance v, the mean square m² + v
# becomes (m² + v) / (1 - p), and so
#
# ```
# variance in training = (m² + v) / (1 - p) - m² = (v + p m²) / (1 - p)
# ```
#
# The next BatchNorm learns the variance that it sees in training and divides by it in the test, where it is smaller.
# Here is by how much, for the values behind a SiLU whose inputs have mean 0 and variance 1, as BatchNorm makes them:

# %%
inputs = torch.linspace(-9, 9, 180_001, dtype=torch.double)
density = torch.exp(-(inputs**2) / 2)
density /= density.sum()
outputs = functional.silu(inputs)
mean = (density * outputs).sum()
variance = (density * outputs**2).sum() - mean**2
print(f"behind SiLU: mean {mean:.3f}, variance {variance:.3f}")
for p in (0.05, 0.1, 0.25):
    print(f"p = {p:<6g}variance in training / in the test {(variance + p * mean**2) / (1 - p) / variance:.3f}")

# %% [markdown]
# Step 3's dose, 0.1, makes 13 % more variance in each value. What a BatchNorm sees of that depends on what stands in
# between: where a convolution adds up nine values that are alike, their independent losses partly cancel, and where
# it takes differences of such values, they stand out the more. And here six layers would follow each other. The
# authors' first advice is also the simplest: put dropout behind the last BatchNorm, where nothing normalises any
# more. In this network that is between the 60 averages and their ten logits. What remains there is what dropout was
# invented for. Of each training image about six of the 60 averages are missing, others for every image, so that no
# logit can depend on a few of them. The dose stays 0.1.
#
# ### The comparison, on the validation images
#
# Is it of any use? For it speaks that this network has 2.6 times block 4's parameters with which to learn its
# training images by heart; against it, that the augmentation hardly shows an image twice in the same way, and that a
# teacher already keeps the network from being too sure. `S6/part2_step4_no_dropout` is the same network without its
# dropout, under the same recipe. Both are trained on 55,000 images and measured on the 5,000 that block 4 calls
# validation images, with the same seeds, and the differences are taken in pairs. Block 4 explains why in pairs, and
# what 5,000 images cannot resolve: one of them is 0.02 points. What would follow from which outcome was settled
# before the first run: the assignment asks for dropout, so it stays unless the seeds show a *loss*. (The ten seeds at
# the end of this page were trained before the ten of this comparison. Nothing was chosen by them.)


# %%
without_dropout = replace(planned, network="S6/part2_step4_no_dropout")
for name, some in (("no dropout", without_dropout), ("dropout 0.1", planned)):
    values = search_log.validated(some).values()
    line = f"{'recorded':<11}{name:<16}{len(values):>3} seeds"
    if values:
        line += f"  mean {statistics.fmean(values):.3f} %  " + " ".join(f"{value:.2f}" for value in values)
    else:
        overrides = overrides_between(planned, some)
        line += f"  no runs yet: course.py study {planned.step} --validate --seeds 5"
        line += f' --override "{overrides}"' if overrides else ""
    print(line)
try:
    found = comparison.paired(search_log.validated(without_dropout), search_log.validated(planned))
    sure = "gain" if found.difference > 0 else "loss"
    verdict = sure if found.p < 0.05 else "not told apart"
    interval = f"95 % interval {found.low:+.3f} to {found.high:+.3f}"
    print(f"{'recorded':<11}by dropout {found.difference:+.3f} points, {interval}, p = {found.p:.2g}: {verdict}")
except UserError:
    print(f"{'recorded':<11}by dropout: too few seeds in common")

# %% [markdown]
# How to read the last line: *gain* and *loss* say that chance alone would part the two so far in less than one case of
# twenty. *Not told apart* says that these seeds show no difference, which is not the same as that there is none.
#
# So there is no answer: of five seeds two read the same number of images with dropout as without, two read more, and
# one fewer. An effect of 0.05 points, in either direction, could hide in the interval. By the rule, dropout stays. It
# has not earned its place; but where it stands, behind the last BatchNorm, no harm of it can be seen.
#
# ### The search, in full
#
# The record lists all that was tried on the validation images for this step, and these two are all. Block 4 says what
# keeps the test images out of such a search. (Before it, a first form of this network, without teacher and test-time
# augmentation, was tried once on training images; the [log](../../sessions/S7/records/README.md) has it.)

# %%
print(search_log.listing(planned))

# %% [markdown]
# ### The run
#
# The recipe, in a sentence for each part, with the reasons in [block 4](../S7/block4.ipynb). The rate rises to 0.2
# over the first fifth of all steps and falls to nearly 0 over the rest (one cycle). The momentum is Nesterov's.
# Weight decay pulls on the kernels, not on BatchNorm. What is tested and saved is an exponential moving average of
# the weights (EMA), with a memory of about 500 steps. Every image is turned, shifted and scaled anew each time. And a
# teacher of 288,160 parameters, trained first by the same recipe, says of each of them what it sees in it; it is kept
# in `runs/teachers`, and the lines of its epochs come first.

# %%
if options.recorded:
    history = records.restore(recipe, model)
else:
    loss_of = distillation.make_loss(recipe, digits, options, device)
    history = training.fit(model, train_batches, test_batches, recipe, options, checkpoint, loss_of)

# %%
plots.show(plots.curves(history, bound=99.65), options.out, "curves")

# %% [markdown]
# The dotted line is the bar of the mean, 35 mistakes. In our run the test errors stop falling long before the rate runs
# out, in the eighth epoch or so, and the training errors come down to them in the end, though they are counted on
# the augmented images, which are the harder ones. From there on it is the training images that are still learned.

# %% [markdown]
# ## Result
#
# This run against the targets that a single run can meet:

# %%
record = records.make(recipe, options, model, digits, history)
print(records.verdict(targets, record))
records.save(options, record, model)

# %% [markdown]
# The recorded runs on MNIST, trained on all 60,000 images and measured on the test images:

# %%
print(records.recorded(planned.step, targets))

# %% [markdown]
# And the bar of this step, which is about all seeds together:

# %%
print(records.bars(planned.step, {"seeds": 10, "mean": 99.65, "minimum": 99.40}))

# %% [markdown]
# In words: over 10<!--S6/part2_step4_under_20k seeds--> seeds the mean is
# 99.70 %<!--S6/part2_step4_under_20k mean-->, with a 95 % interval from 99.68 %<!--S6/part2_step4_under_20k low--> to
# 99.71 %<!--S6/part2_step4_under_20k high-->. The lowest seed is at 99.67 %<!--S6/part2_step4_under_20k minimum-->,
# the highest at 99.72 %<!--S6/part2_step4_under_20k maximum-->. The published run of this size is at 99.52 %. This
# network met the test images once, in these runs. Its recipe has a longer history: block 4 went on being changed
# after two forms of it had missed their bars on the test images, and the teacher and the nine views come from there.

# %% [markdown]
# ## The mistakes

# %%
log_probabilities = training.predict(model, test_batches["held-out"])
plots.show(plots.mistakes(digits.test_images, digits.test_labels, log_probabilities), options.out, "mistakes")

# %%
predictions = log_probabilities.argmax(dim=1)
plots.show(plots.confusion(digits.test_labels, predictions), options.out, "confusion")

# %% [markdown]
# The network can be asked what each of its sixteen cells says. An average and a 1x1 convolution are both linear, so
# their order does not matter: the logits of the average of 16 cells are the average of the logits of the 16 cells.
# Each cell thus has ten logits of its own, and the plan says that each of them has seen the whole image. The nine
# views are averaged in the same way, each with 16 cells. Below, the network gets one view of each image, the image as
# it is.

# %%
model.eval()
with torch.no_grad():
    logits = [model.layers[11](model.layers[:9](images.to(device))).cpu() for images, _ in test_batches["held-out"]]
    one_view = [model.layers(images.to(device)).cpu() for images, _ in test_batches["held-out"]]
logits, one_view = torch.cat(logits), torch.cat(one_view)  # [N, 10, 4, 4] and [N, 10]
averaged = logits.mean(dim=(2, 3)).log_softmax(dim=1)
print(f"the average of the cells is the view's answer: {torch.allclose(averaged, one_view, atol=1e-3)}")

answers, truth = one_view.argmax(dim=1), digits.test_labels.cpu()
by_cell, wrong = logits.argmax(dim=1), answers != truth  # [N, 4, 4] and [N]
right = (by_cell == truth[:, None, None]).float().mean(dim=0)  # [4, 4], the accuracy of each cell alone
spread = logits.std(dim=1).mean(dim=0)  # [4, 4], how far a cell's ten logits lie apart
middle = logits[:, :, 1:3, 1:3].mean(dim=(2, 3))
others = (16 * logits.mean(dim=(2, 3)) - 4 * middle) / 12
agreed = (by_cell[:, 1:3, 1:3] == answers[:, None, None]).flatten(1).all(dim=1)

figure, panels = plots.plt.subplots(1, 2, figsize=(6.4, 3.1))
for panel, values, title in zip(
    panels, (100 * right, spread), ("accuracy alone, %", "spread of its logits"), strict=True
):
    panel.imshow(values, vmin=0, vmax=1.6 * values.max(), cmap="Oranges")
    for row in range(4):
        for column in range(4):
            panel.text(column, row, f"{values[row, column]:.1f}", ha="center", va="center")
    panel.set(title=title, xticks=[], yticks=[])
plots.show(figure, options.out, "cells")

# %%
for what, value in (
    ("accuracy of the four middle cells together", (middle.argmax(dim=1) == truth).float().mean()),
    ("accuracy of the twelve others together", (others.argmax(dim=1) == truth).float().mean()),
    ("accuracy of all 16 together, in one view", (~wrong).float().mean()),
    ("accuracy of nine views, 144 cells", (predictions.cpu() == truth).float().mean()),
    ("images on which the four agree with the answer", agreed.float().mean()),
):
    print(f"{'this run':<11}{what:<56}{100 * value:.2f} %")
both = f"{int((agreed & wrong).sum())} of {int(wrong.sum())}"
print(f"{'this run':<11}{'wrong images on which the four agree with the answer':<56}{both}")

# %% [markdown]
# So much for the plan. Each cell *can* see the whole image; what it makes of it is another matter. In our run on
# MNIST a middle cell alone reads 98 of 100 images and a corner cell 30, and what a corner says it says softly: its
# ten logits lie a tenth as far apart as a middle cell's. Nobody trained the cells to answer alone. The loss sees only
# their average, and a cell may be silent, or exaggerate, as long as the others make up for it. A likely reason, which
# we have not tested: the middle of a corner's field, where most of the paths lead from, lies in a corner of the
# digit's box, and the far side of the digit in the thin rim. The four in the middle are by themselves within a tenth
# of a point of all sixteen. Every cell has the same weight in the average, and training left twelve of them little to
# say. So the shared square is a condition for sixteen good cells, and no promise of them.
#
# The four in the middle also say how far to trust the answer. In our run they agree with it on 95 of 100 images, and
# of these answers one in 2,000 is wrong; of the others, one in 18. Below is the test image that got the least
# probability for its label. The map next to it is, cell by cell, the logit of what was read less the logit of the
# label: dark cells spoke for the mistake.

# %%
doubtful = int(one_view[torch.arange(len(truth)), truth.long()].argmin())
margin = logits[doubtful, answers[doubtful]] - logits[doubtful, int(truth[doubtful])]
figure, (left, right_panel) = plots.plt.subplots(1, 2, figsize=(6.4, 3.1))
left.imshow(digits.test_images[doubtful].reshape(28, 28).cpu())
left.set_title(f"is {int(truth[doubtful])}, read as {int(answers[doubtful])}", fontsize="small")
bound = float(margin.abs().max()) or 1.0
drawn = right_panel.imshow(margin, vmin=-bound, vmax=bound)
right_panel.set_title("what was read less the label", fontsize="small")
figure.colorbar(drawn, ax=right_panel, shrink=0.8)
for axis in (left, right_panel):
    axis.set(xticks=[], yticks=[])
plots.show(figure, options.out, "margins")

# %% [markdown]
# ## Analysis
#
# **What came of it.** Mistakes in 10,000, as means over the recorded seeds: step 1
# 65<!--S6/part2_step1_dense_head wrong-->, step 2 81<!--S6/part2_step2_strided wrong-->, step 3
# 75<!--S6/part2_step3_global_pooling wrong-->, this step 30<!--S6/part2_step4_under_20k wrong-->. The budget
# was the same for all four. The standard deviation over the seeds is
# 0.02 points<!--S6/part2_step4_under_20k deviation-->, and it was
# 0.10 points<!--S6/part2_step3_global_pooling deviation--> in step 3. A mean of ten runs is known better than one of
# three that scatter alike.
#
# **What cannot be said.** Which decision did it. Between step 3 and this page nearly everything has changed, the
# network and the recipe, and two rows of a table cannot split their difference into its causes. What is compared one
# by one, with paired seeds on validation images, is dropout, above, and the rungs of block 4's ablation ladder, as
# far as they are trained, among which *separable convolutions* and *SiLU* are the same decisions in a network of
# 7,552 parameters. The shared square, the narrow beginning and the number of layers are reasons on paper, and we have
# measured none of them alone. Of the shared square we have seen that the cells which should profit from it, those in
# the corners, hardly contribute.
#
# **What the budget bought.** Block 4 trains its network by this very recipe, with a teacher trained alike, and is at
# 99.65 %<!--S7/block4 mean-->. With 2.6 times its parameters this one is at
# 99.70 %<!--S6/part2_step4_under_20k mean-->. The teacher has 15 times as many once more. Before asking what still
# more parameters would buy, look at the surest mistakes again, and count those that you would have read.
#
# **The end of the run.** Had we reported each seed's best epoch instead of its last, the mean would be
# 0.02 points<!--S6/part2_step4_under_20k best_epoch_bias--> higher. In step 1, whose source stopped at the first epoch that
# reached its target, it would be 0.02 points<!--S6/part2_step1_dense_head best_epoch_bias-->.
#
# **What the next step changes.** In the order of the sessions it is [S7 block 1](../S7/block1.ipynb), where the
# budget falls to 8,000 in three blocks and the target has to be met in each of the last epochs. The opposite question
# to this page's, how few parameters are enough, needs the same two tools: a price list, and a plan of what is seen.

# %% [markdown]
# ## Exercises
#
# Each has a stub, a check that answers at once, and a solution to unfold.
#
# **Exercise 1: what every cell sees** (easy, 5 minutes). Return the side of the square in the middle of the image
# that all cells of a map share, 0 where there is none. The last checks are block 3 (a field of 22, six cells in a
# row, 2 pixels apart) and this network without its last separable layer.


# %%
def shared_square(field: int, cells: int, jump: int) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


check("this network", shared_square(40, 4, 4), 28)
check("the first layer", shared_square(3, 26, 1), 0)
check("block 3", shared_square(22, 6, 2), 12)
check("without the last separable layer", shared_square(32, 6, 4), 12)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def shared_square(field, cells, jump):
#     return max(0, field - (cells - 1) * jump)
# ```
#
# A corner cell is (cells - 1) / 2 jumps away from the middle, along both axes. Its field reaches field / 2 to either
# side of it, so beyond the middle it ends after field / 2 - (cells - 1) x jump / 2. The corner cell opposite ends as
# far on the other side, and what both see is twice as long.
#
# </details>

# %% [markdown]
# **Exercise 2: several kernels for each channel** (medium, 10 minutes). A depthwise layer may give each channel k
# kernels instead of one. Its k C outputs then go into the pointwise layer: 9 k C + k C D weights, and the rank for
# each input channel is up to k. Return the largest k for which that is cheaper than a dense 3x3 convolution with its
# 9 C D weights.


# %%
def most_kernels(inputs: int, outputs: int) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


check("64 to 64", most_kernels(64, 64), 7)
check("16 to 32", most_kernels(16, 32), 7)
check("16 to 10", most_kernels(16, 10), 4)
check("64 to 1,000", most_kernels(64, 1_000), 8)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def most_kernels(inputs, outputs):
#     kernels = 0
#     while (kernels + 1) * (9 * inputs + inputs * outputs) < 9 * inputs * outputs:
#         kernels += 1
#     return kernels
# ```
#
# k < 9 D / (9 + D), the same fraction that says how many times cheaper a separable layer is. With nine kernels for
# each channel every dense kernel can be had, and it then costs more than the dense one.
#
# </details>

# %% [markdown]
# **Exercise 3: the last width** (easy, 10 minutes). The network has 60 channels behind its last separable layer. Let
# it be `last` instead: return how many parameters the network has then. Everything up to the layer of 64 in front of
# it stays. (Three things depend on `last`: a pointwise convolution, a BatchNorm, and the logits.) Why is it not 64,
# as in the two layers before it?


# %%
def parameters_with(last: int) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


check("with 60", parameters_with(60), 19_760)
check("with 64", parameters_with(64), 20_064)
check("with one less", parameters_with(63), 19_988)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def parameters_with(last):
#     return 19_760 + (last - 60) * (64 + 2 + 10)
# ```
#
# A channel more costs 64 weights of the pointwise convolution, 2 numbers of BatchNorm and 10 weights of the logits.
# With 64 the network would be over the bound. 63 would fit; 60 is a round number that leaves 240 parameters unspent.
#
# </details>

# %% [markdown]
# **Exercise 4: the variance under dropout** (medium, 10 minutes). Return by which factor dropout with probability p
# raises the variance of a value with the given mean and variance. The second check is what stands in the lesson for
# SiLU, and the third is the dose of step 2 on a value without a mean.


# %%
def variance_factor(p: float, mean: float, variance: float) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


check("p = 0.05, mean 0", variance_factor(0.05, 0.0, 1.0), 1.0526, tolerance=1e-4)
check("p = 0.05, behind SiLU", variance_factor(0.05, 0.2066, 0.3131), 1.0598, tolerance=1e-4)
check("p = 0.25, mean 0", variance_factor(0.25, 0.0, 1.0), 1.3333, tolerance=1e-4)
check("p = 0.05, a value that hardly varies", variance_factor(0.05, 1.0, 0.01), 6.3158, tolerance=1e-4)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def variance_factor(p, mean, variance):
#     return (variance + p * mean**2) / (1 - p) / variance
# ```
#
# The last check is the bad case: a channel that is always near 1 gets nearly all its variance from dropout. BatchNorm
# in front of the activation keeps the means small, and so keeps that case rare.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. The others' parameters went into dense 3x3 convolutions and one dense head. Here four fifths are in 1x1
#    convolutions.
# 2. From 48 to 48 channels a dense 3x3 layer costs 20,736 weights and a separable one 2,736. For each input channel
#    the cheap one has rank 1: it can look at a channel in one way, and needs a second channel for a second way.
# 3. A digit's box of 20x20 is not always in the middle. A field of 40 on a map of 4x4 cells, 4 pixels apart, lets
#    every cell see all 28 pixels. Those in the corners make little of it.
# 4. A weight costs one parameter everywhere, and 576 or 16 multiply-adds. Narrow first and wide last computes 7 %
#    less than step 3; the same widths in reverse would compute nearly three times as much.
# 5. Dropout raises a variance that a BatchNorm behind it has learned, so its place is behind the last one. Over
#    10<!--S6/part2_step4_under_20k seeds--> seeds the network is at
#    99.70 %<!--S6/part2_step4_under_20k mean-->.
