"""The page "Draw a digit" in a real browser: equal to Python's pixels and numbers, and drawn on by every means."""

import base64
import json
import math
import random
import re
import shutil

import numpy as np
import pytest
import torch
from drawings import DIGITS

from common import data, models
from common.data.strokes import draw
from common.experiments import draw_page
from common.recipe import ROOT
from common.system.errors import UserError

NETWORKS = [point.whose for point in draw_page.offered()]
FIRST = draw_page.FIRST
WEIGHTS = sorted(path.relative_to(ROOT / "sessions") for path in ROOT.glob("sessions/S*/weights/*.safetensors"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_page.build(tmp_path_factory.mktemp("draw")).parent


@pytest.fixture(scope="module")
def catalogue(folder):
    text = (folder / "networks.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("window.course = ").removesuffix(";\n"))


# What is written.


def test_every_network_whose_weights_the_course_keeps_is_offered(catalogue):
    assert sorted(NETWORKS) == sorted(f"{path.parts[0]}/{path.stem}" for path in WEIGHTS)
    assert [one["name"] for one in catalogue["networks"]] == NETWORKS
    sizes = [one["parameters"] for one in catalogue["networks"]]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (593_200, 559)
    for one in catalogue["networks"]:
        assert one["parameters"] == models.count_parameters(models.build(one["name"]))


def test_the_accuracies_are_those_of_the_records(catalogue):
    from common.experiments.quotes import quote

    found = {one["name"]: (f"{one['accuracy']:.2f} %", str(one["seeds"])) for one in catalogue["networks"]}
    for name in NETWORKS:
        source = name.split("/")[1] if name == "S9/time_to_accuracy" else name
        assert found[name] == (quote(f"{source} mean"), quote(f"{source} seeds")), name


def test_a_page_with_a_network_of_8k_parameters_loads_less_than_300_kb(folder, catalogue):
    first = next(one for one in catalogue["networks"] if one["name"] == FIRST)
    page = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    assert page + (folder / first["file"]).stat().st_size < 300_000


def test_a_layer_that_the_page_cannot_compute_is_refused():
    for layer in (torch.nn.GELU(), torch.nn.Conv2d(1, 2, 3, dilation=2), torch.nn.MaxPool2d(3, stride=2)):
        with pytest.raises(TypeError, match="cannot compute"):
            draw_page.trace(torch.nn.ModuleDict({"layers": torch.nn.Sequential(layer)}))


def test_a_missing_file_of_weights_is_told_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(draw_page, "offered", lambda: [draw_page.frontier.Point("S8/teacher", 1, (99.0,), 1)])
    with pytest.raises(UserError, match="no trained weights"):
        draw_page.build(tmp_path)


# In a real browser, from a folder as from a double click.


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not path:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, folder):
    """Opens the page; at the end no error may be in its console, and no request may have left its folder."""
    opened, found = [], []

    def open_page(width=1100, **settings):
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        page = context.new_page()
        page.on("console", lambda message: found.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on("request", lambda request: found.append(request.url) if leaves(request.url) else None)
        page.goto((folder / "index.html").as_uri())
        page.wait_for_function("() => chosen !== null")
        opened.append(context)
        return page

    def leaves(url):
        return not url.startswith((folder.as_uri(), "data:", "blob:"))

    yield open_page
    for context in opened:
        context.close()
    assert found == []


@pytest.fixture(scope="module")
def computing(browser, folder):
    """A page that the tests of its numbers share."""
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri())
    page.wait_for_function("() => chosen !== null")
    yield page
    page.close()


def choose(page, name):
    page.select_option("#network", name)
    page.wait_for_function("name => chosen.name === name", arg=name)


def said(page, words, timeout=20_000):
    page.wait_for_function(
        "words => document.getElementById('said').textContent.includes(words)", arg=words, timeout=timeout
    )


def draw_by_mouse(page, strokes):
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()


def drawings(count):
    """Drawn digits, then random ones: other sizes and places, lines, dots, whole pixels, two points in one place."""
    chance = random.Random(22)
    made = list(DIGITS.values())
    made += [[[(0.5, 0.1), (0.5, 0.9)]], [[(0.1, 0.5), (0.9, 0.5)]], [[(0.3, 0.8)]], [[(7, 7)], [(7, 7), (7, 7)], []]]
    while len(made) < count:
        kind, size = chance.choice(("digit", "scrawl", "whole")), chance.choice((0.2, 1, 300))
        if kind == "digit":
            shift = (chance.uniform(-1, 1), chance.uniform(-1, 1))
            lean, wide = chance.uniform(-0.3, 0.3), chance.uniform(0.5, 1.4)
            strokes = [[(wide * x + lean * y, y) for x, y in stroke] for stroke in chance.choice(list(DIGITS.values()))]
            made.append([[(size * (x + shift[0]), size * (y + shift[1])) for x, y in stroke] for stroke in strokes])
        else:
            place = chance.random if kind == "scrawl" else lambda: chance.randrange(9)
            lengths = [chance.randrange(1, 9) for _ in range(chance.randrange(1, 4))]
            made.append([[(size * place(), size * place()) for _ in range(length)] for length in lengths])
    return made


def test_a_drawing_is_prepared_as_python_does_pixel_by_pixel(computing):
    page = computing
    cases = [[strokes, pen] for strokes in drawings(100) for pen in (2.6, 1.0, 4.1)]
    images = page.evaluate(
        "cases => cases.map(([strokes, pen]) => [...paintLines(placeLines(strokes, pen, course), pen, course.side)])",
        cases,
    )
    for (strokes, pen), image in zip(cases, images, strict=True):
        expected = draw(strokes, pen).flatten().tolist()
        assert image == expected, (strokes, pen)
    assert page.evaluate("placeLines([[], []], 2.6, course)") == []


@pytest.fixture(scope="module")
def images(request):
    """Test images and drawn ones, uint8 [N, 28, 28]: with --full 1,000 and 200, else a few."""
    scanned, drawn = (1_000, 200) if request.config.getoption("--full") else (20, 20)
    digits = data.load("auto")
    return torch.cat([digits.test_images[:scanned], torch.stack([draw(strokes) for strokes in drawings(drawn)])])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_log_probabilities_are_pytorchs(computing, images, name):
    page = computing
    choose(page, name)
    network = models.load_trained(name)
    for some in images.split(100):
        answers = page.evaluate(
            """(images) => {
                const bytes = Uint8Array.from(atob(images), (sign) => sign.charCodeAt(0));
                const read = (i) => networks.read(chosen, bytes.subarray(i * 784, (i + 1) * 784), course);
                return Array.from({ length: bytes.length / 784 }, (_, i) => [...read(i).logProbabilities]);
            }""",
            base64.b64encode(some.numpy().tobytes()).decode(),
        )
        with torch.no_grad():
            expected = network(data.normalise(some))
        assert (torch.tensor(answers) - expected).abs().max() < 1e-4


LAYERS_OF_A_VIEW = """async ([bytes, view]) => {
    const { outputs } = await reader.read(chosen, Uint8Array.from(bytes), view);
    return outputs.map((map) => [...map]);
}"""


@pytest.mark.parametrize("view", [0, 6])
def test_the_maps_of_each_layer_and_view_are_pytorchs(computing, view):
    page = computing
    choose(page, "S8/step7_two_budgets")
    image = draw(DIGITS[5])
    maps = page.evaluate(LAYERS_OF_A_VIEW, [image.flatten().tolist(), view])
    seen = outputs_of("S8/step7_two_budgets", image[None], view)
    assert len(maps) == len(seen) + 1
    for found, expected in zip(maps[1:], seen, strict=True):
        assert (torch.tensor(found) - expected.flatten()).abs().max() < 1e-4


def outputs_of(name, images, number=0):
    """What each layer of PyTorch's network gives for one of the images, or of the views of the only one."""
    network, seen = models.load_trained(name), []
    for layer in draw_page.leaves(network.layers):
        layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output[number]))
    with torch.no_grad():
        network(data.normalise(images))
    return seen


