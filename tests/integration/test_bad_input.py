"""Strangers, liars and noise on the controller's socket: nobody else notices."""

import os
import random

import pytest
import zmq
from enginery import rendezvous
from enginery.ids import first_task_id
from enginery.transport import open_dealer
from enginery.wire import codec
from enginery.wire import messages as m


@pytest.fixture
def stranger(cluster):
    """A raw socket to the controller, which has said nothing yet."""
    context = zmq.Context()
    socket = open_dealer(context, rendezvous.find(cluster.name), b"c" + os.urandom(8))
    socket.rcvtimeo = 10_000
    yield socket
    socket.close(linger=0)
    context.term()


def answer(socket):
    return codec.decode_to_client(socket.recv_multipart()[0])


def greet(socket):
    socket.send(codec.encode(m.ClientHello(m.VERSION, "stranger")))
    while not isinstance(welcome := answer(socket), m.Welcome):
        pass
    return welcome


def next_of(socket, kind):
    while not isinstance(message := answer(socket), kind):
        pass
    return message


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"garbage"],
        [b"\xc1"],
        [b"\x93\xa6Submit\x90"],
        [b"\x91\xa7Unknown"],
        [codec.encode(m.Results([]))],
        [os.urandom(100_000)],
        [b"\x91" * 5000],
    ],
)
def test_what_is_no_message_of_ours_is_refused(stranger, client, parts):
    stranger.send_multipart(parts)
    assert isinstance(answer(stranger), m.Refused)
    assert client.submit(abs, -1).result(10) == 1


def test_a_message_before_hello_is_refused(stranger):
    stranger.send(codec.encode(m.Submit([], [], [])))
    assert "before hello" in answer(stranger).reason


def test_another_version_is_refused_with_a_sentence(stranger):
    stranger.send(codec.encode(m.ClientHello(m.VERSION + 1)))
    assert "same version" in answer(stranger).reason


def test_a_client_may_not_speak_as_an_engine(stranger):
    greet(stranger)
    stranger.send(codec.encode(m.Done([m.Result(1, 0, b"")])))
    assert "a client does not send Done" in next_of(stranger, m.Refused).reason


def test_frames_that_do_not_fit_their_header_are_refused(stranger, client):
    number = greet(stranger).client
    task = m.Task(first_task_id(number), b"!pull", b"x", frames=3)
    stranger.send_multipart([codec.encode(m.Submit([], [m.Options()], [task])), b"only one"])
    assert "frames" in next_of(stranger, m.Refused).reason
    assert client.submit(abs, -1).result(10) == 1


def test_a_task_with_an_unknown_function_is_answered(stranger):
    number = greet(stranger).client
    stranger.send(codec.encode(m.Submit([], [m.Options()], [m.Task(first_task_id(number), b"nobody knows", b"")])))
    result = next_of(stranger, m.Results).results[0]
    assert result.status == m.Status.REFUSED


def test_a_payload_that_is_no_pickle_fails_its_task_alone(stranger, client):
    number = greet(stranger).client
    first = first_task_id(number)
    tasks = [m.Task(first, b"!pull", b"no pickle"), m.Task(first + 1, b"!pull", b"no pickle", items=5)]
    stranger.send(codec.encode(m.Submit([m.Function(b"bad", b"no pickle")], [m.Options()], tasks)))
    stranger.send(codec.encode(m.Submit([], [m.Options()], [m.Task(first + 2, b"bad", b"x")])))
    ended = {}
    while len(ended) < 3:
        for result in next_of(stranger, m.Results).results:
            ended[result.id] = result.status
    assert set(ended.values()) == {m.Status.ERROR}
    assert len(client.ids) == 3
    assert client[:].apply_sync(abs, -1) == [1, 1, 1]


def test_one_cannot_cancel_the_tasks_of_another(stranger, client):
    import time

    future = client.submit(time.sleep, 0.5)
    greet(stranger)
    stranger.send(codec.encode(m.Cancel(1, [future._task] if hasattr(future, "_task") else [first_task_id(1)])))
    assert next_of(stranger, m.Reply).value == []
    assert future.result(10) is None


def test_a_storm_of_noise_harms_nobody(stranger, client):
    rng = random.Random(7)
    good = codec.encode(m.Submit([m.Function(b"d", b"p")], [m.Options()], [m.Task(1, b"d", b"x")]))
    futures = []
    for i in range(2000):
        noise = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            noise[rng.randrange(len(noise))] = rng.randrange(256)
        stranger.send_multipart([bytes(noise), b"frame"][: rng.randint(1, 2)])
        if i % 100 == 0:
            futures.append(client.submit(abs, -i))
    assert [f.result(20) for f in futures] == [i for i in range(2000) if i % 100 == 0]
