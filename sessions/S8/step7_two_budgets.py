# %% [markdown]
# # S8 step 7: Train for two budgets, and tell the whole history
#
# Six pages took one idea each. Here they work together in two networks: one under 8,000 parameters, the budget of S7, and
# one under 20,000, that of S6. Their test numbers are the course's best. So this page also tells what was tried on the
# way, and how often the test images were looked at.
#
# **What you'll do**
#
# 1. Hold the two designs side by side, with the cost of one look and of nine.
# 2. Work out what Dropout does to a variance, and where no BatchNorm sees it.
# 3. Train both for a minute, after a guess.
# 4. Load the small one, or train it in full, and hold the seeds of both against their bars.
# 5. Count how often the test images were looked at.
# 6. Sort the mistakes of both.
#
# **What you'll learn**: why Dropout and BatchNorm disagree, and what a result with a history is worth.
#
# **What you'll need**: steps 1 to 6, and 30 minutes. A recorded seed took 12 minutes<!--S8/step7_two_budgets minutes--> with the
# small network and 23 minutes<!--S8/under_20k minutes--> with the large one, after the teacher's training.
#
# *Before this*: [step 6](step6_which_change.ipynb), which change did it? *After this*:
# [step 8](step8_frontier.ipynb), how few parameters are enough? The
# [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository; the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | under 8,000 | under 20,000 | why this number |
# |---|---|---|---|
# | parameters | at most 7,904 | fewer than 20,000 | what block 3 has, and the assignment of S6 |
# | epochs | at most 15 | fewer than 20 | the assignments |
# | test accuracy, mean of 10 seeds | at least 99.58 % | at least 99.65 % | 42 and 35 mistakes in 10,000, where both assignments allow 60 |
# | the same, of *every* seed | at least 99.50 % | at least 99.40 % | who trains once should not need luck |
# | the same, in each of the last 3 epochs of every seed | at least 99.45 % | - | S7 asks for "consistently" |
#
# A single run is held against `targets`. The rest needs the ten seeds of the records.

# %%
TRAIN = "recorded"  # what a full run left; "full" trains as the recipe says, "quick" for seconds on a part
try:
    from common.recipe import Augmentation, Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S8/step7_two_budgets",
    epochs=15,
    batch_size=64,
    lr=0.2,
    momentum=0.9,
    nesterov=True,
    one_cycle=0.2,
    weight_decay=1e-4,
    ema_decay=0.998,
    augmentation=Augmentation(rotation=10, translation=0.08, scale=(0.9, 1.1), interpolation="bilinear"),
    teacher="S8/teacher",
    temperature=3,
    alpha=0.9,
)
recipe, options = command_line(recipe, TRAIN)

# %%
SMALL, LARGE = recipe.step, "S8/under_20k"  # under 8,000 and under 20,000 parameters
targets = (
    Target("parameters", "<=", 7_904),
    Target("epochs", "<=", 15),
    Target("test accuracy", ">=", 99.50),
    Target("test accuracy in each of the last 3 epochs", ">=", 99.45),
)

# %%
import contextlib
import io
import math
import statistics
import sys
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from common import data, models, records, training
from common.experiments import frontier, ladder, looks
from common.lesson import Exercises, experiment, plots
from common.records import comparison, search_log
from common.training import distillation

exercises = Exercises(recipe.step)
device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
checkpoint = training.Checkpoint(options, recipe, digits, device)
print(records.head(recipe, options, digits, device))

# %% [markdown]
# The recipe, and the page that explains each part:
#
# | part | page |
# |---|---|
# | the rate rises to 0.2 over a fifth of the run, then falls to nearly 0; Nesterov momentum; an average of the weights (EMA) | [step 1](step1_learning_rate.ipynb) |
# | weight decay on the kernels; each image turned, shifted and scaled anew | [step 2](step2_regularisation.ipynb) |
# | separable convolutions, SiLU | [step 3](step3_cheaper_layers.ipynb) |
# | how far each cell sees | [step 4](step4_where_it_looks.ipynb) |
# | distillation from a teacher; nine looks at each test image | [step 5](step5_teacher_and_looks.ipynb) |
# | what each of these was worth | [step 6](step6_which_change.ipynb) |
#
# ## The data

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
# ## The networks
#
# The small one, as it runs. Its `forward` looks nine times in a test, and once in training.

