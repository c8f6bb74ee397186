# %% [markdown]
# # S5 step 1: Build a first network that reads handwritten digits
#
# This page starts with a table of grey values. It ends with a **neural network** that reads handwritten digits: a chain
# of simple computations with 593,200 numbers in them, which a program has found. The page retells the published
# solution of a student. In this course we call such a solution **the source**. The source reported 99.19 % on what it
# called its test images. We train the same network in the same way, and find out what that number was measured on.
#
# **What you'll do**
#
# 1. Watch the finished network read ten digits, and see what two much simpler methods reach.
# 2. Turn an image into numbers, normalise it, change it at random, and put 512 of them into a batch.
# 3. Write a convolution yourself, and put four of them into a network.
# 4. Write the step of gradient descent yourself, and train with it.
# 5. Overfit on purpose, then train on all images, and measure the result in two ways.
# 6. Look inside: what did the network learn?
#
# **What you'll learn**: tensor, weight, neuron, normalisation, augmentation, batch, convolution, ReLU, max-pooling,
# logit, cross entropy, gradient, learning rate, momentum, epoch, seed, overfitting.
#
# **What you'll need**: a little Python. The page runs in under a minute as it stands. Training in full takes
# about 15 minutes<!--S5/step1_first_network minutes--> on one core of a CPU. On an NVIDIA H200 it takes
# 0.64 seconds<!--bench gpu S5/step1_first_network default seconds--> for each of its 20 passes over the images.
#
# *Before this*: nothing. *After this*: [S6 part 1](../S6/part1_backprop.ipynb). The
# [map of the steps](../../README.md#the-map-of-the-steps) shows the whole way. In the cloud:
# [Colab](https://colab.research.google.com/github/) opens a notebook from your copy of the repository, and
# [two lines](../../docs/machines.md#on-colab) install the course there.

# %% [markdown]
# ## Target
#
# | what | target | why this number |
# |---|---|---|
# | parameters | at most 593,200 | as many as the source's network has; there is no limit yet |
# | epochs | at most 20 | the source's; an **epoch** is one pass over all training images |
# | test accuracy | at least 99.19 % | what the source reported: at most 81 mistakes in 10,000 images |
#
# **Parameters** are the numbers that training finds. **Accuracy** is the share of the images that are read correctly.
#
# The next cell has the switch of every page: `TRAIN`. As it stands, the page loads a network that was trained before,
# and the numbers of that training. Set it to `"full"` and run all cells, and the network is trained before your eyes.
#
# Below the switch stands the **recipe**: everything that decides how the network is trained. It is the source's. Each
# of its words is explained where it is first used.

# %%
TRAIN = "recorded"  # what a full run left; "full" trains as the recipe says, "quick" for seconds on a part
try:
    from common.recipe import Augmentation, Recipe, Target, command_line
except ModuleNotFoundError:
    raise SystemExit("This kernel lacks the course: run `python3 course.py lab`, or choose the kernel .venv.") from None

recipe = Recipe(
    step="S5/step1_first_network",
    epochs=20,
    batch_size=512,
    lr=0.01,
    momentum=0.9,
    lr_step=15,
    augmentation=Augmentation(rotation=15, crop_probability=0.1),
)
recipe, options = command_line(recipe, TRAIN)

targets = (
    Target("parameters", "<=", 593_200),
    Target("epochs", "<=", 20),
    Target("test accuracy", ">=", 99.19),
)

# %% [markdown]
# Now the libraries and the digits. MNIST has 60,000 **training images**, from which the network learns, and 10,000
# **test images**, by other writers, on which it is measured. Without MNIST, the *built-in* digits of scikit-learn take
# their place. Their numbers cannot be compared with MNIST's.
#
# The cell prints which digits these are, which machine this is, and whether anything is trained. The **seed** is the
# number that all random numbers of a run start from: the same seed gives the same random numbers again.

# %%
import copy
import math

import torch
from PIL import Image
from torch.nn import functional
from torchvision import transforms

from common import data, models, records, training
from common.lesson import Exercises, experiment, plots

exercises = Exercises(recipe.step)
device = training.choose_device(options.device)
digits = data.load(options.data, options.limit, options.validate)
checkpoint = training.Checkpoint(options, recipe, digits, device)
print(records.head(recipe, options, digits, device))

# %% [markdown]
# ## First, see what it can do
#
# The course keeps the network that this recipe trained. It gets ten images that it has never seen.
#
# **Predict first.** How many of the ten will it read correctly?
#
# <details><summary>Answer</summary>
#
# All ten.
# It misreads about 71<!--S5/step1_first_network wrong--> images in 10,000, so ten images are too few to see a mistake.
# That is why accuracy is measured on thousands of images.
#
# </details>

# %% tags=["measured"]
trained = models.load_trained(recipe.step)
with torch.no_grad():
    ten = data.normalise(digits.test_images[:10])  # explained below
    read = trained(ten).argmax(dim=1)
captions = [f"read as {int(one)}" for one in read]
plots.show(plots.grid(digits.test_images[:10], captions, columns=5), options.out, "ten_digits")

# %% [markdown]
# Is that hard to do? Two much simpler methods answer this.
#
# **The nearest average.** Average all training images of each digit. This gives ten blurred pictures. An image is read
# as the digit whose picture is nearest: the squared differences of all pixels, added up, are smallest.

# %% tags=["measured"]
flat_train = digits.train_images.flatten(1).float() / 255  # one row of 784 grey values for each image
flat_test = digits.test_images.flatten(1).float() / 255
averages = torch.stack([flat_train[digits.train_labels == digit].mean(dim=0) for digit in range(10)])
nearest = torch.cdist(flat_test, averages).argmin(dim=1)
captions = [f"average {digit}" for digit in range(10)]
plots.show(plots.grid(255 * averages, captions, columns=5), options.out, "averages")

