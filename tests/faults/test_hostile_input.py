"""Files, options and variables made to break something: each gets a result or one sentence, and little memory.

hypothesis makes up 100 cases of each kind in the short form, 2,000 in the full one. tests/test_loops.py tries
checkpoints with code in them.
"""

import contextlib
import copy
import dataclasses
import gzip
import io
import json
import os
import struct
import sys
import zipfile

import faulty
import psutil
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from common import data, models, records
from common.data.digits import _parse_idx
from common.data.loaders import InMemoryLoader
from common.experiments import quotes, study
from common.models import registry
from common.recipe import ROOT, Options, Recipe, command_line, overrides_between, with_overrides
from common.records import comparison, report, schema, store
from common.system.errors import UserError
from common.training import loops
from common.training.checkpoints import Checkpoint

RECIPE = Recipe("S7/block3", epochs=2, batch_size=32, lr=0.02, momentum=0.9)
forked = pytest.mark.skipif(os.name == "nt", reason="Windows cannot measure it so")


@contextlib.contextmanager
def result_or_sentence():
    faulty.INJECTED.append("hostile input")
    try:
        yield
    except UserError as error:
        assert "\n" not in str(error)
        assert str(error).endswith(".")


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The content with pieces cut out, put in, or changed."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 16) | st.integers(0, len(content)))
        content[start : start + length] = draw(st.binary(max_size=16) | st.binary(min_size=length, max_size=length))
    return bytes(content)


# --- idx files -------------------------------------------------------------------------------------------------------

sizes = st.sampled_from([0, 1, 2, 28, 255, 2**16, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
headers = st.builds(
    lambda magic, shape: magic + struct.pack(f">{len(shape)}I", *shape),
    st.sampled_from([b"\0\0\x08\x03", b"\0\0\x08\x01", b"\0\0\x0d\x03", b"\0\x01\x08\x03"]) | st.binary(max_size=4),
    st.lists(sizes, max_size=4),
)


@given(st.builds(bytes.__add__, headers, st.binary(max_size=64)) | st.binary(max_size=64), st.sampled_from([1, 3]))
@example(struct.pack(">4B3I", 0, 0, 8, 3, 0, 2**32 - 1, 2**32 - 1), 3)  # no values, and a shape to match
def test_idx_files(content, dimensions):
    with result_or_sentence():
        array = _parse_idx(content, dimensions)
        assert array.size == len(content) - 4 - 4 * dimensions


@given(st.data())
def test_files_in_a_folder_of_ones_own(tmp_path_factory, monkeypatch_module, choice):
    name = "t10k-labels-idx1-ubyte"
    packed = gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 4) + bytes(4))
    folder = tmp_path_factory.getbasetemp() / "own"
    folder.mkdir(exist_ok=True)
    faulty.INJECTED.append("a damaged file")
    (folder / f"{name}.gz").write_bytes(choice.draw(damaged(packed)))
    monkeypatch_module.setenv("MNIST_DIR", str(folder))
    with pytest.raises(UserError) as error:
        data.load("auto")
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


# --- Checkpoints -----------------------------------------------------------------------------------------------------


def options(out, resume) -> Options:
    return Options("builtin", None, "cpu", "held-out", True, resume, out, precision="float32")


def train(folder, digits, resume=True):
    batches = InMemoryLoader(digits.train_images, digits.train_labels, 32, shuffle=True, seed=1)
    test = {"held-out": InMemoryLoader(digits.test_images, digits.test_labels, 20)}
    asked = options(folder, resume)
    torch.manual_seed(1)
    checkpoint = Checkpoint(asked, RECIPE, digits, torch.device("cpu"))
    return loops.fit(models.build("S7/block3"), batches, test, RECIPE, asked, checkpoint)


@pytest.fixture(scope="module")
def few():
    digits = data.load("builtin", limit=64)
    return data.Digits(
        digits.train_images,
        digits.train_labels,
        digits.test_images[:20],
        digits.test_labels[:20],
        "builtin",
        digits.sha256,
    )


@pytest.fixture(scope="module")
def saved(few, tmp_path_factory):
    """A folder with the checkpoint of a finished run, and what is in it."""
    folder = tmp_path_factory.mktemp("saved")
    train(folder, few, resume=False)
    return folder, (folder / "checkpoint.pt").read_bytes()


def resumed(folder, few, content: bytes) -> None:
    (folder / "checkpoint.pt").write_bytes(content)
    assert len(train(folder, few)) == 2


