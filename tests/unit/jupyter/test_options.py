from __future__ import annotations

import pytest
from enginery.jupyter.options import OptionError, Options, read, read_line


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("", Options()),
        ("-b", Options(block=True)),
        ("--noblock -t ::2", Options(block=False, targets=slice(None, None, 2))),
        ("-a --targets 1:3", Options(block=False, targets=slice(1, 3))),
        ("--targets=0,2", Options(targets=[0, 2])),
        ("-t [0, 2]", Options(targets=[0, 2])),
        ("-t 3", Options(targets=3)),
        ("-t -1", Options(targets=-1)),
        ("-t all", Options(targets="all")),
        ("--no-stream -o res", Options(stream=False, out="res")),
        ("--stream --verbose --local", Options(stream=True, verbose=True, local=True)),
        ("-e", Options(group_outputs="engine")),
        ("-r", Options(group_outputs="order")),
        ("--group-outputs=type", Options(group_outputs="type")),
        ("--progress-after 5 --signal-on-interrupt term", Options(progress_after_s=5.0, signal="SIGTERM")),
        ("--signal-on-interrupt 15", Options(signal="SIGTERM")),
    ],
)
def test_options(line, options):
    assert read(line, "%%px") == (options, "")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("print(1)", "print(1)"),
        ("-a", "-a"),
        ("-a + 1", "-a + 1"),
        ("-t -1", "-t -1"),
        ("--x", "--x"),
        ("  y = -b", "  y = -b"),
        ("%timeit -n 3 f()", "%timeit -n 3 f()"),
    ],
)
def test_what_is_python_has_no_options(line, code):
    assert read_line(line, "%px") == (Options(), code)


@pytest.mark.parametrize(
    ("line", "options", "code"),
    [
        ("--targets 1 print(-a)", Options(targets=1), "print(-a)"),
        ("-t ::2 x = 1", Options(targets=slice(None, None, 2)), "x = 1"),
        ("--noblock -o r 6 * 7", Options(block=False, out="r"), "6 * 7"),
        ("--local %matplotlib inline", Options(local=True), "%matplotlib inline"),
    ],
)
def test_a_line_has_options_before_its_code(line, options, code):
    assert read_line(line, "%px") == (options, code)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--frob", r"%%px has no option --frob; %%px\? shows those it has"),
        ("-t", "-t needs a value"),
        ("-t x", "targets are a number, a slice .* not 'x'"),
        ("-t 1:b", "targets are a number, a slice .* not '1:b'"),
        ("-o 3x", "-o takes the name of a variable, not '3x'"),
        ("--group-outputs colour", "--group-outputs is one of type, engine, order, not 'colour'"),
        ("--progress-after soon", "--progress-after takes a number of seconds, not 'soon'"),
        ("--signal-on-interrupt FOO", "--signal-on-interrupt takes a signal, such as SIGINT, not 'FOO'"),
        ("--block=yes", "--block takes no value, so not 'yes'"),
    ],
)
def test_a_wrong_option_is_a_sentence(line, sentence):
    with pytest.raises(OptionError, match=sentence):
        read(line, "%%px")


def test_a_magic_has_only_its_own_options():
    with pytest.raises(OptionError, match="%pxresult has no option --local"):
        read("--local", "%pxresult", frozenset({"out"}))
