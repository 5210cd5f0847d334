"""Write the reference page anew from the docstrings: `python docs/write_reference.py`.

The page has every public name, its signature and its docstring, in the order of `SECTIONS`. A test writes it again and
compares, so what is committed is always what the code says; `find_gaps` tells what is missing in the docstrings.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import enginery

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).with_name("reference.md")

HEAD = """\
# Reference

Every public name, from its docstring. [Getting started](getting-started.md) is the gentler way in, and the pages of
the folder `howto` go through one subject each. The magics have [a page of their own](magics.md).

Written by `docs/write_reference.py`; a test compares it with the code.
"""

SECTIONS: dict[str, tuple[str, ...]] = {
    "Clusters and clients": ("Cluster", "Client"),
    "Views": ("DirectView", "LoadBalancedView", "ClusterExecutor"),
    "Results": ("AsyncResult", "AsyncMapResult", "LazyMap", "ObjectRef"),
    "What tasks are made of": (
        "remote",
        "parallel",
        "interactive",
        "require",
        "depend",
        "Dependency",
        "Reference",
        "PrePickled",
        "publish_data",
    ),
    "Errors": (),
}
"""The public names in order; all errors come last, by themselves."""


MADE_BY_CALLS = {
    "DirectView",
    "LoadBalancedView",
    "ClusterExecutor",
    "AsyncResult",
    "AsyncMapResult",
    "LazyMap",
    "ObjectRef",
}
"""Classes that nobody constructs: views and results come from calls."""


EXPLAINED_ONCE = {
    "f": "the function to call",
    "args": "what it is called with",
    "kwargs": "what it is called with",
    "sequences": "those of the builtin `map`",
    "targets": "which engines; `Client.__getitem__` tells how to name them",
    "block": "to wait for the value, or to get a result at once: a flag of the views, which their classes tell of",
    "label": "what a task can be found by: a flag of the views",
    "jobs": "results or ids; `Client.wait` tells which",
    "key": "of `x[key]`: what its example has between the brackets",
}
"""Parameters that mean the same wherever they occur, and where a reader learns it: not every docstring names them."""


class Entry(NamedTuple):
    """Something public: how it is called, and its object."""

    name: str
    """As people write it: `Client.submit`."""
    kind: str
    """`class`, `function`, `method` or `property`."""
    signature: str
    doc: str
    level: int
    parameters: tuple[str, ...] = ()


def errors() -> list[str]:
    """Return the public names that are errors, those with most under them first."""
    found = [name for name in enginery.__all__ if _is_error(getattr(enginery, name))]
    return sorted(found, key=lambda name: [kind.__name__ for kind in reversed(getattr(enginery, name).__mro__)])


def _is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def entries(section: str) -> Iterator[Entry]:
    """Yield all there is to tell in a section."""
    for name in SECTIONS[section] or errors():
        value = getattr(enginery, name)
        if not isinstance(value, type):
            yield Entry(name, "function", _signature(value), _doc(value), 3, _parameters(value))
            continue
        bases = [base for base in value.__mro__[1:] if base.__name__ in enginery.__all__]
        constructed = not (_is_error(value) or name in MADE_BY_CALLS)
        signature, parameters = (_signature(value), _parameters(value)) if constructed else ("", ())
        yield Entry(name, "class", signature, _doc(value), 3, parameters)
        known = {member for base in bases for member in dir(base) if getattr(base, member) is getattr(value, member)}
        for member, kind, raw in members(value):
            if member not in known:
                parameters = () if kind == "property" else _parameters(getattr(value, member))
                yield Entry(f"{name}.{member}", kind, _member_signature(kind, raw), _doc(raw), 4, parameters)


def members(cls: type) -> Iterator[tuple[str, str, Any]]:
    """Yield the public members of a class that are ours, in the order in which they are written: `(name, kind, it)`."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("enginery"):
            continue
        for name, raw in vars(base).items():
            if name in seen or (name.startswith("_") and name not in SPECIAL) or name.isupper():
                continue
            seen.add(name)
            kind = "property" if not (callable(raw) or isinstance(raw, classmethod | staticmethod)) else "method"
            if kind == "property" and not _doc(raw) and not isinstance(raw, property):
                continue  # a plain value
            yield name, kind, raw


SPECIAL = {"__getitem__", "__setitem__"}
"""Members with underscores that are part of what people type."""


