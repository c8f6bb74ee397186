# %% [markdown]
# # S6 part 1: Work out eight derivatives by hand, and find out how long a step may be
#
# In S5 one line, `loss.backward()`, found 593,200 derivatives, and we believed it. Here we find eight of them
# ourselves, in a network that is small enough for a spreadsheet: two inputs, two hidden neurons, two outputs, eight
# weights. The solution that this lesson retells *is* a spreadsheet, and every number below can be checked in one, or
# with a pocket calculator. Then we use the derivatives, and vary the one number of gradient descent that nobody can
# derive: the learning rate. The source drew its error curves from 0.1 to 2.0, and they say that larger is better. We
# go on to 10, 50 and 200. What happens there is not what one expects.
#
# **What you'll do**
#
# 1. Carry two inputs forward through the network to an error, by hand.
# 2. Derive all eight partial derivatives, write them down term by term, and hold each against PyTorch's.
# 3. Take ten steps in a table, then a thousand at each of the source's six learning rates.
# 4. Predict the curves with one formula, and find out from which learning rate on they cannot fall any more.
# 5. Raise the learning rate to 10, 50 and 200, and explain what comes out.
#
# **What you'll learn**: the chain rule as a sum over paths, what back-propagation reuses, why a sigmoid makes
# derivatives small, what learning rate and curvature have to do with each other, overshooting, saturation.
#
# **What you'll need**: what a derivative is, and the chain rule for f(g(x)). The run takes seconds on any machine,
# and no digits and no GPU. No chance is involved either: on your machine every number must come out as printed here.
#
# *Before this*: [S5](../S5/step1_first_network.ipynb), the first network. *After this*:
# [part 2, step 1](part2_step1_dense_head.ipynb), where PyTorch does the derivatives again, 17,920 of them. The
# [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository, and the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | derivatives by hand that equal PyTorch's to 1e-12 | 8, all | they lie between 0.0003 and 0.02, and 64-bit arithmetic keeps 16 digits: a wrong term shows in the first digits, a difference under 1e-12 can only be rounding |
# | steps after which all weights still equal PyTorch's to 1e-12 | 10 | a step with a wrong sign or a wrong learning rate would drift off at once |
# | learning rates of the source whose error falls at *every* step, down to 1e-18 | 6, all | a derivative only promises that a *short enough* step leads downhill; we have to see whether these are short enough |
#
# The recipe has the form of all steps. With a single example, an epoch, one pass over the data, is one step. The
# learning rate is the one of the ten-step table; the curves have their own six. Of the options that `command_line`
# knows, `--epochs` and `--out` have something to act on here; those about digits and devices do not.

# %%
try:
    from common.recipe import ROOT, Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(step="S6/part1_backprop", epochs=1000, batch_size=1, lr=0.5)
recipe, options = command_line(recipe)

# %%
targets = (
    Target("derivatives that equal PyTorch's", ">=", 8),
    Target("steps that equal PyTorch's", ">=", min(10, recipe.epochs)),
    Target("learning rates whose error falls at every step", ">=", 6),
)

# %%
from itertools import pairwise
from math import exp
from typing import NamedTuple

import torch

from common import records
from common.lesson import check, plots
from common.system.files import write_atomically

# %% [markdown]
# ## The data
#
# One example. Two inputs, and for each of the two outputs the value that we want to see there. For the network of S5
# an example was 784 numbers and a label; nothing else is different.

# %%
I1, I2 = 0.05, 0.10  # inputs
T1, T2 = 0.50, 0.50  # targets: what the outputs should be

# %% [markdown]
# ## The network
#
# Every neuron adds up its inputs, each times a weight, and squashes the sum with the sigmoid function $\sigma(x) = 1
# / (1 + e^{-x})$ into the range from 0 to 1. There are no biases. We write $h_1$ for the sum that arrives at the
# first hidden neuron, its *net input*, and $a_{h1} = \sigma(h_1)$ for what leaves it, its *activation*; in the same
# way $o_1$ and $a_{o1}$ at the outputs.

# %%
START = (0.15, 0.20, 0.25, 0.30, 0.40, 0.45, 0.50, 0.55)  # w1 to w8

first_layer = {(0, 0): "w1 = 0.15", (1, 0): "w2 = 0.20", (0, 1): "w3 = 0.25", (1, 1): "w4 = 0.30"}
second_layer = {(0, 0): "w5 = 0.40", (1, 0): "w6 = 0.45", (0, 1): "w7 = 0.50", (1, 1): "w8 = 0.55"}
names = [["i1\n0.05", "i2\n0.10"], ["h1", "h2"], ["o1", "o2"]]
plots.show(plots.neurons(names, [first_layer, second_layer]), options.out, "network")

