# %% [markdown]
# # S7 block 1: Get the set-up right, with four checks before the first epoch
#
# The students' networks in S6 were free to use up to 20,000 parameters. S7 asks for 99.4 % with fewer than 8,000, held
# over the last epochs, and wants the way there told in three blocks, each with a target, a result and an analysis.
# Block 1 does not try to be small. Its job is the set-up (data, augmentation, training loop, test) and a *skeleton*:
# an arrangement of layers that works and can be slimmed afterwards. The student whose solution this lesson retells
# had a skeleton of 16,562 parameters, reported 99.4 % after epoch 13, and went on to block 2. The skeleton is sound.
# The mistake is in the set-up, and a check of four lines would have shown it.
#
# **What you'll do**
#
# 1. Check that the test images are other images than the training images.
# 2. Read the skeleton layer by layer, and find three layers with equally many parameters and very unequal work.
# 3. Put a sentence of the source to the test: that this network uses no activation function.
# 4. Run two more checks that take seconds: the loss of an untrained network, and 64 images learned by heart.
# 5. Train for 20 epochs, with one step down of the learning rate, and hold the run against its targets.
#
# **What you'll learn**: what to test before a long run and what each test can find, why work and parameters are two
# different budgets, what an activation function is for, and what a falling learning rate does to the last epochs.
#
# **What you'll need**: a little PyTorch (a module, an optimizer). The full runs in this step's record took 15 minutes<!--S7/block1 minutes-->
# each on average, on one thread of a CPU with another run beside it (we have not timed it on a GPU). `python3
# course.py run S7/block1 --quick` goes through every step in seconds.
#
# *Before this*: [S6 part 2, step 3](../S6/part2_step3_global_pooling.ipynb), global pooling with 17,118 parameters.
# *After this*: [block 2](block2.ipynb), the same recipe with fewer than half of the parameters. The [map of the steps](../../README.md#the-map-of-the-steps)
# shows the whole way. To run it in the cloud: [Colab](https://colab.research.google.com/github/) opens a notebook
# from your copy of the repository, and the [notes on it](../../docs/machines.md#on-colab) have the two lines that
# install the course there.

# %% [markdown]
# ## Target
#
# The assignment sets four numbers for the end of the third block. A first block does not have to meet them all, but
# it should say which ones it leaves for later.
#
# | what | the assignment asks for | in this block |
# |---|---|---|
# | test accuracy | at least 99.40 % | the target of the block: if 16,562 parameters cannot do it, there is no point in removing half of them |
# | the same in *each* of the last 3 epochs | at least 99.40 % | measured; the schedule of the learning rate should help |
# | parameters | fewer than 8,000 | **missed by design**: 16,562, and block 2 is for that |
# | epochs | at most 15 | **missed by design**: the source trains blocks 1 and 2 for 20 epochs and comes down to 14 in block 3 |
#
# Missed by design is still missed, and the table of results further down will say so. It is only known beforehand.
#
# The recipe is the source's. `lr_step=15` says that the learning rate falls to a tenth after every 15 epochs: 0.01
# for the first fifteen, 0.001 for the last five.

# %%
TRAIN = "recorded"  # what a full run left; "full" trains as the recipe says, "quick" for seconds on a part
try:
    from common.recipe import Augmentation, Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S7/block1",
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
# The heavier imports, and the two lines that say which digits and which machine this page was measured on. If the
# digits are the *built-in* ones, no accuracy below can be compared with anything that is reported about MNIST.

# %%
import torch
from torch import nn
from torch.nn import functional

from common import data, models, records, training
from common.lesson import check, plots

device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
checkpoint = training.Checkpoint(options, recipe, digits, device)
print(records.head(recipe, options, digits, device))

# %% [markdown]
# ## The data
#
# The first twelve training images, as they come:

# %%
figure = plots.grid(digits.train_images[:12], [str(int(label)) for label in digits.train_labels[:12]])
plots.show(figure, options.out, "samples")

# %% [markdown]
# Every training image is turned by a random angle before the network sees it, and one in ten is enlarged first. S5
# turned by up to 15 degrees; here it is 7, and block 3 will come down to 5. What that means in pixels can be worked
# out: a digit fits into 20x20, so its rim is about 10 pixels from the middle, and a turn by the angle a moves the rim
# by 10 sin(a). That is 2.6 pixels for 15 degrees, 1.2 for 7 and 0.9 for 5.

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

