"""What the repository holds: every record is whole, belongs to today's code, and its weights score what it says."""

import ast
import dataclasses
import json

import pytest

from common import data, models, records
from common.cpu_kernels import chwn
from common.data import mnist_files
from common.data.loaders import InMemoryLoader
from common.experiments import time_to_accuracy
from common.recipe import ROOT, Augmentation, Recipe
from common.records import comparison
from common.training import loops

STEPS = sorted(
    f"{path.parents[1].name}/{path.stem}"
    for path in ROOT.glob("sessions/S*/records/*.json")
    if records.load(path)["runs"]  # a record may begin with a search
)


def lesson_recipe(step):
    """The recipe that a lesson states, read from its script without running it."""
    tree = ast.parse((ROOT / "sessions" / f"{step}.py").read_text(encoding="utf-8"))
    found = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "recipe"
    ]
    return eval(ast.unparse(found[0]), {"Recipe": Recipe, "Augmentation": Augmentation})


def test_there_are_records():
    assert "S7/block3" in STEPS


@pytest.mark.parametrize("step", STEPS)
def test_a_record_belongs_to_todays_network_and_recipe(step):
    stored = records.load(step)
    recipe, network = lesson_recipe(stored["step"]), models.build(step)
    if stored["step"] != step:  # another network by the lesson's recipe (`course.py study --network`)
        recipe = dataclasses.replace(recipe, network=step)
    assert stored["fingerprint"] == records.fingerprint(recipe)
    assert stored["parameters"] == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("step", STEPS)
def test_a_record_is_whole_and_its_counts_add_up(step):
    stored = records.load(step)
    assert len(records.runs(stored)) >= 3
    assert (stored["data"]["name"], stored["data"]["train"], stored["data"]["test"]) == ("mnist", 60_000, 10_000)
    for each in stored["runs"]:
        history = each["history"]
        assert [row["epoch"] for row in history] == list(range(1, stored["recipe"]["epochs"] + 1))
        assert each["seconds"] == pytest.approx(sum(row["seconds"] for row in history), abs=0.01)
        tested = {"held-out": 10_000, "source": 60_000}[each["protocol"]]
        assert {(row["train_total"], row["test_total"]) for row in history} == {(60_000, tested)}
        assert {"device", "threads", "machine", "torch", "python"} <= each.keys()
    for name, value in comparison.summary(stored).items():
        assert stored["summary"][name] == pytest.approx(value, abs=1e-6), name
    kept = stored["weights"]
    last = next(each for each in records.runs(stored) if each["seed"] == kept["seed"])["history"][-1]
    assert (kept["test_correct"], kept["test_total"]) == (last["test_correct"], last["test_total"])


def test_a_written_form_is_json_that_other_code_reads():
    for step in STEPS:
        stored = json.loads(records.path_of(step).read_text(encoding="utf-8"))
        assert stored["step"] == step or stored["recipe"]["network"] == step


@pytest.fixture(scope="module")
def mnist_test_images():
    """From MNIST_DIR or the cache; a test does not download."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist_files, "_download", lambda name, fault: pytest.skip(f"MNIST is not at hand: {fault}"))
        digits = data.load("mnist")
    return digits.test_images, digits.test_labels


SLOW = ("S8/under_20k", "S8/step7_two_budgets", "S5/step1_first_network")  # 40, 40 and 20 seconds of a core


@pytest.mark.parametrize("step", STEPS)
def test_the_trained_weights_score_what_the_record_says(step, mnist_test_images, request):
    """The slow ones are shown a tenth of the images, which tells less, and all of them in the full form."""
    images, labels = mnist_test_images
    network, kept = models.load_trained(step), records.load(step)["weights"]
    assert not network.training
    whole = step not in SLOW or request.config.getoption("--faults-full")
    shown = slice(None) if whole else slice(1_000)
    forward = chwn.ChwnForward(network) if chwn.supports(network) else None  # the same answers, sooner
    score = loops.evaluate(network, InMemoryLoader(images[shown], labels[shown], 1000), forward=forward)
    if whole:
        assert abs(score.correct - kept["test_correct"]) <= 2
    else:
        low, high = comparison.wilson(score.correct, score.total, level=0.999)
        assert low < 100 * kept["test_correct"] / kept["test_total"] < high


def test_the_weights_of_the_race_to_the_bar_score_what_its_record_says(mnist_test_images):
    score = loops.evaluate(models.load_trained("S9/time_to_accuracy"), InMemoryLoader(*mnist_test_images, 1000))
    assert abs(score.correct - json.loads(time_to_accuracy.RECORDS[99.40].read_text())["weights"]["test_correct"]) <= 2
