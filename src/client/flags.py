"""Flags of views that are set for a `with` block, seen by nobody but the thread, or the coroutine, that is inside it.

A view that never had any keeps what it reads at each call as plain attributes. From its first `temp_flags` on, `View`
keeps them in a copy of itself, and looks here whether this context has others. That costs it some tenths of a
microsecond a call, and all other views nothing.

The blocks that a context is inside of are a tuple in a context variable, the outermost first. A block takes itself out
by what it is, not by its place: generators may leave in another order than they entered, or somewhere else.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .views import View


class Mark:
    """What a block is known by, wherever its flags were copied to."""

    __slots__ = ("over", "setting", "within")

    def __init__(self) -> None:
        self.over = False
        """It has ended in another context than it began in: its flags hold nowhere."""
        self.setting: View | None = None
        """The flags as they are inside this block, made once."""
        self.within: tuple[Any, ...] = ()
        """What `setting` was made of."""


class Block(NamedTuple):
    """The flags that one `with` block sets."""

    mark: Mark
    view: View
    flags: dict[str, Any]


_blocks: ContextVar[tuple[Block, ...]] = ContextVar("enginery_flags", default=())


def setting_of(view: View, base: View) -> View:
    """Return what holds the flags of a view here: `base`, or a copy of it with those of this context's blocks.

    Raises what `View._set` raises.
    """
    blocks = [block for block in _blocks.get() if block.view is view and not block.mark.over]
    if not blocks:
        return base
    mark, within = blocks[-1].mark, (base._flags, *(block.flags for block in blocks))
    setting = mark.setting
    if setting is None or not _are_same(mark.within, within):
        setting = base._copied()
        flags: dict[str, Any] = {}
        for some in within:
            flags |= some
        setting._set(flags)
        mark.setting, mark.within = setting, within
    return setting


def _are_same(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def enter(view: View, flags: dict[str, Any]) -> Mark:
    """Have these flags hold in this context until `leave`."""
    mark = Mark()
    _blocks.set((*_blocks.get(), Block(mark, view, flags)))
    return mark


def leave(mark: Mark) -> None:
    """The block has ended. Who was started inside it, with a copy of its context, goes on with its flags."""
    blocks = _blocks.get()
    left = tuple(block for block in blocks if block.mark is not mark)
    if len(left) == len(blocks):
        mark.over = True
    _blocks.set(left)


def overrule(view: View, names: Iterable[str]) -> None:
    """Have the blocks that this context is inside of leave alone some flags, which have been set meanwhile."""
    blocks = _blocks.get()
    if any(block.view is view for block in blocks):
        gone = set(names)
        _blocks.set(tuple(_without(block, gone) if block.view is view else block for block in blocks))


def _without(block: Block, names: set[str]) -> Block:
    return block._replace(flags={name: value for name, value in block.flags.items() if name not in names})
