# %% [markdown]
# # S8 step 1: Let the learning rate rise and fall, and average what is left
#
# Block 3 kept one learning rate from the first batch to the last, and its test curve never settled. This page keeps
# the network and changes how the weights move, in three ways.
#
# **What you'll do**
#
# 1. Write a learning rate that rises and falls, train with it, and look inside the network at its peak.
# 2. Walk down a valley with plain momentum and with Nesterov's.
# 3. Average the weights over many steps, and watch the average from epoch to epoch.
# 4. Read what each of the three added, over five seeds.
#
# **What you'll learn**: one-cycle rate, effective rate, dead channels, Nesterov momentum, a moving average of the
# weights.
#
# **What you'll need**: [S7 block 3](../S7/block3.ipynb), [S6 part 2, step 3](../S6/part2_step3_how_sure.ipynb) for
# intervals, and 30 minutes. The computer trains for about a minute.
#
# *Before this*: [S7 block 3](../S7/block3.ipynb). *After this*: [step 2](step2_regularisation.ipynb), what
# regularises. The [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository; the [notes on
# it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | your one-cycle rate | equal to the course's own in every step | it is what the recorded runs were trained with |
# | your Nesterov step | equal to PyTorch's after 40 steps | a formula that we use has to be the right one |
# | each of the three changes | a difference over 5 seeds, with its interval and a verdict | a better mean alone may be luck |
#
# The recipe is block 3's. The network is block 3's too, without its Dropout; [step 2](step2_regularisation.ipynb)
# shows what that changes.

# %%
TRAIN = "recorded"  # this page has no run of its own: "full" does the same, "quick" takes fewer images
try:
    from common.recipe import Augmentation, Recipe, command_line, with_overrides
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S8/step1_learning_rate",
    network="S8/under_8k_dense",
    epochs=14,
    batch_size=64,
    lr=0.02,
    momentum=0.8,
    augmentation=Augmentation(rotation=5, crop_probability=0.1),
)
recipe, options = command_line(recipe, TRAIN)

# %%
import contextlib
import copy
import dataclasses
import math
from statistics import fmean

import torch
from torch import nn

from common import data, models, training
from common.experiments import ladder
from common.lesson import Exercises, experiment, plots
from common.system.errors import UserError
from common.training import optimizers

exercises = Exercises(recipe.step)
device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
print(digits)
print("This page trains small networks of its own, and reads recorded runs.")

# %% [markdown]
# ## The rate: up, then down
#
# A high rate gets far in few steps. But each step follows one batch of 64 images, and another batch would have pointed
# elsewhere. A high rate keeps this noise large. A low rate has little noise, and gets nowhere soon. So let the rate
# change during the run.
#
# The **one-cycle rate** starts low, rises to a peak, and then falls to 0 ([Smith and
# Topin](https://arxiv.org/abs/1708.07120)). Both ways follow half a cosine:
#
#     rising:   rate = start + (peak - start) (1 - cos(pi s)) / 2      start = peak / 25
#     falling:  rate = peak (1 + cos(pi s)) / 2
#
# Here s goes from 0 to 1, once over the rise and once over the fall. By hand: a quarter of the way down, s = 0.25, and
# cos(pi s) is 0.707. So the rate is 0.854 of the peak. The fall begins gently.

# %%
print(f"s = 0.25: cos(pi s) = {math.cos(math.pi * 0.25):.3f}, rate = {(1 + math.cos(math.pi * 0.25)) / 2:.3f} peak")

# %% [markdown]
# **Yours: the one-cycle rate** (medium, 10 minutes). Return the rate of step 0, 1, 2, ... of a run with so many
# `steps`. The rise takes the share `rise` of all steps, the fall takes the rest.


# %%
def one_cycle(step: int, steps: int, peak: float, rise: float) -> float | None:
    # Your lines here, with math.cos and math.pi. Then return your result instead of None.
    return None


cases = [(step, 1_000, 0.1, 0.2) for step in (0, 100, 200, 600, 999)]
one_cycle = exercises.check(one_cycle, *cases, (30, 40, 0.5, 0.5))