# %% [markdown]
# **A linear classifier.** Each digit gets a score: every pixel is multiplied by a number, the products are added up,
# and one more number is added. The highest score wins. The numbers that multiply are called **weights**, the one that
# is added is the **bias**. Such a weighted sum is a **neuron**. Here are ten neurons with 784 weights and a bias each,
# 7,850 parameters in all. A network has many neurons, and the results of some are the inputs of others.
#
# Nobody chooses the weights. The program looks at 100 images at a time and changes every weight a little, so that it
# would read these images better. One such change is a **step**. The cell takes 600 steps in each of three epochs, which
# takes a second or two. What its lines do is explained further down.

# %% tags=["measured"]
torch.manual_seed(recipe.seed)
linear = torch.nn.Linear(784, 10)
optimizer = torch.optim.SGD(linear.parameters(), lr=0.1, momentum=0.9)
for _ in range(3):
    for rows in torch.randperm(len(flat_train)).split(100):
        loss = functional.cross_entropy(linear(flat_train[rows]), digits.train_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
linear_read = linear(flat_test).argmax(dim=1)
test_loader = data.InMemoryLoader(digits.test_images, digits.test_labels, 1000)
trained_log_probabilities = training.predict(trained, test_loader)  # [10,000, 10], one for each image and digit
network_read = trained_log_probabilities.argmax(dim=1)
print("method                  parameters   test accuracy   wrong in 1,000")
for name, parameters, predicted in (
    ("nearest average", averages.numel(), nearest),
    ("linear classifier", models.count_parameters(linear), linear_read),
    ("this page's network", models.count_parameters(trained), network_read),
):
    wrong = (predicted != digits.test_labels).float().mean().item()
    print(f"{name:<22}{parameters:>12,}{100 * (1 - wrong):>14.2f} %{1000 * wrong:>17.0f}")

# %% [markdown]
# So 82 % is easy. The linear classifier makes more than ten times as many mistakes as the network. This page is about
# what makes the difference.
#
# ## The data
#
# ### An image is a table of numbers
#
# A **tensor** is a table of numbers. A list has one direction, a table of rows and columns has two, and a tensor may
# have more. Its **shape** says how long each direction is. A digit of MNIST has the shape [28, 28]. Each number is one
# byte: 0 is the empty background, 255 is full ink. Here is the middle of the first training image.

# %% tags=["measured"]
first = digits.train_images[0]
print("one image:", first.dtype, list(first.shape))
for pixels in first[8:20, 6:22]:
    print(" ".join(f"{int(pixel):3d}" for pixel in pixels))

# %% [markdown]
# Here are the first twelve training images with their **labels**: the digit that a person says it is. The network has
# to learn to give the label.

# %%
figure = plots.grid(digits.train_images[:12], [str(int(label)) for label in digits.train_labels[:12]])
plots.show(figure, options.out, "samples")

# %% [markdown]
# ### Normalisation: where 0.1307 and 0.3081 come from
#
# Training goes better when the inputs lie around zero and are neither tiny nor huge. So the mean of all training pixels
# is subtracted from every pixel, and the result is divided by their **standard deviation**: how far the pixels
# typically lie from their mean. This is **normalisation**. Nearly every program for MNIST contains the two numbers
# 0.1307 and 0.3081. Few compute them:

# %% tags=["measured"]
pixels = digits.train_images.float() / 255
print(f"{pixels.numel():,} training pixels: mean {pixels.mean():.4f}, standard deviation {pixels.std():.4f}")
print(f"{100 * (pixels == 0).float().mean():.1f} % of them are empty background")

# %%
for grey in (0, 255):
    print(f"a pixel of {grey:3d} becomes ({grey} / 255 - {data.MEAN}) / {data.STD} = "
          f"{(grey / 255 - data.MEAN) / data.STD:.4f}")  # fmt: skip

# %% [markdown]
# The two numbers are computed from the *training* images alone. The test images stand for digits that somebody will
# write in the future, so nothing may be computed from them beforehand.
#
# ### Augmentation: every image a little different each time
#
# A digit that is turned by ten degrees is still the same digit. So the source shows the network a changed image every
# time. With probability 0.1 the central 22x22 pixels are enlarged to 28x28. Then the image is turned by an angle
# between -15 and +15 degrees. Such changes are called **augmentation**. In torchvision they are a chain:

# %%
transform = transforms.Compose(
    [
        transforms.RandomApply([transforms.CenterCrop(22)], p=0.1),
        transforms.Resize((28, 28)),  # changes nothing where nothing was cropped
        transforms.RandomRotation(15),  # the corners that become free are filled with 0
        transforms.ToTensor(),  # bytes 0..255 of [28, 28] become floats 0..1 of [1, 28, 28]
        transforms.Normalize((0.1307,), (0.3081,)),
    ]
)
torch.manual_seed(recipe.seed)
six = torch.stack([transform(Image.fromarray(first.numpy())) for _ in range(6)])
plots.show(plots.grid(six, [f"time {number}" for number in range(1, 7)]), options.out, "augmented")

# %% [markdown]
# The order matters. The image is turned *before* it is normalised, when 0 is the background. After normalisation 0
# would be a grey.
#
# The recipe says the same in two words: `rotation=15, crop_probability=0.1`. The course builds the chain from them.
# With the same seed both give the same image:

# %%
made = []
for chain in (transform, data.image_transform(recipe.augmentation, 28)):
    torch.manual_seed(recipe.seed)
    made.append(chain(Image.fromarray(first.numpy())))
print("written out and built from the recipe, the same image:", torch.equal(*made))

# %% [markdown]
# ### Batches
#
# The network gets many images at once, a **batch**, here 512. A loader makes the batches: it shuffles the images,
# changes each at random, and puts them into one tensor. PyTorch's `DataLoader` does this one image at a time. The
# course's `InMemoryLoader` does it for a whole batch at once. With the same random numbers both give the same pixels;
# `tests/data/test_loaders.py` checks it.
#
# A batch has four directions: image, channel, row, column. A **channel** is a picture of the same size that belongs to
# the same image. A colour image has three: red, green, blue. Ours has one. Inside the network there will be up to 256.

# %% tags=["measured"]
train_batches = data.InMemoryLoader(
    digits.train_images,
    digits.train_labels,
    recipe.batch_size,
    augmentation=recipe.augmentation,
    shuffle=True,
    seed=recipe.seed,
    device=device,
)
classic = data.classic_loader(
    digits.train_images,
    digits.train_labels,
    recipe.batch_size,
    augmentation=recipe.augmentation,
    shuffle=True,
    seed=recipe.seed,
)
images, labels = next(iter(classic))
print("images:", images.dtype, list(images.shape))
print("labels:", labels.dtype, list(labels.shape))

# %% tags=["measured"]
print(f"one epoch has {len(train_batches)} batches, {recipe.epochs} epochs have {recipe.epochs * len(train_batches):,}")

# %% [markdown]
# Here are the first twelve images of the batch, as the network gets them:

# %%
plots.show(plots.grid(images[:12], [str(int(label)) for label in labels[:12]]), options.out, "batch")

# %% [markdown]
# ### Two things called a test
#
# A network could learn the training images by heart. Whether it can *read* shows only on images that it was not trained
# on. They are called **held-out** images; here these are MNIST's 10,000 test images. The source's "test" loader was
# built on other images: on the training images, changed at random as in training. We measure both.

# %%
test_batches = {
    "held-out": data.InMemoryLoader(digits.test_images, digits.test_labels, batch_size=1000, device=device),
    "source": data.InMemoryLoader(
        digits.train_images,
        digits.train_labels,
        batch_size=1000,
        augmentation=recipe.augmentation,
        seed=recipe.seed,
        device=device,
    ),
}

# %% [markdown]
# ## The network
#
# ### A convolution
#
# In the linear classifier each pixel has weights of its own. When a digit moves by two pixels, its strokes meet other
# weights. A **convolution** looks for one small pattern at every place. The pattern is a small table of weights, the
# **kernel**. It is laid on a 3x3 patch of the image. The nine pixels are multiplied by the nine weights, and the
# products are added up. Then the kernel moves on by one pixel.
#
# The kernel below has -1 on its left and 1 on its right. Where both sides of a patch are equally dark, the sum is 0.
# Where the right side is darker, the sum is positive: this is the left edge of a stroke.
#
# **Exercise 1: slide the kernel** (easy, 10 minutes). `image` has the shape [28, 28], `kernel` has [3, 3]. Return a
# tensor of all the sums, row by row. The page goes on with what you write. As long as it is empty or not yet right, the
# page goes on with the course's own.
#
# **Predict first.** What shape does the result have?
#
# <details><summary>Answer</summary>
#
# [26, 26]. A 3x3 kernel fits into 28 pixels at 26 places: the first begins at pixel 0, the last at pixel 25.
#
# </details>

# %%
left_edge = torch.tensor([[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]])
upper_edge = left_edge.T
digit = first / 255


def convolve(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor | None:
    # Your lines here. Then return your tensor instead of None.
    return None


convolve = exercises.check(convolve, (digit, left_edge), (digit, upper_edge), (torch.ones(5, 5), torch.ones(3, 3)))

# %% [markdown]
# <details><summary>Hint</summary>
#
# `image[row : row + 3, column : column + 3]` is the patch whose upper left corner is at `row` and `column`. Two loops
# over the places are enough.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def convolve(image, kernel):
#     places = image.shape[0] - 2
#     output = torch.zeros(places, places)
#     for row in range(places):
#         for column in range(places):
#             output[row, column] = (image[row : row + 3, column : column + 3] * kernel).sum()
#     return output
# ```
#
# </details>

# %%
by_hand = convolve(digit, left_edge)
by_torch = functional.conv2d(digit.view(1, 1, 28, 28), left_edge.view(1, 1, 3, 3)).view(26, 26)
print("28x28 in, out:", list(by_hand.shape))
print("the loops and PyTorch's conv2d agree:", torch.allclose(by_hand, by_torch, atol=1e-5))

# %% [markdown]
# This is the patch where the sum is largest, number by number. (A pixel of 1 / 255 is printed as 0.00.)

# %% tags=["measured"]
row, column = divmod(int(by_hand.argmax()), 26)
patch = digit[row : row + 3, column : column + 3]
print(f"rows {row} to {row + 2}, columns {column} to {column + 2}")
for seen, weights in zip(patch, left_edge, strict=True):
    nine = [" ".join(f"{number:5.2f}" for number in numbers) for numbers in (seen, weights, seen * weights + 0.0)]
    print(f"{nine[0]}  times {nine[1]}  is {nine[2]}")
print(f"the nine products add up to {by_hand[row, column]:.2f}")

# %% [markdown]
# ### ReLU and max-pooling
#
# Two more operations complete the network, and neither has a weight. **ReLU** replaces every negative number by 0: an
# edge was found, or it was not. Without such a step between them, two convolutions would be no more than one larger
# convolution, because sums of sums are sums. **Max-pooling** keeps the largest of each 2x2 numbers. The edge is then
# known only roughly, which does no harm, and the convolutions behind it have a quarter of the places to visit.

# %%
shown, captions = [digit], ["the digit"]
for name, kernel in (("left edges", left_edge), ("upper edges", upper_edge)):
    found = convolve(digit, kernel)
    kept = found.relu()
    pooled = functional.max_pool2d(kept[None], 2)[0]  # [13, 13]
    enlarged = pooled.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)  # to the same size, for the eye
    shown += [functional.pad(one, (1, 1, 1, 1)) for one in (found, kept, enlarged)]  # a frame of 0 around it
    captions += [name, "then ReLU", "then max-pool"]
figure = plots.maps(torch.stack(shown), captions, columns=7)
left, right, top, bottom = column - 0.5, column + 2.5, row - 0.5, row + 2.5
figure.axes[0].plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="black")
plots.show(figure, options.out, "convolution")

