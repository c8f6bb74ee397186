"""Training: exact counts, plain arithmetic, checkpoints that leave no trace of an interruption."""

import contextlib
import dataclasses
import os
import pickle
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from common import data, models, records
from common.data.loaders import InMemoryLoader, classic_loader
from common.recipe import ROOT, Augmentation, Options, Recipe, Target
from common.records import report
from common.system.errors import Interrupted, UserError
from common.training import acceleration, loops
from common.training.checkpoints import Checkpoint

CPU = torch.device("cpu")
RECIPE = Recipe("S7/block3", epochs=3, batch_size=32, lr=0.02, momentum=0.8, augmentation=Augmentation(rotation=5))


@pytest.fixture(scope="module")
def digits():
    return data.load("builtin", limit=96)


def loaders(digits, recipe=RECIPE):
    train = InMemoryLoader(
        digits.train_images,
        digits.train_labels,
        recipe.batch_size,
        augmentation=recipe.augmentation,
        shuffle=True,
        seed=recipe.seed,
    )
    return train, {"held-out": InMemoryLoader(digits.test_images, digits.test_labels, 100)}


def options(out, resume=False, protocol="held-out", precision="float32"):
    return Options("builtin", None, "cpu", protocol, "quick", resume=resume, out=out, precision=precision)


def saved_in(folder, recipe, digits, **more):
    """The last two arguments of `fit`: the options of a run that writes into this folder, and its checkpoint."""
    asked = options(folder, **more)
    return asked, Checkpoint(asked, recipe, digits, CPU)


def network(seed=1):
    torch.manual_seed(seed)
    return models.build("S7/block3")


def weights(model):
    """All weights and running means; not the whole numbers in which BatchNorm counts its batches."""
    return torch.cat([tensor.flatten() for tensor in model.state_dict().values() if tensor.is_floating_point()])


class Fixed(nn.Module):
    """Gives the log-probabilities that it was handed, and has one parameter that says where it lives."""

    def __init__(self, rows):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, indices):
        return self.rows[indices].log()


def test_accuracy_is_correct_over_total_and_loss_the_mean_over_images():
    # Three images in batches of two and one: a mean of batch means would give 75 % and another loss.
    model = Fixed([[0.5, 0.5 - 1e-6], [0.2, 0.8], [0.9, 0.1]])
    batches = [(torch.tensor([0, 1]), torch.tensor([0, 0])), (torch.tensor([2]), torch.tensor([0]))]
    score = loops.evaluate(model, batches)
    assert (score.correct, score.total) == (2, 3)
    assert score.accuracy == pytest.approx(200 / 3)
    assert score.loss == pytest.approx(-(torch.tensor([0.5, 0.2, 0.9]).log().mean().item()), abs=1e-6)


def test_an_epoch_is_plain_stochastic_gradient_descent(digits):
    """One epoch with momentum, against the update written out: v = 0.8 v + g, w = w - lr v."""
    model, twin = network(), network()
    train, _ = loaders(digits)
    torch.manual_seed(3)
    loops.train_epoch(model, train, torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.8))
    train, _ = loaders(digits)
    torch.manual_seed(3)
    twin.train()
    velocities = [torch.zeros_like(parameter) for parameter in twin.parameters()]
    for images, labels in train:
        gradients = torch.autograd.grad(F.nll_loss(twin(images), labels), list(twin.parameters()))
        with torch.no_grad():
            for parameter, velocity, gradient in zip(twin.parameters(), velocities, gradients, strict=True):
                velocity.mul_(0.8).add_(gradient)
                parameter.sub_(velocity, alpha=0.02)
    assert torch.allclose(weights(model), weights(twin), atol=1e-6)


def test_testing_changes_nothing(digits):
    model = network()
    test = loaders(digits)[1]["held-out"]
    before, random = weights(model), torch.get_rng_state()
    loops.evaluate(model, test)
    loops.predict(model, test)
    assert torch.equal(before, weights(model))
    assert torch.equal(random, torch.get_rng_state())


def test_predictions_come_in_the_order_of_the_images(digits):
    model = network()
    test = loaders(digits)[1]["held-out"]
    predicted = loops.predict(model, test)
    assert predicted.shape == (len(digits.test_labels), 10)
    correct = int((predicted.argmax(dim=1) == digits.test_labels).sum())
    assert correct == loops.evaluate(model, test).correct


