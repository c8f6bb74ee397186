"""Time to accuracy: what is timed, where the source stops, what the weights it leaves really score."""

import argparse
import json
import sys

import pytest

from common import data, models, records
from common.data.loaders import InMemoryLoader
from common.experiments import quotes, time_to_accuracy
from common.system.errors import Interrupted, UserError
from common.training import loops
from common.training.metrics import Metrics


def options(tmp_path, **changed):
    return argparse.Namespace(
        **{"data": "builtin", "validate": False, "seed": 1, "seeds": 1, "out": tmp_path} | changed
    )


def test_the_ratio_and_the_means_by_hand():
    runs = [{"seed": 1, "correct": 9_930, "total": 10_000, "seconds": 30.0}]
    runs += [{"seed": 2, "correct": 9_950, "total": 10_000, "seconds": 34.0}]
    source = {"seed": 1, "correct": 9_941, "total": 10_000, "seconds": 400.0, "history": [9_900, 9_941]}
    said = time_to_accuracy.text(
        {"parameters": 7_600, "recipe": {"epochs": 9}, "ours": runs, "source": [source]}
    ).splitlines()
    assert said[2].endswith("99.41 %    400.0 s after 2 epochs")
    assert said[3].split() == ["ours", "mean", "99.400", "%", "32.0", "s"]
    assert said[4].endswith("12.5 times faster than the source")


def test_the_texts_quote_the_race(tmp_path, monkeypatch):
    monkeypatch.setattr(time_to_accuracy, "RECORDED", tmp_path / "time_to_accuracy.json")
    ours = [{"seed": 1, "correct": 9_930, "total": 10_000, "seconds": 30.0}]
    ours += [{"seed": 2, "correct": 9_950, "total": 10_000, "seconds": 34.0}]
    source = {"seed": 1, "correct": 9_941, "total": 10_000, "seconds": 400.0, "history": [9_900, 9_941]}
    time_to_accuracy.RECORDED.write_text(
        json.dumps({"parameters": 7_600, "recipe": {"epochs": 9}, "ours": ours, "source": [source]}), encoding="utf-8"
    )
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

    monkeypatch.setattr(
        time_to_accuracy, "RECIPE", time_to_accuracy.RECIPE.__class__(**{**vars(time_to_accuracy.RECIPE), "epochs": 1})
    )
    found = time_to_accuracy.ours(options(tmp_path))
    digits = data.load("builtin")
    network = models.build("S9/time_to_accuracy")
    load_model(network, tmp_path / "seed-1.safetensors")
    score = loops.evaluate(network, InMemoryLoader(digits.test_images, digits.test_labels, 100))
    assert found == {"seed": 1, "correct": score.correct, "total": 360}


def test_the_source_stops_where_it_first_touches_the_bar(tmp_path, monkeypatch):
    scores = iter([9_930, 9_939, 9_940, 9_990])
    monkeypatch.setattr(loops, "evaluate", lambda *_: Metrics(0.1, next(scores), 10_000))
    monkeypatch.setattr("common.experiments.variants.trainer", lambda *_: lambda batches: None)
    found = time_to_accuracy.source(options(tmp_path))
    assert found["history"] == [9_930, 9_939, 9_940]
    scores = iter([9_900] * 99)
    assert len(time_to_accuracy.source(options(tmp_path))["history"]) == 14  # block 3's epochs


def test_a_validated_sprint_never_meets_the_test_images(tmp_path, monkeypatch):
    asked = []
    run = {"seed": 1, "correct": 1, "total": 2, "seconds": 1.0}
    monkeypatch.setattr(time_to_accuracy, "timed", lambda *arguments: asked.append(arguments) or run)
    result = time_to_accuracy.race(options(tmp_path, seeds=2, validate=True))
    assert all("--validate" in arguments for arguments in asked)
    assert (len(result["ours"]), result["source"]) == (2, [])


def test_an_interrupted_race_keeps_the_runs_that_ended(tmp_path, monkeypatch):
    run, asked = {"seed": 1, "correct": 9_940, "total": 10_000, "seconds": 30.0, "history": [9_940]}, []

    def second_is_interrupted(*arguments):
        asked.append(arguments)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return run

    monkeypatch.setattr(time_to_accuracy, "timed", second_is_interrupted)
    with pytest.raises(Interrupted, match="Interrupted after 2 of 4 runs"):
        time_to_accuracy.race(options(tmp_path, seeds=3))
    kept = json.loads((tmp_path / "time_to_accuracy.json").read_text())
    assert (len(kept["ours"]), len(kept["source"])) == (2, 0)


def test_the_source_runs_half_way(tmp_path, monkeypatch):
    order, run = [], {"seed": 1, "correct": 1, "total": 2, "seconds": 1.0}
    monkeypatch.setattr(time_to_accuracy, "timed", lambda *arguments: order.append(arguments[0]) or run)
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


def test_the_record_meets_its_own_rules():
    result = json.loads(time_to_accuracy.RECORDED.read_text(encoding="utf-8"))
    assert not result["validate"]
    assert sorted(run["seed"] for run in result["ours"]) == list(range(1, 11))
    assert {run["total"] for run in (*result["ours"], *result["source"])} == {10_000}
    assert result["fingerprint"] == records.fingerprint(time_to_accuracy.RECIPE)
    kept = next(run for run in result["ours"] if run["seed"] == result["weights"]["seed"])
    assert (kept["correct"], kept["total"]) == (result["weights"]["test_correct"], result["weights"]["test_total"])


def test_the_weights_kept_are_those_of_the_seed_nearest_the_mean(tmp_path, monkeypatch):
    for name in ("RECORDED", "WEIGHTS"):
        monkeypatch.setattr(time_to_accuracy, name, tmp_path / "S9" / name)
    for seed in (1, 2, 3):
        (tmp_path / f"seed-{seed}.safetensors").write_bytes(bytes([seed]))
    runs = [
        {"seed": seed, "correct": correct, "total": 10_000} for seed, correct in ((1, 9_900), (2, 9_941), (3, 9_950))
    ]
    time_to_accuracy.keep({"ours": runs, "source": []}, tmp_path)
    assert time_to_accuracy.WEIGHTS.read_bytes() == bytes([2])
    assert json.loads(time_to_accuracy.RECORDED.read_text())["weights"]["test_correct"] == 9_941