# %% [markdown]
# Read the figure from left to right, and look at how many paths lead from a weight to the right edge. From w5 there
# is one: it reaches o1 and nothing else. From w1 there are two, through h1 to o1 and through h1 to o2. That is all
# the difference that there will be between an easy and a hard derivative.
#
# Forward, in formulas. The error is half the squared distance to the target, summed over the outputs; the half is
# there so that it cancels when we differentiate.
#
# $$
# \begin{aligned}
# h_1 &= w_1 i_1 + w_2 i_2 & a_{h1} &= \sigma(h_1) & \qquad h_2 &= w_3 i_1 + w_4 i_2 & a_{h2} &= \sigma(h_2) \\
# o_1 &= w_5 a_{h1} + w_6 a_{h2} & a_{o1} &= \sigma(o_1) & \qquad
# o_2 &= w_7 a_{h1} + w_8 a_{h2} & a_{o2} &= \sigma(o_2) \\
# E_1 &= \tfrac12 (t_1 - a_{o1})^2 & & & \qquad E_2 &= \tfrac12 (t_2 - a_{o2})^2 & E &= E_1 + E_2
# \end{aligned}
# $$


# %%
class Forward(NamedTuple):
    """All that the network computes on its way from the inputs to the error."""

    h1: float
    a_h1: float
    h2: float
    a_h2: float
    o1: float
    a_o1: float
    o2: float
    a_o2: float
    e1: float
    e2: float
    e: float


def sigmoid(x):
    return 1 / (1 + exp(-x))


def forward(weights):
    w1, w2, w3, w4, w5, w6, w7, w8 = weights
    h1 = w1 * I1 + w2 * I2
    h2 = w3 * I1 + w4 * I2
    a_h1, a_h2 = sigmoid(h1), sigmoid(h2)
    o1 = w5 * a_h1 + w6 * a_h2
    o2 = w7 * a_h1 + w8 * a_h2
    a_o1, a_o2 = sigmoid(o1), sigmoid(o2)
    e1 = (T1 - a_o1) ** 2 / 2
    e2 = (T2 - a_o2) ** 2 / 2
    return Forward(h1, a_h1, h2, a_h2, o1, a_o1, o2, a_o2, e1, e2, e1 + e2)


# %% [markdown]
# Do the first line yourself before you read on: h1 = 0.15 x 0.05 + 0.20 x 0.10 = 0.0275. A sigmoid of a number that
# small is a little over one half. All others follow in the same way.

# %%
for name, value in forward(START)._asdict().items():
    print(f"{name:<5} {value:.6f}")

# %% [markdown]
# Both outputs are above 0.6 where 0.5 is wanted. An output of 0.5 needs a net input of 0, so we know already where
# training has to lead: to weights for which $o_1 = o_2 = 0$. How it gets there is the question.

