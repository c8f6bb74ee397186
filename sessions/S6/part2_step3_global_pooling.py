# %% [markdown]
# # S6 part 2, step 3: Average the dense head away, and ask whether 99.33 and 99.42 differ
#
# Step 1 spent more than half of its parameters on two dense layers. Step 2 had no dense layer and paid for it with 16
# logits for ten classes and Dropout on top of them. This step lets the last convolution make ten maps, one for each
# digit, and takes the average of each map as the digit's logit. No weight is needed for that. The network has 17,118
# parameters, and the student whose solution this lesson retells reported 99.33 % after epoch 20. A later version of
# the same README says 99.42 %, from another run of the same code. Which of the two is right?
#
# **What you'll do**
#
# 1. Put three dense heads in the place of the pooling, and compare what each costs and what each can see.
# 2. Work out what ReLU, Dropout and BatchNorm do to ten logits, and find their traces in a trained network.
# 3. Train the network on images that never change, and hold this run against its targets.
# 4. Toss 10,000 coins a thousand times, and compute the same odds exactly.
# 5. Use the recorded seeds to decide what a difference of nine images is worth.
#
# **What you'll learn**: global average pooling as a dense layer without weights, class maps, the scale that BatchNorm
# gives to logits, two kinds of chance in one accuracy (which images, which run), and when four equal numbers are one
# measurement.
#
# **What you'll need**: [step 2](part2_step2_strided.ipynb), where logits met Dropout for the first time. The full run
# takes about 8 minutes<!--S6/part2_step3_global_pooling minutes--> on one core of a CPU (on an NVIDIA H200 an epoch
# takes 0.33 seconds<!--bench gpu S6/part2_step3_global_pooling default seconds-->).
# `python3 course.py run S6/part2_step3_global_pooling --quick` goes through every step in seconds.
#
# *Before this*: [step 2](part2_step2_strided.ipynb), strided convolutions. *After this*: [step
# 4](part2_step4_under_20k.ipynb), a network of our own for the same budget; or at once [S7 block
# 1](../S7/block1.ipynb), which keeps the pooling and gives the logits a layer of their own. All steps are on the
# [map](../../README.md#the-map-of-the-steps). To run it in the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository, and the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | the assignment asks for | why this number |
# |---|---|---|
# | parameters | fewer than 20,000 | a single dense layer on the last maps of this network would break it, as you will see |
# | epochs | fewer than 20 | a bound on patience; the recipe below runs for 20, and 20 is not fewer than 20 |
# | test accuracy | at least 99.40 % | at most 60 mistakes in 10,000 |
# | means | BatchNorm and Dropout; a dense layer or global average pooling if you like | the source uses the first two everywhere, even on the logits |
#
# The second target is missed before training starts, by design: the source trained for 20 epochs, and its recipe is
# what we measure. It is also cheap to repair. The learning rate falls after epoch 15 whatever the total is, so the
# first 19 epochs of this run are exactly the run that `--epochs 19` gives, and the record knows its accuracy.

# %%
try:
    from common.recipe import Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S6/part2_step3_global_pooling",
    epochs=20,
    batch_size=128,
    lr=0.01,
    momentum=0.9,
    lr_step=15,
)
recipe, options = command_line(recipe)

# %%
targets = (
    Target("parameters", "<", 20_000),
    Target("epochs", "<", 20),
    Target("test accuracy", ">=", 99.40),
)

# %% [markdown]
# The recipe names no augmentation, and so there is none. Now the heavier imports, the digits and the machine.

# %%
import itertools
import math
import statistics

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from common import data, models, records, training
from common.lesson import check, plots

device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
checkpoint = training.Checkpoint(options, recipe, digits, device)
print(digits)
print(records.machine_line(device, options))

# %% [markdown]
# ## The data
#
# Whoever averages over positions should know what lies at which position. Below is the average of all training images
# of each digit, and of all of them together.

