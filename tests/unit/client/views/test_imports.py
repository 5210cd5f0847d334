"""Import statements that happen here and on engines."""

from __future__ import annotations

import builtins
import contextlib
import sys
import threading
import types

import pytest

PLAIN = builtins.__import__


@pytest.fixture(autouse=True)
def machinery_is_restored():
    yield
    assert builtins.__import__ is PLAIN


@pytest.fixture
def view(client):
    return client[:]


FORMS = """
def block(view):
    with view.sync_imports():
        import json
        import json.decoder
        import xml.dom.minidom as md
        import xml as xml
        from math import cos, sin as sine
        from os import path
    return json.decoder.__name__, md.__name__, xml.__name__, cos(0), sine(0), path.__name__
"""


def test_every_form_of_statement(view, capsys):
    scope = {}
    exec(FORMS, scope)
    names = scope["block"](view)
    assert names[:5] == ("json.decoder", "xml.dom.minidom", "xml", 1.0, 0.0)
    assert capsys.readouterr().out.splitlines() == [
        "import json on engines 0-3",
        "import json.decoder on engines 0-3",
        "import xml.dom.minidom as md on engines 0-3",
        "import xml on engines 0-3",
        "from math import cos, sin as sine on engines 0-3",
        "from os import path on engines 0-3",
    ]
    there = ["json.decoder.__name__", "md.__name__", "xml.__name__", "cos(0)", "sine(0)", "path.__name__"]
    assert view.pull(there, block=True) == [list(names)] * 4


def test_statements_of_a_module_scope(view, capsys):
    code = """
with view.sync_imports(quiet=True):
    import json as js
    from math import *
    from os import (
        path as p,
        sep,
    )
"""
    scope = {"view": view}
    exec(code, scope)
    assert scope["js"].__name__ == "json"
    assert scope["sin"](0) == 0
    assert view.pull(["js.__name__", "sin(0)", "p.sep == sep"], block=True) == [["json", 0.0, True]] * 4
    assert capsys.readouterr().out == ""


def test_a_submodule_under_the_name_of_its_package(view):
    scope = {"view": view}
    exec("with view.sync_imports(quiet=True):\n    import xml.dom as xml", scope)
    assert scope["xml"].__name__ == "xml.dom"
    assert view["xml.__name__"] == ["xml.dom"] * 4


def test_relative_imports_go_by_their_full_name(view, capsys):
    scope = {"view": view, "__package__": "xml.dom", "__name__": "xml.dom.here"}
    exec("with view.sync_imports():\n    from . import minidom as mini\n    from ..sax import handler", scope)
    assert scope["mini"].__name__ == "xml.dom.minidom"
    assert capsys.readouterr().out.splitlines() == [
        "from xml.dom import minidom as mini on engines 0-3",
        "from xml.sax import handler on engines 0-3",
    ]
    assert view["mini.__name__"] == ["xml.dom.minidom"] * 4


def imports_something():
    import json.encoder

    return json


def test_what_others_import_meanwhile_stays_here(view, capsys, tmp_path, monkeypatch):
    (tmp_path / "d_outer.py").write_text("import json.scanner\n")
    monkeypatch.syspath_prepend(tmp_path)
    with view.sync_imports():
        import d_outer  # noqa: F401

        imports_something()
        thread = threading.Thread(target=imports_something)
        thread.start()
        thread.join(10)
        type("Local", (), {"method": lambda _self: __import__("json")})().method()
    assert capsys.readouterr().out == "import d_outer on engines 0-3\n"
    assert sys.modules.pop("d_outer")


def test_one_engine(client, capsys):
    with client[2].importer:
        import json  # noqa: F401
    assert capsys.readouterr().out == "import json on engine 2\n"
    assert client[2]["json.__name__"] == "json"
    with pytest.raises(NameError):
        client[1]["json"]


def test_what_cannot_be_imported_here_is_not_asked_of_engines(fake, view, capsys):
    with pytest.raises(ModuleNotFoundError, match="nonesuch"), view.sync_imports():
        import nonesuch  # noqa: F401
    assert capsys.readouterr().out == ""


def test_an_engine_that_cannot_is_named_with_the_module(client, view):
    client[1].push(
        {"__builtins__": {"__import__": lambda *_: (_ for _ in ()).throw(ImportError("broken"))}}, block=True
    )
    sentence = "import json as js failed on engine 1: broken"
    with pytest.raises(ImportError, match=sentence) as caught, view.sync_imports(quiet=True):
        import json as js
    assert js.__name__ == "json"
    assert caught.value.__cause__ is not None


def test_on_engines_only(view):
    with view.sync_imports(local=False, quiet=True):
        import email.mime.text as tool
        import wave as w
        from calendar import month_name as names

    for placeholder, name in ((tool, "email.mime.text"), (w, "wave"), (names, "calendar.month_name")):
        assert isinstance(placeholder, types.ModuleType)
        with pytest.raises(
            AttributeError, match=rf"{name} was imported on engines only, by sync_imports\(local=False\)"
        ):
            placeholder.something  # noqa: B018
    with pytest.raises(TypeError, match="imported on engines only"):
        names()
    assert (
        view.pull(["tool.__name__", "w.__name__", "names[1]"], block=True)
        == [["email.mime.text", "wave", "January"]] * 4
    )


def test_modules_missing_on_engines_are_named(view):
    sentence = "import nonesuch failed on engines 0-3: No module named 'nonesuch'"
    with pytest.raises(ImportError, match=sentence), view.sync_imports(local=False, quiet=True):
        import nonesuch  # noqa: F401


def test_an_error_in_the_block_comes_out(view):
    with pytest.raises(ZeroDivisionError), view.sync_imports(quiet=True):
        import json  # noqa: F401

        1 / 0  # noqa: B018


def test_threads_have_blocks_of_their_own(client, capsys):
    meet = threading.Barrier(3)

    def work(engine):
        with client[engine].sync_imports():
            meet.wait(10)
            import json  # noqa: F401

            meet.wait(10)
        if engine:
            meet.wait(10)  # the first leaves before the others

    threads = [threading.Thread(target=work, args=(engine,)) for engine in range(3)]
    for thread in threads:
        thread.start()
    threads[0].join(10)
    meet.wait(10)
    for thread in threads:
        thread.join(10)
    assert sorted(capsys.readouterr().out.splitlines()) == [f"import json on engine {engine}" for engine in range(3)]


def test_a_block_in_a_block_of_the_same_code_is_refused(view):
    with view.sync_imports(quiet=True), pytest.raises(RuntimeError, match="in another one"), view.sync_imports():
        pytest.fail("it began")


def test_an_exit_stack_may_enter_it(view, capsys):
    with contextlib.ExitStack() as stack:
        stack.enter_context(view.sync_imports())
        import json  # noqa: F401
    assert capsys.readouterr().out == "import json on engines 0-3\n"


def test_a_hook_that_somebody_puts_over_ours_stays_and_harms_nobody(view, capsys):
    with view.sync_imports(quiet=True):
        ours = builtins.__import__
        builtins.__import__ = lambda *args, **kwargs: ours(*args, **kwargs)
    try:
        assert builtins.__import__ is not PLAIN
        assert imports_something()
        with view.sync_imports():
            import json  # noqa: F401
        assert capsys.readouterr().out == "import json on engines 0-3\n"
    finally:
        builtins.__import__ = PLAIN
