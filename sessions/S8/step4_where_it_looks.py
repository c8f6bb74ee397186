# %% [markdown]
# # S8 step 4: Plan what a network sees, and ask its cells what they make of it
#
# A network's answer is an average over the cells of its last map. Each cell sees a square of the image, its receptive
# field. How large should it be, and what does each cell do with it? This page measures where digits lie, plans the
# fields, trains two plans, and then asks sixteen cells one by one.
#
# **What you'll do**
#
# 1. Measure how large a square in the middle has to be until it holds a whole digit.
# 2. Write the formula for what all cells of a map share, and apply it to three networks.
# 3. Count the paths that lead from each pixel to a cell.
# 4. Give the cells a larger field without one parameter more, and train it.
# 5. Ask the cells of a trained network for their votes.
#
# **What you'll learn**: the shared square, path counts, what a single cell knows.
#
# **What you'll need**: [receptive field and jump](../S7/block3.ipynb), [class maps](../S6/part2_step3_global_pooling.ipynb),
# and about 30 minutes. The computer needs a minute or two.
#
# *Before this*: [step 3](step3_cheaper_layers.ipynb), cheaper layers. *After this*:
# [step 5](step5_teacher_and_looks.ipynb), a teacher and several looks. The [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository; the [notes on
# it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | the square that all cells of the last map can see | 28x28 | the whole image: then no cell has to guess |
# | what a larger field brings | a difference with its interval | a plan on paper is no result |
#
# The recipe trains our network of step 3 with the augmentation of step 2: each image is turned, shifted and scaled a
# little.

# %%
TRAIN = "recorded"  # this page's experiment trains for seconds: "full" does the same, "quick" only goes through it
try:
    from common.recipe import Augmentation, Recipe, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S8/step4_where_it_looks",
    network="S8/under_8k_one_view",
    epochs=15,
    batch_size=64,
    lr=0.2,
    momentum=0.9,
    nesterov=True,
    one_cycle=0.2,
    weight_decay=1e-4,
    augmentation=Augmentation(rotation=10, translation=0.08, scale=(0.9, 1.1), interpolation="bilinear"),
)
recipe, options = command_line(recipe, TRAIN)

# %%
import torch
from torch import nn

from common import data, models, training
from common.data import MEAN, STD
from common.lesson import Exercises, experiment, plots

exercises = Exercises(recipe.step)
device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
print(digits)
print("This page has no record of its own: it reads the recorded network for 20,000 parameters.")

# %% [markdown]
# ## Where digits lie
#
# MNIST's digits were scaled to fit into 20x20 pixels. But they were placed by their centre of mass, not by the middle
# of that box. A 7 has most of its ink at the top, so its foot hangs low. How large must a square in the middle of the
# image be to hold a whole digit?
#
# **Predict first.** What share of the digits lies wholly inside the middle 20x20 pixels, and what share inside 22x22?
#
# <details><summary>Answer</summary>
#
# About a quarter, and about two thirds. The size of the box is not its place. Only from 26 pixels on are nearly all
# digits inside.
#
# </details>
#
# We count a pixel as ink where it is at least half black. The first 5,000 training images, as they are and as the
# network meets them:


# %%
def smallest_square(ink: torch.Tensor) -> torch.Tensor:
    """For images [N, 28, 28] of True and False: the side of the square in the middle that holds all True."""
    from_the_middle = (torch.arange(28) - 13.5).abs()
    rows, columns = ((ink.any(dim=axis) * from_the_middle).amax(dim=1) for axis in (2, 1))
    return (2 * torch.maximum(rows, columns) + 1).int()


# %% tags=["measured"]
some, labels = digits.train_images[:5_000].cpu(), digits.train_labels[:5_000].cpu()
moved, _ = next(iter(data.InMemoryLoader(some, labels, len(some), augmentation=recipe.augmentation, seed=5)))
inks = {"as they are": some >= 128, "as the network meets them": moved[:, 0] * STD + MEAN >= 0.5}
sides, shares = list(range(14, 29, 2)), {}
for name, ink in inks.items():
    needed = smallest_square(ink)
    shares[name] = [100 * float((needed <= side).float().mean()) for side in sides]
    told = ", ".join(f"{side}x{side} {value:.0f} %" for side, value in zip(sides[3:7], shares[name][3:7], strict=True))
    print(f"{name:<27}{told}")

# %%
mean = some.float().mean(dim=0)
plots.show(plots.where_digits_lie(mean, sides, shares, [20, 22, 26]), options.out, "where_digits_lie")