# %% [markdown]
# <details><summary>Hint</summary>
#
# The peak is at step `rise * steps`. Before it, s is the step divided by that number. After it, s is what has passed
# since the peak, divided by `steps - rise * steps`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def one_cycle(step, steps, peak, rise):
#     top = rise * steps
#     if step < top:
#         start = peak / 25
#         return start + (peak - start) * (1 - math.cos(math.pi * step / top)) / 2
#     down = (step - top) / (steps - top)
#     return peak * (1 + math.cos(math.pi * down)) / 2
# ```
#
# </details>
#
# Now your rate over a whole run on MNIST, beside block 3's. The two recipes have different momenta, and [momentum
# makes steps longer](../S5/step1_first_network.ipynb): where all gradients agree, 1 / (1 - momentum) times as long. So
# we compare the [effective learning rate](../S7/block3.ipynb),
# rate / (1 - momentum).

# %%
CYCLE = "lr=0.2 momentum=0.9 one_cycle=0.2"  # what this page adds to block 3's recipe
cycle = with_overrides(recipe, CYCLE)
EPOCHS, EPOCH = 15, math.ceil(60_000 / recipe.batch_size)  # EPOCH: the steps of one epoch of MNIST
ours = [one_cycle(step, EPOCHS * EPOCH, cycle.lr, cycle.one_cycle) for step in range(EPOCHS * EPOCH)]
theirs = [cycle.lr * optimizers.one_cycle(step / len(ours), cycle.one_cycle) for step in range(len(ours))]
same = all(math.isclose(one, other, abs_tol=1e-12) for one, other in zip(ours, theirs, strict=True))
print(f"{len(ours):,} steps; equal to the course's own in every step: {same}")

# %%
block3 = [recipe.lr / (1 - recipe.momentum)] * (recipe.epochs * EPOCH)
effective = [rate / (1 - cycle.momentum) for rate in ours]
curves = {"block 3": (recipe.epochs, block3), "one cycle": (EPOCHS, effective)}
plots.show(plots.effective_rates(curves), options.out, "rates")

# %%
print(f"effective rate of block 3      {block3[0]:.2f}, always")
print(f"peak of the cycle              {max(effective):.2f}, after {ours.index(max(ours)) / EPOCH:.1f} epochs")
print(f"mean                           {fmean(effective):.2f}")

# %% [markdown]
# So the cycle is more than a shape. Its peak is 20 times block 3's rate, its mean ten times, and it has one epoch more.
#
# **Experiment.** 2,000 images, four epochs, three seeds. By how many points is the cycle better than block 3's rate?
# Write your guess into `prediction`. The second cell then compares the cycle with its own peak, held all the way.

# %% tags=["measured"]
prediction = None  # your guess in points, such as 0.5
small = {"images": 2_000, "epochs": 4, "held_out": 2_000}
found = experiment(recipe, options, digits, device, CYCLE, prediction=prediction, **small)

# %% tags=["measured"]
peak_held = with_overrides(cycle, "one_cycle=0.0")  # the peak, from the first step to the last
found = experiment(peak_held, options, digits, device, "one_cycle=0.2", **small)

# %% [markdown]
# In both cells every seed gained by the cycle. Against block 3's rate the [95 %
# interval](../S6/part2_step1_dense_head.ipynb) contains 0 all the same: from -15.40 to +31.73, because one seed gained
# so much more than the others. Against the peak held it goes from +0.37 to +4.17. So the height is not all. The fall
# helps too, in this short training.
#
# ### What lets the network bear such a rate?
#
# Behind every ReLU stands a [BatchNorm](../S6/part2_step1_dense_head.ipynb). We take all eight out, and note each
# channel's standard deviation in every step. A **dead channel** is 0 in the whole batch: no gradient passes its ReLU,
# so its kernel learns nothing from it. (All networks here begin with [larger
# weights](https://arxiv.org/abs/1502.01852), which keep the size of the values from block to block.)
#
# **Predict first.** Without BatchNorm, what do the values do at block 3's rate, and what at the peak?
#
# <details><summary>Answer</summary>
#
# At block 3's rate they drift. At the peak the steps are too long: channels fall to 0 in every image, and die.
#
# </details>


