"""Questions of clients to engines: passed on to the control thread, and its answer passed back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..wire.messages import Answer, Ask, AskEngine
from . import fleet
from .records import EngineState
from .requests import Waiter, wait

if TYPE_CHECKING:
    from ..ids import Peer
    from .records import Engine
    from .state import State

ANSWER_S = 30.0
"""A control thread answers at once, and builds what it is asked for in a second. One that takes longer is stopped, or
its host is; or the question was lost with a connection, and may be asked again."""


class Question:
    """A question that was passed on, until its asker is answered."""

    def __init__(self, state: State, engine: Engine) -> None:
        self.number = state.next_request()
        self.answer: Answer | None = None
        self._state = state
        self._engine = engine
        self._incarnation = engine.incarnation
        self._late = False

    def give_up(self, _now: float) -> None:
        """Too much time has passed."""
        self._engine.questions.pop(self.number, None)
        self._late = self._state.fleet_changed = True

    def is_answered(self) -> bool:
        """Whether there is a value."""
        return self.answer is not None and self.answer.error is None

    def value(self) -> Any:
        """Return the value."""
        assert self.answer is not None, "asked for when it is answered"
        return self.answer.value

    def trouble(self) -> str:
        """Return why there is and will be no value."""
        engine = self._engine
        if self.answer is not None:
            return self.answer.error or ""
        if self._state.engines.get(engine.id) is not engine or engine.incarnation != self._incarnation:
            return f"engine {engine.id} ended before it answered"
        return f"engine {engine.id} has not answered within {ANSWER_S:.0f} s" if self._late else ""


def on_ask(state: State, peer: Peer, message: AskEngine, now: float) -> None:
    """A client asks an engine something."""
    engine = state.engines.get(message.engine)
    if engine is None:
        state.reply(peer, message.request, error=fleet.no_such_engine(state, [message.engine]))
        return
    if engine.state is not EngineState.READY:
        why = f": {engine.reason}" if engine.reason else ""
        state.reply(peer, message.request, error=f"engine {engine.id} is not ready ({engine.state}){why}")
        return
    question = Question(state, engine)
    engine.questions[question.number] = question
    state.outbox.say(engine.control, Ask(question.number, message.question, message.value))
    state.at(now + ANSWER_S, question.give_up)
    wait(state, Waiter(peer, message.request, question.is_answered, question.value, question.trouble))


def on_answer(state: State, engine: Engine, message: Answer) -> None:
    """An engine has answered. An answer that nobody waits for any more is dropped."""
    question = engine.questions.pop(message.request, None)
    if question is not None:
        question.answer = message
        state.fleet_changed = True
