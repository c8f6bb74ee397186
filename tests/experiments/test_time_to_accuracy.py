"""Time to accuracy: what is timed, where the source stops, what the weights it leaves really score."""

import argparse
import json
import subprocess
import sys

import pytest
import torch

from common import data, models, records
from common.data.loaders import InMemoryLoader
from common.experiments import quotes, time_to_accuracy
from common.system.errors import Interrupted, UserError
from common.training import loops
from common.training.metrics import Metrics

PHASES = {"imports": 2.0, "data": 0.5, "training": 20.0, "testing": 1.0, "ending": 0.5}
OURS = [
    {"seed": 1, "correct": 9_930, "total": 10_000, "seconds": 30.0, "phases": PHASES, "one_look_correct": 9_920},
    {"seed": 2, "correct": 9_950, "total": 10_000, "seconds": 34.0, "phases": PHASES, "one_look_correct": 9_930},
]
SOURCE = {"seed": 1, "correct": 9_941, "total": 10_000, "seconds": 400.0, "history": [9_900, 9_941]}
RACE = {"parameters": 7_600, "recipe": {"epochs": 9}, "ours": OURS, "source": [SOURCE]}


def options(tmp_path, **changed):
    return argparse.Namespace(
        **{"data": "builtin", "validate": False, "seed": 1, "seeds": 1, "out": tmp_path, "bar": 99.40, "started": 0.0}
        | changed
    )


def test_the_ratio_and_the_means_by_hand():
    said = time_to_accuracy.text(RACE).splitlines()
    assert said[2].endswith("99.41 %    400.0 s after 2 epochs")
    assert said[3].split() == ["ours", "mean", "99.400", "%", "32.0", "s"]
    assert said[4].split() == ["by", "one", "look", "99.250", "%"]
    assert said[5].strip() == "imports 2.0 s, data 0.5 s, training 20.0 s, testing 1.0 s, ending 0.5 s"
    assert said[6].endswith("12.5 times faster than the source")


def test_the_texts_quote_the_race(tmp_path, monkeypatch):
    monkeypatch.setattr(
        time_to_accuracy, "RECORDS", {99.40: tmp_path / "time_to_accuracy.json", 99.00: tmp_path / "time_to_99.json"}
    )
    time_to_accuracy.RECORDS[99.40].write_text(json.dumps(RACE), encoding="utf-8")
    shorter = [run | {"seconds": 6.0} for run in OURS]
    time_to_accuracy.RECORDS[99.00].write_text(json.dumps(RACE | {"ours": shorter}), encoding="utf-8")
    assert quotes.quote("time_to_accuracy 99 seconds") == "6.0 seconds"
    assert quotes.quote("time_to_accuracy training") == "20.0 seconds"
    filled = quotes.fill(
        ", ".join(f"?<!--time_to_accuracy {name}-->" for name in ("mean", "minimum", "seconds", "ratio", "seeds"))
    )
    assert [part.partition("<")[0] for part in filled.split(", ")] == [
        "99.40 %",
        "99.30 %",
        "32.0 seconds",
        "12.5 times",
        "2",
    ]
    with pytest.raises(UserError, match="does not answer 'time_to_accuracy luck'"):
        quotes.quote("time_to_accuracy luck")


def test_the_weights_left_behind_score_what_was_reported(tmp_path, monkeypatch):
    from safetensors.torch import load_model

    asked = options(tmp_path, bar=99.00)
    found = time_to_accuracy.ours(asked)
    del found["phases"]
    digits = data.load("builtin")
    network = models.build("S9/time_to_accuracy")
    load_model(network, tmp_path / "seed-1.safetensors")
    batches = InMemoryLoader(digits.test_images, digits.test_labels, 100)
    score = loops.evaluate(network, batches)
    assert found == {"seed": 1, "correct": score.correct, "total": 360}
    one_look = models.build("S9/time_to_accuracy_one_view")
    load_model(one_look, tmp_path / "seed-1.safetensors")
    assert time_to_accuracy.by_one_look(asked, 1) == {"one_look_correct": loops.evaluate(one_look, batches).correct}


