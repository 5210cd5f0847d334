"""The nanny's decisions, driven directly."""

import signal

import pytest
from enginery.nanny import core as c
from enginery.nanny.children import Key
from enginery.recorder import Entry
from enginery.wire import messages as m

NOTHING = Entry(None, 0, 0.0)
A, B = Key(0, 1), Key(1, 1)


@pytest.fixture
def core():
    """A nanny whose controller runs and knows it."""
    core = c.NannyCore()
    core.on_controller_started()
    core.on_nanny_welcome()
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
    core.on_memory(A, 5000)
    core.on_memory(A, 0)  # a look that came too late
    core.on_exited(A, -9, Entry(77, 3, 1.0), "last words")
    (action,) = core.take()
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
    )
    assert core.running() == []


def test_an_end_is_reported_once(core):
    start(core, A)
    core.on_exited(A, 3, NOTHING, "")
    core.on_exited(A, 3, NOTHING, "")
    (action,) = core.take()
    assert certificate(action).reason == "exited with code 3"


def test_a_process_that_cannot_be_made_is_reported_without_pid(core):
    core.on_start_engines(m.StartEngines([(0, 1)]))
    core.take()
    core.on_unstarted(A, "no memory")
    (action,) = core.take()
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
