# %% [markdown]
# # S6 part 2, step 3: Average the dense head away, and see what each place says
#
# Step 1 spent more than half of its parameters on two dense layers. Step 2 had none, but its scores suffered from
# Dropout. This page retells the published solution of another student, *the source*. Its last convolution makes ten
# maps, one for each digit. The average of a map is the digit's [logit](../S5/step1_first_network.ipynb), in short its *score*. No weight is needed for that. The network has
# 17,118 parameters, and the source reported 99.33 % after epoch 20. Can an average replace a dense layer, and what does it forget?
#
# **What you'll do**
#
# 1. Write global average pooling and a 1x1 convolution, and hold both against PyTorch's.
# 2. Compare the pooling with three dense heads, and with a last convolution that sees one cell.
# 3. See what ReLU and BatchNorm do to ten scores.
# 4. Hold the trained network against its targets.
# 5. Write class maps, and look at right and wrong digits through them, with pooling and with a dense head.
# 6. Shift the digits, and find out what the network has to say about *where*.
#
# **What you'll learn**: global average pooling, 1x1 convolution, class map.
#
# **What you'll need**: [step 2](part2_step2_strided.ipynb), and about 60 minutes. The full training takes
# 8 minutes<!--S6/part2_step3_global_pooling minutes--> on one core of a CPU.
#
# *Before this*: [step 2, fixed](part2_step2_fixed.ipynb). *After this*: [99.33 or 99.42?](part2_step3_how_sure.ipynb)
# The [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository; the
# [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | the assignment asks for | why this number |
# |---|---|---|
# | parameters | fewer than 20,000 | two of three dense layers in place of the pooling would break it, as you will see |
# | epochs | fewer than 20 | long training must not make up for a poor network |
# | test accuracy | at least 99.40 % | at most 60 wrong images of 10,000 |
#
# The source trained for 20 epochs, and 20 are not fewer than 20. We keep its recipe, so this target is missed.

# %%
TRAIN = "recorded"  # "recorded" shows what a full run left; "full" trains as the recipe says; "quick" takes seconds
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
recipe, options = command_line(recipe, TRAIN)

targets = (
    Target("parameters", "<", 20_000),
    Target("epochs", "<", 20),
    Target("test accuracy", ">=", 99.40),
)

# %%
import math

import torch
from torch import nn
from torch.nn import functional

from common import data, models, records, training
from common.lesson import Exercises, experiment, plots

exercises = Exercises(recipe.step)
device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
checkpoint = training.Checkpoint(options, recipe, digits, device)
print(records.head(recipe, options, digits, device))

# %% [markdown]
# ## The data
#
# Whoever averages over places should know what lies where. Here is the average of all training images of each digit,
# and of all together.

# %%
by_digit = [digits.train_images[digits.train_labels == digit].float().mean(dim=0) for digit in range(10)]
averages = torch.stack([*by_digit, digits.train_images.float().mean(dim=0)])
figure = plots.grid(averages, [*map(str, range(10)), "all"], title="the average training image")
plots.show(figure, options.out, "averages")

# %% [markdown]
# The ink lies in the middle, because MNIST's authors put each digit's centre of mass there. The margin is empty. A
# blurred stroke is one that people write in different places; the 1 is blurred like a fan, because some people slant
# it. Keep these pictures in mind: at the end we move the digits away from the middle.
#
# This recipe has no augmentation. Each epoch shows the same images, in another order.

# %%
train_batches = data.InMemoryLoader(
    digits.train_images, digits.train_labels, recipe.batch_size, shuffle=True, seed=recipe.seed, device=device
)
test_batches = {"held-out": data.InMemoryLoader(digits.test_images, digits.test_labels, batch_size=500, device=device)}

# %% [markdown]
# ## The network

# %%
torch.manual_seed(recipe.seed)
model = models.build(recipe.step).to(device)
print(models.source(recipe.step))

# %%
rows = models.layer_rows(model)
plots.show(plots.network(rows), options.out, "network")