# %%
def loader(some: slice, batch_size: int, **settings):
    images, labels = digits.train_images[some], digits.train_labels[some]
    return data.InMemoryLoader(images, labels, batch_size, device=device, **settings)


count = 128 if options.quick else 2_000
seen, aside = slice(0, count), loader(slice(-count, None), 1_000)


# %%
def watched(recipe: Recipe, with_norm: bool) -> tuple[list, list, float]:
    """Each channel's deviation in every step, behind each ReLU and behind each BatchNorm, and the accuracy."""
    torch.manual_seed(recipe.seed)
    model = models.build(models.of(recipe)).to(device)
    blocks = [layer for layer in model.layers if isinstance(layer, nn.Sequential)]
    for block in blocks:
        nn.init.kaiming_normal_(block[0].weight, nonlinearity="relu")
        if not with_norm:
            block[2] = nn.Identity()  # gives what it gets
    notes = {layer: [] for block in blocks for layer in block[1:]}
    for layer in notes:  # PyTorch calls a hook with the layer, what it got and what it gave
        layer.register_forward_hook(lambda layer, got, gave: notes[layer].append(gave.std(dim=(0, 2, 3)).cpu()))
    batches = loader(seen, 64, augmentation=recipe.augmentation, shuffle=True, seed=recipe.seed)
    optimizer = optimizers.make_optimizer(model, recipe)
    with contextlib.suppress(UserError):  # a loss that is no number ends the training
        for _ in range(5):
            training.train_epoch(model, batches, optimizer)
    relus, norms = ([torch.stack(notes[block[index]]) for block in blocks] for index in (1, 2))
    return relus, norms, training.evaluate(model, aside).accuracy


# %% tags=["measured"]
runs = {"no BatchNorm, block 3's rate": recipe, "no BatchNorm, the peak": peak_held, "BatchNorm, the peak": peak_held}
spreads = {}
for title, one in runs.items():
    relus, norms, accuracy = watched(one, with_norm=title.startswith("BatchNorm"))
    both = {"the peak, in front of BatchNorm": relus, "the peak, behind BatchNorm": norms}
    spreads |= {title: relus} if title.startswith("no") else both
    last = torch.cat([block[-1] for block in relus])
    print(f"{title:<30}{accuracy:.2f} %, dead in the last step: {(last == 0).sum()} of {len(last)} channels")

# %%
plots.show(plots.spreads(spreads), options.out, "spreads")

# %% [markdown]
# White is a deviation of 1, black is 0: all channels are dead. Without BatchNorm the peak kills the last block, and the
# network guesses (9.70 %). With BatchNorm the values grow only in front of it. The next block gets a deviation near 1,
# as before. So here BatchNorm carries the high rate, in this one run of each.
#
# ### Measured: the one-cycle rate
#
# For such questions the course has a *ladder*: eleven recipes, each one change away from the one below it. Every rung
# was trained with five seeds on 55,000 training images. It was measured on the others, the [validation
# images](../S6/part2_step1_dense_head.ipynb), after the last epoch. Two neighbouring rungs share their seeds, so they
# give five differences. Here p says how often chance alone would bring the mean of the five so far from 0. Ten
# comparisons were planned. So one is *told from chance* if p is below `0.05 / 10`, and *perhaps* if it is below `0.05`.
# [Step 6](step6_which_change.ipynb) has the whole ladder.


# %%
def measured(title: str) -> None:
    """What a rung of the ladder adds, seed by seed and on average."""
    print("by seed: ", "  ".join(f"{value:+.2f}" for value in ladder.differences(title).values()))
    print(ladder.line(title))


measured("a one-cycle rate")

