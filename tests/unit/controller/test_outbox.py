"""The order of what a turn says, and what is written down of it."""

from __future__ import annotations

from enginery.controller.journal.ledger import Assigned, Delivered
from enginery.controller.outbox import Outbox
from enginery.controller.records import Client, Engine
from enginery.ids import ClientNo, EngineId, Peer
from enginery.wire.messages import Call, Output, Outputs, Ping, Pong, Reply, Result, Results, Run

NANNY = Peer(b"n")


def some_client(peer: bytes = b"c") -> Client:
    return Client(ClientNo(1), Peer(peer), "", 0, "")


def some_engine() -> Engine:
    return Engine(EngineId(0), NANNY, "host")


class Journaled(Outbox):
    """An outbox, and what it has written down."""

    def __init__(self) -> None:
        self.notes = []
        super().__init__(self.notes.append)


def test_nothing_said_nothing_sent():
    outbox = Journaled()
    assert outbox.take() == []
    assert outbox.notes == []


def test_singles_then_work_then_output_then_results_then_answers():
    outbox, client, engine = Journaled(), some_client(), some_engine()
    outbox.answer(client.peer, Reply(1))
    client.results.append(Result(1, 0, b"", 1))
    client.frames.append(b"frame")
    client.outputs.append(Output(1, "stdout", "text"))
    outbox.to_client(client)
    work = outbox.work_for(engine)
    work.calls.append(Call(2, b"f", b"", 1))
    work.frames.append(b"argument")
    outbox.say(NANNY, Pong())
    letters = outbox.take()
    assert [type(letter.message) for letter in letters] == [Pong, Run, Outputs, Results, Reply]
    assert [letter.peer for letter in letters] == [NANNY, engine.peer, client.peer, client.peer, client.peer]
    assert [list(letter.frames) for letter in letters] == [[], [b"argument"], [], [b"frame"], []]


def test_it_is_empty_afterwards():
    outbox, client = Journaled(), some_client()
    outbox.say(NANNY, Ping())
    outbox.answer(NANNY, Pong())
    outbox.work_for(some_engine()).calls.append(Call(2, b"f", b""))
    client.results.append(Result(1, 0, b""))
    outbox.to_client(client)
    assert len(outbox.take()) == 4
    assert outbox.take() == []
    assert client.results == []


def test_all_work_for_an_engine_is_one_message():
    outbox, engine = Journaled(), some_engine()
    engine.incoming.have = 7
    outbox.work_for(engine).calls.append(Call(1, b"f", b""))
    outbox.work_for(engine).calls.append(Call(2, b"f", b""))
    (letter,) = outbox.take()
    assert [call.id for call in letter.message.calls] == [1, 2]
    assert letter.message.ack == engine.acked == 7
    assert outbox.notes == [Assigned(0, [1, 2])]


def test_work_without_a_call_is_not_sent():
    outbox = Journaled()
    outbox.work_for(some_engine())
    assert outbox.take() == []
    assert outbox.notes == []


def test_what_a_client_is_sent_is_numbered_kept_and_written_down():
    outbox, client = Journaled(), some_client()
    client.incoming.have = 5
    client.results.append(Result(1, 0, b"", 1))
    client.frames.append(b"frame")
    client.outputs.append(Output(1, "stdout", "text"))
    outbox.to_client(client)
    outputs, results = outbox.take()
    assert (outputs.message.seq, results.message.seq) == (1, 2)
    assert results.message.ack == client.acked == 5
    assert client.outgoing.after(0) == [(outputs.message, ()), (results.message, [b"frame"])]
    assert outbox.notes == [Delivered(1, outputs.message, ()), Delivered(1, results.message, [b"frame"])]


def test_what_an_away_client_is_owed_is_numbered_and_kept():
    outbox, client = Journaled(), some_client()
    client.away_since = 1.0
    for id_ in (1, 2):
        client.results.append(Result(id_, 0, b""))
        outbox.to_client(client)
        assert outbox.take() == []
    kept = [message for message, _ in client.outgoing.after(0)]
    assert [message.seq for message in kept] == [1, 2]
    assert [result.id for message in kept for result in message.results] == [1, 2]
    assert [note.message for note in outbox.notes] == kept


def test_what_is_for_a_client_that_is_gone_is_only_written_down():
    outbox, ghost = Journaled(), some_client(peer=b"")
    ghost.results.append(Result(1, 0, b""))
    outbox.to_client(ghost)
    assert outbox.take() == []
    assert [(note.client, note.message.seq) for note in outbox.notes] == [(1, 0)]
    assert len(ghost.outgoing) == 0
