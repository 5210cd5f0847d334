"""What tasks print and show, whichever way it leaves the engine: real engines, real descriptors."""

from __future__ import annotations

import time

import pytest
from enginery import EngineDied, SerializationError
from enginery.serialize import loads

from fake_controller import FakeController, Template
from helpers import wait_until

PYPLOT = """
import sys, types
package = types.ModuleType("matplotlib")
pyplot = types.ModuleType("matplotlib.pyplot")
pyplot.figures = []
pyplot.get_fignums = lambda: list(range(len(pyplot.figures)))
package.pyplot = pyplot
sys.modules.update({"matplotlib": package, "matplotlib.pyplot": pyplot})

def flush():
    for figure in pyplot.figures:
        display(figure)
    pyplot.figures.clear()

get_ipython().events.register("post_execute", flush)
"""
"""Of matplotlib, what the engine looks at, and what its inline backend does for notebooks."""


@pytest.fixture(scope="module")
def template():
    template = Template()
    assert template.ready
    yield template
    template.close()


@pytest.fixture
def engine(template):
    controller = FakeController(template)
    yield controller
    controller.close()


def text_of(engine, task, stream="stdout"):
    return "".join(record.data for record in engine.outputs if (record.task, record.kind) == (task, stream))


def test_everything_a_task_prints_arrives_in_order_before_its_result(engine):
    def talk():
        import ctypes
        import os
        import subprocess
        import sys

        libc = ctypes.CDLL(None)
        print("python")
        libc.puts(b"C")
        os.system("echo shell")
        print("python again")
        subprocess.run(["echo", "subprocess"], check=True)
        libc.printf(b"no end of line")
        os.write(2, b"error\n")
        print("python error", file=sys.stderr)

    for _ in range(3):
        task = engine.submit(talk)
        engine.value(task)
        assert text_of(engine, task) == "python\nC\nshell\npython again\nsubprocess\nno end of line"
        assert text_of(engine, task, "stderr") == "error\npython error\n"
        assert engine.result(task).outputs == sum(record.task == task for record in engine.outputs)


def test_of_many_quick_tasks_each_gets_its_own(engine):
    def write(i):
        import os

        os.write(1, b"%d\n" % i)

    tasks = engine.run(*(engine.call(write, i) for i in range(500)))
    engine.until(lambda: len(engine.results) == 500, "all results")
    assert [text_of(engine, task) for task in tasks] == [f"{i}\n" for i in range(500)]
    assert {engine.result(task).outputs for task in tasks} == {1}


def test_output_of_a_long_call_into_c_streams(engine):
    def sleep():
        import ctypes

        libc = ctypes.CDLL(None)
        libc.puts(b"soon")
        libc.usleep(1_500_000)

    task = engine.submit(sleep)
    started = time.monotonic()
    engine.until(lambda: text_of(engine, task) == "soon\n", "output")
    assert task not in engine.results
    assert time.monotonic() - started < 1.4
    engine.value(task)


def test_output_of_items_by_descriptor_names_them(engine):
    def write(i):
        import os
        import time

        os.write(1, b"item %d\n" % i)
        time.sleep(0.002)

    task = engine.map(write, range(20))
    engine.items(task, 0, 20)
    assert text_of(engine, task) == "".join(f"item {i}\n" for i in range(20))
    assert engine.results[task][-1][0].outputs == len(engine.outputs)


def test_copies_of_the_engine_print_for_the_task(engine):
    def fork():
        import multiprocessing
        import sys

        context = multiprocessing.get_context("fork")
        process = context.Process(target=lambda: print("from a copy", flush=True))
        process.start()
        process.join()
        print("done", file=sys.stdout)

    task = engine.submit(fork)
    engine.value(task)
    assert text_of(engine, task) == "from a copy\ndone\n"


def test_a_fresh_process_catches_its_descriptors_too():
    engine = FakeController()

    def talk():
        import os

        os.system("echo shell")

    try:
        task = engine.submit(talk)
        engine.value(task)
        assert text_of(engine, task) == "shell\n"
    finally:
        engine.close()


def test_a_thread_prints_for_the_task_that_started_it(engine):
    def start():
        import threading

        go = threading.Event()

        def late():
            go.wait(10)
            print("late")

        threading.Thread(target=late).start()
        import builtins

        builtins.go = go
        print("started")

    def let_go():
        import builtins
        import time

        builtins.go.set()
        time.sleep(0.1)
        print("let go")

    first, second = engine.submit(start), engine.submit(let_go)
    engine.value(second)
    engine.until(lambda: text_of(engine, first) == "started\nlate\n", "both lines of the first task")
    assert text_of(engine, second) == "let go\n"
    assert engine.result(second).outputs == sum(record.task == second for record in engine.outputs)