# %% [markdown]
# ## Backward
#
# **The slope of a sigmoid** can be had from its value alone, and the forward pass has computed that already:
#
# $$
# \sigma'(x) = \frac{e^{-x}}{(1 + e^{-x})^2} = \frac{1}{1 + e^{-x}} \cdot \frac{e^{-x}}{1 + e^{-x}}
# = \sigma(x)\,\bigl(1 - \sigma(x)\bigr)
# $$
#
# It is never more than 1/4, reached at x = 0, and close to 0 when the neuron is close to 0 or to 1. Keep both facts
# in mind: they return in the analysis.
#
# **One path.** The weight w5 acts on $o_1$, this on $a_{o1}$, and this on $E_1$. The chain rule multiplies along the
# way, and each of the three factors is easy:
#
# $$
# \frac{\partial E}{\partial w_5}
# = \frac{\partial E_1}{\partial a_{o1}}
# \cdot \frac{\partial a_{o1}}{\partial o_1}
# \cdot \frac{\partial o_1}{\partial w_5}
# = (a_{o1} - t_1) \cdot a_{o1} (1 - a_{o1}) \cdot a_{h1}
# $$
#
# The other three weights of the second layer differ only in where they start and end:
#
# $$
# \begin{aligned}
# \frac{\partial E}{\partial w_6} &= (a_{o1} - t_1) \cdot a_{o1} (1 - a_{o1}) \cdot a_{h2} \\
# \frac{\partial E}{\partial w_7} &= (a_{o2} - t_2) \cdot a_{o2} (1 - a_{o2}) \cdot a_{h1} \\
# \frac{\partial E}{\partial w_8} &= (a_{o2} - t_2) \cdot a_{o2} (1 - a_{o2}) \cdot a_{h2}
# \end{aligned}
# $$
#
# **Two paths.** The weight w1 acts on $a_{h1}$, and from there on both errors. What arrives along different paths is
# added:
#
# $$
# \frac{\partial E}{\partial a_{h1}}
# = \frac{\partial E_1}{\partial o_1} \cdot \frac{\partial o_1}{\partial a_{h1}} +
# \frac{\partial E_2}{\partial o_2} \cdot \frac{\partial o_2}{\partial a_{h1}}
# = (a_{o1} - t_1)\, a_{o1} (1 - a_{o1})\, w_5 + (a_{o2} - t_2)\, a_{o2} (1 - a_{o2})\, w_7
# $$
#
# For $a_{h2}$ the weights are w6 and w8 instead. From the activation it goes through one more sigmoid and one more
# weight, and the first layer is done:
#
# $$
# \begin{aligned}
# \frac{\partial E}{\partial w_1}
# &= \bigl[(a_{o1} - t_1)\, a_{o1} (1 - a_{o1})\, w_5 + (a_{o2} - t_2)\, a_{o2} (1 - a_{o2})\, w_7\bigr]
# \cdot a_{h1} (1 - a_{h1}) \cdot i_1 \\
# \frac{\partial E}{\partial w_2}
# &= \bigl[(a_{o1} - t_1)\, a_{o1} (1 - a_{o1})\, w_5 + (a_{o2} - t_2)\, a_{o2} (1 - a_{o2})\, w_7\bigr]
# \cdot a_{h1} (1 - a_{h1}) \cdot i_2 \\
# \frac{\partial E}{\partial w_3}
# &= \bigl[(a_{o1} - t_1)\, a_{o1} (1 - a_{o1})\, w_6 + (a_{o2} - t_2)\, a_{o2} (1 - a_{o2})\, w_8\bigr]
# \cdot a_{h2} (1 - a_{h2}) \cdot i_1 \\
# \frac{\partial E}{\partial w_4}
# &= \bigl[(a_{o1} - t_1)\, a_{o1} (1 - a_{o1})\, w_6 + (a_{o2} - t_2)\, a_{o2} (1 - a_{o2})\, w_8\bigr]
# \cdot a_{h2} (1 - a_{h2}) \cdot i_2
# \end{aligned}
# $$
#
# Written out like this, $(a_{o1} - t_1)\, a_{o1} (1 - a_{o1})$ stands in six of the eight. Computed from the right
# edge of the network to the left, it is needed once. That is all that *back-propagation* means: the chain rule, in an
# order in which every factor is computed once and handed to whoever stands to the left of it. In a network with
# millions of paths it makes the difference between possible and impossible. The code below is in that order.


# %%
def derivatives(weights):
    """dE/dw1 to dE/dw8."""
    w5, w6, w7, w8 = weights[4:]
    f = forward(weights)

    # From the error to the net inputs of the outputs.
    de_da_o1 = f.a_o1 - T1
    de_da_o2 = f.a_o2 - T2
    da_o1_do1 = f.a_o1 * (1 - f.a_o1)
    da_o2_do2 = f.a_o2 * (1 - f.a_o2)
    de_do1 = de_da_o1 * da_o1_do1
    de_do2 = de_da_o2 * da_o2_do2

    # One path each.
    de_dw5 = de_do1 * f.a_h1
    de_dw6 = de_do1 * f.a_h2
    de_dw7 = de_do2 * f.a_h1
    de_dw8 = de_do2 * f.a_h2

    # Back to the hidden neurons: two paths, added.
    de_da_h1 = de_do1 * w5 + de_do2 * w7
    de_da_h2 = de_do1 * w6 + de_do2 * w8
    da_h1_dh1 = f.a_h1 * (1 - f.a_h1)
    da_h2_dh2 = f.a_h2 * (1 - f.a_h2)

    de_dw1 = de_da_h1 * da_h1_dh1 * I1
    de_dw2 = de_da_h1 * da_h1_dh1 * I2
    de_dw3 = de_da_h2 * da_h2_dh2 * I1
    de_dw4 = de_da_h2 * da_h2_dh2 * I2
    return de_dw1, de_dw2, de_dw3, de_dw4, de_dw5, de_dw6, de_dw7, de_dw8


# %% [markdown]
# Now the judge. PyTorch's *autograd* records what is computed with a tensor and walks back along that record; it
# knows none of our formulas. We give it the same network in the form in which one would really write it, as two 2x2
# matrices, and in 64-bit numbers (`float64`), because the usual 32-bit ones carry 7 digits only.


