"""The website's pages as they are laid out: what can be checked without Sphinx and without a browser."""

import json
import re
import statistics
import sys

import nbformat
import pytest

from common.lesson.notebooks import lessons
from common.recipe import ROOT
from common.system.errors import UserError

sys.path.insert(0, str(ROOT / "site"))
import build  # noqa: E402
import sources  # noqa: E402

# In bold in a lesson, in small letters, and yet no term: what is stressed, and the names of a list's items.
STRESSED = {
    *("missed by design", "the target of the block", "no biases", "valley"),
    *("the last epoch", "the best epoch", "the first epoch with 99.40 %", "the result is the last epoch"),
    *("arithmetic", "calls", "vectors", "block of sums"),
    *("standard deviation over seeds",),
}


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    sources.lay_out(folder, "somebody/course")
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One lesson's page where the repository's address is not known."""
    pages = tmp_path_factory.mktemp("plain")
    return sources.lesson_page(ROOT / "sessions" / "S7" / "block3.ipynb", "", pages)


def prose(notebook: str) -> str:
    cells = nbformat.reads(notebook, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def entries(pages, name="index"):
    """The pages that the menu has below the page `name`, in its order, each before those below it."""
    path = next(path for suffix in (".md", ".ipynb") if (path := pages / f"{name}{suffix}").exists())
    text = path.read_text(encoding="utf-8") if path.suffix == ".md" else ""
    found = []
    for block in re.findall(r"```\{toctree\}\n(.*?)```", text, flags=re.DOTALL):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                target = re.sub(r".*<(.+)>$", r"\1", line)
                one = (path.parent / target).relative_to(pages).as_posix()
                found += [one, *entries(pages, one)]
    return found


def test_every_page_stands_in_the_menu_once_and_the_lessons_in_their_order(laid_out):
    pages = laid_out / "pages"
    menu = entries(pages)
    assert [name for name in menu if name.removeprefix("sessions/") in lessons()] == [
        f"sessions/{step}" for step in lessons()
    ]
    orphans = {path for path in pages.rglob("*.md") if "orphan: true" in path.read_text(encoding="utf-8")[:30]}
    there = {*pages.rglob("*.md"), *pages.rglob("*.ipynb")} - orphans
    names = [path.relative_to(pages).with_suffix("").as_posix() for path in there]
    assert sorted(["index", *menu]) == sorted(names)
    assert {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")} <= set(menu)
    assert {"glossary", "results", "reference/common.training.loops"} <= set(menu)


def test_each_session_comes_before_its_lessons(laid_out):
    menu = entries(laid_out / "pages")
    for step in lessons():
        session = step.split("/")[0]
        assert menu.index(f"sessions/{session}/README") < menu.index(f"sessions/{step}")


def test_every_lesson_can_be_downloaded_as_it_is(laid_out):
    for path in lessons().values():
        for half in (path, path.with_suffix(".ipynb")):
            assert (laid_out / "files" / half.relative_to(ROOT)).read_bytes() == half.read_bytes()


def test_the_repositorys_address_gives_a_lesson_its_buttons(laid_out, plain):
    text = prose((laid_out / "pages/sessions/S7/block3.ipynb").read_text(encoding="utf-8"))
    colab = "https://colab.research.google.com/github/somebody/course/blob/main/sessions/S7/block3.ipynb"
    assert f'<a href="{colab}">Colab</a>' in text
    assert f"[Colab]({colab})" in text  # the lesson's own link too
    assert "mybinder.org/v2/gh/somebody/course/main?urlpath=lab/tree/sessions/S7/block3.ipynb" in text
    assert "https://codespaces.new/somebody/course" in text
    assert '<a href="block3.ipynb" download>' in text
    assert '<a href="block3.py" download>' in prose(plain)
    assert "mybinder" not in prose(plain) and "codespaces" not in prose(plain)


@pytest.mark.parametrize("address", ["course", "https://github.com/somebody/course", "a/b/c", 'a/"b'])
def test_an_address_that_is_none_is_refused_before_anything_is_written(address, tmp_path):
    pytest.importorskip("sphinx", reason="the website's packages are not installed; `course.py site` adds them")
    with pytest.raises(UserError, match="OWNER/NAME"):
        build.build(tmp_path / "site", address)
    assert not list(tmp_path.iterdir())


def test_links_lead_to_the_sites_pages_and_code_is_left_alone(tmp_path):
    page = ROOT / "docs" / "page.md"
    text = (
        "9 %<!--S7/block3 mean--> [map](../README.md#the-map-of-the-steps) [runs](../sessions/S6/records) "
        "[log](../sessions/S8/records) [list](../nbval.ini) [web](https://example.org) `[no](../README.md)`\n"
        "```\n[no](../README.md)\n```\n"
    )
    assert sources.at_home(text, page, "", tmp_path) == (
        "9 % [map](../index.md#the-map-of-the-steps) [runs](../sessions/S6/records/README.md) "
        "[log](../sessions/S8/records/README.md) [list](../nbval.ini) [web](https://example.org) `[no](../README.md)`\n"
        "```\n[no](../README.md)\n```\n"
    )
    assert (tmp_path / "nbval.ini").exists()
    made = (tmp_path / "sessions/S6/records/README.md").read_text(encoding="utf-8")
    assert "[part2_step2_fixed.json](part2_step2_fixed.json)" in made
    assert (tmp_path / "sessions/S6/records/part2_step2_fixed.json").exists()
    assert not (tmp_path / "sessions/S8/records/README.md").exists()  # the course has one


def test_every_figure_has_a_text_of_its_own_kind(laid_out):
    for path in (laid_out / "pages" / "sessions").rglob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
                alt = cell.metadata["mystnb"]["image"]["alt"]
                assert re.match(r"Figure(, \w[^:]+)?: \S", alt), f"{path.name}: {alt}\n{cell.source}"


def test_a_figures_text_is_its_name_and_how_it_is_drawn():
    code = 'plots.show(plots.curves(few_history), options.out, "over_fitting")'
    assert sources.figure_text(code) == (
        "Figure, over fitting: Loss and error rate over the epochs, for training and test."
    )
    code = 'axis.set_title("ranks")\naxis.set_xlabel("channel")\nplots.show(figure, options.out, "some")'
    assert sources.figure_text(code) == "Figure, some: ranks; channel"
    assert sources.figure_text('plots.show(figure, options.out, "some")', "Part") == "Figure, some: Part"
    assert sources.figure_text("drawing_pad(model, options)", "Draw") == "Figure: Draw"


def test_the_results_are_those_of_the_records(laid_out):
    text = (laid_out / "pages" / "results.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    heads, rows = rows[0], rows[1:]
    paths = sorted(ROOT.glob("sessions/S*/records/*.json"))
    assert len(rows) == len(paths)
    for path, row in zip(paths, rows, strict=True):
        record = json.loads(path.read_text(encoding="utf-8"))
        runs = [run for run in record["runs"] if run["protocol"] == "held-out"]
        last = [run["history"][-1] for run in runs]
        accuracies = [100 * row["test_correct"] / row["test_total"] for row in last]
        told = dict(zip(heads, row, strict=True))
        assert told["mean, %"] == f"{statistics.fmean(accuracies):.2f}", path
        assert told["lowest, %"] == f"{min(accuracies):.2f}", path
        assert told["parameters"] == f"{record['parameters']:,}", path
        assert told["seeds"] == str(len(runs)), path


def bold(step):
    """What a lesson has in bold, as a term would be: at most four words in small letters."""
    cells = nbformat.read(lessons()[step].with_suffix(".ipynb"), as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    words = [" ".join(found.split()) for found in sources.BOLD.findall(text)]
    return {word for word in words if word and re.fullmatch(r"[a-z][\w %-]{2,}", word) and word.count(" ") < 4}


@pytest.mark.parametrize("step", lessons())
def test_every_term_that_a_lesson_defines_is_in_the_glossary(step):
    missing = {word for word in bold(step) - STRESSED if not any(term.is_written(word) for term in sources.terms())}
    assert not missing, f"in bold in {step}, and not in site/glossary.md (nor among what is merely stressed): {missing}"


def test_every_word_of_the_glossary_is_defined_by_a_lesson_and_leads_to_it(laid_out):
    names = [term.name for term in sources.terms()]
    text = (ROOT / "site" / "glossary.md").read_text(encoding="utf-8")
    assert len(names) == len(re.findall(r"(?m)^: ", text))  # each entry was understood
    assert names == sorted(set(names), key=str.lower)
    page = (laid_out / "pages" / "glossary.md").read_text(encoding="utf-8")
    for term in sources.terms():
        assert term.name in sources.defined_in(), f"no lesson has {term.name!r} in bold"
        step = sources.defined_in()[term.name]
        assert f'href="sessions/{step}.html#{term.anchor}"' in page
        lesson = prose((laid_out / f"pages/sessions/{step}.ipynb").read_text(encoding="utf-8"))
        assert lesson.count(f'<span id="{term.anchor}"></span>**') == 1
