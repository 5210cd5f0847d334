"""The nanny's decisions, driven directly."""

import signal

import msgspec
import pytest
from enginery.nanny import core as c
from enginery.nanny.children import Key
from enginery.recorder import AFTER_LAST, Entry
from enginery.wire import messages as m

NOTHING = Entry(None, 0, 0.0)
A, B = Key(0, 1), Key(1, 1)


@pytest.fixture
def core():
    """A nanny whose controller runs and knows it."""
    core = c.NannyCore()
    core.on_controller_started()
    core.on_nanny_welcome(m.NannyWelcome())
    return core


def start(core, *keys, pid=100):
    core.on_start_engines(m.StartEngines([tuple(key) for key in keys]))
    for i, key in enumerate(keys):
        core.on_started(key, pid + i)
    core.take()


def without_log(actions):
    return [action for action in actions if not isinstance(action, c.Log)]


def certificate(action):
    assert isinstance(action, c.Send)
    assert isinstance(action.message, m.EngineExited)
    return action.message.certificate


def test_starts_what_is_asked_for_once(core):
    core.on_start_engines(m.StartEngines([(0, 1), (1, 1)]))
    core.on_start_engines(m.StartEngines([(1, 1)]))
    assert core.take() == [c.StartProcess(A), c.StartProcess(B)]
    assert core.take() == []
    assert core.running() == []
    core.on_started(A, 7)
    assert core.running() == [(A, 7)]


def test_a_later_incarnation_ends_the_earlier_one(core):
    start(core, A)
    core.on_start_engines(m.StartEngines([(0, 2)]))
    assert core.take() == [c.SignalProcess(A, signal.SIGKILL), c.StartProcess(Key(0, 2))]


def test_the_certificate_says_all_that_is_known(core):
    start(core, A, pid=42)
    core.on_memory(A, 4000, now=10.0)
    core.on_memory(A, 5000, now=12.0)
    core.on_memory(A, 0, now=14.0)  # a look that came too late
    core.on_exited(A, -9, Entry(77, 3, 1.0), "last words", end=c.End(now=14.5, epoch=9.0, peak_bytes=6000))
    (action,) = without_log(core.take())
    assert certificate(action) == m.DeathCertificate(
        engine=0,
        incarnation=1,
        pid=42,
        exit_code=-9,
        reason="killed by signal 9 (SIGKILL)",
        task=77,
        item=3,
        memory_bytes=5000,
        last_output="last words",
        since=1.0,
        ended=9.0,
        peak_bytes=6000,
        memory_curve=[(4.5, 4000), (2.5, 5000)],
    )
    assert core.running() == []


def test_the_memory_curve_has_the_last_points(core):
    start(core, A)
    for i in range(100):
        core.on_memory(A, 1000 + i, now=float(i))
    core.on_exited(A, -9, NOTHING, "", end=c.End(now=100.0))
    told = certificate(core.take()[0])
    assert told.memory_curve == [(100.0 - i, 1000 + i) for i in range(100 - c.CURVE, 100)]
    assert told.memory_bytes == 1099


@pytest.mark.parametrize("entry", [NOTHING, Entry(77, AFTER_LAST, 1.0)])
def test_an_engine_that_ran_nothing_was_not_at_it_since_any_time(core, entry):
    start(core, A)
    core.on_exited(A, -9, entry, "")
    assert certificate(core.take()[0]).since == 0.0


def test_an_end_is_reported_once(core):
    start(core, A)
    core.on_exited(A, 3, NOTHING, "")
    core.on_exited(A, 3, NOTHING, "")
    (action,) = without_log(core.take())
    assert certificate(action).reason == "exited with code 3"


def test_a_process_that_cannot_be_made_is_reported_without_pid(core):
    core.on_start_engines(m.StartEngines([(0, 1)]))
    core.take()
    core.on_unstarted(A, "no memory")
    action, log = core.take()
    assert log == c.Log("engine 0 could not be started: no memory")
    assert (certificate(action).pid, certificate(action).reason) == (0, "could not be started: no memory")


def test_stop_engine_signals_a_running_process(core):
    start(core, A)
    core.on_stop_engine(m.StopEngine(0, 1, signal.SIGTERM))
    assert core.take() == [c.SignalProcess(A, signal.SIGTERM)]


def test_stop_engine_waits_for_a_process_that_is_being_made(core):
    core.on_start_engines(m.StartEngines([(0, 1)]))
    core.take()
    core.on_stop_engine(m.StopEngine(0, 1, signal.SIGKILL))
    assert core.take() == []
    core.on_started(A, 5)
    assert core.take() == [c.SignalProcess(A, signal.SIGKILL)]


