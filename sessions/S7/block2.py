# %% [markdown]
# # S7 block 2: Halve the parameters, and measure what they had bought
#
# [Block 1](block1.ipynb) ended with a skeleton of 16,562 parameters and a recipe. Block 2 keeps the recipe to the
# letter and builds another network, of 7,904 parameters. So whatever differs between the two results is the network's
# doing, or chance. The student whose solution this lesson retells reported 99.4 % after epoch 13 for block 1 and 99.5
# % after epoch 16 for block 2: fewer than half of the parameters, and a better number. Both were measured on training
# images, and they are two different moments of the schedule: the learning rate falls between them. This lesson takes
# the comparison apart.
#
# **What you'll do**
#
# 1. Draw up the ledger of both networks: what the 3x3 convolutions, the 1x1 convolutions, the head and BatchNorm
#    hold.
# 2. Look at the ends of the augmentation: how far a digit is turned and enlarged at most.
# 3. Compare two kinds of Dropout, of values and of channels, and count what each removes from an image.
# 4. Train with block 1's recipe, and hold this run against its targets.
# 5. Compare the three blocks at the same epochs, with the uncertainty of each difference.
#
# **What you'll learn**: where parameters go in a small network and how to plan them, Dropout of channels, why two
# numbers must be taken at the same point of the schedule, and the standard error of a difference between two means.
#
# **What you'll need**: [block 1](block1.ipynb). The full runs in this step's record took 11 minutes<!--S7/block2 minutes--> each on average,
# on one thread of a CPU with another run beside it (we have not timed it on a GPU). `python3 course.py run S7/block2
# --quick` goes through every step in seconds.
#
# *Before this*: [block 1](block1.ipynb). *After this*: [block 3](block3.ipynb), this network with another recipe. The
# [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. To run it in the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository, and the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | the assignment asks for | in this block |
# |---|---|---|
# | parameters | fewer than 8,000 | **the target of the block**: 7,904, with the recipe unchanged |
# | test accuracy | at least 99.40 % | what block 1 was built for; the question is whether it survives the cut |
# | the same in *each* of the last 3 epochs | at least 99.40 % | as above |
# | epochs | at most 15 | **missed by design**, as in block 1: 20, because the recipe is kept. Block 3 changes the recipe |
#
# One change at a time is the rule that makes blocks worth having. Block 2 changes the network and nothing else. It
# changes the network in many ways at once, though, so the comparison can speak of the two networks as wholes and not
# of any one layer.

# %%
TRAIN = "recorded"  # what a full run left; "full" trains as the recipe says, "quick" for seconds on a part
try:
    from common.recipe import Augmentation, Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S7/block2",
    epochs=20,
    batch_size=64,
    lr=0.01,
    momentum=0.9,
    lr_step=15,
    augmentation=Augmentation(rotation=7, crop_probability=0.1),
)
recipe, options = command_line(recipe, TRAIN)

# %%
targets = (
    Target("parameters", "<", 8_000),
    Target("epochs", "<=", 15),
    Target("test accuracy", ">=", 99.40),
    Target("test accuracy in each of the last 3 epochs", ">=", 99.40),
)

# %% [markdown]
# The heavier imports, and the lines that say which digits and which machine the rest was measured on:

# %%
import torch
from torchvision.transforms import functional as transform

from common import data, models, records, training
from common.lesson import check, plots

device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
checkpoint = training.Checkpoint(options, recipe, digits, device)
print(records.head(recipe, options, digits, device))

# %% [markdown]
# ## The data
#
# The digits and the augmentation are block 1's. A random sample reaches the ends of the augmentation only by chance,
# so here they are for one digit: as it is, turned by -7 and by +7 degrees, and the same three after the crop that one
# image in ten gets.

# %%
digit = digits.train_images[2][None]
cropped = transform.resize(transform.center_crop(digit, [22, 22]), [28, 28])
extremes = [transform.rotate(image, angle) for image in (digit, cropped) for angle in (0, -7, 7)]
captions = [f"{kind}, {angle}°" for kind in ("whole", "cropped") for angle in (0, -7, 7)]
plots.show(plots.grid(torch.stack(extremes), captions, title="how far it goes"), options.out, "extremes")

# %% [markdown]
# Compare the second picture with the third: between the two ends lie 14 degrees, which move the rim of a digit by
# about 2.4 pixels. Compare the first with the fourth: the crop makes a digit of 20 pixels one of 20 x 28/22 = 25.5,
# and what lay outside the middle 22x22 is gone. No test image has been enlarged like that, so the crop trains the
# network for something that the test never asks. One image in ten is spent on it.

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