# %% [markdown]
# The black square is the patch from above. All pictures have one scale: white is 0, red is positive, blue is negative.
# The second picture is red on the left side of each stroke and blue on the right. ReLU keeps the red.
#
# ### The whole network
#
# We chose these two kernels. A network *learns* its kernels: its weights begin as small random numbers, and training
# changes them. What a kernel makes of an image is called a **map**, or a channel. The network has four convolutions.
# The first has 32 kernels and makes 32 channels out of one. The second has 64 kernels. Each of them looks at all 32
# channels: it has 32 x 3 x 3 weights and a bias. Here is the network, printed from its module:

# %%
torch.manual_seed(recipe.seed)
model = models.build(recipe.step).to(device)
print(models.source(recipe.step))

# %%
rows = models.layer_rows(model)
plots.show(plots.network(rows), options.out, "network")

# %% [markdown]
# Blue blocks have parameters; the second line below them says how many. The height of a block is the side of its maps.
# The two dense layers at the end have no maps, and the heights of their bars are on a scale of their own. The wider a
# block, the more channels it has. After the last max-pooling there are 256 channels of 4x4 numbers. `Flatten` writes
# them in one row of 4,096. Then comes a **dense** layer: 50 neurons, each with a weight for every one of the 4,096
# numbers. The last ten neurons give a **logit** for each digit. A logit can be any number, and the largest wins.
# `LogSoftmax` turns the logits into logarithms of probabilities, as explained below.
#
# Two tables describe every network of this course. torchsummary's lists every layer that is called, with the shape of
# its output and its parameters:

# %%
print(models.summary(model))

# %% [markdown]
# The course's own table has the same names, and only the layers with weights or with another size. It adds two things:
# how many multiplications an image takes, and the **receptive field**, the square of the image that one number of the
# layer can see. (The column `jump` is explained in [S6 part 2, step 1](../S6/part2_step1_dense_head.ipynb).)

# %%
print(models.layer_table(model))

# %% [markdown]
# Half of all parameters are in the last convolution, Conv2d-8. A third are in the first dense layer, Linear-12. Now
# compare their work in the last column. The convolution uses each weight at 8x8 places. The dense layer uses each
# weight once. So a third of the parameters does half a per cent of the work.

# %%
plots.show(plots.receptive_fields(digits.train_images[0], rows), options.out, "receptive_fields")

# %% [markdown]
# Before the dense layer, a number sees 16x16 pixels at most. MNIST's digits are up to 20 pixels high. Only the dense
# layer, which joins all 4x4 places, sees a large digit whole.
#
# ## Training
#
# ### The loss: one number that says how wrong
#
# **Softmax** turns logits into probabilities: take exp() of each, and divide by the sum of them all. The **loss** of an
# image is minus the logarithm of the probability that the network gives to the label. It is 0 if the label gets all the
# probability, and large if the label gets little. This loss is called **cross entropy**. For three classes with the
# logits 2, 1 and 0:

# %%
logits = torch.tensor([2.0, 1.0, 0.0])
log_probabilities = logits - logits.exp().sum().log()
print("label        0       1       2")
print("p      " + " ".join(f"{number:7.4f}" for number in log_probabilities.exp()))
print("loss   " + " ".join(f"{number:7.4f}" for number in -log_probabilities))
by_torch = functional.cross_entropy(logits.repeat(3, 1), torch.arange(3), reduction="none")
print("PyTorch's cross_entropy agrees:", torch.allclose(-log_probabilities, by_torch))
twice = functional.cross_entropy(log_probabilities.repeat(3, 1), torch.arange(3), reduction="none")
print("on the log-probabilities it gives the same:", torch.allclose(by_torch, twice))

# %% [markdown]
# The last line is about the source. Its network ends in a log-softmax, and PyTorch's cross entropy applies another one.
# That changes nothing, as the probabilities already add up to 1.
#
# ### The step: gradient descent with momentum
#
# The loss depends on every weight. The **gradient** says, for each weight, how fast the loss grows when this weight
# grows. `loss.backward()` computes it; [S6 part 1](../S6/part1_backprop.ipynb) shows how. To make the loss smaller,
# each weight moves *against* its gradient. This is **gradient descent**. How far it moves is the gradient times the
# **learning rate**, `lr`.
#
# **Momentum** gives each weight a memory. The weight w does not follow its gradient g alone. It follows a velocity v,
# which keeps 0.9 of what it was:
#
#     v = 0.9 v + g
#     w = w - lr v
#
# **Exercise 2: the step** (medium, 10 minutes). Write these two lines for all tensors of a network. `weights`,
# `gradients` and `velocities` are lists of tensors in the same order. Change the tensors in `weights` and `velocities`
# in place, and return nothing. The training loop below calls your function.


# %%
def step(weights: list, gradients: list, velocities: list, lr: float, momentum: float) -> None:
    # Your lines here.
    pass


one = [torch.tensor([1.0, 2.0])], [torch.tensor([0.5, -1.0])], [torch.tensor([0.0, 1.0])]
two = [torch.ones(2, 2), torch.zeros(3)], [torch.ones(2, 2), torch.ones(3)], [torch.ones(2, 2), torch.zeros(3)]
shared, kept = torch.ones(2), torch.zeros(2)
twice = [shared, shared], [torch.ones(2), torch.ones(2)], [kept, kept]  # one tensor twice: change it in place
step = exercises.check(step, (*one, 0.1, 0.9), (*two, 0.01, 0.5), (*twice, 0.1, 0.9))

