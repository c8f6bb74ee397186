# %% [markdown]
# # S6 part 2, step 3, second page: Ask what one number is worth: 99.33 or 99.42?
#
# The source of [the page before](part2_step3_global_pooling.ipynb) reported 99.33 % of the test images. A later version
# of its text says 99.42 %, from another run of the same code. Which of the two is right? This page trains nothing. It
# asks how far two such numbers lie apart by chance alone.
#
# **What you'll do**
#
# 1. Test one network on many simulated test sets, and write the rule that counts its mistakes.
# 2. Write the formula of the standard error, and hold it against the simulation.
# 3. Look at runs that differ in their seed only, and find out how little three of them tell.
# 4. Compare networks that read the *same* images, by the images on which they disagree.
# 5. Answer the question.
#
# **What you'll learn**: two kinds of chance in one accuracy (which images, which run), standard error, sign test.
#
# **What you'll need**: [step 1](part2_step1_dense_head.ipynb) for standard deviation and 95 % interval, and about 40
# minutes. The computer needs a few seconds.
#
# *Before this*: [step 3](part2_step3_global_pooling.ipynb). *After this*:
# [S7 block 1](../S7/block1.ipynb), the next assignment. The [map of the steps](../../README.md#the-map-of-the-steps) shows the whole
# way. In the cloud: [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the
# repository; the [notes on it](../../docs/machines.md#on-colab) have the two lines that install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | the simulated standard deviation against the formula | less than 10 % apart | a formula that we use has to agree with what we can count |
# | the claims 99.33 % and 99.42 % | a yes or no to "does the difference say anything?", with its reason | nine images of 10,000 are all that they disagree about |

# %%
TRAIN = "recorded"  # nothing is trained: "full" does the same, "quick" reads the built-in digits
try:
    from common.recipe import Recipe, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(step="S6/part2_step3_how_sure", epochs=1, batch_size=500, lr=0.01)
recipe, options = command_line(recipe, TRAIN)

# %%
import itertools
import math
import statistics

import numpy
import torch

from common import data, models, records, training
from common.lesson import Exercises, plots
from common.records import comparison

exercises = Exercises(recipe.step)
device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
print(digits)
print("This page trains nothing: it reads recorded runs and recorded networks.")

# %% [markdown]
# ## Which images are in the test set
#
# In images the claims are 67 and 58 mistakes. Suppose one network that misreads a share of 0.00625 of all digits that
# people will ever write, halfway between the claims. We test it on 10,000 fresh digits. Which digits it meets is chance, so
# its result varies from test to test.
#
# **Predict first.** Two such tests of *one* network, each on 10,000 fresh digits: in how many cases of a hundred are
# their results nine mistakes or more apart?
#
# <details><summary>Answer</summary>
#
# In nearly half of the cases. With nothing changed, the same network often gets results as far apart as 99.33 % and
# 99.42 %.
#
# </details>
#
# We simulate it. For each digit we draw a random number between 0 and 1. It is below 0.00625 with probability 0.00625,
# and this shall mean "misread".
#
# **Yours: count the mistakes** (easy, 5 minutes). `draws` has the shape [tests, digits]. Return the number of mistakes
# in each test, of the shape [tests].


# %%
def count_mistakes(draws: torch.Tensor, share: float) -> torch.Tensor | None:
    # Your lines here. Then return your result instead of None.
    return None


few = torch.from_numpy(numpy.random.RandomState(1).random_sample((4, 200)))
count_mistakes = exercises.check(count_mistakes, (few, 0.3), (few, 0.01))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `draws < share` is True where a digit is misread. `sum(dim=1)` counts the True of each row.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def count_mistakes(draws, share):
#     return (draws < share).sum(dim=1)
# ```
#
# </details>


