"""The questions, and the loop that answers them.

    python -m peers.<name> QUESTION [-n ENGINES] [ARGUMENT=VALUE ...]     asks once and prints one JSON object
    python -m peers.<name> --session                                      answers questions that come as JSON lines

Everything is measured from the client's side with the same code, whoever is asked. Standard output belongs to the
answers: what a peer prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

from .base import NotAskedError
from .work import announce_and_hang, inc, look_at, make_value, note, note_and_wait, note_long, nothing, value

clock = time.perf_counter


# ------------------------------------------------------------------------------------------------------ the questions


def start(peer, *, n, **options):
    """Start a cluster; `at` is the moment when all its engines had answered. Options are the adapter's own."""
    t0 = clock()
    peer.n = n
    peer.start(n, **options)
    pids = peer.everyone()
    return {"at": time.monotonic(), "seconds": clock() - t0, "answered": len(pids)}


def stop(peer):
    t0 = clock()
    peer.stop()
    return {"seconds": clock() - t0}


def throughput(peer, *, seconds=2.0, tasks=None):
    """Submit no-op tasks one by one, each with its future; wait for all. By default as many as fill the seconds."""
    from . import census

    if tasks is None:
        tasks = _calibrated(lambda n: _submit_all(peer, n), 32, seconds)
    before = census.cpu_seconds(census.own())
    submitted, total = _submit_all(peer, tasks)
    cpu = census.spent(before, census.cpu_seconds(census.own()))
    return {
        "tasks": tasks,
        "per_s": tasks / total,
        "submit_us": submitted / tasks * 1e6,
        "cpu_us": cpu / tasks * 1e6,
    }


def _submit_all(peer, n):
    t0 = clock()
    futures = [peer.submit(inc, i) for i in range(n)]
    t1 = clock()
    results = peer.gather(futures)
    t2 = clock()
    if results != list(range(1, n + 1)):
        raise ValueError("wrong results")
    return t1 - t0, t2 - t0