# %%
def error_by_torch(w):
    """The error as a tensor, which knows how it came from the tensor `w` of the eight weights."""
    inputs, wanted = torch.tensor([[I1, I2], [T1, T2]], dtype=torch.float64)
    hidden = torch.sigmoid(w[:4].view(2, 2) @ inputs)
    outputs = torch.sigmoid(w[4:].view(2, 2) @ hidden)
    return ((wanted - outputs) ** 2).sum() / 2


w = torch.tensor(START, dtype=torch.float64, requires_grad=True)
error_by_torch(w).backward()
ours, theirs = derivatives(START), w.grad.tolist()
equal = [abs(a - b) <= 1e-12 for a, b in zip(ours, theirs, strict=True)]

print("             by hand      by autograd   equal to 1e-12")
for number, (a, b, same) in enumerate(zip(ours, theirs, equal, strict=True), start=1):
    print(f"dE/dw{number}   {a:.10f}   {b:.10f}   {'yes' if same else 'NO'}")

# %% [markdown]
# All derivatives are positive: both outputs are too high, and each of the weights pushes them up. But look at their
# sizes. dE/dw5 is 41 times dE/dw1. Two paths lead back to w1, each over a weight of about one half, so that together
# they bring about as much as arrives at w5. What is left is a sigmoid's slope of at most 1/4, and an input of 0.05 in
# place of an activation of 0.5. That is 1/40.
# The input is this example's; the slope is the sigmoid's, and every further layer of sigmoids would multiply by
# another one. This is the *vanishing gradient*: the layers in front learn ever more slowly. It is one reason why the
# other networks of this course have ReLU in their hidden layers, whose slope is 1 wherever it is not 0.

# %% [markdown]
# ## Training
#
# Gradient descent takes from every weight its derivative times the learning rate $\eta$, all eight at once:
#
# $$
# w \leftarrow w - \eta \, \frac{\partial E}{\partial w}
# $$


# %%
def train(rate, steps=recipe.epochs):
    """The weights at the start and after each step."""
    walk = [START]
    for _ in range(steps):
        weights = walk[-1]
        slopes = derivatives(weights)
        walk.append(tuple(weight - rate * slope for weight, slope in zip(weights, slopes, strict=True)))
    return walk


walk = train(recipe.lr)

# %% [markdown]
# The first ten steps with a learning rate of 0.5, every column of the spreadsheet. It has a row for each step; on a
# page these columns take three tables. Step 0 is the start, the forward pass and the derivatives from above. The
# weights of step 1 come from them, for example w5 = 0.40 - 0.5 x 0.01288 = 0.39356.

# %%
first_steps = walk[:11]
print("step" + "".join(f"{f'w{number}':>11}" for number in range(1, 9)))
for step, weights in enumerate(first_steps):
    print(f"{step:>4}" + "".join(f"{weight:>11.7f}" for weight in weights))

# %%
print("step" + "".join(f"{name:>10}" for name in Forward._fields))
for step, weights in enumerate(first_steps):
    print(f"{step:>4}" + "".join(f"{value:>10.6f}" for value in forward(weights)))

# %%
print("step" + "".join(f"{f'dE/dw{number}':>13}" for number in range(1, 9)))
for step, weights in enumerate(first_steps):
    print(f"{step:>4}" + "".join(f"{slope:>13.9f}" for slope in derivatives(weights)))

# %% [markdown]
# In ten steps the error falls by a quarter. Nearly all of it is the second layer's work: w5 to w8 each move by 0.06
# to 0.08, w1 to w4 by less than 0.004.
#
# The same ten steps by PyTorch, which now also does the subtraction:

# %%
w = torch.tensor(START, dtype=torch.float64, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=recipe.lr)
equal_steps = 0
for weights in first_steps[1:]:
    optimizer.zero_grad()
    error_by_torch(w).backward()
    optimizer.step()
    equal_steps += all(abs(a - b) <= 1e-12 for a, b in zip(weights, w.tolist(), strict=True))
print(f"{equal_steps} of {len(first_steps) - 1} steps give weights equal to 1e-12")

# %% [markdown]
# Now the source's six learning rates, a thousand steps each.

# %%
RATES = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0)
FLOOR = 1e-18  # an error that we print as no more than "smaller than this"

walks = {rate: train(rate) for rate in RATES}
errors = {rate: [forward(weights).e for weights in walk] for rate, walk in walks.items()}
plots.show(plots.error_curves(errors, 100, FLOOR), options.out, "error_curves")

