"""Run the notebooks of this folder anew, and keep what they show: `python docs/notebooks/execute.py`."""

from pathlib import Path

import nbclient
import nbformat

FOLDER = Path(__file__).parent


def executed(path: Path) -> nbformat.NotebookNode:
    """Return a notebook after all of its cells have run. Raises what a cell raises that is not meant to."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", record_timing=False, coalesce_streams=True
    )
    return client.execute()


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(executed(path), path)
        print(f"{path.name} has run")