# %%
by_digit = [digits.train_images[digits.train_labels == digit].float().mean(dim=0) for digit in range(10)]
averages = torch.stack([*by_digit, digits.train_images.float().mean(dim=0)])
figure = plots.grid(averages, [*map(str, range(10)), "all"], title="the average training image")
plots.show(figure, options.out, "averages")

# %% [markdown]
# The ink lies in the middle: MNIST's digits were scaled to fit into 20x20 pixels and centred by their mass in 28x28.
# The outermost pixels are nearly always empty. So a part of what a pooled map averages is margin, and the network has
# to learn to keep quiet there.
#
# Without augmentation each of the 20 epochs shows the same 60,000 images to the last bit; only their order changes,
# and the values that Dropout strikes out. The source's test loader holds the true 10,000 test images, as ours does:
# what it calls a test is one.

# %%
train_batches = data.InMemoryLoader(
    digits.train_images, digits.train_labels, recipe.batch_size, shuffle=True, seed=recipe.seed, device=device
)
test_batches = {"held-out": data.InMemoryLoader(digits.test_images, digits.test_labels, batch_size=1000, device=device)}

# %% [markdown]
# ## The network

# %%
torch.manual_seed(recipe.seed)
model = models.build(recipe.step).to(device)
print(models.source(recipe.step))

# %%
print(models.summary(model))

# %% [markdown]
# Each convolution is padded with a frame of zeros, so that maps keep their size: 28, and after the max-pools 14, 7
# and 3. In front of the first convolution the frame is not background. Normalisation sends an empty pixel to
# (0 - 0.1307) / 0.3081 = -0.42, and a zero is what a pixel of value 33 becomes. The network sees each digit in a faint
# grey frame, and may use it to tell where the image ends.

# %%
print(models.layer_table(model))

# %%
rows = models.layer_rows(model)
plots.show(plots.receptive_fields(digits.train_images[0], rows), options.out, "receptive_fields")

# %% [markdown]
# The squares to look at are the last three. A cell of the ten 7x7 maps sees 26x26 pixels, which is a whole digit with
# room to spare; after the max-pool it is 30x30, and after the average 46x46. The image
# has 28 pixels; what a field covers beyond them is padding.
#
# One thing happens in silence. A max-pool of 2 on seven cells makes three of the first six and drops the seventh.
# Here it is on a map whose cells are numbered from 0 to 48:

# %%
numbered = torch.arange(49.0).reshape(1, 1, 7, 7)
print(functional.max_pool2d(numbered, 2).int()[0, 0].tolist())

# %% [markdown]
# 48, the largest number, is gone, and so are the seventh row and the seventh column: 13 cells of 49, more than a
# quarter of the last convolution's 141,120 multiply-adds, reach no logit. Cell i of a row is centred on pixel 4i +
# 1.5, so the six that are left are centred on 11.5 on average, while the middle of the image is 13.5. The network
# looks two pixels up and to the left of the middle. It may cost little, because the dropped cells see the right and
# the lower margin best; nobody decided it, and we have not measured it.

# %% [markdown]
# ### Pooling against a dense head
#
# A dense layer on the same maps would give each logit a weight for every cell of every map. Three places where the
# source could have put one: on the [10, 3, 3] maps after the max-pool, on the [10, 7, 7] maps before it, or on the
# [32, 7, 7] maps before the last convolution, which it would replace. We build all three, to count and not to train.

# %%
trunk = model.layers
with torch.random.fork_rng(devices=[]):  # the heads draw weights that nobody needs; the run must not notice
    heads = {
        "pooling": model,
        "dense on [10, 3, 3]": nn.Sequential(*trunk[:7], nn.Flatten(), nn.Linear(90, 10), nn.LogSoftmax(dim=1)),
        "dense on [10, 7, 7]": nn.Sequential(*trunk[:6], nn.Flatten(), nn.Linear(490, 10), nn.LogSoftmax(dim=1)),
        "dense on [32, 7, 7]": nn.Sequential(*trunk[:5], nn.Flatten(), nn.Linear(1568, 10), nn.LogSoftmax(dim=1)),
    }