# %%
twelve_times_one = data.InMemoryLoader(
    digits.train_images[2:3].repeat(12, 1, 1),
    digits.train_labels[2:3].repeat(12),
    batch_size=12,
    augmentation=recipe.augmentation,
    seed=2,
)
images, _ = next(iter(twelve_times_one))
plots.show(plots.grid(images, [""] * 12, title="one digit, twelve appearances"), options.out, "augmentation")

# %% [markdown]
# In the figure, follow the rim from one picture to the next: it wanders by a pixel, and upright strokes get steps.
# Where the digit stands larger, the loader has cut out the middle 22x22 pixels and enlarged them by 28/22, which is a
# little over a quarter.
#
# Two loaders can be called a test in this lesson. `held-out` has the 10,000 images of MNIST's test set. `source` is
# what the source's notebook had under the name of a test loader.

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
# ### Check 1: are the test images other images?
#
# A test on images that the network was trained on measures its memory as well as its reading. So the first check of a
# set-up compares the two sets, byte by byte. It has to look at the images as they are stored: once a random rotation
# has gone over them, two copies of one image differ in their bytes, and the check is blind.


# %%
def count_shared(images, others):
    """How many of the `others` are also among the `images`."""
    seen = {image.numpy().tobytes() for image in images.cpu()}
    return sum(image.numpy().tobytes() in seen for image in others.cpu())


for name, batches in test_batches.items():
    shared = count_shared(train_batches.images, batches.images)
    print(f"{'this run':<11}{f'{name}: images that training uses too':<56}{shared:>9,}  of {batches.total:,}")

# %% [markdown]
# None on the first line, all on the second. MNIST's own split is clean: not one of the 10,000 test images is a copy
# of a training image. The source's notebook built its test loader from the training set. (torchvision's `MNIST` class
# gives either half, and one argument, `train`, decides which.) Everything that it printed afterwards under the name
# of test accuracy was about images that the network had been trained on. There was no error message and no odd curve:
# these numbers look just as good numbers do.

# %% [markdown]
# ## The network
#
# Printed from the module that is trained:

# %%
print(models.source(recipe.step))

# %% [markdown]
# The skeleton is two groups of the same build and a tail. A group widens with two 3x3 convolutions (to 16, then to 32
# channels), narrows with a 1x1 convolution (to 8, then to 16), and halves the picture with a max-pool. The tail is
# one more 3x3 convolution, an average over the 2x2 positions that are left, and a dense layer from 32 to 10. Every
# convolution has a bias, and four of the seven are followed by ReLU, BatchNorm and a Dropout of 0.05. The ten logits
# are left alone, unlike in steps 2 and 3 of S6: nothing stands between the dense layer and the log-softmax.
#
# ### Check 2: shapes and counts
#
# Before anything is trained, send one image through and read every shape. torchsummary does that:

# %%
torch.manual_seed(recipe.seed)
model = models.build(recipe.step)
print(models.summary(model))

# %% [markdown]
# Three convolutions in this table cost exactly 4,640 parameters each: 16 x 32 x 9 weights and 32 biases. Together
# they hold 13,920 of 16,562, which is 84 %. Now find the same three in the next table and compare their
# multiply-adds.

# %%
print(models.layer_table(model))

# %% [markdown]
# The first of them, Conv2d-5, does 2,654,208 multiply-adds for an image, the second 294,912, the third 18,432: as 144
# to 16 to 1. The weights are as many, but a convolution uses each of them once for every position of its output, and
# there are 24x24, 8x8 and 2x2 positions. So Conv2d-5 alone does 79 % of the work of the whole network with 28 % of
# its parameters. **Parameters and work are two budgets.** The first is spent wherever many channels meet many
# channels, the second wherever this happens on a large map. The assignment limits only the first.
#
# The column *receptive field* gives the square of the image that one output value can see, and *jump* how far apart
# in the image two neighbouring values look ([block 3](block3.ipynb) works both out). Here the last row in front of
# the dense layer says 28x28, the whole image to the pixel. That is no accident: nothing in this network is padded and
# every pool divides evenly (28, 26, 24, 12, 10, 8, 4, 2, 1), so no pixel is left over at any rim, and the single
# position that remains at the end has to stem from all 28x28 of them. A second way to get there: in front of the
# average, four positions see 24x24 each and lie 4 pixels apart, and 24 + 4 = 28.

# %%
rows = models.layer_rows(model)
plots.show(plots.receptive_fields(digits.train_images[2], rows), options.out, "receptive_fields")

