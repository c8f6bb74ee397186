"""The website, built, and opened in a real browser: from its folder as by a double click, and from a server."""

import contextlib
import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from common.lesson.notebooks import lessons
from common.recipe import ROOT

pytest.importorskip("sphinx", reason="the website's packages are not installed; `course.py site` adds them")
pytest.importorskip("myst_nb", reason="the website's packages are not installed; `course.py site` adds them")

sys.path.insert(0, str(ROOT / "site"))
import build  # noqa: E402
import sources  # noqa: E402

# A page of each kind. With --full, every page is looked at.
KINDS = [
    *("index", "draw/index", "glossary", "results", "search", "docs/frontier", "docs/machines", "sessions/S6/README"),
    *("sessions/S5/step1_first_network", "sessions/S6/part1_backprop", "sessions/S8/step7_two_budgets"),
    *("reference/common", "reference/common.data", "reference/common.data.loaders"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole site, built by a process of its own, as the command builds it."""
    folder = tmp_path_factory.mktemp("built") / "site"
    code = "import sys; from pathlib import Path; sys.path[:0] = ['site']; import build; build.build(Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, timeout=900)
    assert done.returncode == 0, done.stderr
    assert not [path.name for path in folder.parent.iterdir() if path != folder]
    return folder


class Page(HTMLParser):
    """What the tests ask of a page: the targets of its links and files, its ids, its images."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.ids, self.images = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        self.targets += [(tag, found[name]) for name in ("href", "src") if found.get(name)]
        if tag == "img":
            self.images.append(found)


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}  # a theme's template


def test_every_page_is_there(site):
    for step in lessons():
        assert (site / "sessions" / f"{step}.html").exists()
        assert (site / "sessions" / f"{step}.ipynb").read_bytes() == (ROOT / f"sessions/{step}.ipynb").read_bytes()
    for path in (ROOT / "common").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        assert (site / "reference" / f"{name}.html").exists(), name


def test_every_link_and_file_inside_the_site_is_there(site, pages):
    broken = []
    for path, page in pages.items():
        for _, target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            whole = there.is_file() and there.is_relative_to(site)
            if not whole or (anchor and there in pages and anchor not in pages[there].ids):
                broken.append((path.name, target))
    assert broken == []


def test_nothing_that_a_page_loads_lies_elsewhere(pages):
    loading = ("img", "script", "link", "iframe", "source", "video", "audio")
    outside = {
        (path.name, target) for path, page in pages.items() for tag, target in page.targets
        if tag in loading and re.match(r"(https?:)?//", target)
    }  # fmt: skip
    assert outside == set()


def test_every_image_has_a_text(pages):
    for path, page in pages.items():
        for image in page.images:
            assert len(image.get("alt", "")) > 8 and not re.search(r"\.(png|svg)$", image["alt"]), (path.name, image)


def test_no_comment_of_the_texts_and_no_widget_without_its_kernel_is_shown(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<!--(S\d+/|bench |time_to_accuracy)", text), path
        assert "vnd.jupyter.widget" not in text, path


def test_previous_and_next_go_through_the_lessons(site):
    steps = list(lessons())
    page = (site / "sessions" / f"{steps[2]}.html").read_text(encoding="utf-8")
    for side, step in (("left", steps[1]), ("right", steps[3])):
        found = re.search(rf'<a class="{side}-(?:prev|next)"\s+href="([^"]+)"', page)
        assert (site / "sessions" / steps[2]).parent.joinpath(found[1]).resolve() == (
            site / f"sessions/{step}.html"
        ).resolve()


def test_what_sphinx_warns_of_is_an_error_and_the_old_site_stays(tmp_path, monkeypatch, capfd):
    def lay_out(work, repository):
        (work / "pages").mkdir(parents=True)
        (work / "files").mkdir()
        (work / "pages" / "index.md").write_text("# A page\n\n[gone](gone.md)\n", encoding="utf-8")

    monkeypatch.setattr(sources, "lay_out", lay_out)
    old = tmp_path / "site" / "index.html"
    old.parent.mkdir()
    old.write_text("old")
    with pytest.raises(build.NotBuiltError, match="was not built"):
        build.build(old.parent)
    assert "gone.md" in capfd.readouterr().err
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


# In a real browser.


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


@pytest.fixture(scope="module")
def server(site):
    """The address of a local server of the site."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def visit(browser, site):
    """Opens a page; at the end no console may have an error, and no request may have left the folder or server."""
    found, contexts = [], []

    def failed(asked):
        if asked.failure != "net::ERR_ABORTED":  # the page was left while it was loading
            found.append((asked.url, asked.failure))

    @contextlib.contextmanager
    def open_page(width=1280, root=None, **settings):
        root = root or site.as_uri()
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: found.append((page.url, said.text)) if said.type == "error" else None)
        page.on("pageerror", lambda error: found.append((page.url, str(error))))
        page.on(
            "request", lambda asked: None if asked.url.startswith((root, "data:", "blob:")) else found.append(asked.url)
        )
        page.on("requestfailed", failed)
        yield page, root

    yield open_page
    for context in contexts:
        context.close()
    assert found == []


def chosen(site, full):
    if not full:
        return KINDS
    names = [path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")]
    return sorted(name for name in names if not name.startswith("_static"))


@pytest.mark.parametrize("width", [360, 820, 1280])
def test_pages_load_without_an_error_and_none_is_wider_than_its_window(visit, site, width, request):
    with visit(width) as (page, root):
        for name in chosen(site, request.config.getoption("--full")):
            page.goto(f"{root}/{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_pages_load_from_a_server_as_well(visit, server):
    with visit(root=server) as (page, root):
        for name in KINDS:
            page.goto(f"{root}/{name}.html")


def test_the_search_finds_a_word_of_each_lesson(visit, server):
    words = {
        "S5/step1_first_network": "velocity",
        "S6/part1_backprop": "saturated",
        "S8/step7_two_budgets": "distillation",
    }
    for root in (None, server):
        with visit(root=root) as (page, start):
            for step, word in words.items():
                page.goto(f"{start}/search.html?q={word}")
                page.locator(f'#search-results a[href*="{step}.html"]').first.wait_for(timeout=20_000)


def test_the_search_field_of_a_page_leads_to_the_results(visit):
    with visit() as (page, root):
        page.goto(f"{root}/index.html")
        page.locator(".bd-sidebar-primary .search-button-field").click()
        page.locator("dialog[open] input[type=search]").fill("momentum")
        page.keyboard.press("Enter")
        page.locator('#search-results a[href*="S5/step1_first_network.html"]').first.wait_for(timeout=20_000)


def test_solutions_are_folded_and_unfold(visit):
    with visit() as (page, root):
        page.goto(f"{root}/sessions/S7/block3.html")
        solution = page.locator("details", has=page.locator("summary", has_text="Solution")).first
        code = solution.locator("pre").first
        assert not code.is_visible()
        solution.locator("summary").click()
        assert code.is_visible() and "def " in code.inner_text()


def test_a_table_is_sorted_by_a_click_and_by_the_keyboard(visit):
    with visit() as (page, root):
        page.goto(f"{root}/results.html")
        column = page.locator("table tbody tr td:nth-child(2)")
        button = page.get_by_role("button", name="parameters")
        button.click()
        numbers = [int(text.replace(",", "")) for text in column.all_inner_texts()]
        assert numbers == sorted(numbers) and len(set(numbers)) > 5
        assert page.locator("th[aria-sort=ascending]").inner_text().startswith("parameters")
        button.focus()
        page.keyboard.press("Enter")
        numbers = [int(text.replace(",", "")) for text in column.all_inner_texts()]
        assert numbers == sorted(numbers, reverse=True)


def test_a_word_leads_to_the_glossary_and_from_there_to_its_lesson(visit):
    with visit() as (page, root):
        page.goto(f"{root}/sessions/S7/block3.html")
        link = page.locator("a.course-term", has_text=re.compile("^momentum$")).first
        assert "velocity" in link.get_attribute("title")
        link.click()
        assert page.url.endswith("/glossary.html#term-momentum")
        page.locator("dd", has=page.locator("xpath=preceding-sibling::dt[1]//*[@id='term-momentum']")).locator(
            "a"
        ).click()
        assert page.url.endswith("/sessions/S5/step1_first_network.html#term-momentum")
        assert page.locator("#term-momentum + strong").inner_text() == "Momentum"


def test_the_dark_theme_is_the_systems_and_can_be_chosen(visit):
    with visit(color_scheme="dark") as (page, root):
        page.goto(f"{root}/index.html")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", dark)[:3])) < 60
        page.locator("button.theme-switch-button:visible").first.click()
        page.locator("button[data-mode=light]:visible").first.click()
        page.goto(f"{root}/sessions/S7/block3.html")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_axe_finds_nothing_serious(visit, site, scheme, width, request):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    serious = []
    with visit(width, color_scheme=scheme) as (page, root):
        for name in chosen(site, request.config.getoption("--full")):
            page.goto(f"{root}/{name}.html")
            for found in axe.run(page, options={"preload": False}).response["violations"]:
                if found["impact"] in ("serious", "critical"):
                    serious.append((name, found["id"], [node["html"][:120] for node in found["nodes"][:3]]))
    assert serious == []
