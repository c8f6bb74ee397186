"""What the test of a teacher on several processes runs in each of them: `python taught_run.py FOLDER`.

The teacher is kept in FOLDER/runs/teachers. The first process saves the history and all processes' weights into
FOLDER/found.pt.
"""

import shutil
import sys
from pathlib import Path

import torch
from shared_step import CPU, network

from common import data
from common.recipe import Options, Recipe
from common.system import processes
from common.training import distillation, distributed, loops


def taught_run() -> tuple[list[dict], torch.Tensor]:
    """A student's history, and the weights [3 n] of its teacher, of the teacher asked for again, and of the student.

    Neither network has BatchNorm or dropout, so by one process and by several they are the same up to rounding.
    """
    step = "S5/step1_first_network"
    recipe = Recipe(step, epochs=1, batch_size=32, lr=0.01, momentum=0.9, teacher=step, alpha=0.5)
    options = Options("builtin", None, "cpu", "held-out", "full", False, Path("nowhere"), "float32")
    digits = data.load("builtin", limit=48)
    teacher = distillation.train_teacher(recipe, digits, options, CPU)
    if processes.rank() > 0:  # as in a new run: only the first process's folder outlives a run
        shutil.rmtree(processes.own_folder(Path("teachers")))
    again = distillation.train_teacher(recipe, digits, options, CPU)
    student = network(step)
    train = data.InMemoryLoader(digits.train_images, digits.train_labels, 32, shuffle=True, seed=1)
    test = {"held-out": data.InMemoryLoader(digits.test_images[:20], digits.test_labels[:20], 20)}
    loss = distillation.loss_with(teacher, recipe, options)
    history = loops.fit(student, train, test, recipe, options, loss=loss)
    weights = [weight.detach().flatten() for model in (teacher, again, student) for weight in model.parameters()]
    return history, torch.cat(weights)


if __name__ == "__main__":
    torch.set_num_threads(1)
    processes.begin()
    folder = Path(sys.argv[1])
    distillation.ROOT = folder
    history, weights = taught_run()
    group = distributed.Group(CPU)
    of_all = [torch.zeros_like(weights) for _ in range(group.count)]
    torch.distributed.all_gather(of_all, weights)
    if group.rank == 0:
        torch.save({"history": history, "weights": of_all}, folder / "found.pt")
