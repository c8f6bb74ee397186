# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # S7 block 3: Train 7,904 parameters, and find out what the 99.47 % was measured on
#
# Block 2 shrank the network to 7,904 parameters. Block 3 keeps that network to the last weight and changes only how it
# is trained: a learning rate twice as high, a little less momentum, a gentler rotation, no schedule, 14 epochs. The
# student whose solution this lesson retells reported 99.41 % after epoch 13 and 99.47 % after epoch 14. Both numbers are
# real. They are just not what everybody took them for.
#
# **What you'll do**
#
# 1. Read a recipe, and look at the digits the way the network meets them during training.
# 2. Follow one value through eleven layers, and say which part of the image it can see at each of them.
# 3. Train the network, and hold this run against its targets, line by line.
# 4. Measure the same network by the source's protocol, and explain the difference.
# 5. Decide how far apart two accuracies must be before they tell two networks apart.
#
# **What you'll learn**: receptive field and jump, 1x1 convolutions, global average pooling, the difference between a
# training set, a test set and a set that is merely *called* test, and the standard error of an accuracy.
#
# **What you'll need**: a little PyTorch (a module, an optimizer). The full run takes about 5 minutes on 2 CPU cores;
# we have not timed it on a GPU yet. `python sessions/S7/block3.py --quick` goes through every step in seconds.
#
# *Before this*: S7 block 2. *After this*: S7 block 4, which trains the same network better. The
# [map of the steps](../../README.md#the-map-of-the-steps) shows where each of them stands.
# To run in the cloud, [open Colab](https://colab.research.google.com/github/) on this repository and install the course
# as the [README](../../README.md#by-hand) tells.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | parameters | fewer than 8,000 | a cap that rules out a wide dense layer: at this size the network has to reuse what it learns |
# | epochs | at most 15 | long enough to converge, short enough to try an idea over a coffee |
# | test accuracy | at least 99.40 % | 60 mistakes in 10,000; where student networks of this size stand when they are done well |
# | the same in *each* of the last 3 epochs | at least 99.40 % | "consistently, not once": a curve that touches the line and drops again has not arrived |
#
# The recipe below is the source's. It is the only place in this lesson where such numbers stand; everything further
# down asks it. `command_line` lets you change it from outside: `--epochs 3`, or the variable `COURSE_EPOCHS=3`.

# %%
from common.recipe import Augmentation, Recipe, Target, command_line

recipe = Recipe(
    step="S7/block3",
    epochs=14,
    batch_size=64,
    lr=0.02,
    momentum=0.8,
    augmentation=Augmentation(rotation=5, crop_probability=0.1),
)
recipe, options = command_line(recipe)

# %%
targets = (
    Target("parameters", "<", 8_000),
    Target("epochs", "<=", 15),
    Target("test accuracy", ">=", 99.40),
    Target("test accuracy in each of the last 3 epochs", ">=", 99.40),
)

# %% [markdown]
# Now the heavier imports: PyTorch, and the course's own modules. The two lines that this cell prints say which digits
# and which machine the rest of this page was measured on. If the first line says *built-in digits*, there was no MNIST
# at hand (or you asked for a quick run): then every number below is about 1,797 small digits from scikit-learn, and is
# not comparable with anything that anyone reports on MNIST. The `checkpoint` will remember the run after every epoch, so that one that was
# interrupted goes on with `--resume`.

# %%
import torch

from common import anatomy, data, loops, models, plots, records, report
from common.checkpoints import Checkpoint
from common.exercises import check
from common.loaders import InMemoryLoader

device = loops.choose_device(options.device)
digits = data.load(options.data, options.limit)
checkpoint = Checkpoint(options.out, recipe, digits, resume=options.resume)
print(digits)
print(records.machine_line(device))

# %% [markdown]
# ## The data
#
# MNIST is 70,000 scanned digits, 28 pixels square, one byte a pixel. Before the network sees a pixel, two things
# happen to it: it is scaled from 0..255 to 0..1, and then shifted and scaled by the mean (0.1307) and the standard
# deviation (0.3081) of all training pixels. Here are the first twelve training images and their labels.

# %%
figure = plots.grid(digits.train_images[:12], [str(int(label)) for label in digits.train_labels[:12]])
plots.show(figure, options.out, "samples")

