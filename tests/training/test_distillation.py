"""Learning from a teacher: the loss by hand, a teacher that is trained once, and only on what the student may see."""

import dataclasses
import math
import shutil

import pytest
import torch

from common import data, models
from common.recipe import Augmentation, Options, Recipe
from common.system.errors import Interrupted, UserError
from common.training import distillation, loops

RECIPE = Recipe(
    "S8/step7_two_budgets", epochs=2, batch_size=32, lr=0.1, teacher="S8/under_8k_dense", temperature=2.0, alpha=0.75
)
CPU = torch.device("cpu")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "ROOT", tmp_path)
    return Options("builtin", None, "cpu", "held-out", "quick", resume=False, out=tmp_path, precision="float32")


class Answers(torch.nn.Module):
    """A teacher that gives the same scores whatever it sees."""

    def __init__(self, *scores):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.tensor([scores]))

    def forward(self, images):
        return self.scores.log_softmax(dim=1).expand(len(images), -1)


def test_the_loss_by_hand():
    teacher, student = (2.0, 0.0), (0.0, 0.0)
    found = distillation.DistillationLoss(Answers(*teacher), RECIPE)(
        torch.zeros(1, 1, 2, 2), torch.tensor([student]).log_softmax(dim=1), torch.tensor([0])
    )
    sure = math.e / (math.e + 1)  # the teacher's scores halved are 1 and 0; the student's stay equal
    divergence = sure * math.log(sure / 0.5) + (1 - sure) * math.log((1 - sure) / 0.5)
    assert found.item() == pytest.approx(0.75 * 2**2 * divergence + 0.25 * math.log(2))


def test_a_student_that_answers_as_its_teacher_has_nothing_to_learn_but_the_labels():
    student = torch.tensor([[1.0, -2.0, 0.5]], requires_grad=True)
    recipe = dataclasses.replace(RECIPE, alpha=1.0)
    loss = distillation.DistillationLoss(Answers(1.0, -2.0, 0.5), recipe)
    loss(torch.zeros(1, 1, 2, 2), student.log_softmax(dim=1), torch.tensor([2])).backward()
    assert student.grad.abs().max() < 1e-6
    labels = distillation.DistillationLoss(Answers(9.0, 0.0, 0.0), dataclasses.replace(RECIPE, alpha=0.0))
    given = torch.zeros(1, 1, 2, 2), student.detach().log_softmax(dim=1), torch.tensor([2])
    assert labels(*given).item() == pytest.approx(loops.nll_loss(*given).item())


def test_without_a_teacher_the_labels_are_all(asked):
    assert distillation.make_loss(dataclasses.replace(RECIPE, teacher=""), None, asked, CPU) is loops.nll_loss


def test_a_teacher_is_trained_once_and_draws_nothing_from_the_students_generator(asked, monkeypatch, capsys):
    digits = data.load("builtin", limit=64)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = distillation.train_teacher(RECIPE, digits, asked, CPU)
    assert torch.equal(before, torch.random.get_rng_state())
    said = capsys.readouterr().out
    assert said.count("teacher    S8/under_8k_dense") == 1
    assert said.count("epoch ") == RECIPE.epochs
    untrained = models.build("S8/under_8k_dense").state_dict()
    assert not torch.equal(first.state_dict()["layers.0.0.weight"], untrained["layers.0.0.weight"])
    monkeypatch.setattr(loops, "train_epoch", lambda *_: pytest.fail("trained again"))
    again = distillation.train_teacher(dataclasses.replace(RECIPE, seed=2), digits, asked, CPU)
    assert capsys.readouterr().out == said
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, first.state_dict()[name])


def test_a_teacher_that_was_interrupted_is_trained_to_the_end(asked, monkeypatch, capsys):
    digits, epochs = data.load("builtin", limit=64), loops.train_epoch
    whole = distillation.train_teacher(RECIPE, digits, asked, CPU)
    said = capsys.readouterr().out
    shutil.rmtree(asked.out / "runs")

    def once(*arguments):
        monkeypatch.setattr(loops, "train_epoch", interrupt)
        return epochs(*arguments)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loops, "train_epoch", once)
    with pytest.raises(Interrupted, match="the same command goes on with it"):
        distillation.train_teacher(RECIPE, digits, asked, CPU)
    monkeypatch.setattr(loops, "train_epoch", epochs)
    capsys.readouterr()
    for tensor, other in zip(
        distillation.train_teacher(RECIPE, digits, asked, CPU).parameters(), whole.parameters(), strict=True
    ):
        assert torch.equal(tensor, other)
    losses = [[line.rsplit("%", 1)[0] for line in text.splitlines()] for text in (said, capsys.readouterr().out)]
    assert losses[0] == losses[1]  # all but the seconds


def test_other_images_and_other_recipes_have_teachers_of_their_own(asked):
    recipe = dataclasses.replace(RECIPE, epochs=1)
    distillation.train_teacher(recipe, data.load("builtin", limit=64), asked, CPU)
    distillation.train_teacher(recipe, data.load("builtin", limit=65), asked, CPU)
    distillation.train_teacher(
        dataclasses.replace(recipe, augmentation=Augmentation(rotation=5)), data.load("builtin", limit=64), asked, CPU
    )
    assert len(list((asked.out / "runs" / "teachers").glob("*/checkpoint.pt"))) == 3


def test_a_damaged_teacher_is_one_sentence(asked):
    digits, recipe = data.load("builtin", limit=64), dataclasses.replace(RECIPE, epochs=1)
    distillation.train_teacher(recipe, digits, asked, CPU)
    next((asked.out / "runs" / "teachers").glob("*/checkpoint.pt")).write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged or holds more than weights"):
        distillation.train_teacher(recipe, digits, asked, CPU)


def test_training_minimises_the_loss_that_it_is_given(asked):
    digits = data.load("builtin", limit=64)
    torch.manual_seed(1)
    model, asked_for = models.build("S8/under_8k_dense"), []

    def loss_of(images, log_probabilities, labels):
        asked_for.append(len(images))
        return -log_probabilities[:, 3].mean()  # whatever it sees, it is to answer 3

    batches = distillation.InMemoryLoader(digits.train_images, digits.train_labels, 32)
    recipe = dataclasses.replace(RECIPE, teacher="", epochs=4)
    loops.fit(model, batches, {"held-out": batches}, recipe, asked, None, loss_of)
    assert asked_for == [32] * 8
    assert (model.train()(next(iter(batches))[0]).argmax(dim=1) == 3).all()


def test_a_lesson_without_a_teacher_refuses_a_recipe_with_one(asked):
    with pytest.raises(UserError, match="S8/step7_two_budgets learns from labels alone"):
        loops.fit(models.build("S8/under_8k_dense"), None, {}, RECIPE, asked)


def test_a_teacher_without_its_batchnorm_layers_gives_the_same_answers():
    torch.manual_seed(2)
    teacher = models.build("S8/teacher")
    for module in teacher.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    kept = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    fused = distillation.fuse_batchnorm(teacher)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    images = torch.randn(8, 1, 28, 28)
    with torch.no_grad():
        assert torch.allclose(fused(images), teacher.eval()(images), atol=1e-4)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in teacher.state_dict().items())
