"""The model of cost, by hand and by numbers that are known. Two real processes are measured by S11 step 2 itself."""

import pytest

from common.experiments import scaling
from common.experiments.scaling import Cost
from common.lesson import plots
from common.system.errors import UserError

KNOWN = Cost(per_step=0.004, per_image=0.0008, latency=0.0002, bandwidth=1e9)


def test_a_step_by_hand():
    """Three processes, 12 images each 0.5 s, 1 s a step; four messages of 0.25 s with a third of 300 bytes each."""
    cost = Cost(per_step=1.0, per_image=0.5, latency=0.25, bandwidth=100.0)
    assert cost.step(12, 300, 3) == pytest.approx(1 + 2 + 4 * (0.25 + 1))
    assert cost.step(12, 300, 1) == pytest.approx(1 + 6)  # no message
    assert cost.step(12, 300, 3, cores=2) == pytest.approx(1.5 * 3 + 5)  # three take turns on two cores
    assert cost.step(12, 300, 2, cores=4) == pytest.approx(1 + 3 + 2 * (0.25 + 1.5))


def test_the_fit_finds_the_numbers_that_a_record_was_made_from():
    record = {
        "one process": {str(images): KNOWN.compute(images) for images in scaling.BATCHES},
        "all-reduce": {"2": {str(size): KNOWN.all_reduce(size, 2) for size in scaling.SIZES}},
    }
    found = scaling.fit(record)
    for name in ("per_step", "per_image", "latency", "bandwidth"):
        assert getattr(found, name) == pytest.approx(getattr(KNOWN, name), rel=1e-6)


def test_of_several_rounds_the_median_counts_and_what_is_no_time_stays(monkeypatch):
    rounds = [{"cores": 2, "step": "S7/block3", "all-reduce": {"2": {"4": seconds}}} for seconds in (0.5, 0.1, 0.2)]
    monkeypatch.setattr(scaling, "_measure_once", lambda step, repeats: rounds.pop())
    found = scaling.measure(rounds=3)
    assert found == {"cores": 2, "step": "S7/block3", "all-reduce": {"2": {"4": 0.2}}, "rounds": 3}


def test_processes_that_fail_are_told_with_what_they_said():
    with pytest.raises(UserError, match=r"(?s)There is no network 'S7/none'.*did not get to the end"):
        scaling._torchrun(1, "S7/none", 1, (8,))


def test_a_schedule_shows_each_run_and_says_when_the_last_one_ends():
    plan = [(0, 0.0, 60.0), (1, 0.0, 120.0), (0, 60.0, 90.0)]
    (axis,) = plots.schedules({"a queue": plan}, "minutes", 60).axes
    bars = [(bar.get_x(), bar.get_width()) for bar in axis.patches]
    assert bars == [(0, 1), (0, 2), (1, 0.5)]
    assert axis.get_title() == "a queue: done after 2 minutes"
    assert [bar.get_facecolor() for bar in axis.patches].count(axis.patches[1].get_facecolor()) == 1
