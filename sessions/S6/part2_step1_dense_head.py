# %% [markdown]
# # S6 part 2, step 1: Stay under 20,000 parameters, and count the ones that never run
#
# The first network of the course had 593,200 parameters. This one is allowed 20,000, and keeps what made the first
# one easy to build: convolutions, then a dense head. The student whose solution this lesson retells reported 17,920
# parameters and 99.41 % after epoch 19. Both numbers stood on the screen. The first leaves out a third of what the
# network holds, and the second was picked by the test set.
#
# **What you'll do**
#
# 1. Read a network in which 56 % of the parameters sit in one dense head, and see why.
# 2. Build it the way the source did, with two layers that nothing calls, and count it in two ways.
# 3. Train the network without them, and hold the run against its targets.
# 4. Ask the recorded runs what three reporters would have written: one who takes the last epoch, one who takes the
#    best, one who stops at the first that reaches 99.40 %.
#
# **What you'll learn**: what torchsummary counts, what padding and pooling leave for a dense layer, and why a number
# that has decided when to stop is no longer a measurement.
#
# **What you'll need**: the training loop of S5, and an idea of what a gradient is from part 1. The full run takes
# about 6 minutes<!--S6/part2_step1_dense_head minutes--> on one core of a CPU (we have not timed it on a GPU).
# `python3 course.py run S6/part2_step1_dense_head --quick` goes through every step in seconds.
#
# *Before this*: [part 1](part1_backprop.ipynb), back-propagation by hand. *After this*:
# [step 2](part2_step2_strided.ipynb), a third fewer parameters and no dense layer. All of them are in the
# [map of the steps](../../README.md#the-map-of-the-steps). To run it in the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository, and the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | the assignment asks for | why this number |
# |---|---|---|
# | parameters | fewer than 20,000 | a thirtieth of the first network: no layer of 100,000 weights can hide in it |
# | epochs | fewer than 20 | long training must not make up for a poor network |
# | test accuracy | at least 99.40 % | 60 wrong images of 10,000; the first network has 71<!--S5/step1_first_network wrong--> |
#
# BatchNorm and Dropout are to be used, and the head may be dense or a global average pooling. This source takes
# BatchNorm and a dense head; Dropout comes in step 2.
#
# The recipe is the source's but for the seed. The source used 42. Here, as everywhere in the course, a run without
# `--seed` uses 1, and the recorded runs use 1, 2 and 3: a seed is not a setting to be proud of.

# %%
try:
    from common.recipe import Augmentation, Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S6/part2_step1_dense_head",
    epochs=19,
    batch_size=128,
    lr=0.01,
    momentum=0.85,
    lr_step=15,
    augmentation=Augmentation(rotation=15, crop_probability=0.1),
)
recipe, options = command_line(recipe)

# %%
targets = (
    Target("parameters", "<", 20_000),
    Target("epochs", "<", 20),
    Target("test accuracy", ">=", 99.40),
)

# %%
import random

import torch
from torch import nn

from common import data, models, records, training
from common.lesson import check, plots
from common.models import s6

device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
checkpoint = training.Checkpoint(options, recipe, digits, device)
print(digits)
print(records.machine_line(device, options))

# %% [markdown]
# ## The data
#
# Twelve training digits, as they are stored.

# %%
figure = plots.grid(digits.train_images[:12], [str(int(label)) for label in digits.train_labels[:12]])
plots.show(figure, options.out, "samples")

# %% [markdown]
# In training, each image is turned by up to 15 degrees to either side, and one in ten is first cut to its central
# 22x22 pixels and enlarged. MNIST scaled its digits into 20x20 pixels, so one might think that a cut to 22x22 cuts
# off no ink. But a digit was placed by its centre of mass, and a 7 or a 9, with its weight at one end, sticks out at
# the other. Count them:

# %%
border = digits.train_images.clone()
border[:, 3:25, 3:25] = 0
inked = (border.flatten(1) > 0).any(dim=1)
print(f"{'this run':<11}{'training images with ink outside the central 22x22':<56}{100 * inked.float().mean():>9.2f} %")
for digit in (0, 1, 7, 9):
    share = inked[digits.train_labels == digit].float().mean()
    print(f"{'this run':<11}{f'the same among images of the digit {digit}':<56}{100 * share:>9.2f} %")