# %% [markdown]
# Every convolution is [padded](part2_step1_dense_head.ipynb). Only the max-pools shrink the maps: 28, 14, 7 and 3 cells
# wide. (A **cell** is one place of a map.) The last convolution gives ten maps, one for each digit.
#
# torchsummary's table is the one that the assignment asks for. The course's own, below it, adds the receptive fields.

# %%
print(models.summary(model))

# %%
print(models.layer_table(model))

# %% [markdown]
# ### Global average pooling
#
# **Global average pooling** replaces each map by one number, the average of its cells
# ([Lin, Chen and Yan](https://arxiv.org/abs/1312.4400)). Ten maps give ten numbers, and here these are the scores.
#
# **Yours: average the maps** (easy, 5 minutes). `maps` has the shape [images, channels, rows, columns]. Return a tensor
# of the shape [images, channels].


# %%
def global_average(maps: torch.Tensor) -> torch.Tensor | None:
    # Your lines here. Then return your result instead of None.
    return None


generator = torch.Generator().manual_seed(recipe.seed)
some_maps = torch.randn(4, 10, 3, 3, generator=generator)
oblong_maps = torch.randn(2, 5, 7, 4, generator=generator)
global_average = exercises.check(global_average, (some_maps,), (oblong_maps,))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `mean` takes several directions at once: `dim=(..., ...)`. Rows and columns are directions 2 and 3.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def global_average(maps):
#     return maps.mean(dim=(2, 3))
# ```
#
# </details>

# %%
theirs = nn.AdaptiveAvgPool2d(1)(some_maps).flatten(1)
print("ours and PyTorch's AdaptiveAvgPool2d agree:", torch.allclose(global_average(some_maps), theirs, atol=1e-6))

# %% [markdown]
# In this network a max-pool stands in front of the average. It makes 3x3 cells of 7x7. How can it, when 7 is odd? Here
# it works on a map whose cells are numbered from 0 to 48.

# %%
numbered = torch.arange(49.0).reshape(1, 1, 7, 7)
print(functional.max_pool2d(numbered, 2).int()[0, 0].tolist())
centres = [4 * cell + 1.5 for cell in range(6)]
print("cells 0 to 5 of a row have their centres at the pixels", centres)
print(f"on average {sum(centres) / 6:g}; the middle of pixels 0 to 27 is at {27 / 2:g}")

# %% [markdown]
# The largest number, 48, is gone. The pool takes rows and columns in pairs and drops the seventh of each: 13 of 49
# cells reach no score. The six that are left have their
# centres two pixels up and to the left of the middle. So has the whole network. Nobody decided that. Whether it matters we measure below.

# %% [markdown]
# ### A 1x1 convolution
#
# How does a network come to have one map for each class? Here a 3x3 convolution makes ten maps of 32. It needs
# 32 x 10 x 9 + 10 = 2,890 parameters. The usual way is cheaper: a **1x1 convolution**. Its kernel sees a single cell.
# At each place it makes ten new numbers of the 32 old ones, and it uses the same weights at all places. It is a dense
# layer from channels to channels, applied cell by cell. It costs 32 x 10 + 10 = 330 parameters.
#
# **Yours: a 1x1 convolution** (medium, 10 minutes). `maps` is [channels, rows, columns], `weights` is [classes,
# channels], `bias` is [classes]. Return the new maps, [classes, rows, columns].


