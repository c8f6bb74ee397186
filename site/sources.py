"""The website's sources: the course's own pages, made ready for Sphinx, in a folder of their own.

Nothing is written twice. The start page is README.md, a lesson's page is its notebook, and the tables come from the
records. What a website needs beyond that is added here: which page follows which, links that hold there, a text for
every figure, and buttons that open a lesson elsewhere.
"""

import ast
import html
import os
import pkgutil
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat

import common
from common.experiments import draw_page, quotes
from common.lesson.notebooks import lessons
from common.recipe import ROOT

HERE = Path(__file__).resolve().parent
DOCS = (
    "commands",
    "cluster",
    "machines",
    "benchmarks",
    "frontier",
    "reliability",
    "contributing",
)  # in the order of the menu
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)  # the source of a number, which no page shows
# Code is matched first, so that what looks like a link in it stays as it is.
CODE_OR_LINK = re.compile(r"(?ms)^ *```.*?^ *```|`[^`\n]+`|(?P<text>\]\()(?P<target>[^)\s]+)\)")
BOLD = re.compile(r"(?ms)^ *```.*?^ *```|`[^`\n]+`|\*\*(?!\*)(.+?)\*\*")
COLAB = "https://colab.research.google.com/github/"
SORTABLE = "---\nmyst:\n  html_meta:\n    tables: sortable\n---\n\n"  # heads of a page whose tables course.js sorts
QUANTITIES = {
    "parameters": "parameters",
    "epochs": "epochs",
    "mean": "mean, %",
    "deviation": "deviation",
    "minimum": "lowest, %",
    "maximum": "highest, %",
    "wrong": "mistakes",
    "seeds": "seeds",
    "minutes": "minutes",
}  # of a record, as `common.experiments.quotes` names them: the columns of the results


def lay_out(folder: Path, repository: str = "") -> None:
    """Write all sources to `folder`: pages to `pages`, and to `files` what the site holds as it is.

    `repository` is the course's address on GitHub, OWNER/NAME; without it the pages have no buttons that need one.
    """
    pages, files = folder / "pages", folder / "files"
    titles = short_titles()
    for path in course_pages():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = lesson_page(path, repository, pages)
            for half in (path, path.with_suffix(".py")):
                _copy(half, files / half.relative_to(ROOT))
        else:
            text = with_contents(path, at_home(text, path, repository, pages), titles)
            text = (SORTABLE if path.name in ("frontier.md", "benchmarks.md") else "") + text
        _write(pages / page_of(path), text)
    _write(pages / "glossary.md", glossary_page())
    _write(pages / "results.md", results_page())
    draw_page.build(files / "draw")
    for name, text in reference_pages().items():
        _write(pages / "reference" / f"{name}.md", text)


@cache
def course_pages() -> list[Path]:
    """The files of the course that are pages of the site: READMEs, docs, and the notebooks of sessions/lessons.txt."""
    notebooks = [path.with_suffix(".ipynb") for path in lessons().values()]
    readmes = [path for session in sessions() for path in sorted(session.glob("**/README.md"))]
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *readmes, *notebooks]


def sessions() -> list[Path]:
    """The folders of the sessions, in the order in which they are read."""
    return list(dict.fromkeys(path.parent for path in lessons().values()))


def page_of(path: Path) -> str:
    """The name of a course's file among the site's pages: its own, but for README.md, which is the start page."""
    name = path.relative_to(ROOT).as_posix()
    return "index.md" if name == "README.md" else name