print(f"{'head':<21}{'parameters':>12}{'of them dense':>15}{'a logit sees':>14}   fewer than 20,000")
for name, network in heads.items():
    rows_with_head = models.layer_rows(network)
    held = models.count_parameters(network)
    dense = sum(row.parameters for row in rows_with_head if row.name.startswith("Linear"))
    field = rows_with_head[-1].receptive_field
    verdict = "yes" if targets[0].met_by(held) else "no"
    print(f"{name:<21}{held:>12,}{dense:>15,}{f'{field}x{field}':>14}   {verdict}")

# %% [markdown]
# So only the smallest dense head fits under the limit. What a logit can see is no argument for any of them: with
# every head it is wider than the image. The difference is in what a logit can *tell apart*. Pooling is itself a dense
# layer of 90 x 10 weights, with weights that nobody trains: a logit takes 1/9 of each of the nine cells of its own
# map and nothing of the other 81. Nine equal weights cannot know top from bottom. That a 6 has its loop below and a 9
# above must be seen by the convolution in front, in its 26x26 pixels, and they are large enough for it. The dense
# heads can hold a different opinion in each place, which is more freedom than a centred digit needs.

# %% [markdown]
# ### Logits with a floor and a scale
#
# The last convolution is built like the others: convolution, ReLU, Dropout, BatchNorm. But its ten maps become the
# logits: nothing but the pooling stands between them and the softmax. Each of the three leaves its mark.
#
# **ReLU** cuts off everything below zero. A map can say "this is a 7" more or less loudly; it cannot say "this is
# certainly no 7" other than by silence. And a silent map learns nothing from the image in front of it: where ReLU
# gives zero its derivative is zero, so that an image on which its own digit's map is empty has no direct
# way to ask this map's weights for more.
#
# **BatchNorm** shifts and scales each map to mean 0 and variance 1 over the batch and all cells, and then applies a
# learned factor gamma and a learned shift beta. An empty map comes out as the same negative number each time: the
# *floor* of this logit. And the scale is no longer the convolution's to choose. Suppose that it did its work
# perfectly, 1 in every cell of a map when the digit is there (one image in ten) and 0 otherwise. Then the mean is
# 0.1, the standard deviation is the square root of 0.1 x 0.9, which is 0.3, and the logits follow:

# %%
for gamma in (1, 2, 3):
    own, other = gamma * (1 - 0.1) / 0.3, gamma * (0 - 0.1) / 0.3
    probability = math.exp(own) / (math.exp(own) + 9 * math.exp(other))
    print(
        f"gamma {gamma}: own logit {own:.2f}, the other nine {other:.2f}, "
        f"probability {probability:.4f}, loss {-math.log(probability):.4f}"
    )

# %% [markdown]
# Gamma starts at 1. With it, this network would give the right digit 76 % and pay a loss of 0.28 for it, on
# images that it reads without a mistake. No larger convolution weights help, because BatchNorm divides them out
# again. Two things do: a larger gamma, and sparser maps, for a 1 that is rarer has more standard deviations between
# itself and the mean. With maps that are active everywhere, ten gammas decide how sure the network can be.
#
# **Dropout** strikes out one cell in ten and scales the others up by 1 / 0.9. In step 2 it hit whole logits: with
# 0.25, and with a map of one cell, the right logit was missing from one training image in four. Here the same mistake
# is nearly harmless. Of a map that is equally active everywhere, the max-pool loses a value only when four neighbours
# are struck out together, once in 10,000. A map that is active in a single cell loses it in one image of ten. So
# Dropout pays the network for evidence that is spread over its map.

# %% [markdown]
# ## Training
#
# As in the steps before. In the log, watch epoch 16: there the learning rate falls from 0.01 to 0.001.

# %%
history = training.fit(model, train_batches, test_batches, recipe, options, checkpoint)

# %%
plots.show(plots.curves(history, bound=99.4), options.out, "curves")