# %% [markdown]
# The two tests, as in block 1: `held-out` are MNIST's test images, `source` are the training images once more, which
# the source's notebook called its test.

# %%
test_batches = {
    "held-out": data.InMemoryLoader(digits.test_images, digits.test_labels, batch_size=1000, device=device),
    "source": data.InMemoryLoader(
        digits.train_images,
        digits.train_labels,
        batch_size=1000,
        augmentation=recipe.augmentation,
        seed=recipe.seed,
        device=device,
    ),
}

# %% [markdown]
# ## The network
#
# Printed from the module that is trained. Its class is called `S7Block3`: block 3 uses the same one.

# %%
print(models.source(recipe.step))

# %% [markdown]
# ### The ledger
#
# Where were 16,562 parameters, and where are 7,904? Sort them by what they are for. The head is the last layer, the
# one that gives the ten logits.


# %%
def ledger(step):
    """The parameters of a step's network by what they are for."""
    network = models.build(step)
    *body, head = models.layer_rows(network)
    sums = {f"{size}x{size} convolutions": sum(r.parameters for r in body if r.kernel == size) for size in (3, 1)}
    sums["head"] = head.parameters
    total = models.count_parameters(network)
    return {**sums, "BatchNorm": total - sum(sums.values()), "total": total}


before, after = ledger("S7/block1"), ledger("S7/block2")
print(f"{'':<20}{'block 1':>10}{'block 2':>10}{'saved':>10}")
for part in before:
    print(f"{part:<20}{before[part]:>10,}{after[part]:>10,}{before[part] - after[part]:>10,}")

# %% [markdown]
# The 3x3 convolutions pay for nearly all of it: 8,156 of 8,658. A 3x3 convolution from a to b channels has 9ab
# weights, so its price grows with the product of its two ends. Block 1 has three that go from 16 to 32 channels
# (4,608 weights each, and 32 biases). The dearest in block 2 goes from 16 to 16 and costs 2,304. The 32 channels that
# block 2 does have are in the one place where they are cheap: behind the first convolution, whose input is a single
# channel. 9 x 1 x 32 = 288 weights. A 1x1 convolution takes them down to 8 at once, for another 256, before any 3x3
# convolution has to look at all of them.
#
# The rest is small change. The head costs 160 instead of 330, because it sees 16 averages instead of 32 and has no
# bias. BatchNorm costs 44 *more*: block 2 puts one behind each convolution but the last, and together these have 118
# channels, where block 1 has 96. In return no convolution in block 2 has a bias; block 1's biases come to 162.
#
# ### What it sees
#
# The same network in torchsummary's table, with the count of what the module holds under it, and then layer by layer
# with its receptive fields:

# %%
torch.manual_seed(recipe.seed)
model = models.build(recipe.step).to(device)
print(models.summary(model))

# %%
print(models.layer_table(model))

# %%
rows = models.layer_rows(model)
plots.show(plots.receptive_fields(digits.train_images[2], rows), options.out, "receptive_fields")

# %% [markdown]
# Block 1 pools twice: a kernel behind the second pool adds 8 pixels to the field, and five 3x3 convolutions are
# enough. Block 2 pools once and has six, and none of them adds more than 4. In front of the average a value of block
# 1 sees 24x24 pixels and there are 2x2 of them; in block 2 it sees 22x22 and there are 6x6. Follow the squares in the
# figure: the last step, the average over 36 positions, is by far the widest. Its field of 32x32 is larger than the
# image. In block 1 it was 28x28 to the pixel, because nothing was padded. Here one convolution (Conv2d-14) is padded
# by one pixel on each side, at a jump of 2, so 2 pixels of nothing join on each of the four sides.
#
# An average forgets where on the map something was seen, and one over 36 positions forgets more than one over 4. That
# is a bet: that a square of 22x22 pixels shows enough to tell the digit, wherever the square lies.
#
# The work shrinks even more than the parameters: from 3,360,640 multiply-adds to 1,278,128, a factor of 2.6. The
# largest single item of block 1, 16 to 32 channels on 24x24 positions, has gone.

# %% [markdown]
# ### Two kinds of Dropout
#
# Block 1 drops *values*: each number behind a convolution is set to zero with probability 0.05, on its own. Its four
# such layers put out 32,896 values for an image, and about 1,645 of them are dropped. Neighbouring values of a map
# resemble each other, so what one dropped value said, the next one says again.
#
# Block 2 drops *channels* (`Dropout2d`): a whole map is there or not there. That cannot be made up for by a
# neighbour. It is also a far coarser knife: the network has 118 channels behind its convolutions, and with a
# probability of 0.01 it loses 1.18 of them for an average image. How many images lose none?