# %% [markdown]
# All five seeds gained, but unevenly: only *perhaps*. Is the last gain the cycle's merit? Look at the rung below.

# %%
below = ladder.below(ladder.rung("a one-cycle rate"))
print("the rung below, by seed:", "  ".join(f"{value:.2f}" for value in below.validated().values()))

# %% [markdown]
# There seed 5 ended on a bad epoch, as can happen where the rate never falls. And this rung changes the shape, the
# height and one epoch together. It cannot tell which of them helped. *What it costs*: one epoch more.
#
# ## Momentum that looks ahead
#
# [Momentum](../S5/step1_first_network.ipynb) keeps a velocity v, to which each gradient g is added. With momentum m:
#
#     v = m v + g        plain:     w = w - rate v
#                        Nesterov:  w = w - rate (g + m v)
#
# Suppose the next step met the same gradient again. Its velocity would be m v + g. **Nesterov momentum** uses this
# velocity already now. So it is one step ahead: it starts sooner, and it brakes sooner ([Sutskever and
# others](https://proceedings.mlr.press/v28/sutskever13.html)).
#
# By hand, in a valley with the loss w²/2: its gradient at w is w. Start at w = 1 with v = 0, rate 0.1 and m = 0.9. The
# first velocity is `0.9 x 0 + 1 = 1`. Plain momentum goes to `1 - 0.1 x 1 = 0.9`, Nesterov momentum to
# `1 - 0.1 x (1 + 0.9 x 1) = 0.81`.
#
# **Yours: Nesterov's step** (easy, 5 minutes). Return the new w and the new v.


# %%
def nesterov_step(w: float, v: float, gradient: float, rate: float, momentum: float) -> tuple[float, float] | None:
    # Your lines here. Then return w, v instead of None.
    return None


nesterov_step = exercises.check(nesterov_step, (1.0, 0.0, 1.0, 0.1, 0.9), (0.5, -2.0, 3.0, 0.01, 0.8))

# %% [markdown]
# <details><summary>Hint</summary>
#
# First the new velocity, as in plain momentum. The formula for w uses this new one.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def nesterov_step(w, v, gradient, rate, momentum):
#     v = momentum * v + gradient
#     return w - rate * (gradient + momentum * v), v
# ```
#
# </details>
#
# Both run past the goal, w = 0. Which one farther? Guess, then run the cell.


# %%
def plain_step(w: float, v: float, gradient: float, rate: float, momentum: float) -> tuple[float, float]:
    v = momentum * v + gradient
    return w - rate * v, v


walks = {}
for name, step in {"plain": plain_step, "Nesterov": nesterov_step}.items():
    w, v, walks[name] = 1.0, 0.0, [1.0]
    for _ in range(40):
        w, v = step(w, v, w, rate=0.1, momentum=0.9)  # in this valley the gradient is w
        walks[name].append(w)
    print(f"{name:<10}", "".join(f"{place:8.4f}" for place in walks[name][:4]), f" ... lowest {min(walks[name]):.2f}")
plots.show(plots.swings(walks), options.out, "valley")

# %%
place = torch.ones((), dtype=torch.float64, requires_grad=True)
optimizer = torch.optim.SGD([place], lr=0.1, momentum=0.9, nesterov=True)
for _ in range(40):
    optimizer.zero_grad()
    (place**2 / 2).backward()
    optimizer.step()
print("after 40 steps equal to PyTorch's:", math.isclose(place.item(), walks["Nesterov"][-1], abs_tol=1e-12))

# %% [markdown]
# Beyond the goal the gradient points back, and Nesterov's step feels that one step earlier. With `rate=0.001`, as in a
# flatter valley, the two ways become nearly one. Try it.
#
# Does it help our network, on top of the cycle?

# %%
measured("Nesterov momentum")