# %% [markdown]
# What to see: on the left, on a plain axis, six curves that fall, the larger the learning rate the sooner, and that
# never cross. On the right the same numbers, up to step 1,000, on a logarithmic axis: there each
# of them becomes a straight line. A straight line on such an axis means that every step multiplies the error by the
# same factor.


# %%
def error_table(errors):
    """The error after 1, 10, ... steps, a column for each learning rate."""
    print("learning rate " + "".join(f"{rate:>12,g}" for rate in errors))
    for step in (0, 1, 10, 50, 100, 1000):
        if step <= recipe.epochs:
            texts = [f"{values[step]:.3e}" if values[step] >= FLOOR else f"< {FLOOR:g}" for values in errors.values()]
            print(f"after {step:>5,}   " + "".join(f"{text:>12}" for text in texts))


error_table(errors)

# %% [markdown]
# (2.475e-05 means 0.00002475. Below 1e-18 an output differs from its target by 1.5 billionths at most, and of its 16
# digits only 7 are left to tell how much. What is smaller we do not print, so that your machine can agree with ours.)

# %% [markdown]
# ## Result


# %%
def falls(values):
    """Whether every step lowers the error, as far down as we print it."""
    return all(after < before for before, after in pairwise(values) if before >= FLOOR)


measured = (sum(equal), equal_steps, sum(falls(values) for values in errors.values()))
for target, value in zip(targets, measured, strict=True):
    verdict = "met" if target.met_by(value) else f"missed by {target.bound - value}"
    print(f"{'this run':<11}{records.target_text(target):<56}{value:>3}  {verdict}")

# %% [markdown]
# The source claims no number, only its chart, and its six curves come out of our derivatives. There is nothing to
# repeat with other seeds: nothing here is drawn at random.
#
# So that you can lay it beside a spreadsheet of your own, the run leaves all its steps at a learning rate of 0.5 in a
# file that every spreadsheet program opens.

# %%
columns = ["step", *(f"w{number}" for number in range(1, 9)), *Forward._fields]
columns += [f"dE/dw{number}" for number in range(1, 9)]
rows = [(step, *weights, *forward(weights), *derivatives(weights)) for step, weights in enumerate(walk)]
write_atomically(options.out / "steps.csv", "".join(",".join(map(str, row)) + "\n" for row in [columns, *rows]))
shown = options.out.relative_to(ROOT) if options.out.is_relative_to(ROOT) else options.out
print(f"{'written':<11}steps.csv to {shown}")

# %% [markdown]
# ## The mistakes
#
# On its one example the trained network makes none worth printing. So let us ask it about others. The weights are
# those after the last step with a learning rate of 0.5; before you look, guess what it says to inputs of 1 and 1.

# %%
w1, w2, w3, w4, w5, w6, w7, w8 = walk[-1]
print("     i1      i2     a_o1     a_o2")
for i1, i2 in ((0.05, 0.10), (0, 0), (1, 0), (0, 1), (1, 1), (10, -10)):
    a_h1, a_h2 = sigmoid(w1 * i1 + w2 * i2), sigmoid(w3 * i1 + w4 * i2)
    print(f"{i1:>7} {i2:>7}  {sigmoid(w5 * a_h1 + w6 * a_h2):.5f}  {sigmoid(w7 * a_h1 + w8 * a_h2):.5f}")

# %% [markdown]
# It says one half, whatever it is asked. Nobody told it that the answer depends on the inputs, and so it found the
# cheapest way to say 0.5: a weight w6 that cancels w5, and a w8 that cancels w7. An error of 1e-16 on the training
# example, and nothing learned that could be called a pattern. What the network has never met does not show in the
# training error, however small that becomes; that is why the other lessons keep 10,000 images apart.
#
# There are many such ways: an error of zero puts two conditions, $o_1 = 0$ and $o_2 = 0$, on eight weights. Where a
# run ends depends on where it starts, and, as we are about to see, on the length of its steps.

# %% [markdown]
# ## Analysis
#
# **What worked.** All eight derivatives are right, and the error falls by a factor of 500 even with the smallest
# learning rate. **Why are the curves ordered as they are?** A first answer: a step is as long as its learning rate,
# so with half the rate one needs twice the steps. If that is all there is to it, then learning rate times steps is a
# clock, and all six runs must have the same error at the same time. At time 100:

# %%
for rate, values in errors.items():
    steps = round(100 / rate)
    if steps <= recipe.epochs:
        print(f"learning rate {rate:>3}   after {steps:>5,} steps   {values[steps]:.3e}")