# %% [markdown]
# In the figure, compare the square of Conv2d-21 with the digit: a digit of 20x20 has room in its 24x24. The next and
# largest square is the image's own frame, which the average over the four positions fills.
#
# ### Does it use activation functions?
#
# The source's analysis of this block says that it uses none. Count the `ReLU` lines in the summary: there are five,
# one behind each 3x3 convolution. Only the two 1x1 convolutions go without. Had the sentence been true, most of the
# parameters would have been for nothing, and that can be shown. Take the three convolutions of the first group
# without what lies between them. Each gives weighted sums of its inputs, and weighted sums of weighted sums are
# weighted sums: the three together are one 5x5 convolution from 1 to 8 channels. To find its weights, show the group
# a single bright pixel at each of the 25 places in turn, and note the answers.

# %%
without_activations = nn.Sequential(model.layers[0][0], model.layers[1][0], model.layers[2])  # 1 -> 16 -> 32 -> 8
with torch.no_grad():
    bias = without_activations(torch.zeros(1, 1, 5, 5)).flatten()
    answers = without_activations(torch.eye(25).reshape(25, 1, 5, 5)).reshape(25, 8)
    kernel = (answers - bias).T.reshape(8, 1, 5, 5)
    image = digits.train_images[2].reshape(1, 1, 28, 28) / 255
    same = torch.allclose(functional.conv2d(image, kernel, bias), without_activations(image), atol=1e-5)

print(f"three convolutions: {models.count_parameters(without_activations):,} parameters")
print(f"one convolution:      {kernel.numel() + bias.numel():,} parameters, the same output: {same}")

# %% [markdown]
# 5,064 parameters that can do no more than 208. With a ReLU behind each 3x3 convolution the three no longer collapse,
# and that is what an activation function is for. BatchNorm between them would not help: with its running means it
# multiplies and adds, so it is one more weighted sum.
#
# And the two 1x1 convolutions that do go without? What follows each of them is a max-pool, and the largest of four
# values is no weighted sum either. The chain is broken there without a ReLU.

# %% [markdown]
# ## Training
#
# ### Check 3: the loss of a network that knows nothing
#
# A network with fresh weights should spread its probability about evenly over the ten digits. Then it gives the right
# one about 1/10, and the loss is near -ln(1/10) = ln 10 = 2.303. A far larger value would mean that it starts out
# sure and wrong, usually because of unscaled inputs or weights. ln 16 = 2.773 would mean that it has 16 outputs (S6
# part 2, step 2 has, and this check shows it in a second).

# %%
small = data.InMemoryLoader(digits.train_images[:64], digits.train_labels[:64], batch_size=64, device=device)
trial = models.build(recipe.step).to(device)
untrained = training.evaluate(trial, small)
print(f"{'this run':<11}{'loss on 64 images, untrained':<56}{untrained.loss:>9.3f}")

# %% [markdown]
# ### Check 4: 64 images by heart
#
# The last check trains, on a single batch that comes again and again. A network of 16,562 parameters must be able to
# learn 64 images by heart. If it cannot, something between the images and the weights is broken: labels shuffled
# apart from their images, anew for every batch; a layer that passes no gradient on; an optimizer that holds another
# network's weights; a learning rate that is far off. It says nothing about new images, and that is its use: when it
# fails, no amount of data will help.

# %%
optimizer = torch.optim.SGD(trial.parameters(), lr=recipe.lr, momentum=recipe.momentum)
batch = next(iter(small))
for steps in range(20, 101, 20):
    training.train_epoch(trial, [batch] * 20, optimizer)
    metrics = training.evaluate(trial, small)
    print(f"{'this run':<11}{f'images by heart after {steps} steps':<56}{metrics.correct:>9}  of {metrics.total}")

# %% [markdown]
# After 20 steps little is to be seen yet, in part because testing uses BatchNorm's running means: they go a tenth of
# the way to the batch's at each step, and lag behind weights that change fast. After 100 steps all 64, or nearly all,
# are read as their labels say.
#
# The four checks take seconds, and each finds something else. Only the first one finds the source's mistake. The
# other three look at the network, and with the network everything is in order.
#
# ### The run
#
# A fresh network, so that nothing of the 64 is left in it. `fit` is the plain loop of `common/training/loops.py`. Nothing is
# chosen by the test images: the result is the last epoch.

# %%
torch.manual_seed(recipe.seed)
model = models.build(recipe.step).to(device)
if options.recorded:
    history = records.restore(recipe, model)
else:
    history = training.fit(model, train_batches, test_batches, recipe, options, checkpoint)

# %%
plots.show(plots.curves(history, bound=99.4), options.out, "curves")