def test_stop_engine_for_nobody_is_answered(core):
    core.on_stop_engine(m.StopEngine(4, 2, signal.SIGKILL))
    (action,) = core.take()
    assert (certificate(action).engine, certificate(action).incarnation) == (4, 2)
    assert certificate(action).reason == "was not running"


def test_a_stop_tells_the_controller_first_and_ends_when_all_have_ended(core):
    start(core, A, B)
    core.stop("asked", now=10.0)
    assert without_log(core.take()) == [c.Send(m.Shutdown())]
    core.on_farewell(m.Farewell(), now=10.0)
    core.on_exited(A, 0, NOTHING, "")
    core.on_controller_exited(0, now=10.1)
    assert not core.finished
    core.on_exited(B, 0, NOTHING, "")
    assert core.finished
    assert core.take()[-1] == c.Finish()
    assert core.deadline() is None


def test_a_stop_is_begun_once(core):
    start(core, A)
    core.stop("asked", now=10.0)
    core.stop("asked again", now=10.2)
    assert [type(action) for action in without_log(core.take())] == [c.Send]
    assert core.deadline() == 10.0 + c.GRACE_S
    assert core.stopping == "asked"


def test_what_does_not_end_in_time_is_killed(core):
    start(core, A)
    core.stop("asked", now=10.0)
    core.take()
    core.tick(now=10.0 + c.GRACE_S / 2)
    assert core.take() == []
    core.tick(now=10.0 + c.GRACE_S)
    assert without_log(core.take()) == [c.KillAll(), c.Finish()]
    assert core.finished


def test_engines_have_less_time_once_the_controller_has_gone(core):
    start(core, A)
    core.stop("asked", now=10.0)
    core.on_controller_exited(0, now=10.05)
    assert core.deadline() == 10.05 + c.ALONE_S
    core.tick(now=10.05 + c.ALONE_S)
    assert core.finished


def test_processes_that_are_being_made_do_not_hold_up_a_stop(core):
    core.on_start_engines(m.StartEngines([(0, 1)]))
    core.stop("asked", now=0.0)
    core.on_controller_exited(0, now=0.01)
    assert core.finished
    core.on_started(A, 9)  # the zygote, which ends with us, was faster
    assert core.running() == []


def test_nothing_is_started_during_a_stop(core):
    core.on_farewell(m.Farewell(), now=0.0)
    core.take()
    core.on_start_engines(m.StartEngines([(0, 1)]))
    assert core.take() == []


def test_without_a_controller_everything_is_killed_at_once(core):
    start(core, A)
    core.on_controller_exited(-11, now=0.0)
    actions = core.take()
    assert without_log(actions) == [c.KillAll(), c.Finish()]
    assert "SIGSEGV" in actions[0].text


def test_a_controller_that_does_not_know_us_yet_is_not_asked():
    core = c.NannyCore()
    core.on_controller_started()
    core.stop("asked", now=0.0)
    assert without_log(core.take()) == [c.KillAll(), c.Finish()]


def test_a_refusal_ends_the_cluster(core):
    core.on_refused(m.Refused("another version"), now=0.0)
    actions = core.take()
    assert "another version" in actions[-1].text or "another version" in core.stopping


def test_a_lost_zygote_is_replaced(core):
    start(core, A)
    core.on_exited(A, -9, NOTHING, "", reason="killed because the zygote had ended")
    core.on_zygote_lost(-9)
    actions = core.take()
    assert certificate(actions[0]).reason == "killed because the zygote had ended"
    assert actions[-1] == c.RenewZygote()


def test_a_zygote_lost_during_a_stop_is_not(core):
    core.stop("asked", now=0.0)
    core.take()
    core.on_zygote_lost(0)
    assert core.take() == []


# ------------------------------------------------------------------------------------------------------ a second one


@pytest.fixture
def durable():
    """The same, and the controller has a journal."""
    core = c.NannyCore(durable=True)
    core.on_controller_started(0.0)
    core.on_nanny_welcome(m.NannyWelcome())
    return core


def restarts(core):
    """Return whether a controller is to be started now."""
    return without_log(core.take()) == [c.StartController()]


def test_another_controller_is_started_at_once(durable):
    start(durable, A)
    durable.on_controller_exited(-9, now=100.0)
    log, action = durable.take()
    assert log.text == "the controller has ended (killed by signal 9 (SIGKILL)); another takes over"
    assert action == c.StartController()
    assert durable.running() == [(A, 100)]
    assert not durable.stopping
    assert not durable.finished
    assert durable.deadline() is None