# %% [markdown]
# From 0.1 to 2.0 is a factor of 20, and at the same time on that clock the errors differ by a fifth. So the ordering
# of the six curves is, for the most part, the ordering of the distances that they have gone: in the limit of short
# steps all of them follow the same path downhill. The rest, a fifth in favour of the long steps, is the first sign of
# something that the clock does not know.
#
# **One formula for all curves.** Near the goal the net inputs $o_1, o_2$ are small. There $a_{o1} - t_1$ is about
# $o_1 / 4$ and the sigmoid's slope about 1/4, so $\partial E / \partial w_5$ is about $a_{h1}\, o_1 / 16$, and
# $\partial E / \partial w_6$ about $a_{h2}\, o_1 / 16$. The first layer hardly moves. Put one step into
# $o_1 = w_5 a_{h1} + w_6 a_{h2}$ and you get
#
# $$
# o_1 \leftarrow (1 - \eta \lambda)\, o_1
# \qquad \text{with} \qquad
# \lambda = \frac{a_{h1}^2 + a_{h2}^2}{16}
# $$
#
# and the same for $o_2$. The number $\lambda$ is the *curvature* of the error: how fast its slope changes as one
# walks along it. It is 0.0324 at the start, which is (0.5069² + 0.5106²) / 16. The error goes with the square of the
# net inputs, so a step multiplies it by $(1 - \eta \lambda)^2$. This says more than the clock does:
#
# - $\eta \lambda$ far below 1: the factor is about $e^{-2 \eta \lambda}$, and only learning rate times steps counts.
#   That is the clock. But $1 - x$ is always below $e^{-x}$, and with a learning rate of 2.0 that adds up to the
#   fifth.
# - $\eta \lambda$ = 1, a learning rate of about 31: one step lands on the goal, as far as the formula is exact.
# - $\eta \lambda$ between 1 and 2: the step goes too far, past the goal, but ends nearer to it than it began. The net
#   input changes its sign each time, and the error falls all the same.
# - $\eta \lambda$ above 2, a learning rate above 62: each step ends farther away than it began.
#
# So the source's six rates are all on the careful side: its largest is a fifteenth of the best. Now those that are
# not careful: 10, 50, 200, and one more, 2,000.

# %%
LARGE_RATES = (10.0, 50.0, 200.0, 2000.0)

large_walks = {rate: train(rate) for rate in LARGE_RATES}
large_errors = {rate: [forward(weights).e for weights in walk] for rate, walk in large_walks.items()}
error_table(large_errors)

# %%
first_hundred = {rate: values[:101] for rate, values in large_errors.items()}
plots.show(plots.error_curves(first_hundred, 40, FLOOR), options.out, "large_rates")

# %% [markdown]
# What to see: 10 and 50 fall faster than any of the source's six; on the left they are gone before one can tell them
# apart, on the right 50 is the steeper one. The curve of 200 jumps up, rattles for some fifteen steps between 0.02
# and 0.17, and then falls in a straight line like the others. That of 2,000 jumps up and stays there.
#
# First the formula against the measurement: the factor of one step, taken at the first error below 1e-4.


# %%
def curvature(f):
    return (f.a_h1**2 + f.a_h2**2) / 16


print("learning rate   at step   rate x curvature   (1 - that) squared   measured factor")
for rate, walk_of_rate in {**walks, **large_walks}.items():
    values = [forward(weights).e for weights in walk_of_rate]
    step = next((step for step, value in enumerate(values[:-1]) if value < 1e-4), None)
    if step is None:
        print(f"{rate:>13,g}   its error does not get there in {recipe.epochs:,} steps")
    else:
        product = rate * curvature(forward(walk_of_rate[step]))
        predicted, found = (1 - product) ** 2, values[step + 1] / values[step]
        print(f"{rate:>13,g} {step:>9}   {product:>16.4f}   {predicted:>18.4f}   {found:>15.4f}")

# %% [markdown]
# **10: better than all of the source's.** Its product with the curvature is 0.32, so a step leaves 46 % of the error.
# After 10 steps it is where a rate of 1.0 is after more than 100.
#
# **50: too far each time, and yet downhill.** With a product of 1.61, a step takes o1 past the goal to the other
# side, to 61 % of the distance that it had. The outputs below stand above 0.5 and below it in turns. What is left of
# the error each time, 37 %, is less than the 46 % at a learning rate of 10. A rate between the two should be better
# still; Exercise 4 asks which.

# %%
print("step     a_o1     a_o2         E        (learning rate 50)")
for step, weights in enumerate(large_walks[50.0][:9]):
    f = forward(weights)
    print(f"{step:>4}  {f.a_o1:.5f}  {f.a_o2:.5f}  {f.e:.2e}")

