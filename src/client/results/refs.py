"""`ObjectRef`: a value that is held in shared memory, where it was made, under a name."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from ...errors import ObjectLost
from ...pickles import loads_mapped
from ...placeholders import object_of, stand_in
from ...prepickled import open_pickled
from ...serialize import loads
from ...wire.objects import show_object
from .leases import Lease
from .outcomes import OK, value_of
from .timeouts import limit_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from ..connection.link import Link
    from .futures import AsyncResult

_ONLY_AN_ARGUMENT = (
    "an ObjectRef stands for its value among the arguments of a call, and cannot be pickled or copied elsewhere: "
    "pass it as an argument, or pass on what its get() returns"
)


class ObjectRef:
    """A value that stays where it was made, in shared memory: `client.put(x)`, `client.submit(f, keep=True)`.

        table = client.put(large)
        futures = [client.submit(look_up, table, key) for key in keys]     # look_up(large, key)

    Among the arguments of a call, at any depth, it stands for its value. Engines of its host map it, without a copy;
    where it is not yet, it is brought straight from where it is. A function gets it writable, and what it writes there
    is its own. The value is kept until the last ObjectRef of it goes, or is released, and no task needs it any more.

    >>> with client.put(b"x" * 10_000_000) as ref:      # doctest: +SKIP
    ...     client.submit(len, ref).result()
    10000000
    """

    def __init__(
        self,
        link: Link,
        lease: Lease | None = None,
        packed: tuple[bytes, Sequence[Any]] | None = None,
        future: AsyncResult | None = None,
    ) -> None:
        self._link = link
        self._lease = lease
        self._packed = packed
        """The pickled value, where there is no store of objects: then it is here, and travels with each call."""
        self._future = future
        self._released = False
        if future is not None:
            future._hold()

    # ---------------------------------------------------------------- what it is

    def _find_lease(self) -> Lease | None:
        """Return what holds the object; None if there is none (yet)."""
        future = self._future
        if future is None or self._released:
            return self._lease
        return future._frames if type(future._frames) is Lease else None

    def _leases(self) -> list[Lease]:
        lease = self._find_lease()
        return [] if lease is None else [lease]

    @property
    def id(self) -> str | None:
        """The object's name, as text; None while it is not made yet, or where it is not in shared memory.

        client.explain(ref.id)
        """
        lease = self._find_lease()
        return None if lease is None else show_object(lease.info.id)

    @property
    def nbytes(self) -> int | None:
        """How many bytes it has, pickled; None while that is not known."""
        lease = self._find_lease()
        if lease is not None:
            return lease.info.nbytes
        if self._packed is None:
            return None
        payload, buffers = self._packed
        return len(payload) + sum(memoryview(buffer).nbytes for buffer in buffers)

    @property
    def future(self) -> AsyncResult | None:
        """The result of the task that makes the value (`keep=True`), with its metadata; None if it was `put`."""
        return self._future

    def done(self) -> bool:
        """Return whether the value is made, or never will be.

        client.submit(f, keep=True).done()
        """
        return self._future is None or self._future.done()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the value is made, at most `timeout` seconds (None: as long as it takes); return whether it is.

        client.submit(f, keep=True).wait(10)
        """
        return self._future is None or self._future._wait_done(limit_of(timeout))

    def explain(self) -> str:
        """Return where the value is, and why it is kept: who holds it. As `Client.explain`.

        print(ref.explain())
        """
        from ..records.objects import explain  # noqa: PLC0415 - it rests on this module

        return explain(self._link, self)

    # ---------------------------------------------------------------- the value

    def get(self, timeout: float | None = None) -> Any:
        """Return the value, a new one each time: arrays are writable, and what is written there is seen by nobody else.

            array = client.put(numpy.zeros(10_000_000)).get()

        Waits at most `timeout` seconds for the task that makes it (None: as long as it takes): TimeoutError then, or
        what that task raised. ObjectLost if the value is nowhere any more, or this was released.
        """
        self._check()
        future = self._future
        if future is not None:
            if not future._wait_done(limit_of(timeout)):
                raise future._too_late(timeout)
            reply = future._reply
            if reply is None or reply.status != OK:
                return future.result()  # raises
            return value_of(reply, future._frames)
        if self._packed is not None:
            return loads(*self._packed, keep_classes=True)
        assert self._lease is not None
        return loads_mapped(*self._lease.open(), keep_classes=True)

    def _check(self) -> None:
        if self._released:
            raise ObjectLost("this ObjectRef was released; its value is of those who still hold it otherwise")

    def release(self) -> None:
        """Hold the value no longer: it goes when nobody else needs it. Doing it twice is fine.

            ref.release()                # or the end of a `with` block, or `del ref`

        Tasks that were submitted with it get it. A task that is to make it goes on.
        """
        self._released = True
        self._lease = self._packed = None
        self._future = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    # ---------------------------------------------------------------- as an argument, and as text

    def _placeholder(self) -> tuple[Any, ...]:
        if self._packed is not None:
            payload, buffers = self._packed
            return open_pickled, (pickle.PickleBuffer(payload), [pickle.PickleBuffer(buffer) for buffer in buffers])
        lease = self._find_lease()
        assert lease is not None, "else its future is asked"
        return object_of, (lease.info.id, lease.info.nbytes)

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        self._check()
        whom = self if self._find_lease() is not None or self._future is None else self._future
        reduced = stand_in(whom)
        if reduced is None:
            raise TypeError(_ONLY_AN_ARGUMENT)
        return reduced

    def __repr__(self) -> str:
        name, nbytes = self.id, self.nbytes
        if self._released:
            return f"<{type(self).__name__}: released>"
        if nbytes is None:
            return f"<{type(self).__name__} of {self._future!r}>"
        return f"<{type(self).__name__}{'' if name is None else f' {name}'}: {nbytes:,} bytes>"