# %% [markdown]
# The axes are logarithmic, and the right one shows errors in per cent. What to see: the size of the jumps of the test
# curve (orange) from one epoch to the next, before the learning rate falls and after. Steps of a tenth of the length
# cannot carry the weights far, and the last five epochs test almost the same network five times. Keep that in mind
# for the four numbers at the end of this lesson.

# %% [markdown]
# ### What the logits became
#
# Here the traces of ReLU and BatchNorm in the network that was just trained: how far gamma came from 1, how often a
# wrong digit's map is completely empty, so that its logit sits on the floor, and on how many images the right digit's
# map is.

# %%
convolution_and_relu, batch_norm = trunk[5][:2], trunk[5][3]  # of the ten maps
log_probabilities = training.predict(model, test_batches["held-out"])
with torch.no_grad():
    maps = [convolution_and_relu(trunk[:5](images.to(device))).cpu() for images, _ in test_batches["held-out"]]
empty = torch.cat(maps)[:, :, :6, :6].amax(dim=(2, 3)) == 0  # [N, 10]; the cells that reach a logit
its_own = functional.one_hot(digits.test_labels.long(), 10).bool()
right = log_probabilities[its_own].exp().mean()
gammas = batch_norm.weight.tolist()

for quantity, value in (
    ("gamma of the ten logits, from training images", f"{min(gammas):.2f} to {max(gammas):.2f}"),
    ("mean probability of the right digit, test images", f"{100 * right:.2f} %"),
    ("empty maps of wrong digits, test images", f"{100 * empty[~its_own].float().mean():.1f} %"),
    ("test images whose right digit has an empty map", f"{empty[its_own].sum()} of {len(empty):,}"),
):
    print(f"{'this run':<11}{quantity:<56}{value}")

# %% [markdown]
# ## Result
#
# First this run: target, measured, verdict. "Missed by 0" is the second target: 20 epochs where fewer than 20 were
# asked for.

# %%
record = records.make(recipe, options, model, digits, history)
print(records.verdict(targets, record))
records.save(options, record, model)

# %% [markdown]
# The recorded full runs on MNIST, one line for each seed:

# %%
print(records.recorded(recipe.step, targets))

# %% [markdown]
# The source measured held-out images, so there is no second protocol: its 99.33 % stands directly beside our
# 99.25 %<!--S6/part2_step3_global_pooling mean-->, the mean over 3<!--S6/part2_step3_global_pooling seeds--> seeds, which
# run from 99.15 %<!--S6/part2_step3_global_pooling minimum--> to 99.35 %<!--S6/part2_step3_global_pooling maximum-->. One epoch
# earlier, where the assignment's bound lies, the mean is 99.25 %<!--S6/part2_step3_global_pooling mean at 19-->.

# %% [markdown]
# ### 99.33 or 99.42?
#
# In images: 67 mistakes or 58. Nine images of 10,000 are what the two numbers disagree about. Whether nine is much
# depends on what chance does alone, and chance enters an accuracy through two doors.
#
# **The first door: which images are in the test set.** Take a network that misreads 0.625 % of all digits that will
# ever be written, halfway between the two claims, and test it on 10,000 of them. Each image is a coin that shows
# "wrong" with probability 0.00625. Below are a thousand such tests of *the same* network.

# %%
share = 0.00625
coins = np.random.RandomState(1)  # NumPy promises never to change this generator: you get our numbers
tests = np.array([(coins.random_sample(10_000) < share).sum() for _ in range(1000)])
apart = np.abs(tests[::2] - tests[1::2])
low, high = np.sort(tests)[[25, 974]]
print(f"mean {tests.mean():.1f} wrong, deviation {tests.std(ddof=1):.1f}, from {tests.min()} to {tests.max()}")
print(f"the middle 95 %: {low} to {high} wrong, which is {100 - high / 100:.2f} to {100 - low / 100:.2f} %")
print(f"two tests in turn: {(apart >= 9).mean():.3f} of the pairs are 9 images or more apart")

