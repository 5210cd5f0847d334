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

    from .view import View


class Mark:
    """What a block is known by, wherever its flags were copied to; and the flags as they are inside it, made once."""

    __slots__ = ("made", "over")

    def __init__(self) -> None:
        self.over = False
        """It has ended in another context than it began in: its flags hold nowhere."""
        self.made: tuple[View, tuple[Block, ...], dict[str, Any], int] | None = None
        """What holds the flags, and what that was made of: blocks, the view's own flags, and `_strays` at the time."""


class Block(NamedTuple):
    """The flags that one `with` block sets."""

    mark: Mark
    view: View
    flags: dict[str, Any]


_blocks: ContextVar[tuple[Block, ...]] = ContextVar("enginery_flags", default=())

_strays = 0
"""How many blocks have ended in another context than they began in."""


def setting_of(view: View, base: View) -> View:
    """Return what holds the flags of a view here: `base`, or a copy of it with those of this context's blocks.

    Raises what `View._set` raises.
    """
    blocks = _blocks.get()
    if not blocks:
        return base
    for block in reversed(blocks):
        if block.view is view and not block.mark.over:
            break
    else:
        return base
    made = block.mark.made
    if made is None or made[1] is not blocks or made[2] is not base._flags or made[3] != _strays:
        flags, strays = base._flags, _strays
        setting: View = base._copied()
        together = {**flags}
        for one in blocks:
            if one.view is view and not one.mark.over:
                together |= one.flags
        setting._set(together)
        made = block.mark.made = setting, blocks, flags, strays
    holder: View = made[0]
    return holder


def enter(view: View, flags: dict[str, Any]) -> Mark:
    """Have these flags hold in this context until `leave`."""
    mark = Mark()
    _blocks.set((*_blocks.get(), Block(mark, view, flags)))
    return mark


def leave(mark: Mark) -> None:
    """The block has ended. Who was started inside it, with a copy of its context, goes on with its flags."""
    global _strays
    blocks = _blocks.get()
    left = tuple(block for block in blocks if block.mark is not mark)
    if len(left) == len(blocks):
        mark.over = True
        _strays += 1
    mark.made = None  # it refers to the block
    _blocks.set(left)


def overrule(view: View, names: Iterable[str]) -> None:
    """Have the blocks that this context is inside of leave alone some flags, which have been set meanwhile."""
    blocks = _blocks.get()
    if any(block.view is view for block in blocks):
        gone = set(names)
        _blocks.set(tuple(_without(block, gone) if block.view is view else block for block in blocks))


def _without(block: Block, names: set[str]) -> Block:
    return block._replace(flags={name: value for name, value in block.flags.items() if name not in names})