def test_the_history_counts_every_image_and_the_steps_of_the_learning_rate(digits, tmp_path):
    recipe = Recipe("S7/block3", epochs=3, batch_size=32, lr=0.1, lr_step=2)
    history = loops.fit(network(), *loaders(digits, recipe), recipe, options(tmp_path))
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert loops.log_line({**history[0], "lr": 0.000125}, 3).split()[:5] == ["epoch", "1/3", "lr", "0.000125", "train"]
    assert [row["lr"] for row in history] == pytest.approx([0.1, 0.1, 0.01])
    assert {(row["train_total"], row["test_total"]) for row in history} == {(96, 96)}


class StopsAfter:
    """A training loader that breaks off, as Ctrl-C would, in the middle of a given epoch."""

    def __init__(self, loader, epoch):
        self.loader, self.epochs_left, self.generator = loader, epoch, loader.generator

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.epochs_left -= 1
        for number, batch in enumerate(self.loader):
            if self.epochs_left == 0 and number == 1:
                raise KeyboardInterrupt
            yield batch


MOVING = dataclasses.replace(RECIPE, one_cycle=0.3, nesterov=True, weight_decay=1e-3, ema_decay=0.8)


@pytest.mark.parametrize(
    ("recipe", "precision", "chwn"),
    [(RECIPE, "float32", False), (RECIPE, "bfloat16", False), (MOVING, "float32", False), (RECIPE, "float32", True)],
)
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_ends_with_the_same_bits(monkeypatch, digits, tmp_path, capsys, epoch, recipe, precision, chwn):
    monkeypatch.setattr(acceleration, "MIN_STEPS_CHWN", 0 if chwn else 800)
    whole = network()
    undisturbed = loops.fit(whole, *loaders(digits), recipe, options(tmp_path, precision=precision))
    said = capsys.readouterr().out

    train, test = loaders(digits)
    with pytest.raises(Interrupted, match=f"after {epoch - 1} of 3 epochs.*--resume"):
        arguments = saved_in(tmp_path, recipe, digits, precision=precision)
        loops.fit(network(), StopsAfter(train, epoch), test, recipe, *arguments)
    capsys.readouterr()
    torch.manual_seed(99)  # another process would not have this process's generator
    resumed = models.build("S7/block3")
    arguments = saved_in(tmp_path, recipe, digits, resume=True, precision=precision)
    history = loops.fit(resumed, *loaders(digits), recipe, *arguments)

    assert torch.equal(weights(whole), weights(resumed))
    assert [{**row, "seconds": 0} for row in history] == [{**row, "seconds": 0} for row in undisturbed]
    without_seconds = [[line.split()[:-2] for line in text.splitlines()] for text in (said, capsys.readouterr().out)]
    assert without_seconds[0] == without_seconds[1]  # it also says what came before the interruption
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", ".lock"}


class AfterEachStep:
    """In the place of an average: it keeps the weights that it is shown."""

    def __init__(self):
        self.weights = []

    def update_parameters(self, model):
        self.weights.append(weights(model))


def test_what_is_measured_and_kept_is_the_mean_of_the_weights(digits, tmp_path):
    """Against the mean written out, step by step, over a twin's training."""
    recipe = dataclasses.replace(RECIPE, epochs=1, ema_decay=0.2)
    model, twin = network(), network()
    train, test = loaders(digits)
    torch.manual_seed(3)
    history = loops.fit(model, train, test, recipe, options(tmp_path))
    train, _ = loaders(digits)
    torch.manual_seed(3)
    optimizer, seen = torch.optim.SGD(twin.parameters(), lr=0.02, momentum=0.8), AfterEachStep()
    loops.train_epoch(twin, train, optimizer, ema=seen)
    seen = seen.weights
    assert len(seen) == 3
    second = 2 / 11 * seen[0] + 9 / 11 * seen[1]  # the mean keeps (1 + n) / (10 + n) after n steps, at most 0.2 here
    assert torch.allclose(weights(model), 0.2 * second + 0.8 * seen[2], atol=1e-6)
    measured = loops.evaluate(model, test["held-out"])
    assert (history[-1]["test_correct"], history[-1]["test_loss"]) == (measured.correct, pytest.approx(measured.loss))
    assert measured.loss != pytest.approx(loops.evaluate(twin, test["held-out"]).loss)  # of the weights as they are