# %% [markdown]
# <details><summary>Hint</summary>
#
# A tensor is changed in place by methods that end in an underscore: `velocity.mul_(0.9)` multiplies it,
# `velocity.add_(gradient)` adds to it, `weight.sub_(...)` subtracts. `for weight, gradient, velocity in zip(...)` goes
# through the three lists together. `weight = weight - ...` would make a new tensor, of which the network knows nothing.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def step(weights, gradients, velocities, lr, momentum):
#     for weight, gradient, velocity in zip(weights, gradients, velocities, strict=True):
#         velocity.mul_(momentum).add_(gradient)
#         weight.sub_(lr * velocity)
# ```
#
# </details>

# %% [markdown]
# One weight takes 40 steps with your function. In the first two lines all gradients agree. In the last two they
# contradict each other.
#
# **Predict first.** In which of the two cases does momentum make the steps longer?
#
# <details><summary>Answer</summary>
#
# Only where the gradients agree. The velocity tends to 1 + 0.9 + 0.9 x 0.9 + ..., which is 10, so the steps become ten
# times as long. Gradients that contradict each other cancel in the velocity, and the steps become about half as long.
#
# </details>

# %%
print("gradients           momentum  last step  weight after 40 steps  torch.optim.SGD")
for name, gradients in (("1, 1, 1, 1, ...", [1.0] * 40), ("1, -1, 1, -1, ...", [1.0, -1.0] * 20)):
    for momentum in (0.0, 0.9):
        weight, velocity, parameter = torch.zeros(()), torch.zeros(()), torch.nn.Parameter(torch.zeros(()))
        optimizer = torch.optim.SGD([parameter], lr=0.01, momentum=momentum)
        for gradient in gradients:
            before = weight.item()
            step([weight], [torch.tensor(gradient)], [velocity], 0.01, momentum)
            parameter.grad = torch.tensor(gradient)
            optimizer.step()
        print(f"{name:<20}{momentum:8.1f}{weight - before:11.4f}{weight:23.4f}{parameter.item():17.4f}")

# %% [markdown]
# The recipe changes the learning rate once: `lr_step=15` multiplies it by 0.1 after 15 epochs. Such a plan is called a
# **schedule**.
#
# ### The loop
#
# This is one epoch of training. Only the computation of the gradient is hidden:


# %%
def train_by_hand(model, batches, velocities, lr, momentum) -> training.Metrics:
    loss_sum, correct, total = 0.0, 0, 0
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        log_probabilities = model(images)  # forward: [batch, 10]
        loss = functional.nll_loss(log_probabilities, labels)  # cross entropy, as the network ends in a log-softmax
        model.zero_grad()  # forget the last batch's gradients,
        loss.backward()  # and compute this one's
        with torch.no_grad():  # nothing to differentiate in the step itself
            weights = list(model.parameters())
            step(weights, [weight.grad for weight in weights], velocities, lr, momentum)
        loss_sum += loss.item() * len(labels)
        correct += (log_probabilities.argmax(dim=1) == labels).sum().item()
        total += len(labels)
    return training.Metrics(loss_sum / total, correct, total)


# %% [markdown]
# We try it on 256 images in batches of 32: eight steps. A copy of the network is trained on the same batches by
# `training.train_epoch`, which trains every network of this course.
#
# **Predict first.** What is the loss of a network that knows nothing and gives every digit the same probability?
#
# <details><summary>Answer</summary>
#
# Every digit gets 1/10, and -log(1/10) is 2.3026. A loss far above that at the start means that something is wrong.
#
# </details>

# %% tags=["measured"]
count = 64 if options.quick else 256
few = digits.train_images[:count], digits.train_labels[:count]
few_batches = list(data.classic_loader(*few, 32, shuffle=True, seed=1))
ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
velocities = [torch.zeros_like(weights) for weights in ours.parameters()]
by_hand = train_by_hand(ours, few_batches, velocities, recipe.lr, recipe.momentum)
imported = training.train_epoch(
    theirs, few_batches, torch.optim.SGD(theirs.parameters(), lr=recipe.lr, momentum=recipe.momentum)
)
print(f"-log(1/10) is {math.log(10):.4f}")
for name, metrics in (("by hand", by_hand), ("imported", imported)):
    print(f"{name:<10} loss {metrics.loss:.4f}, accuracy {metrics.accuracy:.2f} %")


def farthest(one, other) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((mine - its).abs().max().item() for mine, its in pairs)


same = farthest(ours, theirs) < farthest(ours, model) / 100
print(f"after {len(few_batches)} steps the two agree to a hundredth of how far the weights have moved:", same)

# %% [markdown]
# In long runs `train_epoch` does two more things. On a CPU it sends a batch through the network in **micro-batches** of
# 64 images and adds up their gradients. That is the same sum, and it needs less memory at a time. And where a processor
# has special units for it, it computes with numbers of 16 bits. S9 comes back to both, in [step 2](../S9/step2_loops.ipynb) and [step
# 4](../S9/step4_time_to_accuracy.ipynb).
#
# ### Overfitting, on purpose
#
# We train on with the same 256 images, 20 epochs in all. After each epoch we measure 256 held-out images too. The
# network has more than two thousand parameters for each training image.
#
# **Predict first.** What will the two accuracies be at the end, on the training images and on the held-out images?
#
# <details><summary>Answer</summary>
#
# All or nearly all of the training images are right, and clearly fewer of the held-out images. The table says how many.
#
# </details>

# %% tags=["measured"]
few_held_out = data.classic_loader(digits.test_images[:count], digits.test_labels[:count], count)
few_history = [{"epoch": 1, **by_hand.row("train"), **training.evaluate(ours, few_held_out).row("test")}]
for number in range(2, 21):
    lr = recipe.lr if number <= 15 else recipe.lr / 10
    seen = train_by_hand(ours, few_batches, velocities, lr, recipe.momentum)
    few_history.append({"epoch": number, **seen.row("train"), **training.evaluate(ours, few_held_out).row("test")})