# %% [markdown]
# No coin is needed for this. The number of wrong images follows the binomial distribution: k of n with probability
# C(n, k) p^k (1 - p)^(n - k), with mean np and variance np(1 - p). Divided by n, the square root of the variance is
# the **standard error** of the accuracy, sqrt(p (1 - p) / n). For two tests one adds up every pair of counts that are
# 9 or more apart; the sum over pairs of equal distance is a convolution.


# %%
def wrong_images(share: float, images: int = 10_000, most: int = 200) -> np.ndarray:
    """The probabilities of 0, 1, ..., `most` wrong images, when each is wrong with probability `share`."""
    return np.array(
        [
            math.exp(
                math.lgamma(images + 1)
                - math.lgamma(k + 1)
                - math.lgamma(images - k + 1)
                + k * math.log(share)
                + (images - k) * math.log1p(-share)
            )
            for k in range(most + 1)
        ]
    )


print(f"{'truly':>9}{'standard error':>17}{'58 or fewer':>14}{'67 or more':>13}{'two tests 9 or more apart':>28}")
for truth in (0.0067, 0.00625, 0.0060, 0.0058):
    chances = wrong_images(truth)
    differences = np.convolve(chances, chances[::-1])  # from -200 to 200; 0 is in the middle
    closer = differences[200 - 8 : 200 + 9].sum()
    error = 100 * math.sqrt(truth * (1 - truth) / 10_000)
    print(
        f"{100 - 100 * truth:>7.3f} %{f'{error:.3f} points':>17}"
        f"{chances[:59].sum():>14.3f}{chances[67:].sum():>13.3f}{1 - closer:>28.3f}"
    )

# %% [markdown]
# At 99.40 % the standard error is 0.077 points, and nine images are 0.09 points. Read the second row: one and the
# same network, tested on two sets of 10,000 images, gets results at least as far apart as the two claims in 45 cases
# of a hundred. The simulation said 47. (Its mean is also a little below the exact 62.5: a thousand tests are not
# infinitely many.)
#
# In the figure, the orange lines are the two claims, the line with dots is the exact distribution, and the short
# marks at the bottom are our recorded seeds. Both claims lie well inside the hill.

# %%
past = records.runs(records.load(recipe.step)) if records.path_of(recipe.step).exists() else []
wrong = [run["history"][-1]["test_total"] - run["history"][-1]["test_correct"] for run in past]

figure, axis = plots.plt.subplots(figsize=(8, 3.4))
axis.hist(tests, bins=np.arange(35.5, 91.5), color="lightgray", label="1,000 simulated tests")
axis.plot(range(35, 91), 1000 * wrong_images(share)[35:91], marker=".", label="exact")
for claim in (58, 67):
    axis.axvline(claim, color="#d95f02", label="99.42 and 99.33 %" if claim == 58 else None)
axis.plot(wrong, [2] * len(wrong), "k|", markersize=14, label="our seeds")
axis.set(title="one network, true accuracy 99.375 %", xlabel="wrong images of 10,000", ylabel="tests")
axis.legend()
plots.show(figure, options.out, "one_network_many_tests")

# %% [markdown]
# **The second door: which run it was.** The argument so far is about two *different* sets of images. But 99.33 and
# 99.42 were measured on the same 10,000. Whatever luck lies in the choice of the images, both runs had it, and it
# cannot have set them nine images apart. What differs between two runs of one code is where the weights started, the
# order of the images, what Dropout struck out, and the rounding of the machine. How much that moves is not a matter
# of theory; it is what the seeds of a record are for. So the standard error tells how well an accuracy speaks for
# digits in general, and the spread over seeds tells how well one run speaks for its recipe.

# %%
print(f"{'':<11}the source: wrong after each of the last four epochs 67 69 67 68")
if len(past) < 2:
    print(records.NOTHING_YET)