# %% [markdown]
# During training no image is seen twice in exactly the same way. With probability 0.1 the source cuts out the central
# 22x22 pixels and enlarges them to 28x28; then it turns every image by an angle between -5 and +5 degrees. Each pixel
# of a turned image takes the value of the *nearest* pixel of the original (torchvision's default). That keeps strokes
# sharp and their edges ragged; bilinear interpolation would blur them, and would be another recipe.
#
# The loader holds all images as one tensor and augments a whole batch at once. It draws from the same distribution as
# torchvision's image-by-image transforms; that the pixels agree is tested, not hoped.

# %%
train_batches = InMemoryLoader(
    digits.train_images,
    digits.train_labels,
    recipe.batch_size,
    augmentation=recipe.augmentation,
    shuffle=True,
    seed=recipe.seed,
    device=device,
)

# %% [markdown]
# Below, one digit in twelve of its training appearances. Look for the ones that come closer than the others: those
# were cropped, and about one in ten is. The rest differ by a few degrees, with small steps along the edges.

# %%
twelve_times_one = InMemoryLoader(
    digits.train_images[:1].repeat(12, 1, 1),
    digits.train_labels[:1].repeat(12),
    batch_size=12,
    augmentation=recipe.augmentation,
    seed=5,
)
images, _ = next(iter(twelve_times_one))
plots.show(plots.grid(images, [""] * 12, title="one digit, twelve appearances"), options.out, "augmentation")

# %% [markdown]
# And now the two things that can be called a test. `held-out` is what the word means: 10,000 images, written by
# people who wrote none of the training digits, that training never touches. `source` is what the source's notebook did: its test loader was
# built with `train=True`, and with the training transforms. It re-measures the *training* images, freshly augmented.

