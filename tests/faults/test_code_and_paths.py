"""A file from a stranger runs no code and writes nothing outside its folder, whichever command reads it."""

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import zipfile

import faulty
import pytest
import torch
from test_hostile_input import few, result_or_sentence, resumed, saved  # noqa: F401 (fixtures)

from common import models, records
from common.lesson.notebooks import lessons
from common.models import registry
from common.recipe import ROOT
from common.system.errors import UserError

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
REFUSED = "is damaged or holds more than weights and numbers, so it was not loaded"


class Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def zipped(value, path):
    torch.save(value, path)


def old_fashioned(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def pickled(value, path):
    path.write_bytes(pickle.dumps(value))


def plant(path, trace, write=zipped):
    """Write a checkpoint with code in it, which would make the folder `trace`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write({"identity": "{}", "state": Malicious(trace)}, path)
    with contextlib.suppress(Exception):  # torch has made the folder when it finds that this is no checkpoint
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    trace.rmdir()  # the code does what it should where it is let
    faulty.INJECTED.append("code")


@posix
@pytest.mark.parametrize("write", [zipped, old_fashioned, pickled])
def test_a_script_runs_no_code_from_the_checkpoint_that_it_resumes(tmp_path, write):
    plant(tmp_path / "out" / "checkpoint.pt", tmp_path / "trace", write)
    run = faulty.Run(faulty.lesson, f"--out={tmp_path / 'out'}", "--resume")
    assert run.end() == 2
    assert REFUSED in run.said.splitlines()[-1] and "Traceback" not in run.said
    assert not (tmp_path / "trace").exists()


@posix
def test_a_study_runs_no_code_from_a_checkpoint(tmp_path, full):
    if not full:
        pytest.skip("the lessons that it starts are the script of the test above")
    lesson = tmp_path / "sessions" / "S7" / "block3.py"
    lesson.parent.mkdir(parents=True)
    shutil.copy(faulty.LESSON, lesson)
    plant(tmp_path / "runs" / "study" / "S7" / "block3" / "seed-1" / "checkpoint.pt", tmp_path / "trace")
    study = faulty.Run(faulty.study, tmp_path, "--limit=96", seeds=1, jobs=1)
    assert study.end() == 2
    assert REFUSED in study.said and "Traceback" not in study.said
    assert "--anew forgets" in study.said.splitlines()[-1]
    assert not (tmp_path / "trace").exists()


@posix
def test_a_notebook_that_reuses_a_study_runs_no_code_from_its_checkpoint(tmp_path, full):
    if not full:
        pytest.skip("the lesson in its kernel is the script of the test above")
    lesson = faulty.a_lesson_for_a_notebook(tmp_path)
    plant(tmp_path / "runs" / "study" / "S1" / "small" / "seed-1" / "checkpoint.pt", tmp_path / "trace")
    run = faulty.Run(faulty.notebooks, lesson.parent.parent, reuse=True)
    assert run.end() == 1
    assert REFUSED in run.said.splitlines()[-1] and "Traceback" not in run.said
    assert not (tmp_path / "trace").exists() and not lesson.with_suffix(".ipynb").exists()


def test_weights_with_code_in_them_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    plant(tmp_path / "sessions" / "S7" / "weights" / "block3.safetensors", tmp_path / "trace")
    with pytest.raises(UserError, match="do not fit the network"):
        models.load_trained("S7/block3")
    assert not (tmp_path / "trace").exists()


def test_nothing_else_in_the_course_unpickles():
    """Whatever could: one call of torch.load, with weights_only, in `Checkpoint.load`."""
    dangerous = r"\b(pickle|joblib|shelve|marshal|dill)\.\w|allow_pickle=True|torch\.(load|jit|package)\b"
    scripts = [
        ROOT / "course.py",
        *ROOT.glob("common/**/*.py"),
        *lessons().values(),
    ]
    lines = [line.strip() for path in scripts for line in path.read_text("utf-8").splitlines()]
    calls = [line for line in lines if re.search(dangerous, line) and "(" in line.split("torch.", 1)[-1]]
    assert calls == ['content = torch.load(file, map_location="cpu", weights_only=True)']


# --- Paths -----------------------------------------------------------------------------------------------------------

OUTSIDE = ["../evil", "../../evil", "/tmp/evil-of-the-course", "checkpoint/../../evil", "..\\evil", "C:\\evil"]


def everything(folder):
    return set(folder.rglob("*"))


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_archive_whose_parts_are_named_outside_writes_nothing(saved, few, tmp_path, name):  # noqa: F811
    """A checkpoint is a zip archive, and nothing unpacks it: its names lead nowhere."""
    _, content = saved
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    faulty.INJECTED.append(name)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    for renamed in (False, True):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for part, inside in parts.items():
                archive.writestr(part.replace(part.split("/")[0], name, 1) if renamed else part, inside)
            archive.writestr(name, b"written")
        with result_or_sentence():
            resumed(folder, few, buffer.getvalue())
        assert everything(tmp_path) <= {folder.parent, folder, folder / "checkpoint.pt", folder / ".lock"}
    assert not os.path.lexists("/tmp/evil-of-the-course")


@pytest.mark.parametrize("name", OUTSIDE)
def test_weights_that_name_files_write_none(tmp_path, monkeypatch, name):
    """safetensors holds names of tensors and free text; neither is a path to anyone."""
    from safetensors.torch import save

    monkeypatch.setattr(registry, "ROOT", tmp_path)
    path = tmp_path / "sessions" / "S7" / "weights" / "block3.safetensors"
    path.parent.mkdir(parents=True)
    faulty.INJECTED.append(name)
    path.write_bytes(save(models.build("S7/block3").state_dict(), {"file": name}))
    before = everything(tmp_path)
    models.load_trained("S7/block3")
    path.write_bytes(save({name: torch.zeros(1)}))
    with pytest.raises(UserError, match="do not fit the network"):
        models.load_trained("S7/block3")
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "step", ["../S7/block3", "S7/../block3", "S7/..", "S7/.", "/S7/block3", "S7/block3/x", "S7\\block3"]
)
def test_a_steps_name_cannot_lead_elsewhere(step):
    faulty.INJECTED.append(step)
    with pytest.raises(UserError, match="A step has a name such as S7/block3, not"):
        records.load(step)


def test_the_identity_in_a_checkpoint_is_compared_and_never_opened(saved, few, tmp_path):  # noqa: F811
    _, content = saved
    told = torch.load(io.BytesIO(content), weights_only=True)
    identity = json.loads(told["identity"])
    identity["recipe"]["step"] = "../../evil"
    buffer = io.BytesIO()
    torch.save({**told, "identity": json.dumps(identity)}, buffer)
    faulty.INJECTED.append("a step in a checkpoint")
    with pytest.raises(UserError, match="belongs to another run"):
        resumed(tmp_path, few, buffer.getvalue())
    assert {path.name for path in everything(tmp_path)} <= {"checkpoint.pt", ".lock"}