def test_ten_digits_drawn_by_the_mouse_are_read_and_the_bars_say_how_sure(visit):
    page = visit()
    for digit, strokes in DIGITS.items():
        draw_by_mouse(page, strokes)
        said(page, f"It reads {digit}, with ")
        assert page.locator("#bars .best .digit").inner_text() == str(digit)
        assert re.fullmatch(r"\d+\.\d %", page.locator("#bars .best .percent").inner_text())
        assert page.locator("#bars li").count() == 10
        page.locator("#clear").click()
        said(page, "The pad is blank")
        assert page.locator("#bars .best").count() == 0


def test_a_blank_pad_is_refused_and_undo_takes_one_stroke(visit):
    page = visit()
    said(page, "The pad is blank: draw a digit.")
    page.locator("#undo").click()  # nothing to undo
    draw_by_mouse(page, DIGITS[4])
    said(page, "It reads 4")
    assert page.evaluate("ink.strokes().length") == 2
    page.locator("#undo").click()
    page.wait_for_function("() => !document.getElementById('said').textContent.includes('reads 4')")
    assert page.evaluate("ink.strokes().length") == 1
    page.locator("#undo").click()
    said(page, "The pad is blank")
    assert page.locator("#bars .percent").all_inner_texts() == [""] * 10
    page.evaluate("ink.replace([Array.from({ length: 5001 }, (_, i) => [i / 5001, 0.5])])")
    said(page, "A drawing may have 5,000 points")