@given(st.data())
def test_damaged_checkpoints(saved, few, choice):
    folder, content = saved
    with result_or_sentence():
        resumed(folder, few, choice.draw(damaged(content) | st.binary(max_size=200)))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
tensors = st.sampled_from(
    [torch.zeros(0), torch.zeros(3), torch.zeros(1).expand(10**9), torch.zeros(2, dtype=torch.int8)]
)


def a_part(choice, value, path=()):
    """Some part of a nested value: the container that holds it, and its key."""
    keys = list(value.keys() if isinstance(value, dict) else range(len(value)))
    key = choice.draw(st.sampled_from(keys))
    inner = value[key]
    deeper = isinstance(inner, dict | list) and len(inner) and choice.draw(st.booleans() | st.just(True))
    return a_part(choice, inner) if deeper else (value, key)


@given(st.data())
def test_checkpoints_that_hold_something_else(saved, few, choice):
    """Whole zip files with right checksums and of the right run, in which one value is another one, or is missing."""
    folder, content = saved
    told = torch.load(io.BytesIO(content), weights_only=True)
    container, key = a_part(choice, told["state"])
    if choice.draw(st.booleans()):
        container[key] = choice.draw(plain | tensors)
    else:
        container.pop(key)
    buffer = io.BytesIO()
    torch.save(told, buffer)
    with result_or_sentence():
        resumed(folder, few, buffer.getvalue())


GIANT = torch.zeros(1).expand(10**8)  # a few bytes in a file; as a list, gigabytes


def every_part(value, path=()):
    """The path to each part of a nested value, through dicts and lists."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*path, key)
        if isinstance(value[key], dict | list):
            yield from every_part(value[key], (*path, key))


def resume_with_giants(folder, few, content: bytes) -> None:
    """Resume from the checkpoint with each of its parts in turn replaced by a giant."""
    import resource

    limit = psutil.Process().memory_info().vms + 2 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))  # the machine shall survive the test
    for path in ((), *every_part(torch.load(io.BytesIO(content), weights_only=True)["state"])):
        told = torch.load(io.BytesIO(content), weights_only=True)
        *outer, last = "state", *path
        container = told
        for key in outer:
            container = container[key]
        container[last] = GIANT
        buffer = io.BytesIO()
        torch.save(told, buffer)
        with result_or_sentence():
            resumed(folder, few, buffer.getvalue())


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process can be held to its memory")
def test_a_giant_in_a_checkpoint_is_not_unpacked(saved, few):
    folder, content = saved
    faulty.INJECTED.extend(every_part(torch.load(io.BytesIO(content), weights_only=True)["state"]))
    run = faulty.Run(faulty.grown, resume_with_giants, folder, few, content)
    assert run.end() == 0
    megabytes, said = run.said.splitlines()[-2:]
    assert said == "None"
    assert float(megabytes) < 200


class Calls:
    """Pickled, a call of something that torch's reader of weights lets pass."""

    def __init__(self, called, *arguments):
        self.how = called, arguments

    def __reduce__(self):
        return self.how