# %%
kept = 1 - 0.01
print(f"no channel dropped in the whole network: {100 * kept**118:.1f} % of the images")
print(f"none of the 8 behind the first 1x1:      {100 * kept**8:.1f} %")

# %% [markdown]
# Three images in ten pass untouched, and the narrowest place of the network loses one of its 8 channels for one image
# in thirteen. Block 1's probability of 0.05, applied to channels, would be another matter: Exercise 2 works it out.

# %% [markdown]
# ## Training
#
# Block 1's recipe: 20 epochs, learning rate 0.01 with momentum 0.9, and a tenth of it from epoch 16 on. Nothing is
# chosen by the test images, and the result is the last epoch.

# %%
if options.recorded:
    history = records.restore(recipe, model)
else:
    history = training.fit(model, train_batches, test_batches, recipe, options, checkpoint)

# %%
plots.show(plots.curves(history, bound=99.4), options.out, "curves")

# %% [markdown]
# Put block 1's curves beside these. What to compare is the distance between the blue and the orange curve. The
# training errors are counted with dropout on and on images that were just turned; a network with fewer weights to
# learn them with can be expected to leave more of them.

# %% [markdown]
# ## Result
#
# This run, against the targets:

# %%
record = records.make(recipe, options, model, digits, history)
print(records.verdict(targets, record))
records.save(options, record, model)

# %% [markdown]
# The recorded full runs on MNIST:

# %%
print(records.recorded(recipe.step, targets))

# %% [markdown]
# And by the source's protocol, where it counted 59,709 of its 60,000 training images after epoch 16:

# %%
as_the_source_did = training.evaluate(model, test_batches["source"])
print(f"this run   accuracy on its own training images           {as_the_source_did.accuracy:.2f} %")

# %%
print(records.claims(recipe.step, {16: 59_709}))

# %% [markdown]
# The claim is 99.52 % after epoch 16. Measured in the same way, our mean over 3<!--S7/block2 source seeds--> seeds is
# 99.49 %<!--S7/block2 source mean at 16-->; on the held-out images it is 99.50 %<!--S7/block2 mean at 16--> at that
# epoch and 99.50 %<!--S7/block2 mean--> at the last one, with a standard deviation of
# 0.03 points<!--S7/block2 deviation-->.

# %% [markdown]
# ## The mistakes
#
# The twelve test images on which this network was wrong and surest of it, each with its label, what was read, and
# with which probability. If you have block 1's page open, look for images that are on both: those are hard for more
# than one network.

# %%
log_probabilities = training.predict(model, test_batches["held-out"])
plots.show(plots.mistakes(digits.test_images, digits.test_labels, log_probabilities), options.out, "mistakes")

# %% [markdown]
# The confusion matrix of all of them. Its diagonal is left blank. With about 50<!--S7/block2 wrong--> mistakes on 90
# cells, compare rows and columns rather than single cells.

# %%
predictions = log_probabilities.argmax(dim=1)
plots.show(plots.confusion(digits.test_labels, predictions), options.out, "confusion")

