"""The notebooks of the docs, run as their readers run them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

_spec = importlib.util.spec_from_file_location("execute_notebooks", FOLDER / "execute.py")
execute_notebooks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute_notebooks)


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_did(runtime, path):
    kept = nbformat.read(path, as_version=4)
    nbformat.validate(kept)
    fresh = execute_notebooks.executed(path)
    nbformat.validate(fresh)
    assert [shape(cell) for cell in fresh.cells] == [shape(cell) for cell in kept.cells], (
        "run docs/notebooks/execute.py"
    )


def shape(cell):
    """What a cell shows: kinds of outputs and of their data."""
    return cell.cell_type, [
        (output.output_type, sorted(output.get("data", {})), output.get("name"), output.get("ename"))
        for output in cell.get("outputs", [])
    ]