# %% [markdown]
# The mean is a little below 0, with seeds on either side. An idea can be right in a valley and do nothing measurable
# for a network. *What it costs*: one more addition for each weight in a step.
#
# ## Average the weights
#
# Each batch pushes the weights its own way. The average of the weights over many steps is calmer: where the pushes
# disagree, they cancel ([Polyak and Juditsky](https://doi.org/10.1137/0330046)). So a second network follows the
# one that trains. After each step
#
#     average = a x average + (1 - a) x weights
#
# This is the [exponential moving average](../S6/part2_step1_dense_head.ipynb) that BatchNorm keeps of its means, now of
# the weights: in short **EMA**. By hand, with a = 0.9, an average of 1 and a weight of 2: `0.9 x 1 + 0.1 x 2 = 1.1`.
# The average remembers about 1 / (1 - a) steps. BatchNorm's running means and variances are averaged too.
#
# **Yours: the moving average** (easy, 5 minutes). `averages` and `weights` are lists of tensors in the same order.
# Change the tensors in `averages` in place, and return nothing. The training below calls your function.


# %%
def update_average(averages: list, weights: list, a: float) -> None:
    # Your lines here.
    pass


some = [torch.tensor([1.0, 2.0]), torch.zeros(2, 2)], [torch.tensor([2.0, -1.0]), torch.ones(2, 2)]
update_average = exercises.check(update_average, (*some, 0.9), (*some, 0.5))

# %% [markdown]
# <details><summary>Hint</summary>
#
# For each pair of tensors, `average.mul_(a)` and then `average.add_(...)`. The names with `_` change the tensor itself.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def update_average(averages, weights, a):
#     for average, weight in zip(averages, weights, strict=True):
#         average.mul_(a).add_(weight, alpha=1 - a)
# ```
#
# </details>
#
# The recorded runs take `a = 0.998`, a memory of about half an epoch. Our small runs have only 32 steps in an epoch, so
# we take a = 0.95. We train with the peak held and with the cycle. After each epoch we measure the weights and their
# average, on images set aside. (In the figure half of the mistakes is the same distance everywhere.)
#
# **Predict first.** In which of the two runs does the average help in the *last* epoch?
#
# <details><summary>Answer</summary>
#
# In the one with the constant rate. At the end of the cycle the weights hardly move, and their average is nearly where
# they are.
#
# </details>


# %%
class Average:
    """A second network that follows the first. In its first steps it keeps less, to forget the untrained weights."""

    def __init__(self, model, a):
        self.module, self.a, self.steps = copy.deepcopy(model), a, 0

    def update_parameters(self, model):
        a = min(self.a, (1 + self.steps) / (10 + self.steps))
        numbers = [[t for t in one.state_dict().values() if t.is_floating_point()] for one in (self.module, model)]
        update_average(*numbers, a)
        self.steps += 1


# %%
def both_by_epoch(recipe: Recipe) -> list[tuple[float, float]]:
    """After each epoch the accuracy of the weights and of their average."""
    torch.manual_seed(recipe.seed)
    model = models.build(models.of(recipe)).to(device)
    batches = loader(seen, 64, augmentation=recipe.augmentation, shuffle=True, seed=recipe.seed)
    optimizer, average, rows = optimizers.make_optimizer(model, recipe), Average(model, 0.95), []
    schedule = optimizers.make_schedule(optimizer, recipe, len(batches))
    for _ in range(recipe.epochs):
        training.train_epoch(model, batches, optimizer, schedule=schedule, ema=average)
        rows.append(tuple(training.evaluate(one, aside).accuracy for one in (model, average.module)))
    return rows


# %% tags=["measured"]
panels = {}
for title, one in {"the peak held": peak_held, "one cycle": cycle}.items():
    seeds = [dataclasses.replace(one, epochs=5, seed=seed) for seed in (1, 2, 3)]
    raw, averaged = torch.tensor([both_by_epoch(seed) for seed in seeds]).mean(dim=0).T.tolist()
    panels[title] = [1, 2, 3, 4, 5], raw, averaged
    print(f"{title:<15}weights  ", "".join(f"{value:8.2f}" for value in raw))
    print(f"{'':<15}average  ", "".join(f"{value:8.2f}" for value in averaged))

