"""The shape of the package: who may import whom, what decides without doing, and how long a file may be.

The tables are the architecture. To change it, change them, and say why.
"""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"

SHARED = {
    "certificate",
    "config",
    "daskworkers",
    "dependent",
    "errors",
    "failure",
    "holders",
    "ids",
    "interactive",
    "markup",
    "objects",
    "pickles",
    "pieces",
    "placeholders",
    "prepickled",
    "publishing",
    "reasons",
    "recorder",
    "rendezvous",
    "security",
    "seeds",
    "serialize",
    "streams",
    "tensors",
    "transport",
    "usermodules",
    "wire",
}
"""What all programs have in common."""

MAY_IMPORT: dict[str, set[str]] = {
    # The bottom: what everything else rests on.
    "ids": set(),
    "markup": set(),
    "wire": {"ids"},
    "certificate": set(),
    "errors": {"certificate", "ids"},
    "config": set(),
    "objects": {"config", "errors", "pieces", "transport", "wire"},
    "daskworkers": set(),
    "pieces": set(),
    "placeholders": set(),
    "publishing": set(),
    "reasons": {"ids", "wire"},
    "holders": {"ids", "reasons", "wire"},
    "recorder": set(),
    "seeds": set(),
    "streams": {"wire"},
    "tensors": set(),
    "usermodules": set(),
    "pickles": {"culprit", "errors", "pieces", "placeholders", "tensors", "usermodules"},
    "culprit": {"pickles"},
    "failure": {"culprit", "errors", "pickles"},
    "serialize": {"culprit", "failure", "pickles", "usermodules"},
    "dependent": {"errors", "pickles", "serialize", "usermodules"},
    "interactive": {"dependent", "pickles", "serialize"},
    "prepickled": {"serialize"},
    "security": {"config", "transport"},
    "transport": {"config", "wire"},
    "rendezvous": {"config", "errors"},
    "leftovers": {"rendezvous"},
    # The programs share the wire and the bottom, never one another.
    "controller": SHARED,
    "nanny": SHARED | {"leftovers"},
    "engine": SHARED,
    "client": SHARED | {"jupyter"},
    # How results are shown and cells run: the face of the client in notebooks and terminals.
    "jupyter": SHARED | {"client"},
    # What people start clusters with knows how to be a client; it starts the programs by command.
    "cluster": SHARED | {"client", "leftovers"},
    # The proof that nothing is lost: it starts a cluster, is a client of it, and hurts it.
    "drill": SHARED | {"client", "cluster", "leftovers"},
    "cli": SHARED | {"client", "cluster", "drill", "leftovers"},
    "__main__": {"cli"},
    # The public names. They are loaded when they are used.
    "__init__": {"client", "cluster", "dependent", "errors", "interactive", "prepickled", "publishing", "serialize"},
}
"""By module or package of `src`: which others it may import."""

LATE = {("pickles", "culprit"), ("client", "jupyter")}
"""Who imports whom within a function because the other rests on it: only when a pickle failed, to find out why; only
when a result is to be shown, or a client is made in IPython."""

SHELLS = {
    "controller": {"app", "server", "journal/archive", "journal/disk", "journal/store", "journal/writer"},
    "nanny": {
        "app",
        "server",
        "children",
        "cores",
        "memory",
        "metrics",
        "oom",
        "output",
        "relief",
        "zygote",
        "store/files",
        "store/guests",
        "store/heap",
        "store/lanes",
        "store/mapped",
        "store/mover",
        "store/reach",
        "store/serving",
        "store/start",
        "store/thread",
    },
}
"""Modules that do. All others of these packages decide, and only that."""

FLOORS = ("results", "calls", "connection", "records", "maps", "guests", "views", "")
"""The folders of `src/client`, from the ground up, and above all of them what is in none. What a module imports when it
is loaded is of its own floor or of one below; what only types, or single calls, need may be anywhere.
"""

NOT_FOR_DECIDERS = {
    "asyncio",
    "concurrent",
    "datetime",
    "io",
    "mmap",
    "multiprocessing",
    "os",
    "pathlib",
    "psutil",
    "queue",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "tornado",
    "uuid",
    "zmq",
}
"""Sockets, clocks, threads, files and chance, which those who decide get as arguments or do without."""

LONGEST = 500
"""Lines in a file."""


class Import(NamedTuple):
    """One import statement's target: a unit of ours, or a module of others."""

    ours: bool
    name: str
    line: int


def unit_of(path: Path) -> str:
    """Return the top-level module or package of `src` that a file belongs to."""
    parts = path.relative_to(SRC).parts
    return parts[0].removesuffix(".py")