# %%
def convolve_1x1(maps: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor | None:
    # Your lines here. Then return your result instead of None.
    return None


maps_32 = torch.randn(32, 7, 7, generator=generator)
weights, bias = torch.randn(10, 32, generator=generator), torch.randn(10, generator=generator)
convolve_1x1 = exercises.check(convolve_1x1, (maps_32, weights, bias), (oblong_maps[0], weights[:3, :5], bias[:3]))

# %% [markdown]
# <details><summary>Hint</summary>
#
# A matrix product does it. `maps.flatten(1)` has the shape [channels, places]. Multiply `weights` by it, add the bias
# as a column, `bias[:, None]`, and give the result its rows and columns back.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def convolve_1x1(maps, weights, bias):
#     channels, rows, columns = maps.shape
#     return (weights @ maps.flatten(1) + bias[:, None]).reshape(-1, rows, columns)
# ```
#
# </details>

# %% [markdown]
# **Predict first.** One network makes ten maps with a 1x1 convolution and then averages them. Another averages the 32
# maps first, and then has a dense layer from 32 to 10 with the same weights. Do the scores differ?
#
# <details><summary>Answer</summary>
#
# No. Both only add and multiply by fixed numbers, and the order of such steps does not matter. Averaging first needs
# less work. (With ReLU or a max-pool in between they would differ.)
#
# </details>

# %%
theirs = functional.conv2d(maps_32[None], weights[:, :, None, None], bias)[0]
print("ours and PyTorch's conv2d agree:", torch.allclose(convolve_1x1(maps_32, weights, bias), theirs, atol=1e-4))
maps_first = global_average(convolve_1x1(maps_32, weights, bias)[None])[0]
average_first = functional.linear(global_average(maps_32[None])[0], weights, bias)
print(
    f"parameters of a 3x3 convolution from 32 to 10 channels: {32 * 10 * 9 + 10:,}, of a 1x1 convolution: {32 * 10 + 10:,}"
)
print("1x1 convolution, then average = average, then dense:", torch.allclose(maps_first, average_first, atol=1e-4))

# %% [markdown]
# **Experiment.** The network's last convolution is 3x3. Give it a kernel of 1x1, with everything behind it as it was.
# It saves nearly nine tenths of this layer's parameters. Both networks train on 1,000 images for a few epochs. By how
# many points of accuracy does the 1x1 network differ? Write your guess, then run the cell (about 20 seconds).

# %% tags=["measured"]
prediction = None  # your guess in points, such as -3.0: less than 0 means that 1x1 reads fewer digits
kernel = 1  # change this: 1, 3 or 5


def with_another_kernel() -> nn.Module:
    network = models.build(recipe.step)
    network.layers[5][0] = nn.Conv2d(32, 10, kernel, padding=kernel // 2)
    return network


found = experiment(
    recipe, options, digits, device, network=with_another_kernel, prediction=prediction, images=1_000, epochs=4
)

# %% [markdown]
# <details><summary>What came out here, and why</summary>
#
# The 1x1 network read 4.83 points fewer: three pairs of seeds, one comparison, 95 % interval -8.69 to -0.98. So here it
# is worse, though how much worse is uncertain. The 3x3 kernel compares neighbouring cells, and its cells see 26x26
# pixels; with 1x1 they see 18x18, less than most digits. It also has more weights. Which of the two counts, this
# experiment does not say. Networks that end in a 1x1 convolution, such as S7's, make their field large before it.
#
# </details>

# %% [markdown]
# ### Pooling against a dense head
#
# A dense layer on the same maps has a weight for every cell of every map. There are three places where it could stand:
# on the [10, 3, 3] maps behind the max-pool, on the [10, 7, 7] maps in front of it, or on the [32, 7, 7] maps before the
# last convolution, which it would replace. We count; nothing is trained.

# %%
with torch.random.fork_rng(devices=[]):  # the heads draw weights that nobody needs; the run must not notice
    trunk = models.build(recipe.step).layers
    heads = {
        "pooling": trunk,
        "dense on [10, 3, 3]": nn.Sequential(*trunk[:7], nn.Flatten(), nn.Linear(90, 10)),
        "dense on [10, 7, 7]": nn.Sequential(*trunk[:6], nn.Flatten(), nn.Linear(490, 10)),
        "dense on [32, 7, 7]": nn.Sequential(*trunk[:5], nn.Flatten(), nn.Linear(1568, 10)),
    }
print(f"{'head':<21}{'parameters':>12}{'of them dense':>15}{'a score sees':>14}   {records.target_text(targets[0])}")
for name, network in heads.items():
    head_rows, held = models.layer_rows(network), models.count_parameters(network)
    dense = sum(row.parameters for row in head_rows if row.name.startswith("Linear"))
    field = f"{head_rows[-1].receptive_field}x{head_rows[-1].receptive_field}"
    print(f"{name:<21}{held:>12,}{dense:>15,}{field:>14}   {'met' if targets[0].met_by(held) else 'missed'}")

# %% [markdown]
# Only the smallest dense head fits under the limit. With every head a score sees more than the whole image. They differ
# in what they can *tell apart*. Pooling is a dense layer with fixed weights: a score takes 1/9 of each of the nine cells
# of its own map, and 0 of the other 81. With equal weights it cannot tell top from bottom. That a 6 has its loop below
# and a 9 above must be seen by the convolutions in front. They can: a cell of the ten maps sees 26x26 pixels.

# %% [markdown]
# ## Scores with a floor and a scale
#
# The last convolution is built like the others, so ReLU, Dropout and BatchNorm work on the ten maps too.
#
# - **ReLU** cuts off what is below zero. A map can say "this is a 7" more or less loudly. To say "this is no 7" it can
#   only stay empty.
# - **BatchNorm** moves an empty map to one negative number, always the same: the floor of the score. It also divides by
#   the standard deviation. Larger weights of the convolution change nothing; the scale is set by the parameter gamma,
#   which starts at 1.
#
# How sure can such a network be? Suppose a perfect map: in one image of ten, its own digit, some cells are 1; all else
# is 0. Let some of the 49 cells be 1, and count in how many of the nine windows of the max-pool they lie.
#
# **Predict first.** Which of the three gives the largest distance between the score of the right digit and the others:
# all 49 cells, nine cells with one in each window, or a single cell?
#
# <details><summary>Answer</summary>
#
# The nine cells. Where fewer cells are 1, the standard deviation is smaller, and BatchNorm enlarges the 1 more. But the
# average divides by nine, and a single cell fills one window of nine. The table has both effects: the distance first
# rises, then falls.
#
# </details>

# %%
print(f"{'cells':>6}{'windows':>9}{'distance of a cell':>20}{'distance of the scores':>24}{'probability':>13}")
for cells, windows in ((49, 9), (9, 9), (1, 1)):
    share = 0.1 * cells / 49  # of all cells of this map, in all images, that are 1
    distance = 1 / math.sqrt(share * (1 - share))  # a step from 0 to 1, after BatchNorm with gamma 1
    gap = distance * windows / 9
    probability = math.exp(gap) / (math.exp(gap) + 9)
    print(f"{cells:>6}{windows:>9}{distance:>20.2f}{gap:>24.2f}{100 * probability:>11.1f} %")

# %% [markdown]
# With full maps and gamma 1, a network that never errs would still give the right digit only 76 %. Two things can make
# it surer: a larger gamma, and maps with a few well-spread cells. We look for both in the trained network.

# %% [markdown]
# ## Training
#
# In the log, watch epoch 16: there the learning rate falls from 0.01 to 0.001.

# %%
if options.recorded:
    history = records.restore(recipe, model)
else:
    history = training.fit(model, train_batches, test_batches, recipe, options, checkpoint)

# %%
plots.show(plots.curves(history, bound=99.4), options.out, "curves")

# %% [markdown]
# The vertical axis of both panels is logarithmic. Look at how far the test curve jumps from one epoch to the next,
# before epoch 16 and after. With a tenth of the learning rate the network hardly changes. The last five epochs test
# nearly the same network five times. The [next page](part2_step3_how_sure.ipynb) needs that.
#
# Now the traces of ReLU and BatchNorm, on the test images.

# %% tags=["measured"]
log_probabilities = training.predict(model, test_batches["held-out"])
predictions = log_probabilities.argmax(dim=1)
model.eval()
with torch.no_grad():
    before_norm = torch.cat(
        [model.layers[5][:2](model.layers[:5](images)).cpu() for images, _ in test_batches["held-out"]]
    )
its_own = functional.one_hot(digits.test_labels, 10).bool()
active = before_norm[:, :, :6, :6] > 0  # of the cells that reach a score
windows = functional.max_pool2d(before_norm, 2) > 0
gammas = model.layers[5][3].weight
print(f"gamma of the ten maps: {gammas.min():.2f} to {gammas.max():.2f}")
print(f"{'map':<22}{'active cells':>14}{'active windows':>16}{'quite empty':>13}")
for name, chosen in (("of the right digit", its_own), ("of another digit", ~its_own)):
    shares = (active[chosen], windows[chosen], ~active[chosen].flatten(1).any(dim=1))
    in_cells, in_windows, empty = (100 * one.float().mean() for one in shares)
    print(f"{name:<22}{in_cells:>12.1f} %{in_windows:>14.1f} %{empty:>11.1f} %")
print(f"mean probability of the right digit: {100 * log_probabilities[its_own].exp().mean():.1f} %")

# %% [markdown]
# All gammas have grown from 1 to between 2.35 and 2.79. The map of the right digit is active in about half of its cells
# and in nearly all of its windows: 94.8 % of them. A full map would have 100 % of both. So the trained network stands
# between the first row of the table and the second. And its gamma has grown. How much each of the two adds to its
# sureness we did not measure. Another digit's map is quite empty in one case of five.

# %% [markdown]
# ## Result

# %%
record = records.make(recipe, options, model, digits, history)
print(records.verdict(targets, record))
records.save(options, record, model)

# %% [markdown]
# The recorded full runs on MNIST:

# %%
print(records.recorded(recipe.step, targets))

# %% [markdown]
# The source tested on the true test images and reported its last epoch, 99.33 %. Our mean is
# 99.25 %<!--S6/part2_step3_global_pooling mean-->, with a 95 % interval from
# 99.00 %<!--S6/part2_step3_global_pooling low--> to 99.50 %<!--S6/part2_step3_global_pooling high-->. Three seeds leave it open whether the
# recipe's mean lies below 99.40 %; none of the three reached it. The missed epoch is a matter of counting: after epoch 19 the mean is
# 99.25 %<!--S6/part2_step3_global_pooling mean at 19--> too.

# %% [markdown]
# ## The mistakes
#
# The twelve test images on which the network was wrong and surest of itself. Above each stand its label, what was read,
# and how probable the network took that to be. The class maps below look at some of them again.

# %%
plots.show(plots.mistakes(digits.test_images, digits.test_labels, log_probabilities), options.out, "mistakes")

# %% [markdown]
# ## Class maps: which place says what
#
# A score is an average, so it can be taken apart again: each cell adds something to it. A picture of what each cell adds
# to the score of one class is called a **class map**, or class activation map
# ([Zhou and others](https://arxiv.org/abs/1512.04150)).
#
# We write it for any layer that goes from maps to scores with weights. `weights[d, c, i, j]` is what the score of class
# d takes from the cell in row i and column j of map c. For pooling this is 1/9 where d = c, and 0 elsewhere.
#
# **Yours: class maps** (medium, 10 minutes). `maps` is [channels, rows, columns], `weights` is [classes, channels, rows,
# columns]. Return [classes, rows, columns]: what each cell adds to each score, over all channels.


# %%
def class_maps(maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor | None:
    # Your lines here. Then return your result instead of None.
    return None


pooling_weights = torch.eye(10)[:, :, None, None].expand(10, 10, 3, 3) / 9
any_weights = torch.randn(3, 5, 7, 4, generator=generator)
class_maps = exercises.check(class_maps, (some_maps[0], pooling_weights), (oblong_maps[0], any_weights))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `maps * weights` multiplies each cell by its weight, for all classes at once, because PyTorch repeats `maps` for each
# class. Then add up over one direction. Which one is the channels'?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def class_maps(maps, weights):
#     return (maps * weights).sum(dim=1)
# ```
#
# </details>

# %% [markdown]
# The maps must be those that feed the average: behind the max-pool. The 7x7 maps in front of it have another average.

# %% tags=["measured"]
network = model.cpu().eval()
surest_mistakes = [int(i) for i in log_probabilities[its_own].argsort() if predictions[i] != digits.test_labels[i]]
one_of_each = {int(digits.test_labels[i]): i for i in reversed(surest_mistakes)}  # the surest for each label
wrong = sorted(one_of_each.values(), key=surest_mistakes.index)[:3]
right = (predictions == digits.test_labels).nonzero().flatten()[:3]
shown = torch.cat([right, torch.tensor(wrong)])
with torch.no_grad():
    in_front = network.layers[:6](data.normalise(digits.test_images[shown]))
    behind = network.layers[6](in_front)
    scores = network.layers[6:9](in_front)
    agree = torch.allclose(network(data.normalise(digits.test_images[shown])), scores.log_softmax(1), atol=1e-5)
by_place = torch.stack([class_maps(maps, pooling_weights) for maps in behind])
print("the network's answer is the softmax of these scores:", agree)
print("our class maps add up to the scores:", torch.allclose(by_place.sum(dim=(2, 3)), scores, atol=1e-4))
label = int(digits.test_labels[shown[0]])
print(
    f"the first digit's map for its own class has the average {in_front[0, label].mean():.2f} in front of the max-pool"
)
print(f"and {behind[0, label].mean():.2f} behind it; its score is {scores[0, label]:.2f}")

# %%
captions = [f"is {digits.test_labels[i]}\nread as {predictions[i]}" for i in shown]
title = "pooling: three right digits, three wrong ones"
figure = plots.class_maps(
    digits.test_images[shown], by_place, captions, scores, title, cell=8, field=rows[-2].receptive_field, rows=6
)
plots.show(figure, options.out, "class_maps")

# %% [markdown]
# Over each map stands its score: the sum of its nine cells. Red cells speak for the class, blue ones against it.
# A map that is evenly pale is empty: its score is at the floor. In the first three rows one map is red nearly everywhere.
# In the wrong rows more than one map is active. Compare the map of the label with the map of what was read: which cells
# make the difference?
#
# The orange squares say how to read a cell. The solid one is the place of the middle cell, 8 pixels wide. The dashed
# one is what this cell sees: 30x30 pixels. So a red cell does not say "the reason lies exactly here". It says "around
# here, I see this class". And only differences between classes count: the same number added to all ten scores would
# change no probability.

# %% [markdown]
# ### A dense head has class maps too
#
# It is said that only a network with pooling can show its reasons like this. Take step 1's dense head: 490 numbers from
# ten 7x7 maps, 20 neurons with ReLU, 10 scores. For a given image we know which of the 20 neurons ReLU lets through.
# With these, two dense layers are one: their weights multiply. `class_maps` takes them as they are.

# %% tags=["measured"]
dense_head = models.load_trained("S6/part2_step1_dense_head")
first, second = dense_head.layers[6], dense_head.layers[8]
with torch.no_grad():
    dense_maps = dense_head.layers[:5](data.normalise(digits.test_images[shown]))
    hidden = first(dense_maps.flatten(1))
    dense_scores = second(hidden.relu())
    by_place, sums = [], []
    for maps, open_neurons in zip(dense_maps, hidden > 0, strict=True):
        through = second.weight * open_neurons  # [10, 20]: without the neurons that ReLU shut
        by_place.append(class_maps(maps, (through @ first.weight).reshape(10, 10, 7, 7)))
        sums.append(by_place[-1].sum(dim=(1, 2)) + through @ first.bias + second.bias)
by_place = torch.stack(by_place)
agree = torch.allclose(torch.stack(sums), dense_scores, atol=1e-3)
print("the class maps and the biases add up to the dense head's scores:", agree)
dense_field = models.layer_rows(dense_head)[4].receptive_field
print(f"a cell of its maps sees {dense_field}x{dense_field} pixels")

# %%
read = dense_scores.argmax(dim=1)
captions = [f"is {digits.test_labels[i]}\nread as {answer}" for i, answer in zip(shown, read, strict=True)]
title = "step 1's dense head, the same digits"
figure = plots.class_maps(
    digits.test_images[shown], by_place, captions, dense_scores, title, cell=4, field=dense_field, rows=6
)
plots.show(figure, options.out, "dense_class_maps")

# %% [markdown]
# The sums are right again, so a dense head can be taken apart by cell just as well. (For another image other neurons are
# open. The biases belong to no cell.) The pictures differ. Here a cell sees only 12x12 pixels and the map is 7x7, so
# the places are finer. There is much blue: these weights may be negative, so a place can speak *against* a class. And the map of
# a class is less easy to read, because a stroke can count for it in one cell and against it in the next. What pooling
# adds is simplicity, not the possibility.

# %% [markdown]
# ## What does the average forget? Shift the digits
#
# We move each test digit some pixels down and to the right, or up and to the left, and let both networks read it. What
# leaves the image is lost; what comes in is empty.
#
# **Predict first.** Neither network was trained on shifted digits. Which one suffers more? And for the one with pooling:
# does the direction matter?
#
# <details><summary>Answer</summary>
#
# The dense head suffers much more: it has weights of its own for each place. The average does not care in which cell
# a stroke is seen. But the network with pooling looks two pixels up and to the left of the middle, and drops what it
# would see at the right and lower margin. So it should read digits worse that move down and to the right.
#
# </details>

# %% tags=["measured"]
SHIFTS = [-6, -4, -2, 0, 2, 4, 6]


def shifted(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    return functional.pad(images, (right, -right, down, -down))  # a negative number cuts off


@torch.no_grad()
def is_read(scores_of, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Whether each image is read correctly."""
    return torch.cat([scores_of(data.normalise(part)).argmax(dim=1) for part in images.split(1_000)]) == labels


def by_shift(scores_of, count: int = 100 if options.quick else 500) -> torch.Tensor:
    """Accuracy in per cent on the first test images, a row for each shift down, a column for each to the right."""
    images, labels = digits.test_images[:count], digits.test_labels[:count]
    pairs = [[is_read(scores_of, shifted(images, down, right), labels) for right in SHIFTS] for down in SHIFTS]
    return torch.tensor([[100 * one.float().mean() for one in row] for row in pairs])


accuracies = {"pooling": by_shift(network), "step 1's dense head": by_shift(dense_head)}
plots.show(plots.shift_maps(SHIFTS, accuracies), options.out, "shifts")

# %% [markdown]
# Both panels have one scale; each accuracy is from 500 test images and one network. In the middle both read 99 %. Four pixels up and to the left, the
# network with pooling still reads 95 % of the digits and the dense head 38 %. So this network does not need a
# digit to lie in the middle, although all training digits did. (The two networks differ in more than the head: in the one with pooling
# a cell sees more of the image, and there is Dropout. How much of the difference is due to pooling alone is not measured.)
#
# But the left panel is not symmetric. Compare its corners: up and to the left, down and to the right.
#
# Is the dropped row and column to blame for the direction? Shifting also pushes ink out of the image, and the digits
# themselves are not symmetric. So we change one thing: with the same weights, the max-pool drops the *first* row and
# column in place of the last. If they are to blame, the difference has to shrink or turn round. We shift by 4 pixels,
# and count all test images, and those apart that lose no ink in either direction.


# %% tags=["measured"]
def drop_first(images: torch.Tensor) -> torch.Tensor:
    return global_average(functional.max_pool2d(network.layers[:6](images)[:, :, 1:, 1:], 2))


images, labels = digits.test_images, digits.test_labels
moved = {"down and right": shifted(images, 4, 4), "up and left": shifted(images, -4, -4)}
ink = {name: some.flatten(1).long().sum(dim=1) for name, some in {"": images, **moved}.items()}
whole = (ink["down and right"] == ink[""]) & (ink["up and left"] == ink[""])
for name, some in ink.items():
    if name:
        print(f"4 pixels {name}: {100 * (1 - some.sum() / ink[''].sum()):.1f} % of the ink is lost")
print(f"\n{'':<28}{'all images':^32}{f'{int(whole.sum()):,} that lose no ink':^32}")
print(f"{'the max-pool drops':<28}" + f"{'down and right':>16}{'up and left':>16}" * 2)
for name, scores_of in (("the last row and column", network), ("the first row and column", drop_first)):
    found = [is_read(scores_of, some, labels).float() for some in moved.values()]
    shares = [one.mean() for one in found] + [(one * whole).sum() / max(1, whole.sum()) for one in found]
    print(f"{name:<28}" + "".join(f"{100 * share:>14.1f} %" for share in shares))

# %% [markdown]
# In the first line the direction matters: 91.8 % against 95.4 %. Among the digits that lose no ink it is 90.9 % against
# 97.9 %, so lost ink is not the reason. In the second line, with the same weights, digits that moved down and to the right are read
# far better: 97.9 % in place of 91.8 %. The difference between the directions has turned round, and among the digits
# that lose no ink it has shrunk from 7 points to 1. So the dropped row and column are the main cause.
#
# This is one network, but every network of this design drops these cells. Whether that costs anything for the test
# digits as they are, in the middle, we do not know: one would have to train a network that drops nothing.

# %% [markdown]
# ## Analysis
#
# **The head.** All 17,118 parameters stand in convolutions and BatchNorms. Step 1 spends more than half of its
# parameters on its head. The means are 99.35 %<!--S6/part2_step1_dense_head mean--> there and
# 99.25 %<!--S6/part2_step3_global_pooling mean--> here. That is no verdict on pooling: step 1 also augments its images and trains for 19 epochs.
#
# **Training against test images.** In its last epoch the network reads
# 99.52 %<!--S6/part2_step3_global_pooling training--> of the training images as it sees them, with Dropout on, and
# 99.25 %<!--S6/part2_step3_global_pooling mean--> of the test images. So it has learned something that holds for the training
# images only. It met each of them 20 times without a change. Augmentation may help; this recipe has none.
#
# **Next.** [99.33 or 99.42?](part2_step3_how_sure.ipynb) asks what one such number is worth. Then
# [S8 step 7](../S8/step7_two_budgets.ipynb) and [S7 block 1](../S7/block1.ipynb) average first, and compute the scores from the
# averages.

# %% [markdown]
# ## Quiz

# %% [markdown]
# **Question 1.** A network ends in ten maps of 3x3 cells and global average pooling. How many weights does the pooling
# have?
#
# - **a** None.
# - **b** 10, one for each map.
# - **c** 90, one for each cell.
#
# <details><summary>Answer</summary>
#
# **a.** An average divides a sum by a fixed number; nothing is learned. b would be a learned factor for each map, as
# BatchNorm's gamma is. c is a dense layer's idea: a weight for each cell.
#
# </details>
#
# **Question 2.** What can a 1x1 convolution not do?
#
# - **a** Change the number of channels.
# - **b** Compare a cell with its neighbour.
# - **c** Use the same weights at every place.
#
# <details><summary>Answer</summary>
#
# **b.** It sees one cell at a time. a is what it is mostly used for: here it would make ten maps of 32. c holds for it
# as for every convolution.
#
# </details>
#
# **Question 3.** In a class map of this network the middle cell is dark red. What does that say?
#
# - **a** The class is the network's answer.
# - **b** The ink under the cell, 8x8 pixels, is the reason.
# - **c** The cell, which sees 30x30 pixels, adds much to the score of the class.
#
# <details><summary>Answer</summary>
#
# **c.** a: the answer is the class whose sum is largest, and another map may have more red. b: the cell stands there, but it
# sees far more than what lies under it.
#
# </details>
#
# **Question 4.** The network with pooling reads shifted digits better than step 1's dense head. What follows?
#
# - **a** It will read centred test digits better too.
# - **b** For digits that lie elsewhere it is the better choice of these two networks.
# - **c** It does not depend on the place at all.
#
# <details><summary>Answer</summary>
#
# **b.** That is what the figure shows. a does not follow: on centred digits, which is what MNIST tests, step 1's mean is not lower. c is too
# much: the accuracy falls at the edges, and faster to one side.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. Global average pooling replaces each map by its average, without a weight. A 1x1 convolution is a dense layer from channels to
#    channels at each cell; it and the average can change places.
# 2. A dense head on the last maps costs 910, 4,910 or 15,690 parameters, and two of the three break the limit. With a 1x1
#    kernel in the last convolution the network read fewer digits in our small experiment.
# 3. ReLU gives each score a floor, and BatchNorm its scale. Maps with a few well-spread cells give the largest
#    distance; fuller ones and emptier ones give less.
# 4. 17,118 parameters are within bounds, 20 epochs are one too many, and the mean accuracy is
#    99.25 %<!--S6/part2_step3_global_pooling mean-->.
# 5. A class map shows what each cell adds to a score. It is drawn from the maps that feed the score. A dense head has class
#    maps too.
# 6. This network reads shifted digits far better than step 1's. The direction still matters, because a max-pool of 2 on
#    seven cells drops the last row and column.
