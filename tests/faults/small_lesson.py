# %% [markdown]
# # A lesson as small as one can be: what the fault tests kill, stop and starve

# %%
import torch

from common import data, models, records
from common.data.loaders import InMemoryLoader
from common.recipe import Augmentation, Recipe, command_line
from common.records import report
from common.training import loops
from common.training.checkpoints import Checkpoint

recipe = Recipe(
    "S7/block3", epochs=6, batch_size=16, lr=0.02, momentum=0.8, ema_decay=0.9, augmentation=Augmentation(rotation=5)
)
recipe, options = command_line(recipe)

# %%
device = loops.choose_device("cpu")
digits = data.load("builtin", options.limit or 128)
checkpoint = Checkpoint(options, recipe, digits, device)

# %%
train_batches = InMemoryLoader(
    digits.train_images,
    digits.train_labels,
    recipe.batch_size,
    augmentation=recipe.augmentation,
    shuffle=True,
    seed=recipe.seed,
)
test_batches = {"held-out": InMemoryLoader(digits.test_images[:100], digits.test_labels[:100], 100)}
torch.manual_seed(recipe.seed)
model = models.build(recipe.step)

# %%
history = loops.fit(model, train_batches, test_batches, recipe, options, checkpoint)
report.save(options, records.make(recipe, options, model, digits, history), model)
