"""Run a chapter and save it with its outputs, the way a reader without a kernel needs it.

Layer: lab (imports nothing of the package).

    python -m minicontainer.lab.publish notebooks/00-the-race.ipynb …

Saved are outputs and execution counts: without a count nbval would compare nothing. Not saved are a widget's state and
its view: a page without the kernel could only say that it doesn't find it. A live view's last picture takes its place.
What differs from machine to machine for no reason (the Python version, times of execution) is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

VIEW = "application/vnd.jupyter.widget-view+json"
CELL_TIMEOUT = 300
"""Seconds that a cell may take."""
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_QUESTION = """
import ipywidgets, json
print(json.dumps(ipywidgets.Widget.get_manager_state()))
"""


def publish(path: Path) -> None:
    """Run the notebook at `path` from fresh and save it in its place. Raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    place = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=CELL_TIMEOUT, kernel_name="python3", resources=place, record_timing=False)
    client.reset_execution_trackers()
    with client.setup_kernel():
        for position, cell in enumerate(notebook.cells):
            client.execute_cell(cell, position)
        widgets = _widgets(client, notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            still(output.get("data", {}), widgets)
    notebook.metadata = nbformat.from_dict(METADATA)  # type: ignore[no-untyped-call]
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


def _widgets(client: NotebookClient, notebook: Any) -> dict[str, dict[str, Any]]:
    """The state of each widget in the kernel, by its id.

    The kernel is asked, in a cell that isn't saved: what a widget's thread sends after its cell has ended, nbclient
    leaves unread.
    """
    notebook.cells.append(nbformat.v4.new_code_cell(_QUESTION))  # type: ignore[no-untyped-call]
    answer = client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
    notebook.cells.pop()
    return {model: widget["state"] for model, widget in json.loads(answer.outputs[0].text)["state"].items()}


def still(data: dict[str, Any], widgets: dict[str, dict[str, Any]]) -> None:
    """Replace the view of a widget, in the MIME bundle of an output, by the last picture that the widget showed."""
    view = data.pop(VIEW, None)
    picture = _picture(view["model_id"], widgets) if view else ""
    if picture:
        data["image/svg+xml"] = picture


def _picture(model: str, widgets: dict[str, dict[str, Any]]) -> str:
    """The SVG in a widget, or in one of those that it holds."""
    state = widgets.get(model, {})
    value = str(state.get("value", ""))
    if value.startswith("<svg"):
        return value
    children = (_picture(str(child).removeprefix("IPY_MODEL_"), widgets) for child in state.get("children", ()))
    return next(filter(None, children), "")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        publish(Path(argument))
