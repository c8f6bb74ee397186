"""Which runs train in CHWN layout, and what that means for the other ways to be faster."""

import importlib.util

import pytest
import torch

from common.recipe import ROOT, Options, Recipe
from common.training import acceleration

pytest.importorskip("numba")

CPU = torch.device("cpu")


def options(step, precision="auto", compile=False):
    out = ROOT / "runs" / "nothing is written here"
    return Options("builtin", None, "cpu", "held-out", True, False, out, precision, compile, network=step)


def test_long_runs_in_float32_on_a_cpu_use_chwn():
    recipe = Recipe("S7/block3", epochs=1, batch_size=64, lr=0.02)
    asked = options("S7/block3")
    assert acceleration.uses_chwn(recipe, asked, CPU, 60_000)
    assert not acceleration.uses_chwn(recipe, asked, CPU, 6_000)
    assert not acceleration.uses_chwn(recipe, asked, torch.device("cuda"), 60_000)
    assert not acceleration.uses_chwn(recipe, options("S7/block3", "bfloat16"), CPU, 60_000)
    assert not acceleration.uses_chwn(Recipe("S7/block4", 1, 64, 0.02), options("S7/block4"), CPU, 60_000)
    assert not acceleration.supports_chwn("no such network")


def test_where_numba_is_missing_pytorchs_layers_train(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    acceleration.supports_chwn.cache_clear()
    assert not acceleration.supports_chwn("S7/block3")
    acceleration.supports_chwn.cache_clear()


def test_auto_is_float32_on_matrix_units_too_where_chwn_is_supported(monkeypatch):
    monkeypatch.setattr(acceleration, "_has_matrix_units", lambda: True)
    assert acceleration.precision(options("S7/block3"), CPU) == "float32"
    assert acceleration.precision(options("S5/step1_first_network"), CPU) == "bfloat16"
    assert acceleration.precision(options("S7/block3", "bfloat16"), CPU) == "bfloat16"


def test_what_numba_has_compiled_is_not_compiled_by_torch(monkeypatch):
    monkeypatch.setattr(acceleration.shutil, "which", lambda name: f"/usr/bin/{name}")
    recipe = Recipe("S7/block3", epochs=14, batch_size=64, lr=0.02)
    assert not acceleration.compiles(recipe, options("S7/block3", "float32", compile=True), CPU, 60_000)
    assert "compiled by numba" in acceleration.why_not_compiled(uses_chwn=True)
    block4 = Recipe("S7/block4", epochs=14, batch_size=64, lr=0.02)
    assert acceleration.compiles(block4, options("S7/block4", "float32", compile=True), CPU, 60_000)
