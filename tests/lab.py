"""A real JupyterLab in a real browser, for tests that click and look."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "for-a-test"

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = [
    "--no-sandbox",  # root, as which CI runs, has no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Server:
    """A JupyterLab server whose folder, settings and kernels are a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "lab.log"
        private = folder / "private"
        names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        lab_names = ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
        environment = {name: str(private / name.lower()) for name in (*names, *lab_names)}
        port_file = private / "port.json"
        private.mkdir()
        options = {
            "ServerApp.port": 0,
            "ServerApp.root_dir": folder,
            "ServerApp.info_file": port_file,
            "ServerApp.allow_root": True,
            "ServerApp.open_browser": False,
            "IdentityProvider.token": TOKEN,
            "LabApp.expose_app_in_browser": True,
            "LabApp.news_url": None,
            "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        wait_until(self._is_up, "JupyterLab answers", 60)

    def _is_up(self) -> bool:
        assert self.process.poll() is None, f"JupyterLab has ended: {self.log.read_text()[-2000:]}"
        found = [line for line in self.log.read_text().splitlines() if "http://127.0.0.1:" in line]
        if not found:
            return False
        port = found[-1].partition("http://127.0.0.1:")[2].partition("/")[0]
        self.url = f"http://127.0.0.1:{port}"
        try:
            with urllib.request.urlopen(f"{self.url}/api?token={TOKEN}") as answer:
                return answer.status == 200
        except OSError:
            return False

    def close(self) -> None:
        """End it, and its kernels."""
        self.process.terminate()
        self.process.wait(20)


class Notebook:
    """An open notebook: cells are typed and run from the top down."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self._cells = 0
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        # A cell that is run before the kernel is connected is dropped without a word.
        page.wait_for_function(
            "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"
        )

    def run(self, code: str) -> Any:
        """Type code into the last cell and run it; return its output area (a locator). Does not wait for its end."""
        cell = self.page.locator(".jp-Notebook .jp-CodeCell").nth(self._cells)
        self._cells += 1
        cell.locator(".cm-content").click()
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Shift+Enter")
        return cell.locator(".jp-Cell-outputArea")

    def leave_out(self, code: str) -> None:
        """Empty the cells that have this code."""
        self.page.evaluate(
            """code => { for (const cell of jupyterapp.shell.currentWidget.content.widgets)
                if (cell.model.sharedModel.source.trim() === code) cell.model.sharedModel.source = ''; }""",
            code,
        )

    def show(self, text: str) -> None:
        """Scroll to the first cell of text that has this in it, at the top."""
        self.page.evaluate(
            """text => { for (const cell of document.querySelectorAll('.jp-MarkdownCell'))
                if (cell.innerText.includes(text)) { cell.scrollIntoView({block: 'start'}); return; } }""",
            text,
        )

    def wait_idle(self, timeout_s: float = 30.0) -> None:
        """Wait until nothing runs any more."""
        busy = "() => ![...document.querySelectorAll('.jp-InputPrompt')].some(p => p.innerText.includes('*'))"
        self.page.wait_for_function(busy, timeout=timeout_s * 1000)

    def run_all(self) -> None:
        """Run all cells. Does not wait for their end."""
        self.page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")

    def press_stop(self) -> None:
        """Press the button that interrupts the kernel."""
        self.page.locator("[data-jp-item-name='interrupt']").locator("visible=true").first.click()

    def save(self) -> None:
        """Save the notebook to its file."""
        self.page.evaluate("jupyterapp.commands.execute('docmanager:save')")


@contextmanager
def server() -> Iterator[Server]:
    """Run a server in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="enl-") as name:
        running = Server(Path(name))
        try:
            yield running
        finally:
            running.close()


@contextmanager
def browser(width: int = 1100, height: int = 1400) -> Iterator[Any]:
    """Run a browser and give one page of it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(60_000)
        try:
            yield page
        finally:
            chromium.close()


def open_notebook(page: Any, lab: Server, name: str, source: Path | None = None) -> Notebook:
    """Open a notebook of this name, empty or a copy of another, in a window of its own."""
    path = lab.folder / name
    if source is None:
        empty = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell()])
        empty.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(empty, path)
    else:
        shutil.copy(source, path)
    page.goto(f"{lab.url}/lab/tree/{name}?token={TOKEN}&reset")
    return Notebook(page)