def test_a_validated_run_says_so(tmp_path):
    digits = data.load("builtin", limit=96, validate=True)
    recipe, asked = dataclasses.replace(RECIPE, epochs=1), options(tmp_path)
    model = network()
    history = loops.fit(model, *loaders(digits), recipe, asked)
    (run,) = records.make(recipe, asked, model, digits, history)["runs"]
    assert (run["protocol"], run["history"][-1]["test_total"]) == ("validation", 96)
    assert "96 validation images" in report.verdict(
        (Target("test accuracy", ">=", 99),), records.make(recipe, asked, model, digits, history)
    )


def test_resuming_a_finished_run_trains_no_further(digits, tmp_path):
    model = network()
    loops.fit(model, *loaders(digits), RECIPE, *saved_in(tmp_path, RECIPE, digits))
    again = network(seed=2)
    history = loops.fit(again, *loaders(digits), RECIPE, *saved_in(tmp_path, RECIPE, digits, resume=True))
    assert len(history) == 3
    assert torch.equal(weights(model), weights(again))


def test_both_protocols_in_one_run_are_what_each_alone_would_have_been(digits, tmp_path):
    """Measuring more changes no training, and a record's runs are the same whichever way they were asked for."""
    runs, trained = {}, []
    for protocol in ("held-out", "source", "both"):
        train, test = loaders(digits)
        test["source"] = InMemoryLoader(digits.train_images, digits.train_labels, 50, augmentation=RECIPE.augmentation)
        model, asked = network(), options(tmp_path, protocol=protocol)
        history = loops.fit(model, train, test, RECIPE, asked)
        found = records.make(RECIPE, asked, model, digits, history)["runs"]
        runs[protocol] = [(run["protocol"], [{**row, "seconds": 0} for row in run["history"]]) for run in found]
        trained.append(weights(model))
    assert torch.equal(trained[0], trained[1])
    assert torch.equal(trained[0], trained[2])
    assert runs["both"] == runs["held-out"] + runs["source"]
    assert [rows[-1]["test_total"] for _, rows in runs["both"]] == [96, 96]


def test_a_step_whose_source_used_the_test_images_has_one_protocol(digits, tmp_path):
    with pytest.raises(UserError, match="--protocol source: this step's source measured the test images"):
        loops.fit(network(), *loaders(digits), RECIPE, options(tmp_path, protocol="source"))
    recipe = Recipe("S7/block3", epochs=1, batch_size=32, lr=0.02)
    asked = options(tmp_path, protocol="both")
    model = network()
    history = loops.fit(model, *loaders(digits), recipe, asked)
    assert [run["protocol"] for run in records.make(recipe, asked, model, digits, history)["runs"]] == ["held-out"]


def test_more_epochs_go_on_where_fewer_ended(digits, tmp_path):
    """Two epochs and then two more are the same run as four, where no rate depends on their number."""
    stepped = dataclasses.replace(RECIPE, epochs=4, lr_step=1)
    whole = network()
    loops.fit(whole, *loaders(digits), stepped, options(tmp_path))
    half = dataclasses.replace(stepped, epochs=2)
    loops.fit(network(), *loaders(digits), half, *saved_in(tmp_path, half, digits))
    resumed = network(seed=2)
    history = loops.fit(resumed, *loaders(digits), stepped, *saved_in(tmp_path, stepped, digits, resume=True))
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert torch.equal(weights(whole), weights(resumed))
    with pytest.raises(UserError, match="has 4 epochs already; --epochs must be at least 4"):
        saved_in(tmp_path, half, digits, resume=True)


def test_one_cycle_over_more_epochs_is_another_run(digits, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=1, one_cycle=0.3)
    loops.fit(network(), *loaders(digits), recipe, *saved_in(tmp_path, recipe, digits))
    with pytest.raises(UserError, match="epochs 1 there, 2 here"):
        saved_in(tmp_path, dataclasses.replace(recipe, epochs=2), digits, resume=True)


