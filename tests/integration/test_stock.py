"""What there is to see of objects, from a shell."""

from __future__ import annotations

import os
import re

import numpy as np

from helpers import command, wait_until


def shown(*arguments: str) -> str:
    done = command("objects", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_there_is_and_why(client):
    ref = client.put(np.zeros(1_000_000))
    client[:].push({"x": ref}, block=True)
    view = client.load_balanced_view()
    with view.temp_flags(label="slow"):
        running = view.apply_async(lambda x: __import__("time").sleep(60) or x.nbytes, ref)
    wait_until(lambda: "has not ended" in shown(), "it is known")
    text = shown()
    (line,) = [line for line in text.splitlines() if "8.0 MB" in line and "in memory on" in line]
    name = line.split()[0]
    assert re.fullmatch(r"[0-9a-f]{8}-\d+", name)
    assert f"pid {os.getpid()}) holds 1 handle" in line
    assert "'slow' has not ended" in line
    assert re.search(r"host \S+: 1 object, 8\.0 MB of \S+ .B of memory, 0 B on disk", text)
    told = shown("--explain", name)
    assert f"object {name} (8.0 MB, made on " in told
    assert "alive because:" in told
    assert "1 object, 8.0 MB: " in command("status").stdout
    running.cancel()
    ref.release()
    client[:].execute("del x").get(20)
    wait_until(lambda: "OBJECT" not in shown(), "it is gone")


def test_no_such_object(client):
    done = command("objects", "--explain", "01234567-9")
    assert done.returncode == 1
    assert done.stderr == 'there is no object 01234567-9; "cluster objects" shows those there are\n'
