"""The benchmark: every variant does the same work, and its arithmetic is right. Nothing here asserts a speed."""

import dataclasses
import json
import sys

import pytest
import torch

from common import models, records
from common.data.loaders import InMemoryLoader
from common.experiments import ablation, bench, beside, course_time, quotes, roofline, variants
from common.experiments.bench import TrainingVariant
from common.recipe import Augmentation, Recipe
from common.system.errors import UserError
from common.training import acceleration, loops

PLAIN = Recipe("S7/block3", epochs=1, batch_size=32, lr=0.02, momentum=0.8)


def digits(count=96):
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 10, (count,), generator=generator)


def trained(variant, recipe=PLAIN):
    """The weights after an epoch on the same batches by the given variant.

    By one thread: with two, `training.threads` takes as many as the other tests leave, and sums round otherwise.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = models.build(recipe.step)
    train = variants.trainer(model, recipe, variant)
    torch.manual_seed(3)
    train(InMemoryLoader(*digits(), recipe.batch_size))
    torch.set_num_threads(threads)
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


EXACT = {
    "numbers read once an epoch": {"read_each_batch": False},
    "memory kept": {"read_each_batch": False, "keep_memory": True},
}
CLOSE = {
    "channels last": {"read_each_batch": False, "channels_last": True},
    "fused optimizer": {"read_each_batch": False, "fused_optimizer": True},
}


@pytest.mark.parametrize("change", EXACT.values(), ids=EXACT)
def test_variants_that_change_no_arithmetic_train_the_same_bits(change):
    assert torch.equal(trained(TrainingVariant(**change)), trained(bench.SOURCES))


@pytest.mark.parametrize("change", CLOSE.values(), ids=CLOSE)
def test_variants_that_add_up_in_another_order_train_the_same_to_rounding(change):
    """Rounding sends a few max-pools of random pixels to another pixel: a thousandth of the weights' length."""
    weights = trained(bench.SOURCES)
    assert (trained(TrainingVariant(**change)) - weights).norm() < 2e-3 * weights.norm()


def test_the_default_variant_is_what_fit_does(monkeypatch, tmp_path):
    """The benchmark's "default" and the lessons' training, of a run that counts as long, end with the same bits."""
    monkeypatch.setattr(acceleration, "MIN_STEPS_CHWN", 3)
    torch.manual_seed(1)
    model = models.build("S7/block3")
    images, labels = digits()
    test = {"held-out": InMemoryLoader(images[:10], labels[:10], 10)}
    options = dataclasses.replace(variants.options_of(bench.VARIANTS["default"], "S7/block3"), out=tmp_path)
    torch.manual_seed(3)
    loops.fit(model, InMemoryLoader(images, labels, 32), test, PLAIN, options)
    weights = torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])
    assert torch.equal(weights, trained(bench.VARIANTS["default"]))


@pytest.mark.parametrize("kind", ["DataLoader", "cached", "no DataLoader", "in memory"])
def test_every_loader_gives_every_image_once_with_its_label(kind):
    images = torch.arange(50, dtype=torch.uint8).view(50, 1, 1).repeat(1, 28, 28)
    loader = variants.make_loader(
        TrainingVariant(kind), images, torch.arange(50) % 10, dataclasses.replace(PLAIN, batch_size=20)
    )
    batches = list(loader)
    assert [len(labels) for _, labels in batches] == [20, 20, 10] == [20] * (len(loader) - 1) + [10]
    labels = torch.cat([labels for _, labels in batches])
    middle = torch.cat([batch for batch, _ in batches])[:, 0, 14, 14]
    places = ((middle * 0.3081 + 0.1307) * 255).round().long()  # each image is filled with the number of its place
    assert sorted(places.tolist()) == list(range(50)) != places.tolist()
    assert torch.equal(labels, places % 10)


def test_the_sources_loop_gets_pytorchs_dropout():
    model = models.build("S6/part2_step3_global_pooling")
    variants.use_pytorch_dropout(model)
    dropouts = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert [(type(module), module.p) for module in dropouts] == [(torch.nn.Dropout, 0.1)] * 4