# %%
torch.manual_seed(recipe.seed)
model = models.build(models.of(recipe)).to(device)
print(models.source(models.of(recipe)))

# %%
large = models.build(LARGE).to(device)
plots.show(plots.network(models.layer_rows(large)), options.out, "network")

# %% [markdown]
# The figure shows the large one: the same plan, wider, and with one more block at the end. Below: what both cost, beside
# S6's step 3; the channels behind each block (a bar is a max-pool); what the cells of the last map see ([step
# 4](step4_where_it_looks.ipynb)).

# %%
designs = {"small": models.build(SMALL), "large": large, "S6 step 3": models.build("S6/part2_step3_global_pooling")}
for name, network in designs.items():
    times, work = 1 if name == "S6 step 3" else 9, sum(row.multiply_adds for row in models.layer_rows(network))
    print(
        f"{name:<10}{models.count_parameters(network):>7,} parameters, {work:>10,} multiply-adds for one look, ", end=""
    )
    print(f"{times * work:>11,} in a test")
one_look = [sum(row.multiply_adds for row in models.layer_rows(network)) for network in designs.values()]
print(f"large against S6 step 3: {100 * (1 - one_look[1] / one_look[2]):.0f} % less work with one look, ", end="")
print(f"{9 * one_look[1] / one_look[2]:.1f} times as much with nine")

# %%
for name in ("small", "large"):
    blocks = [layer for layer in designs[name].layers if isinstance(layer, nn.Sequential | nn.MaxPool2d)]
    widths = " ".join("|" if isinstance(block, nn.MaxPool2d) else str(block[-2].num_features) for block in blocks)
    last = [row for row in models.layer_rows(designs[name]) if row.shape[-1] == 4][-1]
    shared = last.receptive_field - 3 * last.jump
    print(f"{name}: channels {widths}; a cell of 4x4 sees {last.receptive_field} pixels, all share {shared}")

# %% [markdown]
# ## Dropout, where no BatchNorm sees it
#
# The assignment of S6 asks for Dropout. S6's networks have it in front of BatchNorms, and the two disagree ([Li and
# others 2018](https://arxiv.org/abs/1801.05134)). A worked number: a value is always 2. Dropout with p = 0.5 makes it 0 or
# 4, each in half of all cases. The mean is still 2. But the variance is 4 in training, and 0 in a test. A BatchNorm behind
# it learns a variance that the test does not have.
#
# **Yours: the variance under Dropout** (medium, 10 minutes). A value has a mean and a variance. Dropout sets it to 0 with
# probability p, and else divides it by 1 - p. By which factor does its variance grow?


# %%
def variance_factor(p: float, mean: float, variance: float) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


variance_factor = exercises.check(variance_factor, (0.05, 0.0, 1.0), (0.25, 0.2, 0.3), (0.05, 1.0, 0.01))

# %% [markdown]
# <details><summary>Hint</summary>
#
# The mean of the square was `mean**2 + variance`. A share 1 - p survives, divided by 1 - p, so squared by (1 - p)². The
# mean does not change.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def variance_factor(p, mean, variance):
#     square = (mean**2 + variance) / (1 - p)
#     return (square - mean**2) / variance
# ```
#
# </details>
#
# Behind a BatchNorm and a SiLU, as in our networks, a value has this mean and variance:

# %%
inputs = torch.linspace(-9, 9, 180_001, dtype=torch.double)
bell = torch.exp(-(inputs**2) / 2)
bell /= bell.sum()
outputs = functional.silu(inputs)
mean = float((bell * outputs).sum())
variance = float((bell * outputs**2).sum()) - mean**2
print(f"behind SiLU: mean {mean:.3f}, variance {variance:.3f}")
for p in (0.05, 0.1, 0.25):
    print(f"p = {p:<6g}variance in training / in a test: {variance_factor(p, mean, variance):.3f}")

# %% [markdown]
# At p = 0.1 each value has 13 % more variance in training. So the large network has Dropout in one place only: behind the
# last BatchNorm, between the 60 averages and the ten logits. For each training image it sets about six of the 60 to 0,
# drawn anew each time.
#
# Does it help there? A rule was fixed before the first run: Dropout stays unless the seeds show a loss. Five seeds with and
# without it, on the validation images, one comparison:

