"""What the pages of docs/howto say is so: their code runs, in order, and comes to what its comments say.

An expression with a value in the comment behind it yields that value; a `print(...)` with a comment prints a line that
ends with it, where `...` is any text. A value with `...` in it is an impression, and is not compared. (The pages about
moving over have two columns, and a test of their own.)
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import joblib
import pytest
from enginery import Client

from helpers import wait_until

PAGES = sorted(
    page for page in (Path(__file__).parents[2] / "docs" / "howto").glob("*.md") if not page.name.startswith("from-")
)


class Page(ast.NodeTransformer):
    """The code of a page; expressions with a value in their comment are checked when they have run."""

    def __init__(self, text: str, name: str = "page") -> None:
        self.blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        self.name = name
        self.checked = 0
        self.promised = re.findall(r"^ *print\(.*\)  # (.*)$", "".join(self.blocks), re.MULTILINE)
        self.lines: list[bytes] = []

    def run(self, scope: dict) -> None:
        scope["_agree"] = self.agree
        for block in self.blocks:
            self.lines = [line.encode() for line in block.splitlines()]
            tree = ast.fix_missing_locations(self.visit(ast.parse(block)))
            exec(compile(tree, self.name, "exec", dont_inherit=True), scope)

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        said = self.lines[node.end_lineno - 1][node.end_col_offset :].decode().strip().removeprefix("# ")
        prints = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "print"
        if not prints and "..." not in said and (is_literal(said) or said.startswith(("[", "("))):
            where = ast.Constant(f"{self.name}: {ast.unparse(node)}")
            checked = ast.Call(ast.Name("_agree", ast.Load()), [node.value, ast.Constant(said), where], [])
            return ast.copy_location(ast.Expr(checked), node)
        return node

    def agree(self, got: object, said: str, where: str) -> None:
        if is_literal(said):
            assert got == ast.literal_eval(said), where
        else:
            assert repr(got) == said, where
        self.checked += 1

    def compare(self, printed: str) -> None:
        lines = iter(printed.splitlines())
        for promise in self.promised:
            pattern = re.escape(promise).replace(r"\.\.\.", ".*") + "$"
            assert any(re.search(pattern, line) for line in lines), f"{promise!r} is not printed in its turn: {printed}"


def is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return False
    return True


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_page_is_true(cluster, path, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ENGINERY_CLUSTER", cluster.name)
    monkeypatch.chdir(tmp_path)
    page = Page(path.read_text(encoding="utf-8"), path.name)
    with Client() as client:
        monkeypatch.setitem(joblib.parallel.BACKENDS, "enginery", joblib.parallel.BACKENDS["enginery"])
        scope = {"client": client, "__name__": "__main__"}
        page.run(scope)
        wait_until(lambda: not client.db_query({"status": "pending"}), "all that was cancelled ends")
        scope["client"].close()
    printed = capsys.readouterr()
    page.compare(printed.out)
    assert not printed.err
    assert page.checked + len(page.promised) >= 4


def test_a_page_that_is_not_true_is_found(capsys):
    code = "with open('/dev/null'):\n    1 + 1  # 2\n    [abs]  # [<built-in function abs>]\n1, 2  # (1, ...)"
    page = Page(f"```python\n{code}\n```")
    page.run({})
    assert page.checked == 2
    for wrong in ("1 + 1  # 3", "if True:\n    'é', 1  # ('é', 2)", "[abs]  # [<function abs>]"):
        with pytest.raises(AssertionError, match="page: "):
            Page(f"```python\n{wrong}\n```").run({})
    page = Page("```python\nprint(1, end=' ')\nprint(2)  # 2\nprint(3)  # 2\n```")
    page.run({})
    with pytest.raises(AssertionError, match="'2' is not printed in its turn"):
        page.compare(capsys.readouterr().out)
