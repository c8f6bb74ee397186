# %% [markdown]
# # S6 part 1: Work out eight derivatives by hand, and find out how long a step may be
#
# In S5 one line, `loss.backward()`, found 593,200 derivatives, and we took them on trust. Here we find eight ourselves,
# in a network small enough for a pocket calculator: two inputs, two hidden neurons, two outputs, eight weights. Then we
# train it and ask: how large may the learning rate be?
#
# This page retells the published solution of a student, a spreadsheet. We call it *the source*. It draws the error for
# learning rates from 0.1 to 2.0, and there a larger rate is always better. We go on to 10, 50 and 200.
#
# **What you'll do**
#
# 1. Carry two inputs forward through the network to an error.
# 2. Find the eight derivatives, two of them with your own lines, and hold all eight against PyTorch's.
# 3. Take ten steps, then a thousand at each of the source's six learning rates, and predict what another one does.
# 4. Predict every curve with one formula.
# 5. See on the surface of the error what learning rates of 10, 50, 200 and 2,000 do, and explain it.
#
# **What you'll learn**: the chain rule as products along paths and a sum over them, the sigmoid and its slope,
# back-propagation, curvature and the learning rate, saturation.
#
# **What you'll need**: what a derivative is, and the chain rule for f(g(x)). About 60 minutes; the computer needs a few
# seconds. Nothing is random here: on your machine every number comes out as printed.
#
# *Before this*: [S5](../S5/step1_first_network.ipynb), the first network. *After this*:
# [part 2, step 1](part2_step1_dense_head.ipynb). The [map of the steps](../../README.md#the-map-of-the-steps) shows the
# whole way. In the cloud: [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the
# repository; the [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | derivatives that equal PyTorch's to 1e-12 | 8, all | 64-bit numbers carry 16 digits: a difference below 1e-12 is rounding |
# | steps after which all weights equal PyTorch's to 1e-12 | 10 | a wrong sign or a wrong learning rate would show in the first step |
# | the source's learning rates whose error falls at *every* step, down to 1e-18 | 6, all | a derivative promises only that a *short enough* step leads downhill |
#
# There is one example, so one epoch is one step.

# %%
TRAIN = "recorded"  # "recorded", "quick" and "full" compute the same on this page: a thousand steps take a second
try:
    from common.recipe import ROOT, Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(step="S6/part1_backprop", epochs=1000, batch_size=1, lr=0.5)
recipe, options = command_line(recipe, TRAIN)

targets = (
    Target("derivatives that equal PyTorch's", ">=", 8),
    Target("steps that equal PyTorch's", ">=", min(10, recipe.epochs)),
    Target("learning rates whose error falls at every step", ">=", 6),
)

# %%
from itertools import pairwise
from math import exp, sqrt
from typing import NamedTuple

import torch

from common import records
from common.lesson import Exercises, plots, slider
from common.system.files import write_atomically
from common.system.streams import labelled

exercises = Exercises(recipe.step)
how = (
    f"{options.train.capitalize()} run: {recipe.epochs:,} steps, all computed here and now, as in the other two modes."
)
print(labelled("training", how))

# %% [markdown]
# ## The data
#
# One example: two inputs, and for each of the two outputs its target, the value that we want to see there.

# %%
I1, I2 = 0.05, 0.10  # inputs
T1, T2 = 0.50, 0.50  # targets

# %% [markdown]
# ## The network
#
# Each neuron adds up its inputs, each times a weight. This sum is its **net input**. The **sigmoid** function
# $\sigma(x) = 1 / (1 + e^{-x})$ turns it into a number between 0 and 1, the neuron's **activation**. There are no
# biases.

# %%
START = (0.15, 0.20, 0.25, 0.30, 0.40, 0.45, 0.50, 0.55)  # w1 to w8

first_layer = {(0, 0): "w1 = 0.15", (1, 0): "w2 = 0.20", (0, 1): "w3 = 0.25", (1, 1): "w4 = 0.30"}
second_layer = {(0, 0): "w5 = 0.40", (1, 0): "w6 = 0.45", (0, 1): "w7 = 0.50", (1, 1): "w8 = 0.55"}
names = [["I1\n0.05", "I2\n0.10"], ["h1", "h2"], ["o1", "o2"]]
plots.show(plots.neurons(names, [first_layer, second_layer]), options.out, "network")

# %% [markdown]
# In the code, `h1` is the net input of the first hidden neuron and `a_h1` its activation; `o1` and `a_o1` are those of
# the first output. The error E is half the squared distance to the target, summed over the two outputs. The half
# cancels a 2 when we differentiate.