# %%
large_recipe = replace(records.recipe_of(LARGE, records.load(LARGE)["recipe"]), seed=1)
sides = [search_log.validated(replace(large_recipe, network=name)) for name in ("S8/under_20k_no_dropout", LARGE)]
found = comparison.paired(*sides)
print(f"without {found.first:.3f} %, with {found.second:.3f} %: {found.difference:+.3f} points, ", end="")
print(f"95 % interval {found.low:+.3f} to {found.high:+.3f}, p = {found.p:.2g}: {ladder.verdict(found.p, 1)}")

# %% [markdown]
# The seeds show neither a gain nor a loss. By the rule it stays.
#
# ## Training
#
# ### Both for a minute
#
# **Predict first.** The large network has more than twice the parameters. Both train on 2,000 images for three epochs,
# without a teacher, and are tested with one look. By how many points is the large one ahead?
#
# <details><summary>What came out here, and why</summary>
#
# Here the small one was ahead by 0.13 points, with an interval from -1.14 to +0.87: three short runs do not tell them
# apart. In full the large one is ahead by little.
#
# </details>

# %% tags=["measured"]
prediction = None  # your guess of the difference in points, such as 0.5
brief = replace(recipe, network="S8/under_8k_one_view", teacher="", ema_decay=0.0)
experiment(
    brief,
    options,
    digits,
    device,
    prediction=prediction,
    epochs=3,
    held_out=2_000,
    network=lambda: models.build(LARGE).layers,
)

# %% [markdown]
# ### In full
#
# In a full run the teacher is trained first. The last of its lines has its own test accuracy. The network's training loss has
# the teacher's answers in it, so it cannot be held against the test loss. On a recorded page the lines are seed 1's, and
# a quick run leaves out the teacher's.

# %%
loss_of = None
if not options.recorded:
    with contextlib.redirect_stdout(io.StringIO() if options.quick else sys.stdout):
        loss_of = distillation.make_loss(recipe, digits, options, device)

# %% tags=["measured"]
if options.recorded:
    history = records.restore(recipe, model)
else:
    history = training.fit(model, train_batches, test_batches, recipe, options, checkpoint, loss_of)

# %%
plots.show(plots.curves(history, bound=99.5), options.out, "curves")

# %% [markdown]
# In the last epochs the rate runs out, and the test errors come to rest.
#
# ## Result
#
# This run against the targets that a single run can meet:

# %%
record = records.make(recipe, options, model, digits, history)
print(records.verdict(targets, record))
records.save(options, record, model)

# %% [markdown]
# The recorded seeds of the small network, and its bars:

# %%
print(records.recorded(SMALL, targets))
print(records.bars(SMALL, {"seeds": 10, "mean": 99.58, "minimum": 99.50, "last three": 99.45}))

# %% [markdown]
# And those of the large one:

# %%
large_targets = Target("parameters", "<", 20_000), Target("epochs", "<", 20), Target("test accuracy", ">=", 99.40)
print(records.recorded(LARGE, large_targets))
print(records.bars(LARGE, {"seeds": 10, "mean": 99.65, "minimum": 99.40}))
other = frontier.PUBLISHED[-1]
print(f"for comparison: {other.whose}, {other.parameters:,} parameters: {other.mean:.2f} %")

# %%
for name, step in (("small", SMALL), ("large", LARGE)):
    mean = statistics.fmean(comparison.accuracies(step).values())
    luck = 1.96 * math.sqrt(mean * (100 - mean) / 10_000)  # in points, where both factors are in per cent
    print(f"{name}: the luck of 10,000 images, 95 % interval {mean:.2f} % plus and minus {luck:.2f} points")

# %% [markdown]
# All bars are met. Three things belong beside these numbers.
#
# - **A teacher and nine looks.** The same recipe without them stands below. By one look we had wanted 99.60 % of the small
#   network and 99.68 % of the large one. Both are missed. (These are runs of their own, in 32 bits. The small one's
#   record has 16.)
# - **Two kinds of luck are not in the seeds' interval.** That of the images is printed above. That of the teacher is not
#   known: all seeds learned from one ([step 5](step5_teacher_and_looks.ipynb)).
# - **Other writers.** The small network reads some of them badly ([S10](../S10/step2_other_writers.ipynb)).