print(f"epoch   training loss   wrong of {count}   held-out loss   wrong of {count}")
for row in few_history:
    if row["epoch"] in (1, 5, 10, 13, 15, 20):
        columns = [(row[f"{part}_loss"], count - row[f"{part}_correct"]) for part in ("train", "test")]
        print(f"{row['epoch']:5d}" + "".join(f"{loss:16.4f}{wrong:15d}" for loss, wrong in columns))

# %%
plots.show(plots.curves(few_history), options.out, "overfitting")

# %% [markdown]
# The axes are logarithmic. A curve that ends at the bottom has reached zero. (The left axis has the loss under its
# other name, mean negative log-likelihood. A *nat* is its unit where the logarithm is the natural one.) At first both
# curves fall together: what the network learns from the 256 images also holds for others. Then they part. The training
# images are learnt by heart, and many held-out images stay wrong. This is **overfitting**. More images help against it,
# and so do images that change a little every time.
#
# Look at epochs 13 to 20 in the table. The training errors are at or near zero, and the training loss still falls. The
# held-out loss rises and falls again, while the held-out errors hardly change. The two measure different things. An
# image is wrong or not: that is the *error*. The *loss* also asks how much probability the label got. So it changes
# when the network becomes more or less sure of the same answers.
#
# ### All the images
#
# `training.fit` does this for each epoch: train, measure the held-out images, print a line. No epoch is chosen by what
# it measures. **The result is the last epoch.** Where nothing is trained, the lines of the recorded run are printed.

# %%
if options.recorded:
    history = records.restore(recipe, model)
else:
    history = training.fit(model, train_batches, test_batches, recipe, options, checkpoint)

# %%
plots.show(plots.curves(history, bound=99.19), options.out, "curves")

# %% [markdown]
# The same curves, now for all training images. Blue is measured during training, on images changed at random, with the
# weights of that moment. Orange is measured after each epoch, on held-out images as they are. That is why orange can
# lie below blue. After epoch 15 the learning rate drops. Over the recorded seeds the mean test accuracy is
# 99.15 %<!--S5/step1_first_network mean at 15--> after epoch 15 and
# 99.27 %<!--S5/step1_first_network mean at 16--> after epoch 16.

# %% [markdown]
# ## Result

# %%
record = records.make(recipe, options, model, digits, history)
print(records.verdict(targets, record))
records.save(options, record, model)

# %% [markdown]
# A run depends on its seed: the first weights, the order of the images and the angles come from it. So the course
# trains with several seeds and gives their mean. These are the recorded runs:

# %%
print(records.recorded(recipe.step, targets))

# %% [markdown]
# All three seeds end with the same number of mistakes. That is chance: an epoch earlier they do not agree. So the
# interval of no width does not mean that the mean is known exactly. [S6 part 2, step
# 1](../S6/part2_step1_dense_head.ipynb) explains such intervals.
#
# Now the source's way of measuring: on its training images, changed at random once more. Its log counts 59,514 of
# 60,000 as correct.

# %%
print(records.claims(recipe.step, {20: 59_514}))

# %% [markdown]
# Measured in the source's way, our three runs give 99.17 %<!--S5/step1_first_network source mean--> on average, and the
# source reported 99.19 %. So its number can be repeated. But it says nothing about new digits: MNIST has 10,000 test
# images, and its count is of 60,000. On held-out images our mean is *higher*:
# 99.29 %<!--S5/step1_first_network mean-->. A wrong way of measuring does not always flatter. It answers another
# question.
#
# Why is it higher? We measure the final weights on three sets of images.
#
# **Predict first.** The three sets are training images changed at random, the same training images unchanged, and
# held-out images. On which is the network best?
#
# <details><summary>Answer</summary>
#
# Best on the unchanged training images: it knows them, and nothing makes them harder. The other two are close to each
# other.
#
# </details>

# %% tags=["measured"]
some = digits.train_images[:10_000], digits.train_labels[:10_000]
changed = data.InMemoryLoader(*some, 1000, augmentation=recipe.augmentation, seed=recipe.seed, device=device)
unchanged = data.InMemoryLoader(*some, 1000, device=device)
log_probabilities = trained_log_probabilities  # of the same weights, where they are the recorded ones
if not options.recorded:
    log_probabilities = training.predict(model, test_batches["held-out"])
predictions = log_probabilities.argmax(dim=1)
accuracies = {
    "training images, changed at random": training.evaluate(model, changed).accuracy,
    "training images as they are": training.evaluate(model, unchanged).accuracy,
    "held-out images as they are": 100 * (predictions == digits.test_labels).float().mean().item(),
}
for name, accuracy in accuracies.items():
    chance = math.sqrt(accuracy * (100 - accuracy) / len(some[1]))  # the standard deviation for as many other images
    print(f"{name:<36}{accuracy:6.2f} %, and typically {chance:.2f} points more or less with other images")

# %% [markdown]
# Two effects point in opposite directions. The changes make an image harder: compare the first line with the second.
# New images, by other writers, are harder for the network than those it has learned from: compare the second line with
# the third. The source's number has the first effect in it and not the second.
#
# The first line can be held against the record above: 99.23 % for the same weights, on all 60,000 training images.
# There the images were turned and cut by other random numbers. Here the two agree as far as they are printed. With
# other random numbers each would come out a little different.
#
# ## The mistakes
#
# Here are the twelve mistakes that got the highest probability. Each caption says what the label is, what the network
# read, and how probable it found that. Cover the captions and read the digits yourself first.

# %%
plots.show(plots.mistakes(digits.test_images, digits.test_labels, log_probabilities), options.out, "mistakes")

# %% [markdown]
# Which digits are taken for which others? The row says what the digit is, the column what was read. The correct
# answers, on the diagonal, are left out.