# %% [markdown]
# The last 3x3 layer of S7 block 3 sees 22x22 pixels. Even for a cell exactly in the middle, a third of the digits reach
# farther than that. After augmentation more of them do. (A square of 28 is the whole image and holds all digits, so
# the last point of a curve says nothing.)
#
# ## What all cells share
#
# Cells of a map do not look at the same place. Two neighbours look `jump` pixels apart. Take a row of cells, each with
# a field of the same size. The first one's field ends before the last one's, and the last one's begins later. What both
# see is smaller than a field. We call what all cells of a map see their **shared square**.
#
# Block 3: a field of 22, six cells in a row, 2 pixels apart. From the first cell to the last there are five jumps, which
# is 10 pixels. They share 22 - 10 = 12 pixels.
#
# **Yours: the shared square** (easy, 5 minutes). Return its side, and 0 where the cells share nothing.


# %%
def shared_square(field: int, cells: int, jump: int) -> int | None:
    # Your line here. Then return your result instead of None.
    return None


shared_square = exercises.check(shared_square, (22, 6, 2), (3, 26, 1), (40, 4, 4), (9, 1, 4))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Between `cells` cells there are `cells - 1` jumps. `max(0, ...)` keeps the result from falling below 0.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def shared_square(field, cells, jump):
#     return max(0, field - (cells - 1) * jump)
# ```
#
# </details>
#
# **Predict first.** The cells of step 3's network see 32x32 pixels, and an image has 28x28. Does each of its 16 cells
# see the whole image?
#
# <details><summary>Answer</summary>
#
# No. Only a cell in the middle would. The corner cells look to the side: part of their field lies outside of the image,
# and on the far side 4 rows and 4 columns are missing. All 16 share 20x20.
#
# </details>

# %%
steps = {"S7 block 3": "S7/block3", "step 3's": "S8/under_8k_one_view", "for 20,000": "S8/under_20k"}
layers = {name: models.layer_rows(models.build(step)) for name, step in steps.items()}
last = {name: next(row for row in reversed(rows) if row.kernel == 3) for name, rows in layers.items()}
plans = {name: (row.receptive_field, row.shape[-1], row.jump) for name, row in last.items()}
for name, plan in plans.items():
    print(f"{name:<12}field {plan[0]}, {plan[1]} cells in a row, jump {plan[2]}: they share {shared_square(*plan)}")

# %%
shared = [shared_square(*plan) for plan in plans.values()]
plots.show(plots.shared_squares(digits.train_images[0], plans, shared), options.out, "shared_squares")

# %% [markdown]
# The coloured squares are the fields of the four corner cells. The dotted square is the image, and the yellow one is
# what all cells share.
#
# The third network is ours for the budget of 20,000 parameters. It was planned so that **each of its 16 cells can see
# every pixel**. Follow its last layers:

# %%
for row in layers["for 20,000"]:
    if row.kernel in (2, 3):
        field, cells, jump = row.receptive_field, row.shape[-1], row.jump
        print(
            f"{row.name:<13} {cells:>2} cells, jump {jump}, field {field:>2}: share {shared_square(field, cells, jump):>2}"
        )

# %% [markdown]
# A 3x3 layer adds two jumps to the field: 2 pixels on the first maps, 4 behind one max-pool, 8 behind two. With equal
# channels it costs the same number of parameters everywhere. **Reach is cheap late.** The last layer has no padding. So it adds 8 pixels, and
# it also drops the outermost cells: 16 are left of 36.
#
# ## To be able to see is not to mind
#
# A pixel in the middle of a field has more ways to the cell than one at its rim. Look along one row only, and
# take two layers with kernels of 3. Behind the first, one path leads to a cell from each of three pixels: 1, 1, 1.
# Behind the second the counts are 1, 2, 3, 2, 1. From the middle pixel three paths lead to the cell, from the first one.
#
# **Yours: one layer more** (medium, 10 minutes). `paths` is a list of such counts. Behind a layer with this `kernel`,
# whose inputs are `jump` pixels apart, return the new list. It is longer by (kernel - 1) x jump. In it the old
# counts stand `kernel` times, each time `jump` places later, and are added up.


# %%
def one_layer_more(paths: list[int], kernel: int, jump: int) -> list[int] | None:
    # Your lines here. Then return your list instead of None.
    return None


