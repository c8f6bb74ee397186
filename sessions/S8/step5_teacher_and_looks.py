# %% [markdown]
# # S8 step 5: Learn from a teacher, and look several times
#
# Two ideas that leave the number of parameters alone. One changes what a network learns from: the answers of a larger
# one. The other changes how it is asked: nine times about each image. Neither is free. Only one of them shows.
#
# **What you'll do**
#
# 1. Soften a teacher's answers, and write the distance that a student has from them.
# 2. Let a small teacher teach for a minute, after a guess of what that brings.
# 3. Write the average over nine looks, and count the images that it mends and those that it breaks.
# 4. Put the luck of the images and the luck of the seeds side by side, and say whose luck is missing.
#
# **What you'll learn**: distillation, temperature, test-time augmentation.
#
# **What you'll need**: [how sure?](../S6/part2_step3_how_sure.ipynb) for the standard error and the sign test, and 30
# minutes. The computer needs about two minutes.
#
# *Before this*: [step 4](step4_where_it_looks.ipynb), where a network looks. *After this*:
# [step 6](step6_which_change.ipynb), which change did it? The
# [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository; the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why |
# |---|---|---|
# | each accuracy with nine looks | has the one with one look beside it | nine looks cost nine times the work |
# | images mended and images broken | both counted, over all test images | two accuracies show only their difference |
# | each interval | says whose luck it leaves out | the students of a record have one teacher |

# %%
TRAIN = "recorded"  # the small experiment trains in any case; "quick" makes them tiny
try:
    from common.recipe import Augmentation, Recipe, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

moves = Augmentation(rotation=10, translation=0.08, scale=(0.9, 1.1), interpolation="bilinear")
recipe = Recipe(
    step="S8/step5_teacher_and_looks",
    network="S8/under_8k_one_view",  # the network of 7,552 parameters, which step 7 trains in full
    **{"epochs": 5, "batch_size": 64, "lr": 0.1, "momentum": 0.9, "nesterov": True, "one_cycle": 0.2},
    **{"weight_decay": 1e-4, "augmentation": moves, "temperature": 3, "alpha": 0.9},
)
recipe, options = command_line(recipe, TRAIN)

# %%
import math
import statistics

import torch
from torch.nn.functional import nll_loss

from common import data, models, training
from common.experiments import ladder, looks
from common.lesson import Exercises, experiment, plots
from common.models import test_time_augmentation
from common.records import comparison

exercises = Exercises(recipe.step)
device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
print(digits)

# %% [markdown]
# ## A teacher
#
# A label says "4", whether the four is a clear one or half a nine. A large network that has been trained says more: "4,
# and a little like a 9". [Hinton, Vinyals and Dean 2015](https://arxiv.org/abs/1503.02531) let a small network learn from
# such answers. This is **distillation**. The large network is the *teacher*, the small one the *student*.
#
# But on its training images a teacher is nearly certain, and its second thoughts are too small to be heard. So its logits
# are divided by a number before the softmax, the **temperature** T. Take three classes with the logits 6, 3 and 0:

# %%
logits = torch.tensor([6.0, 3.0, 0.0])
for temperature in (1, 3, 6):
    print(f"T = {temperature}   " + "  ".join(f"{share:.3f}" for share in (logits / temperature).softmax(dim=0)))

# %% [markdown]
# At T = 3 the second class has a quarter instead of a twentieth. The order never changes.
#
# Here is what the network of [S7 block 1](../S7/block1.ipynb) says. Of the first 1,000 training images this is the one on
# which its answer comes closest to a draw.

# %% tags=["measured"]
teacher = models.load_trained("S7/block1").to(device)
some = slice(0, 1_000)
with torch.no_grad():
    said = teacher(data.normalise(digits.train_images[some]).to(device)).cpu()
two = said.exp().topk(2, dim=1).values
unsure = int((two[:, 0] - two[:, 1]).argmin())
soft = {f"T = {T}": (said[unsure] / T).softmax(dim=0) for T in (1, 3, 6)}
plots.show(plots.softened(digits.train_images[unsure], soft, int(digits.train_labels[unsure])), options.out, "softened")
print(f"typical answer at T = 1: {100 * two[:, 0].median():.3f} % for one digit")

# %% [markdown]
# (Log-probabilities may stand in the place of logits: softmax gives the same.)
#
# How far is the student's answer q, at the same temperature, from the teacher's p? The usual measure is the
# **Kullback-Leibler divergence**: the sum of p (log p - log q) over the classes. It is 0 where both agree, and never
# negative. Its gradient shrinks like 1 / T², so it is multiplied by T².
#
# **Yours: the distance** (medium, 10 minutes). Both arguments are log-probabilities, [images, 10]. Soften both, and
# return T² times the divergence, as a mean over the images.