# %% [markdown]
# In both panels, look from epoch 15 to epoch 16, where the log shows the learning rate fall from 0.01 to 0.001.
# Compare the jumps of the orange test curve before and after: each batch pushes the weights its own way, and how far
# the last push takes them is the learning rate's doing. What the step down is worth, the recorded runs say better
# than one run.

# %% [markdown]
# ## Result
#
# First this run: target, measured, verdict. The first two targets are the misses by design.

# %%
record = records.make(recipe, options, model, digits, history)
print(records.verdict(targets, record))
records.save(options, record, model)

# %% [markdown]
# Then the recorded full runs on MNIST, one line for each seed:

# %%
print(records.recorded(recipe.step, targets))

# %% [markdown]
# And the same network by the source's protocol. The source counted 59,645 of its 60,000 training images as read after
# epoch 13.

# %%
as_the_source_did = training.evaluate(model, test_batches["source"])
print(f"this run   accuracy on its own training images           {as_the_source_did.accuracy:.2f} %")

# %%
print(records.claims(recipe.step, {13: 59_645}))

# %% [markdown]
# The claim is 99.41 % after epoch 13. Measured in the same way, our mean over 3<!--S7/block1 source seeds--> seeds is
# 99.39 %<!--S7/block1 source mean at 13-->, and on the held-out images at the same epoch it is
# 99.41 %<!--S7/block1 mean at 13-->. The result of the step is its last epoch: 99.51 %<!--S7/block1 mean--> on
# held-out images, with a standard deviation of 0.05 points<!--S7/block1 deviation-->.

# %% [markdown]
# ## The mistakes
#
# The twelve test images on which this network was wrong and surest of it. The caption says what the label is, what
# was read, and with which probability. Ask of each one whether you would have read it.

# %%
log_probabilities = training.predict(model, test_batches["held-out"])
plots.show(plots.mistakes(digits.test_images, digits.test_labels, log_probabilities), options.out, "mistakes")

# %% [markdown]
# The confusion matrix, with its diagonal left blank. The recorded runs make about 49<!--S7/block1 wrong--> mistakes,
# which is less than one for each of the 90 cells: a single dark cell may be chance, a row or a column that is darker
# than the others is worth a look.

# %%
predictions = log_probabilities.argmax(dim=1)
plots.show(plots.confusion(digits.test_labels, predictions), options.out, "confusion")

# %% [markdown]
# ## Analysis
#
# **What worked.** The skeleton. Over 3<!--S7/block1 seeds--> seeds its last epoch is at 99.51 %<!--S7/block1 mean-->
# on images that it never met, between 99.45 %<!--S7/block1 minimum--> and 99.55 %<!--S7/block1 maximum-->. That is
# about 49<!--S7/block1 wrong--> mistakes, where the target allows 60. The parts of it (3x3 convolutions that widen, a
# 1x1 that narrows, a pool, an average at the end) stay on in blocks 2 and 3.
#
# **What the learning rate did.** The mean over the seeds is 99.41 %<!--S7/block1 mean at 13--> after epoch 13, which
# the source picked, 99.40 %<!--S7/block1 mean at 15--> after epoch 15, the last one with the full step,
# 99.47 %<!--S7/block1 mean at 16--> after the first with a tenth of it, and 99.51 %<!--S7/block1 mean--> at the end.
# A target that asks for *each* of the last three epochs is a question about jumps from one epoch to the next, and a
# learning rate that comes down is the cheapest means against them: in the log above, the test accuracy jumps up to
# epoch 15 and hardly moves behind it. (The spread *between* the seeds is another matter. It is
# 0.08 points<!--S7/block1 deviation at 15--> after epoch 15 and 0.05 points<!--S7/block1 deviation--> at the end, and
# three seeds cannot tell these two apart.)
#
# **What did not work.** Two targets are missed by design, as announced: 16,562 parameters are more than twice the
# cap, and 20 epochs are five too many. The accuracy targets are met; the last two of the recorded lines say by how
# many of the seeds.
#
# **The set-up.** By the source's protocol the final weights read 99.65 %<!--S7/block1 source mean--> of the training
# images, by the right one 99.51 %<!--S7/block1 mean--> of the test images. The difference of
# 0.14 points<!--S7/block1 gap--> has two sides to it: the training images are familiar, which raises the source's
# number, and they are turned and cropped, which lowers it. While it trains, with dropout on and the weights of the
# moment, the network reads 99.51 %<!--S7/block1 training--> in its last epoch. A block whose purpose was the set-up
# has its network in order and its test set not. Check 1 takes about a second; reading the denominator in the log,
# 59645/60000, takes less.
#
# **What the next step changes.** The counts say where to save: three layers hold 84 % of the parameters, and each of
# them is a place where 16 channels meet 32. [Block 2](block2.ipynb) keeps the recipe to the letter and rebuilds the
# network so that no 3x3 convolution is that wide on both sides.