# %%
plots.show(plots.confusion(digits.test_labels, predictions), options.out, "confusion")

# %% [markdown]
# And a correct answer, with all ten probabilities. For most images one bar is at nearly 100 %. This is the correct
# answer of which the network was least sure. The bar of the label is orange.

# %%
sureness = log_probabilities.max(dim=1).values.masked_fill(predictions != digits.test_labels, 0.0)
narrow = int(sureness.argmin())
figure = plots.probabilities(digits.test_images[narrow], log_probabilities[narrow], int(digits.test_labels[narrow]))
plots.show(figure, options.out, "least_sure")

# %% [markdown]
# ## What it learned
#
# Here are the 32 kernels of the first convolution. Red weights are positive, blue ones negative, white ones near 0. All
# have one scale.

# %%
convolution = model.layers[0]
numbers = [str(number) for number in range(32)]
plots.show(plots.maps(convolution.weight[:, 0], numbers, columns=8), options.out, "kernels")

# %% [markdown]
# And this is what each kernel makes of the first digit, before ReLU. All maps have one scale.

# %%
with torch.no_grad():
    first_maps = convolution(data.normalise(first[None]).to(device))[0].cpu()  # [32, 26, 26]
plots.show(plots.maps(first_maps, numbers, columns=8), options.out, "first_layer")

# %% [markdown]
# In most maps the empty background has a tint. It is -0.4242 after normalisation, and not 0. Each kernel multiplies
# this number by its nine weights, adds up, and adds its bias.
#
# **Predict first.** Which kernel just copies the digit? And does one of them do nearly the same as our `upper_edge`?
#
# <details><summary>Hint</summary>
#
# A copy is red where the ink is, and shows no edges. A map of upper and lower edges is red on one of them and blue on
# the other.
#
# </details>
#
# The next cell measures it, on 20 held-out digits. The **correlation** of two maps is 1 if one is the other times a
# positive number, plus a constant. It is -1 if that number is negative, and near 0 if the two have nothing in common.
# The edges come from the `convolve` of exercise 1.

# %% tags=["measured"]
twenty = digits.test_images[:20]
with torch.no_grad():
    learned = convolution(data.normalise(twenty).to(device)).cpu().transpose(0, 1).flatten(1)  # a row for each kernel
ours_to_compare = {
    "the digit itself": twenty[:, 1:27, 1:27] / 255,  # the middles of the patches
    "our left edges": torch.stack([convolve(image / 255, left_edge) for image in twenty]),
    "our upper edges": torch.stack([convolve(image / 255, upper_edge) for image in twenty]),
}
print("compared with       most similar map   correlation   next map   correlation")
for name, wanted in ours_to_compare.items():
    found = torch.corrcoef(torch.cat([wanted.flatten()[None], learned]))[0, 1:]
    best, second = found.abs().argsort(descending=True)[:2].tolist()
    print(f"{name:<20}{best:>16}{found[best]:>14.2f}{second:>11}{found[second]:>14.2f}")

# %% [markdown]
# Kernel 16 nearly copies the digit: most of its weights are positive, so it also blurs a little. Kernel 30 is nearly
# our `upper_edge` upside down, and so its correlation is negative. Nobody told the network to look for edges. Training
# found such kernels by making the loss smaller.
#
# Deeper layers see more of the image at once. Here are the first six maps of each of the four convolutions, after ReLU,
# for the same digit.

# %%
shown, captions, values = [], [], data.normalise(first[None]).to(device)
with torch.no_grad():
    for layer in model.layers[:8]:
        values = layer(values)
        if isinstance(layer, torch.nn.Conv2d):
            side = values.shape[-1]
            six = functional.interpolate(values[:, :6].relu(), size=(26, 26), mode="nearest")[0].cpu()
            shown.append(six)
            captions += [f"{side}x{side}"] * 6
figure = plots.maps(torch.cat(shown), captions, shared=False)
plots.show(figure, options.out, "deeper_layers")

# %% [markdown]
# A row is a layer. The maps have 26, 24, 10 and 8 numbers a side and are drawn at the same size. Each picture has a
# scale of its own here, because the layers' numbers differ in size. An empty picture is a map without a positive
# number. The first rows still show the stroke. In the last row little of it can be seen: each number says how strongly
# one pattern of 14x14 pixels was found.
#
# ## Try it yourself
#
# What does momentum do for the training? The next cell trains the network on 1,000 images: with three seeds as the
# recipe says, and with the same three seeds without momentum. It measures 2,000 other *training* images. The test
# images are not used, because nothing is ever chosen by them.
#
# **Predict first.** By how many points of accuracy does the network get better or worse without momentum? Write your
# guess into `prediction`, such as -5.0, and run the cell.

