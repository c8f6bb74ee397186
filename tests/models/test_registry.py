"""The networks by name, and the weights that the course trained for them."""

import shutil

import pytest
import torch

from common import models, records
from common.models import registry
from common.system.errors import UserError
from common.system.files import write_atomically


def test_weights_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    weights = tmp_path / "sessions" / "S7" / "weights" / "block3.safetensors"
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    with pytest.raises(UserError, match="no trained weights"):
        models.load_trained("S7/block3")
    write_atomically(weights, records.weights(torch.nn.Linear(2, 2)))
    with pytest.raises(UserError, match="do not fit"):
        models.load_trained("S7/block3")
    shutil.copyfile(__file__, weights)
    with pytest.raises(UserError, match="do not fit"):
        models.load_trained("S7/block3")


def test_an_unknown_step_is_named():
    with pytest.raises(UserError, match="S9/nothing"):
        models.build("S9/nothing")
