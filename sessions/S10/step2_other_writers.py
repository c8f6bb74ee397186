# %% [markdown]
# # S10 step 2: Read other writers: what 99.65 % is worth on digits that are not MNIST's
#
# All numbers of this course so far are about one set of test images. MNIST's authors made them in one way, from the
# forms of one country. This page takes the course's networks elsewhere: to digits from Turkish students, and to digits
# from American envelopes. One of the best networks on MNIST turns out to be one of the worst there. The page finds
# out why. Then it trains a network on MNIST alone that reads all of them better, and counts what is still missing.
#
# **What you'll do**
#
# 1. Guess which network reads other writers best, and look.
# 2. Find the reason with MNIST's own test images, spoilt on purpose.
# 3. Write an augmentation that changes the pen.
# 4. Choose a recipe by spoilt *validation* images, without a look at the other writers.
# 5. Train it, and open the envelope once.
#
# **What you'll learn**: distribution shift, robustness, augmentation of the hand and the pen, how to choose for images
# that one does not have.
#
# **What you'll need**: [step 1](step1_your_own_digits.ipynb), and [S8 step 7](../S8/step7_two_budgets.ipynb) for its augmentation.
# The page runs in about a minute as it stands. Training in full takes about
# 12 minutes<!--S10/step2_other_writers minutes--> on one core.
#
# *Before this*: [step 1](step1_your_own_digits.ipynb). *After this*: [S11 step 1](../S11/step1_many_seeds.ipynb), more
# than one machine. The [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud: [Colab](https://colab.research.google.com/github/) opens a notebook from your copy
# of the repository, and [two lines](../../docs/machines.md#on-colab) install the course there.

# %% [markdown]
# ## Target
#
# | what, as a mean over five seeds | target | why this number |
# |---|---|---|
# | parameters | fewer than 8,000 | the budget of S7 |
# | MNIST's test images | at least 99.50 % | reading others must not cost much at home |
# | USPS, digits from envelopes | at least 98.3 % | more than any network of the course reads |
# | scikit-learn's digits | at least 97.5 % | the best so far reads fewer than 96 % |
# | photos of step 1's kind | at least 97 % | as step 1 asks |
# | of these, with a thin pen | at least 95 % | the same |
#
# It is trained on MNIST's training images and on nothing else. Each image is read once: no nine views.

# %%
TRAIN = "recorded"  # what a full run left; "full" trains as the recipe says, "quick" for seconds on a part
try:
    from common.recipe import Augmentation, Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S10/step2_other_writers",
    epochs=40,
    batch_size=64,
    lr=0.2,
    momentum=0.9,
    nesterov=True,
    one_cycle=0.2,
    weight_decay=1e-4,
    ema_decay=0.9995,
    augmentation=Augmentation(
        rotation=8,
        translation=0.05,
        scale=(0.9, 1.1),
        shear=12,
        interpolation="bilinear",
        hand_probability=0.8,
        stretch=0.25,
        elastic=0.8,
        stroke=0.9,
        scan=6,
        contrast=0.5,
    ),
)
recipe, options = command_line(recipe, TRAIN)

targets = (
    Target("parameters", "<", 8_000),
    Target("test accuracy", ">=", 99.50),
)

# %%
import contextlib
import json
import re
import statistics
from dataclasses import replace

import torch

from common import data, models, records, training
from common.data import other_writers
from common.data.corruptions import CORRUPTIONS, TOGETHER, corrupt
from common.lesson import Exercises, experiment, plots
from common.recipe import ROOT
from common.records import comparison
from common.system.errors import UserError

exercises = Exercises(recipe.step)
device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
checkpoint = training.Checkpoint(options, recipe, digits, device)
print(records.head(recipe, options, digits, device))

# %% [markdown]
# ## The data
#
# **scikit-learn's digits** are 1,797 digits that 43 people in Turkey wrote on a tablet, kept as 8x8 grey values.
# **USPS** are 2,007 digits that a machine cut from envelopes, kept as 16x16 grey values. The page enlarges each digit to
# fit into 20x20 and centres it by its mass, as MNIST's authors did. The last row is MNIST again, looked at through a scanner of
# 7x7 dots. (USPS's row is empty where it is not at hand: neither downloaded nor in the folder that `USPS_DIR` names.)

# %%
scikit_images, scikit_labels = other_writers.scikit_learn()


