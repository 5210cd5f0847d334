"""Functions that not every engine can run: `require` and `depend`.

Both make a function that sees to it, at each call, that what it needs is there, and raises UnmetDependency if not.
Where it is a task, its engine then says so to the controller, which gives it to another engine.

Such a function says itself how it is pickled (`pickles.REDUCER`): the modules that it requires come first. So an engine
that has not got them says so before it unpickles anything that cannot be made without them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
import types
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from . import pickles, serialize
from .errors import UnmetDependency
from .usermodules import user_modules

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_MODULE = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)(?:\s+as\s+([^\W\d]\w*))?")

_NEEDS = "__needs__"
"""Attribute of such a function: what it needs, a tuple of `(kind, ...)`; see `_meet`."""

Needs = tuple[Any, ...]


def require(*things: Any, **named: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function run only where these modules can be imported, and find them there.

        @require("numpy", "pandas as pd", clean)
        def load(path):
            return clean(pd.read_csv(path)).sum()

    Strings name modules (`"numpy"`, `"os.path"`, `"pandas as pd"`); modules themselves will do, too. They are imported
    before each call, and are there under their names among the globals of the function and in the engine's namespace
    (`"os.path"` is there as `os`). Functions and classes travel along, and are there under their own names; other
    things under the names that are given: `named`, as in `require(limit=10)`.

    A task goes to another engine where a module cannot be imported; where none can, it fails with ImpossibleDependency,
    which names the module. Called plainly, the function raises UnmetDependency. Coroutine functions stay that.
    Raises TypeError for something that has no name, ValueError for a string that is not the name of a module.
    """
    if not things and not named:
        raise TypeError("require takes what a function needs: names of modules, or functions and classes")
    modules: list[tuple[str, str]] = []
    objects: list[tuple[str, Any]] = []
    for thing in things:
        if isinstance(thing, str):
            modules.append(_parse(thing))
        elif isinstance(thing, types.ModuleType):
            modules.append(_parse(thing.__name__))
        else:
            objects.append((_name_of(thing), thing))
    for name, thing in named.items():
        if isinstance(thing, types.ModuleType):
            modules.append((thing.__name__, name))
        else:
            objects.append((name, thing))
    return _decorator("require", ("require", tuple(modules), tuple(objects)))


