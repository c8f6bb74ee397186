"""What a lesson has for its reader: a switch, things to do, a quiz, and no number that the page does not show."""

import ast
import json
import os
import re
import subprocess
import sys

import jupytext
import pytest

from common.lesson.notebooks import is_own, lessons, read
from common.recipe import ROOT

# Numbers of other people, which no cell of a page can print.
SOURCES = {
    "S5/step1_first_network": {"99.21": "the source's accuracy on its training images"},
    "S6/part2_step1_dense_head": {"99.41": "the source's accuracy on the test images, after epoch 19"},
    "S6/part2_step3_global_pooling": {
        "99.33": "the source's accuracy",
        "99.42": "the same in a later version of its text",
    },
}


def cells(step):
    return jupytext.reads(lessons()[step].read_text(encoding="utf-8"), fmt="py:percent").cells


def prose(step):
    return [cell.source for cell in cells(step) if cell.cell_type == "markdown"]


def code(step):
    return [cell.source for cell in cells(step) if cell.cell_type == "code"]


@pytest.mark.parametrize("step", lessons())
def test_the_first_cell_of_code_has_the_switch(step):
    first = next(cell for cell in code(step))
    assert re.search(r'^TRAIN = "recorded"  # .+', first, re.MULTILINE)
    assert any("command_line(recipe, TRAIN)" in cell for cell in code(step))


@pytest.mark.parametrize("step", lessons())
def test_there_is_something_to_predict_to_write_and_to_try(step):
    """A page without digits has an experiment of its own, a cell with that tag, in place of the course's."""
    text, source = "\n".join(prose(step)), "\n".join(code(step))
    assert len(re.findall(r"\*\*Predict first\.\*\*", text)) >= 1
    assert re.search(r"^\w+ = exercises\.check\(", source, re.MULTILINE), "nothing that the student writes is used"
    own = [cell.source for cell in cells(step) if "experiment" in cell.metadata.get("tags", [])]
    assert "experiment(" in source or any(re.search(r"^prediction = None  #", cell, re.MULTILINE) for cell in own)


@pytest.mark.parametrize("step", lessons())
def test_the_quiz_has_three_or_four_questions_with_folded_answers(step):
    quiz = "\n\n".join(prose(step)).partition("## Quiz")[2].partition("\n## ")[0]
    questions = re.findall(r"^\*\*Question \d+\.\*\* ", quiz, re.MULTILINE)
    assert 3 <= len(questions) <= 4
    assert len(re.findall(r"<details><summary>Answer</summary>\n\n.+?\n\n</details>", quiz, re.DOTALL)) == len(
        questions
    )
    for part in re.split(r"^\*\*Question \d+\.\*\* ", quiz, flags=re.MULTILINE)[1:]:
        assert re.findall(r"^- \*\*(\w)\*\* ", part, re.MULTILINE) in (list("abc"), list("abcd"))


@pytest.mark.parametrize("step", lessons())
def test_every_fold_is_closed_and_every_solution_belongs_to_a_check_and_has_a_hint(step):
    text = "\n\n".join(prose(step))
    assert text.count("<details>") == text.count("</details>")
    names = set(checked("\n".join(code(step))))
    solved = re.findall(r"<summary>Solution</summary>.*?```python\n.*?^def (\w+)\(", text, re.DOTALL | re.MULTILINE)
    assert set(solved) == names
    assert text.count("<summary>Hint</summary>") >= len(names)


def checked(source):
    """The names of the functions that a cell checks, in order."""
    return re.findall(r"exercises\.check\((\w+)", source)


@pytest.mark.parametrize("step", lessons())
def test_the_stored_page_reports_every_stub_as_open(step):
    notebook = read(lessons()[step].with_suffix(".ipynb"))
    for cell in notebook.cells:
        if cell.cell_type == "code" and checked(cell.source) and not is_own(cell, notebook):
            said = "".join(output.get("text", "") for output in cell.outputs)
            assert re.findall(r"(?m)^open {7}(\w+):", said) == checked(cell.source)


@pytest.mark.parametrize("step", lessons())
def test_every_stub_that_holds_its_solution_is_right(step, tmp_path, request):
    """The whole page is run so, as a script: what comes after an exercise goes on with the reader's own function."""
    if not request.config.getoption("--faults-full"):
        pytest.skip("needs --faults-full")
    solutions = "\n".join(
        re.findall(r"<summary>Solution</summary>.*?```python\n(.*?)```", "\n".join(prose(step)), re.DOTALL)
    )
    written = {node.name: node for node in ast.parse(solutions).body if isinstance(node, ast.FunctionDef)}
    tree = ast.parse("\n".join(code(step)))
    names = [name for cell in code(step) for name in checked(cell)]
    tree.body = [written[node.name] if getattr(node, "name", None) in names else node for node in tree.body]
    script = tmp_path / "filled.py"
    script.write_text(ast.unparse(tree), encoding="utf-8")
    command = [sys.executable, str(script), "--quick", f"--out={tmp_path / 'out'}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"(?m)^right {6}(\w+):", done.stdout) == names
    assert "not yet" not in done.stdout


NUMBER = re.compile(r"(?<![\w.,/#-])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w])|(?<![\w.,/#-])\d+(?:\.\d+)?(?![\w.]*\w)")


def numbers(text):
    return set(NUMBER.findall(text))


def shown(step):
    """Every number that the page's code or outputs hold, with and without thousands separators."""
    notebook = read(lessons()[step].with_suffix(".ipynb"))
    texts = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts.append(cell.source.replace("_", ""))
            for output in cell.outputs:
                texts.append(output.get("text", "") or json.dumps(output.get("data", {}).get("text/plain", "")))
    found = set(re.findall(r"\d[\d,]*(?:\.\d+)?", "\n".join(texts)))
    return {number.rstrip(",").replace(",", "") for number in found}


@pytest.mark.parametrize("step", lessons())
def test_every_number_in_the_text_is_one_that_the_page_shows(step):
    """Those with a decimal point, and whole ones of 100 or more; a number of a record names it in a comment instead."""
    known = shown(step) | set(SOURCES.get(step, {}))
    unknown = []
    for text in prose(step):
        text = re.sub(r"[\d.,]+( %| points?| [a-z]+)?<!--.*?-->", "", text)
        text = re.sub(r"\s(?:19|20)\d\d(?=\]\()", "", text)  # the year of a source, at the end of its link's text
        text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|https?://\S+|\d+x\d+(x\d+)*", "", text, flags=re.DOTALL)
        for number in sorted(numbers(text)):
            plain = number.replace(",", "")
            if ("." in plain or float(plain) >= 100) and plain not in known:
                unknown.append(number)
    assert unknown == []


def test_the_list_of_sources_has_no_number_too_many():
    for step, numbers_of in SOURCES.items():
        assert all(number in "\n".join(prose(step)) for number in numbers_of)
        assert (ROOT / "sessions" / f"{step}.py").exists()