# %% tags=["measured"]
change = "momentum=0.0"  # change this
prediction = None  # your guess: accuracy without momentum minus accuracy with it, in points
tried = experiment(
    recipe,
    options,
    digits,
    device,
    change,
    prediction=prediction,
    images=1_000,
    held_out=2_000,
    epochs=3,
    batch_size=32,
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Here the accuracy fell by about 60 points. Chance moves such a difference, as only three seeds were tried; the
# interval, explained in [S6 part 2, step 1](../S6/part2_step1_dense_head.ipynb), says how much. All of it lies far
# below 0, so momentum does help in this short training.
#
# Why so much? There are only 32 steps in each of the three epochs. Where gradients agree from step to step, momentum
# makes the steps up to ten times as long. If that is the reason, a learning rate ten times as large should replace the
# momentum. Predict what `momentum=0.0 lr=0.1` gives, and try it. Then try `lr=0.1` alone.
#
# </details>
#
# ## Analysis
#
# **Result.** Every seed meets the target. Four convolutions and two dense layers read
# 99.29 %<!--S5/step1_first_network mean--> of the held-out digits. A linear classifier makes more than ten times as
# many mistakes.
#
# **What the claim measured.** The source's test loader was built on its training images. A reader of its notebook can
# see this in two places. It counts 60,000 images. And its two numbers are close: 99.21 % in training and 99.19 % in
# testing. Two such numbers look like proof that nothing overfits. But both were measured on training images. For a
# network that overfits they would be close too.
#
# **What comes next.** Nobody has asked yet whether 593,200 parameters are needed. S6 allows about a thirtieth of them,
# and S7 still fewer. Before that comes the line that we did not explain: `loss.backward()`. [S6 part
# 1](../S6/part1_backprop.ipynb) computes eight derivatives by hand.

# %% [markdown]
# ## Exercises
#
# **Exercise 3: follow the size** (easy, 5 minutes). An image of any side goes through this network: two 3x3
# convolutions, a max-pool, two 3x3 convolutions, a max-pool. How many numbers come out of `Flatten`, with 256
# channels? A max-pool drops a last odd row and column.


# %%
def flattened(side: int) -> int | None:
    # Your lines here. Then return your result instead of None.
    return None


flattened = exercises.check(flattened, (28,), (32,), (30,))
print(
    "for 28x28 pixels the network has a dense layer for this many numbers:",
    flattened(28) == model.layers[11].in_features,
)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Each convolution takes two pixels off the side. Each pool halves what is left.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def flattened(side):
#     for _ in range(2):
#         side = (side - 4) // 2
#     return 256 * side * side
# ```
#
# The convolutions work at any size. The dense layer does not: it has one weight for each of the numbers that it
# expects.
#
# </details>

# %% [markdown]
# **Exercise 4: cross entropy of large logits** (medium, 10 minutes). Write the loss of one image from the list of its
# logits, with `math.exp` and `math.log`. A logit may be 1000, and `math.exp(1000)` raises an error. Does the loss
# change when the same number is subtracted from all logits?


# %%
def cross_entropy(logits: list[float], label: int) -> float | None:
    # Your lines here. Then return your result instead of None.
    return None


cross_entropy = exercises.check(cross_entropy, ([2, 1, 0], 0), ([3.0] * 10, 7), ([1000, 0], 1), tolerance=1e-9)
by_torch = functional.cross_entropy(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])).item()
print("it agrees with PyTorch's:", math.isclose(cross_entropy([2, 1, 0], 0), by_torch, rel_tol=1e-6))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Subtract the highest logit from all of them first. Then no exponent is above 0.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def cross_entropy(logits, label):
#     highest = max(logits)
#     log_sum = highest + math.log(sum(math.exp(logit - highest) for logit in logits))
#     return log_sum - logits[label]
# ```
#
# Subtracting the same number from all logits divides every exp() and their sum by the same factor. The probabilities
# stay. PyTorch's `log_softmax` does the same.
#
# </details>

# %% [markdown]
# ## Quiz
#
# **Question 1.** The first dense layer holds a third of the parameters and does half a per cent of the work. Why?
#
# - **a** Its weights are smaller numbers.
# - **b** A convolution uses each weight at many places, a dense layer uses each weight once.
# - **c** A dense layer skips the weights of empty pixels.
#
# <details><summary>Answer</summary>
#
# **b.** The last convolution uses each weight at 8x8 places. Not a: a multiplication is the same work for small and
# large numbers. Not c: nothing is skipped, as multiplying by 0 is a multiplication too.
#
# </details>
#
# **Question 2.** A network reads all of its training images correctly. What do you know about new images?
#
# - **a** It reads nearly all of them.
# - **b** It reads hardly any of them.
# - **c** Nothing certain: it has to be measured on images that it was not trained on.
#
# <details><summary>Answer</summary>
#
# **c.** The network of 256 images on this page read its training images, and many new images wrongly. So not a. But it
# read most new images correctly. So not b.
#
# </details>
#
# **Question 3.** With momentum 0.5, a weight meets the same gradient in every step. How long do its steps become,
# compared with those without momentum?
#
# - **a** Half as long.
# - **b** Twice as long.
# - **c** They grow without end.
#
# <details><summary>Answer</summary>
#
# **b.** The velocity tends to 1 + 1/2 + 1/4 + ..., which is 2. Not a: the half is what is kept of the velocity, and the
# new gradient is added in full. Not c: each term is half of the one before, so the sum stays below 2.
#
# </details>
#
# **Question 4.** The held-out accuracy is measured after each epoch. Why is the best epoch not taken as the result?
#
# - **a** The best of 20 measurements is partly the luckiest one, so it would look better than the network is.
# - **b** The last epoch is always the best one.
# - **c** Each measurement changes the network a little.
#
# <details><summary>Answer</summary>
#
# **a.** Not b: the accuracies above go up and down from epoch to epoch. Not c: measuring changes neither images nor
# network; only *choosing* by the measurement does harm. [S6 part 2, step 1](../S6/part2_step1_dense_head.ipynb) shows
# how much.
#
# </details>

# %% [markdown]
# ## Recap
#
# 1. The network reads 99.29 %<!--S5/step1_first_network mean--> of the held-out digits. A linear classifier makes more
#    than ten times as many mistakes, and the nearest average still more.
# 2. An image is a tensor of 28x28 bytes. After normalisation the background is -0.4242 and full ink is 2.8215. A batch
#    is a tensor [512, 1, 28, 28], and its images are changed at random in every epoch.
# 3. A convolution lays one small kernel on every place of the image. Four of them, two max-poolings and two dense
#    layers make 593,200 parameters.
# 4. Each step is: logits, loss, gradients, new weights. Momentum is a velocity that keeps 0.9 of itself.
# 5. On 256 images the network overfits. On 60,000 it meets the target. The source's 99.19 % was measured on its
#    training images, where our runs give 99.17 %<!--S5/step1_first_network source mean-->.
# 6. Some kernels of the first layer copy the digit, and some find edges. The deepest maps show little of it.