# %%
class Forward(NamedTuple):
    """All that the network computes on its way from the inputs to the error."""

    h1: float
    h2: float
    a_h1: float
    a_h2: float
    o1: float
    o2: float
    a_o1: float
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
    a_h1 = sigmoid(h1)
    a_h2 = sigmoid(h2)
    o1 = w5 * a_h1 + w6 * a_h2
    o2 = w7 * a_h1 + w8 * a_h2
    a_o1 = sigmoid(o1)
    a_o2 = sigmoid(o2)
    e1 = (T1 - a_o1) ** 2 / 2
    e2 = (T2 - a_o2) ** 2 / 2
    return Forward(h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2, e1, e2, e1 + e2)


# %% [markdown]
# Do the first line yourself: h1 = 0.15 x 0.05 + 0.20 x 0.10 = 0.0275. The sigmoid of such a small number is a little
# more than one half.

# %%
first = forward(START)
for one, other in (("h1", "h2"), ("a_h1", "a_h2"), ("o1", "o2"), ("a_o1", "a_o2"), ("e1", "e2")):
    print(f"{one:<5} {getattr(first, one):<12.6g}{other:<5} {getattr(first, other):.6g}")
print(f"e     {first.e:.6g}")

# %% [markdown]
# Both outputs are above 0.6, and 0.5 is wanted. The sigmoid is 0.5 where its net input is 0. So we know where training
# has to lead: to weights for which o1 = 0 and o2 = 0.

# %% [markdown]
# ## Backward: the eight derivatives
#
# We want $\partial E / \partial w_5$: how fast the error grows when w5 grows and the other weights stay. This is a
# **partial derivative**; eight of them together are the gradient.
#
# ### The slope of a sigmoid
#
# It follows from the activation alone, which the forward pass has computed already:
#
# $$
# \sigma'(x) = \frac{e^{-x}}{(1 + e^{-x})^2} = \frac{1}{1 + e^{-x}} \cdot \frac{e^{-x}}{1 + e^{-x}}
# = \sigma(x)\,\bigl(1 - \sigma(x)\bigr)
# $$
#
# It is at most 1/4, for an activation of one half. It is nearly 0 for an activation near 0 or near 1.
#
# ### One path: w5
#
# In the figure w5 leads to o1. From there, not drawn, the **path** goes on to the error: o1 changes a_o1, and a_o1
# changes E. The **chain rule** multiplies the three derivatives along this path:
#
# $$
# \frac{\partial E}{\partial w_5}
# = \underbrace{(a_{o1} - T_1)}_{\text{of E by } a_{o1}}
# \cdot \underbrace{a_{o1} (1 - a_{o1})}_{\text{of } a_{o1} \text{ by } o_1}
# \cdot \underbrace{a_{h1}}_{\text{of } o_1 \text{ by } w_5}
# $$

# %%
factors = first.a_o1 - T1, first.a_o1 * (1 - first.a_o1), first.a_h1
de_dw5 = factors[0] * factors[1] * factors[2]
print(" x ".join(f"{factor:.6f}" for factor in factors), f"= {de_dw5:.5f}")
short = [round(factor, 4) for factor in factors]
print(" x ".join(f"{factor:.4f}" for factor in short), f"= {short[0] * short[1] * short[2]:.5f}")

# %% [markdown]
# In words: the output is 0.106478 too high, its sigmoid passes on 0.238662 of a change, and w5 is multiplied by
# 0.506875. If w5 grows by a little, the error grows 0.01288 times as much. (The second line shows what rounding does:
# with factors of four digits the last digit of the product is another one.)
#
# **Yours: the derivative for w8** (easy, 5 minutes). Find its path in the figure. Then write
# $\partial E / \partial w_8$. `f` is what `forward` returns; you need `f.a_o2`, `f.a_h2` and the target `T2`.


# %%
def de_dw8(f: Forward) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


OTHER = (0.5, -0.3, 0.8, 0.1, -0.6, 0.9, 0.2, -0.7)  # weights for a second case
de_dw8 = exercises.check(de_dw8, (first,), (forward(OTHER),), tolerance=1e-10)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The path is w8, o2, a_o2, E. Take the three factors of w5, and replace each by its counterpart on this path. Only the
# last one belongs to the hidden layer.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def de_dw8(f):
#     return (f.a_o2 - T2) * f.a_o2 * (1 - f.a_o2) * f.a_h2
# ```
#
# </details>
#
# ### Two paths: w1
#
# From w1 two paths lead to the error. Both begin with h1 and a_h1. Then one goes on over w5 to o1, the other over w7 to
# o2. **What comes along different paths is added.** With the derivatives for the net inputs of the outputs,
# $\partial E / \partial o_1 = (a_{o1} - T_1)\, a_{o1} (1 - a_{o1})$ and its counterpart for $o_2$,
#
# $$
# \frac{\partial E}{\partial a_{h1}}
# = \frac{\partial E}{\partial o_1} \cdot w_5 + \frac{\partial E}{\partial o_2} \cdot w_7
# $$
#
# The rest of the way is common to both paths: through the sigmoid of h1, and to the weight, which is multiplied by I1.
#
# **Yours: the derivative for w1** (medium, 10 minutes). Write $\partial E / \partial w_1$, from `f` and the two weights
# on the paths.


