"""The slider: it is there where somebody can move it, draws again, and leaves scripts and stored pages alone."""

import nbformat
import pytest
from nbclient import NotebookClient

from common.lesson import sliders
from common.lesson.notebooks import kernel_environment

WIDGET = "application/vnd.jupyter.widget-view+json"
CODE = """
from common.lesson import slider
def draw(value):
    print(f"drawn at {value:.4g}")
moved = slider(draw, "learning rate", low=1, high=500, first=31)
"""


def executed(environment):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(CODE),
            nbformat.v4.new_code_cell("if moved: moved.children[0].value = 50"),
            nbformat.v4.new_code_cell("if moved: print([output['text'] for output in moved.children[1].outputs])"),
        ]
    )
    client = NotebookClient(notebook, kernel_name="python3", timeout=120)
    client.execute(env=environment)
    return notebook.cells


def test_a_script_has_none():
    assert sliders.slider(pytest.fail, "learning rate", 1, 500, 31) is None


def test_a_page_that_the_course_runs_itself_has_none():
    assert all(not cell.outputs for cell in executed(kernel_environment("quick")))


def test_a_reader_has_one_and_it_draws_again(monkeypatch):
    environment = {name: value for name, value in kernel_environment("quick").items() if name != "TQDM_DISABLE"}
    first, _, last = executed(environment)
    assert any(WIDGET in output.get("data", {}) for output in first.outputs)
    assert "drawn at 50" in last.outputs[0].text