def test_a_validated_run_is_tested_on_images_that_it_has_not_seen_and_that_are_no_test_images(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(loops, "train_epoch", lambda model, batches, *_: seen.append(batches.total))
    found = time_to_accuracy.ours(options(tmp_path, bar=99.00, validate=True))
    digits = data.load("builtin", validate=True)
    assert (seen, found["total"]) == ([len(digits.train_labels)], len(digits.test_labels))
    assert found["total"] != len(data.load("builtin").test_labels)


class Clock:
    """In the place of the module `time`: its hand moves only where a test moves it."""

    def __init__(self):
        self.now = 100.0

    def time(self):
        return self.now

    def takes(self, seconds, result):
        """A function that takes so long and returns that."""

        def action(*_, **__):
            self.now += seconds
            return result

        return action


@pytest.fixture
def clock(monkeypatch):
    hand = Clock()
    monkeypatch.setattr(time_to_accuracy, "time", hand)
    return hand


def test_each_phase_has_its_own_seconds(tmp_path, monkeypatch, clock):
    monkeypatch.setattr(data, "load", clock.takes(2.0, data.load("builtin")))
    monkeypatch.setattr(loops, "train_epoch", clock.takes(4.0, None))
    monkeypatch.setattr(loops, "evaluate", clock.takes(3.0, Metrics(0.1, 350, 360)))
    found = time_to_accuracy.ours(options(tmp_path, started=98.5))  # five epochs
    assert found["phases"] == {"imports": 1.5, "data": 2.0, "training": 20.0, "testing": 3.0}


def test_what_is_left_of_the_whole_is_the_end(monkeypatch, clock):
    said = json.dumps({"seed": 3, "phases": {"imports": 1.5, "data": 2.0}})
    ended = subprocess.CompletedProcess([], 0, stdout=f"a word before\n{said}\n")
    monkeypatch.setattr(subprocess, "run", clock.takes(4.0, ended))
    run = time_to_accuracy.timed("--only=ours")
    assert run == {"seed": 3, "phases": {"imports": 1.5, "data": 2.0, "ending": 0.5}, "seconds": 4.0}


def test_a_process_is_told_when_it_was_started(tmp_path):
    run = time_to_accuracy.timed("--only=ours", "--seed=3", "--bar=99.0", "--data=builtin", f"--out={tmp_path}")
    assert (run["seed"], list(run["phases"])) == (3, list(time_to_accuracy.PHASES))
    assert 0 < run["phases"]["imports"] < run["seconds"]  # else it would count from 1970


def test_the_source_stops_where_it_first_touches_the_bar(tmp_path, monkeypatch):
    scores = iter([9_930, 9_939, 9_940, 9_990])
    monkeypatch.setattr(loops, "evaluate", lambda *_: Metrics(0.1, next(scores), 10_000))
    monkeypatch.setattr("common.experiments.variants.trainer", lambda *_: lambda batches: None)
    found = time_to_accuracy.source(options(tmp_path))
    assert found["history"] == [9_930, 9_939, 9_940]
    scores = iter([9_900] * 99)
    assert len(time_to_accuracy.source(options(tmp_path))["history"]) == 14  # block 3's epochs
    scores = iter([9_890, 9_900, 9_990])
    assert time_to_accuracy.source(options(tmp_path, bar=99.00))["history"] == [9_890, 9_900]


def test_a_validated_sprint_never_meets_the_test_images(tmp_path, monkeypatch):
    asked = []
    run = {"seed": 1, "correct": 1, "total": 2, "seconds": 1.0}
    monkeypatch.setattr(time_to_accuracy, "timed", lambda *arguments: asked.append(arguments) or run)
    torch.manual_seed(1)
    network = models.build("S9/time_to_accuracy")
    for seed in (1, 2):
        (tmp_path / f"seed-{seed}.safetensors").write_bytes(records.weights(network))
    given = []
    load = data.load
    monkeypatch.setattr(data, "load", lambda *_, validate: given.append(validate) or load("builtin", validate=True))
    result = time_to_accuracy.race(options(tmp_path, seeds=2, validate=True))
    assert all("--validate" in arguments for arguments in asked)
    assert given == [True, True]
    assert (len(result["ours"]), result["source"]) == (2, [])


def test_an_interrupted_race_keeps_the_runs_that_ended(tmp_path, monkeypatch):
    run, asked = {"seed": 1, "correct": 9_940, "total": 10_000, "seconds": 30.0, "history": [9_940]}, []

    def second_is_interrupted(*arguments):
        asked.append(arguments)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return run

    monkeypatch.setattr(time_to_accuracy, "timed", second_is_interrupted)
    monkeypatch.setattr(time_to_accuracy, "by_one_look", lambda *_: {})
    with pytest.raises(Interrupted, match="Interrupted after 2 of 4 runs"):
        time_to_accuracy.race(options(tmp_path, seeds=3))
    kept = json.loads((tmp_path / "time_to_accuracy.json").read_text())
    assert (len(kept["ours"]), len(kept["source"])) == (2, 0)


def test_the_source_runs_half_way(tmp_path, monkeypatch):
    order, run = [], {"seed": 1, "correct": 1, "total": 2, "seconds": 1.0}
    monkeypatch.setattr(time_to_accuracy, "timed", lambda *arguments: order.append(arguments[0]) or run)
    monkeypatch.setattr(time_to_accuracy, "by_one_look", lambda *_: {})
    time_to_accuracy.race(options(tmp_path, seeds=4))
    assert order == ["--only=ours"] * 2 + ["--only=source"] + ["--only=ours"] * 2


@pytest.mark.parametrize("given", [["--validate"], ["--data=builtin"]])
def test_only_mnists_test_images_are_recorded(given):
    with pytest.raises(UserError, match="--record is for MNIST's test images"):
        time_to_accuracy.main(["--record", *given])


def test_a_run_that_fails_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(UserError, match="ended with an error; nothing was written"):
        time_to_accuracy.main(["--seeds=1", f"--out={tmp_path}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bar", time_to_accuracy.RECIPES)
def test_the_records_meet_their_own_rules(bar):
    result = json.loads(time_to_accuracy.RECORDS[bar].read_text(encoding="utf-8"))
    assert (result["bar"], result["validate"]) == (bar, False)
    assert sorted(run["seed"] for run in result["ours"]) == list(range(1, 11))
    assert {run["total"] for run in (*result["ours"], *result["source"])} == {10_000}
    assert result["fingerprint"] == records.fingerprint(time_to_accuracy.RECIPES[bar])
    for run in result["ours"]:
        assert abs(sum(run["phases"].values()) - run["seconds"]) < 0.05
    if bar == 99.40:
        kept = next(run for run in result["ours"] if run["seed"] == result["weights"]["seed"])
        assert (kept["correct"], kept["total"]) == (result["weights"]["test_correct"], result["weights"]["test_total"])


def test_the_weights_kept_are_those_of_the_seed_nearest_the_mean(tmp_path, monkeypatch):
    kept = {bar: tmp_path / "S9" / f"{bar}.json" for bar in time_to_accuracy.RECORDS}
    monkeypatch.setattr(time_to_accuracy, "RECORDS", kept)
    monkeypatch.setattr(time_to_accuracy, "WEIGHTS", tmp_path / "S9" / "weights")
    for seed in (1, 2, 3):
        (tmp_path / f"seed-{seed}.safetensors").write_bytes(bytes([seed]))
    runs = [
        {"seed": seed, "correct": correct, "total": 10_000} for seed, correct in ((1, 9_900), (2, 9_941), (3, 9_950))
    ]
    time_to_accuracy.keep({"bar": 99.00, "ours": runs, "source": []}, tmp_path)
    assert not time_to_accuracy.WEIGHTS.exists()
    assert len(json.loads(time_to_accuracy.RECORDS[99.00].read_text())["ours"]) == 3
    time_to_accuracy.keep({"bar": 99.40, "ours": runs, "source": []}, tmp_path)
    assert time_to_accuracy.WEIGHTS.read_bytes() == bytes([2])
    assert json.loads(time_to_accuracy.RECORDS[99.40].read_text())["weights"]["test_correct"] == 9_941
