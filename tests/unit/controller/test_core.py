"""Who may say what; probes, deadlines, and the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from enginery.controller.core import PROBE_S
from enginery.controller.sessions import NANNY_AWAY_S
from enginery.wire import messages as m

from unit.controller.bench import Side

if TYPE_CHECKING:
    from unit.controller.bench import Bench

HELLOS = {"ClientHello", "NannyHello", "EngineHello", "ControlHello"}

EXAMPLES = [
    m.Submit([], [], []),
    m.Forget([]),
    m.Cancel(1, []),
    m.Scale(1, 0),
    m.Restart(1),
    m.Retire(1, []),
    m.Signal(1, 2),
    m.Shutdown(1),
    m.StatusQuery(1),
    m.WaitEngines(1),
    m.Done([]),
    m.Started(1),
    m.Outputs([]),
    m.GivenBack(1, [], []),
    m.AskEngine(1, 0, "attach"),
    m.Answer(1),
    m.Holding(0, []),
    m.Ack(0),
    m.EngineExited(m.DeathCertificate(0, 1, 0)),
    m.EngineHello(m.VERSION, 0, 1, 1),
    m.ControlHello(0, 1),
    m.NannyHello(m.VERSION, "", 1, 1, 0),
    m.ClientHello(m.VERSION),
]

OF_ENGINES = {"Done", "Started", "Outputs", "GivenBack", "Answer", "Holding", "EngineHello", "ControlHello"}
OF_ANYBODY = {"Ack"}
"""What a stranger may say without being told off: it has missed its end."""
OF_NANNIES = {"EngineExited", "Shutdown", "NannyHello"}


def name(message: object) -> str:
    return type(message).__name__


@pytest.mark.parametrize("message", [e for e in EXAMPLES if name(e) not in OF_ENGINES], ids=name)
def test_an_engine_says_what_engines_say(bench: Bench, message):
    engine = bench.start().engines[0]
    engine.say(message)
    assert engine.take(m.Refused).reason == f"an engine does not send {name(message)}"


@pytest.mark.parametrize(
    "message", [e for e in EXAMPLES if name(e) in OF_ENGINES | OF_NANNIES - {"Shutdown"}], ids=name
)
def test_a_client_says_what_clients_say(bench: Bench, message):
    client = bench.start().clients[0]
    client.say(message)
    assert client.take(m.Refused).reason == f"a client does not send {name(message)}"


@pytest.mark.parametrize("message", [e for e in EXAMPLES if name(e) not in OF_NANNIES], ids=name)
def test_a_nanny_says_what_nannies_say(bench: Bench, message):
    nanny = bench.start().nannies[0]
    nanny.say(message)
    assert nanny.take(m.Refused).reason == f"a nanny does not send {name(message)}"


OF_LATE_NANNIES = {"EngineExited", "Running"}
"""What may still be under way when a nanny is given up, or the controller begins anew."""


@pytest.mark.parametrize(
    "message",
    [e for e in EXAMPLES if name(e) not in OF_ENGINES | OF_ANYBODY | HELLOS | OF_LATE_NANNIES],
    ids=name,
)
def test_a_stranger_says_hello_first(bench: Bench, message):
    bench.start()
    stranger = bench.sides[b"cstranger"] = Side(bench, b"cstranger")
    stranger.say(message)
    assert stranger.take(m.Refused).reason == f"{name(message)} before hello"


@pytest.mark.parametrize("message", [e for e in EXAMPLES if name(e) in OF_LATE_NANNIES], ids=name)
def test_a_nanny_that_is_not_known_is_asked_for_its_hello_and_not_refused(bench: Bench, message):
    bench.start()
    stranger = bench.sides[b"nstranger"] = Side(bench, b"nstranger")
    stranger.say(message)
    stranger.take(m.Resume)


@pytest.mark.parametrize(
    "message",
    [
        m.Done([]),
        m.Started(1),
        m.Outputs([]),
        m.GivenBack(1, [], []),
        m.Holding(0, []),
        m.ControlHello(9, 1),
        m.Ping(),
    ],
    ids=name,
)
def test_the_last_words_of_an_engine_that_is_over_harm_nobody(bench: Bench, message):
    bench.start()
    bench.tell(b"e9.1", message)


def test_what_is_no_message_is_answered(bench: Bench):
    client = bench.start().clients[0]
    bench.core.malformed(client.name, "Expected `int`, got `str` - at `$[1]`")
    bench.turn()
    assert client.take(m.Refused).reason == "malformed message: Expected `int`, got `str` - at `$[1]`"


def test_pings_are_answered(bench: Bench):
    bench.start()
    for side in (bench.clients[0], bench.nannies[0]):
        side.say(m.Ping())
        assert side.pongs == 1


def test_clients_and_nannies_are_probed(bench: Bench):
    bench.start(clients=2, hosts=2)
    bench.advance(PROBE_S)
    assert [side.pongs for side in (*bench.clients, *bench.nannies)] == [1, 1, 1, 1]
    assert bench.core.deadline() == pytest.approx(bench.now + PROBE_S)


def test_a_host_that_cannot_be_reached_is_noticed_by_the_probe(bench: Bench):
    bench.start(hosts=2)
    bench.nannies[1].lose_connection(noticed=False)
    bench.advance(PROBE_S + NANNY_AWAY_S - 0.1)
    assert list(bench.core.state.engines) == [0, 1]
    assert bench.clients[0].news() == []
    bench.advance(0.2)
    assert list(bench.core.state.engines) == [0]
    assert bench.clients[0].news() == [(1, "dead")]


def test_an_unknown_peer_that_cannot_be_reached_is_nothing(bench: Bench):
    bench.start()
    bench.core.lost(b"cstranger", bench.now)
    bench.turn()


# ------------------------------------------------------------------------------------------------------- the end


def test_shutdown_is_answered_and_everybody_is_told(bench: Bench):
    # Given a client that waits for something, another, an engine at work, and one that starts
    bench.start(engines=1, clients=2)
    asking, other = bench.clients
    asking.submit()
    bench.engines[0].given()
    bench.nannies[0].starts()
    waiting = other.ask(m.WaitEngines, 9)
    # When one stops the cluster
    request = asking.ask(m.Shutdown)
    # Then it is answered first, and all hear farewell
    assert asking.kinds() == ["Reply", "Farewell"]
    assert asking.answer(request) is True
    assert other.error(waiting) == "the cluster was stopped"
    for side in (asking, other, bench.nannies[0]):
        assert side.take(m.Farewell).reason == "the cluster was stopped"
    bench.engines[0].control.take(m.Farewell)
    assert bench.core.state.stopping


def test_the_head_nanny_can_stop_the_cluster(bench: Bench):
    bench.start()
    bench.nannies[0].say(m.Shutdown())
    bench.nannies[0].take(m.Farewell)
    bench.clients[0].take(m.Farewell)
    bench.engines[0].control.take(m.Farewell)


def test_the_controller_can_be_told_to_stop_with_a_reason(bench: Bench):
    bench.start()
    bench.core.stop("SIGTERM")
    bench.core.stop("again")
    bench.turn()
    assert bench.clients[0].take(m.Farewell).reason == "SIGTERM"
    assert bench.nannies[0].take(m.Farewell).reason == "SIGTERM"
    bench.engines[0].control.take(m.Farewell)


def test_nothing_is_begun_after_the_end(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    client.submit(3)
    running, _ = engine.given()
    client.ask(m.Shutdown)
    client.submit()
    engine.finish(running)
    assert engine.kinds() == []
    engine.die(exit_code=0)
    assert bench.nannies[0].starts() == []
    bench.forget_what_was_said()


def test_results_of_the_last_turn_come_before_the_farewell(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit()
    engine.given()
    bench.burst(lambda: engine.finish(task), lambda: client.ask(m.Shutdown))
    assert client.kinds() == ["Results", "Reply", "Farewell"]
    bench.forget_what_was_said()


def test_a_client_that_is_away_is_not_told(bench: Bench):
    bench.start(clients=2)
    bench.core.lost(bench.clients[0].name, bench.now)
    bench.clients[1].ask(m.Shutdown)
    assert bench.clients[0].kinds() == []
    bench.forget_what_was_said()


def test_an_engine_that_has_not_said_hello_is_left_to_its_nanny(bench: Bench):
    nanny = bench.add_nanny(1, ready=False)
    nanny.starts()
    nanny.say(m.Shutdown())
    nanny.take(m.Farewell)
