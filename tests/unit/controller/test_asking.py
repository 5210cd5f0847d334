"""Questions of clients to engines' control threads, on their way there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from enginery.controller.asking import ANSWER_S
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench


def ask(bench: Bench, engine: int = 0) -> int:
    return bench.clients[0].ask(m.AskEngine, engine, "attach", {"of": "the client"})


def test_a_question_and_its_answer_are_passed_on(bench: Bench):
    engine = bench.start().engines[0]
    request = ask(bench)
    question = engine.control.take(m.Ask)
    assert (question.question, question.value) == ("attach", {"of": "the client"})
    engine.control.say(m.Answer(question.request, {"connection_file": "/k.json"}))
    assert bench.clients[0].answer(request) == {"connection_file": "/k.json"}


def test_an_error_of_the_engine_is_the_answer(bench: Bench):
    engine = bench.start().engines[0]
    request = ask(bench)
    engine.control.say(m.Answer(engine.control.take(m.Ask).request, error="it cannot be done"))
    assert bench.clients[0].error(request) == "it cannot be done"


def test_answers_find_their_questions_in_any_order(bench: Bench):
    engine = bench.start().engines[0]
    requests = [ask(bench), ask(bench)]
    first, second = [question for question, _ in engine.control.take_all(m.Ask)]
    engine.control.say(m.Answer(second.request, "second"))
    engine.control.say(m.Answer(first.request, "first"))
    replies = {reply.request: reply.value for reply, _ in bench.clients[0].take_all(m.Reply)}
    assert replies == dict(zip(requests, ["first", "second"], strict=True))


def test_engines_that_are_not_there(bench: Bench):
    bench.start(engines=2)
    assert bench.clients[0].error(ask(bench, 7)) == "there is no engine 7; there are: 0, 1"


def test_an_engine_that_is_not_ready(bench: Bench):
    bench.add_client().hello()
    nanny = bench.add_nanny(engines=1, ready=False)
    assert bench.clients[0].error(ask(bench)) == "engine 0 is not ready (starting)"
    nanny.starts(), bench.clients[0].news()


def test_an_engine_that_ends_does_not_answer(bench: Bench):
    engine = bench.start().engines[0]
    request = ask(bench)
    engine.control.take(m.Ask)
    engine.die()
    assert bench.clients[0].error(request) == "engine 0 ended before it answered"
    bench.nannies[0].starts(), bench.clients[0].news()


def test_an_engine_that_says_nothing(bench: Bench):
    engine = bench.start().engines[0]
    request = ask(bench)
    question = engine.control.take(m.Ask)
    bench.advance(ANSWER_S + 1)
    assert bench.clients[0].error(request) == f"engine 0 has not answered within {ANSWER_S:.0f} s"
    engine.control.say(m.Answer(question.request, "late"))
    assert bench.clients[0].take_all(m.Reply) == []
    assert not bench.core.state.waiters


@pytest.mark.parametrize("number", [0, 99])
def test_an_answer_to_nothing_is_dropped(bench: Bench, number):
    engine = bench.start().engines[0]
    engine.control.say(m.Answer(number, "what?"))
    assert bench.clients[0].take_all(m.Reply) == []
    assert engine.control.take_all(m.Refused) == []
