"""The fair queue by itself."""

from __future__ import annotations

from enginery.controller.queues import FairQueue
from enginery.controller.records import Client, Task, TaskState
from enginery.ids import ClientNo, Peer
from enginery.wire.messages import Options


def some_client(no: int = 1) -> Client:
    return Client(ClientNo(no), Peer(b"c%d" % no), "", 0, "")


def some_task(id_: int, priority: int = 0) -> Task:
    return Task(id_, 1, b"f", b"", Options(priority=priority))


def fill(queue: FairQueue, client: Client, *ids: int, priority: int = 0) -> list[Task]:
    tasks = [some_task(id_, priority) for id_ in ids]
    for task in tasks:
        queue.push(client, task)
    return tasks


def serve(queue: FairQueue, cost_s: float = 1.0) -> int:
    """Give out one task as placement does; return its id."""
    chosen = queue.find_next()
    assert chosen is not None
    client, lane = chosen
    task = lane.popleft()
    assert task.state == TaskState.WAITING
    task.state = TaskState.ASSIGNED
    queue.served(client, 1, cost_s)
    return task.id


def serve_all(queue: FairQueue, cost_s: float = 1.0) -> list[int]:
    order = []
    while queue.find_next() is not None:
        order.append(serve(queue, cost_s))
    return order


def test_tasks_of_one_client_go_in_order():
    queue = FairQueue()
    fill(queue, some_client(), 1, 2, 3)
    assert serve_all(queue) == [1, 2, 3]
    assert queue.waiting == 0


def test_an_empty_queue_has_nobody_to_serve():
    assert FairQueue().find_next() is None


def test_higher_priorities_go_first():
    queue, client = FairQueue(), some_client()
    fill(queue, client, 1, 2)
    fill(queue, client, 3, priority=5)
    fill(queue, client, 4, priority=-1)
    fill(queue, client, 5, priority=5)
    assert serve_all(queue) == [3, 5, 1, 2, 4]


def test_what_was_given_back_goes_before_the_others_of_its_priority():
    queue, client = FairQueue(), some_client()
    fill(queue, client, 1, 2)
    queue.push_front(client, some_task(9))
    assert serve_all(queue) == [9, 1, 2]


def test_many_tasks_are_pushed_at_once():
    queue = FairQueue()
    queue.push_many(some_client(), 0, [some_task(1), some_task(2)])
    assert queue.waiting == 2
    assert serve_all(queue) == [1, 2]


def test_clients_take_turns_by_the_time_they_are_given():
    # Given two clients, one with tasks that cost three times as much
    queue, cheap, dear = FairQueue(), some_client(1), some_client(2)
    fill(queue, cheap, *range(100, 112))
    fill(queue, dear, *range(200, 204))
    # When they are served
    order = []
    while queue.find_next() is not None:
        client, _ = queue.find_next()
        order.append(serve(queue, 1.0 if client is cheap else 3.0))
    # Then in any stretch the time is shared
    first_half = order[:8]
    assert sum(id_ >= 200 for id_ in first_half) == 2
    assert order[-4:] != list(range(200, 204)), "the dear one is not left for the end"


def test_a_newcomer_waits_for_a_quantum_not_for_the_backlog():
    queue, old, new = FairQueue(), some_client(1), some_client(2)
    fill(queue, old, *range(1000))
    for _ in range(100):
        serve(queue)
    fill(queue, new, 5000, 5001)
    assert {serve(queue) for _ in range(4)} >= {5000, 5001}


def test_absence_is_not_saved_up():
    # Given a client that was idle while another had a hundred seconds
    queue, busy, idle = FairQueue(), some_client(1), some_client(2)
    fill(queue, busy, *range(300))
    for _ in range(100):
        serve(queue)
    # When it comes with a hundred tasks
    fill(queue, idle, *range(1000, 1100))
    # Then it gets its half from now on, no more
    order = [serve(queue) for _ in range(100)]
    assert 49 <= sum(id_ >= 1000 for id_ in order) <= 51


def test_a_client_that_returns_does_not_pay_twice():
    queue, client, other = FairQueue(), some_client(1), some_client(2)
    fill(queue, client, 1)
    serve(queue, 10.0)
    assert queue.find_next() is None
    fill(queue, other, *range(100, 130))
    for _ in range(20):
        serve(queue)
    fill(queue, client, 2)
    assert 2 in {serve(queue) for _ in range(2)}


def test_a_withdrawn_task_is_passed_over():
    queue, client = FairQueue(), some_client()
    first, _, last = fill(queue, client, 1, 2, 3)
    for task in (first, last):
        task.state = TaskState.ENDED
        queue.withdraw(task)
    assert queue.waiting == 1
    assert [task.id for task in queue] == [2]
    assert serve_all(queue) == [2]


def test_when_all_were_withdrawn_there_is_nobody_to_serve():
    queue, client = FairQueue(), some_client()
    for task in fill(queue, client, 1, 2):
        task.state = TaskState.ENDED
        queue.withdraw(task)
    assert queue.find_next() is None
    assert queue.waiting == 0
    fill(queue, client, 3)
    assert serve_all(queue) == [3]


def test_a_queue_is_contested_while_two_clients_wait():
    queue, one, two = FairQueue(), some_client(1), some_client(2)
    fill(queue, one, 1, 2)
    assert not queue.contested
    fill(queue, two, 3)
    assert queue.contested
    serve_all(queue)
    assert not queue.contested
