"""Measure every module of Python's standard library on a cluster of 8 engines, and again in a plain loop.

Run it by `make demo`. It starts a cluster, parses every module it finds on the engines, shows progress and a table,
does the same in a plain loop, compares results and times, stops the cluster, and checks that nothing is left of it.
"""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from enginery import Client, Cluster, rendezvous
from rich.console import Console
from rich.progress import track
from rich.table import Table

ENGINES = 8
LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.comprehension)
CHOICES = (ast.If, ast.IfExp, ast.ExceptHandler, ast.match_case, ast.Assert)


class Module(NamedTuple):
    """What there is to say about one module."""

    name: str
    lines: int = 0
    comments: int = 0
    classes: int = 0
    functions: int = 0
    branches: int = 0
    longest: str = ""
    longest_lines: int = 0
    busiest: str = ""
    busiest_branches: int = 0
    problem: str = ""


def find_modules() -> list[Path]:
    """Return every source file of the standard library, without its tests and without what others installed."""
    root = Path(sysconfig.get_path("stdlib"))
    foreign = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    return sorted(path for path in root.rglob("*.py") if foreign.isdisjoint(path.relative_to(root).parts))


def branches_of(node: ast.AST) -> int:
    """Return how many places below a node go one way or another."""
    total = 0
    for inner in ast.walk(node):
        total += isinstance(inner, LOOPS + CHOICES)
        if isinstance(inner, ast.BoolOp):
            total += len(inner.values) - 1
    return total


def measure(path: Path) -> Module:
    """Parse one module and measure it."""
    name = path.relative_to(sysconfig.get_path("stdlib")).with_suffix("").as_posix().replace("/", ".")
    try:
        source = path.read_bytes()
        tree = ast.parse(source, filename=str(path))
    except (OSError, SyntaxError, ValueError) as error:  # files that are broken on purpose
        return Module(name, problem=f"{type(error).__name__}: {error}")
    lines = source.splitlines()
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [((node.end_lineno or node.lineno) - node.lineno + 1, node.name) for node in functions]
    branches = [(1 + branches_of(node), node.name) for node in functions]
    longest_lines, longest = max(lengths, default=(0, ""))
    busiest_branches, busiest = max(branches, default=(0, ""))
    return Module(
        name,
        lines=len(lines),
        comments=sum(line.lstrip().startswith(b"#") for line in lines),
        classes=sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)),
        functions=len(functions),
        branches=branches_of(tree),
        longest=longest,
        longest_lines=longest_lines,
        busiest=busiest,
        busiest_branches=busiest_branches,
    )


def on_the_cluster(client: Client, modules: list[Path], console: Console) -> tuple[list[Module], float]:
    """Measure the modules on the engines; return the results, in order, and the seconds it took."""
    began = time.perf_counter()
    arriving = client.map(measure, modules)
    results = list(track(arriving, f"on {ENGINES} engines", total=len(modules), console=console))
    return results, time.perf_counter() - began


def in_a_loop(modules: list[Path], console: Console) -> tuple[list[Module], float]:
    """Measure the modules here, one after the other; return the results and the seconds it took."""
    began = time.perf_counter()
    results = [measure(path) for path in track(modules, "in a plain loop", console=console)]
    return results, time.perf_counter() - began


def show(results: list[Module], console: Console) -> None:
    """Print what was found."""
    lines = sum(r.lines for r in results)
    table = Table(title=f"Python {sys.version.split()[0]}, standard library: {len(results):,} modules, {lines:,} lines")
    for heading in ("most ...", "module", "where", "figure"):
        table.add_column(heading, justify="right" if heading == "figure" else "left")
    most = max(results, key=lambda r: r.lines)
    table.add_row("lines", most.name, "", f"{most.lines:,}")
    most = max(results, key=lambda r: r.functions)
    table.add_row("functions", most.name, "", f"{most.functions:,}")
    most = max(results, key=lambda r: r.classes)
    table.add_row("classes", most.name, "", f"{most.classes:,}")
    most = max(results, key=lambda r: r.longest_lines)
    table.add_row("lines in one function", most.name, most.longest, f"{most.longest_lines:,}")
    most = max(results, key=lambda r: r.busiest_branches)
    table.add_row("branches in one function", most.name, most.busiest, f"{most.busiest_branches:,}")
    most = max((r for r in results if r.lines >= 100), key=lambda r: r.comments / r.lines)
    table.add_row("comments", most.name, "", f"{most.comments / most.lines:.0%}")
    console.print(table)
    classes, functions = sum(r.classes for r in results), sum(r.functions for r in results)
    branches, comments = sum(r.branches for r in results), sum(r.comments for r in results)
    console.print(
        f"in all {classes:,} classes, {functions:,} functions, {branches:,} branches, {comments / lines:.1%} comments"
    )
    broken = [r for r in results if r.problem]
    if broken:
        console.print(f"{len(broken)} could not be parsed: {', '.join(r.name for r in broken[:5])}")


def compare(cluster_s: float, loop_s: float, console: Console) -> None:
    """Print both times."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    console.print(f"{ENGINES} engines   {cluster_s:6.2f} s")
    console.print(f"plain loop  {loop_s:6.2f} s")
    gain, most = loop_s / cluster_s, min(cores, ENGINES)
    console.print(f"that is {gain:.2f} times as fast; {most} would be the most that {cores} cores allow")


def find_processes(name: str) -> list[psutil.Process]:
    """Return what runs of the demo's cluster: our child, the nanny, and those that have the cluster's name from it."""
    found = psutil.Process().children()
    for process in psutil.process_iter():
        try:
            if process.environ().get("ENGINERY_CLUSTER") == name:
                found.append(process)
        except psutil.Error:  # not ours, or gone
            continue
    return found


def check_gone(name: str) -> None:
    """Exit with an error if a process or a file of the cluster is still there."""
    processes = find_processes(name)
    files = [info.directory for info in rendezvous.list_clusters() if info.name == name]
    if processes or files:
        sys.exit(f"something is left: processes {processes}, files {files}")


def main() -> None:
    """Run the demo."""
    console = Console()
    modules = find_modules()
    began = time.perf_counter()
    cluster = Cluster(n=ENGINES)
    with cluster as client:
        ready_s = time.perf_counter() - began
        console.print(
            f"{len(client)} engines are ready after {ready_s:.2f} s, in {len(find_processes(cluster.name))} processes"
        )
        results, cluster_s = on_the_cluster(client, modules, console)
        stopping = time.perf_counter()
    stop_s = time.perf_counter() - stopping
    check_gone(cluster.name)
    console.print(f"the cluster is stopped after {stop_s:.2f} s; no process and no file of it is left")
    expected, loop_s = in_a_loop(modules, console)
    if results != expected:
        sys.exit("the cluster's results differ from those of the plain loop")
    show(results, console)
    compare(cluster_s, loop_s, console)


if __name__ == "__main__":
    main()