# %%
for name, how, wanted in (("small", "without a teacher", 99.60), ("large", "large, without a teacher", 99.68)):
    for count in ("one look", "nine looks"):
        values = looks.accuracies(how, count.split()[0]).values()
        print(f"{name}, without a teacher, {count:<11} mean {statistics.fmean(values):.2f} %, ", end="")
        print(
            f"lowest {min(values):.2f}, {len(values)} seeds",
            f"(wanted: a mean of {wanted:.2f})" * (count == "one look"),
        )

# %% [markdown]
# ## The history, and how often the test images were looked at
#
# Each choice between two recipes was made by training images: [step 6](step6_which_change.ipynb) shows the log. But
# the test images had a say twice.
#
# 1. The search first ended at rung 6 of the ladder: block 3's network, trained better. Ten seeds were tested, and missed
#    the bars.
# 2. It went on to rung 8, with separable convolutions and SiLU. Six seeds were tested, and missed the bars.
# 3. It went on to the teacher and the nine looks. Ten seeds were tested: the result above.
# 4. The large network got this recipe. Ten seeds were tested, once. (The Dropout comparison came later, and changed
#    nothing.)
#
# *That* the search went on, twice, was decided by test images. The bars stayed as they were. The
# [log of the drafts](../../sessions/S8/records/README.md) also quotes test numbers of the first two forms, and argues from
# them. All four, after each seed's last epoch:

# %%
folder = records.path_of(SMALL).parent / "earlier"
forms = {"rung 6": records.load(folder / "under_8k_rung6.json"), "rung 8": records.load(folder / "under_8k_rung8.json")}
forms |= {"small": records.load(SMALL), "large": records.load(LARGE)}
passes = 0
for name, form in forms.items():
    runs = records.runs(form)
    values = [records.accuracy(run) for run in runs]
    passes += sum(len(run["history"]) for run in runs)
    print(f"{name:<8}{len(runs):>3} seeds, mean {statistics.fmean(values):.2f} %, lowest {min(values):.2f}, ", end="")
    print(f"lowest of the last 3 epochs {comparison.lowest(runs, 3):.2f}")
print(f"{passes} times all test images were read: each run reads them after each epoch")

# %%
last = comparison.accuracies(SMALL)
for name in ("rung 6", "rung 8"):
    found = comparison.paired({run["seed"]: records.accuracy(run) for run in records.runs(forms[name])}, last)
    print(f"from {name} to the small network: {found.difference:+.3f} points, 95 % interval ", end="")
    print(f"{found.low:+.3f} to {found.high:+.3f} ({found.seeds} pairs, one of 2 comparisons on test images)")

# %% [markdown]
# So 36 runs read the test images 540 times, and results were judged by them four times. No epoch and no seed was
# picked: the last epoch counts, and every seed is in its record. Two uses are not counted. Each run of a page reads them again. And
# the idea of a falling rate is older than the search: [blocks 2 and 3](../S7/block3.ipynb) had tried it on test images.
#
# What does such a history do to a number? Three forms were held against one bar, and we stopped at the first that met it.
# Three tries have more luck than one. But both intervals lie well above 0, so luck is no likely reason for all of the
# gain. Fresh images would settle it. MNIST has none left.
#
# ## The mistakes of both
#
# The trained networks on the test images, with one look and with nine.

# %% tags=["measured"]
truth, answers = digits.test_labels, {}
for name, network in (("small", model), ("large", models.load_trained(LARGE).to(device))):
    each = looks.look(network.layers, digits.test_images)  # [9, images, 10], log-probabilities look by look
    one, answers[name] = each[0].argmax(dim=1), each.mean(dim=0).log_softmax(dim=1)
    first, nine = one != truth, answers[name].argmax(dim=1) != truth
    print(f"{name}: wrong with one look {int(first.sum())}, with nine {int(nine.sum())}; ", end="")
    print(f"mended {int((first & ~nine).sum())}, broken {int((nine & ~first).sum())}")

# %% [markdown]
# **Yours: whose mistakes?** (easy, 5 minutes). Both arguments are [N], True where a network misreads an image. Return
# how many both misread, how many only the first one does, and how many only the second one.


