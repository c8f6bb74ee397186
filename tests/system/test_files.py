"""Files that are written whole or not at all."""

import os

import pytest

from common.system.errors import UserError
from common.system.files import write_atomically


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "record.json", "old")

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match="No space left on device"):
        write_atomically(path, "new")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("record.json", "old")]