def test_a_resumed_run_computes_as_it_began(digits, tmp_path, monkeypatch):
    """Longer runs may train by other layers; one that goes on keeps to its own, and its record says so."""
    recipe, longer = dataclasses.replace(RECIPE, epochs=1), dataclasses.replace(RECIPE, epochs=2)
    monkeypatch.setattr(acceleration, "MIN_STEPS_CHWN", 6)
    loops.fit(network(), *loaders(digits), recipe, *saved_in(tmp_path, recipe, digits))
    model = network()
    asked, checkpoint = saved_in(tmp_path, longer, digits, resume=True)
    history = loops.fit(model, *loaders(digits), longer, asked, checkpoint)
    assert records.make(longer, asked, model, digits, history)["runs"][0]["layers"] == "library"
    model = network()
    history = loops.fit(model, *loaders(digits), longer, asked)
    assert records.make(longer, asked, model, digits, history)["runs"][0]["layers"] == "chwn"


class OfYourOwn(nn.Module):
    """A network that no registry knows."""

    def __init__(self, channels=4):
        super().__init__()
        self.convolution, self.dense = nn.Conv2d(1, channels, 5, stride=5), nn.Linear(channels * 25, 10)

    def forward(self, images):
        return self.dense(self.convolution(images).relu().flatten(1)).log_softmax(1)


def test_a_network_of_your_own_is_trained_resumed_and_recorded(digits, tmp_path):
    recipe = Recipe("S9/mine", epochs=2, batch_size=32, lr=0.05)
    torch.manual_seed(1)
    model = OfYourOwn()
    asked, checkpoint = saved_in(tmp_path, recipe, digits)
    history = loops.fit(model, *loaders(digits), recipe, asked, checkpoint)
    record = records.make(recipe, asked, model, digits, history)
    assert record["parameters"] == 4 * 26 + 101 * 10
    resumed = OfYourOwn()
    loops.fit(resumed, *loaders(digits), recipe, *saved_in(tmp_path, recipe, digits, resume=True))
    assert torch.equal(weights(model), weights(resumed))
    with pytest.raises(UserError, match="belongs to another run .network"):
        loops.fit(OfYourOwn(5), *loaders(digits), recipe, *saved_in(tmp_path, recipe, digits, resume=True))


@pytest.mark.parametrize(("batch_size", "limit"), [(1, 96), (5, 96), (32, 1)])
def test_a_batch_of_one_image_that_batchnorm_cannot_normalise_is_said_before_training(tmp_path, batch_size, limit):
    """The strided network ends in maps of one place: one image there is one value per channel."""
    digits, recipe = data.load("builtin", limit=limit), Recipe("S6/part2_step2_strided", 1, batch_size, lr=0.01)
    with pytest.raises(UserError, match="choose another --batch-size or --limit"):
        loops.fit(models.build(recipe.step), *loaders(digits, recipe), recipe, options(tmp_path))
    assert loops.fit(models.build("S7/block3"), *loaders(digits, recipe), recipe, options(tmp_path))