def short_titles() -> dict[str, str]:
    """The name of each lesson in the menu, by its notebook's path: what the README's map calls it."""
    found = re.findall(r"\[([^\]]+)\]\((sessions/[^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    return {target: text for text, target in found}


# Pages of the course


def at_home(text: str, path: Path, repository: str, pages: Path) -> str:
    """The Markdown of the course's file `path` as the site has it: links between pages, and no comments.

    A link to a folder leads to the folder's README, or to a list of its files. Other files are copied to `pages`.
    """

    def relinked(found: re.Match) -> str:
        target = found["target"]
        if not target:
            return found[0]
        if target == COLAB and repository:
            target = opened_in_colab(path, repository) if path.suffix == ".ipynb" else COLAB + repository
        elif not re.match(r"[a-z]+:|#", target):
            target = _local(target, path, pages)
        return f"]({target})"

    return CODE_OR_LINK.sub(relinked, COMMENT.sub("", text))


def _local(target: str, path: Path, pages: Path) -> str:
    name, hash_, anchor = target.partition("#")
    there = (path.parent / name).resolve()
    if there.is_dir():
        there /= "README.md"
        if not there.exists():
            _write(pages / there.relative_to(ROOT), list_of_files(there.parent))
            for file in _files(there.parent):
                _copy(file, pages / file.relative_to(ROOT))
    elif there not in course_pages():
        _copy(there, pages / there.relative_to(ROOT))
    start = (ROOT / page_of(path)).parent
    return Path(os.path.relpath(ROOT / page_of(there), start)).as_posix() + hash_ + anchor


def list_of_files(folder: Path) -> str:
    """A page for a folder without a README: its files, to be downloaded."""
    lines = [f"- [{path.name}]({path.name}), {path.stat().st_size / 1000:,.0f} kB" for path in _files(folder)]
    return f"---\norphan: true\n---\n\n# Files in {folder.relative_to(ROOT).as_posix()}\n\n" + "\n".join(lines) + "\n"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")


def with_contents(path: Path, text: str, titles: dict[str, str]) -> str:
    """The page `text` of `path` with what comes after it, in the menu and by the button at its end."""
    if path == ROOT / "README.md":
        title, first, rest = text.split("\n\n", 2)
        start = (HERE / "start.md").read_text(encoding="utf-8")
        texts = [f"docs/{name}" for name in DOCS]
        read = _contents("The lessons", [f"sessions/{one.name}/README" for one in sessions()])
        look = _contents("To look up", ["glossary", "results", "docs/README", *texts, "reference/common"])
        return "\n\n".join([title, first, start.strip(), rest.strip(), read, look]) + "\n"
    if path.parent in sessions():
        session = path.parent.relative_to(ROOT)
        names = [name.with_suffix(".ipynb").relative_to(ROOT) for name in lessons().values()]
        names = [name for name in names if name.parent == session]
        entries = [f"{titles.get(name.as_posix(), name.stem)} <{name.stem}>" for name in names]
        more = [page.parent.relative_to(path.parent) / "README" for page in sorted(path.parent.glob("*/README.md"))]
        return f"{text.strip()}\n\n{_contents('', entries + [page.as_posix() for page in more])}\n"
    return text


def _contents(caption: str, entries: list[str], hidden: bool = True) -> str:
    options = (":hidden:\n" if hidden else ":maxdepth: 1\n") + (f":caption: {caption}\n" if caption else "")
    return "```{toctree}\n" + options + "\n" + "\n".join(entries) + "\n```"


# Lessons


def lesson_page(path: Path, repository: str, pages: Path) -> str:
    """The notebook `path` as the site has it: with buttons under its title and a text for every figure."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.language_info.pygments_lexer = "python"
    step, placed, part = path.relative_to(ROOT / "sessions").with_suffix("").as_posix(), set(), ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            part = ([part] + re.findall(r"(?m)^#+ (.+)$", cell.source))[-1]
            cell.source = with_anchors(at_home(cell.source, path, repository, pages), step, placed)
        elif cell.cell_type == "code":
            figures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
            if figures:
                cell.metadata["mystnb"] = {"image": {"alt": figure_text(cell.source, part)}}
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title}\n\n{buttons(path, repository)}\n{rest}"
    return nbformat.writes(notebook)


def buttons(path: Path, repository: str) -> str:
    """The links, in HTML, that download a lesson or open it on another computer."""
    name = path.relative_to(ROOT).as_posix()
    links = {path.name: "Notebook (.ipynb)", path.with_suffix(".py").name: "Script (.py)"}
    away = opened_elsewhere(name, repository) if repository else {}
    parts = [f'<a href="{target}" download>{label}</a>' for target, label in links.items()]
    parts += [f'<a href="{html.escape(target)}">{label}</a>' for label, target in away.items()]
    return '<p class="course-buttons">' + " ".join(parts) + "</p>"


def opened_in_colab(path: Path, repository: str) -> str:
    """The address at which Colab opens the notebook `path`."""
    return opened_elsewhere(path.relative_to(ROOT).as_posix(), repository)["Colab"]


def opened_elsewhere(name: str, repository: str) -> dict[str, str]:
    """Where the notebook `name` of a `repository` on GitHub can be opened in a browser, by the name of the service."""
    return {
        "Colab": f"{COLAB}{repository}/blob/main/{name}",
        "Binder": f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{name}",
        "Codespaces": f"https://codespaces.new/{repository}?quickstart=1",
    }


def figure_text(code: str, part: str = "") -> str:
    """What the figure of a cell shows, for whoever cannot see it: its name, and the first words on how it is drawn.

    Both stand in the cell: `plots.show(plots.curves(history), options.out, "overfitting")`. A figure that the cell
    draws by itself is told by its titles, or else by the `part` of the lesson, a heading.
    """
    tree = ast.parse(code)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    shown = [call.args[-1].value for call in calls if call.func.attr == "show" and len(call.args) == 3]
    kinds = drawings()
    drawn = [kinds[call.func.attr] for call in calls if call.func.attr in kinds]
    texts = [call.args[:1] for call in calls if call.func.attr in ("set_title", "set_xlabel", "set_ylabel", "suptitle")]
    texts += [[word.value] for call in calls for word in call.keywords if word.arg in ("title", "xlabel", "ylabel")]
    named = [word.value for words in texts for word in words if isinstance(word, ast.Constant) and word.value]
    name = "".join(f", {one.replace('_', ' ')}" for one in dict.fromkeys(shown))
    return f"Figure{name}: {' '.join(dict.fromkeys(drawn)) or '; '.join(dict.fromkeys(named)) or part}"


@cache
def drawings() -> dict[str, str]:
    """The first line on each function of `common.lesson.plots` that draws a figure."""
    found = {}
    for path in sorted((ROOT / "common" / "lesson" / "plots").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or ast.Constant("")) == "Figure":
                line = (ast.get_docstring(node) or "").split("\n")[0].replace("`", "")
                line = re.sub(r" \[[^]]*\](?: or \[[^]]*\])?| \([^)]*\)", "", line)  # shapes, and names of arguments
                found[node.name] = line.split(";")[0].rstrip(".") + "."
    return found


# Pages that are made


@dataclass(frozen=True)
class Term:
    """A word of the glossary. `forms` are other ways to write it; one that is not `linked` is an everyday word too."""

    name: str
    forms: tuple[str, ...]
    linked: bool
    meaning: str

    @property
    def anchor(self) -> str:
        """Its id, on the glossary's page and where the lesson defines it."""
        return "term-" + re.sub(r"\W+", "-", self.name.lower()).strip("-")

    def is_written(self, text: str) -> bool:
        """Whether `text`, such as what is bold in a lesson, is this word."""
        return text.rstrip(".").lower() in {form.lower() for form in (self.name, *self.forms)}


@cache
def terms() -> tuple[Term, ...]:
    """The words of site/glossary.md. A name is followed by its other forms, in brackets, or by "not linked"."""
    text = (HERE / "glossary.md").read_text(encoding="utf-8")
    found = []
    for name, more, meaning in re.findall(r"(?m)^(\S[^\n(]*?)(?: \((.+)\))?\n: ((?:.+\n)+)", text):
        forms = tuple(form for form in more.split(", ") if form and form != "not linked")
        found.append(Term(name, forms, "not linked" not in more, " ".join(meaning.split())))
    return tuple(found)


@cache
def defined_in() -> dict[str, str]:
    """The lesson that defines each term of the glossary: the first that has it in bold."""
    found = {}
    for step, path in lessons().items():
        cells = nbformat.read(path.with_suffix(".ipynb"), as_version=4).cells
        for bold in BOLD.findall("\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")):
            for term in terms():
                if term.is_written(" ".join(bold.split())):
                    found.setdefault(term.name, step)
    return found


