"""The drawing pad: what it answers, and, where there is a browser, drawn on by a mouse and a finger in JupyterLab."""

import base64
import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import numpy as np
import pytest
from drawings import DIGITS

from common import models
from common.data.strokes import draw
from common.lesson import notebooks, pad
from common.recipe import ROOT, Options

STEP = "S7/block3"


@pytest.fixture(scope="module")
def model():
    return models.load_trained(STEP).train()


def test_the_answer_has_the_image_ten_probabilities_and_the_maps_of_the_layer(model):
    layer = next(one for one in model.modules() if type(one).__name__ == "Conv2d")
    answer = pad.answer_to(DIGITS[7], model, layer)
    image = np.frombuffer(base64.b64decode(answer["image"]), np.uint8).reshape(28, 28)
    assert (image == draw(DIGITS[7]).numpy()).all()
    assert answer["read"] == 7
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer["said"].startswith("It reads 7, with ")
    assert len(answer["maps"]) == 8
    for one in answer["maps"]:
        values = np.frombuffer(base64.b64decode(one), np.uint8)
        assert (len(values), values.min(), values.max()) == (answer["side"] ** 2, 0, 255)
    assert model.training  # as it was, and without a hook
    assert not layer._forward_hooks


def test_a_blank_pad_has_no_answer_and_an_unsure_one_says_so(model):
    blank = pad.answer_to([], model)
    assert (blank["read"], blank["probabilities"], blank["said"]) == (-1, [], "Draw a digit.")
    between = pad.answer_to([[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]], model)  # a cross
    said = "It is not sure" if max(between["probabilities"]) < pad.UNSURE else "It reads"
    assert between["said"].startswith(said)


def test_where_nobody_can_draw_a_drawn_example_stands_and_says_so(model, tmp_path, capsys):
    options = Options("builtin", None, "cpu", "held-out", "full", False, tmp_path)
    assert pad.drawing_pad(model, options, model.layers[0] if hasattr(model, "layers") else None) is None
    assert capsys.readouterr().out.startswith("Nobody can draw here; this is a drawn example.")
    assert (tmp_path / "figures" / "drawn_example.png").exists()
    assert pad.answer_to(pad.EXAMPLE, model)["read"] == 3


# In JupyterLab, in a real browser.

CELL = """\
from types import SimpleNamespace
from common import models
from common.lesson import drawing_pad
model = models.load_trained("S7/block3")
layer = next(one for one in model.modules() if type(one).__name__ == "Conv2d")
pad = drawing_pad(model, SimpleNamespace(out=None), layer)
"""


def browser_path():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """JupyterLab in Chromium, the pad's cell run."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not browser_path():
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("lab")
    cell = nbformat.v4.new_code_cell(CELL)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=notebooks.METADATA), folder / "pad.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    environment |= {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(folder / "config"), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
        + [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=5)
                break
            time.sleep(0.2)
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=browser_path(), args=["--no-sandbox", "--disable-gpu"])
            context = browser.new_context(viewport={"width": 1300, "height": 1000}, has_touch=True)
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{port}/lab/tree/pad.ipynb?token={token}")
            page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=90_000)
            with contextlib.suppress(playwright.TimeoutError):
                page.locator("#jp-main-statusbar", has_text="| Idle").wait_for(timeout=30_000)
            for _ in range(5):  # the kernel may still be starting, and then the cell is not run
                page.locator(".jp-Notebook .cm-content").first.click()
                page.keyboard.press("Control+Enter")
                with contextlib.suppress(playwright.TimeoutError):
                    page.locator(".pad-ink").wait_for(timeout=20_000)
                    break
            page.locator(".pad-ink").scroll_into_view_if_needed()
            yield page
            browser.close()
    finally:
        server.terminate()
        server.wait(20)


def said(page):
    return page.locator(".pad-said").inner_text()


def wait_for(page, words):
    page.wait_for_function(
        "words => document.querySelector('.pad-said').textContent.includes(words)", arg=words, timeout=20_000
    )


def draw_by_mouse(page, strokes):
    box = page.locator(".pad-ink").bounding_box()
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=2)
        page.mouse.up()


def test_digits_drawn_by_the_mouse_are_read_undone_and_cleared(page):
    assert said(page) == "Draw a digit."
    for digit in (3, 7, 4):
        draw_by_mouse(page, DIGITS[digit])
        wait_for(page, f"It reads {digit}")
        assert page.locator(".pad-best span").first.inner_text() == str(digit)
        assert page.locator(".pad-maps canvas").count() == 8
        assert re.match(r"\d+\.\d %", page.locator(".pad-best .pad-percent").inner_text())
        if digit == 4:
            page.locator(".pad-undo").click()  # the second stroke of the 4
            page.wait_for_function("() => !document.querySelector('.pad-said').textContent.includes('reads 4')")
        page.locator(".pad-clear").click()
        wait_for(page, "Draw a digit.")
        assert page.locator(".pad-best").count() == 0


def test_a_finger_draws_too(page):
    box = page.locator(".pad-ink").bounding_box()
    session = page.context.new_cdp_session(page)
    for stroke in DIGITS[7]:
        places = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in stroke]
        between = [
            {"x": a["x"] + (b["x"] - a["x"]) * i / 10, "y": a["y"] + (b["y"] - a["y"]) * i / 10}
            for a, b in zip(places, places[1:], strict=False)
            for i in range(1, 11)
        ]
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [places[0]]})
        for place in between:
            session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [place]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    wait_for(page, "It reads 7")
    page.locator(".pad-clear").click()
    wait_for(page, "Draw a digit.")