# %%
def de_dw1(f: Forward, w5: float, w7: float) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


de_dw1 = exercises.check(de_dw1, (first, START[4], START[6]), (forward(OTHER), -0.6, 0.2), tolerance=1e-10)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Write the sum over the two paths first. Then multiply it by two more factors: the slope of h1's sigmoid, which depends
# on `f.a_h1`, and the input `I1`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def de_dw1(f, w5, w7):
#     de_do1 = (f.a_o1 - T1) * f.a_o1 * (1 - f.a_o1)
#     de_do2 = (f.a_o2 - T2) * f.a_o2 * (1 - f.a_o2)
#     de_da_h1 = de_do1 * w5 + de_do2 * w7
#     return de_da_h1 * f.a_h1 * (1 - f.a_h1) * I1
# ```
#
# </details>
#
# ### All eight
#
# $\partial E / \partial o_1$ is a factor in six of the eight derivatives. We compute it once and use it six times. This
# is **back-propagation**: the chain rule from the error backward, layer by layer, where each factor is computed once. A
# network like that of S5 has far too many paths to compute each on its own.
#
# Your two functions stand in their places. The other six derivatives follow the same two patterns.


# %%
def derivatives(weights):
    """The derivatives of E by w1 to w8."""
    w5, w6, w7, w8 = weights[4:]
    f = forward(weights)

    de_do1 = (f.a_o1 - T1) * f.a_o1 * (1 - f.a_o1)
    de_do2 = (f.a_o2 - T2) * f.a_o2 * (1 - f.a_o2)
    second = de_do1 * f.a_h1, de_do1 * f.a_h2, de_do2 * f.a_h1, de_dw8(f)  # one path each

    de_dh1 = (de_do1 * w5 + de_do2 * w7) * f.a_h1 * (1 - f.a_h1)  # two paths, added
    de_dh2 = (de_do1 * w6 + de_do2 * w8) * f.a_h2 * (1 - f.a_h2)
    return de_dw1(f, w5, w7), de_dh1 * I2, de_dh2 * I1, de_dh2 * I2, *second


# %% [markdown]
# Now the comparison. PyTorch's **autograd** records what is computed with a tensor, and goes back along that record by
# the chain rule. We give it the same network as two 2x2 matrices, in 64-bit numbers (`float64`): the usual 32-bit ones
# carry 7 digits only.
#
# **Predict first.** Which is larger, the derivative for w5 or the one for w1? By what factor, roughly? You have all you
# need: two paths lead back to w1, each over a weight of about one half; then come the slope of a sigmoid and an input.
#
# <details><summary>Answer</summary>
#
# The one for w5, by a factor of about 40. The two paths over weights of about one half bring together as much as
# arrives at o1. Then comes the slope of a sigmoid, at most 1/4, and an input of 0.05 where w5 has an activation of
# about one half. That is 1/4 x 1/10 = 1/40.
#
# The small input is this example's. The slope is the sigmoid's: each further layer of sigmoids would multiply by at
# most 1/4 again, and by its weights. In a deep network of sigmoids the derivatives of the first layers can so become
# very small. This is the **vanishing gradient**, one reason why the other networks of this course have ReLU in their
# hidden layers: its slope is 1 wherever it is not 0.
#
# </details>


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
print(f"dE/dw5 is {ours[4] / ours[0]:.0f} times dE/dw1")

# %% [markdown]
# All eight are positive: both outputs are too high, and each weight pushes them up.

# %% [markdown]
# ## Training
#
# Gradient descent takes from each weight its derivative times the learning rate $\eta$, all eight at once:
# $w \leftarrow w - \eta \cdot \partial E / \partial w$. For w5 in the first step: 0.40 - 0.5 x 0.01288 = 0.39356.


# %%
def train(rate, steps=recipe.epochs, start=START):
    """The weights at the start and after each step."""
    walk = [start]
    for _ in range(steps):
        weights = walk[-1]
        slopes = derivatives(weights)
        walk.append(tuple(weight - rate * slope for weight, slope in zip(weights, slopes, strict=True)))
    return walk


