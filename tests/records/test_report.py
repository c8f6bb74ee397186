"""What a page prints of its run and of the recorded ones: targets, bars, verdicts."""

import json
import re

from made_up import record, run

from common import records
from common.recipe import Target
from common.records import comparison, report, store


def test_one_seed_has_no_spread_to_report(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "ROOT", tmp_path)
    path = records.path_of("S7/block3")
    for runs, lines in (([run(1)], 2), ([run(1), run(2, correct=(1, 1, 1, 9_940))], 4)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record(*runs)), encoding="utf-8")
        said = report.recorded("S7/block3", (Target("parameters", "<=", 7_904),))
        assert len(said.splitlines()) == lines
        assert "inf" not in said
    assert "mean        99.45 %   standard deviation 0.07 points; 95 % interval of the mean 98.81 to 100.09" in said


def test_a_bar_is_met_or_missed_without_rounding(monkeypatch):
    runs = run(1, correct=(1, 9_945, 9_950, 9_958)), run(2, correct=(1, 9_944, 9_950, 9_957))
    monkeypatch.setattr(store, "load_if_any", lambda _: record(*runs))
    said = report.bars("S7/block3", {"seeds": 2, "mean": 99.58, "minimum": 99.57, "last three": 99.45}).splitlines()
    assert [line.split("  ")[-1] for line in said] == ["met", "missed by 0.005", "met", "missed by 0.01"]
    monkeypatch.setattr(comparison, "summary", lambda _: {"mean": 99.5795})
    assert report.bars("S7/block3", {"mean": 99.58}).endswith("99.58 %  missed by 0.0005")
    monkeypatch.setattr(store, "load_if_any", lambda _: record())
    assert report.bars("S7/block3", {"mean": 1.0}).endswith(report.NOTHING_YET)


def test_a_verdict_compares_only_what_the_target_is_about():
    def on(name, train=60_000):
        return record(run(1)) | {"data": {"name": name, "train": train}}

    targets = (
        Target("parameters", "<", 8_000),
        Target("test accuracy", ">=", 99.60),
        Target("epochs", "<", len(run(1)["history"])),
    )
    on_builtin = report.verdict(targets, on("builtin")).splitlines()
    assert on_builtin[1].endswith("7,904  met")
    assert on_builtin[2].endswith("99.50 %  not compared")
    on_a_part = report.verdict(targets, on("mnist", train=55_000)).splitlines()
    assert on_a_part[2].endswith("99.50 %  not compared")
    on_mnist = report.verdict(targets, on("mnist")).splitlines()
    assert on_mnist[2].endswith("99.50 %  missed by 0.10 points")
    assert re.search(r"missed: (\d+) is not less than \1$", on_mnist[3])