# %%
test_batches = {
    "held-out": InMemoryLoader(digits.test_images, digits.test_labels, batch_size=1000, device=device),
    "source": InMemoryLoader(
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
# What follows is printed from the module that is about to be trained, so it cannot disagree with it.

# %%
torch.manual_seed(recipe.seed)
model = models.build(recipe.step).to(device)
print(anatomy.source(model))

# %% [markdown]
# Three ideas keep it small. First, **1x1 convolutions**: the 32 channels of the first layer are mixed down to 8 before
# the next 3x3 convolution looks at them. That next layer then costs 8 x 10 x 9 = 720 weights; on 32 channels it would
# have cost 2,880. Second, **no biases**: where BatchNorm directly follows a convolution, its
# own shift does a bias's work; here a ReLU stands between the two, so the network really does without, and saves 128 numbers. Third, **global average
# pooling**: the last 6x6 map of each of 16 channels becomes its mean, and 16 x 10 weights turn 16 means into 10 scores.
# A dense layer on the same maps would need 36 times as many.
#
# torchsummary's table counts what runs in a forward pass. The line that we add under it counts what the module holds.
# Here both say 7,904. In S6 you meet a network where they do not.

# %%
print(anatomy.summary(model))

# %% [markdown]
# The next table is the one to read slowly. The **receptive field** of a layer is the square of the image that one of its output
# values can see. The **jump** is how far apart in the image two neighbouring outputs look. A 3x3 kernel widens the field by two
# jumps; that is why the same 3x3 kernel adds 2 pixels before the max-pool and 4 after it, where the jump has doubled.
# Multiply-adds are per image: the three convolutions before the pool hold 16 % of the parameters and do 61 % of the work.

# %%
print(anatomy.table(model))

# %%
rows = anatomy.layers(model)
plots.show(plots.receptive_fields(digits.train_images[0], rows), options.out, "receptive_fields")

# %% [markdown]
# In the figure, follow the squares outwards. After the first block a value sees 6x6 pixels: enough for an edge, an end of a stroke, a
# tight curve. The last 3x3 convolution sees 22x22, and MNIST's digits were scaled to fit into 20x20. So the layer in front of the pooling can
# take in nearly any digit whole, and the averaging has no reason to see further. That is the receptive field doing its
# job: the depth of this network was not chosen by feel.

# %% [markdown]
# ## Training
#
# `fit` is a plain loop: an epoch over the training batches, a look at the test batches, one line, one checkpoint. Its
# source is `common/loops.py`, and it takes five minutes to read. The test accuracy is looked at and never acted on: nothing stops
# early, no best epoch is picked. **The result is the last epoch**, whatever it is.
#
# The training accuracy in the log counts each image as the network met it: augmented, with dropout on, with the weights
# of that moment. The test accuracy has none of these handicaps, so early on it is the higher one.

# %%
history = loops.fit(model, train_batches, test_batches[options.protocol], recipe, checkpoint)

# %%
plots.show(plots.curves(history, bound=99.4), options.out, "curves")

# %% [markdown]
# Errors, not accuracies, and on a logarithmic axis: between 99.0 and 99.5 % the mistakes halve, and on a linear axis of accuracies that
# is the width of the line. What to see: the training curve (blue) falls smoothly to the end. The test curve (orange) falls with it, then
# jitters from epoch to epoch around a level close to the dotted line. The learning rate never drops in this recipe, so the weights keep
# taking steps of the same size, and the last digit of the accuracy depends on where the last step landed.

# %% [markdown]
# ## Result
#
# First this run: target, measured, verdict.

# %%
record = records.make(recipe, options, model, digits, history)
print(report.verdict(targets, record, digits))

# %% [markdown]
# One run is one draw. Here are the recorded full runs on MNIST, one line for each seed, then what they say together.

# %%
print(report.recorded(recipe.step, targets))

# %% [markdown]
# Now the same network by the source's protocol. It is one line of code, and it is the whole mystery:

# %%
as_the_source_did = loops.evaluate(model, test_batches["source"])
print(f"this run   accuracy on its own training images           {as_the_source_did.accuracy:.2f} %")

# %%
print(report.claims(recipe.step, {13: 59_643, 14: 59_681}))

# %% [markdown]
# So the source's numbers reproduce: measured its way, our mean is ?<!--S7/block3 source mean at 13--> after epoch 13 and
# ?<!--S7/block3 source mean at 14--> after epoch 14, where it reported 99.41 and 99.47 %. And on images that were kept
# away from training the mean over ?<!--S7/block3 seeds--> seeds is ?<!--S7/block3 mean-->, with a standard deviation of
# ?<!--S7/block3 deviation-->. The claim was an honest reading of the wrong dial.

# %% [markdown]
# ## The mistakes
#
# The twelve test images on which this network was wrong and surest of itself. Each caption says what the label is, what
# the network read, and how much of its probability it put there.

# %%
log_probabilities = loops.predict(model, test_batches["held-out"])
plots.show(plots.mistakes(digits.test_images, digits.test_labels, log_probabilities), options.out, "mistakes")

# %% [markdown]
# The confusion matrix below has its diagonal left blank, because ten numbers near a thousand would drown the rest. Look for pairs
# that are dark on both sides of the diagonal: digits that the network mixes up in either direction, like two shapes that
# differ by one short stroke. A cell that is dark on one side only means a habit: this digit is drawn carelessly in the
# way that the other is drawn well.

# %%
predictions = log_probabilities.argmax(dim=1)
plots.show(plots.confusion(digits.test_labels, predictions), options.out, "confusion")

# %% [markdown]
# ## Analysis
#
# **What worked.** The network stays 96 parameters under its cap, and it does not overfit: its accuracy on the training images,
# augmented and with dropout, ends at ?<!--S7/block3 training-->, *below* what it gets on images it has never seen. The receptive field
# is where it should be. There is nothing wrong with this architecture.
#
# **What did not.** The target. Over ?<!--S7/block3 seeds--> seeds the last epoch is at ?<!--S7/block3 mean--> on average, between
# ?<!--S7/block3 minimum--> and ?<!--S7/block3 maximum-->. That is about ?<!--S7/block3 wrong--> wrong images where 60 were allowed. The
# lines above say how many seeds met each target, and the last of them is the strict one: "in each of the last 3 epochs".
#
# **Where the two numbers come from.** Look at three measurements of the same training images. While the network
# trains, it reads ?<!--S7/block3 training--> of them correctly. A minute later, by the source's protocol, it is
# ?<!--S7/block3 source mean-->. The images are the same, the augmentation is the same; but dropout is now off, BatchNorm
# uses its running means instead of the batch's, and all images meet the final weights, not those of the moment at which each image came along.
# On held-out images it is ?<!--S7/block3 mean-->. The last step, from training images to held-out ones, is the only one that speaks
# of digits the network has never met, and it is the one that the source's notebook could not show.
#
# The difference is about a tenth of a point: ten images in ten thousand, more than one standard error, and all there is between
# "target reached" and "target missed". There was a way to notice without any statistics. The source's log says *59643/60000*. MNIST has 10,000 test
# images. **Read the denominator.**
#
# **What the next step changes.** The curves show the network arriving within half of its epochs and then trembling: with a
# learning rate of 0.02 to the very end, the last three epochs of one seed differ by several images in either direction. No
# architecture is needed to calm that. The next step keeps this network and lets the learning rate come down.

# %% [markdown]
# ## Exercises
#
# Each has a stub, a check that answers at once, and a solution to unfold.
#
# **Exercise 1: the receptive field by hand** (easy, 5 minutes). Complete the function: it takes a list of
# (kernel, stride) pairs and gives the receptive field and the jump after the last. Then ask it what the last 3x3
# convolution would see if somebody deleted the max-pool.


# %%
def receptive_field(layers: list[tuple[int, int]]) -> tuple[int, int] | None:
    field, jump = 1, 1
    # your lines here
    return None


check("receptive field of two 3x3 convolutions", receptive_field([(3, 1), (3, 1)]), (5, 1))
check("with a 2x2 pool of stride 2 between them", receptive_field([(3, 1), (2, 2), (3, 1)]), (8, 2))

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def receptive_field(layers):
#     field, jump = 1, 1
#     for kernel, stride in layers:
#         field += (kernel - 1) * jump
#         jump *= stride
#     return field, jump
# ```
#
# Without the pool the six 3x3 convolutions give 1 + 6 x 2 = 13 pixels: less than two thirds of a digit. One max-pool,
# which has no weights at all, is worth 9 pixels here.
#
# </details>

# %% [markdown]
# **Exercise 2: what the 1x1 convolution saves** (easy, 5 minutes). Count the weights of a chain of bias-free
# convolutions, each given as (inputs, outputs, kernel). What do 32 -> 8 -> 10 with a 1x1 in the middle cost, and what does
# 32 -> 10 with one 3x3?


# %%
def weights(convolutions: list[tuple[int, int, int]]) -> int | None:
    # your lines here
    return None


check("32 -> 8 by 1x1, then 8 -> 10 by 3x3", weights([(32, 8, 1), (8, 10, 3)]), 976)
check("32 -> 10 by 3x3", weights([(32, 10, 3)]), 2_880)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def weights(convolutions):
#     return sum(inputs * outputs * kernel * kernel for inputs, outputs, kernel in convolutions)
# ```
#
# 976 against 2,880. The difference is nearly a quarter of the whole budget of 8,000.
#
# </details>

# %% [markdown]
# **Exercise 3: how much is a hundredth of a point?** (medium, 10 minutes). If each test image is read correctly with
# probability p, independently of the others, the accuracy on n images has the standard error sqrt(p (1 - p) / n).
# Give it in points (per cent). Then ask: how many standard errors lie between the source's 99.41 and its 99.47 on 60,000 images, and how
# many between two networks with 99.41 and 99.47 % on 10,000?


# %%
def standard_error(accuracy: float, images: int) -> float | None:
    """Of an accuracy in per cent, in points."""
    # your lines here
    return None


check("at 99.40 % on 10,000 images", standard_error(99.40, 10_000), 0.0772, tolerance=0.0001)
check("at 50 % on 100 images", standard_error(50, 100), 5.0, tolerance=0.0001)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def standard_error(accuracy, images):
#     share = accuracy / 100
#     return 100 * (share * (1 - share) / images) ** 0.5
# ```
#
# On 60,000 images the standard error is 0.031 points, so 0.06 points are about two of them. On 10,000 it is 0.077, and
# the two networks cannot be told apart by one run each: their difference is less than one standard error, and the
# standard error of a *difference* of two independent accuracies is larger still, by the square root of two.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. The recipe is one value, and the loader shows the network a slightly turned, sometimes enlarged digit each time.
# 2. One value of the last 3x3 convolution sees 22x22 of 28x28 pixels: a whole digit. The max-pool doubled the jump and
#    with it what every later kernel is worth.
# 3. The run against its targets: 7,904 parameters and 14 epochs are within bounds; the accuracy, at a mean of
#    ?<!--S7/block3 mean--> over the seeds, is not.
# 4. The source measured its training images. By its protocol we get what it got; on held-out images the network is at
#    ?<!--S7/block3 mean-->.
# 5. At 99.4 % on 10,000 images one standard error is 0.08 points, and the seeds differ by as much. A claim finer than that needs more seeds.

# %%
report.save(options.out, record, model)
