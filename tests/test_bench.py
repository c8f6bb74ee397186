"""The benchmark: both loops do the same work, and its arithmetic is right. Nothing here asserts a speed."""

import json

import pytest
import torch

from common import bench, loops, models
from common.loaders import InMemoryLoader
from common.recipe import Recipe


def trained(epoch):
    torch.manual_seed(1)
    model = models.build("S7/block3")
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (96, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (96,), generator=generator)
    torch.manual_seed(3)
    result = epoch(model, InMemoryLoader(images, labels, 32), torch.optim.SGD(model.parameters(), 0.02, 0.8))
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()]), result


def test_the_sources_loop_and_ours_train_the_same_weights():
    theirs, (_, correct) = trained(bench.sources_epoch)
    ours, score = trained(loops.train_epoch)
    assert torch.equal(theirs, ours)
    assert score.correct == correct


def test_the_sources_loop_gets_pytorchs_dropout():
    model = models.build("S6/part2_step3_global_pooling")
    bench.use_pytorch_dropout(model)
    dropouts = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert [(type(module), module.p) for module in dropouts] == [(torch.nn.Dropout, 0.1)] * 4


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(bench, "STEPS", {"S7/block3": (Recipe("S7/block3", 1, batch_size=8, lr=0.1), 2)})


def test_a_worker_says_in_json_what_it_measured(tiny, capsys):
    bench.main(["--worker", "S7/block3", "ours"])
    measured = json.loads(capsys.readouterr().out)
    assert measured["seconds"] > 0
    assert measured.keys() == {"seconds", "peak_megabytes"}


def test_the_table_compares_medians():
    runs = {
        "sources": [{"seconds": seconds, "peak_megabytes": 900.0} for seconds in (50.0, 30.0, 40.0)],
        "ours": [{"seconds": seconds, "peak_megabytes": 700.0} for seconds in (9.0, 10.0, 100.0)],
        "least_seconds": 2.0,
    }
    machine = {"device": "cpu", "threads": 2, "machine": "a processor", "torch": "2.14.1"}
    rates = {"matrix_product_flops": 2e11, "copy_bytes_per_second": 4e10}
    lines = bench.table({**machine, **rates, "steps": {"S7/block3": runs}}).splitlines()
    expected = ["S7/block3", "40.0", "(30.0-50.0)", "10.0", "(9.0-100.0)", "4.0", "6,000", "20", "%", "700", "MB"]
    assert lines[1].split() == expected
    assert "200 GFLOP/s" in lines[2]


def test_rates_are_work_over_time(monkeypatch):
    monkeypatch.setattr(bench, "_best_of_five", lambda action: 0.5)
    assert bench.matrix_product_rate(10) == 4_000
    assert bench.copy_bandwidth(100) == 1_600