walk = train(recipe.lr)
first_steps = walk[:11]
print("step       w1       w5     a_o1     a_o2          E       dE/dw1       dE/dw5")
for step, weights in enumerate(first_steps):
    f, slopes = forward(weights), derivatives(weights)
    numbers = f"{weights[0]:.5f}  {weights[4]:.5f}  {f.a_o1:.5f}  {f.a_o2:.5f}  {f.e:.7f}"
    print(f"{step:>4}  {numbers}  {slopes[0]:.9f}  {slopes[4]:.9f}")

# %% [markdown]
# In ten steps the error falls by a quarter. Nearly all of it is the work of the second layer: w5 moves 43 times as far
# as w1. Now the same ten steps by PyTorch, which now does the subtraction too:

# %%
print(f"w5 moved {(START[4] - first_steps[-1][4]) / (START[0] - first_steps[-1][0]):.0f} times as far as w1")

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
FLOOR = 1e-18  # smaller errors are not printed: of an output's 16 digits too few are left to tell them

walks = {rate: train(rate) for rate in RATES}
errors = {rate: [forward(weights).e for weights in walk] for rate, walk in walks.items()}
plots.show(plots.error_curves(errors, 100, FLOOR), options.out, "error_curves")


# %%
def error_table(errors):
    """The error after 1, 10, ... steps, a column for each learning rate."""
    print("learning rate " + "".join(f"{rate:>12,g}" for rate in errors))
    for step in (0, 1, 10, 100, 1000):
        if step <= recipe.epochs:
            texts = [f"{values[step]:.3e}" if values[step] >= FLOOR else f"< {FLOOR:g}" for values in errors.values()]
            print(f"after {step:>5,}   " + "".join(f"{text:>12}" for text in texts))


error_table(errors)

# %% [markdown]
# (2.475e-05 means 2.475 divided by 10 five times.) On the left all six curves fall, the larger the learning rate the
# faster, and they do not cross. On the right, with a logarithmic axis, each becomes a straight line. There every step
# multiplies the error by the same factor.
#
# ### Experiment: another learning rate, other start weights
#
# The next cell counts the steps until the error is below a millionth, 1e-6. With a learning rate of 2.0 it takes 73
# steps. How many will it take with 4.0? Write your guess behind `prediction`, then run the cell. Then set the rate back
# to 2.0, and start from weights that are twice as large. Guess again before you run it.

# %% tags=["experiment"]
prediction = None  # your guess: a number of steps
rate = 4.0  # change this
start = START  # or this: tuple(2 * weight for weight in START)


def steps_to(goal, walk):
    """The first step at which the error is below `goal`; None where there is none."""
    return next((step for step, weights in enumerate(walk) if forward(weights).e < goal), None)


known, found = steps_to(1e-6, walks[2.0]), steps_to(1e-6, train(rate, start=start))
print(f"learning rate 2 from the page's start weights: {known} steps")
there = f"{found} steps" if found is not None else f"not there after {recipe.epochs:,} steps"
print(f"learning rate {rate:g} from {'the same' if start == START else 'other'} start weights: {there}")
if prediction is None:
    print("You made no prediction.")
elif found is not None:
    print(f"You predicted {prediction}: {abs(prediction - found)} steps away.")

# %% [markdown]
# <details><summary>What came out here, and why</summary>
#
# With 4.0 it takes 36 steps, about half of 73: steps of twice the length, half as many of them. From doubled start
# weights with 2.0 it takes 83, only 10 more. The net inputs o1 and o2 are about twice as large, so the error is nearly
# four times as large. Each step leaves about 87 % of the error, and ten such steps leave about a quarter: they make
# good the factor of four. There is no interval beside these numbers, because nothing is random.
#
# </details>

# %% [markdown]
# ## Result


# %%
def falls(values):
    """Whether every step lowers the error, as far down as we print it."""
    return all(after < before for before, after in pairwise(values) if before >= FLOOR)


measured = (sum(equal), equal_steps, sum(falls(values) for values in errors.values()))
for target, value in zip(targets, measured, strict=True):
    outcome = "met" if target.met_by(value) else f"missed: {value} is not at least {target.bound}"
    print(labelled("this run", f"{records.target_text(target):<56}{value:>3}  {outcome}"))

# %% [markdown]
# All three are met. The source gives its six curves and no number, and its curves come out of our derivatives. Every
# column of the spreadsheet, for the thousand steps at a learning rate of 0.5, is now in a file that spreadsheet
# programs open:

# %%
columns = ["step", *(f"w{number}" for number in range(1, 9)), *Forward._fields]
columns += [f"dE/dw{number}" for number in range(1, 9)]
rows = [(step, *weights, *forward(weights), *derivatives(weights)) for step, weights in enumerate(walk)]
write_atomically(options.out / "steps.csv", "".join(",".join(map(str, row)) + "\n" for row in [columns, *rows]))
shown = options.out.relative_to(ROOT) if options.out.is_relative_to(ROOT) else options.out
print(labelled("written", f"steps.csv is in {shown}"))

