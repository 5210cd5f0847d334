"""What the README and the first pages print is what happens."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


def blocks(path: Path, language: str, heading: str = "") -> list[str]:
    """Return the code blocks of a language, of a whole page or of the section under a heading."""
    text = path.read_text(encoding="utf-8")
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(words: list[str], folder: Path, timeout_s: float = 60.0) -> str:
    """Run a command as a user would, with this Python first on the path; return what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = sys.executable if words[0] == "python" else words[0]
    done = subprocess.run(
        [program, *words[1:]],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"
    assert not done.stderr, done.stderr
    return done.stdout


def without_numbers(text: str) -> list[str]:
    """Return lines in which every number is N: times, process ids and engine ids differ from run to run."""
    return [re.sub(r"\d+(\.\d+)?", "N", line).rstrip() for line in text.splitlines()]


def session(text: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with what is printed under it."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_the_readme_prints_the_first_script():
    scripts = blocks(ROOT / "README.md", "python", "First minutes")
    assert scripts == [(EXAMPLES / "first_script.py").read_text(encoding="utf-8")]


def test_the_first_minutes_run_as_printed(runtime, tmp_path):
    (script,) = blocks(ROOT / "README.md", "python", "First minutes")
    (commands,) = blocks(ROOT / "README.md", "console", "First minutes")
    (tmp_path / "first_script.py").write_text(script, encoding="utf-8")
    steps = session(commands)
    assert [command.split()[0] for command, _ in steps] == ["cluster", "python", "cluster"]
    try:
        for command, expected in steps:
            printed = run(shlex.split(command), tmp_path)
            assert without_numbers(printed) == without_numbers(expected), f"{command}:\n{printed}"
    finally:
        run(["cluster", "stop", "--all"], tmp_path)


def test_every_command_of_the_readme_is_there(tmp_path):
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## The `cluster` command")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| `cluster (\w+)", table, re.MULTILINE))
    for name in named:
        usage = run(["cluster", name, "--help"], tmp_path)
        row = next(line for line in table.splitlines() if line.startswith(f"| `cluster {name}"))
        for option in re.findall(r"`(?:[^`]* )?(--?\w+)[^`]*`", row):
            assert option in usage, f"cluster {name} has no {option}"
    listed = run(["cluster", "--help"], tmp_path).split("Commands:")[1]
    assert named == set(re.findall(r"^  (\w+)", listed, re.MULTILINE)) - {"version"}


def test_getting_started_runs_as_printed(runtime, tmp_path):
    page = ROOT / "docs" / "getting-started.md"
    for block in blocks(page, "console"):
        for command, _ in session(block):
            run(shlex.split(command), tmp_path)
    run(["cluster", "start", "-n", "4"], tmp_path)
    try:
        script = "\n".join(blocks(page, "python"))
        (tmp_path / "page.py").write_text(script, encoding="utf-8")
        printed = run(["python", "page.py"], tmp_path).splitlines()
    finally:
        run(["cluster", "stop"], tmp_path)
    promised = re.findall(r"^\s*print\(.*#\s(\S[^:\n]*)(?::.*)?$", script, re.MULTILINE)
    at = 0
    for wanted in promised:
        assert wanted in printed[at:], f"{wanted!r} was not printed after {printed[:at][-1:]}: {printed[at:]}"
        at = printed.index(wanted, at) + 1
    assert len(promised) >= 10


def test_the_demo_leaves_nothing_behind(runtime, tmp_path):
    printed = run(["python", str(EXAMPLES / "demo.py")], tmp_path, timeout_s=110.0)
    assert "no process and no file of it is left" in printed
    assert re.search(r"8 engines +\d+\.\d\d s\nplain loop +\d+\.\d\d s\n", printed)
