"""The wheel holds exactly what is under `src`, and `src` itself cannot be imported by that name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INFO = "enginery-"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel of a copy of the checkout: a build writes into the tree it builds from, and reads what others left."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info"))
    # Isolated: a build must not see the checkout this test runs in.
    command = [
        sys.executable,
        "-P",
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(copy / "dist"),
        str(copy),
    ]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (copy / "dist").glob("*.whl")
    (copy / "expected").write_text("\n".join(_expected(copy / "src")))
    with zipfile.ZipFile(path) as opened:
        yield opened


def _expected(src: Path) -> list[str]:
    return sorted("enginery/" + str(path.relative_to(src)) for path in src.rglob("*") if path.is_file())


def _read(wheel: zipfile.ZipFile, name: str) -> str:
    (found,) = (entry for entry in wheel.namelist() if entry.startswith(INFO) and entry.endswith(".dist-info/" + name))
    return wheel.read(found).decode()


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: zipfile.ZipFile):
    expected = (Path(wheel.filename or "").parents[1] / "expected").read_text().splitlines()
    content = sorted(name for name in wheel.namelist() if not name.startswith(INFO))
    assert content == expected, {"missing": set(expected) - set(content), "extra": set(content) - set(expected)}


def test_the_wheel_says_that_it_is_typed(wheel: zipfile.ZipFile):
    assert "enginery/py.typed" in wheel.namelist()


def test_the_wheel_brings_the_command(wheel: zipfile.ZipFile):
    scripts = ConfigParser()
    scripts.read_string(_read(wheel, "entry_points.txt"))
    assert dict(scripts["console_scripts"]) == {"cluster": "enginery.cli:main"}


def test_the_wheel_is_for_any_python_3_and_brings_its_license(wheel: zipfile.ZipFile):
    assert "Root-Is-Purelib: true" in _read(wheel, "WHEEL")
    metadata = Parser().parsestr(_read(wheel, "METADATA"))
    assert metadata["Name"] == "enginery"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert _read(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()


def test_the_package_cannot_be_imported_by_the_name_of_its_folder():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import src"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert 'ImportError: this folder is the package "enginery"' in done.stderr


def test_the_package_says_which_version_it_is(wheel: zipfile.ZipFile):
    import enginery

    assert Parser().parsestr(_read(wheel, "METADATA"))["Version"] == enginery.__version__