# %% [markdown]
# ## Analysis
#
# **What worked.** The target of the block: 7,904 parameters, 96 under the cap, and 2.6 times less work. On held-out
# images the last epoch is at 99.50 %<!--S7/block2 mean--> over 3<!--S7/block2 seeds--> seeds, between
# 99.46 %<!--S7/block2 minimum--> and 99.52 %<!--S7/block2 maximum-->, where block 1 was at
# 99.51 %<!--S7/block1 mean-->.
#
# **What did not.** 20 epochs are five too many, by design. The accuracy is not the problem: about
# 50<!--S7/block2 wrong--> mistakes on average, where 60 were allowed. (After epoch 15, where the assignment would
# have stopped and the learning rate had not yet fallen, the mean was 99.40 %<!--S7/block2 mean at 15-->.)
#
# **The claim, taken apart.** 99.4 % for block 1 and 99.5 % for block 2 looks as if fewer parameters gave a better
# network. Two things stand in the way. Both numbers are about training images. And one was taken after epoch 13 at a
# learning rate of 0.01, the other after epoch 16 at 0.001. Here are both networks at the same epochs:
#
# | after epoch | block 1, training images | block 2, training images | block 1, held-out | block 2, held-out |
# |---|---|---|---|---|
# | 13 | 99.39 %<!--S7/block1 source mean at 13--> | 99.31 %<!--S7/block2 source mean at 13--> | 99.41 %<!--S7/block1 mean at 13--> | 99.32 %<!--S7/block2 mean at 13--> |
# | 16 | 99.58 %<!--S7/block1 source mean at 16--> | 99.49 %<!--S7/block2 source mean at 16--> | 99.47 %<!--S7/block1 mean at 16--> | 99.50 %<!--S7/block2 mean at 16--> |
# | 20 | 99.65 %<!--S7/block1 source mean--> | 99.55 %<!--S7/block2 source mean--> | 99.51 %<!--S7/block1 mean--> | 99.50 %<!--S7/block2 mean--> |
#
# The source compared the first row of one column with the second row of the next. Read along a row to compare the
# networks, and down a column to see what the schedule does. A claim about two networks needs the same row, and the
# columns on the right.
#
# **What each change bought.** The three blocks side by side, from their records. Accuracies are those of the last
# epoch, a mean over the seeds ± their standard deviation:
#
# | | block 1 | block 2 | block 3 |
# |---|---|---|---|
# | what it changes | - | the network | the recipe |
# | parameters | 16,562<!--S7/block1 parameters--> | 7,904<!--S7/block2 parameters--> | 7,904<!--S7/block3 parameters--> |
# | multiply-adds for an image | 3,360,640 | 1,278,128 | 1,278,128 |
# | receptive field before the average, after it | 24x24, 28x28 | 22x22, 32x32 | 22x22, 32x32 |
# | dropout | 0.05, values | 0.01, channels | 0.01, channels |
# | epochs | 20<!--S7/block1 epochs--> | 20<!--S7/block2 epochs--> | 14<!--S7/block3 epochs--> |
# | learning rate, momentum | 0.01 (0.001 from epoch 16), 0.9 | 0.01 (0.001 from epoch 16), 0.9 | 0.02, 0.8 |
# | rotation | ±7 degrees | ±7 degrees | ±5 degrees |
# | **held-out** | 99.51 %<!--S7/block1 mean--> ± 0.05 points<!--S7/block1 deviation--> | 99.50 %<!--S7/block2 mean--> ± 0.03 points<!--S7/block2 deviation--> | 99.34 %<!--S7/block3 mean--> ± 0.03 points<!--S7/block3 deviation--> |
# | mistakes in 10,000 | 49<!--S7/block1 wrong--> | 50<!--S7/block2 wrong--> | 66<!--S7/block3 wrong--> |
# | the source's protocol (training images) | 99.65 %<!--S7/block1 source mean--> | 99.55 %<!--S7/block2 source mean--> | 99.43 %<!--S7/block3 source mean--> |
# | the gap between these two | 0.14 points<!--S7/block1 gap--> | 0.05 points<!--S7/block2 gap--> | 0.09 points<!--S7/block3 gap--> |
# | training accuracy, as seen in the last epoch | 99.51 %<!--S7/block1 training--> | 99.25 %<!--S7/block2 training--> | 99.01 %<!--S7/block3 training--> |
# | the source's claim | 99.4 % after epoch 13 | 99.5 % after epoch 16 | 99.47 % after epoch 14 |
#
# From block 1 to block 2: 52 % of the parameters and 62 % of the work are saved, and the held-out mean goes from
# 99.51 %<!--S7/block1 mean--> to 99.50 %<!--S7/block2 mean-->. From block 2 to block 3: the same network, and another recipe: six epochs less, twice the
# learning rate, with less momentum and never lowered, less rotation. The held-out mean goes from 99.50 %<!--S7/block2 mean--> to
# 99.34 %<!--S7/block3 mean-->. Each of these differences has its own uncertainty, which Exercise 3 computes. With
# three seeds a side it has to be nearly three standard errors wide before it is more than chance can easily do.
#
# The row with the gap says how far a number measured on training images lies above the one that it was taken for. It
# belongs to a network and a recipe together, and as far as it differs from block to block, the source's three numbers
# cannot even be compared with one another.
#
# **What the next step changes.** The parameters are where the assignment wants them. What is left are the 15 epochs.
# [Block 3](block3.ipynb) leaves the network alone and changes the recipe: 14 epochs, a smaller rotation, and a
# learning rate that is twice as high and does not fall. The table above says what all that together did to the
# held-out accuracy.

# %% [markdown]
# ## Exercises
#
# **Exercise 1: spend what is left** (medium, 10 minutes). 7,904 leaves 95 parameters below a cap that says *fewer
# than* 8,000. Write the function that counts a chain of bias-free convolutions, each given as (inputs, outputs,
# kernel), with a BatchNorm (two parameters a channel) behind each but the last. The checks ask for the network as it
# is, and for two ways to widen it by a little.