def _calibrated(run, n, seconds, most=1_000_000):
    """Return how many it takes to fill the seconds, having run growing numbers of them (which warms up as well)."""
    while True:
        _, took = run(n)
        wanted = int(n * seconds / took)
        if took > seconds / 8 or n >= most:
            return max(n // 4, min(wanted, most))
        n = min(most, max(2 * n, min(8 * n, wanted // 4)))


def latency(peer, *, samples=300, seconds=3.0):
    """Submit one call, wait for it, again and again."""
    for i in range(10):
        peer.call(inc, i)
    times = []
    end = clock() + seconds
    while len(times) < samples and clock() < end:
        t0 = clock()
        peer.call(inc, 1)
        times.append(clock() - t0)
    return _summary(times)


def _summary(times):
    times = sorted(times)
    return {
        "samples": len(times),
        "median_ms": statistics.median(times) * 1e3,
        "p10_ms": times[len(times) // 10] * 1e3,
        "p95_ms": times[int(len(times) * 0.95)] * 1e3,
    }


def map_items(peer, *, items=None, seconds=2.0, **how):
    """Map over a range and make a list of the results. By default as many items as fill the seconds."""
    if items is None:
        items = _calibrated(lambda n: _map_all(peer, n, how), 1000, seconds)
    _, took = _map_all(peer, items, how)
    return {"items": items, "per_s": items / took}


def _map_all(peer, n, how):
    t0 = clock()
    results = peer.map(inc, range(n), **how)
    took = clock() - t0
    if results != list(range(1, n + 1)):
        raise ValueError("wrong results")
    return 0.0, took


def memory(peer, *, settle_s=1.0):
    """Return what the idle cluster holds, without this process, which is the client."""
    from . import census

    peer.everyone()
    time.sleep(settle_s)
    processes = census.marked(os.environ[census.MARK], but=(os.getpid(),))
    pss, uss = census.memory(processes)
    return {"pss_mb": pss / 1e6, "uss_mb": uss / 1e6, "processes": len(processes)}


def broadcast(peer, *, samples=200, seconds=3.0):
    """Call a no-op once on every engine and wait for all of them, again and again."""
    for _ in range(5):
        peer.on_all(nothing)
    times = []
    end = clock() + seconds
    while len(times) < samples and clock() < end:
        t0 = clock()
        results = peer.on_all(nothing)
        times.append(clock() - t0)
        if len(results) != peer.n:
            raise ValueError(f"{len(results)} answers from {peer.n} engines")
    return _summary(times)


def data_push(peer, *, nbytes=100_000_000):
    import numpy as np

    peer.push(np.zeros(1_000_000, np.uint8))
    array = np.full(nbytes, 3, np.uint8)
    t0 = clock()
    peer.push(array)
    took = clock() - t0
    return {"seconds": took, "writable": _checked(peer.pushed(look_at), nbytes, 6)}


def data_pass(peer, *, nbytes=100_000_000):
    import numpy as np

    peer.call(look_at, np.zeros(1_000_000, np.uint8))
    array = np.full(nbytes, 4, np.uint8)
    t0 = clock()
    seen = peer.call(look_at, array)
    took = clock() - t0
    return {"seconds": took, "writable": _checked([seen], nbytes, 8)}


def data_return(peer, *, nbytes=100_000_000):
    peer.everyone(make_value, nbytes, pause_s=0.1)
    t0 = clock()
    array = peer.call(value)
    took = clock() - t0
    return {"seconds": took, "writable": _checked([look_at(array)], nbytes, 14)}


def _checked(seen, nbytes, total):
    for ends, size, _ in seen:
        if (ends, size) != (total, nbytes):
            raise ValueError("the array arrived damaged")
    return all(writable for *_, writable in seen)


def engine_killed(peer, *, again=False, patience_s=30.0):
    """Kill the engine that runs a task; how long until its future fails, or the task starts once more elsewhere?

    With `again` the task was handed in so that it is run again.
    """
    handle, name = tempfile.mkstemp(prefix="death-")
    os.close(handle)
    path = Path(name)
    try:
        future = (peer.submit_again if again else peer.submit)(announce_and_hang, name)
        pids = _wait_lines(path, 1, patience_s)
        time.sleep(0.2)  # all is quiet
        t0 = clock()
        os.kill(pids[0], signal.SIGKILL)
        while clock() - t0 < patience_s:
            if peer.finished(future):
                return {"seconds": clock() - t0, "outcome": "error"}
            if path.read_text().count("\n") > 1:
                return {"seconds": clock() - t0, "outcome": "run again"}
            time.sleep(0.0005)
        raise TimeoutError(f"nothing was heard of the task for {patience_s:.0f} s")
    finally:
        path.unlink()


def queued(peer, *, tasks, warm=20_000, settle_s=3.0):
    """Hand in so many no-op calls one by one, futures kept, while all workers are busy; then let them run.

    `accepted_s`: until where tasks are kept says that all are there (or, if it does not say, until the last is handed
    in). Memory is that of all processes but this one, the client's beside it: what a waiting task takes, and what is
    left when all are done and their futures let go of, each beyond what there was after some calls before.
    """
    from . import census

    processes = census.marked(os.environ[census.MARK], but=(os.getpid(),))
    me = census.marked(os.environ[census.MARK], but={process.pid for process in processes})
    _submit_all(peer, min(tasks, warm))
    time.sleep(settle_s)
    before, client_before = census.memory(processes)[1], census.memory(me)[1]
    with tempfile.TemporaryDirectory(prefix="queued-") as folder:
        gate = Path(folder) / "gate"
        busy = [peer.submit(note_and_wait, folder, i, str(gate)) for i in range(peer.n)]
        wait_noted(folder, peer.n, 60.0)
        t0 = clock()
        futures = [peer.submit(inc, i) for i in range(tasks)]
        t1 = clock()
        accepted = _await_taken(peer, peer.n + tasks)
        t2 = clock()
        waiting, client_waiting = census.memory(processes)[1], census.memory(me)[1]
        gate.touch()
        t3 = clock()
        if peer.gather(futures) != list(range(1, tasks + 1)):
            raise ValueError("wrong results")
        t4 = clock()
        peer.gather(busy)
    del futures, busy
    time.sleep(settle_s)
    after, client_after = census.memory(processes)[1], census.memory(me)[1]
    return {
        "tasks": tasks,
        "accepted_s": t2 - t0 if accepted else t1 - t0,
        "submit_s": t1 - t0,
        "run_s": t4 - t3,
        "task_bytes": (waiting - before) / tasks,
        "client_task_bytes": (client_waiting - client_before) / tasks,
        "before_mb": before / 1e6,
        "left_mb": (after - before) / 1e6,
        "client_left_mb": (client_after - client_before) / 1e6,
    }


def _await_taken(peer, number, patience_s=120.0):
    """Wait until so many tasks are known where they are kept; return whether that can be known."""
    end = clock() + patience_s
    try:
        while peer.taken_in() < number:
            if clock() > end:
                raise TimeoutError(f"only {peer.taken_in()} of {number} tasks had been taken in")
            time.sleep(0.01)
    except NotAskedError:
        return False
    return True


def _wait_lines(path, n, patience_s):
    end = clock() + patience_s
    while clock() < end:
        lines = path.read_text().splitlines()
        if len(lines) >= n and path.read_text().endswith("\n"):
            return [int(line) for line in lines]
        time.sleep(0.001)
    raise TimeoutError("the task did not start")


def head_killed(peer, *, tasks=4000, task_s=0.002, long=2, long_s=8.0, patience_s=20.0):
    """Kill the process that keeps the tasks, while long ones run and short ones too, or none; what becomes of them?

    `next_s`: until the next result of a task that had not started; `new_s`, if there were none: until the answer to a
    call handed in after the kill. A task is lost when its result is not there and nothing has come for `patience_s`.
    """
    with tempfile.TemporaryDirectory(prefix="head-") as folder:
        wanted = {-1 - i: peer.submit(note_long, folder, -1 - i, long_s) for i in range(long)}
        wait_noted(folder, long, patience_s)
        wanted |= {i: peer.submit(note, folder, i, task_s) for i in range(tasks)}
        wait_noted(folder, long + tasks // 4, patience_s)
        t0 = peer.kill_head()
        started = set(_noted(folder))
        watched = [number for number in range(tasks) if number not in started][:50]  # the next, in about this order
        if not tasks:
            wanted[0] = peer.submit(note, folder, 0, 0.0)
            watched = [0]
        first_s, good, bad = _await_answers(peer, wanted, watched, t0, patience_s)
        starts = Counter(_noted(folder))
        return {
            "next_s" if tasks else "new_s": first_s,
            "tasks": len(wanted),
            "lost": len(wanted) - len(good),
            "failed": len(bad),
            "doubled": sum(n > 1 for n in starts.values()),
            "long": long,
            "long_lost": sum(number < 0 for number in wanted.keys() - good),
            "long_doubled": sum(n > 1 for number, n in starts.items() if number < 0),
        }


def call_later(peer, *, after_s):
    """Hand in a call after so many seconds, when those who have not noticed at once have noticed."""
    time.sleep(after_s)
    if peer.call(inc, 1) != 2:
        raise ValueError("wrong result")
    return {}


def _await_answers(peer, wanted, watched, t0, patience_s):
    """Wait for all that comes; return when the first good answer of those watched came, and whose was good or bad."""
    number_of = {id(future): number for number, future in wanted.items()}
    good, bad = set(), set()
    first_s = None
    heard = clock()
    while len(good) + len(bad) < len(wanted) and clock() - heard < patience_s:
        eager = first_s is None and clock() - t0 < 1.0
        numbers = (set(watched) if eager else wanted.keys()) - good - bad
        for future in peer.finished_of([wanted[number] for number in numbers]):
            number = number_of[id(future)]
            try:
                right = peer.gather([future]) == [number]
            except Exception:
                right = False
            (good if right else bad).add(number)
            heard = clock()
            if right and first_s is None and number in watched:
                first_s = heard - t0
        time.sleep(0.0005 if first_s is None else 0.05)
    return first_s, good, bad


def _noted(folder):
    """Return the numbers of all tasks that have started, each as often as it has."""
    return [int(line) for path in Path(folder).iterdir() for line in path.read_text().split("\n")[:-1]]


def wait_noted(folder, n, patience_s):
    """Wait until so many tasks have started."""
    end = clock() + patience_s
    while len(_noted(folder)) < n:
        if clock() > end:
            raise TimeoutError("the tasks did not start")
        time.sleep(0.005)


def killed(pid):
    """Kill a process; return when it is dead, with the time of the kill."""
    import psutil

    process = psutil.Process(pid)
    t0 = clock()
    process.kill()
    try:
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.0001)
    except psutil.NoSuchProcess:
        pass
    return t0


QUESTIONS = {
    "start": start,
    "stop": stop,
    "throughput": throughput,
    "latency": latency,
    "map": map_items,
    "memory": memory,
    "broadcast": broadcast,
    "push": data_push,
    "pass": data_pass,
    "return": data_return,
    "engine killed": engine_killed,
    "head killed": head_killed,
    "queued": queued,
    "call later": call_later,
}


# ------------------------------------------------------------------------------------------------------------ the loop


def main(peer, more=None, argv=None):
    """Be the program of an adapter; `more` has questions that only it answers."""
    argv = sys.argv[1:] if argv is None else argv
    questions = {**QUESTIONS, **(more or {})}
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if argv == ["--session"]:
        for line in iter(sys.stdin.readline, ""):
            _say(answers, _answer(peer, questions, **json.loads(line)))
        # Some peers leave threads that keep the interpreter from ending; whoever asked is done with us.
        sys.stderr.flush()
        os._exit(0)
    from .census import MARK

    os.environ.setdefault(MARK, uuid.uuid4().hex)
    n, question, arguments = _parse(argv, questions)
    if MARK.encode() not in Path("/proc/self/environ").read_bytes():  # the mark must be there from our start
        os.dup2(answers.fileno(), 1)
        module = sys.modules["__main__"].__spec__.name
        os.execv(sys.executable, [sys.executable, "-m", module, *argv])
    answer = {"ok": True} if question == "start" else _answer(peer, questions, question="start", n=n)
    if answer["ok"]:
        answer = _answer(peer, questions, question=question, **arguments)
        _answer(peer, questions, question="stop")
    _say(answers, answer)


def _parse(argv, questions):
    import argparse

    parser = argparse.ArgumentParser(description="Put one question to one peer.")
    parser.add_argument("question", choices=sorted(set(questions) - {"stop"}))
    parser.add_argument("-n", type=int, default=4, help="engines (default: 4)")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT=VALUE", help="values are JSON")
    given = parser.parse_intermixed_args(argv)
    arguments = {key: json.loads(text) for key, _, text in (a.partition("=") for a in given.arguments)}
    if given.question == "start":
        arguments["n"] = given.n
    return given.n, given.question, arguments


def _answer(peer, questions, *, question, **arguments):
    try:
        return {"ok": True, **questions[question](peer, **arguments)}
    except NotAskedError as error:
        return {"ok": False, "why": str(error)}
    except Exception as error:
        import traceback

        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0]
        return {"ok": False, "why": f"{type(error).__name__}: {first}".rstrip(": ")[:300]}


def _say(file, answer):
    file.write(json.dumps(answer) + "\n")
    file.flush()
