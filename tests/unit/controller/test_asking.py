"""Questions of clients to engines, passed on and answered once, whatever becomes of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.controller.asking import ANSWER_S
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench


def asked(bench: Bench, engine: int = 0) -> tuple[int, m.Ask]:
    """A client asks; return its request, and what the engine is asked."""
    client = bench.clients[0]
    request = client.ask(m.AskEngine, engine, "attach", {"how": "so"})
    return request, bench.engines[engine].control.take(m.Ask)


def reply(bench: Bench, request: int) -> m.Reply:
    client = bench.clients[0]
    client.take_all(m.Engines)
    answer = client.take(m.Reply)
    assert answer.request == request
    return answer


def test_question_and_answer_are_passed_on(bench: Bench):
    bench.start(engines=2)
    request, ask = asked(bench, 1)
    assert (ask.question, ask.value) == ("attach", {"how": "so"})
    bench.engines[1].control.say(m.Answer(ask.request, {"connection_file": "/k"}))
    assert reply(bench, request).value == {"connection_file": "/k"}


def test_two_who_ask_get_their_own_answers(bench: Bench):
    bench.start(engines=1)
    first, ask = asked(bench)
    second, other = asked(bench)
    control = bench.engines[0].control
    control.say(m.Answer(other.request, "to the second"))
    assert reply(bench, second).value == "to the second"
    control.say(m.Answer(ask.request, error="not now"))
    assert reply(bench, first).error == "not now"


def test_an_engine_that_is_not_there_is_named(bench: Bench):
    bench.start(engines=1)
    request = bench.clients[0].ask(m.AskEngine, 7, "attach")
    assert reply(bench, request).error == "there is no engine 7; there are: 0"


def test_an_engine_that_is_not_ready_says_so(bench: Bench):
    bench.start(engines=1)
    bench.engines[0].die()
    assert bench.nannies[0].starts() == [(0, 2)]
    request = bench.clients[0].ask(m.AskEngine, 0, "attach")
    assert reply(bench, request).error == "engine 0 is not ready (starting)"


def test_who_dies_does_not_answer(bench: Bench):
    bench.start(engines=1)
    request, _ = asked(bench)
    bench.engines[0].die()
    assert bench.nannies[0].starts() == [(0, 2)]
    assert reply(bench, request).error == "engine 0 ended before it answered"


def test_who_says_nothing_is_waited_for_so_long_and_may_be_late(bench: Bench):
    bench.start(engines=1)
    request, ask = asked(bench)
    bench.advance(ANSWER_S + 1)
    assert reply(bench, request).error == "engine 0 has not answered within 30 s"
    bench.engines[0].control.say(m.Answer(ask.request, "late"))
    bench.engines[0].control.say(m.Answer(12345, "to nobody"))
    assert bench.clients[0].take_all(m.Reply) == []