def test_a_controller_that_has_never_welcomed_us_is_not_replaced():
    core = c.NannyCore(durable=True)
    core.on_controller_started(0.0)
    core.on_controller_exited(1, now=1.0)
    assert without_log(core.take()) == [c.Finish()]
    assert core.stopping == "the controller has ended (exited with code 1)"


def test_no_other_controller_is_started_during_a_stop(durable):
    durable.stop("asked", now=10.0)
    durable.take()
    durable.on_controller_exited(0, now=10.1)
    assert durable.take() == [c.Finish()]
    assert durable.finished


def test_controllers_that_end_soon_are_replaced_with_growing_pauses_and_given_up(durable):
    start(durable, A)
    now = 1.0
    pauses = []
    for _ in range(c.TRIES):
        durable.on_controller_exited(1, now)
        if not restarts(durable):
            at = durable.deadline()
            pauses.append(at - now)
            durable.tick(at - 0.01)
            assert durable.take() == []
            durable.tick(at)
            assert restarts(durable)
            durable.tick(at + 0.01)
            assert durable.take() == [], "one"
            now = at
        assert durable.deadline() is None
        durable.on_controller_started(now)
        durable.on_nanny_welcome(m.NannyWelcome())
        now += 1.0
    assert pauses == pytest.approx([c.PAUSE_S * 2**n for n in range(c.TRIES - 2)])
    durable.on_controller_exited(1, now)
    assert without_log(durable.take()) == [c.KillAll(), c.Finish()]
    assert durable.stopping == "the controller has ended (exited with code 1)"
    assert durable.deadline() is None


def test_a_controller_that_has_run_for_long_is_no_failed_try(durable):
    now = 0.0
    for _ in range(3 * c.TRIES):
        durable.on_controller_started(now)
        now += c.STEADY_S
        durable.on_controller_exited(1, now)
        assert restarts(durable)


def test_tries_count_from_the_last_steady_controller(durable):
    now = 0.0
    for _ in range(c.TRIES):
        for runs_s in (0.125, c.STEADY_S):
            durable.on_controller_started(now)
            now += runs_s
            durable.on_controller_exited(1, now)
            assert restarts(durable)
            now += 0.125


def test_a_stop_while_the_next_controller_is_waited_for(durable):
    start(durable, A)
    for now in (1.0, 2.0, 3.0):
        durable.on_controller_started(now)
        durable.on_controller_exited(1, now + 0.1)
    durable.take()
    durable.stop("asked", now=3.15)
    assert without_log(durable.take()) == [c.KillAll(), c.Finish()]
    durable.tick(100.0)
    assert durable.take() == []
    assert durable.deadline() is None


def test_while_there_is_no_controller_engines_that_end_are_certified(durable):
    start(durable, A, B)
    durable.on_controller_exited(-9, now=10.0)
    durable.take()
    durable.on_exited(A, -11, Entry(5, 0, 1.0), "")
    durable.take()  # said to nobody
    durable.on_controller_started(11.0)
    assert durable.hello(HELLO).welcomed
    hello = told(durable)
    assert hello.running == [tuple(B)]
    assert [(end.engine, end.incarnation, end.exit_code, end.task) for end in hello.ended] == [(0, 1, -11, 5)]


# ------------------------------------------------------------------------------------------------------ the hello

HELLO = m.NannyHello(m.VERSION, "host", 50, 4, 2, head=True)


def test_the_first_hello_is_as_it_is_given():
    assert c.NannyCore().hello(HELLO) == HELLO


def told(core):
    """Return what it says that it runs, when it is asked."""
    core.take()
    core.on_nanny_welcome(m.NannyWelcome(7))
    (action,) = core.take()
    assert isinstance(action.message, m.Running)
    assert action.message.session == 7
    return action.message


def test_a_later_hello_says_that_it_is_one(core):
    assert core.hello(HELLO) == msgspec.structs.replace(HELLO, welcomed=True)


def test_a_fresh_nanny_is_not_asked_what_it_runs(core):
    core.take()
    core.on_nanny_welcome(m.NannyWelcome())
    assert core.take() == []


def test_it_tells_what_runs_or_was_asked_for(core):
    start(core, A)
    core.on_start_engines(m.StartEngines([tuple(B)]))
    assert told(core).running == [tuple(A), tuple(B)]


def test_it_tells_the_last_end_of_each_engine(core):
    start(core, A, B)
    core.on_exited(A, -9, NOTHING, "first")
    core.on_exited(B, 3, NOTHING, "")
    start(core, Key(0, 2))
    core.on_exited(Key(0, 2), -15, NOTHING, "second")
    hello = told(core)
    assert [(end.engine, end.incarnation, end.last_output) for end in hello.ended] == [(0, 2, "second"), (1, 1, "")]
    assert hello.running == []


