"""Which runs train in CHWN layout, and what that means for the other ways to be faster."""

import shutil

import pytest
import torch

from common import models
from common.cpu_kernels import chwn
from common.recipe import ROOT, Options, Recipe
from common.training import acceleration

pytest.importorskip("numba")

CPU = torch.device("cpu")


def options(step, precision="auto", compile=False):
    out = ROOT / "runs" / "nothing is written here"
    return Options("builtin", None, "cpu", "held-out", True, False, out, precision, compile, network=step)


def chosen(step, precision="float32", steps=938, compile=False):
    recipe = Recipe(step, epochs=14, batch_size=64, lr=0.02)
    return acceleration.choose(models.build(step), recipe, options(step, precision, compile), steps)


def test_long_runs_in_float32_use_chwn():
    assert chosen("S7/block3").layers == "chwn"
    assert chosen("S7/block3", steps=8).layers == "library"
    assert chosen("S7/block3", "bfloat16").layers == "library"
    assert chosen("S8/step7_two_budgets").layers == "chwn"
    assert chosen("S5/step1_first_network").layers == "library"
    assert not acceleration.supports_chwn("no such network")


def test_where_the_loops_cannot_run_pytorchs_layers_train(monkeypatch):
    monkeypatch.setattr(chwn, "why_unavailable", lambda: "numba is missing")
    assert chosen("S7/block3").layers == "library"


def test_auto_is_float32_on_matrix_units_too_where_chwn_is_supported(monkeypatch):
    monkeypatch.setattr(acceleration, "_has_matrix_units", lambda: True)
    assert acceleration.precision(options("S7/block3"), CPU) == "float32"
    assert acceleration.precision(options("S5/step1_first_network"), CPU) == "bfloat16"
    assert acceleration.precision(options("S7/block3", "bfloat16"), CPU) == "bfloat16"


def test_what_numba_has_compiled_is_not_compiled_by_torch(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert not chosen("S7/block3", compile=True).compiled
    assert chosen("S5/step1_first_network", compile=True).compiled
