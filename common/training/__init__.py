"""Training and measuring a network. Read `loops` first: `fit`, `train_epoch` and `evaluate` are the whole of it.

Then `optimizers` (the step, the learning rate, the average of the weights) and `metrics`. `acceleration` chooses what
makes a step faster, `threads` how many of them compute beside other programs, `checkpoints` makes a run resumable,
`distillation` adds a teacher, `distributed` more processes.
"""

from common.training.checkpoints import Checkpoint
from common.training.loops import choose_device, evaluate, fit, predict, train_epoch
from common.training.metrics import Metrics

__all__ = ["Checkpoint", "Metrics", "choose_device", "evaluate", "fit", "predict", "train_epoch"]