# %% [markdown]
# So a crop takes something away from most sevens and nines and from hardly any zero: it makes some digits harder and
# not merely larger.
#
# Below, one digit in twelve of its training appearances. At 15 degrees the turn is plain to see; a cropped digit is
# larger, and the stair steps along the edges come from taking the nearest pixel, as the source's transform did.

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
    digits.train_images[:1].repeat(12, 1, 1),
    digits.train_labels[:1].repeat(12),
    batch_size=12,
    augmentation=recipe.augmentation,
    seed=5,
)
images, _ = next(iter(twelve_times_one))
plots.show(plots.grid(images, [""] * 12, title="one digit, twelve appearances"), options.out, "augmentation")

# %% [markdown]
# This source measured the true test set: 10,000 images that the training never meets. What it did with that number is
# another matter, to which we come.

# %%
test_batches = {"held-out": data.InMemoryLoader(digits.test_images, digits.test_labels, batch_size=1000, device=device)}

# %% [markdown]
# ## The network

# %%
torch.manual_seed(recipe.seed)
model = models.build(recipe.step).to(device)
print(models.source(recipe.step))

# %% [markdown]
# All convolutions are padded, so a map only shrinks in the two max-pools: 28, 14, 7. What reaches the head is 10 maps
# of 7x7, and flattened these are 490 numbers. The step from 490 to 20 costs 490 x 20 + 20 = 9,820 parameters, the one
# from 20 to 10 another 210. So the head holds 10,030 of 17,920 parameters, 56 %. That is why the third convolution
# gives 10 channels and not 32: each channel costs 289 parameters for its kernel and bias, and 980 more in the head.
#
# One oddity is kept as it was: behind each max-pool stands a second ReLU with a second BatchNorm. They are not idle.
# The first BatchNorm has moved its channels' means towards zero, so a good part of its outputs is negative, and the
# second ReLU cuts these off. The two BatchNorms together cost 84 parameters, two for each channel.

# %%
print(models.summary(model))

# %%
print(models.layer_table(model))

# %% [markdown]
# The last column says where the time goes: the second convolution, 16 to 32 channels on the full 28x28, does 84 % of
# the multiply-adds with 26 % of the parameters. The head does 0.2 % of them with 56 %. **Parameters and work are two
# different budgets**, and the assignment limits only the first.
#
# The receptive field grows in one bound at the end. In front of the head a value sees 12x12 pixels, less than a fifth
# of the image. Each of the 20 units behind it sees all 7x7 places at once, and that is 12 + 6 x 4 = 36 pixels across,
# more than the image has. So the whole digit is put together in one dense layer, which has a weight of its own for
# each place: what a stroke means at one place tells it nothing about the same stroke four pixels lower.

# %%
rows = models.layer_rows(model)
plots.show(plots.receptive_fields(digits.train_images[0], rows), options.out, "receptive_fields")

# %% [markdown]
# In the figure, the largest square is the head's and reaches beyond the image on all sides. The next smaller one, in
# front of the head, covers a loop or a corner of a digit and no more.
#
# ### 17,920 or 27,232?
#
# The source's constructor builds two layers more than you see above: a convolution from 32 to 32 channels, and a
# BatchNorm of 32. Its `forward` never calls them. Perhaps an earlier version did. Here is the network as the source
# built it, with torchsummary's count.


# %%
class AsTheSourceBuiltIt(s6.S6Part2Step1):
    """The network of this step with two layers that `forward` never calls."""

    def __init__(self):
        super().__init__()
        self.spare_convolution = nn.Conv2d(32, 32, 3, padding=1)
        self.spare_norm = nn.BatchNorm2d(32)


as_built = AsTheSourceBuiltIt()
for line in models.summary(as_built).splitlines():
    if "params:" in line or "module holds" in line:
        print(line)

# %% [markdown]
# torchsummary hangs a hook on every layer, sends two random images through and adds up the layers whose hooks were
# called. A layer that nobody calls is not in its table, and not in its total. `count_parameters` asks the module
# itself, in one line: `sum(parameter.numel() for parameter in network.parameters())`. The difference is 32 x 32 x 9 +
# 32 = 9,248 for the convolution and 2 x 32 = 64 for the BatchNorm, together 9,312.

