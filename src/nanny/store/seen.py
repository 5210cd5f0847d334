"""What there is to say of a store's objects to whoever asks: where they are, and who has them mapped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...wire.objects import InStore, StoreSeen
from .records import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .books import Books
    from .mapped import Mapped

_ENGINE = re.compile(rb"e(\d+)\.\d+")


def seen(books: Books, request: int, mapped: Mapping[int, Mapped], peers: Mapping[int, bytes]) -> StoreSeen:
    """Return the answer to a query. `mapped` and `peers` are by process id: the kernel's, and who it says it is."""
    users: dict[bytes, tuple[list[int], list[int]]] = {}
    for pid, found in sorted(mapped.items()):
        engine = _ENGINE.fullmatch(peers.get(pid, b""))
        for object_id in found.memory | found.gone | found.disk:
            engines, pids = users.setdefault(object_id, ([], []))
            if engine is not None:
                engines.append(int(engine[1]))
            else:
                pids.append(pid)
    objects = []
    for known in books.objects.values():
        place = ("disk" if known.on_disk else "memory") if known.stage is Stage.WHOLE else "coming"
        objects.append(InStore(known.id, known.nbytes, place, *users.get(known.id, ([], []))))
    for object_id, nbytes in books.room.ghosts.items():
        if object_id not in books.objects:
            objects.append(InStore(object_id, nbytes, "mapped", *users.get(object_id, ([], []))))
    room = books.room
    return StoreSeen(request, objects, room.used, room.on_disk, room.limit)