def test_the_end_of_an_earlier_process_does_not_take_the_place_of_a_later_ones(core):
    start(core, A)
    start(core, Key(0, 2))
    core.on_exited(Key(0, 2), -15, NOTHING, "")
    core.on_exited(A, -9, NOTHING, "")
    assert [end.incarnation for end in told(core).ended] == [2]


def test_a_process_that_could_not_be_made_has_ended_too(core):
    core.on_start_engines(m.StartEngines([(0, 1)]))
    core.on_unstarted(A, "no memory")
    hello = told(core)
    assert hello.running == []
    assert [end.reason for end in hello.ended] == ["could not be started: no memory"]


def test_who_is_to_be_killed_and_has_ended_is_certified_again(core):
    start(core, A)
    core.on_exited(A, -9, Entry(77, 3, 1.0), "last words")
    (first,) = without_log(core.take())
    core.on_stop_engine(m.StopEngine(0, 1, signal.SIGKILL))
    (again,) = core.take()
    assert certificate(again) == certificate(first)


def test_a_later_process_that_never_was_is_not_certified_by_an_earlier_end(core):
    start(core, A)
    core.on_exited(A, -9, NOTHING, "")
    core.take()
    core.on_stop_engine(m.StopEngine(0, 2, signal.SIGKILL))
    (action,) = core.take()
    assert (certificate(action).incarnation, certificate(action).reason) == (2, "was not running")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-9, "killed by signal 9 (SIGKILL)"),
        (-63, "killed by signal 63"),
    ],
)
def test_reasons(status, reason):
    assert c.reason_for(status) == reason


# ------------------------------------------------------------------------------------------------ killed by the kernel


MB = 1 << 20


@pytest.fixture
def counted():
    """A nanny that can read how many the kernel has killed (none so far), with engine A."""
    core = c.NannyCore("counter")
    core.on_controller_started()
    core.on_nanny_welcome(m.NannyWelcome())
    core.on_kills("counter", 4, now=0.0)
    start(core, A, B)
    return core


def reason(core):
    return certificate(without_log(core.take())[0]).reason


def test_a_kill_that_the_kernel_counted_is_likely_its(counted):
    assert counted.counter_for(A, -9) == "counter"
    counted.on_memory(A, 100 * MB, now=2.0, counter="counter")
    counted.on_kills("counter", 5, now=3.0)
    counted.on_exited(A, -9, NOTHING, "", end=c.End(now=3.0, peak_bytes=3900 * MB))
    assert reason(counted) == "killed by signal 9 (SIGKILL), likely by the kernel for lack of memory (3.8 GB resident)"
    # And it explains no second end.
    counted.on_exited(B, -9, NOTHING, "", end=c.End(now=3.0))
    assert reason(counted) == "killed by signal 9 (SIGKILL)"


def test_of_a_process_that_was_never_measured_no_figure_is_told(counted):
    counted.on_kills("counter", 5, now=1.0)
    counted.on_exited(A, -9, NOTHING, "", end=c.End(now=1.0))
    assert reason(counted) == "killed by signal 9 (SIGKILL), likely by the kernel for lack of memory"


def test_a_kill_that_nobody_counted_is_not_the_kernels(counted):
    counted.on_kills("counter", 4, now=1.0)
    counted.on_exited(A, -9, NOTHING, "", end=c.End(now=1.0))
    assert reason(counted) == "killed by signal 9 (SIGKILL)"


def test_a_kill_of_our_own_is_not_the_kernels(counted):
    counted.on_stop_engine(m.StopEngine(0, 1, signal.SIGKILL))
    counted.take()
    assert counted.counter_for(A, -9) is None
    counted.on_kills("counter", 5, now=1.0)
    counted.on_exited(A, -9, NOTHING, "", end=c.End(now=1.0))
    assert reason(counted) == "killed by signal 9 (SIGKILL)"


@pytest.mark.parametrize("status", [-11, -15, 0, 137])
def test_other_ends_are_not_the_kernels(counted, status):
    assert counted.counter_for(A, status) is None
    counted.on_kills("counter", 5, now=1.0)
    counted.on_exited(A, status, NOTHING, "", end=c.End(now=1.0))
    assert reason(counted) == c.reason_for(status)


def test_where_nothing_is_counted_nothing_is_said(core):
    start(core, A)
    assert core.counter_for(A, -9) is None
    assert core.counters() == set()
    core.on_exited(A, -9, NOTHING, "")
    assert reason(core) == "killed by signal 9 (SIGKILL)"