# %%
def whose(first: torch.Tensor, second: torch.Tensor) -> tuple[int, int, int] | None:
    # Your lines here. Then return your three numbers instead of None.
    return None


flags = torch.arange(12)
whose = exercises.check(whose, (flags % 2 == 0, flags % 3 == 0), (flags > 3, flags > 8))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `first & ~second` is True where only the first one is wrong. `int(....sum())` counts.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def whose(first, second):
#     return int((first & second).sum()), int((first & ~second).sum()), int((~first & second).sum())
# ```
#
# </details>

# %% tags=["measured"]
wrong = {name: said.argmax(dim=1) != truth for name, said in answers.items()}
both, only_small, only_large = whose(wrong["small"], wrong["large"])
print(f"misread by both {both}, only by the small one {only_small}, only by the large one {only_large}")
before = training.predict(models.load_trained("S7/block3").to(device), test_batches["held-out"]).argmax(dim=1) != truth
shared, only_before, only_now = whose(before, wrong["small"])
print(f"block 3 and the small one: both {shared}, only block 3 {only_before}, only the small one {only_now}")

# %%
shown = (wrong["small"] & wrong["large"]).nonzero().flatten()[:12]
read = {name: said.argmax(dim=1) for name, said in answers.items()}
captions = [f"label {truth[k]}\nsmall {read['small'][k]}, large {read['large'][k]}" for k in shown]
figure = plots.grid(digits.test_images[shown], captions, title="misread by both", places=12)
plots.show(figure, options.out, "mistakes")

# %% [markdown]
# They have 21 mistakes in common, more than each has alone. How would you read these digits? Another reason may be that
# both learned from the same images, and from teachers of one recipe.
#
# Were block 3's mistakes mended, or swapped? The small network reads 47 images that block 3 misreads, and misreads 18 that
# block 3 reads. So most were mended, and some were swapped.
#
# ## Analysis
#
# **What the budget bought.** As means over the seeds: block 3 has 66<!--S7/block3 wrong--> mistakes in 10,000, the small
# network 35<!--S8/step7_two_budgets wrong-->, the large one 30<!--S8/under_20k wrong-->. These five mistakes took more than
# twice the parameters.
#
# **What cannot be said.** Which difference from S6 step 3 did it: nearly everything has changed, and only Dropout was
# compared alone.
#
# ## Quiz
#
# **Question 1.** Why does the large network's Dropout stand behind the last BatchNorm?
#
# - **a** There it removes the fewest values.
# - **b** A BatchNorm behind it would learn a variance that the test does not have.
# - **c** BatchNorm would undo it.
#
# <details><summary>Answer</summary>
#
# **b.** Dropout raises the variance in training only. With a, the number depends on the dose. With c, a value that is
# missing stays missing.
#
# </details>
#
# **Question 2.** Each single choice was made by training images. In what had the test images a say?
#
# - **a** In nothing.
# - **b** In the choice of the epoch.
# - **c** In the decision to go on searching, twice.
#
# <details><summary>Answer</summary>
#
# **c.** Two forms were tested and missed their bars, so a is wrong. The epoch was always the last, so b is wrong.
#
# </details>
#
# **Question 3.** The large network computes less than S6's step 3 with one look. What does a test of it cost?
#
# - **a** Less as well.
# - **b** The same.
# - **c** More than eight times as much.
#
# <details><summary>Answer</summary>
#
# **c.** It looks nine times. Only the parameters are as many.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. One plan in two widths: 7,552 and 19,760 parameters. A test takes nine looks, and so nine times the work.
# 2. Dropout raises the variance in training only. Behind the last BatchNorm it does no harm that five seeds could show.
# 3. After a minute on 2,000 images the two could not be told apart.
# 4. 10<!--S8/step7_two_budgets seeds--> seeds each: means of 99.65 %<!--S8/step7_two_budgets mean--> and
#    99.70 %<!--S8/under_20k mean-->, lowest 99.60 %<!--S8/step7_two_budgets minimum--> and
#    99.67 %<!--S8/under_20k minimum-->. All bars are met.
# 5. Two earlier forms had missed the bars on the test images. These were read 540 times in the recorded runs.
# 6. 21 mistakes are common to both, 14 are the small network's alone, 9 the large one's.