def glossary_page() -> str:
    """The glossary, each word with the lesson that defines it."""
    text, titles = (HERE / "glossary.md").read_text(encoding="utf-8"), short_titles()
    for term in terms():
        step = defined_in().get(term.name)
        also = f" ({', '.join(term.forms)})" if term.forms else ""
        title = titles.get(f"sessions/{step}.ipynb", step)
        where = f' <a href="sessions/{step}.html#{term.anchor}">{title}</a>' if step else ""
        entry = f'<span id="{term.anchor}"></span>{term.name}{also}\n: {term.meaning}{where}\n'
        head = re.escape(term.name) + r"(?: \(.+\))?\n: (?:.+\n)+"
        text = re.sub(rf"(?m)^{head}", lambda _, entry=entry: entry, text, count=1)
    return text


def with_anchors(text: str, step: str, placed: set[str]) -> str:
    """The Markdown `text` of a lesson with an anchor where it first defines a term; `placed` gathers those it has."""

    def anchored(found: re.Match) -> str:
        for term in terms():
            here = defined_in()[term.name] == step and term.name not in placed
            if here and term.is_written(" ".join((found[1] or "").split())):
                placed.add(term.name)
                return f'<span id="{term.anchor}"></span>{found[0]}'
        return found[0]

    return BOLD.sub(anchored, text)