def test_an_engine_that_moves_is_counted_where_it_is(counted):
    counted.on_memory(A, MB, now=2.0, counter="elsewhere")
    assert counted.counters() == {"counter", "elsewhere"}
    counted.on_kills("elsewhere", 0, now=2.0)
    counted.on_kills("elsewhere", 1, now=3.0)
    assert counted.counter_for(A, -9) == "elsewhere"
    counted.on_exited(A, -9, NOTHING, "", end=c.End(now=3.0))
    assert "likely by the kernel" in reason(counted)
    assert counted.counters() == {"counter"}


# ---------------------------------------------------------------------------------------------------------- the log


def logged(core):
    return [action.text for action in core.take() if isinstance(action, c.Log)]


@pytest.mark.parametrize(
    ("entry", "doing"),
    [
        (NOTHING, "before it had run a task"),
        (Entry((3 << 40) + 17, 0, 1.0), "while it ran task 3-17"),
        (Entry((3 << 40) + 17, 5, 1.0), "while it ran item 5 of task 3-17"),
        (Entry((3 << 40) + 17, AFTER_LAST, 1.0), "after it had run task 3-17"),
    ],
)
def test_an_end_is_logged_with_what_the_engine_was_doing(core, entry, doing):
    start(core, A, pid=42)
    core.on_exited(A, -11, entry, "one\ntwo")
    (text,) = logged(core)
    first, *details = text.splitlines()
    assert first == f"engine 0 (pid 42) killed by signal 11 (SIGSEGV) {doing}"
    assert details[-3:] == ["  last output:", "    one", "    two"]


def test_a_kill_of_our_own_is_logged_as_such(core):
    start(core, A)
    core.on_stop_engine(m.StopEngine(0, 1, signal.SIGKILL))
    core.on_exited(A, -9, NOTHING, "")
    assert logged(core) == [
        "engine 0 (pid 100) killed by signal 9 (SIGKILL) on request before it had run a task",
    ]


def test_an_orderly_end_is_logged_in_a_line_and_not_in_a_stop(core):
    start(core, A, B)
    core.on_exited(A, 0, NOTHING, "what it had printed")
    assert logged(core) == ["engine 0 (pid 100) exited with code 0 before it had run a task"]
    core.on_farewell(m.Farewell(), now=1.0)
    core.take()
    core.on_exited(B, 0, NOTHING, "")
    assert logged(core) == []


def test_ends_without_end_do_not_fill_the_disk(core, monkeypatch):
    monkeypatch.setattr(c, "ACCOUNTS_MAX", 1000)
    keys = [Key(i, 1) for i in range(30)]
    start(core, *keys)
    for key in keys:
        core.on_exited(key, -11, NOTHING, "x" * 100)
    texts = logged(core)
    assert len(texts) == 30
    assert sum("this log is long" in text for text in texts) == 1
    assert "\n" in texts[0]
    assert "\n" not in texts[-1]


# ------------------------------------------------------------------------------------------------------ guests


@pytest.fixture
def guest():
    """A nanny whose controller is on another host, and has welcomed it at 10.0."""
    guest = c.NannyCore(is_guest=True)
    guest.on_heard(10.0)
    guest.on_nanny_welcome(m.NannyWelcome())
    return guest


def test_a_guest_that_hears_nothing_of_its_controller_ends(guest):
    start(guest, A)
    assert guest.deadline() == 10.0 + c.GONE_S
    guest.tick(10.0 + c.GONE_S - 0.1)
    guest.on_heard(100.0)
    guest.tick(10.0 + c.GONE_S)
    assert not guest.stopping
    guest.tick(100.0 + c.GONE_S)
    assert "has not been heard of for 120 s" in guest.stopping
    assert guest.finished
    assert c.KillAll() in guest.take()


def test_a_guest_that_was_stopped_itself_waits_once_more(guest):
    guest.tick(3600.0)
    assert not guest.stopping
    guest.tick(3600.0 + c.GONE_S)
    assert guest.stopping


def test_a_guest_says_goodbye_and_stops_no_controller(guest):
    guest.stop("it was asked to", 20.0)
    assert without_log(guest.take()) == [c.Send(m.Goodbye()), c.Finish()]


def test_a_guest_ends_with_its_cluster(guest):
    start(guest, A)
    guest.on_farewell(m.Farewell("the cluster was stopped"), 20.0)
    assert guest.stopping == "the cluster was stopped"
    guest.on_exited(A, 0, NOTHING, "")
    assert guest.finished