# %%
def distance(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor | None:
    # Your lines here. Then return your result instead of None.
    return None


two_sides = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(1)).log_softmax(dim=2)
distance = exercises.check(distance, (*two_sides, 3.0), (*two_sides, 1.0), (two_sides[0], two_sides[0], 3.0))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `(student / temperature).log_softmax(dim=1)` is log q. For p, take the `exp()` of log p. Sum over `dim=1`, then
# `mean()`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def distance(student, teacher, temperature):
#     log_q = (student / temperature).log_softmax(dim=1)
#     log_p = (teacher / temperature).log_softmax(dim=1)
#     return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()
# ```
#
# </details>
#
# The label is not forgotten. The loss is alpha times the distance, plus 1 - alpha times what it was before. This
# **distillation weight** is 0.9 here.


# %%
def taught(images: torch.Tensor, student: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of a batch: your distance from the teacher's answers, and the labels."""
    with torch.no_grad():
        answers = teacher(images)
    by_label = nll_loss(student, labels)
    return recipe.alpha * distance(student, answers, recipe.temperature) + (1 - recipe.alpha) * by_label


# %% [markdown]
# **Predict first.** The student trains on 2,000 images for five epochs, once on the labels alone and once with `taught`.
# By how many points does the teacher help, on 5,000 other training images? Write it into `prediction`.
#
# <details><summary>What came out here, and why</summary>
#
# Here it helped by 0.35 points, with an interval from +0.15 to +0.55. The teacher was trained on all 60,000 images: it
# hands on what it learned from images that the student never sees. (The 5,000 are among them.)
#
# But we had tried the ladder's peak rate first, 0.2 instead of 0.1. There one pair lost, and the interval held 0. So this
# gain is an example and no proof.
#
# </details>

# %% tags=["measured"]
prediction = None  # your guess of the difference in points, such as 0.5
experiment(recipe, options, digits, device, "", loss=taught, prediction=prediction)

# %% [markdown]
# ### What it was worth in full
#
# The ladder has ten changes to a recipe, one at a time, measured on 5,000 validation images
# ([step 6](step6_which_change.ipynb)). Its teacher, `S8/teacher`, is another case than ours: it has the student's own
# images and no others, and more parameters.

# %%
print(ladder.line("a teacher"))
print("seed by seed:", "  ".join(f"{value:+.2f}" for value in ladder.differences("a teacher").values()))

# %% [markdown]
# The mean is positive, and chance alone could have made it. This does not show that the teacher helped, nor that it did
# not.
#
# **What it costs.** Nothing in a test. But the teacher has to be trained first, and then asked about every batch.

# %%
student, large = models.build(recipe.network), models.build("S8/teacher")
for name, network in (("student", student), ("S8/teacher", large), ("S7/block1", teacher)):
    work = sum(row.multiply_adds for row in models.layer_rows(network))
    print(f"{name:<12}{models.count_parameters(network):>9,} parameters {work:>12,} multiply-adds for one look")

# %% [markdown]
# **The ceiling.** What does the teacher read itself? It has no record. Four full runs trained it, with seed
# 1 on different machines, and printed its test accuracy, with one look:

# %%
PRINTED = {"of step 7, small": 9_972, "of step 7, large": 9_971, "of seeds 1 to 6 below": 9_970}
PRINTED |= {"of seeds 7 to 10 below": 9_975}  # of 10,000 test images
for name, right in PRINTED.items():
    print(f"the teacher {name:<24}{right / 100:.2f} %")

# %% [markdown]
# A full run of [step 7](step7_two_budgets.ipynb) trains it again and prints its epochs.
#
# **One teacher's luck.** All seeds of a record learn from *one* teacher, of seed 1. Had it been a luckier one, all of them
# might be better together. So the interval over the seeds leaves the teacher's luck out. Several teachers would bring it
# in. (The runs below have two, since the second machine had to train it again. Two are too few to say what luck does.)
#
# ## Nine looks
#
# A digit that is shifted by a pixel is the same digit. Yet a network's answer changes, and where it is in doubt it may tip
# over. **Test-time augmentation** asks several times, each time about the image moved a little, and averages the answers.
# The network that won ImageNet did so with ten looks
# ([Krizhevsky, Sutskever and Hinton 2012](https://papers.nips.cc/paper/4824)). Our nine: as it is, shifted by a pixel four
# ways, turned two ways, smaller, larger.

# %%
views = test_time_augmentation.augment_views(data.normalise(digits.train_images[:1]))
names = [f"{turn:+d} degrees" if turn else f"x {scale:g}" if scale != 1 else f"right {x:+d}, down {y:+d}"
         for turn, x, y, scale in test_time_augmentation.VIEWS]  # fmt: skip
plots.show(plots.grid(views, ["as it is", *names[1:]], columns=9), options.out, "nine_looks")

# %% [markdown]
# **Yours: the average** (easy, 5 minutes). `answers` are log-probabilities, [looks, images, 10]. Average them over the
# looks, and make log-probabilities of the result again, [images, 10].


# %%
def together(answers: torch.Tensor) -> torch.Tensor | None:
    # Your line here. Then return your result instead of None.
    return None


together = exercises.check(together, (two_sides,), (two_sides[:1],))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `mean(dim=0)`, then `log_softmax(dim=1)`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def together(answers):
#     return answers.mean(dim=0).log_softmax(dim=1)
# ```
#
# </details>
#
# Now the recorded network of 7,552 parameters, on all test images and on the last 5,000 training images, which it was
# trained on.
#
# **Predict first.** Of 10,000 test images, how many does it misread with one look and read with nine? And the other way
# round?
#
# <details><summary>Answer</summary>
#
# Nine looks mend 5 images and break 2. The difference of 3 is all that the two accuracies show.
#
# </details>

# %% tags=["measured"]
small = models.load_trained("S8/step7_two_budgets").layers.to(device)
tested = {"test images": (digits.test_images, digits.test_labels)}
tested["training images"] = digits.train_images[-5_000:], digits.train_labels[-5_000:]
found = {}
for name, (images, labels) in tested.items():
    answers = looks.look(small, images)  # [9, images, 10]; the first look is the image as it is
    one, nine = answers[0].argmax(dim=1) == labels, together(answers).argmax(dim=1) == labels
    found[name] = answers, (nine & ~one).nonzero().flatten(), (one & ~nine).nonzero().flatten()
    print(f"{len(labels):,} {name}: right with one look {int(one.sum()):,}, with nine {int(nine.sum()):,}; ", end="")
    print(f"mended {len(found[name][1])}, broken {len(found[name][2])}")

# %% [markdown]
# On the test images nine looks are ahead by three images. Is that chance? Of the 2 to the power 7 ways in which seven
# coins fall, 2 x (1 + 7 + 21) are as far apart or farther: nearly half. On the training images they mend as many as they
# break.
#
# One training image that they mend, and one that they break. Above each look: the probability that it gives to the label.

# %% tags=["measured"]
answers, mended, broken = found["training images"]
images, labels = tested["training images"]
chosen = [int(indices[0]) if len(indices) else 0 for indices in (mended, broken)]  # 0: a quick run may have none
shown = [test_time_augmentation.augment_views(data.normalise(images[one, None])) for one in chosen]
captions = [f"{int(labels[one])}: {answers[k, one, labels[one]].exp():.2f}" for one in chosen for k in range(9)]
both = torch.cat(shown)
plots.show(plots.grid(both, captions, columns=9, places=18), options.out, "mended_and_broken")
for one in chosen:
    label = int(labels[one])
    first, average = answers[0, one, label].exp(), together(answers[:, one, None])[0, label].exp()
    print(f"probability of the {label}: one look {first:.2f}, nine looks {average:.2f}")

# %% [markdown]
# The 0 is open on the left, and with nine looks it just wins. Of the 5 the image as it is was the surest look of all; the
# average falls below a half.
#
# ### What nine looks were worth in full
#
# The ladder's top rung, on validation images. The networks are those of the rung "a teacher", asked nine times:

# %%
print(ladder.line("nine views"))
one, nine = (ladder.rung(title).validated() for title in ("a teacher", "nine views"))
print(f"{'right of 5,000':<16}" + "".join(f"  seed {seed}" for seed in one))
for name, side in (("one look", one), ("nine looks", nine)):
    print(f"{name:<16}" + "".join(f"{round(50 * value):>8,}" for value in side.values()))

# %% [markdown]
# Less than half an image for each seed. **What it costs**: nine times the multiply-adds, in every test, for ever.
#
# ## Result: one look always beside nine
#
# The recipe of [step 7](step7_two_budgets.ipynb) in full, with a teacher and without. Nine looks belong to the test alone. So each
# trained network was tested both ways, on the test images, after its last epoch. (These are runs of their own, in 32
# bits. The ten of step 7's record have 16.)

# %%
print(f"{'':<20}{'one look':>12}{'nine looks':>14}")
for how in looks.SMALL:
    ways = [looks.accuracies(how, count) for count in ("one", "nine")]
    means = [statistics.fmean(side.values()) for side in ways]
    print(f"{how:<20}{means[0]:>10.2f} %{means[1]:>12.2f} %   {len(ways[0])} seeds")

# %% [markdown]
# Four comparisons, seed by seed. By the [rule of the ladder](step6_which_change.ipynb) one of four is told from chance
# if p is below `0.05 / 4`.

# %%
comparisons = {"nine looks instead of one, " + how: ((how, "one"), (how, "nine")) for how in looks.SMALL}
comparisons |= {f"a teacher, {count} look{'s' * (count == 'nine')}": (("without a teacher", count), ("with a teacher", count))
                for count in ("one", "nine")}  # fmt: skip
for title, sides in comparisons.items():
    told, (before, after) = looks.paired(*sides), [looks.accuracies(*side) for side in sides]
    gained = sum(after[seed] > before[seed] for seed in before.keys() & after.keys())
    print(f"{title}: {told.difference:+.3f} points, 95 % interval {told.low:+.3f} to {told.high:+.3f}")
    print(f"    {gained} of {told.seeds} seeds gained, p = {told.p:.2g}: {ladder.verdict(told.p, len(comparisons))}")

# %%
for how in looks.SMALL:
    sums = {what: sum(run[what] for run in looks.recorded()[how]) for what in ("mended", "broken", "total")}
    print(f"{how}: nine looks mended {sums['mended']} answers and broke {sums['broken']}, of {sums['total']:,}")

# %% [markdown]
# **Nine looks help.** All twenty networks read more with them. It is a small gain, four or five of 10,000 images, for
# nine times the work. The ladder could not tell it from chance: it had five seeds on half as many images.
#
# **The teacher does not show.** Neither line tells a gain from chance. Both intervals reach from nothing to more than
# nine looks bring.
#
# The mean of the ten seeds of step 7's record has two kinds of luck. One interval is over the seeds. The other is over
# the images: the mean plus and minus 1.96 standard errors.

# %%
ten = list(comparison.accuracies("S8/step7_two_budgets").values())
low, high = comparison.interval(ten)
mean = statistics.fmean(ten)
error = math.sqrt(mean * (100 - mean) / 10_000)  # in points, where both factors are in per cent
rows = {"luck of the seeds": (mean, low, high)}
rows["luck of the images"] = mean, mean - 1.96 * error, mean + 1.96 * error
print(f"standard error over the images {error:.3f} points, so {1.96 * error:.2f} points either way")
for name, (_, least, most) in rows.items():
    print(f"{name:<20}{mean:.2f} %, 95 % interval {least:.2f} to {most:.2f} %")
plots.show(plots.intervals(rows, "test accuracy in per cent"), options.out, "two_kinds_of_luck")

# %% [markdown]
# The second is more than four times as wide. The narrow one says what other seeds would read of *these* images, the wide
# one what these would read of others. Neither has the teacher's luck in it.
#
# ## Analysis
#
# Two well-known ideas. Nine looks gain a little, and it took ten seeds each way to see it. What a teacher gains is not told from
# chance here, neither in the ladder nor in full. Both belong to a recipe of ten changes. Which of these did most is the
# question of the next step. One thing stays open: what the students of another teacher would read.
#
# ## Quiz
#
# **Question 1.** What does a higher temperature change in a teacher's answer?
#
# - **a** The digit that it thinks most probable.
# - **b** How far its probabilities lie apart.
# - **c** Its weights.
#
# <details><summary>Answer</summary>
#
# **b.** They come closer to each other. The order stays, so a is wrong. Nothing is trained, so c is wrong.
#
# </details>
#
# **Question 2.** Ten students with ten seeds learn from one teacher. What does their 95 % interval leave out?
#
# - **a** The luck of the first weights.
# - **b** The luck of the order of the images.
# - **c** The luck of the teacher.
#
# <details><summary>Answer</summary>
#
# **c.** All ten share it. a and b differ from student to student, so the interval holds them.
#
# </details>
#
# **Question 3.** Nine looks read 3 of 10,000 images more. Why does that not show that they harmed no image?
#
# - **a** Because 3 is a difference: some images were mended and others broken.
# - **b** Because the accuracy was rounded.
# - **c** Because the images were augmented in training.
#
# <details><summary>Answer</summary>
#
# **a.** Here 5 were mended and 2 broken. With b, counts are not rounded. c is true, and says nothing about these counts.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. Divided by a temperature, a teacher's logits show its second thoughts. The student's distance from them is T² times
#    the Kullback-Leibler divergence.
# 2. For a minute, on 2,000 images, a teacher helped by 0.35 points, at a rate that we had picked. In full its gain is not
#    told from chance.
# 3. Nine looks read four or five of 10,000 images more, in all of twenty networks, for nine times the work. In the
#    recorded network they mend 5 and break 2.
# 4. The luck of 10,000 images is about 0.12 points either way, more than four times that of ten seeds. The teacher's luck
#    is in neither.
