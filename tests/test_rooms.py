"""The rooms of common/: nine names, and imports that go one way."""

import ast
import re
import subprocess
import sys

import pytest

import common
from common.recipe import ROOT

ORDER = re.findall(r"^- `(\w+)`:", common.__doc__, flags=re.MULTILINE)  # as the package's own page lists them
MODULES = sorted(path for path in (ROOT / "common").rglob("*.py") if "__pycache__" not in path.parts)


def room(name: str) -> str:
    """ "training" for "common.training.loops"."""
    return name.split(".")[1]


def test_common_shows_the_nine_names_that_its_page_lists():
    shown = {path.stem for path in (ROOT / "common").iterdir() if not path.name.startswith(("_", "."))}
    assert shown == set(ORDER) and len(ORDER) == 9


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_room_imports_one_that_comes_later(path):
    """Imports inside of functions count too."""
    own = path.relative_to(ROOT / "common").parts[0].removesuffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "common":
            names += [f"common.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
    later = [name for name in names if name.startswith("common.") and own != "__init__"]
    later = [name for name in later if ORDER.index(room(name)) > ORDER.index(own)]
    assert later == []


def test_no_modules_import_each_other_in_a_circle():
    """Module by module, at import time; a package counts as its `__init__`."""
    found = {}
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        targets = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("common"):
                targets |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        found[name] = targets
    found = {
        name: {target for target in targets if target in found and target != name} for name, targets in found.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join([*path, name])}"
        if name not in done:
            for target in sorted(found[name]):
                parent = target in {name.rpartition(".")[0]}  # a module may take its siblings from its own package
                if not parent:
                    visit(target, (*path, name))
            done.add(name)

    for name in found:
        visit(name, ())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_says_in_its_first_line_what_it_is(path):
    documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert documentation and len(documentation.splitlines()[0]) > 30


def test_a_process_ends_without_a_last_search_for_garbage():
    script = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0)); import common"
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True).stdout == "True\n"