def one_of_each(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The eighth 0, the eighth 1, and so on."""
    return torch.stack([images[labels == digit][7] for digit in range(10)])


of_mnist = one_of_each(digits.test_images, digits.test_labels)
rows = {"MNIST": of_mnist, "scikit-learn": one_of_each(scikit_images, scikit_labels)}
rows["USPS"] = torch.zeros(10, 28, 28)  # an empty row, where it is not at hand; its numbers below are recorded ones
if not options.quick:
    with contextlib.suppress(UserError):
        rows["USPS"] = one_of_each(*other_writers.usps())
rows["MNIST, coarse"] = corrupt(of_mnist, "coarse, 7 dots")
plots.show(plots.rows_of_digits(rows), options.out, "writers")

# %% [markdown]
# **Predict first.** S8 step 7 reads 99.65 %<!--S8/step7_two_budgets mean--> of MNIST's test images, more than any other network
# under 8,000 parameters here. S5's first network reads 99.29 %<!--S5/step1_first_network mean-->. Which of the two reads
# more of scikit-learn's digits, and how many?
#
# <details><summary>Answer</summary>
#
# S5's, by far: the table below has 94.82 % against 79.63 %. Only one network reads fewer than S8 step 7: S6's fix, with
# 52.03 %.
#
# </details>
#
# Every network of the course, with the weights of its recorded run, and with nine views where it has them. The last
# column is a 95 % interval of the one before it: by how much another 1,797 images of these writers could move it.

# %%
measured = json.loads((ROOT / "sessions/S10/other_writers.json").read_text(encoding="utf-8"))
totals = measured["totals"]
FOUND = measured["networks"]


def share(name: str, which: str, part: str = "networks") -> float:
    """In per cent, the mean over the seeds that were measured."""
    rows = measured[part][name]["correct"]
    return 100 * statistics.fmean(row[which] for row in rows) / totals[which]


before = sorted((name for name in FOUND if name != recipe.step), key=lambda name: -FOUND[name]["parameters"])
print(f"{'network':<32}{'parameters':>11}{'MNIST':>8}{'USPS':>8}{'scikit-learn':>14}{'95 % interval':>18}")
for name in before:
    low, high = comparison.wilson(FOUND[name]["correct"][0]["scikit-learn"], totals["scikit-learn"])
    cells = f"{share(name, 'mnist'):>8.2f}{share(name, 'usps'):>8.2f}{share(name, 'scikit-learn'):>14.2f}"
    print(f"{name:<32}{FOUND[name]['parameters']:>11,}{cells}{low:>11.2f} to {high:.2f}")

# %% [markdown]
# On USPS the networks are close to each other. On scikit-learn's digits they are far apart, and the order has little to
# do with the order on MNIST.
#
# ## Why?
#
# What is different about scikit-learn's digits: the writers, or the tablet? The picture suggests the tablet. So take
# the writers away. MNIST's own test images, seen through 7x7 dots, have MNIST's writers and the tablet's coarseness. The
# figure has a dot for each network.

# %%
points = {}
for name in before:
    short = re.sub(r"(S\d+)/(?:part2_)?(step\d|block\d|[a-z0-9]+).*?(fixed|_\d+)?$", r"\1 \2 \3", name)
    points[short.replace("_", "").strip()] = (share(name, "coarse"), share(name, "scikit-learn"))
figure = plots.against(points, "MNIST's test images through 7x7 dots, read in %", "scikit-learn's digits, read in %")
plots.show(figure, options.out, "coarse")

# %% [markdown]
# The networks that read coarse MNIST badly read scikit-learn's digits badly. The writers are MNIST's here, so other
# hands cannot be the reason: the dots alone do most of the damage.
#
# And what makes a network so sensitive? Here one thing at a time is changed in S8 step 7's recipe, in a short training of
# three epochs with three seeds each. The row "S8 step 7, one look" is S8 step 7's recipe with one look and without a
# teacher. Each difference is to this row, paired by seed, with a 95 % interval that is not corrected for the number of
# comparisons.

# %%
ABLATION = measured["ablation"]
base = ABLATION["S8 step 7, one look"]["correct"]
print(f"{'':<28}{'MNIST':>8}{'scikit-learn':>14}{'difference':>12}{'95 % interval':>20}")
for name, row in ABLATION.items():
    cells = "".join(
        f"{share(name, which, 'ablation'):>{width}.2f}" for which, width in (("mnist", 8), ("scikit-learn", 14))
    )
    difference = ""
    if name != "S8 step 7, one look":
        sides = [
            {seed: 100 * one["scikit-learn"] / totals["scikit-learn"] for seed, one in enumerate(side)}
            for side in (base, row["correct"])
        ]
        found = comparison.paired(*sides)
        difference = f"{found.difference:>+12.2f}{found.low:>+12.2f} to {found.high:+.2f}"
    print(f"{name:<28}{cells}{difference}")
print(f"{len(ABLATION) - 1} comparisons")
each = [100 * row["scikit-learn"] / totals["scikit-learn"] for row in base]
print("scikit-learn's digits by S8 step 7's recipe, seed by seed: " + " ".join(f"{value:.1f}" for value in each))
each = [100 * row["scikit-learn"] / totals["scikit-learn"] for row in ABLATION["blurred digits in training"]["correct"]]
print("and with blurred digits in training:                     " + " ".join(f"{value:.1f}" for value in each))

# %% [markdown]
# Look at the seeds first: by the very same recipe three networks read 78.5, 67.1 and 52.4 %. On MNIST they are equal. A
# test set does not decide what a network does elsewhere; chance does. This is called **underspecification** (D'Amour et
# al., [on arXiv](https://arxiv.org/abs/2011.03395)).
#
# With seeds so far apart, three pairs prove little, and the t-test's intervals are wide. What can be said: with block 3's
# gentler augmentation, and with ReLU in place of SiLU, every one of the three pairs gains. With nine looks every pair
# loses. And one change settles it: with blurred digits in training all three seeds read about 96 %, and agree. So the
# simple reading is that S8 step 7 has hardly met a soft edge in training. Why SiLU and larger moves make that worse, these
# runs do not tell.
#
# ## Another hand, another pen
#
# S8 step 7's augmentation turns, shifts and scales a digit. The writer stays the same, and so does the pen. Four changes
# more make another writer of them. **Elastic deformation** bends a digit like a drawing on rubber. Stretch makes it
# wider or narrower. The stroke becomes thinner or thicker. And a coarser scanner reads it, with 6 to 20 dots where MNIST
# has 20 pixels. Each is drawn anew for each image; one image in five keeps its hand.
#
# **Exercise 1: a thicker line** (medium, 10 minutes). White is ink. A line becomes wider by a pixel on each side when
# each pixel takes the largest value of itself and its four neighbours: above, below, left and right. This is a
# **dilation**. For a share of a pixel, go that share of the way from the old image to the new one. `images` is
# [N, 28, 28], `amount` a number from 0 to 1. Beyond the edge there is nothing.


# %%
def thicker(images: torch.Tensor, amount: float) -> torch.Tensor | None:
    # Your lines here. Then return the images instead of None.
    return None


small = torch.zeros(1, 28, 28)
small[0, 10:13, 14] = torch.tensor([100.0, 255.0, 30.0])
thicker = exercises.check(thicker, (small, 1.0), (small, 0.5), (small.roll(14, dims=2), 1.0))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.nn.functional.max_pool2d(images, (3, 1), stride=1, padding=(1, 0))` is the largest of three pixels above each
# other. `torch.maximum` takes the larger of two images, pixel by pixel. `old + amount * (new - old)` goes a share of the
# way.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def thicker(images, amount):
#     pool = torch.nn.functional.max_pool2d
#     upright = pool(images, (3, 1), stride=1, padding=(1, 0))
#     level = pool(images, (1, 3), stride=1, padding=(0, 1))
#     return images + amount * (torch.maximum(upright, level) - images)
# ```
#
# </details>
#
# The smallest value of the five makes a line thinner. That is the same as to make the paper thicker: `255 - image`, and
# back. Your function draws both rows:

# %%
amounts = (0, 0.2, 0.4, 0.6, 0.8, 1)
example = digits.train_images[:1].float()
wider = torch.cat([thicker(example, amount) for amount in amounts])
thinner = torch.cat([255 - thicker(255 - example, amount) for amount in amounts])
plots.show(plots.rows_of_digits({"thicker": wider, "thinner": thinner}), options.out, "stroke")

# %% [markdown]
# And here all changes together, as the network meets them:

# %%
hands = replace(recipe.augmentation, hand_probability=1.0)
images, labels = digits.train_images[:4].repeat_interleave(10, 0), digits.train_labels[:4].repeat_interleave(10)
drawn, _ = next(iter(data.InMemoryLoader(images, labels, 40, augmentation=hands, seed=3)))
labels = [f"a {int(label)}" for label in digits.train_labels[:4]]
plots.show(plots.rows_of_digits(dict(zip(labels, drawn.split(10), strict=True))), options.out, "hands")

# %% [markdown]
# ## How to choose for images that one does not have
#
# How much of each? The tempting way is to try, and to look at scikit-learn's digits. Then they would be one more
# validation set, and nobody would know how the network reads the *next* writers.
#
# So the choice is made by MNIST's own validation images: the last 5,000 of the training images, spoilt in twelve ways.
# Thin and thick lines, slants, widths, bends, faint ink, two coarse scanners. Each line below is a network, trained for
# some epochs with seed 1.

# %%
search = json.loads((ROOT / "sessions/S10/search.json").read_text(encoding="utf-8"))
later = [row for row in search if set(TOGETHER) <= set(row["spoilt"])]
first = [row for row in search if row not in later]


def read_in_percent(row: dict, kinds) -> float:
    return statistics.fmean(100 * row["spoilt"][kind] / row["total"] for kind in kinds)


print(f"read in %, of {search[0]['total']:,} validation images each, with seed 1")
print(f"{'epochs':>6}{'as they are':>13}{'spoilt':>8}{'coarsest':>10}  changes to S8 step 7's recipe with one look")
for row in first:
    changes = " ".join(word for word in row["overrides"].replace("augmentation.", "").split() if "epochs" not in word)
    shares = read_in_percent(row, CORRUPTIONS), read_in_percent(row, ["coarse, 7 dots"])
    clean = 100 * row["clean"] / row["total"]
    print(f"{row['epochs']:>6}{clean:>13.2f}{shares[0]:>8.2f}{shares[1]:>10.2f}  {changes or 'none'}")
noisy = [100 * row["spoilt"]["noisy"] / row["total"] for row in first if "noisy" in row["spoilt"]]
print(f"a thirteenth way, noise, in the first {len(noisy)} lines: {' '.join(f'{share:.1f}' for share in noisy)}")
attempt = measured["first attempt"]["correct"]
told = ", ".join(
    f"{name} {100 * statistics.fmean(row[name] for row in attempt) / totals[name]:.2f} %"
    for name in ("mnist", "scikit-learn", "usps")
)
print(f"the first attempt, {len(attempt)} seeds: {told}")

# %% [markdown]
# Read it from the top. By S8 step 7's recipe the network loses almost half of the coarsest images. With all changes at
# once, on every image, that is mended, and the images as they are suffer. So half of the images keep their hand. Smaller
# turns and shifts help the images as they are, and so does a wider network. Without contrast the coarsest images suffer
# again. The last line has the best mean on spoilt images.
#
# One decision was made after a look at the numbers. At first there was a thirteenth way, noise over the whole image. The
# second line's recipe fell apart on it. Noise was then taken out of the measure, because step 1's preparation removes it
# from photos. So this network must not be trusted with noisy images.
#
# ### The first attempt, and what it taught
#
# The last line's amounts, for half of the images and with a teacher, were the first attempt. Five networks of it met
# the other writers once. They read 96.91 % of scikit-learn's digits and 98.14 % of USPS: more than any network before,
# and less than the targets. (USPS was enlarged in another way then. The way of this page was settled by older networks
# alone, before the second attempt; it changes what a network reads of USPS by up to eight images of 2,007.)
#
# No digit of theirs was looked at for what came next. Two things were wrong with the *measure*. It was nearly full: the
# last line reads more than 98 % of what is spoilt in one way. And other writers' digits are not spoilt in one way. They
# come from another hand *and* from another scanner. So the second attempt is chosen by both at once: eight changes of
# the hand and the pen, each seen through 8x8 dots.

# %%
words = [row["overrides"].replace("augmentation.", "").split() for row in later]
print(f"{'epochs':>6}{'seed':>6}{'as they are':>13}{'spoilt':>8}{'both':>8}  changes to the first line")
for row, own in zip(later, words, strict=True):
    told = ("epochs", "seed", "network")
    changes = " ".join(word for word in own if word not in words[0] and not word.startswith(told))
    shares = read_in_percent(row, CORRUPTIONS), read_in_percent(row, TOGETHER)
    clean = 100 * row["clean"] / row["total"]
    print(f"{row['epochs']:>6}{row['seed']:>6}{clean:>13.2f}{shares[0]:>8.2f}{shares[1]:>8.2f}  {changes or 'none'}")

# %% [markdown]
# Look at the seeds first: the first line's recipe with seeds 1, 2 and 3 is up to four tenths of a point apart. So most of
# the lines say what does *not* matter. Stronger changes, a teacher, another rate, no weight decay: all lie within what
# the seed alone moves. Five times the weight decay loses more than that. Then the last two lines: a coarse scanner in
# training is worth a whole point, and the other columns lose nothing.
#
# A word of caution. The augmentation and the measure now know the same trick: both have a scanner. They share no code,
# and the measure's images are validation images. But a network that is trained on coarse dots and judged by coarse dots
# is judged mildly. Only the other writers can tell.
#
# This page's recipe is the last line's, for 40 epochs. At that length it was not tried before its five runs.
#
# ## The batches

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

# %% [markdown]
# ## The network
#
# It is the blueprint of [S8 step 8](../S8/step8_frontier.ipynb), with nearly all the width that 8,000 parameters allow.

# %%
torch.manual_seed(recipe.seed)
model = models.build(models.of(recipe)).to(device)
print(f"{models.count_parameters(model):,} parameters")
print(models.source(models.of(recipe)))

# %% [markdown]
# ## Training
#
# The images are harder than any before, so the recipe takes its time: 40 epochs.

# %% tags=["measured"]
if options.recorded:
    history = records.restore(recipe, model)
else:
    history = training.fit(model, train_batches, test_batches, recipe, options, checkpoint)

# %%
plots.show(plots.curves(history, bound=99.5), options.out, "curves")

# %% [markdown]
# The training images are harder than the test images now. So the training accuracy stays below the test accuracy, and
# that is as it should be.
#
# ## Result

# %%
record = records.make(recipe, options, model, digits, history)
print(records.verdict(targets, record))
records.save(options, record, model)

# %%
print(records.recorded(recipe.step, targets))

# %% [markdown]
# **Predict first.** The network has never seen a digit of another writer, and nothing was chosen by one. How many of
# scikit-learn's digits does it read?
#
# <details><summary>Answer</summary>
#
# 97.18 % as a mean over five seeds: more than any other network of the course, and less than the target.
#
# </details>
#
# Here is the one look at the other writers, for each of the five seeds, and their mean against its target:

# %%
seeds = FOUND[recipe.step]["correct"]
TARGETS = {"mnist": 99.5, "usps": 98.3, "scikit-learn": 97.5, "photos": 97, "thin pens": 95}
heads = "".join(f"{f'seed {seed}':>9}" for seed in range(1, len(seeds) + 1))
print(f"{'':<14}{'images':>8}{heads}{'mean':>9}{'target':>9}")
for which, bound in TARGETS.items():
    each = "".join(f"{100 * row[which] / totals[which]:>9.2f}" for row in seeds)
    mean = share(recipe.step, which)
    print(f"{which:<14}{totals[which]:>8,}{each}{mean:>9.2f}{bound:>9.1f}  {'reached' if mean >= bound else 'missed'}")

# %% [markdown]
# Three of the five are reached, and two are missed: scikit-learn's digits by three tenths of a point, USPS by less than
# two. On scikit-learn's digits no other network of the course reads as many; on USPS this one and S8 step 7 read the same.
# The second attempt gained a quarter of a point on scikit-learn's digits and nothing on USPS, though it reads coarse
# MNIST much better. So with the dots dealt with, what is left there is the writers. It stays at two attempts: a third,
# made after two looks, would begin to fit *these* writers.
#
# Your own kernel can look too. It reads scikit-learn's digits with the network above, and with S8 step 7's, one look each:

# %% tags=["measured"]
step7 = models.load_trained("S8/step7_two_budgets").layers.to(device)
scikit = data.InMemoryLoader(scikit_images, scikit_labels, batch_size=1000, device=device)
for name, network in (("this page", model), ("S8 step 7, one look", step7)):
    right = training.evaluate(network, scikit).correct
    low, high = comparison.wilson(right, len(scikit_labels))
    print(f"{name:<22}{right:>6,} of {len(scikit_labels):,} right, 95 % interval {low:.2f} to {high:.2f} %")

# %% [markdown]
# And MNIST's own test images, spoilt in each of the twelve ways, a thousand of them:

# %% tags=["measured"]
some, labels = digits.test_images[:1000], digits.test_labels[:1000]
read = {"this page": {}, "S8 step 7": {}}
for kind in CORRUPTIONS:
    batches = data.InMemoryLoader(corrupt(some, kind), labels, batch_size=1000, device=device)
    for name, network in (("this page", model), ("S8 step 7", step7)):
        read[name][kind] = (training.evaluate(network, batches).correct, len(labels))
plots.show(plots.spoilt(read), options.out, "spoilt")

# %% [markdown]
# ## The mistakes

# %%
log_probabilities = training.predict(model, scikit)
plots.show(plots.mistakes(scikit_images, scikit_labels, log_probabilities), options.out, "mistakes")

# %% [markdown]
# These are scikit-learn's digits that the network reads wrong. Read them yourself. Of some a person would not be sure
# either: eight times eight dots do not keep everything.
#
# ## Try it yourself: take one change away
#
# The cell trains the recipe on 1,000 images for four epochs, with and without the coarse scanner, and measures both on
# coarse images that are set aside.
#
# **Predict first.** What does it cost to train without the scanner? Write your guess, in points, into `prediction`.
#
# <details><summary>Answer</summary>
#
# So short a training is noisy. Look at the interval before you believe a sign. Then try `augmentation.contrast=0.0`, or
# spoil the images in another way.
#
# </details>

# %% tags=["measured"]
prediction = None  # your guess, such as -5.0
change = "augmentation.scan=0"  # or augmentation.contrast=0.0, augmentation.elastic=0.0, ...


def coarse(images: torch.Tensor) -> torch.Tensor:
    """Seen through a scanner of 7x7 dots."""
    return corrupt(images, "coarse, 7 dots")


small = {"images": 1_000, "epochs": 4, "held_out": 1_000, "spoil": coarse}
tried = experiment(recipe, options, digits, device, change, prediction=prediction, **small)

# %% [markdown]
# ## Analysis
#
# **What worked.** The same budget, the same training images, one look: on scikit-learn's digits 97.18 % where S8 step 7
# has 79.63 %. On MNIST it costs almost nothing: 99.58 %<!--S10/step2_other_writers mean--> after S8 step 7's
# 99.65 %<!--S8/step7_two_budgets mean-->, which has nine views. It reads all photos but one.
#
# **What did not.** USPS gains nothing. Its digits are drawn nearly as clearly as MNIST's, and all networks read them
# alike. What is missing there, this page has not found. And the measure promised more than it kept: a point on
# validation images with another hand and coarse dots became a quarter of a point on other writers.
#
# **What it says about a test set.** A test set answers for images that were made as it was made. S8 step 7 was tuned on
# such images for long, and nothing in its numbers warned of the fall. Spoilt validation images did.
#
# ## Quiz
#
# **Question 1.** Why is the recipe not chosen by scikit-learn's digits?
#
# - **a** There are too few of them.
# - **b** They would then measure how well we chose for *them*, and no longer how it reads writers that nobody knows.
# - **c** The labels are not public.
#
# <details><summary>Answer</summary>
#
# **b.** What is looked at often is fitted, whatever it is called. Not a: 1,797 images tell networks apart that differ by
# two points, and these differ by more. Not c: the labels are there, and that is the temptation.
#
# </details>
#
# **Question 2.** A network reads nearly all of MNIST's test images. What does that say about your photos?
#
# - **a** It reads as many of them.
# - **b** It reads fewer, by about the interval of the test images.
# - **c** Nothing, until photos like yours, prepared as you prepare them, are measured.
#
# <details><summary>Answer</summary>
#
# **c.** The interval is about other images of the *same* kind, so not b. Here one network lost twenty points on digits
# that look much like MNIST's, and others lost four.
#
# </details>
#
# **Question 3.** Coarse dots in training help with coarse scans. What else could have helped, without training?
#
# - **a** To sharpen coarse images before the network reads them.
# - **b** To read each image nine times.
# - **c** A larger test set.
#
# <details><summary>Answer</summary>
#
# **a** might: it makes the images more like the training images, as step 1's preparation does. Not b: nine views of a
# coarse image are nine coarse images; the first table has nine views in S8 step 7's line. A larger test set only measures
# better, so not c.
#
# </details>
