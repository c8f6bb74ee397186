"""The pages: every link leads somewhere, README.md is one page, and its commands are those of course.py."""

import re
import runpy
from pathlib import Path

import jupytext
import pytest

from common.lesson.notebooks import lessons
from common.recipe import ROOT

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("sessions/S*/**/README.md"))]
LESSONS = list(lessons().values())
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def prose(path: Path) -> str:
    """What a reader sees of a page or of a lesson's markdown cells, without its code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        cells = jupytext.reads(text, fmt="py:percent").cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"(?ms)^ *```.*?^ *```|`[^`\n]+`", lambda code: "`" if code[0][0] == "`" else "", text)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", path.read_text(encoding="utf-8"))
    headings = re.findall(r"(?m)^#+ +(.+?) *$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(path: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for target in (link["target"] for link in LINK.finditer(prose(path))):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (path.parent / name).resolve() if name else path
        # The two halves of a lesson are made from each other, so a link to either is as good.
        exists = there.exists() or there.with_suffix(".py").exists()
        if not exists or not there.is_relative_to(ROOT) or (anchor and anchor not in anchors(there)):
            found.append(target)
    return found


@pytest.mark.parametrize("path", [*PAGES, *LESSONS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path):
    assert not broken(path)


def test_a_link_that_leads_nowhere_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# One page, two `words`\n\n```\n# no heading\n```\n", encoding="utf-8")
    page = tmp_path / "page.py"
    page.write_text(
        "# %% [markdown]\n# [right](other.md#one-page-two-words) [gone](gone.md) `[code](no/link)` [up](../x.md)\n"
        "# [wrong](other.md#no-heading) [web](https://example.org)\n\n# %%\nvalues[0](image)\n",
        encoding="utf-8",
    )
    assert broken(page) == ["gone.md", "../x.md", "other.md#no-heading"]


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_page_of_docs_is_in_both_indexes():
    for index in (ROOT / "README.md", ROOT / "docs" / "README.md"):
        targets = {(index.parent / link["target"]).resolve() for link in LINK.finditer(prose(index))}
        assert set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "README.md"} <= targets


def test_the_map_has_every_lesson():
    targets = {link["target"] for link in LINK.finditer(prose(ROOT / "README.md"))}
    assert {path.with_suffix(".ipynb").relative_to(ROOT).as_posix() for path in LESSONS} <= targets


def test_the_page_of_commands_has_those_of_course_py_and_no_other():
    course = runpy.run_path(str(ROOT / "course.py"))
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    told = re.findall(r"(?m)^\| `course\.py ([\w-]+)` \|", page)
    assert sorted(told) == sorted(["run", "test", *course["PROGRAMS"]])
    assert sorted(told) == sorted(re.findall(r"(?m)^  ([\w-]+)(?= [ \[])", course["__doc__"]))
