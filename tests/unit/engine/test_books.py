from __future__ import annotations

import random

import pytest
from enginery.engine.books import Books
from enginery.engine.current import Current
from enginery.recorder import NO_TASK
from enginery.wire.messages import Call, Holding


def make(position=None, estimates=None):
    estimates = estimates or {}
    return Books(Current(), position if position is not None else [-1, 0], lambda digest: estimates.get(digest))


def calls(*ids, function=b"f", fixed=()):
    return [Call(i, function, b"", fixed=i in fixed) for i in ids]


def queued(books):
    return [call.id for call in books.queue]


@pytest.mark.parametrize(
    ("ids", "fixed", "given", "kept"),
    [
        ((), (), [], []),
        ((1,), (), [1], []),
        ((1, 2), (), [2], [1]),
        ((1, 2, 3), (), [3, 2], [1]),
        ((1, 2, 3, 4), (), [4, 3], [1, 2]),
        ((1, 2, 3, 4), (4,), [3, 2], [1, 4]),
        ((1, 2), (1, 2), [], [1, 2]),
    ],
)
def test_half_is_given_back_last_first_and_fixed_ones_stay(ids, fixed, given, kept):
    books = make()
    books.add(calls(*ids, fixed=fixed))
    assert books.give_back_half() == (given, [])
    assert queued(books) == kept


def test_half_is_measured_in_time():
    books = make(estimates={b"long": 1.0, b"short": 0.01})
    books.add(calls(1, function=b"long"))
    books.add(calls(*range(2, 52), function=b"short"))
    given, _ = books.give_back_half()
    assert given[-1] == 1  # fifty short ones are less than half of it
    books.add(
        [*calls(100, function=b"long"), *calls(101, function=b"long"), *calls(*range(102, 112), function=b"short")]
    )
    given, _ = books.give_back_half()
    assert queued(books) == [100]


def test_named_calls_are_given_back_also_fixed_ones():
    books = make()
    books.add(calls(1, 2, 3, fixed=(2,)))
    books._current.task = 9
    assert books.give_back_named([2, 3, 9, 77]) == ([2, 3], [77])
    assert queued(books) == [1]


def test_frames_belong_to_their_calls():
    books = make()
    first, second, third = calls(1, 2, 3)
    first.frames, third.frames = 2, 1
    books.add([first, second, third], ["a", "b", "c"])
    assert books.take_frames(first) == ["a", "b"]
    assert books.take_frames(second) == []
    books.give_back_named([3])
    assert books.frames == {}


def test_the_tail_of_the_running_call():
    position = [-1, 0]
    books = make(position)
    claim = books.open(Call(7, b"f", b"", lo=0, hi=100))
    assert books.advance(claim, 0, 10)
    position[1] = 9
    assert books.give_back_half() == ([], [(7, 55)])
    assert books.give_back_half() == ([], [(7, 33)])
    assert claim.hi == 33
    assert claim.stop == 10
    while books.give_back_half()[1]:
        pass
    assert claim.hi == 10  # the item that is running stays
    assert not books.advance(claim, 10, 5)
    assert books.give_back_half() == ([], [])


def test_the_rest_of_a_running_call_that_is_named():
    position = [-1, 0]
    books = make(position)
    claim = books.open(Call(7, b"f", b"", lo=0, hi=100, fixed=True))
    assert books.advance(claim, 0, 10)
    position[1] = 3
    assert books.give_back_rest([8]) == []
    assert books.give_back_rest([7, 8]) == [(7, 4)]
    assert books.give_back_rest([7]) == []
    assert not books.advance(claim, 4, 5)


def test_a_fixed_running_call_keeps_its_tail():
    books = make()
    books.open(Call(7, b"f", b"", lo=0, hi=100, fixed=True))
    assert books.give_back_half() == ([], [])


def test_unstarted_calls_are_given_back_before_the_tail():
    books = make(estimates={b"f": 0.001, b"g": 0.1})
    claim = books.open(Call(7, b"f", b"", lo=0, hi=101))
    books.add(calls(8, function=b"g"))
    given, tails = books.give_back_half()
    assert given == [8]
    assert tails == []
    assert claim.hi == 101


def test_hurry_calls_the_main_thread_in():
    books = make()
    claim = books.open(Call(7, b"f", b"", lo=0, hi=100))
    books.advance(claim, 0, 50)
    books.hurry(claim.slices - 1)
    assert claim.stop == 50
    books.hurry(claim.slices)
    assert claim.stop == 0
    assert claim.hi == 100
    assert books.advance(claim, 3, 10)
    assert claim.stop == 13


class Position:
    """The recorder's slots, where every look from the control thread lets the main thread do a few steps first."""

    def __init__(self, rng):
        self.slots = [-1, 0]
        self.rng = rng
        self.main = None

    def __getitem__(self, index):
        if self.main is not None and not self.main.inside:
            self.main.steps(self.rng.randrange(4), locked=True)
        return self.slots[index]

    def __setitem__(self, index, value):
        self.slots[index] = value


