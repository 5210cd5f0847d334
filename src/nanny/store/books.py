"""What a host's store decides: events come in, actions come out of `take()`.

An object is *being written* by a process here, or *coming* from another store, and then *whole*: in memory or on disk.
Its file never changes, so it can be copied to disk and back at any time; whoever has it mapped has it still.

Who wants room gets it in the order in which it was asked for: in memory, if it fits; else when what was not used for
longest is on disk, unless it is mapped, since then no memory would be had by it; else on disk at once. A wanted object
that is on disk comes back if there is room, or else is used from there, and what was used less recently makes room for
the next time.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from ...wire import objects as o
from ...wire.objects import ObjectInfo, file_name, show_object
from .records import Action, Answer, Fetch, Known, Look, Move, Place, Remove, See, Stage, Tell, Unfetch, User, Wish
from .room import GHOSTS_MAX, Room

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .room import Disk

MOVED_MAX = 1 << 30
"""So many bytes may be on their way to disk while somebody waits for it; who wants more writes to disk itself."""

LEFT_MAX = 100
"""So many processes that left are told of again to a controller that takes over."""


class Books:
    """The state of a store. See the module for what happens when.

    `memory` and `disk` are the folders of the objects' files (no `disk`: there is none), `files` answers questions
    about them.
    """

    def __init__(self, store: bytes, memory: str, disk: str, limit: int, files: Disk) -> None:
        self.store = store
        self.objects: dict[bytes, Known] = {}
        self._in_memory: OrderedDict[bytes, Known] = OrderedDict()
        """Those that are whole and in memory: the one that was not used for longest comes first."""
        self.users: dict[int, User] = {}
        self.room = Room(limit, disk, files)
        self._folders = (memory, disk)
        self._files = files
        self._wishes: deque[Wish] = deque()
        self._wanted: dict[bytes, list[tuple[int, int, ObjectInfo]]] = {}
        """Who waits for an object: process and request."""
        self._mapped: Collection[bytes] = ()
        """What was mapped, of what is in memory, at the last look."""
        self._is_looking = False
        self._returning: dict[bytes, None] = {}
        """What is on disk and wanted, and may fit into memory: the next look tells."""
        self._leaving = 0
        """Bytes on their way to disk."""
        self._moves: dict[bytes, Known] = {}
        """What is copied although it is not wanted any more: until that ends, it takes room where it is copied to."""
        self._left: deque[o.StoreLeft] = deque(maxlen=LEFT_MAX)
        self._uses = 0
        self._last = 0
        """The number of the last object."""
        self._actions: list[Action] = []

    def take(self) -> list[Action]:
        """Return what is to be done, in order, and forget it."""
        actions, self._actions = self._actions, []
        return actions

    def path(self, object_id: bytes, *, on_disk: bool) -> str:
        """Return where an object's file is, in memory or on disk."""
        return f"{self._folders[on_disk]}/{file_name(object_id)}"

    def find(self, object_id: bytes) -> tuple[str, int] | None:
        """Return path and size of an object that is whole; None if it is not here."""
        known = self.objects.get(object_id)
        if known is None or known.stage is not Stage.WHOLE:
            return None
        return self.path(object_id, on_disk=known.on_disk), known.nbytes

    def holdings(self) -> tuple[list[ObjectInfo], list[bytes]]:
        """Return the objects that are whole, and those of them whose makers have left or were never here."""
        whole = [known for known in self.objects.values() if known.stage is Stage.WHOLE]
        return (
            [ObjectInfo(known.id, known.nbytes) for known in whole],
            [known.id for known in whole if known.maker is None],
        )

    # -------------------------------------------------------------------------------------- from processes of this host

    def on_user(self, user: int, peer: bytes) -> None:
        """Take note of a process that has connected."""
        if peer and any(other.peer == peer for other in self.users.values()):
            peer = b""  # a forked copy: when it ends, the process of this name has not left
        self.users[user] = User(peer)

    def on_left(self, user: int) -> None:
        """Remove what a process has not finished, and tell the controller what it had made."""
        gone = self.users.pop(user, None)
        if gone is None:
            return
        made = []
        for object_id in list(gone.made):
            known = self.objects[object_id]
            if known.stage is Stage.WRITING:
                self._give_up(known, "whoever wrote it has ended")
            else:
                known.maker = None
                made.append(object_id)
        self._wishes = deque(wish for wish in self._wishes if wish.object is not None or wish.user != user)
        for object_id in list(self._wanted):
            if rest := [want for want in self._wanted[object_id] if want[0] != user]:
                self._wanted[object_id] = rest
            else:
                del self._wanted[object_id]
        if gone.peer or made:
            left = o.StoreLeft(gone.peer, made)
            self._left.append(left)
            self._actions.append(Tell(left))
        self._settle()

    def on_reserve(self, user: int, message: o.Reserve) -> None:
        """Give room for a file, now or when there is some; or say why not."""
        on_disk = self.users[user].has_failed_on_disk
        self._wishes.append(
            Wish(
                message.nbytes,
                user,
                message.request,
                not_in_memory=message.full and not on_disk,
                not_on_disk=message.full and on_disk,
            )
        )
        self._settle()

    def on_sealed(self, user: int, message: o.Sealed) -> None:
        """Take note that a file is whole."""
        known = self.objects.get(message.object)
        if known is None or known.maker != user or known.stage is not Stage.WRITING:
            return
        self.room.written(known.nbytes, on_disk=known.on_disk)
        self._complete(known)

    def on_abandoned(self, user: int, message: o.Abandoned) -> None:
        """Take back the room for a file that could not be written, or that nobody will hear of."""
        known = self.objects.get(message.object)
        if known is None or known.maker != user:
            return
        if known.stage is Stage.WRITING:
            self.users[user].has_failed_on_disk = known.on_disk
            self._give_up(known, "whoever wrote it has given up")
        else:
            self._remove(known)
            self._refuse(known.id, "whoever made it was interrupted")
        self._settle()

    def on_want(self, user: int, message: o.Want) -> None:
        """Say where an object is, when it is here."""
        object_id = message.object.id
        want = (user, message.request, message.object)
        known = self.objects.get(object_id)
        if known is not None and known.stage is Stage.WHOLE:
            if self._files.is_there(self.path(object_id, on_disk=known.on_disk)):
                self._want_whole(known, want)
                return
            self._vanish(known)
        waiting = self._wanted.setdefault(object_id, [])
        waiting.append(want)
        if len(waiting) == 1 and object_id not in self.objects and not self._is_wished(object_id):
            self._actions.append(Tell(o.Need([object_id])))

    def _want_whole(self, known: Known, want: tuple[int, int, ObjectInfo]) -> None:
        last = known.used
        self._use(known)
        if known.on_disk and not known.is_moving:
            if self.room.might_fit(known.nbytes):
                self._returning[known.id] = None
                self._look()
            elif not self._bring_back(known):
                short = self._short(known.nbytes)
                self._spill(self._victims(short, before=last) if short > 0 else [])
        if known.on_disk and (known.is_moving or known.id in self._returning):
            self._wanted.setdefault(known.id, []).append(want)
        else:
            self._there(known, want)

    def _bring_back(self, known: Known) -> bool:
        """Copy an object from disk to memory, if there is room for it."""
        if self.room.fits(known.nbytes) and not self._wishes and known.id not in self._moves:
            known.is_moving = True
            self.room.take(known.nbytes, on_disk=False)
            self._actions.append(Move(known.id, to_disk=False))
        return known.is_moving

    def on_used(self, object_id: bytes) -> None:
        """Take note that an object was used."""
        known = self.objects.get(object_id)
        if known is not None:
            self._use(known)

    # ---------------------------------------------------------------------------------------------- from the controller

    def on_drop(self, objects: Iterable[bytes]) -> None:
        """Remove what nobody holds any more, as soon as it can be."""
        for object_id in objects:
            known = self.objects.get(object_id)
            if known is None:
                self._unwish(object_id)
                self._refuse(object_id, "nobody holds it any more")  # also who waits for the controller's answer
            elif known.stage is Stage.WRITING:
                known.is_doomed = True
            elif known.stage is Stage.COMING:
                self._give_up(known, "nobody holds it any more")
            else:
                self._remove(known)
                self._refuse(object_id, "nobody holds it any more")
        if len(self.room.ghosts) > GHOSTS_MAX:
            self._look()
        self._settle()

    def on_pull(self, message: o.Pull) -> None:
        """Bring an object here."""
        object_id, sources = message.object.id, tuple(message.sources)
        known = self.objects.get(object_id)
        if known is None:
            self._unwish(object_id)
            self._wishes.append(Wish(message.object.nbytes, object=message.object, sources=sources))
            self._settle()
        elif known.stage is Stage.COMING:
            known.sources = sources
            self._actions.append(Fetch(message.object, sources, known.on_disk))
        elif known.stage is Stage.WHOLE:
            self._actions.append(Tell(o.Pulled([message.object])))

    def on_lacking(self, message: o.Lacking) -> None:
        """Say so to who wants it, and bring it no more, if it is not here after all."""
        known = self.objects.get(message.object)
        if known is None:
            self._unwish(message.object)
            self._refuse(message.object, message.why)
        elif known.stage is Stage.COMING:
            self._give_up(known, message.why)
        self._settle()

    def on_query(self, message: o.StoreQuery) -> None:
        """Say what there is, and who has it mapped."""
        self._actions.append(See(message.request))

    def on_resumed(self) -> None:
        """Say again to a controller that takes over what it cannot know."""
        needed = [wanted for wanted in self._wanted if wanted not in self.objects and not self._is_wished(wanted)]
        if needed:
            self._actions.append(Tell(o.Need(needed)))
        self._actions += [Tell(left) for left in self._left]

    # --------------------------------------------------------------------------------------------- from those who do it

    def on_pulled(self, object_id: bytes) -> None:
        """Take note that an object was brought."""
        known = self.objects.get(object_id)
        if known is None or known.stage is not Stage.COMING:
            return
        self.room.written(known.nbytes, on_disk=known.on_disk)
        self._actions += [Place(object_id, known.on_disk), Tell(o.Pulled([ObjectInfo(object_id, known.nbytes)]))]
        self._complete(known)

    def on_unpulled(self, object_id: bytes, why: str, *, is_full: bool = False) -> None:
        """Take note that an object could not be brought."""
        known = self.objects.get(object_id)
        if known is None or known.stage is not Stage.COMING:
            return
        self._actions.append(Unfetch(object_id, known.on_disk))
        self._forget(known)
        self.room.give_back(known.nbytes, on_disk=known.on_disk)
        if is_full and not known.on_disk and self.room.fits_on_disk(known.nbytes):  # others have filled the memory
            info = ObjectInfo(object_id, known.nbytes)
            self._wishes.append(Wish(known.nbytes, not_in_memory=True, object=info, sources=known.sources))
        else:
            self._unpulled(object_id, why, is_full=is_full)
        self._settle()

    def on_moved(self, object_id: bytes, *, to_disk: bool, error: str = "") -> None:
        """Take note that a file was copied, or why not."""
        known = self.objects.get(object_id)
        if to_disk:
            nbytes = (known or self._moves[object_id]).nbytes
            self._leaving -= nbytes
        unwanted = self._moves.pop(object_id, None)
        if unwanted is not None:
            if known is None or known.on_disk != to_disk:  # else it has been brought again since, and is what it was
                self._actions.append(Remove(object_id, to_disk))
            self.room.give_back(unwanted.nbytes, on_disk=to_disk)
        elif known is not None:
            known.is_moving = False
            if error:
                self.room.give_back(known.nbytes, on_disk=to_disk)
                if not self._files.is_there(self.path(object_id, on_disk=known.on_disk)):
                    self._vanish(known)
                    if object_id in self._wanted:
                        self._actions.append(Tell(o.Need([object_id])))
                    self._settle()
                    return
            else:
                self.room.written(known.nbytes, on_disk=to_disk)
                known.on_disk = to_disk
                if to_disk:
                    del self._in_memory[object_id]
                else:
                    self._use(known)
                self._actions.append(Remove(object_id, not to_disk))
                self.room.removed(object_id, known.nbytes, on_disk=not to_disk)
            self._give_out(known)
        self._settle(trouble=error if to_disk and unwanted is None else "")

    def on_looked(self, mapped: Collection[bytes], gone: Collection[bytes]) -> None:
        """Take note of what is mapped: of what is in memory, and of what was removed from there."""
        self._is_looking = False
        self._mapped = mapped
        self.room.on_looked(gone)
        self._settle(has_looked=True)
        returning, self._returning = self._returning, {}
        for object_id in returning:
            known = self.objects.get(object_id)
            if known is not None and known.stage is Stage.WHOLE and not self._bring_back(known):
                self._give_out(known)

    # ------------------------------------------------------------------------------------------------------------- room

    def _settle(self, *, has_looked: bool = False, trouble: str = "") -> None:
        """Give room to who waits for it, as far as there is any. `trouble`: nothing can be written to disk."""
        while self._wishes:
            wish = self._wishes[0]
            if not wish.not_in_memory:
                if self.room.fits(wish.nbytes):
                    self._wishes.popleft()
                    self._grant(wish, on_disk=False)
                    continue
                if wish.nbytes <= self.room.limit and not trouble:
                    if not has_looked:
                        self._look()
                        return
                    if (short := self._short(wish.nbytes)) > 0:
                        self._spill(self._victims(short))
                    is_soon = self._leaving <= MOVED_MAX
                    can_be_on_disk = self.room.fits_on_disk(wish.nbytes) and not wish.not_on_disk
                    if self._short(wish.nbytes) <= 0 and (is_soon or not can_be_on_disk):
                        return
            self._wishes.popleft()
            if not (wish.not_on_disk or trouble) and self.room.fits_on_disk(wish.nbytes):
                self._grant(wish, on_disk=True)
            else:
                self._deny(wish, self.room.why_none(wish.nbytes, trouble))

    def _short(self, nbytes: int) -> int:
        """Return how many bytes of memory are missing for an object, when all that is on its way to disk is there."""
        return self.room.used + nbytes - self.room.limit - self._leaving

    def _look(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            self._actions.append(Look())

    def _victims(self, short: int, before: int | None = None) -> list[Known]:
        """Return what can go to disk to free so many bytes: what was not used for longest first; nothing if that does
        not do. `before`: only what was last used before that use.
        """
        if self._leaving + short > MOVED_MAX:
            return []
        found: list[Known] = []
        total = 0
        for known in self._in_memory.values():
            if before is not None and known.used >= before:
                break
            if not (known.is_moving or known.id in self._mapped or known.id in self._moves):
                found.append(known)
                total += known.nbytes
                if total >= short:
                    return found if self.room.fits_on_disk(total) else []
        return []

    def _spill(self, victims: Iterable[Known]) -> None:
        for known in victims:
            known.is_moving = True
            self._leaving += known.nbytes
            self.room.take(known.nbytes, on_disk=True)
            self._actions.append(Move(known.id, to_disk=True))

    def _grant(self, wish: Wish, *, on_disk: bool) -> None:
        self.room.take(wish.nbytes, on_disk=on_disk)
        if wish.object is not None:
            coming = Known(wish.object.id, wish.nbytes, Stage.COMING, None, on_disk=on_disk)
            coming.sources = wish.sources
            self.objects[coming.id] = coming
            self._actions.append(Fetch(wish.object, wish.sources, on_disk))
            return
        self._last += 1
        object_id = self.store + self._last.to_bytes(8, "big")
        self.objects[object_id] = Known(object_id, wish.nbytes, Stage.WRITING, wish.user, on_disk=on_disk)
        self.users[wish.user].made[object_id] = None
        path = self.path(object_id, on_disk=on_disk)
        self._actions.append(Answer(wish.user, o.Reserved(wish.request, object_id, path)))

    def _deny(self, wish: Wish, why: str) -> None:
        if wish.object is not None:
            self._unpulled(wish.object.id, why, is_full=True)
        else:
            self._actions.append(Answer(wish.user, o.Reserved(wish.request, error=why)))

    def _unpulled(self, object_id: bytes, why: str, *, is_full: bool) -> None:
        self._actions.append(Tell(o.Unpulled(object_id, why, is_full)))
        if is_full:
            self._refuse(object_id, why)
        elif object_id in self._wanted:
            self._actions.append(Tell(o.Need([object_id])))

    def _is_wished(self, object_id: bytes) -> bool:
        """Return whether an object is to be brought here once there is room."""
        return any(wish.object is not None and wish.object.id == object_id for wish in self._wishes)

    def _unwish(self, object_id: bytes) -> None:
        self._wishes = deque(wish for wish in self._wishes if wish.object is None or wish.object.id != object_id)

    # --------------------------------------------------------------------------------------------------------- objects

    def _use(self, known: Known) -> None:
        self._uses += 1
        known.used = self._uses
        if known.stage is Stage.WHOLE and not known.on_disk:
            self._in_memory[known.id] = known
            self._in_memory.move_to_end(known.id)

    def _complete(self, known: Known) -> None:
        """An object is whole."""
        known.stage = Stage.WHOLE
        self._use(known)
        if known.is_doomed:
            self._remove(known)
            self._refuse(known.id, "nobody holds it any more")
            self._settle()
        else:
            self._give_out(known)

    def _give_out(self, known: Known) -> None:
        for want in self._wanted.pop(known.id, ()):
            self._there(known, want)

    def _there(self, known: Known, want: tuple[int, int, ObjectInfo]) -> None:
        user, request, _ = want
        self._actions.append(Answer(user, o.There(request, self.path(known.id, on_disk=known.on_disk))))

    def _refuse(self, object_id: bytes, why: str) -> None:
        error = f"object {show_object(object_id)} is not to be had here: {why}"
        for user, request, _ in self._wanted.pop(object_id, ()):
            self._actions.append(Answer(user, o.There(request, error=error)))

    def _give_up(self, known: Known, why: str) -> None:
        """Nothing comes of an object that is not whole."""
        kind = Remove if known.stage is Stage.WRITING else Unfetch
        self._actions.append(kind(known.id, known.on_disk))
        self._forget(known)
        self.room.give_back(known.nbytes, on_disk=known.on_disk)
        self._refuse(known.id, why)

    def _remove(self, known: Known) -> None:
        """Remove an object that is whole."""
        self._forget(known)
        self._actions.append(Remove(known.id, known.on_disk))
        self.room.removed(known.id, known.nbytes, on_disk=known.on_disk)
        if known.is_moving:
            self._moves[known.id] = known
            self._actions.append(Remove(known.id, not known.on_disk))

    def _vanish(self, known: Known) -> None:
        """An object is not where it should be."""
        self._remove(known)
        self._actions.append(Tell(o.Vanished([known.id])))

    def _forget(self, known: Known) -> None:
        del self.objects[known.id]
        self._in_memory.pop(known.id, None)
        if known.maker in self.users:
            self.users[known.maker].made.pop(known.id, None)