# %% [markdown]
# ## The mistakes
#
# On its one example the trained network has no error worth printing. So we ask it about others.
#
# **Predict first.** What will its outputs be for the inputs 1 and 1? And for 10 and -10?
#
# <details><summary>Answer</summary>
#
# About one half, for all of them; the table shows it. Nothing in the training example says that the answer depends on
# the inputs. Training brought w5 to w8 from about one half down to almost 0, and the little that is left cancels: w6
# against w5, w8 against w7. So whatever the inputs do to the hidden activations, hardly any of it reaches the outputs.
# The training error does not show this, however small it is. That is why S5 held test images back.
#
# </details>

# %%
w1, w2, w3, w4, w5, w6, w7, w8 = walk[-1]
print(f"w5 {w5:.3f}, w6 {w6:.3f};  w7 {w7:.3f}, w8 {w8:.3f}")
print("     i1      i2     a_o1     a_o2")
for i1, i2 in ((0.05, 0.10), (0, 0), (1, 0), (0, 1), (1, 1), (10, -10)):
    a_h1, a_h2 = sigmoid(w1 * i1 + w2 * i2), sigmoid(w3 * i1 + w4 * i2)
    print(f"{i1:>7} {i2:>7}  {sigmoid(w5 * a_h1 + w6 * a_h2):.5f}  {sigmoid(w7 * a_h1 + w8 * a_h2):.5f}")

# %% [markdown]
# An error of 0 puts two conditions on eight weights, o1 = 0 and o2 = 0. So there are many solutions. Which of them a
# run reaches depends on its start and, as we will see, on the length of its steps.

# %% [markdown]
# ## Analysis
#
# ### Why the curves are ordered as they are
#
# With half the rate one needs twice the steps. If that were all, then all six runs would have the same error when
# learning rate times steps is the same. Here it is 100 for each:

# %%
for rate, values in errors.items():
    steps = round(100 / rate)
    if steps <= recipe.epochs:
        print(f"learning rate {rate:>3}   after {steps:>5,} steps   {values[steps]:.3e}")

# %% [markdown]
# The rates differ by a factor of 20, the errors by a fifth. So the rule explains nearly all of the order. But the
# longest steps are a little better than it says. The next section tells why.
#
# ### One formula for all curves
#
# Near the goal o1 is small. There a_o1 - T1 is about o1/4, and the sigmoid's slope is about 1/4. So
# $\partial E / \partial w_5$ is about $a_{h1}\, o_1 / 16$, and $\partial E / \partial w_6$ about $a_{h2}\, o_1 / 16$.
# The first layer hardly moves. Put one step of w5 and w6 into $o_1 = w_5 a_{h1} + w_6 a_{h2}$, and you get
#
# $$
# o_1 \leftarrow (1 - \eta \lambda)\, o_1
# \qquad \text{with} \qquad
# \lambda = \frac{a_{h1}^2 + a_{h2}^2}{16}
# $$
#
# For o2 it is the same. $\lambda$ is the **curvature** of the error: how fast its slope changes along the way of the
# step. At the start it is (0.5069² + 0.5106²) / 16 = 0.0324. The error goes with the square of o1 and o2, so a step
# multiplies it by $(1 - \eta \lambda)^2$. What follows depends on $\eta \lambda$ alone:
#
# - **Far below 1**: the factor is about $e^{-2 \eta \lambda}$, so only learning rate times steps counts. But $1 - x$ is
#   always a little less than $e^{-x}$. With a learning rate of 2.0 this makes the fifth.
# - **1**, a learning rate of about 31: a single step leads to the goal, as far as the formula is exact.
# - **Between 1 and 2**: the step goes beyond the goal, it **overshoots**, but it ends nearer to it than it began.
# - **Above 2**, a learning rate above 62: the step ends farther away than it began.
#
# So the largest of the source's rates is a fifteenth of the best one.
#
# **Predict first.** The next cells train with 10, 31, 50, 200 and 2,000. Which of them will end with an error near 0?
# Which will fall faster than the source's 2.0? Write down a guess for each of the five.
#
# <details><summary>Answer</summary>
#
# 10, 31, 50 and, against the formula, also 200. The first three are ahead of 2.0 from the first step on. 200 first
# jumps up, and falls steadily after 15 steps. 2,000 jumps up and stays there. The rest of the page explains the last
# two.
#
# </details>


# %%
def curvature(f):
    return (f.a_h1**2 + f.a_h2**2) / 16