cases = [([1], 3, 1), ([1, 1, 1], 3, 1), ([1, 2, 3, 2, 1], 2, 1), ([1, 2], 3, 2)]
one_layer_more = exercises.check(one_layer_more, *cases)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Start with a list of zeros of the new length. Then go over the places `place` of `paths` and the steps `step` of
# `range(kernel)`, and add `paths[place]` at `place + step * jump`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def one_layer_more(paths, kernel, jump):
#     longer = [0] * (len(paths) + (kernel - 1) * jump)
#     for step in range(kernel):
#         for place, count in enumerate(paths):
#             longer[place + step * jump] += count
#     return longer
# ```
#
# </details>

# %%
paths, jump = [1], 1
for row in layers["for 20,000"]:
    if row.kernel in (2, 3):
        paths, jump = one_layer_more(paths, row.kernel, jump), row.jump
print(f"a field of {len(paths)} pixels; paths from its first pixel {paths[0]}, from a middle one {paths[20]:,}")
for middle in (12, 20, 28):
    rim = (len(paths) - middle) // 2
    print(f"the middle {middle} pixels: {100 * sum(paths[rim:-rim]) / sum(paths):.0f} % of the paths")

# %%
first = round(last["for 20,000"].centre - 0.5, 1)  # of the corner cell; that of the first pixel is 0
centres = {"a corner cell": first, "a middle cell": first + jump}
plots.show(plots.path_bells(paths, centres, mean.mean(dim=0)), options.out, "path_bells")
start = int(first - (len(paths) - 1) / 2)
outside = 100 * sum(paths[:-start]) / sum(paths)
print(f"of a corner cell's paths in a row {outside:.0f} % begin in the padding, left of the image")

# %% [markdown]
# The counts look like a bell. So a field of 40 on an image of 28 is less than it sounds: nearly nine of ten paths lead
# from its middle half. And the corner cell's bell stands over the
# side of the digit. It can see the far side, but by few paths.
#
# The count treats all weights alike, and training does not. [Luo and
# others](https://arxiv.org/abs/1701.04128) find such bells in trained networks too, and call what a cell really
# minds its *effective* receptive field.
#
# ## A larger field for nothing
#
# **Experiment.** In step 3's network the last kernel looks at nine neighbouring cells. With `dilation=2` the nine lie
# two cells apart. The field grows from 32 to 40, and the shared square from 20 to 28: the whole image. Parameters and
# multiply-adds stay the same. What does it bring? Write your guess in points into `prediction`.

# %% tags=["measured"]
prediction = None  # such as 0.3; negative if you expect a loss
dilation = 2  # 1 is the network as it is; 3 gives a field of 48


def looks_farther() -> nn.Module:
    network = models.build("S8/under_8k_one_view")
    network.layers[7][0] = nn.Conv2d(40, 40, 3, padding=dilation - 1, dilation=dilation, groups=40, bias=False)
    return network


row = next(row for row in reversed(models.layer_rows(looks_farther())) if row.kernel == 3)
print(f"field {row.receptive_field}, shared {shared_square(row.receptive_field, row.shape[-1], row.jump)}, ", end="")
print(f"{models.count_parameters(looks_farther()):,} parameters")
found = experiment(recipe, options, digits, device, prediction=prediction, network=looks_farther, epochs=4)

# %% [markdown]
# <details><summary>What came out here</summary>
#
# The larger field read 0.02 points more, with a 95 % interval from -0.77 to +0.81: three pairs of seeds, one comparison.
# These seeds show no difference. A gain or a loss of half a point would fit them as well.
#
# </details>
#
# The ablation ladder has no rung for the field, so there is no longer measurement to show. The shared square is a reason
# on paper, and this course has not shown that it reads more digits.
#
# ## Result: what the cells say
#
# The network for 20,000 parameters ends with an average over its 16 cells, Dropout, and a 1x1 convolution that makes
# ten logits of 60 averages. (In training, Dropout sets each average to 0 one time in ten: about six of the 60, and
# other ones for each image. In a test it does nothing.) An average and a 1x1 convolution only multiply and add, so
# their order does not matter. Each cell therefore has ten logits of its own, a vote, and the answer to one look is the
# average of the votes.
#
# We ask the cells about the last 5,000 training images. The network has learned from them. So the numbers compare the
# cells with each other, and do not say how well it reads new digits.

# %% tags=["measured"]
network = models.load_trained("S8/under_20k").to(device)
asked, truth = digits.train_images[-5_000:], digits.train_labels[-5_000:].cpu()
with torch.no_grad():
    maps = [network.layers[:9](images) for images in data.normalise(asked).to(device).split(500)]
    logits = torch.cat([network.layers[11](some) for some in maps]).cpu()  # [N, 10, 4, 4]
    answers = torch.cat([network.layers[9:](some) for some in maps]).argmax(dim=1).cpu()
