"""`course.py read`: answers, read.csv, figures; what cannot be read is said in a sentence and the rest is read."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from drawings import DIGITS
from PIL import Image

from common import models
from common.data.strokes import draw
from common.experiments import read
from common.models import registry
from common.recipe import ROOT
from common.system.errors import UserError

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither these signals nor these files")


def paper(*digits):
    """Dark digits on white, side by side, 112 pixels each."""
    row = torch.cat([255 - draw(DIGITS[digit]) for digit in digits], dim=1)
    return Image.fromarray(row.numpy()).resize((112 * len(digits), 112), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Two folders with a file of the same name, a text that claims to be an image, a blank sheet, and a hidden file."""
    photos = tmp_path / "photos"
    for name, digits in (("a/one.png", (3, 1, 4)), ("b/one.png", (7,)), ("b/TWO.JPG", (2, 8))):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        paper(*digits).save(photos / name)
    (photos / "a" / "no.png").write_text("no image")
    (photos / "notes.txt").write_text("no image either")
    (photos / ".hidden.png").write_bytes(b"")
    Image.new("L", (100, 100), 255).save(photos / "blank.png")
    return photos


def rows(out):
    with (out / "read.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_an_image_gives_answers_ten_probabilities_and_its_steps(tmp_path, capsys):
    paper(5, 0).save(tmp_path / "my digits.png")
    read.main([str(tmp_path / "my digits.png"), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    answers = [line.split() for line in said.splitlines() if line.startswith("  ") and "steps" not in line]
    assert [(line[0], line[1]) for line in answers] == [("1", "5"), ("2", "0")]
    assert all(said.count(f"{digit} ") >= 2 for digit in range(10))
    table = rows(tmp_path / "out")
    assert table[0] == ["file", "position", "digit", "probability"]
    assert [row[1:3] for row in table[1:]] == [["1", "5"], ["2", "0"]]
    assert all(0.9 < float(row[3]) <= 1 for row in table[1:])
    with Image.open(tmp_path / "out" / "figures" / "1-my_digits.png") as figure:
        assert figure.width > 800
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figures", "read.csv"]


def test_a_folder_is_read_with_all_below_it_and_what_cannot_be_read_is_named(tmp_path, folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = folder / "out"  # in the folder that is read: a second call must not read its own figures
    for _ in range(2):
        with pytest.raises(read.UnreadError, match="2 of 5 images") as error:
            read.main(["photos", "--out", str(out)])
        assert error.value.exit_code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert "photos/a/no.png" in said[0] and "photos/blank.png" in said[1]
    expected = [["photos/a/one.png", "1", "3"], ["photos/a/one.png", "2", "1"], ["photos/a/one.png", "3", "4"]]
    expected += [["photos/b/TWO.JPG", "1", "2"], ["photos/b/TWO.JPG", "2", "8"], ["photos/b/one.png", "1", "7"]]
    assert [row[:3] for row in rows(out)[1:]] == expected
    assert len(list((out / "figures").iterdir())) == 3


def test_two_folders_and_an_image_named_twice_give_each_image_once(folder, tmp_path):
    found = read.find_images([str(folder / "a"), str(folder), str(folder / "b" / "one.png")], tmp_path / "out")
    names = [name for name, _ in found]
    assert len(names) == len(set(names)) == 5


def test_an_unsure_answer_says_so(tmp_path, capsys, monkeypatch):
    even = torch.full((1, 10), 0.05)
    even[0, 4], even[0, 9] = 0.35, 0.25
    monkeypatch.setattr(read.reading, "settle", lambda network, page: (list(page.digits), even))
    paper(4).save(tmp_path / "4.png")
    read.main([str(tmp_path / "4.png"), "--out", str(tmp_path)])
    assert "35 %" in (line := capsys.readouterr().out.splitlines()[2]) and "not sure: it may be 9" in line


@posix
def test_a_name_with_strange_signs_is_shown_and_stands_in_the_table(tmp_path, capsys):
    strange = os.fsdecode(b'ab"c,\n\xff$x$.png')
    paper(6).save(tmp_path / "plain.png")
    (tmp_path / "plain.png").rename(tmp_path / strange)
    read.main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert "\\n" in capsys.readouterr().out
    (row,) = rows(tmp_path / "out")[1:]
    assert row[0].endswith('ab"c,\\n\\udcff$x$.png') and row[2] == "6"


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["{here}/none.png"], "There is no file .*none.png"),
        (["{here}"], "There is no image in "),
        (["{here}/text.txt"], "is no image"),
        (["{here}/text.txt", "--step", "S7/none"], "There is no network 'S7/none'"),
        (["{here}/text.txt", "--step", "S8/frontier_shared"], "has no trained weights"),
        (["{here}/text.txt", "--out", "{here}/text.txt"], "^Cannot write .*text.txt: .*choose another folder"),
        (["a\0b.png"], "cannot be read|no file"),
    ],
)
def test_mistakes_are_told_in_one_sentence(tmp_path, arguments, sentence):
    (tmp_path / "text.txt").write_text("text")
    arguments = [argument.format(here=tmp_path) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=sentence) as error:
        read.main(arguments)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    assert not (tmp_path / "out" / "read.csv").exists()


def test_missing_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"has no trained weights: .*block3\.safetensors is missing\."):
        read.main(["x.png", "--out", str(tmp_path / "out")])


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    paper(1).save(tmp_path / "1.png")
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="^Cannot write .*out"):
        read.main([str(tmp_path / "1.png"), "--out", str(tmp_path / "out")])


@posix
def test_ctrl_c_leaves_one_line_and_no_table(tmp_path):
    sheet = paper(*range(10))
    for name in range(40):
        sheet.save(tmp_path / f"{name:02}.png")
    command = [sys.executable, str(ROOT / "common" / "experiments" / "read.py"), str(tmp_path)]
    with subprocess.Popen(
        [*command, f"--out={tmp_path / 'out'}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("network")
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said == "Interrupted.\n"
    assert not (tmp_path / "out" / "read.csv").exists()
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_every_step_with_weights_can_read(tmp_path):
    images = torch.stack([draw(DIGITS[digit]) for digit in range(10)])
    for path in sorted(ROOT.glob("sessions/S*/weights/*.safetensors")):
        step = f"{path.parent.parent.name}/{path.stem}"
        correct = read.reading.probabilities(models.load_trained(step), images).argmax(dim=1) == torch.arange(10)
        assert correct.sum() >= 9, step