def _doc(value: Any) -> str:
    own = getattr(value, "__doc__", None) or ""
    return inspect.cleandoc(own)


def _signature(value: Any, *, skip_self: bool = False) -> str:
    """Return the parameters as people type them: without types, which the docstring explains better."""
    try:
        parameters = list(inspect.signature(value).parameters.values())[skip_self:]
    except (TypeError, ValueError):
        return "(...)"
    parts: list[str] = []
    kinds = [parameter.kind for parameter in parameters]
    for at, parameter in enumerate(parameters):
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        if parameter.kind is parameter.KEYWORD_ONLY and not {"*", parameter.VAR_POSITIONAL} & {*parts, *kinds[:at]}:
            parts.append("*")
        parts.append(f"{star}{parameter.name}{_default(parameter)}")
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.POSITIONAL_ONLY not in kinds[at + 1 :]:
            parts.append("/")
    return f"({', '.join(parts)})"


def _parameters(value: Any) -> tuple[str, ...]:
    try:
        return tuple(name for name in inspect.signature(value).parameters if name != "self")
    except (TypeError, ValueError):
        return ()


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return ""
    shown = repr(parameter.default)
    return "=" + (f'"{parameter.default}"' if isinstance(parameter.default, str) else shown)


def _member_signature(kind: str, raw: Any) -> str:
    if kind == "property":
        return ""
    if isinstance(raw, staticmethod):
        return _signature(raw.__func__)
    return _signature(raw.__func__ if isinstance(raw, classmethod) else raw, skip_self=True)


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for section in SECTIONS:
        parts.append(f"## {section}\n")
        for entry in entries(section):
            parts.append(f"{'#' * entry.level} `{entry.name}{entry.signature}`\n")
            parts.append(_markdown(entry.doc) + "\n")
    return "\n".join(parts)


def _markdown(doc: str) -> str:
    """Return a docstring as Markdown: examples become blocks of Python."""
    lines: list[str] = []
    for code, paragraph in paragraphs(doc):
        if not code:
            lines += ["", *paragraph]
        elif lines and lines[-1] == "```":
            lines[-1:] = ["", *paragraph, "```"]
        else:
            lines += ["", "```python", *paragraph, "```"]
    return "\n".join(lines[1:])


def paragraphs(doc: str) -> Iterator[tuple[bool, list[str]]]:
    """Yield what a docstring has between blank lines, each with whether it is code; code without its indent."""
    for number, text in enumerate(re.split(r"\n\s*\n", doc)):
        lines = text.splitlines()
        if text.startswith("```"):
            yield True, lines[1:-1]
        elif all(line.startswith("    ") for line in lines):
            yield True, [line[4:] for line in lines]
        else:
            yield number > 0 and (text.startswith(">>> ") or _is_python(text)), lines


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def find_gaps() -> list[str]:
    """Return what is wrong with the docstrings, a sentence each."""
    gaps = []
    listed = {name for names in SECTIONS.values() for name in names} | set(errors())
    gaps += [f"{name} is public, but in no section" for name in enginery.__all__ if name not in listed]
    gaps += [f"{name} is in a section, but not public" for name in listed if name not in enginery.__all__]
    docs = {entry.name: entry.doc for section in SECTIONS for entry in entries(section)}
    for section in SECTIONS:
        for entry in entries(section):
            told = _told(entry, docs)
            gaps += [f"{entry.name} does not tell what `{name}` is" for name in entry.parameters if name not in told]
            if not entry.doc:
                gaps.append(f"{entry.name} has no docstring")
            elif entry.kind != "property" and section != "Errors" and not _has_example(entry.doc):
                gaps.append(f"{entry.name} has no example")
    return gaps


def _told(entry: Entry, docs: dict[str, str]) -> set[str]:
    """Return all words of a docstring, of that of its class, and of those that its prose refers to."""
    owner = entry.name.rpartition(".")[0]
    told = [entry.doc, docs.get(owner, "")]
    for code, lines in paragraphs(entry.doc):
        for name in () if code else re.findall(r"[\w.]*\w", "\n".join(lines)):
            found = name.removeprefix("enginery.")
            told += [docs[other] for other in (found, f"{owner}.{found}") if other in docs]
    return {*re.findall(r"\w+", "\n".join(told)), *EXPLAINED_ONCE}


def _has_example(doc: str) -> bool:
    return any(code for code, _ in paragraphs(doc))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    for gap in find_gaps():
        print(gap, file=sys.stderr)