# %%
for name, network in {"as the source built it": as_built, "without the two layers": model}.items():
    held = models.count_parameters(network)
    outcome = "met" if targets[0].met_by(held) else "missed"
    print(f"{name:<28}{held:>8,}   {records.target_text(targets[0])}: {outcome}")

# %% [markdown]
# So what the source handed in breaks the assignment's limit by 7,232 parameters. They do no harm to its accuracy: no
# gradient ever reaches them, and the optimizer leaves them where chance had put them. But they are in the weights'
# file, they are in every optimizer's list, and they take part in one more thing. Building a layer draws its weights
# from the random generator, and each layer that is built after it starts elsewhere. Delete an unused layer, and the
# same seed gives another run. This is one of the reasons why the course compares means over seeds and never a seed
# with a seed.
#
# From here on the two layers are gone: `model` holds 17,920 parameters by either count.

# %% [markdown]
# ## Training
#
# 19 epochs, the learning rate 0.01 up to epoch 15 and 0.001 from epoch 16. The source's loop had a condition more:
# when the test accuracy after an epoch reached 99.40, it stopped. Ours goes on to the end.

# %%
history = training.fit(model, train_batches, test_batches, recipe, options, checkpoint)

# %%
plots.show(plots.curves(history, bound=99.4), options.out, "curves")

# %% [markdown]
# What to see: up to epoch 15 the test errors (orange) go up and down from one epoch to the next. At epoch 16 the
# steps of the optimizer become ten times smaller, and so does what an epoch can change: the curve goes nearly flat.
# Whoever picks an epoch picks among the ups and downs of the first part, or among four numbers at the end that lie
# close together.

# %% [markdown]
# ## Result

# %%
record = records.make(recipe, options, model, digits, history)
print(records.verdict(targets, record))
records.save(options, record, model)

# %% [markdown]
# And the recorded full runs:

# %%
print(records.recorded(recipe.step, targets))

# %% [markdown]
# The source reported 99.41 % at epoch 19. Our mean after epoch 19 is
# 99.35 %<!--S6/part2_step1_dense_head mean at 19-->, with a standard deviation of
# 0.06 points<!--S6/part2_step1_dense_head deviation--> over 3<!--S6/part2_step1_dense_head seeds--> seeds. So the number can be
# had: one seed got it, by a hair. As a mean it is not there, and that one seed would have been enough to report it.
#
# ### Three reporters, the same runs
#
# Nothing is trained again for the next table. It takes the recorded test accuracies of each seed, epoch by epoch, and
# writes down what three people would have reported of them.


# %%
def three_reports(step: str, bound: float) -> str:
    """For each recorded seed the last epoch, the best one, and what a stop at the first to reach `bound` reports."""
    if not records.path_of(step).exists():
        return records.NOTHING_YET
    lines = [f"{'recorded':<11}{'':<8}{'the last epoch':>18}{'the best epoch':>20}{f'first at {bound:.2f} %':>24}"]
    reports = []
    for run in records.runs(records.load(step)):
        measured = {row["epoch"]: records.accuracy(run, row["epoch"]) for row in run["history"]}
        last, best = max(measured), max(measured, key=measured.get)
        first = next((epoch for epoch in measured if measured[epoch] >= bound), None)
        reports.append((measured[last], measured[best], measured[first or last]))
        texts = [f"{measured[epoch]:.2f} % ({epoch})" if epoch else "never" for epoch in (last, best, first)]
        lines.append(f"{'recorded':<11}seed {run['seed']:<3}{texts[0]:>18}{texts[1]:>20}{texts[2]:>24}")
    means = [f"{sum(column) / len(column):.2f} %     " for column in zip(*reports, strict=True)]
    lines.append(f"{'recorded':<11}{'mean':<8}{means[0]:>18}{means[1]:>20}{means[2]:>24}")
    return "\n".join(line.rstrip() for line in lines)


print(three_reports(recipe.step, bound=99.40))