else:
    for run in past:
        last_four = [row["test_total"] - row["test_correct"] for row in run["history"][-4:]]
        print(f"{'recorded':<11}seed {run['seed']}: wrong after each of the last four epochs", *last_four)
    pairs = [abs(one - other) for one, other in itertools.combinations(wrong, 2)]
    deviation = statistics.stdev(wrong)
    print(f"{'recorded':<11}pairs of seeds: images apart", *pairs)
    print(f"{'recorded':<11}standard deviation of a run: {deviation:.1f} images")
    print(f"{'recorded':<11}standard deviation of a difference of two runs: {math.sqrt(2) * deviation:.1f} images")

# %% [markdown]
# Read the lines across first. The source's last four epochs, 99.33, 99.31, 99.33 and 99.32 %, agree to within two
# images and look like a number known to two decimals. They are one measurement, taken four times: after epoch 15 the
# learning rate is 0.001, and the network hardly changes any more. Within a seed our own last four lie 3 to 8 images
# apart. The distance that counts is the one *between* the lines.
#
# Now read them down. The seeds lie up to 0.20 points<!--S6/part2_step3_global_pooling spread--> apart, with a standard
# deviation of 0.10 points<!--S6/part2_step3_global_pooling deviation-->; the difference of two runs has a standard deviation
# larger by the square root of two. The claims are 0.09 points apart. And even that deviation is a rough number. When
# runs scatter normally, twice their sample variance over the true one follows, for three seeds, the simplest of all
# chi-square distributions: it exceeds x with probability exp(-x / 2). In 95 cases of 100 it lies between
# -2 ln 0.975 = 0.051 and -2 ln 0.025 = 7.38, and the true deviation between 0.52 and 6.3 times the measured one. Three seeds do
# show that runs differ. How much they differ, they show to within a factor of twelve.
#
# So the answer to "99.33 or 99.42?" is that each is an honest report of one run, and neither is the accuracy of this
# recipe. To choose the larger of the two would be to choose a seed by its test accuracy. What can be said is a mean,
# a deviation and a number of seeds: 99.25 %<!--S6/part2_step3_global_pooling mean--> ±
# 0.10 points<!--S6/part2_step3_global_pooling deviation--> over 3<!--S6/part2_step3_global_pooling seeds--> seeds.

# %% [markdown]
# ## The mistakes
#
# The twelve test images on which this network was wrong and surest of itself.

# %%
plots.show(plots.mistakes(digits.test_images, digits.test_labels, log_probabilities), options.out, "mistakes")

# %%
predictions = log_probabilities.argmax(dim=1)
plots.show(plots.confusion(digits.test_labels, predictions), options.out, "confusion")

# %% [markdown]
# In the confusion matrix, compare any cell with its mirror image across the diagonal; most hold one or two images,
# and no conclusion about a pair of digits can rest on them. That is the lesson of the nine images once more, in
# small.
#
# A network that ends in pooling can do what a dense head cannot: show its reasons. A logit is the average of its map,
# so the map is the calculation itself, cell by cell. Below is the test image that got the least probability for its
# label, and its ten maps on one common scale. Dark cells speak for the digit. The cells behind the lines are the row
# and the column that the max-pool drops.

# %%
doubtful = int(log_probabilities[its_own].argmin())
chosen = slice(doubtful, doubtful + 1)
image, label = next(iter(data.InMemoryLoader(digits.test_images[chosen], digits.test_labels[chosen], 1, device=device)))
with torch.no_grad():
    ten_maps = trunk[:6](image).cpu()[0]
    logits = trunk[6:9](ten_maps[None])[0]

figure, axes = plots.plt.subplots(2, 6, figsize=(9, 3.6))
for axis in axes.flat:
    axis.set_axis_off()
axes.flat[0].imshow(digits.test_images[doubtful].reshape(28, 28))
axes.flat[0].set_title(f"is {int(label)}, read as {predictions[doubtful]}", fontsize="small")
for digit, axis in enumerate(axes.flat[1:11]):
    axis.imshow(ten_maps[digit], vmin=ten_maps.min(), vmax=ten_maps.max())
    axis.axhline(5.5, color="#d95f02", linewidth=1)
    axis.axvline(5.5, color="#d95f02", linewidth=1)
    axis.set_title(f"{digit}: logit {logits[digit]:.1f}", fontsize="small")
