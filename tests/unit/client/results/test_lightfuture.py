from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import threading
import time
from concurrent.futures import CancelledError

import pytest
from enginery.client.results.lightfuture import CANCELLED, LightFuture


class Simple(LightFuture):
    value = None
    error = None
    abandoned = False

    def resolve(self, value):
        self.value = value
        self._settle()

    def break_(self, error):
        self.error = error
        self._settle(failed=True)

    def _outcome(self):
        if self._state == CANCELLED:
            raise CancelledError
        if self.error is not None:
            raise self.error
        return self.value

    def _abandon(self):
        self.abandoned = True


def later(function, *args):
    thread = threading.Timer(0.02, function, args)
    thread.start()
    return thread


def test_nothing_is_made_until_somebody_waits():
    future = Simple()
    future.resolve(3)
    assert future.done()
    assert future.result() == 3
    assert future.exception() is None
    assert future._waiting is None


def test_result_waits():
    future = Simple()
    later(future.resolve, 3)
    assert future.result(10) == 3


def test_time_limits():
    future = Simple()
    for call in (future.result, future.exception):
        with pytest.raises(TimeoutError, match=r"no result after 0.01 s"):
            call(0.01)
    with pytest.raises(TimeoutError):
        future.result(0)


def test_errors_are_raised_and_returned():
    future = Simple()
    later(future.break_, ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        future.result(10)
    assert isinstance(future.exception(), ValueError)


def test_cancelled():
    future = Simple()
    future._settle(CANCELLED)
    assert future.cancelled()
    for call in (future.result, future.exception):
        with pytest.raises(CancelledError):
            call()


def test_callbacks_before_and_after():
    future, seen = Simple(), []
    future.add_done_callback(seen.append)
    assert seen == []
    future.resolve(1)
    future.add_done_callback(seen.append)
    assert seen == [future, future]


@pytest.mark.parametrize("when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
def test_concurrent_futures_wait(when):
    futures = [Simple() for _ in range(4)]
    futures[0].resolve(0)

    def finish():
        futures[1].break_(ValueError())
        futures[2]._settle(CANCELLED)
        futures[3].resolve(3)

    later(finish)
    done, rest = concurrent.futures.wait(futures, 10, return_when=when)
    assert len(done) + len(rest) == 4
    assert futures[0] in done
    if when == "ALL_COMPLETED":
        assert not rest


def test_as_completed():
    futures = [Simple() for _ in range(3)]
    later(lambda: [future.resolve(i) for i, future in enumerate(futures)])
    assert {future.result() for future in concurrent.futures.as_completed(futures, 10)} == {0, 1, 2}


def test_waiters_and_the_settler_never_miss_each_other():
    """Many rounds of one thread that settles while others begin to wait."""
    for _ in range(300):
        futures = [Simple() for _ in range(20)]
        start = threading.Barrier(3)

        def settle(futures=futures, start=start):
            start.wait()
            for future in futures:
                future.resolve(1)

        def wait(futures=futures, start=start):
            start.wait()
            assert [future.result(10) for future in futures] == [1] * 20

        threads = [threading.Thread(target=target) for target in (settle, wait)]
        for thread in threads:
            thread.start()
        start.wait()
        done, rest = concurrent.futures.wait(futures, 10)
        assert len(done) == 20
        assert not rest
        for thread in threads:
            thread.join(10)


def test_await():
    async def main():
        done, pending, broken = Simple(), Simple(), Simple()
        done.resolve(1)
        later(pending.resolve, 2)
        later(broken.break_, ValueError("b"))
        assert await done == 1
        assert await pending == 2
        with pytest.raises(ValueError, match="b"):
            await broken
        wrapped = Simple()
        later(wrapped.resolve, 4)
        assert await asyncio.wrap_future(wrapped) == 4

    asyncio.run(main())


def test_a_cancelled_await_abandons_the_task():
    future = Simple()

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)

    asyncio.run(main())
    assert future.abandoned
    future.resolve(1)  # its loop is closed: nobody minds


def test_a_wait_that_can_only_hang_says_so():
    class Lost(Simple):
        def _check_wait(self):
            raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        Lost().result()


def test_futures_do_not_travel():
    with pytest.raises(TypeError, match="cannot travel"):
        pickle.dumps(Simple())
    assert repr(Simple()) == "<Simple pending>"
    assert not Simple().running()


def test_ctrl_c_ends_a_wait_and_harms_nothing():
    import _thread

    future = Simple()
    started = threading.Event()

    def interrupt():
        started.wait()
        time.sleep(0.02)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        started.set()
        while True:
            try:
                future.result(0.2)
            except TimeoutError:
                continue
    thread.join()
    later(future.resolve, 1)
    assert future.result(10) == 1