# %% [markdown]
# In brackets stands the epoch. A run that never reaches 99.40 % counts with its last epoch in the last column's mean,
# as the source would have had to report it.
#
# Read it from left to right. The last epoch was fixed before the run began; it can be lucky or unlucky, and over many
# seeds that evens out. The best epoch is lucky by definition: over our seeds it is at
# 99.37 %<!--S6/part2_step1_dense_head best--> on average, which is 0.02 points<!--S6/part2_step1_dense_head best_epoch_bias-->
# above the last epoch of the same runs, and nothing was learned to earn that. The third column has another flaw:
# where a run was stopped at all, its number is 99.40 or a little more, whatever the network and whatever the seed.
# The rule allows no other. All that is measured there is *when*.
#
# You may have expected the middle column to flatter more. Here the low learning rate of the last four epochs keeps
# them close together, and with two of the three seeds the best is one of them. A network that never lowers its
# learning rate gives more to pick from: for [the fix of step 2](part2_step2_fixed.ipynb) the best epoch is
# 0.06 points<!--S6/part2_step2_fixed best_epoch_bias--> above the last.

# %% [markdown]
# ## The mistakes
#
# The twelve test images on which the network is wrong and surest of itself.

# %%
log_probabilities = training.predict(model, test_batches["held-out"])
plots.show(plots.mistakes(digits.test_images, digits.test_labels, log_probabilities), options.out, "mistakes")

# %% [markdown]
# In the captions, the label comes first and then what the network read. Ask of each whether you would have read the
# label. Where you would not, no better network will help, and such images set a floor under the errors of all of the
# steps.

# %%
predictions = log_probabilities.argmax(dim=1)
plots.show(plots.confusion(digits.test_labels, predictions), options.out, "confusion")

# %% [markdown]
# In the matrix, look for digits whose whole row is busier than the others: these are often missed. A busy column is
# the other thing: a digit that the network reads into images of others.

# %% [markdown]
# ## Analysis
#
# **What worked, and what did not.** About a thirtieth of the first network's parameters, and
# 65<!--S6/part2_step1_dense_head wrong--> wrong images of 10,000 on average after the last epoch. In that epoch
# the network reads 99.28 %<!--S6/part2_step1_dense_head training--> of its turned and cropped training images
# correctly, and 99.35 %<!--S6/part2_step1_dense_head mean--> of the test images, which are neither turned nor
# cropped. The target of 99.40 % is missed by the mean and met by one seed of three.
#
# **What the learning rate's drop does.** The mean over the seeds is at
# 99.30 %<!--S6/part2_step1_dense_head mean at 15--> after epoch 15, the last with a learning rate of 0.01, and at
# 99.32 %<!--S6/part2_step1_dense_head mean at 16--> after one epoch with 0.001. After three more it is at
# 99.35 %<!--S6/part2_step1_dense_head mean-->.
#
# **What the test set was used for.** Stopping on test accuracy is choosing on the test set: of up to 19 networks the
# one that read these 10,000 images well is kept. Some of that is skill, some is chance. The test accuracy cannot tell
# which, because it has already been spent on the choice. Here, picking the best epoch is worth
# 0.02 points<!--S6/part2_step1_dense_head best_epoch_bias-->, and picking the best of three seeds as well is worth a good
# deal more: the highest is at 99.42 %<!--S6/part2_step1_dense_head maximum-->, the mean at
# 99.35 %<!--S6/part2_step1_dense_head mean-->. Compare that with what S6 and S7 argue about, a few hundredths of a
# point above or below 99.40. The cure costs nothing: fix the epoch and the seed beforehand, or choose on images split
# off the *training* set, and look at the test set once.
#
# **What the parameters were used for.** More than half sit in the head, which has a weight of its own for each of 49
# places, on maps whose values see only 12x12 pixels. The next step gets rid of the head: strided convolutions bring
# the maps down to a single place. It saves a third of the parameters, and goes wrong somewhere else.

# %% [markdown]
# ## Exercises
#
# **Exercise 1: a dense layer is a convolution** (easy, 5 minutes). Count the parameters of a convolution with bias.
# Then see what the checks ask for: the unused layer, and the head's first layer, once as a dense layer on 490 numbers
# (a 1x1 convolution on 490 channels) and once as a 7x7 convolution on 10 channels.