def test_a_finger_draws_and_does_not_scroll_the_page(visit):
    page = visit(width=360, has_touch=True)
    page.evaluate("scrollTo(0, 100)")
    box = page.locator("#pad").bounding_box()
    session = page.context.new_cdp_session(page)
    for stroke in DIGITS[7]:
        places = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in stroke]
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [places[0]]})
        for a, b in zip(places, places[1:], strict=False):
            for part in range(1, 11):
                place = {axis: a[axis] + (b[axis] - a[axis]) * part / 10 for axis in "xy"}
                session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [place]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    said(page, "It reads 7")
    assert page.evaluate("scrollY") == 100
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_keyboard_alone_draws_undoes_chooses_and_asks_for_the_arithmetic(visit):
    page = visit()
    for _ in range(3):  # the link, the theme, the pad
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "pad"
    for key in ["ArrowUp"] * 8 + [" "] + ["ArrowDown"] * 17 + [" "]:
        page.keyboard.press(key)
    said(page, "It reads 1")
    page.keyboard.press("Backspace")
    said(page, "The pad is blank")
    for _ in range(3 + 8):  # undo, clear, and the examples from 0 on
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    said(page, "It reads 8")
    page.locator(".layer .maps").first.focus()
    page.keyboard.press("Enter")
    value = page.locator(".arithmetic .value")
    assert value.inner_text().startswith("Layer 1, map 0, row 13, column 13: ")
    for key in ("PageDown", "ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    assert value.inner_text().startswith("Layer 1, map 1, row 12, column 15: ")
    assert value.get_attribute("aria-live") == "polite"


def number(text):
    return float(text.replace("\u2212", "-"))


ARITHMETIC = """() => {
    const panel = document.querySelector(".arithmetic");
    const texts = (holder, name) => [...holder.querySelectorAll(name)].map((one) => one.textContent);
    const numbers = (cell) => texts(cell, "td").length ? texts(cell, "td") : [cell.textContent];
    return {
        value: panel.querySelector(".value").textContent,
        total: panel.querySelector(".total").textContent,
        sums: texts(panel, ".sum"),
        products: [...panel.querySelectorAll("tr:has(> td:nth-of-type(5).sum)")].map(({ cells }) =>
            [numbers(cells[1]), numbers(cells[3]), cells[5].textContent]),
        kind: panel.closest(".layer").querySelector("h3").textContent.split(/[: ]+/)[2],
    };
}"""


@pytest.mark.parametrize("name", ["S5/step1_first_network", "S8/step7_two_budgets"])  # all kinds of layers between them
def test_the_arithmetic_of_a_clicked_value_adds_up_to_pytorchs(visit, name):
    """A click on a place of each layer: the value is that of PyTorch, and the printed parts give it again."""
    page = visit()
    choose(page, name)
    page.get_by_label("A drawn 2", exact=True).click()
    said(page, "It reads 2")
    image = torch.tensor(page.evaluate("[...image]"), dtype=torch.uint8).view(1, 28, 28)
    seen = outputs_of(name, image)
    checked = set()
    for index, output in enumerate(seen):
        canvas = page.locator(f".layer[data-index='{index}'] .maps")
        if not canvas.count():
            continue
        canvas.evaluate("canvas => scrollBy(0, canvas.getBoundingClientRect().top - 300)")
        box = canvas.bounding_box()
        page.mouse.click(box["x"] + min(30, box["width"] - 3), box["y"] + 5)
        told = page.evaluate(ARITHMETIC)
        where, value = told["value"].split(": ")
        place = [int(part) for part in re.findall(r"\d+", where)][1:]
        expected = float(output[tuple(place)] if len(place) == 3 else output.flatten()[place[0]])
        assert where.startswith(f"Layer {index + 1}, ")
        assert number(value) == pytest.approx(expected, abs=1e-3)
        assert number(told["total"]) == pytest.approx(expected, abs=1e-3)
        if told["sums"]:
            assert math.fsum(map(number, told["sums"])) == pytest.approx(expected, abs=5e-4 * (len(told["sums"]) + 1))
        for window, kernel, product in told["products"]:
            window, kernel = ([number(text) for text in part] for part in (window, kernel))
            rounded = sum(5e-4 * (abs(a) + abs(b)) for a, b in zip(window, kernel, strict=True)) + 1e-3
            assert number(product) == pytest.approx(np.dot(window, kernel), abs=rounded)
        checked.add(told["kind"])
    kinds = {"S5/step1_first_network": {"ReLU", "Linear"}, "S8/step7_two_budgets": {"BatchNorm2d", "SiLU", "AvgPool2d"}}
    assert checked == kinds[name] | {"Conv2d", "MaxPool2d", "LogSoftmax"}


def test_the_sliders_move_the_digit_and_the_answer(visit):
    page = visit()
    page.get_by_label("A drawn 6", exact=True).click()
    said(page, "It reads 6")
    before = np.array(page.evaluate("[...image]")).reshape(28, 28)

    def slide(name, value):
        page.locator(f"#{name}").evaluate(
            "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value
        )
        page.wait_for_function("() => answered === version && !frameAsked")
        return np.array(page.evaluate("[...image]")).reshape(28, 28)

    moved = slide("right", 3)
    assert (moved[:, 3:] == before[:, :-3]).all()
    moved = slide("down", -2)
    assert (moved[:-2, 3:] == before[2:, :-3]).all()
    page.locator("#reset").click()
    page.wait_for_function("() => answered === version && !frameAsked")
    assert (np.array(page.evaluate("[...image]")).reshape(28, 28) == before).all()
    turned = slide("turn", 180)
    assert np.abs(turned - before[::-1, ::-1]).max() <= 1  # rounding
    said(page, "9")
    assert slide("turn", 90).sum() == pytest.approx(before.sum(), rel=0.01)
    page.locator("#reset").click()
    thick = slide("pen", 4)
    strokes = page.evaluate("ink.strokes()")
    assert (thick == draw(strokes, 4.0).numpy()).all()
    assert thick.sum() > 1.2 * before.sum()


def test_every_network_reads_the_same_digit_side_by_side(visit):
    page = visit()
    page.get_by_label("A drawn 3", exact=True).click()
    said(page, "It reads 3")
    rows = page.locator("#compare tbody tr")
    assert rows.count() == len(NETWORKS)
    assert rows.locator(".reads", has_text="not loaded").count() == len(NETWORKS) - 1
    assert page.evaluate("Object.keys(window.weights)") == [FIRST]  # the others are loaded when asked for
    page.locator("#load-small").click()
    page.wait_for_function(
        "() => course.networks.filter((one) => one.bytes < LARGE).every((one) => one.shown === version)", timeout=60_000
    )
    assert page.evaluate("Object.keys(window.weights).length") == len(NETWORKS) - 1
    page.locator("#load-large").click()
    page.wait_for_function("() => course.networks.every((one) => one.shown === version)", timeout=60_000)
    image = torch.tensor(page.evaluate("[...image]"), dtype=torch.uint8).view(1, 28, 28)
    for row, name in zip(rows.all(), NETWORKS, strict=True):
        with torch.no_grad():
            probabilities = models.load_trained(name)(data.normalise(image))[0].exp()
        assert row.locator(".reads").inner_text() == str(int(probabilities.argmax()))
        sure = number(row.locator(".sure").inner_text().removesuffix(" %"))
        assert sure == pytest.approx(100 * float(probabilities.max()), abs=0.06)
    page.locator("#clear").click()
    said(page, "The pad is blank")
    assert set(rows.locator(".reads").all_inner_texts()) == {"nothing"}


def test_sixteen_outputs_have_a_bar_for_no_digit(visit):
    page = visit()
    page.select_option("#network", "S6/part2_step2_strided")
    page.get_by_label("A drawn 0", exact=True).click()
    said(page, "It reads 0")
    assert page.locator("#bars li").count() == 11
    assert page.locator("#bars .digit").last.inner_text() == "none"
    assert "last six stand for no digit" in page.locator("#about").inner_text()


def test_where_no_worker_may_start_the_page_itself_computes(browser, folder):
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("window.Worker = class { constructor() { throw new Error('not here'); } };")
    page.goto((folder / "index.html").as_uri())
    page.get_by_label("A drawn 5", exact=True).click()
    said(page, "It reads 5")
    context.close()


def test_weights_that_do_not_load_are_told_and_can_be_asked_for_again(browser, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "draw")
    gone = tmp_path / "draw" / "weights" / "S8_frontier_1196.js"
    gone.rename(gone.with_suffix(".away"))
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "draw" / "index.html").as_uri())
    page.select_option("#network", "S8/frontier_1196")
    page.wait_for_function("() => document.getElementById('about').textContent.includes('could not be loaded')")
    gone.with_suffix(".away").rename(gone)
    page.select_option("#network", FIRST)
    page.select_option("#network", "S8/frontier_1196")
    page.get_by_label("A drawn 1", exact=True).click()
    page.wait_for_function("() => chosen && chosen.name === 'S8/frontier_1196'")
    said(page, "1")
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (360, "dark")])
def test_axe_has_nothing_to_say_and_nothing_is_wider_than_the_page(visit, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = visit(width=width, color_scheme=scheme)
    page.get_by_label("A drawn 5", exact=True).click()
    said(page, "It reads 5")
    canvas = page.locator(".layer[data-index='8'] .maps")
    canvas.focus()
    canvas.press("Enter")
    page.locator(".layer[data-index='8'] summary").click()
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    inside = "document.querySelector('.parts').scrollWidth <= document.querySelector('.parts').clientWidth"
    assert page.evaluate(inside)  # window, kernel and sum side by side, on a phone too


def test_the_kernels_are_the_networks_weights(visit):
    """Their colours, read from the canvas: red above blue where a weight is above zero, the other way round below."""
    page = visit()
    page.locator(".layer[data-index='0'] summary").click()
    page.wait_for_function("() => (document.querySelector('.layer details canvas').width + 1) % 21 === 0")  # new: 300
    signs = page.evaluate(
        """() => {
            const canvas = document.querySelector(".layer details canvas");
            const step = 3 * 6 + 2 + 1; // a tile's values, its line, the gap
            const columns = (canvas.width + 1) / step;
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const pixel = (x, y) => data.slice(4 * (y * canvas.width + x));
            return Array.from({ length: 32 * 9 }, (_, i) => {
                const [tile, row, column] = [Math.floor(i / 9), Math.floor((i % 9) / 3), i % 3];
                const [left, top] = [(tile % columns) * step + 1, Math.floor(tile / columns) * step + 1];
                const [red, , blue] = pixel(left + column * 6 + 3, top + row * 6 + 3);
                return red - blue;
            });
        }"""
    )
    weights = draw_page.leaves(models.load_trained(FIRST).layers)[0].weight.flatten()
    clear = weights.abs() > 0.05 * weights.abs().max()
    assert clear.sum() > 200
    assert ((torch.tensor(signs) > 0) == (weights > 0))[clear].all()


def test_of_many_kernels_those_of_the_chosen_map_are_shown(visit):
    page = visit()
    choose(page, "S5/step1_first_network")
    section = page.locator(".layer[data-index='7']")
    section.locator("summary").click()
    note = section.locator("details p")
    page.wait_for_function("() => document.querySelector('.layer[data-index=\"7\"] details p').textContent")
    assert note.inner_text().startswith("the kernels of output 0,")
    section.locator(".maps").focus()
    section.locator(".maps").press("Enter")
    section.locator(".maps").press("PageDown")
    assert note.inner_text().startswith("the kernels of output 1,")
    largest = draw_page.leaves(models.load_trained("S5/step1_first_network").layers)[7].weight[1].detach().abs().max()
    assert note.inner_text().endswith(f"\u00b1{float(largest):.3f}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_systems_until_one_is_chosen_and_is_kept(visit, scheme):
    page = visit(color_scheme=scheme)
    other = {"light": "dark", "dark": "light"}[scheme]

    def brightness():
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert (brightness() > 380) == (scheme == "light")
    page.select_option("#theme", other)
    assert (brightness() > 380) == (other == "light")
    page.reload()
    assert (brightness() > 380) == (other == "light")
    assert page.input_value("#theme") == other
