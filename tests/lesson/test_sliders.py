"""The slider: it is there where somebody can move it, draws again, and leaves scripts and stored pages alone."""

import nbformat
import pytest
from nbclient import NotebookClient

from common.lesson import sliders
from common.system.environment import kernel_environment

WIDGET = "application/vnd.jupyter.widget-view+json"
CODE = """
from common.lesson import slider
def draw(value):
    print(f"drawn at {value:.4g}")
moved = slider(draw, "learning rate", low=1, high=500, first=31)
"""


def test_a_script_has_none():
    assert sliders.slider(pytest.fail, "learning rate", 1, 500, 31) is None


@pytest.fixture(scope="module")
def cells():
    """A page run as the course runs it, and then, in the same kernel, as its reader does."""
    sources = [CODE, "import os\nprint(os.environ.pop('TQDM_DISABLE'), moved)", CODE]
    sources += ["moved.children[0].value = 50", "print([output['text'] for output in moved.children[1].outputs])"]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute(env=kernel_environment("quick"))
    return notebook.cells


def test_a_page_that_the_course_runs_itself_has_none(cells):
    assert not cells[0].outputs
    assert cells[1].outputs[0].text == "1 None\n"


def test_a_reader_has_one_and_it_draws_again(cells):
    assert any(WIDGET in output.get("data", {}) for output in cells[2].outputs)
    assert "drawn at 50" in cells[4].outputs[0].text
