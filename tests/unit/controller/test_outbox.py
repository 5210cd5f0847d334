"""The order of what a turn says."""

from __future__ import annotations

from enginery.controller.outbox import Outbox
from enginery.controller.records import Client, Engine
from enginery.ids import ClientNo, EngineId, Peer
from enginery.wire.messages import Call, Output, Outputs, Ping, Pong, Reply, Result, Results, Run

NANNY = Peer(b"n")


def some_client() -> Client:
    return Client(ClientNo(1), Peer(b"c"), "", 0, "")


def some_engine() -> Engine:
    return Engine(EngineId(0), NANNY, "host")


def test_nothing_said_nothing_sent():
    assert Outbox().take() == []


def test_singles_then_work_then_output_then_results_then_answers():
    outbox, client, engine = Outbox(), some_client(), some_engine()
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
    outbox, client = Outbox(), some_client()
    outbox.say(NANNY, Ping())
    outbox.answer(NANNY, Pong())
    outbox.work_for(some_engine()).calls.append(Call(2, b"f", b""))
    client.results.append(Result(1, 0, b""))
    outbox.to_client(client)
    assert len(outbox.take()) == 4
    assert outbox.take() == []
    assert client.results == []


def test_all_work_for_an_engine_is_one_message():
    outbox, engine = Outbox(), some_engine()
    outbox.work_for(engine).calls.append(Call(1, b"f", b""))
    outbox.work_for(engine).calls.append(Call(2, b"f", b""))
    (letter,) = outbox.take()
    assert [call.id for call in letter.message.calls] == [1, 2]


def test_work_without_a_call_is_not_sent():
    outbox = Outbox()
    outbox.work_for(some_engine())
    assert outbox.take() == []


def test_what_an_away_client_is_owed_stays_with_it():
    outbox, client = Outbox(), some_client()
    client.away_since = 1.0
    client.results.append(Result(1, 0, b""))
    outbox.to_client(client)
    assert outbox.take() == []
    client.away_since = None
    outbox.to_client(client)
    (letter,) = outbox.take()
    assert [result.id for result in letter.message.results] == [1]