plots.show(figure, options.out, "class_maps")

# %% [markdown]
# Compare the map of the label with the map of what was read: where in the image is each of them active? Maps that are
# evenly pale are at their floor. They are the silence that ReLU leaves a digit for a no.

# %% [markdown]
# ## Analysis
#
# **What worked.** Pooling buys a head for nothing. Step 1 has 17,920 parameters and spends 10,030 of them on two
# dense layers; here all 17,118 are in convolutions and BatchNorm, and the accuracies are
# 99.35 %<!--S6/part2_step1_dense_head mean--> there and 99.25 %<!--S6/part2_step3_global_pooling mean--> here. The two recipes
# differ in more than the head (step 1 augments its images, this one does not), so the lower number is no verdict on
# pooling. What it does show is how far a network gets without any dense layer.
#
# **What was measured properly.** The source's test set is the test set, and its result is its last epoch: 99.33 %,
# beside which we find 99.25 %<!--S6/part2_step3_global_pooling mean--> ± 0.10 points<!--S6/part2_step3_global_pooling deviation-->.
# Its flaw is two decimals that a single run cannot carry.
#
# **What did not work.** 20 epochs are not fewer than 20. That miss is one of bookkeeping: after epoch 19 the mean is
# 99.25 %<!--S6/part2_step3_global_pooling mean at 19-->, after epoch 20 it is 99.25 %<!--S6/part2_step3_global_pooling mean-->.
# The accuracy asked for is 99.40 %, and the seeds lie between
# 99.15 %<!--S6/part2_step3_global_pooling minimum--> and 99.35 %<!--S6/part2_step3_global_pooling maximum-->.
#
# **Where the rest may lie.** With the weights of the moment and Dropout on, the network reads
# 99.52 %<!--S6/part2_step3_global_pooling training--> of its training images in the last epoch; in step 2 it was
# 83.11 %<!--S6/part2_step2_strided training-->. Both put ReLU, Dropout and BatchNorm on their logits, so that alone
# does not explain the distance. The dose differs: Dropout of 0.25 on a logit of one cell there, of 0.1 on a map of 49
# cells here. On the held-out images this network is at 99.25 %<!--S6/part2_step3_global_pooling mean-->. The training
# images come out higher although Dropout handicaps them: the network has learned something about these 60,000 images
# that holds for no others. It met each of them 20 times without a change, and against that there is a cure,
# augmentation, which this recipe does without.
#
# **What the next steps change.** [Step 4](part2_step4_under_20k.ipynb) and [S7 block 1](../S7/block1.ipynb) both pool
# first, and compute the logits from the averages. In block 1, 32 maps are averaged, and a dense layer of 330
# parameters turns 32 averages into ten logits with nothing behind it, no ReLU, no BatchNorm, no Dropout. Its
# convolutions are narrowed by 1x1 convolutions in between, and its images are turned by up to 7 degrees.

# %% [markdown]
# ## Exercises
#
# **Exercise 1: what a dense head costs** (easy, 5 minutes). The number of parameters, biases included, of a dense
# layer from maps of the given channels and side to ten logits. The last check is the dense layer that block 1 puts
# behind its pooling.


# %%
def dense_head(channels: int, side: int, classes: int = 10) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


check("on [10, 7, 7]", dense_head(10, 7), 4_910)
check("on [32, 7, 7]", dense_head(32, 7), 15_690)
check("on 32 averages", dense_head(32, 1), 330)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def dense_head(channels, side, classes=10):
#     return (channels * side * side + 1) * classes
# ```
#
# Averaging first makes the dense layer 48 times cheaper: it gives up *where* a feature was and keeps *how much* of it
# there was.
#
# </details>

# %% [markdown]
# **Exercise 2: how sure can it be?** (easy, 5 minutes). The right logit lies `gap` above nine equal others. Turn the
# softmax around: which gap gives the right digit the given probability? Then divide by 10/3, the gap of the network
# with the full maps at gamma 1, to see how far gamma would have to grow.