# %%
def simulated_tests(share: float, images: int, tests: int, seed: int = 1) -> torch.Tensor:
    """The mistakes in each of many tests, 100 tests at a time."""
    random = numpy.random.RandomState(seed)  # NumPy promises never to change it: you get our numbers
    draws = (torch.from_numpy(random.random_sample((100, images))) for _ in range(tests // 100))
    return torch.cat([count_mistakes(some, share) for some in draws])


share = 0.00625
counts = simulated_tests(share, images=10_000, tests=2_000)
low, high = (int(counts.float().quantile(one)) for one in (0.025, 0.975))
apart = (counts[::2] - counts[1::2]).abs()
print(
    f"2,000 tests of one network: {counts.float().mean():.1f} mistakes on average, from {counts.min()} to {counts.max()}"
)
print(f"standard deviation {counts.float().std():.1f} mistakes")
print(f"95 of 100 tests have {low} to {high} mistakes: {100 - high / 100:.2f} % to {100 - low / 100:.2f} %")
print(f"of the 1,000 pairs of tests, {100 * (apart >= 9).float().mean():.1f} % are nine mistakes or more apart")

# %%
marks = {"99.33 % and 99.42 %": [67, 58]}
plots.show(plots.many_tests(counts, marks, 10_000), options.out, "one_network_many_tests")

# %% [markdown]
# Do not read too much into the two lines inside the hill. We put the middle of the hill between them. What the figure
# shows is its *width*: tests of one network differ by much more than nine images.
#
# ### The standard error
#
# The width follows from a formula. With a share p of mistakes and n images, the number of mistakes has the standard
# deviation sqrt(n p (1 - p)). As a share of the images it is sqrt(p (1 - p) / n). This is the **standard error** of an
# accuracy: how far it typically lies from what infinitely many images would give.
#
# **Yours: the standard error** (easy, 5 minutes). `accuracy` is in per cent. Return the standard error in points: a
# share of 0.01 is one point.


# %%
def standard_error(accuracy: float, images: int) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


standard_error = exercises.check(standard_error, (90.0, 100), (99.4, 10_000), (50.0, 400))

# %% [markdown]
# <details><summary>Hint</summary>
#
# p is the share of mistakes: `1 - accuracy / 100`. The result of the formula is a share, so multiply it by 100.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def standard_error(accuracy, images):
#     share = 1 - accuracy / 100
#     return 100 * math.sqrt(share * (1 - share) / images)
# ```
#
# </details>

# %%
by_formula, simulated = standard_error(99.375, 10_000), float(counts.float().std()) / 100
print(f"standard error at 99.375 %: {by_formula:.4f} points by the formula, {simulated:.4f} in the simulation")
print("less than 10 % apart:", abs(simulated / by_formula - 1) < 0.1)
for accuracy in (99.33, 99.40, 99.42):
    print(f"standard error at {accuracy:.2f} %: {standard_error(accuracy, 10_000):.3f} points")
print(f"of a difference of two tests at 99.40 %: {math.sqrt(2) * standard_error(99.40, 10_000):.3f} points")

# %% [markdown]
# At 99.40 % it is 0.077 points. A difference of two tests varies more than one test: by the square root of 2, which gives
# 0.109 points. The two claims are 0.09 points apart, less than one such standard error.
#
# **Experiment.** How many test images would it take? Suppose two networks that truly read 99.33 % and 99.42 %, each
# tested on its own fresh images. With 10,000 images each, how often does the better one come out ahead? And with
# 40,000? Write your guess for 40,000 into `prediction`, in per cent, and run the cell.

# %% tags=["measured", "experiment"]
prediction = None  # your guess in per cent for the second number of images, such as 60.0
sizes = (10_000, 40_000)  # change these: up to 100,000 images take a few seconds

for images in sizes:
    worse = simulated_tests(0.0067, images, tests=500, seed=2)
    better = simulated_tests(0.0058, images, tests=500, seed=3)
    ahead = 100 * (better < worse).float().mean()
    error = math.hypot(standard_error(99.33, images), standard_error(99.42, images))
    print(f"{images:>7,} images: ahead in {ahead:.1f} % of 500 tests; ", end="")
    print(f"standard error of the difference {error:.3f}")
if prediction is None:
    print("You made no prediction.")
else:
    print(f"You predicted {prediction:.1f} %: {abs(prediction - ahead):.1f} points away.")

# %% [markdown]
# <details><summary>What came out here, and why</summary>
#
# With 10,000 images the better network was ahead in 79.8 % of the tests, with 40,000 in 95.8 %. Four times the images
# halve the standard error, because n stands under a root. With 10,000 images it is larger than the true difference of
# 0.09 points, with 40,000 smaller.
#
# </details>

# %% [markdown]
# ## Which run it was
#
# So far the two tests had *different* images. But 99.33 and 99.42 were measured on the same 10,000. Much of the luck
# that lies in these images both runs had: the images that both read, or both misread. What differs between two runs of
# one code is the seed: first weights, order of the images, Dropout, and on other machines the rounding. How much that
# matters no formula says. The recorded runs do.

# %%
runs = records.runs(records.load("S6/part2_step3_global_pooling"))
wrong = {f"seed {run['seed']}": [row["test_total"] - row["test_correct"] for row in run["history"]] for run in runs}
print("mistakes in 10,000 after each of the last four epochs")
print(f"{'the source':<12}", *(f"{count:4d}" for count in (67, 69, 67, 68)))
for name, row in wrong.items():
    print(f"{name:<12}", *(f"{count:4d}" for count in row[-4:]))
last = [row[-1] for row in wrong.values()]
pairs = [abs(one - other) for one, other in itertools.combinations(last, 2)]
print(
    f"pairs of our seeds lie {', '.join(map(str, pairs))} mistakes apart; standard deviation {statistics.stdev(last):.1f}"
)

# %% [markdown]
# Read the rows across. The source's last four epochs differ by two images at most. They look like a number known to two decimals. But
# after epoch 15 the learning rate is a tenth of what it was, and the network hardly changes: this is nearly the same network, tested four
# times. Now read the columns down. *Between* our seeds the counts differ by 9 to 20. Neighbouring epochs do not show
# how far runs scatter.
#
# And one of our seeds made 85 mistakes. In the simulation of one network at 99.375 %, 95 of 100 tests lie between 47 and
# 79. So the hill above does not describe our runs: a network that truly reads 99.375 % would hardly make 85 mistakes.
# We chose that middle, halfway between the claims; it is not where our runs lie. The next figure makes no such choice. It
# centres on what each run measured: its number of mistakes, plus and minus 1.96 standard errors.

# %%
measured = {"claimed 99.33 %": 67, "claimed 99.42 %": 58} | dict(zip(wrong, last, strict=True))
reach = {name: 1.96 * 100 * standard_error(100 - count / 100, 10_000) for name, count in measured.items()}
rows = {f"{name}: {count}": (count, count - reach[name], count + reach[name]) for name, count in measured.items()}
for name, (_, lowest, highest) in rows.items():
    print(f"{name:<20} 95 % interval {lowest:.0f} to {highest:.0f}")
figure = plots.intervals(rows, "wrong images of 10,000, with 95 % interval over the choice of test images")
plots.show(figure, options.out, "intervals")

# %% [markdown]
# Each interval says what this run tells about *fresh* digits. The two claims' intervals overlap widely. (Overlap alone
# is no proof that two networks are equal, and these counts come from the same images. For that there is a better test
# below.)
#
# ### What three seeds tell
#
# The accuracy of a *recipe* is the mean over its seeds. We have three.

# %%
accuracies = [100 - count / 100 for count in last]
mean_low, mean_high = comparison.interval(accuracies)
print("our seeds:", ", ".join(f"{accuracy:.2f} %" for accuracy in accuracies))
print(
    f"mean {statistics.fmean(accuracies):.2f} %, standard deviation {statistics.stdev(accuracies):.2f} points, 3 seeds"
)
print(f"95 % interval of the mean {mean_low:.2f} to {mean_high:.2f} %")

# %% [markdown]
# The interval is half a point wide, more than five times the difference that the argument is about. One reason: three
# runs tell little about how much runs scatter.
#
# **Predict first.** Suppose runs truly scatter with a standard deviation of 0.10 points. Somebody computes it from three
# runs. Between which bounds does the result lie in 95 of 100 cases?
#
# <details><summary>Answer</summary>
#
# Between about 0.02 and 0.20 points. The simulation below repeats the study 10,000 times.
#
# </details>

# %%
TRUE = 0.10  # standard deviation of a run, in points; change it, or the numbers of seeds
for seeds in (3, 10, 30):
    found = (TRUE * numpy.random.RandomState(1).standard_normal((10_000, seeds))).std(axis=1, ddof=1)
    lower, upper = numpy.quantile(found, (0.025, 0.975))
    print(
        f"{seeds:>3} seeds: the measured deviation lies between {lower:.2f} and {upper:.2f} points in 95 of 100 studies"
    )

# %% [markdown]
# So three seeds do show that runs differ. How much they differ, they hardly show.
#
# ## Two networks, the same images
#
# Who has the *predictions* of two networks can do better than compare two numbers. Images that both read, or that both
# misread, say nothing about which is better. Only those count on which they disagree. If neither is better, each of
# these is a fair coin: it falls to one side or to the other.
#
# How probable is it that the sides are as far apart as they are, or farther, by chance? This is the **sign test** (for
# classifiers also called McNemar's exact test). If k of n disagreements fall to one side, n - k fall to the other, so
# the sides are |2k - n| apart. `math.comb(n, k)` counts the ways in which that can happen, of 2 to the power n in all.
#
# **Yours: the sign test** (hard, 15 minutes). Return the probability that n fair coins fall at least `apart` apart.


# %%
def as_far_apart(disagreements: int, apart: int) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


as_far_apart = exercises.check(as_far_apart, (9, 9), (4, 0), (35, 9), (125, 9))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Add up `math.comb(n, k)` for all k from 0 to n with `abs(2 * k - n) >= apart`. Divide by `2**n` at the end.
#
# </details>
#
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
# </details>

# %% [markdown]
# First the claims. We do not have the source's predictions, so we do not know on how many images the runs disagreed.
# With 67 and 58 mistakes it can be any odd number from 9 to 125.

# %%
for shared in (58, 45, 30, 0):
    disagreements = 67 + 58 - 2 * shared
    print(f"{shared:>3} mistakes in common, {disagreements:>3} disagreements: ", end="")
    print(f"chance alone is as far apart in {100 * as_far_apart(disagreements, 9):.1f} % of cases")

# %% [markdown]
# The same nine images are strong evidence in the first row and none in the last. Two percentages do not say which row it
# is. For networks that the course keeps we can count. Here are four of them, each the recorded run of seed 1, against
# this step's. That makes four comparisons.

# %% tags=["measured"]
test_batches = data.InMemoryLoader(digits.test_images, digits.test_labels, recipe.batch_size, device=device)


def mistakes_of(step: str) -> torch.Tensor:
    """Whether the recorded network of a step misreads each test image."""
    network = models.load_trained(step).to(device)
    return training.predict(network, test_batches).argmax(dim=1) != digits.test_labels


ours = mistakes_of("S6/part2_step3_global_pooling")
others = ("S6/part2_step1_dense_head", "S6/part2_step2_strided", "S6/part2_step2_fixed", "S7/block1")
print(f"this step misreads {int(ours.sum())} of {len(ours):,}")
print(f"{'the other':<28}{'misreads':>9}{'only it':>9}{'only ours':>11}{'sign test':>12}")
for name in others:
    theirs = mistakes_of(name)
    only_theirs, only_ours = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
    chance = as_far_apart(only_theirs + only_ours, abs(only_theirs - only_ours))
    print(f"{name:<28}{int(theirs.sum()):>9}{only_theirs:>9}{only_ours:>11}{chance:>12.4f}")

# %% [markdown]
# The last column is the probability that chance alone sets the two as far apart. Against steps 1 and 2 and the fix it is
# large: none of these networks is shown to be better or worse than ours. Against the network of S7 block 1 it is far below
# 0.05, and stays so when we multiply it by the number of comparisons, four. That network reads more digits than ours, and not by the luck of these images.
#
# But the test speaks of two trained networks. Whether one *recipe* is better than another needs several seeds of each.

# %% [markdown]
# ## Result: 99.33 or 99.42?
#
# The difference says nothing about which number is right. Three facts say so.
#
# - Had each claim had its own 10,000 images, one network would differ from itself by nine mistakes or more in nearly
#   half of all pairs of tests. (They shared their images, so the next fact counts more.)
# - On the same images, pairs of our seeds lie 9 to 20 mistakes apart.
# - The 95 % interval of our mean reaches from 99.00 %<!--S6/part2_step3_global_pooling low--> to
#   99.50 %<!--S6/part2_step3_global_pooling high-->. That is about the mean; a single run may lie farther out. Both
#   claims lie in it.
#
# Each is an honest report of one run, and neither is the accuracy of the recipe. To report the larger one would be to
# choose a seed by its test accuracy. What can be reported is a mean, a deviation and a number of seeds:
# 99.25 %<!--S6/part2_step3_global_pooling mean--> ± 0.10 points<!--S6/part2_step3_global_pooling deviation--> over
# 3<!--S6/part2_step3_global_pooling seeds--> seeds. Our runs were made on other machines than the source's. That is one
# more reason why a single number of theirs and a single number of ours cannot be compared to the second decimal.

# %% [markdown]
# ## Exercise
#
# **Yours: how many seeds?** (medium, 10 minutes). Two recipes are run n times each. The runs of both scatter with the
# same standard deviation, so the difference of their means has the standard error sqrt(2 / n) x deviation. What is the
# least n for which `difference` is at least two of these standard errors?


# %%
def seeds_needed(deviation: float, difference: float) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


seeds_needed = exercises.check(seeds_needed, (0.05, 0.09), (0.10, 0.09), (0.05, 0.03))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Solve `difference = 2 * sqrt(2 / n) * deviation` for n, and round up with `math.ceil`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def seeds_needed(deviation, difference):
#     return math.ceil(8 * (deviation / difference) ** 2)
# ```
#
# </details>

# %%
for difference in (0.09, 0.03, 0.01):
    print(f"{difference:.2f} points apart, deviation 0.10: {seeds_needed(0.10, difference):,} seeds of each recipe")

# %% [markdown]
# A third of the difference takes nine times the seeds. With so many seeds the true difference is two standard errors,
# and the measured one falls below that in about half of all studies. So plan for about twice as many.

# %% [markdown]
# ## Quiz

# %% [markdown]
# **Question 1.** A network gets 99.40 % of 10,000 test images. What does its standard error of 0.077 points say?
#
# - **a** Other seeds of the recipe will scatter by 0.077 points.
# - **b** On other test images of the same kind its accuracy would typically differ by about that much from its true one.
# - **c** Its true accuracy lies at most 0.077 points away from 99.40 %.
#
# <details><summary>Answer</summary>
#
# **b.** It is about the choice of the images. a is about the choice of the run, and only several seeds show that. c
# takes one standard error for a certainty: about a third of all results lie farther away.
#
# </details>
#
# **Question 2.** The last four epochs of a run end with 67, 69, 67 and 68 mistakes. What do they show?
#
# - **a** The recipe's number of mistakes is known to within two.
# - **b** The network hardly changed in these epochs.
# - **c** The test set is too small.
#
# <details><summary>Answer</summary>
#
# **b.** They are four tests of nearly the same network on the same images. a would need other seeds. c has nothing to
# do with it: on a larger set they would agree just as well.
#
# </details>
#
# **Question 3.** Two networks make 67 and 58 mistakes on the same images. What do you need to judge whether one is
# better?
#
# - **a** The standard error of each.
# - **b** The training accuracy of each.
# - **c** On how many images they disagree, and how these are divided.
#
# <details><summary>Answer</summary>
#
# **c.** The sign test needs nothing else. a treats the tests as if they had different images. b says nothing about
# test images.
#
# </details>
#
# **Question 4.** You ran a recipe with three seeds and got 99.15, 99.26 and 99.35 %. What do you report?
#
# - **a** 99.35 %.
# - **b** The mean, the standard deviation and the number of seeds.
# - **c** The mean, to three decimals.
#
# <details><summary>Answer</summary>
#
# **b.** A reader can then judge what a difference is worth. a chooses a seed by its test accuracy. c hides the spread, and
# claims decimals that three seeds do not have.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. One network, tested on fresh sets of 10,000 images, gets results nine mistakes or more apart in nearly half of all pairs.
# 2. The standard error sqrt(p (1 - p) / n) agrees with the simulation. At 99.40 % and 10,000 images it is 0.077 points.
# 3. Our seeds lie up to 0.20 points<!--S6/part2_step3_global_pooling spread--> apart. Three seeds show that runs differ,
#    and hardly how much.
# 4. On the same images the sign test compares two networks by their disagreements. It speaks of these two networks, not
#    of their recipes.
# 5. 99.33 and 99.42 are two runs of one recipe. The mean over seeds, with its spread, is the result.
