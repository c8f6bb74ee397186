"""What S9's pages show of speed: the ladder and the parts, as they are measured, kept and told."""

import json
import re

import pytest

from common.experiments import ablation, bench, parts


def result(*columns):
    """A ladder with these seconds for its first rungs; the others are as fast as the last of them."""
    columns = [*columns, *[columns[-1]] * (len(ablation.RUNGS) - len(columns))]
    rungs = [
        {"name": rung.name, "runs": [{"seconds": value} for value in seconds]}
        for rung, seconds in zip(ablation.RUNGS, columns, strict=True)
    ]
    return {"rungs": rungs, "threads": 2, "machine": "a machine", "torch": "2", "device": "cpu", "python": "3.11"}


def test_a_rung_s_figures_by_hand():
    """Rung 2 is twice and three times as fast as the first in the two turns, rung 3 twice as fast as rung 2."""
    found = ablation.figures(result([60.0, 60.0], [30.0, 20.0], [15.0, 10.0]), "no DataLoader")
    assert found == {"seconds": 12.5, "below": 2.0, "gain": 5.0}


def test_a_quick_ladder_goes_through_every_rung_once_without_a_compiler(monkeypatch):
    timed = []
    monkeypatch.setattr("common.experiments.variants.time_epoch", lambda _, variant, batches: timed.append(variant))
    ablation.compare(quick=True)
    assert len(timed) == len(ablation.RUNGS)
    assert not any(variant.compiled for variant in timed)


def test_the_rungs_take_turns(monkeypatch):
    order = []
    monkeypatch.setattr(ablation, "measure", lambda _, variant, batches: order.append(variant) or {"seconds": 1.0})
    found = ablation.compare(turns=2)
    assert order == [rung.variant for rung in ablation.RUNGS] * 2
    assert [len(runs) for runs in ablation.runs_of(found)] == [2] * len(ablation.RUNGS)


def test_the_recorded_ladder_is_that_of_today_s_rungs():
    recorded = bench.load(ablation.RECORDED)
    assert [rung["name"] for rung in recorded["rungs"]] == [rung.name for rung in ablation.RUNGS]
    (turns,) = {len(runs) for runs in ablation.runs_of(recorded)}
    assert turns >= 2
    assert ablation.table(recorded).splitlines()[-1].endswith(f"torch {recorded['torch']}")


def test_what_is_compared_takes_turns_after_a_call_that_does_not_count(monkeypatch):
    called, clock = [], iter(range(100))
    monkeypatch.setattr(parts.time, "perf_counter", lambda: next(clock))
    found = parts.medians({"a": lambda: called.append("a"), "b": lambda: called.append("b") or next(clock)}, calls=3)
    assert called == ["a", "b"] * 4
    assert found == {"a": 1, "b": 2}  # the clock ticks once more in each call of b


def test_the_recorded_parts_are_what_the_pages_ask_for():
    recorded = bench.load(parts.RECORDED)
    assert list(recorded["layouts"]) == list(parts.LAYERS)
    assert all(list(found) == ["pixels last", "channels last"] for found in recorded["layouts"].values())
    assert list(recorded["block"]) == ["pixels last", "channels last", "batch last"]
    assert [int(size) for size in recorded["steps"]] == list(parts.BATCH_SIZES)
    assert [int(images) for images in recorded["growth"]] == [64 * 156 * sixths for sixths in parts.SIXTHS]
    assert len(recorded["megabytes"]) == 4
    assert list(recorded["start"]) == list(parts.PHASES)


def test_the_phases_of_a_start_follow_each_other():
    found = parts.start(quick=True)
    assert list(found) == list(parts.PHASES)
    assert all(seconds > 0 for seconds in found.values())


def test_memory_is_told_where_the_system_tells_it():
    assert parts.told([891.6, 1_203.2]) == "892, 1,203 MB"
    assert parts.told([None, None]) == "unknown, unknown MB"


@pytest.mark.parametrize(("option", "module"), [("--ladder", ablation), ("--parts", parts)])
def test_the_command_keeps_what_it_measured(monkeypatch, tmp_path, option, module):
    monkeypatch.setattr(module, "compare", lambda: {"measured": 1})
    monkeypatch.setattr(module, "table", lambda found: "the table")
    monkeypatch.setattr(module, "RECORDED", tmp_path / "record.json")
    bench.main([option, "--out", str(tmp_path / "mine.json")])
    assert json.loads((tmp_path / "mine.json").read_text()) == {"measured": 1} and not module.RECORDED.exists()
    bench.main([option, "--record"])
    assert bench.load(module.RECORDED) == {"measured": 1}


def test_the_machine_of_a_measurement_is_a_line_that_the_comparison_of_notebooks_knows():
    regex = re.search(r"\[machine\]\nregex: (.+)", (bench.ROOT / "nbval.ini").read_text(encoding="ascii"))[1]
    assert re.fullmatch(regex.removeprefix("(?m)"), bench.machine_line(result([1.0])))