# %%
plots.show(plots.raw_and_averaged(panels, "accuracy in %, mean of 3 seeds"), options.out, "averages")

# %% [markdown]
# With the peak held, the average is ahead all the way: 97.35 against 95.57 % in the end. With the cycle both end at
# 97.18 %.
#
# ### Measured: the moving average
#
# On the ladder the EMA comes on top of the cycle. First the last epoch, then all of them.

# %%
measured("an EMA of the weights")

# %%
with_ema = ladder.rung("an EMA of the weights")
without = ladder.below(with_ema)
raw, averaged = ([fmean(one.validated(epoch).values()) for epoch in range(1, 16)] for one in (without, with_ema))
for epoch in (1, 2, 4, 8, 12, 15):
    print(f"epoch {epoch:>2}: weights {raw[epoch - 1]:.2f} %, average {averaged[epoch - 1]:.2f} %")
panel = {"ladder, 55,000 images": (list(range(1, 16)), raw, averaged)}
plots.show(plots.raw_and_averaged(panel, "validation accuracy in %, mean of 5 seeds"), options.out, "ladder_ema")

# %% [markdown]
# After the last epoch the difference is *not told from chance*. After epoch 8 it is large: the average reads 99.46 %,
# the weights 99.18 %. So the cycle and the EMA do the same work. The falling rate calms the weights at the end, the EMA
# all the way. Whoever may have to stop early gains from it. *What it costs*: a second copy of the weights in training.

# %% [markdown]
# ## Result

# %%
titles = ("a one-cycle rate", "Nesterov momentum", "an EMA of the weights")
rows = {title: ladder.differences(title).values() for title in titles}
plots.show(plots.forest(rows, "points added: each seed (dot), mean (diamond), 95 % interval"), options.out, "result")

# %% [markdown]
# Both formulas agree with the course's and with PyTorch's.
#
# ## Analysis
#
# **What worked.** Only the rate has five differences that all point the same way.
#
# **What this does not say.** *Not told from chance* does not mean "does nothing": five seeds easily miss a gain of a
# few images. And the order matters. Without the cycle, the EMA has more to calm.
#
# **What the next step changes.** [Step 2](step2_regularisation.ipynb) asks what keeps a network from learning its
# images by heart, and whether this one does so at all.

# %% [markdown]
# ## Quiz
#
# **Question 1.** A recipe has rate 0.1 and momentum 0.9. Which rate without momentum moves a weight as far, if all
# gradients agree?
#
# - **a** 0.01
# - **b** 0.1
# - **c** 1
#
# <details><summary>Answer</summary>
#
# **c.** 0.1 / (1 - 0.9) = 1. a multiplies instead, and b forgets the momentum.
#
# </details>
#
# **Question 2.** What does Nesterov's step do in the valley that the plain one does not?
#
# - **a** It uses a higher rate.
# - **b** It already uses the velocity that the next step would have with the same gradient.
# - **c** It averages the last gradients.
#
# <details><summary>Answer</summary>
#
# **b.** So it brakes earlier. a: the rate is the same. c: the velocity adds gradients up in both.
#
# </details>
#
# **Question 3.** At the end of a one-cycle run, why is the EMA hardly better than the weights?
#
# - **a** The steps are so small by then that the weights stay near their average.
# - **b** The average has forgotten the first epochs.
# - **c** BatchNorm averages them already.
#
# <details><summary>Answer</summary>
#
# **a.** There is little left to calm. b is true at any rate. c: BatchNorm averages its inputs' means, not the weights.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. The one-cycle rate rises over the first fifth of the run and falls to 0. In both small experiments every seed
#    gained by it. Without BatchNorm its peak leaves the network guessing.
# 2. In a steep valley Nesterov momentum runs less far past the goal. In a flat one it hardly differs.
# 3. The average of the weights is far ahead while the rate is high, and meets the weights when the rate has run out.
# 4. On the ladder: the one-cycle rate *perhaps*, Nesterov momentum and the EMA *not told from chance*.