@cache
def imports_of(path: Path) -> list[Import]:
    """Return everything a file imports, wherever in it, for types only as well."""
    package = path.relative_to(SRC).parts[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [_absolute(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append(_absolute(node.module or "", node.lineno))
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            base = [part for part in base if part]
            names = [base[0]] if base else [alias.name for alias in node.names]
            found += [Import(ours=True, name=name, line=node.lineno) for name in names]
    return found


def _absolute(name: str, line: int) -> Import:
    first, _, rest = name.partition(".")
    if first in ("enginery", "src"):
        return Import(ours=True, name=rest.partition(".")[0] or first, line=line)
    return Import(ours=False, name=first, line=line)


def files() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def deciders() -> list[Path]:
    return [
        path
        for package, shells in SHELLS.items()
        for path in sorted((SRC / package).rglob("*.py"))
        if path.relative_to(SRC / package).with_suffix("").as_posix() not in shells
    ]


def show(path: Path) -> str:
    return str(path.relative_to(SRC))


@pytest.mark.parametrize("path", files(), ids=show)
def test_imports_go_where_they_may(path: Path):
    unit = unit_of(path)
    assert unit in MAY_IMPORT, f"{unit} is new: say in the table what it may import"
    wrong = [
        f"line {found.line}: {unit} imports {found.name}"
        for found in imports_of(path)
        if found.ours and found.name != unit and found.name not in MAY_IMPORT[unit]
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("path", files(), ids=show)
def test_inside_the_package_imports_are_relative(path: Path):
    absolute = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _absolute_names(node)
        if name.partition(".")[0] in ("enginery", "src")
    ]
    assert not absolute, f"absolute imports in lines {absolute}"


def _absolute_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or ""]
    return []


@pytest.mark.parametrize("path", deciders(), ids=show)
def test_those_who_decide_do_nothing(path: Path):
    wrong = [
        f"line {found.line}: {found.name}"
        for found in imports_of(path)
        if not found.ours and found.name in NOT_FOR_DECIDERS
    ]
    assert not wrong, wrong
    shells = SHELLS[unit_of(path)]
    wrong = [
        f"line {node.lineno}: {node.func.id}()"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "print", "input")
    ]
    assert not wrong, wrong
    assert shells


def test_the_table_names_nothing_that_is_not_there():
    units = {unit_of(path) for path in files()}
    assert set(MAY_IMPORT) <= units, f"in the table only: {set(MAY_IMPORT) - units}"


def test_nobody_imports_in_a_circle():
    graph = {unit: set() for unit in MAY_IMPORT if unit != "__init__"}
    for path in files():
        unit = unit_of(path)
        ours = {found.name for found in imports_of(path) if found.ours}
        graph.setdefault(unit, set()).update(o for o in ours if o not in (unit, "__init__") and (unit, o) not in LATE)
    done: set[str] = set()
    while ready := {unit for unit, others in graph.items() if others <= done} - done:
        done |= ready
    left = set(graph) - done - {"__init__"}
    assert not left, f"these import one another, or rest on some that do: {sorted(left)}"


CLIENT = SRC / "client"


@pytest.mark.parametrize("path", sorted(CLIENT.rglob("*.py")), ids=show)
def test_the_client_rests_on_the_floors_below(path: Path):
    package = path.relative_to(SRC).parts[:-1]
    mine = FLOORS.index(package[1] if len(package) > 1 else "")
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            target = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            if target[0] == "client":
                floor = target[1] if target[1:] and (CLIENT / target[1]).is_dir() else ""
                assert FLOORS.index(floor) <= mine, f"line {node.lineno} imports from {floor or 'above'}"


@pytest.mark.parametrize("path", files(), ids=show)
def test_no_file_is_too_long(path: Path):
    assert len(path.read_text().splitlines()) <= LONGEST


def test_no_module_is_named_like_one_of_the_standard_library():
    import sys

    clashes = {show(path) for path in files() if path.stem in sys.stdlib_module_names - {"__main__"}}
    assert not clashes - {"__init__.py"}


def test_every_package_is_listed():
    """`src` is the package, so its folders are listed by hand; one that is not would be missing from the wheel."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = sorted({path.parent for path in files()})
    there = [".".join(["enginery", *folder.relative_to(SRC).parts]) for folder in folders]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("folder", sorted({path.parent for path in files()}), ids=show)
def test_every_package_says_what_it_is(folder: Path):
    init = folder / "__init__.py"
    assert init.exists(), f"{folder.name} has no __init__.py"
    assert ast.get_docstring(ast.parse(init.read_text()))