print(f"curvature at the start: ({first.a_h1:.4f}² + {first.a_h2:.4f}²) / 16 = {curvature(first):.4f}")
print(f"best learning rate {1 / curvature(first):.0f}, largest {2 / curvature(first):.0f}\n")

LARGE_RATES = (10.0, 31.0, 50.0, 200.0, 2000.0)
large_walks = {rate: train(rate) for rate in LARGE_RATES}
large_errors = {rate: [forward(weights).e for weights in walk] for rate, walk in large_walks.items()}
error_table(large_errors)

# %%
first_hundred = {rate: values[:101] for rate, values in large_errors.items()}
plots.show(plots.error_curves(first_hundred, 40, FLOOR), options.out, "large_rates")

# %% [markdown]
# First the formula against the measurement: by what factor does one step change the error? The table takes, for all
# eleven learning rates, the first error below 1e-4.

# %%
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
# One line of algebra predicts the slopes of nine curves. For 31 it says only that almost nothing is left, and so it is.
# At 10 a step leaves 46 % of the error. At 50 it leaves 37 %: it overshoots each time and is still faster. At 200 the
# product was 6.471 at the start, and at the end it is 1.775. The curvature has changed.
#
# ### The surface of the error over two weights
#
# We let only w5 and w6 learn, and hold the other six at their start values. Then the error of output 1 is a surface
# over two weights, and every path lies on it.


# %%
def output_1(w5, w6):
    """Net input and error of output 1; the other six weights are those of the start."""
    f = forward((*START[:4], w5, w6, *START[6:]))
    return f.o1, f.e1


def train_two(rate, steps=12):
    """The pairs (w5, w6) at the start and after each step; only these two weights learn."""
    walk = [START[4:6]]
    for _ in range(steps):
        slopes = derivatives((*START[:4], *walk[-1], *START[6:]))[4:6]
        walk.append(tuple(weight - rate * slope for weight, slope in zip(walk[-1], slopes, strict=True)))
    return walk


paths = {10.0: train_two(10), 50.0: train_two(50), 200.0: train_two(200, steps=6)}
plots.show(plots.valley(output_1, paths, {10.0: 0.7, 50.0: 0.7, 200.0: 5.0}), options.out, "valley")

# %% [markdown]
# The upper row looks down on the surface, the lower one shows it from the side. The square is the start, each dot a
# step. The third column shows a larger area; its dashed frame is the area of the other two. Colours mean the same
# everywhere.
#
# - The surface is a straight **valley**. All weights along its dark floor give o1 = 0: one condition, many solutions.
# - **10** walks down one side in ever shorter steps, because the slope gets smaller.
# - **50** jumps from one side to the other. Each time it lands lower.
# - **200** is thrown up the other side, and lands high again and again. But it does not fly away: a sigmoid stays
#   between 0 and 1, so E1 stays below 1/8. And far out the surface is flat.
#
# In a notebook that somebody has opened and run, a slider for the learning rate follows here. Find the rate that needs
# one step, and the one above which the steps no longer get shorter.


# %%
def draw(rate):
    plots.show(plots.valley(output_1, {rate: train_two(rate)}), options.out, "slider")


_ = slider(draw, "learning rate", low=1, high=500, first=31)

# %% [markdown]
# With only these two weights, a learning rate of 200 does not arrive, not even in a thousand steps:

# %%
alone = [output_1(*pair)[1] for pair in train_two(200.0, recipe.epochs)][-100:]
together = [forward(weights).e1 for weights in large_walks[200.0]][-100:]
print("200, E1 in the last hundred steps")
print(f"w5 and w6 alone     up to {max(alone):.2f}")
print(f"all eight weights   at most {max(*together, FLOOR):.0e}")

# %% [markdown]
# The run with two weights never settles, and it magnifies the rounding of the last digit: two starts that differ by
# almost nothing are far apart after 50 steps. So we print only how high it still goes.
#
# ### 200: how the first layer saves the run
#
# With all eight weights it arrives. The next figure shows this run over two other quantities: the mean of the two
# hidden activations, and the mean of w5 and w6. (The two activations differ by at most 0.0037 in this run.)


# %%
def error_of_means(activation, weight):
    """E1 where both hidden neurons have this activation, and w5 and w6 are both this weight."""
    return (T1 - sigmoid(2 * activation * weight)) ** 2 / 2


thrown = large_walks[200.0][:31]
states = [forward(weights) for weights in thrown]
path = [((f.a_h1 + f.a_h2) / 2, (weights[4] + weights[5]) / 2) for f, weights in zip(states, thrown, strict=True)]
limit = sqrt(16 / 200)  # 200 * 2 * limit**2 / 16 = 2
plots.show(plots.widening(error_of_means, path, limit, 200), options.out, "widening")