def depend(check: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function run only where `check(*args, **kwargs)` is true.

        def has_gpu(n): ...

        @depend(has_gpu, 1)
        def train(model): ...

    The check is called before each call, in the same place. Where it returns something false, a task goes to another
    engine that has not been asked; when none is left, it fails with ImpossibleDependency, which names the check. What
    the check raises is an error of the task. Called plainly, the function raises UnmetDependency. Raises TypeError if
    the check is not a plain function.
    """
    if not callable(check):
        raise TypeError(f"depend takes a function to ask, not {type(check).__name__}")
    if _is_coroutine_function(check):
        raise TypeError("depend takes a plain function to ask, not a coroutine function")
    return _decorator("depend", ("depend", check, args, tuple(kwargs.items())))


def _parse(text: str) -> tuple[str, str]:
    """Return a module and under which name it is to be there."""
    match = _MODULE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{text!r} is not the name of a module; write "numpy", or "pandas as pd"')
    return match[1], match[2] or ""


def _name_of(thing: Any) -> str:
    name: Any = getattr(thing, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier():
        kind = type(thing).__name__ if name is None else name
        raise TypeError(f"require takes names of modules, functions and classes; give {kind} a name: require(name=...)")
    return name


def _is_coroutine_function(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    called = function if inspect.isroutine(function) else type(function).__call__
    return inspect.iscoroutinefunction(called)


# ------------------------------------------------------------------------------------------------------ the functions


def _decorator(what: str, need: Needs) -> Callable[[Callable[P, R]], Callable[P, R]]:
    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        given: Any = function
        if isinstance(given, type) or not callable(given):
            kind = "a class" if isinstance(given, type) else type(given).__name__
            raise TypeError(f"@{what}(...) is for functions, not {kind}")
        dependent: Callable[P, R] = _fill(_empty(awaits=_is_coroutine_function(given)), (given, need, {}))
        return dependent

    return decorate


def _empty(*, awaits: bool) -> Any:
    """Return such a function, to be filled."""
    function: Any = None
    need: Needs = ()

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        _meet(function, need)
        return await function(*args, **kwargs)

    def called(*args: Any, **kwargs: Any) -> Any:
        _meet(function, need)
        return function(*args, **kwargs)

    return awaited if awaits else called


_CODES = (_empty(awaits=False).__code__, _empty(awaits=True).__code__)

State = tuple[Any, Needs, dict[str, Any]]
"""The function itself, what it needs, and attributes that it was given."""


def _fill(dependent: Any, state: State) -> Any:
    """Have such a function be what it is."""
    function, need, attributes = state
    cells = dict(zip(dependent.__code__.co_freevars, dependent.__closure__, strict=True))
    cells["function"].cell_contents = function
    cells["need"].cell_contents = need
    functools.update_wrapper(dependent, function)
    dependent.__dict__.update(attributes)
    dependent.__dict__[_NEEDS] = need
    dependent.__dict__[pickles.REDUCER] = reduce
    return dependent


def reduce(dependent: Any) -> Any:
    """Say how such a function is pickled: first of all the names of the modules that it requires."""
    if not is_dependent(dependent):
        return NotImplemented
    name, modules = dependent.__qualname__, _modules_of(dependent)
    if _is_installed(dependent):
        return _import_dependent, (name, modules, dependent.__module__)
    awaits = inspect.iscoroutinefunction(dependent)
    return _unpickle, (name, modules, awaits), _state_of(dependent), None, None, _fill


def _state_of(dependent: Any) -> State:
    attributes = dict(dependent.__dict__)
    function, need, _ = attributes.pop("__wrapped__"), attributes.pop(_NEEDS), attributes.pop(pickles.REDUCER)
    return function, need, attributes


def is_dependent(function: Any) -> bool:
    """Return whether `require` or `depend` made this, and no other decorator something else of it."""
    return getattr(function, "__code__", None) in _CODES


def over(dependent: Any, change: Callable[[Any], Any]) -> Any:
    """Return such a function with the same needs, over what `change` makes of the function itself."""
    function, need, attributes = _state_of(dependent)
    return _fill(_empty(awaits=inspect.iscoroutinefunction(dependent)), (change(function), need, attributes))


def _modules_of(dependent: Any) -> tuple[str, ...]:
    """Return the modules that a function requires, through all its layers."""
    modules: list[str] = []
    while (need := getattr(dependent, "__dict__", {}).get(_NEEDS)) is not None:
        if need[0] == "require":
            modules += [module for module, _ in need[1]]
        dependent = dependent.__wrapped__
    return tuple(dict.fromkeys(modules))


def _is_installed(dependent: Any) -> bool:
    """Return whether such a function is one of an installed module, so that its name says all about it."""
    if dependent.__module__ == "__main__" or dependent.__module__ in user_modules:
        return False
    found: Any = sys.modules.get(dependent.__module__)
    for part in dependent.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is dependent


def _unpickle(name: str, modules: tuple[str, ...], awaits: bool) -> Any:
    _check_engine(name, modules)
    return _empty(awaits=awaits)


def _import_dependent(name: str, modules: tuple[str, ...], home: str) -> Any:
    _check_engine(name, modules)
    found: Any = importlib.import_module(home)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _check_engine(name: str, modules: tuple[str, ...]) -> None:
    """Import what a function requires, if this is an engine: elsewhere it is only passed on, perhaps."""
    if serialize.find_namespace() is not None:
        for module in modules:
            _import(name, module)


# ------------------------------------------------------------------------------------------------------ what they need


def _meet(function: Any, need: Needs) -> None:
    """See to it that a function has what it needs; else raise UnmetDependency."""
    if need[0] == "depend":
        _, check, args, kwargs = need
        answer = check(*args, **dict(kwargs))
        if not answer:
            what = getattr(check, "__qualname__", None) or repr(check)
            shown = ", ".join([*(f"{arg!r:.40}" for arg in args), *(f"{key}={value!r:.40}" for key, value in kwargs)])
            raise UnmetDependency(f"{_show(function)} depends on {what}({shown}), which returned {answer!r:.40}")
        return
    _, modules, objects = need
    scope, namespace = _scope(function), serialize.find_namespace()
    for module, alias in modules:
        if sys.modules.get(module) is None:
            _import(_show(function), module)
        name = alias or module.partition(".")[0]
        found = sys.modules[module if alias else name]
        scope.setdefault(name, found)
        if namespace is not None:
            namespace[name] = found
    for name, thing in objects:
        scope.setdefault(name, thing)
        if namespace is not None:
            namespace[name] = thing


def _import(name: str, module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UnmetDependency(f"{name} requires module {module}, which cannot be imported here ({reason})") from error


def _show(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))


def _scope(function: Any) -> dict[str, Any]:
    """Return where a function finds its globals; something of no account for one that has none."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    function = getattr(function, "__func__", function)
    return function.__globals__ if isinstance(function, types.FunctionType) else {}