# %%
AFTER_THE_SQUEEZE = [(10, 16, 3), (16, 10, 1), (10, 10, 3), (10, 16, 3), (16, 16, 3), (16, 10, 1)]


def chain_parameters(convolutions: list[tuple[int, int, int]]) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


check("as it is", chain_parameters([(1, 32, 3), (32, 8, 1), (8, 10, 3), *AFTER_THE_SQUEEZE]), 7_904)
check("first layer 37 wide", chain_parameters([(1, 37, 3), (37, 8, 1), (8, 10, 3), *AFTER_THE_SQUEEZE]), 7_999)
check("squeezed to 9 channels", chain_parameters([(1, 32, 3), (32, 9, 1), (9, 10, 3), *AFTER_THE_SQUEEZE]), 8_028)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def chain_parameters(convolutions):
#     weights = sum(inputs * outputs * kernel**2 for inputs, outputs, kernel in convolutions)
#     return weights + 2 * sum(outputs for _, outputs, _ in convolutions[:-1])
# ```
#
# Another channel in the first layer costs 9 + 2 + 8 = 19, so five of them fit, to the last parameter. Another channel
# behind the squeeze costs 32 + 2 + 90 = 124, because a 3x3 convolution has to read it, and does not fit. Where a
# channel is cheap is not where it does most, but this is the price list.
#
# </details>

# %% [markdown]
# **Exercise 2: images that pass untouched** (easy, 5 minutes). Each of `channels` channels is dropped with
# probability `p`, independently. With which probability does an image lose none of them? Work it out for this network
# as it is, and with block 1's probability.


# %%
def untouched(channels: int, p: float) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


check("118 channels, 0.01", untouched(118, 0.01), 0.305, tolerance=0.001)
check("118 channels, 0.05", untouched(118, 0.05), 0.0024, tolerance=0.0001)
check("8 channels, 0.05", untouched(8, 0.05), 0.663, tolerance=0.001)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def untouched(channels, p):
#     return (1 - p) ** channels
# ```
#
# At 0.05 one image in 425 would pass untouched, and one in three would lose an eighth, or more, of what the narrowest
# layer can say. The same number in the two kinds of Dropout means two different things.
#
# </details>

# %% [markdown]
# **Exercise 3: is it the network or chance?** (medium, 15 minutes). Two lists of accuracies, one for each network, an
# entry for each seed. How many standard errors lie between their means? The variance of a mean over n seeds is the
# sample variance divided by n, and the variance of a difference is the sum of the two. When the checks are right,
# type in the seeds that the `recorded` lines of two blocks show.


# %%
def standard_errors_apart(first: list[float], second: list[float]) -> float | None:
    # Your lines here (import statistics). Then return your result instead of None.
    return None


check("0.1 points, wide spread", standard_errors_apart([99.3, 99.4, 99.5], [99.4, 99.5, 99.6]), 1.22, tolerance=0.01)
check("0.1 points, narrow", standard_errors_apart([99.30, 99.32, 99.34], [99.40, 99.42, 99.44]), 6.12, tolerance=0.01)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def standard_errors_apart(first, second):
#     import statistics
#
#     variance = statistics.variance(first) / len(first) + statistics.variance(second) / len(second)
#     return (statistics.fmean(second) - statistics.fmean(first)) / variance**0.5
# ```
#
# The same 0.1 points are nothing in the first case and clear in the second. With three seeds on either side the bound
# for 95 % is about 2.8 (Student's t with 4 degrees of freedom), not the 2 of large samples, because a standard
# deviation from three numbers is itself a guess.
#
# This counts the luck of the *seeds*. Both networks read the same 10,000 images, so part of the luck of the *images*
# is shared and cancels in the difference.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. The ledger: 3x3 convolutions hold 15,248 parameters in block 1 and 7,092 in block 2. A 3x3 convolution costs 9
#    times the product of its two ends, so it must not be wide on both.
# 2. At its ends the augmentation turns by 7 degrees and enlarges by a quarter; the crop makes digits that the test
#    set does not have.
# 3. Dropout of values at 0.05 removes about 1,645 of 32,896 numbers from an image. Dropout of channels at 0.01
#    removes 1.18 of 118 maps, and none at all from three images in ten.
# 4. With block 1's recipe, the network of 7,904 parameters is at 99.50 %<!--S7/block2 mean--> on held-out images, and
#    block 1's at 99.51 %<!--S7/block1 mean-->. The epochs miss the assignment's bound by design.
# 5. The source's 99.4 and 99.5 % come from training images and from either side of the learning rate's step. Compare
#    at the same epoch, on held-out images, over seeds, and with the standard error of the difference beside it.