def results_page() -> str:
    """A table of every record: what each network reached, over how many seeds."""
    rows, titles = [], short_titles()
    for path in sorted(ROOT.glob("sessions/S*/records/*.json")):
        step = f"{path.parent.parent.name}/{path.stem}"
        lesson = lessons().get(step)
        page = lesson.with_suffix(".ipynb").relative_to(ROOT).as_posix() if lesson else ""
        name = f"[{titles.get(page, step)}]({page})" if lesson else step
        told = [quotes.quote(f"{step} {quantity}").split()[0] for quantity in QUANTITIES]  # the head has the unit
        rows.append(f"| {name} | " + " | ".join(told) + " |")
    heads = " | ".join(QUANTITIES.values())
    lines = [f"| network | {heads} |", "|---" * (len(QUANTITIES) + 1) + "|", *rows]
    text = (HERE / "results.md").read_text(encoding="utf-8")
    return SORTABLE + text.replace("TABLE\n", "\n".join(lines) + "\n")


def reference_pages() -> dict[str, str]:
    """A page for each module of `common`, made from its docstrings: the text of each by its name."""
    modules = ["common", *(module.name for module in pkgutil.walk_packages(common.__path__, "common."))]
    return {module: reference_page(module, modules) for module in modules}


def reference_page(module: str, modules: list[str]) -> str:
    """The page of one module: what it says of itself, its functions and classes, and the modules inside it."""
    inner = [name for name in modules if name.rpartition(".")[0] == module]
    title = "The code: common" if module == "common" else module.removeprefix("common.")
    members = [] if inner else ["   :members:"]  # a package only passes on what its modules define
    page = "\n".join([f"# {title}", "", "```{eval-rst}", f".. automodule:: {module}", *members, "```", ""])
    return page + (f"\n{_contents('', inner, hidden=False)}\n" if inner else "")


# Files


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)