@pytest.fixture(scope="module")
def saved(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    recipe = Recipe("S7/block3", epochs=1, batch_size=32, lr=0.02)
    loops.fit(network(), *loaders(digits, recipe), recipe, *saved_in(folder, recipe, digits))
    return folder, recipe


def refusal(folder, recipe, digits):
    with pytest.raises(UserError) as caught:
        saved_in(folder, recipe, digits, resume=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_checkpoint_is_named(digits, tmp_path):
    assert "nothing to resume" in refusal(tmp_path, RECIPE, digits)


def test_a_checkpoint_of_another_recipe_or_data_set_is_refused(digits, saved):
    folder, recipe = saved
    other = Recipe("S7/block3", epochs=1, batch_size=32, lr=0.05)
    assert "lr 0.02 there, 0.05 here" in refusal(folder, other, digits)
    other = Recipe("S7/block3", epochs=1, batch_size=32, lr=0.02, nesterov=True, momentum=0.5)
    assert "momentum None there, 0.5 here" in refusal(folder, other, digits)
    assert "measured on test there, valid" in refusal(folder, recipe, data.load("builtin", limit=96, validate=True))
    assert "training images 96 there, 50 here" in refusal(folder, recipe, data.load("builtin", limit=50))


def test_a_checkpoint_of_another_protocol_or_network_is_refused(digits, saved):
    folder, recipe = saved
    with pytest.raises(UserError, match="protocol held-out there, source here"):
        saved_in(folder, recipe, digits, resume=True, protocol="source")
    with pytest.raises(UserError, match="precision float32 there, bfloat16 here"):
        saved_in(folder, recipe, digits, resume=True, precision="bfloat16")
    torch.manual_seed(1)
    other = models.build("S7/block1")
    with pytest.raises(UserError, match="belongs to another run \\(network .* there, .* here\\)"):
        loops.fit(other, *loaders(digits, recipe), recipe, *saved_in(folder, recipe, digits, resume=True))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_cut_checkpoint_is_refused(digits, saved, tmp_path, share):
    folder, recipe = saved
    content = (folder / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(content[: int(share * len(content))])
    assert "damaged" in refusal(tmp_path, recipe, digits)


def test_a_checkpoint_with_flipped_bits_is_refused(digits, saved, tmp_path):
    folder, recipe = saved
    content = bytearray((folder / "checkpoint.pt").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "checkpoint.pt").write_bytes(content)
    assert "damaged" in refusal(tmp_path, recipe, digits)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("position", range(0, 4000, 40))
def test_no_damage_to_a_byte_escapes_as_a_traceback(digits, saved, tmp_path, position):
    """A flipped bit where the zip file keeps its own order: refused, or of no consequence."""
    folder, recipe = saved
    content = bytearray((folder / "checkpoint.pt").read_bytes())
    content[-position - 1] ^= 0x10
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with contextlib.suppress(UserError):
        assert "history" in saved_in(tmp_path, recipe, digits, resume=True)[1].resumed


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_not_run(digits, tmp_path, write):
    trace = tmp_path / "code-ran"
    write({"identity": "{}", "state": Malicious(str(trace))}, tmp_path / "checkpoint.pt")
    message = refusal(tmp_path, RECIPE, digits)
    assert "not loaded" in message
    assert not trace.exists()


def test_an_unwritable_folder_shows_before_training(digits, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Cannot write"):
        loops.fit(network(), *loaders(digits), RECIPE, *saved_in(tmp_path / "file", RECIPE, digits))


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(digits, tmp_path):
    wild = Recipe("S7/block3", epochs=2, batch_size=32, lr=1e30)
    with pytest.raises(UserError, match="loss is (nan|inf) in epoch 1"):
        loops.fit(network(), *loaders(digits, wild), wild, *saved_in(tmp_path, wild, digits))
    assert saved_in(tmp_path, wild, digits)[1].load()["history"] == []


def test_an_absent_device_gets_one_sentence():
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(UserError, match=f"--device {absent}: PyTorch finds no such device"):
        loops.choose_device(absent)
    assert loops.choose_device("cpu").type == "cpu"


@pytest.mark.in_full  # a quarter of a minute; the small lesson of tests/faults is killed each time
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_script_resumed_writes_the_same_weights(tmp_path, monkeypatch):
    """The lesson's own script: killed in the middle of training, resumed, against undisturbed, by its files."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(folder, *more):
        script = str(ROOT / "sessions" / "S7" / "block3.py")
        return [
            sys.executable,
            "-u",
            script,
            "--quick",
            "--limit=64",
            "--epochs=6",
            f"--out={tmp_path / folder}",
            *more,
        ]

    quiet = {"env": environment, "stdout": subprocess.DEVNULL}
    subprocess.run(command("whole"), check=True, **quiet)
    with subprocess.Popen(command("killed"), env=environment, stdout=subprocess.PIPE, text=True) as victim:
        for line in victim.stdout:
            if line.startswith("epoch       2/6"):  # its checkpoint may be written, half written or not begun
                victim.kill()
    assert victim.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    subprocess.run(command("killed", "--resume"), check=True, **quiet)
    written = [(tmp_path / folder / "weights.safetensors").read_bytes() for folder in ("whole", "killed")]
    assert written[0] == written[1]


def test_a_record_says_what_computed_and_not_what_was_asked_for(digits, tmp_path):
    """A short run that asked for the compiler did not use it."""
    asked = dataclasses.replace(options(tmp_path), compile=True)
    model = network()
    history = loops.fit(model, *loaders(digits), RECIPE, asked)
    made = records.make(RECIPE, asked, model, digits, history)["runs"][0]
    assert (made["precision"], made["compiled"]) == ("float32", False)


def test_the_classic_loader_can_be_trained_on(digits, tmp_path):
    recipe = Recipe("S7/block3", epochs=1, batch_size=32, lr=0.02)
    classic = classic_loader(digits.train_images, digits.train_labels, 32, shuffle=True)
    history = loops.fit(network(), classic, loaders(digits)[1], recipe, options(tmp_path))
    assert history[0]["train_total"] == 96