def test_published_data_the_last_always_and_not_all(engine):
    def publish():
        from enginery import publish_data

        for i in range(10_000):
            publish_data({"step": i, "more": b"x" * 10_000})

    task = engine.submit(publish)
    engine.value(task)
    records = [record for record in engine.outputs if record.task == task]
    assert {record.kind for record in records} == {"data"}
    assert loads(records[-1].data)["step"] == 9999
    assert len(records) < 5000
    assert engine.result(task).outputs == len(records)


def test_published_data_may_be_anything_that_can_be_pickled(engine):
    def publish():
        import numpy as np
        from enginery import publish_data

        publish_data([np.arange(10_000), lambda x: x + 1])

    def publish_a_lock():
        import threading

        from enginery import publish_data

        publish_data(threading.Lock())

    task = engine.submit(publish)
    engine.value(task)
    array, function = loads(engine.outputs[-1].data)
    assert array.sum() == 49_995_000
    assert function(1) == 2
    with pytest.raises(SerializationError, match="lock"):
        engine.value(engine.submit(publish_a_lock))


def test_figures_of_plain_tasks_are_shown(engine):
    engine.value(engine.submit(b"!execute", PYPLOT))

    def draw(name):
        from matplotlib import pyplot as plt

        plt.figures.append(name)

    def idle():
        pass

    task = engine.submit(draw, "a figure")
    engine.value(task)
    [record] = [record for record in engine.outputs if record.task == task]
    assert (record.kind, record.data["data"]["text/plain"]) == ("display", "'a figure'")
    assert engine.result(task).outputs == 1
    of_items = engine.map(draw, ["one", "two"])
    engine.items(of_items, 0, 2)
    assert sum(record.task == of_items for record in engine.outputs) == 2
    quiet = engine.submit(idle)
    engine.value(quiet)
    assert engine.result(quiet).outputs == 0


# ----------------------------------------------------------------------------------------------- a whole cluster


def test_c_code_that_holds_the_interpreter_and_prints_much_does_not_hang(client):
    def print_much():
        import ctypes

        write = ctypes.PyDLL(None).write
        write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
        left = 3 << 20
        while left:
            left -= write(1, b"x" * left, left)
        return "done"

    def talk():
        import os

        os.system("echo and then")

    result = client[0].apply_async(print_much)
    assert result.result(20) == "done"
    following = client[0].apply_async(talk)
    following.result(20)
    assert following.stdout == "and then\n"


def test_a_hundred_megabytes_take_no_room_anywhere(client, cluster):
    def flood():
        import subprocess
        import sys

        subprocess.run("yes 0123456789 | head -c 110000000", shell=True, check=True)
        for i in range(1_000_000):
            sys.stderr.write(f"\rstep {i}")

    result = client[1].apply_async(flood)
    result.result(60)
    assert len(result.stdout) < 1.2e6
    assert len(result.stderr) < 1.2e6
    assert "\n[... 108,885,888 characters of stdout left out ...]\n" in result.stdout
    assert result.stdout.endswith("0123456789\n")
    assert result.stderr.endswith("\rstep 999999")


def abort():
    import os

    os.write(2, b"libfoo: assertion failed\n")
    os.abort()


def abort_with_the_lock_held():
    import ctypes

    libc = ctypes.PyDLL(None)
    libc.write(2, b"libfoo: assertion failed\n", 25)
    libc.abort()


@pytest.mark.parametrize("die", [abort, abort_with_the_lock_held])
def test_the_last_words_of_c_code_are_in_the_certificate(client, die):
    with pytest.raises(EngineDied) as caught:
        client.submit(die).result(20)
    text = str(caught.value)
    assert "libfoo: assertion failed" in text
    assert text.index("libfoo") < text.index("Fatal Python error: Aborted")
    assert f"in {die.__name__}" in text
    wait_until(lambda: len(client.ids) == 3, "the engine's successor")


def test_a_process_that_outlives_its_task_does_not_disturb_the_next(client):
    def leave():
        import subprocess

        subprocess.Popen("for i in 1 2 3 4 5 6 7 8 9 10; do echo tick; sleep 0.05; done", shell=True)

    def idle():
        import time

        time.sleep(0.2)
        print("idle")

    client[2].apply_async(leave).result(20)
    result = client[2].apply_async(idle)
    result.result(20)
    assert "idle" in result.stdout  # and what ticked meanwhile: whose that is, nobody can tell


def test_late_output_of_a_thread_arrives_in_the_result_of_its_own_client(client, cluster):
    def start():
        import builtins
        import threading

        builtins.go = threading.Event()
        builtins.over = threading.Event()

        def late():
            builtins.go.wait(10)
            print("late")
            builtins.over.set()

        threading.Thread(target=late).start()
        print("started")

    def let_go():
        import builtins

        builtins.go.set()
        builtins.over.wait(10)
        print("let go")

    with cluster.connect() as other:
        first = other[0].apply_async(start)
        first.result(20)
        second = client[0].apply_async(let_go)
        second.result(20)
        wait_until(lambda: first.stdout == "started\nlate\n", "both lines of the first task")
        assert second.stdout == "let go\n"
