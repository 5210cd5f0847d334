"""The arguments of a call, pickled as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import SerializationError
from ...pieces import joined
from ...placeholders import collecting
from ...serialize import dumps, find_culprit, is_picklable
from ..results.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ...objects.packing import Packing
    from ...serialize import Buffer
    from ...wire.messages import ObjectInfo
    from ..connection.link import Link


def pack(
    function: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[bytes, Sequence[Buffer]]:
    """Return the pickled arguments of a call; SerializationError names the argument that cannot travel, and why.

    Results of tasks among them are placeholders; the frames say so, see `Waits`. The first frame may be `Pieces`: they
    are to go through `to_object`, which sees to that.
    """
    try:
        return dumps((args, kwargs), wrap=Waits, pieces=True)
    except SerializationError as error:
        with collecting([]):
            raise SerializationError(_explain(function, args, kwargs) or str(error)) from error.__cause__


def pack_items(items: Any, first: int) -> tuple[bytes, Sequence[Buffer]]:
    """Return the pickled items of a divisible task; SerializationError names the item that cannot travel, and why.

    `items` is a list of items, or a tuple of columns; `first` the number of the first item. Results of tasks are
    placeholders, as in `pack`.
    """
    try:
        return dumps(items, wrap=Waits, pieces=True)
    except SerializationError as error:
        with collecting([]):
            raise SerializationError(_explain_items(items, first) or str(error)) from error.__cause__


def to_object(
    store: Packing, payload: bytes, frames: Sequence[Buffer]
) -> tuple[bytes, Sequence[Buffer], tuple[ObjectInfo, ...]]:
    """Return arguments that have frames with an object in their place, if they are large enough: the payload, frames,
    and the objects that the task is to name. ObjectStoreFull if they are too large to go any other way, and there is no
    room. It is written when this returns: their memory may be used again.
    """
    made = store.pack(payload, frames)
    if made is None:
        if type(frames) is Waits:
            frames[:] = joined([*frames])
        else:
            frames = joined(frames)
        return payload, frames, ()
    reference, info = made
    if type(frames) is not Waits:
        return reference, (), (info,)
    frames.clear()  # it goes on to know what stands for what
    return reference, frames, (info,)


def all_to_objects(
    link: Link, packed: Sequence[tuple[bytes, Sequence[Buffer]]]
) -> list[tuple[bytes, Sequence[Buffer], tuple[ObjectInfo, ...]]]:
    """Return the arguments of several calls as `to_object` does; if one cannot, there is no object of any."""
    made: list[tuple[bytes, Sequence[Buffer], tuple[ObjectInfo, ...]]] = []
    try:
        for payload, frames in packed:
            made.append(to_object(link.store, payload, frames) if frames else (payload, frames, ()))
    except BaseException:
        link.disown([info for _, _, objects in made for info in objects])
        raise
    return made


def name_of(function: Callable[..., Any] | str) -> str:
    """Return what people call a function."""
    if isinstance(function, str):
        return function
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def _explain(function: Callable[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    names = _parameters(function, len(args))
    for name, value in [*zip(names, args, strict=True), *((repr(key), value) for key, value in kwargs.items())]:
        if not is_picklable(value):
            return find_culprit(value, f"argument {name} of {name_of(function)}")
    return None


def _parameters(function: Callable[..., Any] | str, count: int) -> list[str]:
    """Return how to call the positional arguments of a call: by name where it has one, else by number."""
    import inspect  # noqa: PLC0415 - on the way to an error

    names: list[str] = []
    if not isinstance(function, str):
        try:
            for parameter in inspect.signature(function).parameters.values():
                if parameter.kind not in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
                    break
                names.append(repr(parameter.name))
        except (TypeError, ValueError):  # a builtin that does not tell
            names = []
    names += [str(number) for number in range(len(names) + 1, count + 1)]
    return names[:count]


def _explain_items(items: Any, first: int) -> str | None:
    if isinstance(items, tuple) and isinstance(items[0], range):  # numbers of ours
        items = items[1] if len(items) == 2 else items[1:]
    rows = zip(*items, strict=True) if isinstance(items, tuple) else items
    for number, item in enumerate(rows, first):
        if not is_picklable(item):
            return find_culprit(item, f"item {number}")
    return None