# %%
def parameters(inputs: int, outputs: int, kernel: int) -> int | None:
    # Your line here. Then return your result instead of None.
    return None


check("32 -> 32 channels, 3x3: the layer that nobody calls", parameters(32, 32, 3), 9_248)
check("490 -> 20, 1x1: the head's first layer", parameters(490, 20, 1), 9_820)
check("10 -> 20 channels, 7x7: the same layer, seen as a convolution", parameters(10, 20, 7), 9_820)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def parameters(inputs, outputs, kernel):
#     return outputs * (inputs * kernel * kernel + 1)
# ```
#
# Each output channel has one weight for each input channel and place in the kernel, and one bias. A dense layer
# behind a 7x7 map is a 7x7 convolution that fits into only one place. That is why its size grows with the area of the
# map, and why the next steps first make the map small.
#
# </details>

# %% [markdown]
# **Exercise 2: find the layers that never run** (medium, 10 minutes). A parameter that took no part in computing the
# loss has no gradient after `backward()`: its `grad` is None. Use this to count the parameters of a network that
# never run. A batch of two random images, `torch.randn(2, 1, 28, 28)`, is enough.


# %%
def never_run(network: nn.Module) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


with_a_spare = models.build("S6/part2_step1_dense_head")
with_a_spare.spare = nn.Conv2d(32, 32, 3, padding=1)
check("the network of this step", never_run(models.build("S6/part2_step1_dense_head")), 0)
check("the same with a spare convolution", never_run(with_a_spare), 9_248)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def never_run(network):
#     network(torch.randn(2, 1, 28, 28)).sum().backward()
#     return sum(parameter.numel() for parameter in network.parameters() if parameter.grad is None)
# ```
#
# This finds what torchsummary hides. It does not find everything that is useless: a weight can run, get a gradient,
# and have it be zero each time. Step 2 has 1,280 of that kind.
#
# </details>

# %% [markdown]
# **Exercise 3: how much the best of n epochs flatters** (medium, 15 minutes). Imagine a network that has stopped
# learning: its accuracy after each epoch is a constant plus noise, drawn by `generator.gauss(0, deviation)`. By how
# many points is the best of its epochs above the last, on average over many repetitions? A standard deviation of 0.05
# points is five images.


# %%
def best_above_last(epochs: int, deviation: float, repetitions: int = 10_000) -> float | None:
    generator = random.Random(1)
    # Your lines here. Then return your result instead of None.
    return None


check("one epoch: nothing to choose from", best_above_last(1, 0.05), 0.0, tolerance=0.001)
check("4 epochs", best_above_last(4, 0.05), 0.0515, tolerance=0.002)
check("19 epochs", best_above_last(19, 0.05), 0.0922, tolerance=0.002)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def best_above_last(epochs, deviation, repetitions=10_000):
#     generator = random.Random(1)
#     total = 0.0
#     for _ in range(repetitions):
#         noise = [generator.gauss(0, deviation) for _ in range(epochs)]
#         total += max(noise) - noise[-1]
#     return total / repetitions
# ```
#
# The best of 19 draws lies 1.84 standard deviations above the mean, the best of 4 lies 1.03 above it. So five images
# of noise make nine images of progress that never took place. A real run flatters less than this when its early
# epochs are too far down to win, and when its last ones, with a small learning rate, hardly differ.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. 10,030 of 17,920 parameters are the dense head, because it pays for each of 49 places. It does 0.2 % of the work.
# 2. torchsummary counts the layers that run: 17,920. The source's module held 27,232, over the limit of 20,000, and
#    `sum(p.numel() for p in network.parameters())` would have told.
# 3. The run against its targets: 17,920 parameters and 19 epochs are within bounds, and the last epoch's test
#    accuracy is 99.35 %<!--S6/part2_step1_dense_head mean--> on average over
#    3<!--S6/part2_step1_dense_head seeds--> seeds, where 99.40 % was asked for.
# 4. The best epoch of the same runs is 0.02 points<!--S6/part2_step1_dense_head best_epoch_bias--> higher, and a run that
#    stops at its first 99.40 % reports 99.40 % whatever the network is worth. We report the last epoch.