# %% [markdown]
# ## Exercises
#
# **Exercise 1: work** (easy, 5 minutes). How many multiply-adds does a convolution do for one image? Its output has
# `outputs` channels of `side` x `side` values, and each value is a sum over all inputs and all places of the kernel.
# The checks ask for the three layers of 4,640 parameters, and then what Conv2d-5 would cost on maps half as wide.


# %%
def multiply_adds(inputs: int, outputs: int, kernel: int, side: int) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


check("Conv2d-5, 16 -> 32 on 24x24", multiply_adds(16, 32, 3, 24), 2_654_208)
check("Conv2d-15, 16 -> 32 on 8x8", multiply_adds(16, 32, 3, 8), 294_912)
check("Conv2d-21, 16 -> 32 on 2x2", multiply_adds(16, 32, 3, 2), 18_432)
check("16 -> 32 on 12x12", multiply_adds(16, 32, 3, 12), 663_552)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def multiply_adds(inputs, outputs, kernel, side):
#     return outputs * side**2 * inputs * kernel**2
# ```
#
# Half the side is a quarter of the work. Conv2d-5 does 79 % of this network's; on maps half as wide it would leave the
# whole with two fifths of its work, and with as many parameters as before.
#
# </details>

# %% [markdown]
# **Exercise 2: what is left without activations** (medium, 10 minutes). A chain of convolutions without padding, with
# biases and with nothing between them, is one convolution. Each is given as (inputs, outputs, kernel). How many
# parameters does the one have? (Two kernels in a row, of sizes a and b, see a + b - 1 pixels.)


# %%
def collapsed(convolutions: list[tuple[int, int, int]]) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


check("first group: 1 -> 16 -> 32 by 3x3, -> 8 by 1x1", collapsed([(1, 16, 3), (16, 32, 3), (32, 8, 1)]), 208)
check("second group: 8 -> 16 -> 32 by 3x3, -> 16 by 1x1", collapsed([(8, 16, 3), (16, 32, 3), (32, 16, 1)]), 3_216)
check("32 -> 8 by 1x1, 8 -> 16 by 3x3", collapsed([(32, 8, 1), (8, 16, 3)]), 4_624)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def collapsed(convolutions):
#     kernel = 1 + sum(size - 1 for _, _, size in convolutions)
#     inputs, outputs = convolutions[0][0], convolutions[-1][1]
#     return inputs * outputs * kernel**2 + outputs
# ```
#
# The third case goes the other way: the chain has 264 + 1,168 = 1,432 parameters, the one convolution 4,624. A narrow
# middle saves parameters with or without an activation. What it costs is that the one convolution could have mixed
# its 32 inputs in more ways than 8 channels can carry.
#
# </details>

# %% [markdown]
# **Exercise 3: read the starting loss** (easy, 5 minutes). An untrained classifier with n outputs starts near ln n.
# Write the function that goes backwards, from the loss to the number of outputs, rounded to a whole number.


# %%
def outputs_of(loss: float) -> int | None:
    # Your lines here (`torch` is at hand, or import math). Then return your result instead of None.
    return None


check("2.31", outputs_of(2.31), 10)
check("2.774, S6 part 2 step 2", outputs_of(2.774), 16)
check("0.69", outputs_of(0.69), 2)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def outputs_of(loss):
#     import math
#
#     return round(math.exp(loss))
# ```
#
# 16 outputs where ten digits are to be told apart: the fault is visible before the first step of training.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. No test image of MNIST is a training image. All images of the source's test loader are.
# 2. Three layers of 4,640 parameters each hold 84 % of the weights; their work is as 144 to 16 to 1, with the size of
#    the map. The receptive field ends at 28x28, because nothing is padded and nothing left over.
# 3. There are five ReLUs. Without them the first group's 5,064 parameters would do the work of 208.
# 4. The untrained loss is near ln 10, and 64 images are learned by heart in 100 steps. Neither says anything about
#    the test set.
# 5. Over the seeds the last epoch is at 99.51 %<!--S7/block1 mean-->. Parameters and epochs miss the assignment's
#    bounds by design, and block 2 takes on the first of them.
