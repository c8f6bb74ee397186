"""The search: spaces as they are written, halving over paired seeds, nothing tried twice, no test image."""

import re

import pytest

pytest.importorskip("optuna")
from test_study import course, log, one_by_one  # noqa: E402, F401 - a fixture, used by its name

from common import records  # noqa: E402
from common.experiments import search  # noqa: E402
from common.system.errors import UserError  # noqa: E402

BY_RATE = 'rate = float(options["override"].split("lr=")[1].split()[0])\n'  # the lower, the better


@pytest.fixture
def lesson(course, monkeypatch):  # noqa: F811
    """Writes a lesson whose accuracy falls with its learning rate; returns the course's folder."""

    def write(**changes):
        root = course(**changes)
        path = root / "sessions" / "S7" / "block3.py"
        text = path.read_text().replace("correct = 4_900 if validate", BY_RATE + "correct = 4_900 - int(1000 * rate)")
        path.write_text(text.replace("int(1000 * rate) else 9_900", "int(1000 * rate)"), encoding="utf-8")
        monkeypatch.setattr(search, "ROOT", root)
        return root

    return write


def test_a_space_as_it_is_written():
    found = search.space("lr=0.1..0.4 batch_size=32..64 network=A|B augmentation.rotation=0.5..1.0")
    assert (found["lr"].low, found["lr"].high, found["lr"].log) == (0.1, 0.4, True)
    assert (found["batch_size"].low, found["batch_size"].high) == (32, 64)
    assert found["network"].choices == ("A", "B")
    assert not found["augmentation.rotation"].log


@pytest.mark.parametrize("text", ["lr=0.1", "lr", "lr=..", "lr=a..b", "lr=0.4..0.1", "network=A|", " "])
def test_what_is_no_space_is_said(text):
    with pytest.raises(UserError, match="--search"):
        search.space(text)


def test_values_out_of_bounds_are_refused_before_anything_is_trained(lesson):
    root = lesson()
    for text in ("epoch=1..2", "batch_size=0..64", "network=S7/block3|S7/none"):
        with pytest.raises(UserError):
            one_by_one("--search", text)
    assert not (root / "log").exists()


def test_the_better_half_goes_on_by_the_same_seeds(lesson, capsys):
    lesson()
    one_by_one("--search", "lr=0.1..0.4", "--trials", "9", "--seeds", "4")
    said, record = capsys.readouterr().out, records.load("S7/block3")
    assert record["runs"] == []
    seeds = {tried["overrides"]: [run["seed"] for run in tried["runs"]] for tried in record["search"]}
    assert all(of == list(range(1, 1 + len(of))) for of in seeds.values())
    assert sum(len(of) for of in seeds.values()) < 4 * 9
    rate = {overrides: float(overrides.split("=")[1]) for overrides in seeds}
    best = min(rate, key=rate.get)
    assert len(seeds[best]) == 4
    table = said.rpartition("9 recipes tried")[2].splitlines()
    assert re.fullmatch(rf" +\d+\.\d+ %  4 seeds  {best}", table[1])


def test_a_recipe_that_diverges_is_given_up_and_the_search_goes_on(lesson, capsys):
    root = lesson()
    path = root / "sessions" / "S7" / "block3.py"
    broken = BY_RATE + 'if rate > 0.2:\n    sys.exit("The training loss is nan in epoch 1")\n'
    path.write_text(path.read_text().replace(BY_RATE, broken), encoding="utf-8")
    one_by_one("--search", "lr=0.1..0.4", "--trials", "6", "--seeds", "2")
    said = capsys.readouterr().out
    assert 1 <= said.count("diverged") < 6
    assert "\n6 recipes tried" in said
    one_by_one("--search", "lr=0.1..0.4", "--trials", "6", "--seeds", "2")
    assert "6 of 6 recipes tried already" in capsys.readouterr().out


@pytest.mark.parametrize("more", [["--trials", "0"], ["--anew"], ["--network", "S8/frontier_1782"]])
def test_what_a_search_cannot_take_is_said(lesson, more):
    lesson()
    with pytest.raises(UserError, match="--search takes"):
        one_by_one("--search", "lr=0.1..0.4", *more)


def test_the_same_command_goes_on_with_the_recipe_that_was_broken_off(lesson, capsys):
    root = lesson(failing=2)
    arguments = "--search", "lr=0.1..0.4", "--trials", "5", "--seeds", "2"
    with pytest.raises(UserError, match="no luck"):
        one_by_one(*arguments)
    before = records.load("S7/block3")["search"]
    lesson()
    one_by_one(*arguments)
    assert "0 of 5 recipes tried already" in capsys.readouterr().out
    after = records.load("S7/block3")["search"]
    assert after[: len(before) - 1] == before[:-1]
    assert len(after) == 5
    assert log(root).count("1") == 5, "seed 1 of the broken recipe was not trained again"
    one_by_one(*arguments)
    assert "5 of 5 recipes tried already" in capsys.readouterr().out
    assert log(root).count("1") == 5
