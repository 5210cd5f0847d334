"""The pages agree with one another and with the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
HOW = ROOT / "docs" / "how-it-works.md"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} links to {target}"


def test_every_decision_is_listed_once():
    folder = ROOT / "docs" / "decisions"
    files = sorted(path.name for path in folder.glob("0*.md"))
    listed = re.findall(r"^\| \[\d+\]\((.+?)\)", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == files
    assert len({name[:4] for name in files}) == len(files)
    for name in files:
        assert (folder / name).read_text(encoding="utf-8").startswith(f"# {name[:4]}: ")


FAILURES = ROOT / "docs" / "failures.md"


def test_tests_named_in_failures_exist():
    named = re.findall(r"`([\w/]+)::(test_\w+)`", FAILURES.read_text(encoding="utf-8"))
    assert len(named) > 50
    for file, name in named:
        path = ROOT / "tests" / f"{file}.py"
        assert path.exists(), f"failures.md names {file}"
        assert re.search(rf"^(async )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE), (
            f"failures.md names {file}::{name}"
        )


def test_every_failure_has_a_promise_and_a_test():
    rows = [line for line in FAILURES.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| what fails")]
    assert len(rows) > 25
    for row in rows:
        what, promise, _, tests = (cell.strip() for cell in row.strip("|").split("|"))
        assert promise, what
        assert "::test_" in tests, what


def test_how_it_works_has_two_diagrams():
    """Of the programs, and of how large values go."""
    assert len(re.findall(r"^```", HOW.read_text(encoding="utf-8"), re.MULTILINE)) == 4


def test_constants_are_as_printed():
    rows = re.findall(r"^\| `([a-z_.]+)\.([A-Z_]+)` \| ([\d.]+) \|", HOW.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 5
    for module, name, value in rows:
        assert getattr(importlib.import_module(f"enginery.{module}"), name) == float(value), f"{module}.{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_in_pages_exist(page):
    for name in re.findall(r"`((?:src|tests|docs|benchmarks)/[\w/.-]*)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