print(f"the two activations differ by at most {max(abs(f.a_h1 - f.a_h2) for f in states):.4f}")
print("step     a_h1   200 x curvature   w1 to w8")
for step in (0, 1, 2, 5, 10, 17, 18, 30):
    if step < len(thrown):
        f, weights = states[step], " ".join(f"{weight:6.2f}" for weight in thrown[step])
        print(f"{step:>4}  {f.a_h1:.3f}    {200 * curvature(f):>16.3f}   {weights}")

# %% [markdown]
# The path jumps up and down across the valley, and with each jump it moves to the left. There the valley gets wider:
# the hidden activations fall from 0.507 to 0.266, and the curvature falls with their square. At step 18 its product
# with the learning rate is below 2. From there on the formula promises that each step lowers the error, and each does.
#
# Why to the left? If an output is too high in this run, its two weights are positive, and a smaller hidden activation
# makes it smaller. If it is too low, its weights are negative, and a smaller activation makes it larger. Both times the
# step lowers w1 to w4, and with them the activations. Far out w5 to w8 are large, and they are factors in the
# derivatives of the first layer. So there its steps are long.
#
# The run ends with an error near 0, as the small rates do, but at quite different weights: compare w1 and w2 in the
# last row with their start values. So in this network a large learning rate also selected a solution: one where the
# valley is wide enough. The same has been observed in large networks, and called
# [the catapult mechanism](https://arxiv.org/abs/2003.02218).
#
# ### 2,000: thrown out for good

# %%
stuck = large_walks[2000.0]
f = forward(stuck[1])
largest = max(abs(slope) for slope in derivatives(stuck[1]))
print(f"after step 1: w5 {stuck[1][4]:.0f}, o1 {f.o1:.0f}, a_o1 {f.a_o1:.0e}, largest derivative {largest:.0e}")
moved = max(abs(a - b) for a, b in zip(stuck[1], stuck[-1], strict=True))
print(f"in the {recipe.epochs - 1:,} steps after it no weight moves by more than {moved:.0e}; the error is {f.e:.2f}")

# %% [markdown]
# After one step the outputs are nearly 0, and so is the slope of their sigmoids. Such a neuron is **saturated**: the
# error is almost as large as it can be, and the derivatives are almost 0. **A flat error curve says that the steps have
# become tiny. It does not say that the error is small.**
#
# ### What the next step changes
#
# The limit of 62 belongs to this network at these weights. In a network with thousands of weights the curvature differs
# from direction to direction, and the direction with the largest one sets the limit for all. One does not work it out
# by hand; one tries. From the next page on autograd does the derivatives, ReLU replaces the sigmoid in the hidden
# layers, and the error is a cross entropy. Exercise 2 shows why.

# %% [markdown]
# ## Exercises
#
# **Exercise 1: a derivative without calculus** (easy, 10 minutes). Move x a little to the right and a little to the
# left, and divide the difference of the two values by the distance between the two places.


# %%
def central_difference(function, x: float, distance: float = 1e-5) -> float | None:
    """The slope of `function` at x, from its values at x + distance and x - distance."""
    # Your lines here. Then return your result instead of None.
    return None


def cube(x):
    return x**3


central_difference = exercises.check(central_difference, (cube, 2.0), (sigmoid, 0.0), (cube, 1.0, 0.1))


def error_of(number):
    """The error as a function of one weight, the others as at the start."""
    return lambda weight: forward((*START[:number], weight, *START[number + 1 :])).e


slopes = [central_difference(error_of(number), START[number]) for number in range(8)]
apart = max(abs(slope - ours[number]) for number, slope in enumerate(slopes))
print(f"all eight derivatives agree to 1e-9: {apart < 1e-9}; it took 16 forward passes")
print(f"for the network of S5 it would take {2 * 593_200:,}, before the first step")

# %% [markdown]
# <details><summary>Hint</summary>
#
# The two places are `x + distance` and `x - distance`. How far apart are they?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def central_difference(function, x, distance=1e-5):
#     return (function(x + distance) - function(x - distance)) / (2 * distance)
# ```
#
# It checks a derivative where no autograd is at hand. Back-propagation finds all of them at the cost of a few forward
# passes, however many weights there are.
#
# </details>

# %% [markdown]
# **Exercise 2: an error that does not saturate** (medium, 15 minutes). For one output with the target t, the cross
# entropy is $E = -t \ln a - (1 - t) \ln (1 - a)$, with $a = \sigma(o)$. Derive $\partial E / \partial o$ and write it
# as a function of a and t. The result is shorter than that of the squared error. The cell then uses it: it goes on from
# the saturated weights of the run with 2,000, with a learning rate of 0.5.


