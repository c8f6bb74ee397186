# %% [markdown]
# # S7 block 3: Train 7,904 parameters, and find out what the 99.47 % was measured on
#
# Block 2 shrank the network to 7,904 parameters. Block 3 keeps that network to the last weight and changes only how
# it is trained: a gentler rotation, no learning-rate schedule, 14 epochs, and a learning rate of 0.02 with momentum
# 0.8 instead of 0.01 with 0.9. (In the long run that last change is none: momentum repeats each gradient with falling
# weight, 1 + m + m² + ... = 1 / (1 - m) times in all, and 0.02 / 0.2 = 0.01 / 0.1.) The student whose solution this
# lesson retells reported 99.41 % after epoch 13 and 99.47 % after epoch 14. Both numbers can be reproduced. They do
# not measure what their label says.
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
# **What you'll need**: a little PyTorch (a module, an optimizer). The runs in this step's record took 7 minutes<!--S7/block3 minutes--> each,
# on one thread of a CPU with another run beside it. With two cores to itself, an epoch takes
# 8.0 seconds<!--bench S7/block3 default seconds-->, so all 14 take about two minutes (on an NVIDIA H200 an epoch takes
# 0.68 seconds<!--bench gpu S7/block3 default seconds-->). `python3 course.py run S7/block3 --quick` goes through every
# step in seconds.
#
# *Before this*: [block 2](block2.ipynb), the same network with another recipe. *After this*: [block 4](block4.ipynb),
# our own: the same budget, trained and spent in another way. All steps are on the
# [map](../../README.md#the-map-of-the-steps). To run it in the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository, and the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | the assignment asks for | why this number |
# |---|---|---|
# | parameters | fewer than 8,000 | a first 3x3 layer of 16 and one of 32 channels would take 4,752 of them: every layer has to be worth its weights |
# | epochs | at most 15 | short enough to repeat a run with several seeds, which is what it takes to trust its result |
# | test accuracy | at least 99.40 % | 60 mistakes in 10,000: what good student networks of this size reach |
# | the same in *each* of the last 3 epochs | at least 99.40 % | "consistently, not once": a curve that touches the line and drops again has not arrived |
#
# The recipe below is the source's, and the code further down reads its numbers from here. `command_line` lets you
# change it from outside: `--epochs 3`, or the variable `COURSE_EPOCHS=3`.

# %%
TRAIN = "recorded"  # what a full run left; "full" trains as the recipe says, "quick" for seconds on a part
try:
    from common.recipe import Augmentation, Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S7/block3",
    epochs=14,
    batch_size=64,
    lr=0.02,
    momentum=0.8,
    augmentation=Augmentation(rotation=5, crop_probability=0.1),
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
# Now the heavier imports: PyTorch, and the course's own modules. Three lines say which digits and
# which machine the rest of this page was measured on, and whether anything is trained on it. If the digits are the *built-in* ones, there was no MNIST at hand (or
# you asked for a quick run): then every number below is about 1,797 small digits from scikit-learn, and is not
# comparable with anything that anyone reports on MNIST. The `checkpoint` will remember the run after every epoch, so
# that one that was interrupted goes on with `--resume`.

# %%
import torch

from common import data, models, records, training
from common.lesson import check, plots

device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
checkpoint = training.Checkpoint(options, recipe, digits, device)
print(records.head(recipe, options, digits, device))

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
# During training an image hardly ever looks the same twice. With probability 0.1 the source cuts out the central
# 22x22 pixels and enlarges them to 28x28; then it turns every image by an angle between -5 and +5 degrees. Each pixel
# of a turned image takes the value of the *nearest* pixel of the original (torchvision's default). That keeps strokes
# sharp and their edges ragged; bilinear interpolation would blur them, and would be another recipe.
#
# The loader holds all images as one tensor and augments a whole batch at once. It draws from the same distribution as
# torchvision's image-by-image transforms, and `tests/data/test_loaders.py` compares the two pixel by pixel.

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
# Below, one digit in twelve of its training appearances. Look for the one that comes closer than the others: it was
# cropped, as about one in ten is. The rest differ by a few degrees, with small steps along the edges.