def bomb(kind: str, path) -> None:
    """A small checkpoint that wants 400 MB of memory."""
    if kind == "a call":
        torch.save({"identity": "{}", "state": Calls(bytearray, 4 * 10**8)}, path)
        return
    torch.save({"identity": "{}", "state": {"a": torch.zeros(3)}}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    for name in parts:
        if name.endswith("data.pkl"):  # it states a tensor of 10**8 numbers
            assert b"K\x03tq" in parts[name]
            parts[name] = parts[name].replace(b"K\x03tq", b"J" + struct.pack("<i", 10**8) + b"tq")
        if name.endswith("data/0") and kind == "deflated":
            parts[name] = bytes(4 * 10**8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if kind == "deflated" else zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def load_checkpoint(folder):
    Checkpoint(options(folder, True), RECIPE, data.load("builtin", limit=64), torch.device("cpu"))


@forked
@pytest.mark.parametrize("kind", ["a call", "deflated", "a size that lies"])
def test_a_small_checkpoint_that_wants_much_memory_does_not_get_it(tmp_path, kind):
    bomb(kind, tmp_path / "checkpoint.pt")
    faulty.INJECTED.append(kind)
    assert (tmp_path / "checkpoint.pt").stat().st_size < 3e6
    run = faulty.Run(faulty.grown, load_checkpoint, tmp_path)
    assert run.end() == 0
    megabytes, said = run.said.splitlines()
    assert float(megabytes) < 200
    assert "damaged or holds more than weights" in said


# --- Weights ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Where the course looks for its weights, in a root of the tests' own."""
    path = tmp_path_factory.mktemp("root") / "sessions" / "S7" / "weights" / "block3.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(records.weights(models.build("S7/block3")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "ROOT", path.parents[3])
        yield path, path.read_bytes()


@given(st.data())
def test_damaged_weights(weights, choice):
    path, content = weights
    made_up = choice.draw(damaged(content) | damaged(content[:3000]) | st.binary(max_size=100))
    path.unlink()  # the last one may still be mapped into memory
    path.write_bytes(made_up)
    with result_or_sentence():
        models.load_trained("S7/block3")


def test_weights_that_are_a_folder(weights):
    path, content = weights
    path.unlink()
    path.mkdir()
    try:
        with result_or_sentence():
            models.load_trained("S7/block3")
            raise AssertionError("a folder was read")
    finally:
        path.rmdir()
        path.write_bytes(content)


# --- Records ---------------------------------------------------------------------------------------------------------

QUANTITIES = ["mean", "deviation", "gap", "wrong", "training", "best", "best_epoch_bias", "lowest5", "low", "minutes"]
QUANTITIES += ["luck"]
queries = st.builds(
    "{}{} {}{}".format,
    st.sampled_from(["S7/block3", "S9/block3", "../x"]),
    st.sampled_from(["", " source"]),
    st.sampled_from(QUANTITIES),
    st.sampled_from(["", " at 1", " at 0", " at 9", " at " + "9" * 5000]),
)
json_values = plain | st.sampled_from([10**400, -1, 0, float("nan"), float("inf"), "../../../evil", [[]], {}])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A course of one record, with a run of each protocol and a search."""
    folder = tmp_path_factory.mktemp("records")
    row = {"epoch": 1, "train_correct": 1, "train_total": 2, "test_correct": 9, "test_total": 10, "lr": 0.1}
    row |= {"train_loss": 1.0, "test_loss": 1.0, "seconds": 1.0}
    runs = [
        {"seed": seed, "protocol": protocol, "seconds": 1.0, "history": [row, row | {"epoch": 2}]}
        for protocol in ("held-out", "source")
        for seed in (1, 2)
    ]
    scored = {"correct": [5, 6], "total": 10, "loss": 0.5, "precision": "float32"}
    trial = {"overrides": "", "recipe": {}, "runs": [{"seed": seed, **scored} for seed in (1, 2)]}
    record = {"step": "S7/block3", "parameters": 7904, "fingerprint": "a", "data": {"name": "mnist"}}
    record |= {"runs": runs, "search": [trial]}
    record["weights"] = {"file": "weights/block3.safetensors", "seed": 1, "test_correct": 9, "test_total": 10}
    with pytest.MonkeyPatch.context() as patch:
        for module in (store, study):
            patch.setattr(module, "ROOT", folder)
        records.write(records.path_of("S7/block3"), record)
        yield folder, record


def read_everywhere(query: str) -> None:
    """All that reads a record: whoever loads it may use it without another mistake."""
    record = records.load("S7/block3")
    report.recorded("S7/block3", ())
    quotes.quote(query)
    if len({run["seed"] for run in records.runs(record)}) > 1:
        comparison.text("S7/block3", "S7/block3")
    comparison.accuracies("S7/block3:")


@given(st.data())
@example(None)
def test_records_that_hold_something_else(root, choice):
    _, record = root
    path = records.path_of("S7/block3")
    if choice is None:
        path.write_text("[" * 100_000, encoding="utf-8")
    else:
        told = json.loads(json.dumps(record))
        for _ in range(choice.draw(st.integers(0, 2))):
            container, key = a_part(choice, told)
            container[key] = copy.deepcopy(choice.draw(json_values))  # the next change may be in it
        path.write_text(json.dumps(told), encoding="utf-8")
    with result_or_sentence():
        read_everywhere(choice.draw(queries) if choice else "S7/block3 mean")


@given(st.data())
def test_damaged_records(root, choice):
    _, record = root
    path = records.path_of("S7/block3")
    path.write_bytes(choice.draw(damaged(json.dumps(record).encode()) | st.binary(max_size=50)))
    with result_or_sentence():
        read_everywhere("S7/block3 mean")


@given(st.text(max_size=30) | queries | st.from_regex(r"(bench )?S\d/\w+( source)? \w+( at \d+)?"))
def test_queries(root, query):
    _, record = root
    records.write(records.path_of("S7/block3"), record)
    with result_or_sentence():
        quotes.quote(query)


def test_a_record_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "record.json").open("wb") as file:
        file.truncate(schema.LARGEST + 1)
    faulty.INJECTED.append("a large file")
    with pytest.raises(UserError, match="is damaged .it has over 16,777,216 bytes"):
        records.load(tmp_path / "record.json")


def test_a_path_in_a_record_writes_nothing_elsewhere(root):
    """A run's record and the step's, both with paths that lead out, go through what the study does with them."""
    folder, record = root
    faulty.INJECTED.append("a path")
    evil = {"step": "../../evil", "weights": {**record["weights"], "file": "../../../evil", "seed": 9}}
    records.write(records.path_of("S7/block3"), {**record, **evil})
    lesson = folder / "sessions" / "S7" / "block3.py"
    lesson.touch()
    studied = study.Study("S7/block3")
    (studied.folder / "seed-1").mkdir(parents=True)
    (studied.folder / "seed-1" / "weights.safetensors").write_bytes(b"weights")
    before = {path for path in folder.parent.rglob("*") if folder not in path.parents}
    studied._add({**record, **evil, "runs": record["runs"][:1]})
    written = {path for path in folder.rglob("*") if path.is_file()}
    assert {path.relative_to(folder).as_posix() for path in written if path.name != "block3.lock"} == {
        "sessions/S7/block3.py",
        "sessions/S7/records/block3.json",
        "sessions/S7/weights/block3.safetensors",
        "runs/study/S7/block3/seed-1/weights.safetensors",
    }
    assert {path for path in folder.parent.rglob("*") if folder not in path.parents} == before
    assert records.load("S7/block3")["weights"]["file"] == "weights/block3.safetensors"


# --- Command lines and variables -------------------------------------------------------------------------------------

OPTIONS = "epochs seed batch-size device data limit protocol precision change validate compile quick resume out"
OPTIONS = OPTIONS.split()
FIELDS = ["lr", "epochs", "batch_size", "seed", "momentum", "lr_step", "lr_gamma", "nesterov", "one_cycle", "ema_decay"]
AUGMENTED = ["scale", "interpolation", "rotation", "translation", "shear", "crop_probability", "crop_size"]
FIELDS += [f"augmentation.{name}" for name in AUGMENTED]
words = st.text(max_size=12) | st.sampled_from(
    ["1", "0", "-1", "9" * 5000, "1e400", "nan", "１２", "1_0", "true", "", " ", "\n", "\x1b[2J", "{[]: 1}", "(" * 300]
    + ["held-out", "both", "mnist", "--", "-", "@x", "None", "(1,1)", "(0,0)", "10**9", "5000", "bfloat16", "\ud800"]
)
a_change = st.builds("{}={}".format, st.sampled_from(FIELDS) | words, words)
several = st.lists(a_change | words, max_size=3).map(" ".join)
arguments = st.lists(
    st.builds("--{}={}".format, st.sampled_from(OPTIONS), words | several)
    | st.sampled_from([f"--{name}" for name in OPTIONS])
    | words,
    max_size=5,
)
variables = st.dictionaries(
    st.sampled_from([f"COURSE_{name.upper().replace('-', '_')}" for name in OPTIONS]), words | several, max_size=3
)


@given(arguments, variables)
def test_command_lines_and_variables(given_arguments, given_variables):
    with result_or_sentence():
        recipe, asked = command_line(RECIPE, "full", given_arguments, given_variables)
        assert recipe.epochs >= 1 and recipe.batch_size >= 1
        assert asked.out.is_absolute()


@given(several)
def test_changes(text):
    with result_or_sentence():
        recipe = with_overrides(RECIPE, text)
        again = with_overrides(RECIPE, overrides_between(RECIPE, recipe))
        assert dataclasses.replace(again, seed=recipe.seed) == recipe  # a difference leaves the seed out


numbers = st.sampled_from(["0", "1", "0.5", "1e-9", "28", "90", "1e30", "True", "None", "(0.01,100)", "'bilinear'"])


@given(st.lists(st.builds("{}={}".format, st.sampled_from(FIELDS), numbers), max_size=4).map(" ".join))
def test_what_is_accepted_can_be_trained(few, text):
    with result_or_sentence():
        recipe = with_overrides(RECIPE, text)
        train_batches = InMemoryLoader(
            few.train_images, few.train_labels, min(recipe.batch_size, 64), augmentation=recipe.augmentation, seed=1
        )
        recipe = dataclasses.replace(recipe, epochs=1)
        test = {"held-out": InMemoryLoader(few.test_images, few.test_labels, 20)}
        torch.manual_seed(1)
        history = loops.fit(models.build("S7/block3"), train_batches, test, recipe, options(ROOT, False))
        assert len(history) == 1