# %%
def cross_entropy_slope(activation: float, target: float) -> float | None:
    """The derivative of the cross entropy by the net input o."""
    # Your lines here. Then return your result instead of None.
    return None


cases = ((first.a_o1, T1), (0.5, 0.5), (0.9, 0.2), (1e-4, 0.5))
cross_entropy_slope = exercises.check(cross_entropy_slope, *cases, tolerance=1e-9)


def squared_error_slope(activation, target):
    return (activation - target) * activation * (1 - activation)


for name, slope_at in (("squared error", squared_error_slope), ("cross entropy", cross_entropy_slope)):
    f, (w5, w6) = forward(stuck[1]), stuck[1][4:6]
    for _ in range(1000):
        slope = slope_at(sigmoid(w5 * f.a_h1 + w6 * f.a_h2), T1)
        w5, w6 = w5 - 0.5 * slope * f.a_h1, w6 - 0.5 * slope * f.a_h2
    print(f"{name}: a_o1 is {f.a_o1:.4f}, and after 1,000 more steps {sigmoid(w5 * f.a_h1 + w6 * f.a_h2):.4f}")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Find $\partial E / \partial a$ first and bring it over one denominator, $a (1 - a)$. Then multiply by the slope of the
# sigmoid.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def cross_entropy_slope(activation, target):
#     return activation - target
# ```
#
# $\partial E / \partial a = -t / a + (1 - t) / (1 - a) = (a - t) / (a (1 - a))$, and the sigmoid's slope $a (1 - a)$
# cancels the denominator. The squared error keeps this slope as a factor, and a saturated output has almost none. This
# is one reason why classifiers are trained with a cross entropy. The loss of the other lessons is the one for ten
# classes; its derivative for a logit has the same form, probability minus target.
#
# </details>

# %% [markdown]
# ## Quiz
#
# **Question 1.** We give output 1 a bias b, so that o1 = w5 a_h1 + w6 a_h2 + b. What is the derivative of E by b?
#
# - **a** 0, because b has no input.
# - **b** That of w5 without its last factor.
# - **c** The same as that of w5.
#
# <details><summary>Answer</summary>
#
# **b.** The path is b, o1, a_o1, E. The derivative of o1 by b is 1, so the first two factors remain. Not a: b has no
# input, but it changes o1. Not c: the last factor of w5 is the activation a_h1, and b is not multiplied by it.
#
# </details>
#
# **Question 2.** We add a third output, connected to both hidden neurons. Over how many paths does w1 act on the error?
#
# - **a** One.
# - **b** Two.
# - **c** Three.
# - **d** Six.
#
# <details><summary>Answer</summary>
#
# **c.** From a_h1 one path leads to each output. Not a: this is right for a weight of the second layer. Not b: this was
# right with two outputs. Not d: w1 reaches h1 only, and not h2.
#
# </details>
#
# **Question 3.** Near the goal, learning rate times curvature is 3. What does the next step do?
#
# - **a** It comes nearer to the goal without reaching it.
# - **b** It goes beyond the goal and ends nearer to it.
# - **c** It goes beyond the goal and ends twice as far away.
#
# <details><summary>Answer</summary>
#
# **c.** The net input is multiplied by 1 - 3 = -2: the other side, twice as far. Not a: this needs a product below 1.
# Not b: this needs one between 1 and 2.
#
# </details>
#
# **Question 4.** An error curve has been flat for hundreds of steps. What do you know?
#
# - **a** The error is at its smallest.
# - **b** The steps hardly change the error; it may be large.
# - **c** The learning rate is too small.
#
# <details><summary>Answer</summary>
#
# **b.** Not a: the run with 2,000 was flat at almost the largest error that there is. Not c: in that run the learning
# rate was much too large, and saturation made the derivatives almost 0.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. Forward: net inputs near 0, activations near one half, outputs above 0.6 where 0.5 is wanted, an error of
#    0.0141814.
# 2. A derivative is a product along a path, and a sum over the paths. All eight equal autograd's to 1e-12. That of w1
#    is 41 times smaller than that of w5.
# 3. Ten steps at 0.5 take a quarter off the error. The source's six curves fall at every step. Doubling the rate halves
#    the number of steps, nearly.
# 4. Near the goal a step multiplies the error by $(1 - \eta \lambda)^2$. The curvature $\lambda$ is 0.0324 at the
#    start: 31 is the best rate, and above 62 steps lead away.
# 5. At 10 the run walks down, at 50 it overshoots and still falls. At 200 it is thrown out, until the first layer has
#    made the valley wide enough. At 2,000 it saturates and stays.