def test_a_benchmark_of_a_gpu_needs_one(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda: PyTorch finds no such device here"):
        bench.main(["--device", "cuda", "--out", str(tmp_path / "bench.json")])
    assert not list(tmp_path.iterdir())


def test_what_is_quick_has_the_decimals_to_be_told_apart():
    assert [bench.short(seconds) for seconds in (33.84, 2.04, 0.676)] == ["33.8", "2.0", "0.68"]


def test_recipes_come_from_the_records():
    recipe = variants.recorded_recipe("S7/block3")
    assert (recipe.batch_size, recipe.lr, recipe.momentum) == (64, 0.02, 0.8)
    assert recipe.augmentation == Augmentation(rotation=5, crop_probability=0.1)


def test_a_measurement_in_a_process_of_its_own_says_what_it_took(monkeypatch):
    measured = bench.measure("S7/block3", bench.VARIANTS["float32"], batches=2, epochs=3)
    assert measured["seconds"] > 0
    assert measured["precision"] == "float32"
    assert len(measured["megabytes_after_each_epoch"]) == 3
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(UserError, match="failed"):
        bench.measure("S7/block3", bench.SOURCES, batches=1)


def runs(*seconds, memory):
    return [{"seconds": value, "peak_megabytes": memory, "precision": "float32"} for value in seconds]


def test_the_table_compares_medians():
    variants = {"sources": runs(50.0, 30.0, 40.0, memory=900.0), "default": runs(9.0, 10.0, 100.0, memory=700.0)}
    machine = {"device": "cpu", "threads": 2, "machine": "a processor", "torch": "2.14.1"}
    rates = {"float32_flops": 2e11, "bfloat16_flops": 8e11, "copy_bytes_per_second": 4e10}
    steps = {"S7/block3": {"variants": variants, "flop": 4e11, "bytes": 1e9}}
    lines = bench.table({**machine, **rates, "steps": steps}).splitlines()
    assert lines[1].split() == ["S7/block3,", "sources", "40.0", "(30.0-50.0)", "1.0", "1,500", "5", "%", "900", "MB"]
    assert lines[2].split() == ["S7/block3,", "default", "10.0", "(9.0-100.0)", "4.0", "6,000", "20", "%", "700", "MB"]
    assert "200 GFLOP/s" in lines[3]


def test_the_limit_is_the_slower_of_arithmetic_and_copying():
    rates = {"float32_flops": 1e11, "bfloat16_flops": 1e12, "copy_bytes_per_second": 1e10}
    assert roofline.limit_seconds({"flop": 1e12, "bytes": 1e10}, rates) == pytest.approx(10)
    assert roofline.limit_seconds({"flop": 1e12, "bytes": 4e11}, rates) == pytest.approx(40)
    assert roofline.limit_seconds({"flop": 1e12, "bytes": 4e11}, rates, "bfloat16") == pytest.approx(20)


def test_the_least_work_of_a_network_by_hand():
    """S7 block 3: 1,278,128 multiply-adds; its convolutions and pools give 40,622 values an image."""
    values = 32 * 26**2 + 8 * 26**2 + 10 * 24**2 + 10 * 12**2 + 16 * 12**2 + 10 * 12**2 + 10 * 10**2 + 16 * 8**2
    values += 16 * 6**2 + 16 + 10
    assert roofline.least_work("S7/block3") == {"flop": 6 * 1_278_128 * 60_000, "bytes": 20 * values * 60_000}


def test_rates_are_work_over_time(monkeypatch):
    monkeypatch.setattr(roofline, "_best_of_five", lambda action, device: 0.5)
    assert roofline.matrix_product_rate(torch.float32, size=10) == 4_000
    assert roofline.copy_bandwidth(count=100) == 1_600


def test_a_step_is_compared_with_the_last_kept_one_within_each_turn():
    steps = ablation.ablation_steps(
        [
            ("kept", {"keep_memory": True}, True),
            ("tried", {"fused_optimizer": True}, False),
            ("on", {"precision": "bfloat16"}, True),
        ]
    )
    assert [each.variant.keep_memory for each in steps] == [False, True, True, True]
    assert not steps[-1].variant.fused_optimizer  # what was not kept is not under the next step
    measured = [
        runs(40.0, 80.0, memory=1),
        runs(20.0, 40.0, memory=1),
        runs(25.0, 39.0, memory=1),
        runs(10.0, 10.0, memory=1),
    ]
    below, foot = zip(*ablation.gains(steps, measured), strict=True)
    assert below == ([1, 1], [2, 2], [0.8, pytest.approx(40 / 39)], [2, 4])
    assert foot == ([1, 1], [2, 2], [1.6, pytest.approx(80 / 39)], [4, 8])
    assert [ablation.verdict(ratios) for ratios in below[1:]] == ["helps", "no clear gain", "helps"]
    assert ablation.verdict([0.9, 0.99]) == "slower"
    assert "3.00 x below (2.00-4.00)   6.00 x the sources   helps" in ablation.ablation_table(steps, measured)


def test_the_quoted_numbers_are_those_of_the_recorded_table():
    recorded = json.loads(bench.RECORDED.read_text(encoding="utf-8"))
    line = next(line for line in bench.table(recorded).splitlines() if line.startswith("S7/block3, default")).split()
    quoted = [quotes.quote(f"bench S7/block3 default {name}").split()[0] for name in ("seconds", "ratio", "limit")]
    assert quoted == [line[2], line[4], line[6]]
    gpu = json.loads(bench.RECORDED_GPU.read_text(encoding="utf-8"))
    line = next(line for line in bench.table(gpu).splitlines() if line.startswith("S7/block3, default")).split()
    quoted = [quotes.quote(f"bench gpu S7/block3 default {name}").split()[0] for name in ("seconds", "ratio")]
    assert quoted == [line[2], line[4]]
    assert recorded["steps"].keys() == gpu["steps"].keys() == bench.BATCHES.keys()
    assert all(len(runs) >= 3 for step in recorded["steps"].values() for runs in step["variants"].values())


def test_the_paired_runs_differ_in_their_arithmetic_or_device_alone():
    """The runs that S9 step 1 holds against the recorded ones: same network, recipe, data and seeds."""
    float32, bfloat16 = records.load(bench.RECORDED.with_name("block3_float32.json")), records.load("S7/block3")
    gpu, chwn = (records.load(bench.RECORDED.with_name(f"block3_{kind}.json")) for kind in ("gpu", "chwn"))
    for name in ("fingerprint", "data", "parameters"):
        assert float32[name] == bfloat16[name] == gpu[name] == chwn[name]
    assert records.recipe_of("S7/block3", gpu["recipe"]) == variants.recorded_recipe("S7/block3")
    assert [run["seed"] for run in records.runs(gpu)] == [run["seed"] for run in records.runs(chwn)] == [1, 2, 3, 4, 5]
    assert {(run["device"], run["precision"]) for run in records.runs(chwn)} == {("cpu", "float32")}
    assert {(run["device"], run["precision"]) for run in records.runs(gpu)} == {("NVIDIA H200", "float32")}
    assert [run["seed"] for run in records.runs(float32)] == [run["seed"] for run in records.runs(bfloat16)]
    assert {run["precision"] for run in records.runs(bfloat16)} == {"bfloat16"}
    assert not any("precision" in run for run in records.runs(float32))  # from before there was a choice


@pytest.mark.in_full
def test_a_training_beside_another_is_measured_while_both_train():
    """Two short ones, in processes of their own: each says how long its epoch would take."""
    found = beside.measure("S7/block3", {}, follows=True, trainings=2, busy=1, seconds=0.3)
    assert len(found) == 2 and all(0.1 < seconds < 10_000 for seconds in found)


def test_what_stands_in_brackets_is_the_ratio_to_the_training_alone():
    found = {
        "spinning": {
            "alone": [10.0],
            "two at once": [30.0, 50.0],
            "three at once": [90.0],
            "beside a busy program": [40],
        },
        "as many threads as idle cores": {"alone": [10.0], "two at once": [19.0, 21.0], "three at once": [30.0]},
    }
    result = {"steps": {"S7/block3": found}, "threads": 2, "machine": "a machine", "torch": "2"}
    assert beside.ratio(result, "S7/block3", "two", follows=False) == 4
    assert beside.ratio(result, "S7/block3", "two", follows=True) == 2
    assert beside.ratio(result, "S7/block3", "busy", follows=False) == 4
    found["as many threads as idle cores"]["beside a busy program"] = [15.0]
    assert "20.0 (2.00)" in beside.table(result).splitlines()[2]


def test_the_course_s_minutes_are_epochs_and_pages(monkeypatch):
    monkeypatch.setattr(course_time, "SECONDS", 0.2)
    training = {"epochs": 10, "train_seconds": 11.0, "test_seconds": 1.0}
    assert course_time.minutes({"page_seconds": 60.0, "trainings": [training, training]}) == 5.0
    measured = course_time.measure("S7/block3", "S7/block3", asks_teacher=False)
    assert measured["train_seconds"] > 0 and measured["test_seconds"] > 0 and measured["layers"] == "chwn"