class Main:
    """The main thread's side of the protocol, one step at a time. While the lock is held, it cannot ask for more."""

    def __init__(self, books, call, position, rng):
        self.inside = False
        self.books, self.position, self.rng = books, position, rng
        self.inside = True
        self.claim = books.open(call)
        self.inside = False
        self.item = call.lo
        self.ran = []
        self.over = False
        self.state = "announce"

    def steps(self, count, *, locked):
        for _ in range(count):
            if self.over:
                return
            if self.state == "announce":
                self.position[1] = self.item
                self.state = "look"
            elif self.state == "look":
                self.state = "run" if self.item < self.claim.stop else "ask"
            elif self.state == "ask":
                if locked:
                    return  # it waits for the lock
                self.inside = True
                goes_on = self.books.advance(self.claim, self.item, self.rng.randrange(1, 8))
                self.inside = False
                self.over = not goes_on
                self.state = "run"
            else:
                self.ran.append(self.item)
                self.item += 1
                self.state = "announce"


@pytest.mark.parametrize("seed", range(400))
def test_no_item_is_run_and_given_back_and_none_is_lost(seed):
    rng = random.Random(seed)
    position = Position(rng)
    books = make(position)
    lo, size = rng.randrange(5), rng.randrange(1, 60)
    main = position.main = Main(books, Call(7, b"f", b"", lo=lo, hi=lo + size), position, rng)
    given = []
    hi = lo + size
    while not main.over:
        main.steps(rng.randrange(1, 12), locked=False)
        if main.over:
            break
        if rng.random() < 0.3:
            calls_given, tails = books.give_back_half()
            assert calls_given == []
            for task, new_hi in tails:
                assert task == 7
                assert new_hi < hi
                given.extend(range(new_hi, hi))
                hi = new_hi
        if rng.random() < 0.1:
            books.hurry(main.claim.slices)
    assert sorted(main.ran + given) == list(range(lo, lo + size))
    assert main.ran == list(range(lo, hi))


@pytest.mark.parametrize("seed", range(100))
def test_no_call_is_run_and_given_back_and_none_is_lost(seed):
    rng = random.Random(seed)
    books = make(estimates={b"f": 0.001, b"g": 0.1})
    sent, ran, given = [], [], []
    for _ in range(200):
        action = rng.randrange(5)
        if action <= 1:
            new = list(range(len(sent) + 1, len(sent) + 1 + rng.randrange(4)))
            sent += new
            fixed = {i for i in new if rng.random() < 0.3}
            books.add(calls(*new, function=rng.choice([b"f", b"g", b"h"]), fixed=fixed))
        elif action == 2 and books.queue:
            ran.append(books.queue.popleft().id)
        elif action == 3:
            before = {call.id: call.fixed for call in books.queue}
            back, _ = books.give_back_half()
            assert not any(before[i] for i in back)
            given += back
        elif sent:
            given += books.give_back_named(rng.choices(sent, k=2))[0]
    rest = queued(books)
    assert sorted(ran + given + rest) == sent
    assert ran == sorted(ran)
    assert rest == sorted(rest)


# ------------------------------------------------------------------------------------------------------ holding


def test_an_idle_engine_holds_nothing():
    assert make().holding(9, []) == Holding(9, [], None, -1)


def test_what_is_held_is_what_has_not_started_in_order_and_the_running_call():
    books = make()
    books.add(calls(5, 3, 4))
    books._current.task = books.queue.popleft().id
    assert books.holding(9, [b"f"]) == Holding(9, [3, 4], 5, -1, functions=[b"f"])
    books.give_back_named([3])
    assert books.holding(9, []) == Holding(9, [4], 5, -1)
    books._current.task = NO_TASK
    assert books.holding(9, []) == Holding(9, [4], None, -1)


def test_the_running_call_of_items_says_where_it_ends():
    position = [-1, 0]
    books = make(position)
    books._current.task = 7
    claim = books.open(Call(7, b"f", b"", lo=10, hi=100))
    assert books.holding(9, []).hi == 100
    assert books.advance(claim, 10, 10)
    _, ((_, end),) = books.give_back_half()
    assert books.holding(9, []) == Holding(9, [], 7, end)
    assert books.give_back_rest([7]) == [(7, 11)]
    assert books.holding(9, []) == Holding(9, [], 7, 11)
    # Also when all its items have been claimed, or are over
    assert not books.advance(claim, 11, 10)
    assert books.holding(9, []) == Holding(9, [], 7, 11)
    books.close(claim)
    assert books.holding(9, []) == Holding(9, [], 7, 11)


def test_the_end_of_an_earlier_call_of_items_is_not_taken_for_that_of_the_running_one():
    books = make()
    books._current.task = 7
    books.close(books.open(Call(7, b"f", b"", lo=0, hi=100)))
    books._current.task = 8
    assert books.holding(9, []) == Holding(9, [], 8, -1)
    books._current.task = NO_TASK
    assert books.holding(9, []) == Holding(9, [], None, -1)