# %%
def gap_needed(probability: float) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


check("no opinion at all: 10 %", gap_needed(0.1), 0.0, tolerance=0.001)
check("for 99 %", gap_needed(0.99), 6.792, tolerance=0.001)
check("for 99.9 %", gap_needed(0.999), 9.104, tolerance=0.001)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def gap_needed(probability):
#     return math.log(9 * probability / (1 - probability))
# ```
#
# From p = e^gap / (e^gap + 9). With full maps it takes gamma 2.04 for 99 % and 2.73 for 99.9 %. Compare with the
# gammas of this run, whose maps are sparser.
#
# </details>

# %% [markdown]
# **Exercise 3: how many seeds?** (medium, 10 minutes). Two recipes are each run n times, and the runs of each scatter
# with the same standard deviation. The difference of their two means then has the standard error
# sqrt(2 / n) x deviation. What is the least n for which the given difference is two of these?


# %%
def seeds_needed(deviation: float, difference: float) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


check("0.09 points apart, deviation 0.05", seeds_needed(0.05, 0.09), 3)
check("0.09 points apart, deviation 0.10", seeds_needed(0.10, 0.09), 10)
check("0.03 points apart, deviation 0.05", seeds_needed(0.05, 0.03), 23)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def seeds_needed(deviation, difference):
#     return math.ceil(8 * (deviation / difference) ** 2)
# ```
#
# From 2 sqrt(2 / n) deviation <= difference. A third of the difference takes nine times the seeds: in the last digit
# of an accuracy there is little to be had for the price of a run.
#
# </details>

# %% [markdown]
# **Exercise 4: the nine images, with the predictions at hand** (hard, 15 minutes). Two trained networks made 67 and
# 58 mistakes on the same images. Those that both got wrong say nothing about which is better; only the images on
# which they *disagree* do. If neither is better, each of these is a fair coin. With n of them, how probable is it
# that the two sides are at least `apart` images apart, in either direction? (`math.comb(n, k)` counts the ways to put
# k of n on one side.)


# %%
def as_far_apart(disagreements: int, apart: int) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


check("58 mistakes shared, 9 disagreements", as_far_apart(9, 9), 0.0039, tolerance=0.0001)
check("45 mistakes shared, 22 + 13 disagreements", as_far_apart(35, 9), 0.1755, tolerance=0.0001)
check("none shared, 67 + 58 disagreements", as_far_apart(125, 9), 0.4744, tolerance=0.0001)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def as_far_apart(disagreements, apart):
#     ways = sum(
#         math.comb(disagreements, k) for k in range(disagreements + 1) if abs(2 * k - disagreements) >= apart
#     )
#     return ways / 2**disagreements
# ```
#
# With k on one side there are n - k on the other, and the distance is |2k - n|. This is the sign test, also called
# McNemar's exact test. The same nine images can be strong evidence (0.4 %) or none (47 %), depending on how many
# mistakes the networks share, and two percentages do not tell. Whoever keeps the predictions can. Even then the test
# speaks of two trained networks, not of two recipes: for these there are only more seeds.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. A dense head on the last maps costs 910, 4,910 or 15,690 parameters, and two of the three break the limit of
#    20,000. With each of them, as with pooling, a logit sees the whole image.
# 2. ReLU gives each logit a floor, BatchNorm takes its scale away and gives it to ten gammas, and Dropout on pooled
#    maps does little, where on single cells it did much.
# 3. The run against its targets: 17,118 parameters are within bounds, 20 epochs are one too many, and the recorded
#    accuracy is 99.25 %<!--S6/part2_step3_global_pooling mean--> on average.
# 4. One network, tested on two sets of 10,000 images, gets results 9 or more images apart in 45 cases of 100. The
#    standard error at 99.4 % is 0.077 points.
# 5. On one set of images the yardstick is the spread over seeds, here
#    0.20 points<!--S6/part2_step3_global_pooling spread-->, and neighbouring epochs do not replace it. 99.33 and 99.42 are two
#    draws; the mean over seeds is the result.