# %%
twelve_times_one = data.InMemoryLoader(
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
# people who wrote none of the training digits, that training never touches. `source` is what the source's notebook
# measured under the name of a test: the *training* images once more, freshly augmented.

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
# What follows is printed from the module that is about to be trained, so it cannot disagree with it.

# %%
torch.manual_seed(recipe.seed)
model = models.build(recipe.step).to(device)
print(models.source(recipe.step))

# %% [markdown]
# Three ideas keep it small. First, **1x1 convolutions**: the 32 channels of the first layer are mixed down to 8
# before the next 3x3 convolution looks at them. That next layer then costs 8 x 10 x 9 = 720 weights; on 32 channels
# it would have cost 2,880. Second, **no biases**: BatchNorm adds a shift of its own, and what it adds in front of a
# convolution comes out behind it as a bias (nearly, where there is padding). The first layer, with no BatchNorm in
# front of it, goes without. That saves 128 numbers. Third, **global average pooling**: the last 6x6 map of each of 16
# channels becomes its mean, and 16 x 10 weights turn 16 means into 10 logits. A dense layer on the same maps would
# need 36 times as many.
#
# torchsummary's table counts what runs in a forward pass. The line that we add under it counts what the module holds.
# Here both say 7,904. They differ for a module that builds a layer and never calls it.

# %%
print(models.summary(model))

# %% [markdown]
# The next table is the one to read slowly. The **receptive field** of a layer is the square of the image that one of
# its output values can see. The **jump** is how far apart in the image two neighbouring outputs look. A 3x3 kernel
# widens the field by two jumps; that is why the same 3x3 kernel adds 2 pixels before the max-pool and 4 after it,
# where the jump has doubled. Multiply-adds are per image: the three convolutions before the pool hold 16 % of the
# parameters and do 61 % of the work.

# %%
print(models.layer_table(model))

# %%
rows = models.layer_rows(model)
plots.show(plots.receptive_fields(digits.train_images[0], rows), options.out, "receptive_fields")

# %% [markdown]
# In the figure, follow the squares outwards. After the max-pool a value sees 6x6 pixels: enough for an edge, an end
# of a stroke, a tight curve. The last 3x3 convolution sees 22x22, and MNIST's digits were scaled to fit into 20x20.
# So one value of the layer in front of the pooling can take in a whole digit, and one more 3x3 layer would mostly
# look at the empty margin.

# %% [markdown]
# ## Training
#
# `fit` is a plain loop. For each epoch it trains, evaluates on the test batches, prints one line and writes one
# checkpoint. Its source is `common/training/loops.py`, and it takes five minutes to read. The test accuracy is
# printed and never acted on: nothing stops early, no best epoch is picked. **The result is the last epoch**, whatever
# it is.
#
# The training accuracy in the log counts each image as the network met it: augmented, with dropout on, with the
# weights of that moment. The test accuracy has none of these handicaps, and is the higher of the two.

# %%
if options.recorded:
    history = records.restore(recipe, model)
else:
    history = training.fit(model, train_batches, test_batches, recipe, options, checkpoint)

# %%
plots.show(plots.curves(history, bound=99.4), options.out, "curves")

# %% [markdown]
# Errors, not accuracies, and on a logarithmic axis: from 99.0 to 99.5 % the mistakes halve, which shows here and
# would be a hair on an axis from 0 to 100. What to see: the training errors (blue) fall steeply, then ever more
# slowly. The test errors (orange) lie below them throughout, for the reasons above, and jump from epoch to epoch by
# several images, mostly just above the dotted line. The learning rate never drops in this recipe, so the weights keep
# taking steps of the same size, and the last digit of the accuracy depends on where the last step landed.

# %% [markdown]
# ## Result
#
# First this run: target, measured, verdict.

# %%
record = records.make(recipe, options, model, digits, history)
print(records.verdict(targets, record))
records.save(options, record, model)

# %% [markdown]
# One run is one draw. Here are the recorded full runs on MNIST, one line for each seed, then what they say together.

# %%
print(records.recorded(recipe.step, targets))

# %% [markdown]
# Now the same network by the source's protocol:

# %%
as_the_source_did = training.evaluate(model, test_batches["source"])
print(f"this run   accuracy on its own training images           {as_the_source_did.accuracy:.2f} %")

# %%
print(records.claims(recipe.step, {13: 59_643, 14: 59_681}))

# %% [markdown]
# So the source's numbers reproduce to within a tenth of a point: measured its way, our mean is
# 99.42 %<!--S7/block3 source mean at 13--> after epoch 13 and 99.43 %<!--S7/block3 source mean at 14--> after epoch
# 14, where it reported 99.41 and 99.47 %. And on images that were kept away from training the mean over
# 3<!--S7/block3 seeds--> seeds is 99.34 %<!--S7/block3 mean-->, with a standard deviation of
# 0.03 points<!--S7/block3 deviation-->.

# %% [markdown]
# ## The mistakes
#
# The twelve test images on which this network was wrong and surest of itself. Each caption says what the label is,
# what the network read, and how much of its probability it put there.

# %%
log_probabilities = training.predict(model, test_batches["held-out"])
plots.show(plots.mistakes(digits.test_images, digits.test_labels, log_probabilities), options.out, "mistakes")

# %% [markdown]
# The confusion matrix below has its diagonal left blank, because ten numbers near a thousand would drown the rest.
# Look for pairs that are dark on both sides of the diagonal, such as 4 and 9: these the network mixes up in either
# direction. With about 66<!--S7/block3 wrong--> mistakes spread over 90 cells most of the ones and twos are chance,
# and another seed puts them elsewhere.

# %%
predictions = log_probabilities.argmax(dim=1)
plots.show(plots.confusion(digits.test_labels, predictions), options.out, "confusion")

# %% [markdown]
# ## Analysis
#
# **What worked.** The network stays 96 parameters under its cap, and it overfits little: with the final weights it
# reads 99.43 %<!--S7/block3 source mean--> of its augmented training images and 99.34 %<!--S7/block3 mean--> of the
# held-out ones. That is a gap of 0.09 points<!--S7/block3 gap-->. A cure against overfitting that cost nothing on the
# training images could win that much and no more.
#
# **What did not.** The target. Over 3<!--S7/block3 seeds--> seeds the last epoch is at 99.34 %<!--S7/block3 mean--> on average, between 99.30 %<!--S7/block3 minimum--> and 99.36 %<!--S7/block3 maximum-->:
# about 66<!--S7/block3 wrong--> wrong images where 60 were allowed. As Exercise 3 shows, that miss is smaller than what 10,000 images can
# resolve for a single run. But three seeds miss it one after the other, and the strict target, the one that asks for
# each of the last 3 epochs, is out of reach for all of them.
#
# **Where the two numbers come from.** Compare three measurements, two of them on the training images. While the
# network trains, in its last epoch, it reads 99.01 %<!--S7/block3 training--> of them correctly. With the final
# weights, by the source's protocol, it is 99.43 %<!--S7/block3 source mean-->. The images are the same and the
# augmentation is the same; but dropout is now off, BatchNorm uses its running means instead of the batch's, and no
# image is met by weights that had yet to learn from the rest of the epoch. On held-out images it is
# 99.34 %<!--S7/block3 mean-->. Only this third one speaks of digits that the network has never met, and the source's
# notebook could not show it.
#
# The difference between the last two is all there is between "target reached" and "target missed". There was a way to
# notice without any statistics. The source's log says *59643/60000*. MNIST has 10,000 test images. **Read the
# denominator.**
#
# **What the next step changes.** The recorded runs get most of the way in half of the epochs
# (99.26 %<!--S7/block3 mean at 7--> on average after epoch 7, 99.34 %<!--S7/block3 mean--> after epoch 14) and then
# climb slowly, with jumps of several images from one epoch to the next. A learning rate that never falls keeps them
# jumping. That this needs no other network, [block 2](block2.ipynb) has shown: the same one, its learning rate a
# tenth for the last five of 20 epochs, is at 99.50 %<!--S7/block2 mean-->. [Block 4](block4.ipynb) lets it come down
# within 15 epochs, and then goes on, one change at a time.

# %% [markdown]
# ## Exercises
#
# Each has a stub, a check that answers at once, and a solution to unfold.
#
# **Exercise 1: the receptive field by hand** (easy, 5 minutes). Complete the function: it takes a list of (kernel,
# stride) pairs and gives the receptive field and the jump after the last. The last check asks what the sixth and last
# 3x3 convolution of this network would see if somebody deleted the max-pool.


# %%
def receptive_field(layers: list[tuple[int, int]]) -> tuple[int, int] | None:
    field, jump = 1, 1
    # Your lines here. Then return field, jump instead of None.
    return None


check("receptive field of two 3x3 convolutions", receptive_field([(3, 1), (3, 1)]), (5, 1))
check("with a 2x2 pool of stride 2 between them", receptive_field([(3, 1), (2, 2), (3, 1)]), (8, 2))
check("six 3x3 convolutions, no pool", receptive_field([(3, 1)] * 6), (13, 1))

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
# convolutions, each given as (inputs, outputs, kernel). What do 32 -> 8 -> 10 with a 1x1 in the middle cost, and what
# does 32 -> 10 with one 3x3?


# %%
def weights(convolutions: list[tuple[int, int, int]]) -> int | None:
    # Your lines here. Then return your result instead of None.
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
# Give it in points (per cent). Then compare: how many standard errors lie between the source's 99.41 and its 99.47 on
# 60,000 images, and how many between two networks with 99.41 and 99.47 % on 10,000?


# %%
def standard_error(accuracy: float, images: int) -> float | None:
    """Of an accuracy in per cent, in points."""
    # Your lines here. Then return your result instead of None.
    return None


check("at 99.40 % on 10,000 images", standard_error(99.40, 10_000), 0.0772, tolerance=0.0001)
check("at 50 % on 100 images", standard_error(50, 100), 5.0, tolerance=0.0001)
check("at 99.41 % on 60,000 images", standard_error(99.41, 60_000), 0.0313, tolerance=0.0001)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def standard_error(accuracy, images):
#     share = accuracy / 100
#     return 100 * (share * (1 - share) / images) ** 0.5
# ```
#
# On 60,000 images the standard error is 0.031 points, so 0.06 points are about two of them. On 10,000 it is 0.077,
# and the two networks cannot be told apart by one run each: their difference is less than one standard error, and the
# standard error of a *difference* of two independent accuracies is larger still, by the square root of two.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. The recipe is one value, and the loader shows the network a slightly turned, sometimes enlarged digit each time.
# 2. One value of the last 3x3 convolution sees 22x22 of 28x28 pixels: a whole digit. The max-pool doubled the jump
#    and with it what every later kernel adds.
# 3. The run against its targets: 7,904 parameters and 14 epochs are within bounds; the accuracy, at a mean of
#    99.34 %<!--S7/block3 mean--> over the seeds, is not.
# 4. The source measured its training images. By its protocol we get what it got; on held-out images the network is at
#    99.34 %<!--S7/block3 mean-->.
# 5. At 99.4 % on 10,000 images one standard error is 0.08 points, and our seeds lie
#    0.06 points<!--S7/block3 spread--> apart. A claim finer than the first needs more images, and one finer than the second more seeds.