# %% [markdown]
# **200: thrown out, and home by another way.** At the start the product is 6.47, so by the formula the first step
# would multiply the error by 30, and every further one likewise. The table shows what happens instead.

# %%
print("step     a_o1     a_o2     a_h1     a_h2   rate x curvature         E        (learning rate 200)")
for step in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 17, 18, 19, 20, 25, 30, 50):
    if step <= recipe.epochs:
        f = forward(large_walks[200.0][step])
        numbers = f"{f.a_o1:.5f}  {f.a_o2:.5f}  {f.a_h1:.5f}  {f.a_h2:.5f}   {200 * curvature(f):>16.3f}"
        print(f"{step:>4}  {numbers}  {f.e:.2e}")

# %% [markdown]
# Two things save it. First, **it cannot fly away**. A sigmoid's output stays between 0 and 1, so the error stays
# below 2 x 0.5² / 2 = 0.25; and out there the slope is small (at an output of 0.07 it is 0.065, not 0.25), which
# shortens the step back. Replace all four sigmoids by straight lines with their value and slope at 0, 1/2 + x/4, and
# at this learning rate the error is beyond 1e100 after six steps.
#
# Second, **the ground gets flatter**. Look at the columns a_h1 and a_h2: they fall, step after step, from 0.51 to
# 0.27. While the run rattles, the outputs are far off and w5 to w8 are large, and so the derivatives of the first
# layer grow: dE/dw1 is 0.0003 at the start and 0.0019 after the first step. In each of the first 30 steps they are
# positive. If an output is too high because its weights are positive, or too low because they are negative, then in
# both cases the product of error and weight is positive, and a smaller activation in the hidden layer makes it
# better: w1 to w4 go down. With the activations falls the curvature, and after 18 steps its product with the learning
# rate is below 2. The valley has become wide enough for the step. From there on the formula holds again: a product of
# 1.77, and 60 % of the error left each time.
#
# So the run ends with the same error, zero, at very different weights: w1 and w2 are now -4.0 and -8.1, where the
# small learning rates leave them at 0.14 and 0.19. A large learning rate does not only go faster or break. It
# *chooses*: it cannot stay in a valley that is too narrow for its steps. In large networks the same has been observed
# and been called a catapult (Lewkowycz and others, 2020, arXiv 2003.02218).
#
# **2,000: thrown out for good.** The first step takes w5 from 0.40 to -25, and o1 to -24. A sigmoid there gives
# 0.00000000005, and its slope is as small: the neuron is *saturated*. No derivative is above 2e-11, and even times
# 2,000 that moves no weight by more than 0.0001 in 1,000 steps. The error is 0.25, as large as it can get, and its
# curve is as flat as that of a training that has arrived. **A flat error curve says that the derivatives are small.
# It does not say that the error is.**
#
# **What did not work.** Nothing in the source's range warns of all this: its six curves would make one believe that
# the best learning rate is the largest. And the limit of 62 is a property of this network at these weights. In the
# next lessons the curvature is different in each of thousands of directions, and the steepest of them sets the limit
# for all. We cannot work it out with a pencil there; we have to try.
#
# **What the next step changes.** Everything but the method: 17,920 weights in place of eight, 60,000 examples in
# place of one, ReLU in place of the sigmoid, and an error for which the slope of the output cancels (Exercise 3), so
# that an output that is completely wrong is corrected at once. The derivatives are left to autograd. You know now
# what it does.

# %% [markdown]
# ## Exercises
#
# **Exercise 1: the slope from the value** (easy, 5 minutes). Complete the function: it takes the *activation* of a
# sigmoid neuron, not its net input, and gives the slope of the sigmoid there.


# %%
def slope(activation: float) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


check("in the middle, at 0.5", slope(0.5), 0.25, tolerance=1e-12)
check("at the output o1 of the first forward pass", slope(0.606478), 0.238662, tolerance=1e-6)
check("at 0.01", slope(0.01), 0.0099, tolerance=1e-12)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def slope(activation):
#     return activation * (1 - activation)
# ```
#
# From 0.5 to 0.01 the slope falls to a twenty-fifth. A neuron that is sure of itself learns slowly, also when it is
# wrong.
#
# </details>

# %% [markdown]
# **Exercise 2: a derivative without any calculus** (easy, 10 minutes). Move a little to the right and a little to the
# left, and divide the difference of the values by the distance. That checks a derivative when there is no autograd at
# hand. Then, in a cell of your own, check dE/dw1: `central_difference(lambda w1: forward((w1, *START[1:])).e, 0.15)`.


