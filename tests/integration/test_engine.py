"""A real engine process against a controller made of paper."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
from enginery import recorder
from enginery.errors import RemoteError, SerializationError
from enginery.serialize import Reference
from enginery.wire import messages as m

from fake_controller import FakeController, Template
from helpers import wait_until


@pytest.fixture(scope="module")
def template():
    template = Template()
    assert template.ready
    yield template
    template.close()


@pytest.fixture
def engine(template):
    engine = FakeController(template)
    yield engine
    engine.close()


def add(a, b=1):
    return a + b


def test_a_call_and_its_times(engine):
    before = time.time()
    task = engine.submit(add, 20, b=22)
    assert engine.value(task) == 42
    result = engine.result(task)
    assert before - 1 < result.started < time.time() + 1
    assert 0 < result.duration < 1
    assert (result.engine, result.outputs, result.lo, result.hi) == (0, 0, 0, 0)


def test_a_fresh_process_does_the_same():
    engine = FakeController(preload=["colorsys"])
    try:
        assert engine.value(engine.submit(lambda: "colorsys" in __import__("sys").modules))
        assert engine.value(engine.submit(os.getpid)) == engine.pid
        engine.send_control(m.Exit())
        engine.until(lambda: engine.has(m.Goodbye), "a goodbye")
        engine.until_gone()
        assert engine.process.returncode == 0
    finally:
        engine.close()


def test_many_calls_travel_in_few_messages(engine):
    engine.value(engine.submit(add, 1))
    calls = [engine.call(add, i) for i in range(5000)]
    tasks = engine.run(*calls)
    engine.until(lambda: all(task in engine.results for task in tasks), "all results")
    assert [engine.value(task) for task in tasks] == [i + 1 for i in range(5000)]


def test_errors_arrive_as_themselves(engine):
    def divide(a, b):
        return a / b

    with pytest.raises(ZeroDivisionError) as caught:
        engine.value(engine.submit(divide, 1, 0))
    assert isinstance(caught.value, RemoteError)
    frames = caught.value.frames
    assert [frame[2] for frame in frames] == ["divide"]


def test_exits_and_interrupts_of_user_code_are_errors(engine):
    def leave(kind):
        raise kind("so long")

    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(RemoteError) as caught:
            engine.value(engine.submit(leave, kind))
        assert caught.value.ename == kind.__name__
    assert engine.value(engine.submit(add, 1)) == 2


def test_large_values_travel_as_frames_and_arrive_writable(engine):
    numpy = pytest.importorskip("numpy")

    def double(array):
        array *= 2
        return {"twice": array}

    array = numpy.arange(100_000.0)
    back = engine.value(engine.submit(double, array))["twice"]
    assert (back == array * 2).all()


def test_what_cannot_be_unpickled_or_pickled_is_said(engine):
    missing = b"\x80\x05cno_such_module_at_all\nf\n."
    engine.send(m.Run([m.Function(b"missing", missing)], []))
    with pytest.raises(SerializationError, match="could not be unpickled on the engine: ModuleNotFoundError"):
        engine.value(engine.submit(b"missing"))

    def lock():
        import threading

        return {"a": threading.Lock()}

    with pytest.raises(SerializationError, match=r"the result of lock: item \['a'\] is a _thread.lock"):
        engine.value(engine.submit(lock))
    assert engine.value(engine.submit(add, 1)) == 2


def test_a_call_without_its_function_makes_the_engine_say_what_it_has(engine):
    engine.said.clear()
    engine.submit(b"lost")
    engine.until(lambda: engine.has(m.EngineHello), "another hello")
    engine.send(m.EngineWelcome(session=7))
    engine.until(lambda: engine.has(m.Holding), "what it holds")
    [holding] = [message for message in engine.said if isinstance(message, m.Holding)]
    assert (holding.session, holding.calls, holding.running) == (7, [], None)
    assert engine.value(engine.submit(add, 1)) == 2
    assert not any(result.status == m.Status.REFUSED for parts in engine.results.values() for result, _ in parts)


def test_malformed_messages_are_dropped(engine):
    engine.router.send_multipart([engine.task, b"\xc1 nonsense"])
    engine.router.send_multipart([engine.control, b"\xc1 nonsense"])
    engine.send(m.TakeBack(1))
    engine.send_control(m.Run([], []))
    engine.send(m.Run([], [m.Call(77, b"x", b"", frames=3)]))
    assert "frames" in engine.value(77)
    assert engine.value(engine.submit(add, 1)) == 2


def test_forgotten_functions_are_dropped_after_their_calls(engine):
    (call, functions, _) = engine.call(add, 1)
    engine.send(m.Run(functions, [call]))
    engine.send(m.Forget([call.function]))
    assert engine.value(call.id) == 2
    engine.settle(0.1)
    engine.said.clear()
    engine.submit(call.function)
    engine.until(lambda: engine.has(m.EngineHello), "a hello: the function should have come along")


def test_coroutine_functions_are_awaited(engine):
    async def slowly(x):
        import asyncio

        await asyncio.sleep(0.01)
        return x * 2

    assert engine.value(engine.submit(slowly, 21)) == 42
    assert engine.items(engine.map(slowly, [1, 2]), 0, 2) == [2, 4]


# ------------------------------------------------------------------------------------------------------ results leave


def test_a_result_never_waits_behind_a_long_call(engine):
    def pause(seconds):
        import time

        time.sleep(seconds)
        return seconds

    engine.value(engine.submit(pause, 0))  # now it is known, and known to be quick
    for _ in range(20):
        engine.value(engine.submit(pause, 0))
    started = time.monotonic()
    quick, slow = engine.run(engine.call(pause, 0), engine.call(pause, 2.0))
    assert engine.value(quick) == 0
    assert time.monotonic() - started < 1.5
    assert slow not in engine.results
    assert engine.value(slow) == 2.0


def test_started_is_announced(engine):
    task = engine.submit(add, 1, announce=True)
    assert engine.value(task) == 2
    assert engine.said[-1] == m.Started(task)


def test_the_flight_recorder_knows(engine):
    def pause(x):
        import time

        time.sleep(x)

    assert recorder.read(engine.recorder).task is None
    task = engine.submit(pause, 0.3)
    engine.wait_running(task)
    assert abs(recorder.read(engine.recorder).since - time.time()) < 5
    engine.value(task)
    engine.until(lambda: recorder.read(engine.recorder).item == recorder.AFTER_LAST, "the task to be on record as over")
    assert recorder.read(engine.recorder).task == task
    batch = engine.map(pause, [0, 0, 0.3, 0])
    engine.until(lambda: recorder.read(engine.recorder)[:2] == (batch, 2), "item 2 recorded")
    engine.items(batch, 0, 4)


# ------------------------------------------------------------------------------------------------------ items


def test_items_in_order_and_few_results(engine):
    task = engine.map(abs, list(range(-50_000, 0)))
    assert engine.items(task, 0, 50_000) == list(range(50_000, 0, -1))
    assert len(engine.results[task]) < 500


def test_items_of_several_sequences_and_of_a_part(engine):
    task = engine.map(add, ([1, 2, 3], [10, 20, 30]))
    assert engine.items(task, 0, 3) == [11, 22, 33]
    task = engine.map(abs, list(range(100)), 10, 20)
    assert engine.items(task, 10, 20) == list(range(10, 20))


def test_one_bad_item_fails_alone(engine):
    def check(x):
        import sys
        import threading

        if x == 3:
            raise ValueError("three")
        if x == 5:
            return threading.Lock()
        if x == 7:
            sys.exit("seven")
        return x

    found = engine.items(engine.map(check, list(range(10))), 0, 10)
    assert isinstance(found[3], ValueError)
    assert isinstance(found[5], SerializationError)
    assert "the result of check is a _thread.lock" in str(found[5])
    assert found[7].ename == "SystemExit"
    assert [found[i] for i in (0, 1, 2, 4, 6, 8, 9)] == [0, 1, 2, 4, 6, 8, 9]


def test_a_batch_that_cannot_start_fails_as_a_whole(engine):
    class Trap:
        def __reduce__(self):
            return eval, ("1/0",)

    found = engine.items(engine.map(abs, [1, Trap(), 3]), 0, 3)
    assert all(isinstance(error, ZeroDivisionError) for error in found)
    found = engine.items(engine.map(abs, [1, 2], 0, 5), 0, 5)
    assert "only 2" in str(found[0])


def test_long_items_leave_at_once(engine):
    def pause(x):
        import time

        time.sleep(x)
        return x

    task = engine.map(pause, [0.3] * 3)
    engine.until(lambda: engine.covered(task) >= 1, "the first item")
    assert engine.covered(task) == 1
    engine.items(task, 0, 3)
    assert [result.hi - result.lo for result, _ in engine.results[task]] == [1, 1, 1]


def test_quick_items_do_not_wait_behind_a_long_one(engine):
    def pause(x):
        import time

        if x:
            time.sleep(x)
        return x

    engine.items(engine.map(pause, [0] * 20_000), 0, 20_000)
    task = engine.map(pause, [0] * 20_000 + [1.0] * 2 + [0] * 10)
    engine.until(lambda: engine.covered(task) >= 19_000, "the quick items")
    engine.items(task, 0, 20_012)


# ------------------------------------------------------------------------------------------------------ giving back


def nap(seconds):
    import time

    time.sleep(seconds)
    return seconds


def test_unstarted_calls_are_given_back_while_busy(engine):
    tasks = engine.run(*(engine.call(nap, 0.5) for _ in range(1)))
    engine.wait_running(tasks[0])
    late = engine.run(*(engine.call(nap, 0) for _ in range(4)), engine.call(nap, 0, fixed=True))  # not received yet
    given = engine.take_back()
    assert given.calls == [late[3], late[2]]
    assert given.tails == []
    given = engine.take_back([late[0], late[4], tasks[0]])
    assert sorted(given.calls) == [late[0], late[4]]
    assert engine.value(late[1]) == 0
    engine.settle(0.1)
    assert set(engine.results) == {tasks[0], late[1]}


def test_a_call_on_its_way_is_still_withdrawn(engine):
    first = engine.submit(nap, 0.3)
    engine.wait_running(first)
    call, functions, frames = engine.call(nap, 0)
    engine.next_request += 1
    engine.send_control(m.TakeBack(99, [call.id]))
    time.sleep(0.01)
    engine.run((call, functions, frames))
    engine.until(lambda: engine.given, "an answer")
    assert engine.given == [m.GivenBack(99, [call.id], [])]
    engine.value(first)
    engine.settle(0.1)
    assert call.id not in engine.results


def test_the_tail_of_the_running_call_is_given_back(engine):
    task = engine.map(nap, [0.02] * 50)
    engine.until(lambda: engine.covered(task) >= 3, "three items")
    given = engine.take_back()
    [(of, new_hi)] = given.tails
    assert of == task
    assert 20 < new_hi < 40
    assert engine.items(task, 0, new_hi) == [0.02] * new_hi
    engine.settle(0.1)
    assert engine.covered(task) == new_hi


def test_a_tail_is_given_back_although_items_were_thought_quick(engine):
    engine.items(engine.map(nap, [0] * 20_000), 0, 20_000)
    task = engine.map(nap, [0.05] * 200)
    engine.wait_running(task)
    engine.settle(0.1)
    before = time.monotonic()
    given = engine.take_back()
    assert time.monotonic() - before < 1
    [(_, new_hi)] = given.tails
    assert new_hi < 150
    while given.tails:
        new_hi = given.tails[0][1]
        given = engine.take_back()
    engine.items(task, 0, new_hi)


def test_nothing_to_give_back(engine):
    assert engine.take_back() == m.GivenBack(1, [], [])
    assert engine.take_back([5]) == m.GivenBack(2, [], [])


def test_quick_items_given_back_at_full_speed(engine):
    n = 2_000_000
    task = engine.map(abs, list(range(n)))
    engine.wait_running(task)
    hi = n
    for _ in range(10):
        given = engine.take_back()
        for _, new_hi in given.tails:
            assert new_hi < hi
            hi = new_hi
    assert hi < n
    assert engine.items(task, 0, hi) == list(range(hi))


@pytest.mark.parametrize("seed", range(3))
def test_under_random_traffic_every_call_and_item_is_run_or_given_back_once(engine, seed):
    rng = random.Random(seed)
    calls, batches = set(), {}
    for _ in range(60):
        action = rng.randrange(4)
        if action == 0:
            calls.update(
                engine.run(*(engine.call(nap, rng.choice([0, 0, 0.001])) for _ in range(rng.randrange(1, 30))))
            )
        elif action == 1:
            size = rng.randrange(1, 3000)
            batches[engine.map(abs, list(range(size)))] = size
        elif action == 2:
            size = rng.randrange(1, 20)
            batches[engine.map(nap, [0.001] * size)] = size
        else:
            some = rng.choices(sorted(calls), k=3) if calls and rng.random() < 0.3 else None
            given = engine.take_back(some)
            for task in given.calls:
                assert task not in engine.results
                if task in calls:
                    calls.remove(task)
                else:
                    del batches[task]
            for task, new_hi in given.tails:
                assert new_hi < batches[task]
                batches[task] = new_hi
    engine.until(lambda: all(task in engine.results for task in calls), "all calls")
    for task, size in batches.items():
        engine.items(task, 0, size)
    engine.settle(0.05)
    assert set(engine.results) == calls | set(batches)
    assert all(len(engine.results[task]) == 1 for task in calls)
    assert engine.take_back().calls == []


# ------------------------------------------------------------------------------------------------------ interrupts


def spin(seconds):
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


@pytest.mark.parametrize("function", [nap, spin])
def test_an_interrupt_hits_the_running_task(engine, function):
    task = engine.submit(function, 20)
    engine.wait_running(task)
    before = time.monotonic()
    while task not in engine.results:  # as the controller does: a signal may come just before the sleep
        engine.send_control(m.Interrupt(task))
        with contextlib.suppress(AssertionError):
            engine.result(task, 1.0)
        assert time.monotonic() - before < 5
    with pytest.raises(RemoteError) as caught:
        engine.value(task)
    assert caught.value.ename == "KeyboardInterrupt"
    assert engine.value(engine.submit(add, 1)) == 2


def test_an_interrupt_for_another_task_hits_nothing(engine):
    done = engine.submit(add, 1)
    engine.value(done)
    task = engine.submit(spin, 0.3)
    engine.wait_running(task)
    engine.send_control(m.Interrupt(done))
    engine.send_control(m.Interrupt(task + 1))
    assert engine.value(task) == "done"


def test_an_outside_signal_hits_user_code_or_nothing(engine):
    for _ in range(20):
        os.kill(engine.pid, signal.SIGINT)
    assert engine.value(engine.submit(add, 1)) == 2
    task = engine.submit(nap, 20)
    engine.wait_running(task)
    engine.settle(0.05)
    os.kill(engine.pid, signal.SIGINT)
    with pytest.raises(RemoteError):
        engine.value(task)


def test_an_interrupted_batch_ends_with_all_its_items(engine):
    task = engine.map(nap, [0.01] * 5 + [20.0] + [0.01] * 5)
    engine.until(lambda: recorder.read(engine.recorder)[:2] == (task, 5), "item 5 running")
    engine.send_control(m.Interrupt(task))
    found = engine.items(task, 0, 11)
    assert found[:5] == [0.01] * 5
    assert {error.ename for error in found[5:]} == {"KeyboardInterrupt"}


def test_a_coroutine_is_interrupted(engine):
    async def forever():
        import asyncio

        await asyncio.sleep(30)

    task = engine.submit(forever)
    engine.wait_running(task)
    engine.settle(0.1)
    engine.send_control(m.Interrupt(task))
    with pytest.raises(RemoteError) as caught:
        engine.value(task)
    assert caught.value.ename == "KeyboardInterrupt"
    assert engine.value(engine.submit(add, 1)) == 2


def test_a_storm_of_interrupts_never_loses_an_engine_or_a_result(engine):
    engine.value(engine.submit(add, 1))
    sent = []
    hits = 0
    for _ in range(60):
        tasks = engine.run(*(engine.call(spin, 0.0005) for _ in range(10)))
        sent += tasks
        for task in tasks[::3]:
            engine.send_control(m.Interrupt(task))
        os.kill(engine.pid, signal.SIGINT)
        engine.until(lambda tasks=tasks: all(task in engine.results for task in tasks), "all results")
    for task in sent:
        assert len(engine.results[task]) == 1
        hits += engine.results[task][0][0].status == m.Status.ERROR
    assert engine.value(engine.submit(add, 1)) == 2
    assert hits < len(sent)


# ------------------------------------------------------------------------------------------------------ output


def joined(records):
    """Return kind, item and text of each run of records: `print` writes text and line end, and may be sent between."""
    groups = itertools.groupby(records, key=lambda record: (record.kind, record.lo))
    return [(*key, "".join(record.data for record in group)) for key, group in groups]


def test_output_precedes_the_result_that_counts_it(engine):
    def chatty():
        import sys

        print("one")
        print("two")
        print("three", file=sys.stderr)
        sys.stdout.buffer.write(b"bytes\n")
        return 4

    task = engine.submit(chatty)
    assert engine.value(task) == 4
    result = engine.result(task)
    mine = [record for record in engine.outputs if record.task == task]
    assert [(kind, text) for kind, _, text in joined(mine)] == [
        ("stdout", "one\ntwo\n"),
        ("stderr", "three\n"),
        ("stdout", "bytes\n"),
    ]
    assert result.outputs == len(mine)
    assert {record.engine for record in mine} == {0}


def test_output_streams_while_the_task_runs(engine):
    def talk():
        import time

        print("soon")
        time.sleep(1.0)

    task = engine.submit(talk)
    started = time.monotonic()
    engine.until(lambda: engine.outputs, "output")
    assert time.monotonic() - started < 0.9
    assert task not in engine.results
    engine.value(task)


def test_output_of_items_names_them_and_of_threads_the_task(engine):
    def shout(x):
        import threading

        thread = threading.Thread(target=print, args=(f"item {x}",))
        thread.start()
        thread.join()

    task = engine.map(shout, [0, 1, 2])
    engine.items(task, 0, 3)
    assert joined(engine.outputs) == [("stdout", i, f"item {i}\n") for i in range(3)]
    assert engine.results[task][-1][0].outputs == len(engine.outputs)


def test_of_endless_output_head_and_tail_arrive(engine):
    def flood():
        for i in range(25_000):
            print(f"{i:07d}" + "x" * 3992)

    task = engine.submit(flood)
    engine.value(task, 60)
    text = "".join(record.data for record in engine.outputs)
    assert len(text) < 1.2 * (1 << 20)
    assert text.startswith("0000000xxx")
    assert "characters of stdout left out ...]\n" in text
    assert "0024999xxx" in text[-4000:]
    assert engine.result(task).outputs == len(engine.outputs)


# ------------------------------------------------------------------------------------------------------ namespace


def test_variables(engine):
    engine.value(engine.submit(b"!push", {"x": 5, "y": [1]}))
    assert engine.value(engine.submit(b"!pull", ["x", "y", "x * 2"])) == [5, [1], 10]
    assert engine.value(engine.submit(add, Reference("x"))) == 6
    engine.value(engine.submit(b"!execute", "class box: pass"))
    engine.value(engine.submit(b"!push", {"box.size": 3}))
    assert engine.value(engine.submit(b"!pull", ["box.size"])) == [3]
    engine.value(engine.submit(b"!delete", ["x"]))
    with pytest.raises(NameError, match="'x'"):
        engine.value(engine.submit(b"!pull", ["x"]))
    with pytest.raises(NameError, match="'nope'"):
        engine.value(engine.submit(b"!delete", ["y", "nope"]))
    engine.value(engine.submit(b"!clear"))
    with pytest.raises(NameError):
        engine.value(engine.submit(b"!pull", ["y"]))


def test_execute(engine):
    first = engine.value(engine.submit(b"!execute", "import math\nprint('hi')\nmath.factorial(5)"))
    assert first == {"execution_count": 1, "result": {"text/plain": "120"}}
    *printed, shown = engine.outputs
    assert joined(printed) == [("stdout", 0, "hi\n")]
    content = {"data": {"text/plain": "120"}, "metadata": {}, "execution_count": 1}
    assert (shown.kind, shown.data) == ("result", content)
    silent = engine.value(engine.submit(b"!execute", "6 * 7", silent=True))
    assert silent == {"execution_count": None, "result": None}
    awaited = engine.value(engine.submit(b"!execute", "import asyncio\nawait asyncio.sleep(0.01)\n'woke'"))
    assert awaited == {"execution_count": 2, "result": {"text/plain": "'woke'"}}
    engine.value(engine.submit(b"!execute", "%time 1 + 1"))
    engine.value(engine.submit(b"!execute", "!echo from a shell"))
    assert "from a shell" in "".join(str(record.data) for record in engine.outputs)


def test_execute_rich_display(engine):
    code = "from IPython.display import display, HTML\ndisplay(HTML('<b>x</b>'))"
    task = engine.submit(b"!execute", code)
    engine.value(task)
    [record] = engine.outputs
    assert record.kind == "display"
    assert record.data["data"]["text/html"] == "<b>x</b>"
    assert engine.result(task).outputs == 1


def test_execute_errors(engine):
    with pytest.raises(ZeroDivisionError) as caught:
        engine.value(engine.submit(b"!execute", "def f():\n    1 / 0\nf()"))
    assert [frame[2] for frame in caught.value.frames] == ["<module>", "f"]
    assert engine.outputs[-1].kind == "error"
    assert engine.outputs[-1].data["ename"] == "ZeroDivisionError"
    assert "line 2, in f()" in re.sub(r"\x1b\[[\d;]*m", "", "\n".join(engine.outputs[-1].data["traceback"]))
    with pytest.raises(SyntaxError):
        engine.value(engine.submit(b"!execute", "1 +"))
    with pytest.raises(RemoteError) as caught:
        engine.value(engine.submit(b"!execute", "import sys; sys.exit(3)"))
    assert caught.value.ename == "SystemExit"
    engine.value(engine.submit(b"!execute", "exit()"))
    assert engine.value(engine.submit(add, 1)) == 2


def test_execute_is_interrupted(engine):
    for code in ("import time; time.sleep(20)", "import asyncio; await asyncio.sleep(20)"):
        task = engine.submit(b"!execute", code)
        engine.wait_running(task)
        engine.settle(0.2)
        engine.send_control(m.Interrupt(task))
        with pytest.raises(RemoteError) as caught:
            engine.value(task)
        assert caught.value.ename == "KeyboardInterrupt"
    assert engine.value(engine.submit(b"!execute", "1")) is not None


def test_the_shell_looks_like_a_kernel_and_leaves_the_environment_alone(engine):
    def look():
        import os
        from pathlib import Path

        import IPython

        shell = IPython.get_ipython()
        return type(shell).__name__, os.environ.get("FORCE_COLOR"), os.environ.get("MPLBACKEND"), str(Path.cwd())

    name, color, backend, directory = engine.value(engine.submit(look))
    assert name == "ZMQInteractiveShell"
    assert color is None
    assert backend == "module://matplotlib_inline.backend_inline"
    assert directory == str(engine.directory)


# ------------------------------------------------------------------------------------------------------ the end


@pytest.mark.parametrize("busy", [False, True])
def test_exit(engine, busy):
    if busy:
        engine.wait_running(engine.submit(nap, 30))
    engine.send_control(m.Exit())
    engine.until(lambda: engine.has(m.Goodbye), "a goodbye")
    engine.until_gone()


@pytest.mark.parametrize("socket", ["task", "control"])
def test_farewell(engine, socket):
    (engine.send if socket == "task" else engine.send_control)(m.Farewell())
    engine.until_gone()


def test_refused(template):
    engine = FakeController(template, answer=False)
    engine.until(lambda: engine.has(m.EngineHello), "a hello")
    engine.send(m.Refused("too old"))
    engine.until_gone()
    engine.close()


def test_the_engine_dies_with_its_nanny():
    read_end, write_end = os.pipe()
    engine = FakeController(lifeline=read_end)
    try:
        os.close(read_end)
        engine.wait_running(engine.submit(nap, 30))
        os.close(write_end)
        engine.until_gone(5)
    finally:
        engine.close()


def test_the_engine_dies_with_its_template():
    template = Template()
    engine = FakeController(template)
    engine.wait_running(engine.submit(nap, 30))
    template.process.kill()
    template.close()
    engine.until_gone(5)
    engine.close()


def test_a_copy_forked_by_user_code_does_not_speak_for_the_engine(engine):
    def fork():
        import os

        return os.getpid() if os.fork() == 0 else os.wait()[1]

    task = engine.submit(fork)
    assert engine.value(task) == 0
    engine.settle(0.1)
    assert len(engine.results[task]) == 1

    def through_multiprocessing():
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    assert engine.value(engine.submit(through_multiprocessing)) == [1, 2, 3]


def test_there_is_no_standard_input(engine):
    def ask():
        return input("Your name? ")

    with pytest.raises(EOFError, match=r"no keyboard.*cluster console ENGINE"):
        engine.value(engine.submit(ask))
    with pytest.raises(EOFError, match="no keyboard"):
        engine.value(engine.submit(b"!execute", "input()"))

    def read():
        import sys

        return sys.stdin.read()

    assert engine.value(engine.submit(read)) == ""


def test_an_engine_that_cannot_start_says_why(tmp_path, capfd):
    setup = {"engine": 0, "incarnation": 1, "recorder": str(tmp_path / "rec")}
    no_directory = setup | {"directory": str(tmp_path / "missing"), "connection": ""}
    no_connection = setup | {"directory": str(tmp_path), "connection": str(tmp_path / "missing.json")}
    template = Template()
    for wrong, sentence in [
        (no_directory, "its working directory cannot be entered"),
        (no_connection, "its connection file cannot be read"),
    ]:
        pid = template.fork(wrong)
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the engine's end")
        assert f"the engine cannot start: {sentence}" in capfd.readouterr().err
    template.close()


def test_preload_modules_and_what_is_wrong_with_them(tmp_path, capfd):
    (tmp_path / "threads_at_import.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    template = Template("threads_at_import", env=env)
    assert not template.ready
    template.close()
    assert "'threads_at_import' starts threads" in capfd.readouterr().err
    template = Template("no_such_module_here")
    assert not template.ready
    template.close()
    assert "'no_such_module_here' cannot be imported" in capfd.readouterr().err