same = (logits.mean(dim=(2, 3)).argmax(dim=1) == answers).float().mean()
print(f"the average of the votes gives the network's answer: {100 * same:.0f} % of the images")

# %% [markdown]
# **Predict first.** Every cell can see every pixel. How many digits does a corner cell read, when it answers alone?
#
# <details><summary>Answer</summary>
#
# Between 15 and 39 of a hundred. The four in the middle read about 99.
#
# </details>

# %% tags=["measured"]
alone = 100 * (logits.argmax(dim=1) == truth[:, None, None]).float().mean(dim=0)
spread = logits.std(dim=1).mean(dim=0)
plots.show(plots.votes({"right when alone, in %": alone, "spread of its ten logits": spread}), options.out, "votes")
corners = sorted(float(alone[row, column]) for row in (0, 3) for column in (0, 3))
print("corner cells alone: " + ", ".join(f"{value:.0f} %" for value in corners))
middle = logits[:, :, 1:3, 1:3].mean(dim=(2, 3))
others = (16 * logits.mean(dim=(2, 3)) - 4 * middle) / 12
for name, votes in (
    ("the four in the middle", middle),
    ("the twelve others", others),
    ("all 16", logits.mean(dim=(2, 3))),
):
    print(f"{name} together: {100 * (votes.argmax(dim=1) == truth).float().mean():.1f} %")

# %% [markdown]
# A corner reads few digits, and says it softly: its ten logits lie close together, so it hardly moves the average. Nobody
# trained a cell to answer alone. The loss sees only the average, and a cell may be silent when others speak.
#
# But many soft votes add up. The twelve outer cells, many of them poor, are right together on 98.9 %. **A cell that can
# see everything need not use it. And a cell that is poor alone need not be useless.**
#
# The four in the middle also say how far to trust an answer:

# %% tags=["measured"]
four = logits.argmax(dim=1)[:, 1:3, 1:3].flatten(1)
agree, wrong = (four == answers[:, None]).all(dim=1), answers != truth
for name, some in (("agree with the answer", agree), ("do not all agree", ~agree)):
    print(f"the four {name}: {int(some.sum()):,} images, of which {int((some & wrong).sum())} are misread")

# %% [markdown]
# Where the four disagree, a mistake is far more frequent. Such an image is one to look at again.
#
# ## Analysis
#
# **What came out.** The plan holds: each of the 16 cells can see all of the image. The hope behind it does not: the
# middle four cells judge the whole digit, the corners do not. The bell is a likely reason: a corner's paths lead mostly from a side of the digit and from padding.
# This page does not test that.
#
# **What the next step asks.** Several cells vote on one look. Step 5 lets the network take several looks, and learn from
# a teacher.

# %% [markdown]
# ## Quiz
#
# **Question 1.** A map has 6 cells in a row, 4 pixels apart, each with a field of 32. What do all share?
#
# - **a** 32x32
# - **b** 12x12
# - **c** 8x8
#
# <details><summary>Answer</summary>
#
# **b.** Five jumps of 4 are 20, and 32 - 20 = 12. a is what one cell sees. c counts six jumps; between six cells there
# are five.
#
# </details>
#
# **Question 2.** Where does a 3x3 layer add most to the field?
#
# - **a** In front of the first max-pool.
# - **b** Behind the last max-pool.
# - **c** Everywhere the same.
#
# <details><summary>Answer</summary>
#
# **b.** It adds two jumps, and each max-pool doubles the jump. a adds 2 pixels only. c is true of its parameters, not
# of the field.
#
# </details>
#
# **Question 3.** A corner cell alone reads few digits. What follows?
#
# - **a** Its field is too small.
# - **b** It can be taken out without loss.
# - **c** Its vote alone says little; what it adds to the average is another question.
#
# <details><summary>Answer</summary>
#
# **c.** The outer cells together read nearly all digits. a is wrong here: the field holds the whole image. b was not
# tried, and the network was trained with all 16.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. The middle 20x20 pixels hold about a quarter of the digits, the middle 22x22 about two thirds.
# 2. All cells share field - (cells - 1) x jump: 12 in block 3, 20 in step 3's network, 28 in the one for 20,000.
# 3. Paths lead mostly from the middle of a field: they count up to a bell.
# 4. A field of 40 instead of 32 cost no parameter, and its effect was not told from chance in a short training.
# 5. The middle cells read nearly everything alone, the corners little. Together even the outer twelve read most.
