"""`Values`: large values in shared memory, and values of many results at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..pieces import joined
from ..serialize import dumps
from . import gathering
from .records.objects import explain, find_objects
from .results.refs import ObjectRef

if TYPE_CHECKING:
    from .connection.link import Link
    from .records.objects import ObjectList


class Values:
    """The part of `Client` that is about values: put into shared memory, named in arguments, brought here.

    Arguments and results of about a megabyte and more (`cluster start --object-min`) are kept there by themselves.
    """

    _link: Link

    def put(self, value: Any) -> ObjectRef:
        """Write a value into shared memory, once, and return what stands for it in arguments: an ObjectRef.

            table = client.put(large)
            futures = [client.submit(look_up, table, key) for key in keys]     # look_up(large, key)

        It is kept, as it is now, until the last ObjectRef of it goes, or is released, and no task needs it any more. Of
        any size; where the cluster has no shared memory (macOS), it is held here and travels with each call. Raises
        SerializationError naming what cannot travel, ObjectStoreFull if there is no room.
        """
        link = self._link
        link.check_lost()
        payload, buffers = dumps(value, pieces=True)
        if not link.store.connect():
            return ObjectRef(link, packed=(payload, [bytes(buffer) for buffer in joined(buffers)]))
        made = link.store.pack(payload, buffers, keep=True)
        assert made is not None, "what is to be kept is an object, or an error"
        return ObjectRef(link, link.own(made[1]))

    def scatter(self, values: Any, n: int | None = None) -> Any:
        """Put each of several values into shared memory; return a list of ObjectRefs, to stand for them in arguments.

            parts = client.scatter([a, b, c])
            client.submit(f, parts[0])
            parts = client.scatter(array, n=len(client))     # cut into so many parts

        Of a dict of values it is a dict. With `n`, the values are those of one sequence, array or table, which is cut
        as `DirectView.scatter` does it. Raises as `put`, and ValueError for an impossible `n`.
        """
        return gathering.scatter(self.put, values, n)

    def gather(self, results: Any, errors: str = "raise") -> Any:
        """Wait for results in lists, tuples, sets and dicts, at any depth, and return the same with their values.

            total, parts = client.gather([client.submit(sum, xs), [client.submit(f, x) for x in xs]])

        ObjectRefs become their values likewise. What is no result stays as it is. What a call raised is raised, the
        first in order; with `errors="skip"`, results that failed are left out (one that is alone is None).
        """
        return gathering.gather(results, errors)

    def objects(self) -> ObjectList:
        """Return what there is in shared memory: which objects, how large, where, and who holds them.

            client.objects()                             # a table, in terminals and notebooks
            sum(one.nbytes for one in client.objects())

        Those of all clients. Each has an `id`, `nbytes`, `places` (host, and whether in memory or on disk), `handles`
        of clients, `tasks` that need it, and more. Raises ClusterError if the cluster does not answer.
        """
        return find_objects(self._link)

    def explain(self, ref: ObjectRef | str) -> str:
        """Return where an object is and why it is kept, in a few lines: which client holds it, which tasks need it,
        which engines have it mapped.

            print(client.explain(ref))                   # or its id, as `client.objects()` shows it

        Raises ObjectLost if there is no such object (any more).
        """
        return explain(self._link, ref)