# %%
def central_difference(function, x: float, distance: float = 1e-5) -> float | None:
    """The slope of `function` at x, from its values at x + distance and x - distance."""
    # Your lines here. Then return your result instead of None.
    return None


check("x cubed at 2: 12", central_difference(lambda x: x**3, 2.0), 12.0, tolerance=1e-6)
check("the sigmoid at 0", central_difference(lambda x: 1 / (1 + exp(-x)), 0.0), 0.25, tolerance=1e-6)
check("x cubed at 0, by a large distance", central_difference(lambda x: x**3, 0.0, 0.1), 0.01, tolerance=1e-9)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def central_difference(function, x, distance=1e-5):
#     return (function(x + distance) - function(x - distance)) / (2 * distance)
# ```
#
# For dE/dw1 it gives 0.00031699, as in the table, and it needs two forward passes for each weight. For the network of
# S5 that would be 1,186,400 forward passes before its first step; back-propagation costs no more than a few, however
# many weights there are. The last check shows the other weakness, the distance. Too large, and the curve bends within
# it; too small, and rounding takes the digits.
#
# </details>

# %% [markdown]
# **Exercise 3: an error that does not saturate** (medium, 15 minutes). Replace the half squared error of an output by
# the *cross entropy* $E = -t \ln a - (1 - t) \ln (1 - a)$ with $a = \sigma(o)$. Derive $\partial E / \partial o$ and
# write it down, as a function of a and t. It gets shorter, not longer.


# %%
def cross_entropy_slope(activation: float, target: float) -> float | None:
    """dE/do of the cross entropy."""
    # Your lines here. Then return your result instead of None.
    return None


check("at the output o1 of the first forward pass", cross_entropy_slope(0.606478, 0.5), 0.106478, tolerance=1e-9)
check("at an output that is right", cross_entropy_slope(0.5, 0.5), 0.0, tolerance=1e-12)
check("at an output that is saturated and wrong", cross_entropy_slope(0.0001, 0.5), -0.4999, tolerance=1e-9)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def cross_entropy_slope(activation, target):
#     return activation - target
# ```
#
# $\partial E / \partial a = -t / a + (1 - t) / (1 - a) = (a - t) / (a (1 - a))$, and the sigmoid's slope $a (1 - a)$
# cancels the denominator. The squared error has that slope as a factor: at an output of 0.0001 it leaves -0.00005 of
# the -0.4999. This is why classifiers are trained with a cross entropy. The negative log-likelihood of the other
# lessons is the one for ten classes, and its derivative has the same form.
#
# </details>

# %% [markdown]
# **Exercise 4: the largest learning rate** (medium, 10 minutes). From the two hidden activations, give the learning
# rate that gets to the goal fastest once it is near, and the one above which a step leads away from it. Then add the
# first to `LARGE_RATES` above.


# %%
def fastest_and_largest(a_h1: float, a_h2: float) -> tuple[float, float] | None:
    # Your lines here. Then return the two rates, rounded to whole numbers with round(...), instead of None.
    return None


check("at the start", fastest_and_largest(0.506875, 0.510623), (31, 62))
check("where the run with 200 ends", fastest_and_largest(0.2658, 0.2670), (113, 225))

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def fastest_and_largest(a_h1, a_h2):
#     curvature = (a_h1**2 + a_h2**2) / 16
#     return round(1 / curvature), round(2 / curvature)
# ```
#
# With a learning rate of 31 the error is below 1e-4 after a single step, and below 1e-11 after two. And where the run
# with 200 ended, a rate of 200 is allowed: that is why it could end there.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. Forward: net inputs of 0.0275 and 0.0425, activations near one half, outputs of 0.606 and 0.630 in place of 0.5,
#    an error of 0.01418.
# 2. A derivative is a product along a path and a sum over the paths. All eight equal autograd's to 1e-12; w1's is
#    41 times smaller than w5's, and every further sigmoid on the way would bring another slope of at most 1/4.
# 3. Ten steps at 0.5 take a quarter off the error. The six curves fall at every step, as far down as 16
#    digits can tell, and do not cross; at equal learning rate times steps they nearly coincide.
# 4. Near the goal a step multiplies the error by $(1 - \eta \lambda)^2$, with a curvature $\lambda$ of 0.032: best
#    near 31, and no way down above 62, unless the curvature changes.
# 5. At 10 it falls faster than in all of the source's curves. At 50 it overshoots each time and still falls. At 200
#    it is thrown out, makes its valley flatter and comes back at other weights. At 2,000 it saturates and stays out,
#    with an error curve that looks like peace.
