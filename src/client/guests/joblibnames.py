"""Under which names joblib finds the backend, and whose engines it means. Imports joblib only when asked to register.

joblib has no plug-ins: a backend must be registered before its name can be used. So a client that is made while joblib
is loaded registers by itself; where joblib is imported after that, `register_joblib_backend` is called by hand.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..client import Client
    from ..views.balancedview import LoadBalancedView

NAME = "enginery"

_newest: weakref.ref[Client] | None = None
"""The client that was made last, for whoever names none."""

_own: Client | None = None
"""One that was made here, because there was none."""


def offer(client: Client) -> None:
    """Have joblib know the backend, if it is loaded; it will be this client's unless another is named."""
    global _newest
    _newest = weakref.ref(client)
    parallel: Any = sys.modules.get("joblib.parallel")
    if parallel is not None and hasattr(parallel, "register_parallel_backend"):  # else it is being imported right now
        parallel.BACKENDS.setdefault(NAME, _make)


def register(view: LoadBalancedView, name: str, *, make_default: bool) -> None:
    """Have joblib know the backend under this name, on the engines of this view, with its flags.

    When the view's client is closed, the name goes on to the program's newest. Raises ImportError if joblib is not
    installed.
    """
    try:
        from joblib import register_parallel_backend  # noqa: PLC0415 - only who uses it has it
    except ImportError as error:
        raise ImportError(
            f"a joblib backend needs joblib, which cannot be imported here ({error}); pip install joblib"
        ) from error

    def make(client: Client | None = None, **options: Any) -> Any:
        if client is not None:
            return _make(client=client, **options)
        flags = {flag: getattr(view, flag) for flag in view.FLAGS}
        return _make(client=view.client if _is_open(view.client) else None, **{**flags, **options})

    register_parallel_backend(name, make, make_default=make_default)


def _make(
    nesting_level: int | None = None,
    inner_max_num_threads: int | None = None,
    *,
    client: Client | None = None,
    **flags: Any,
) -> Any:
    """Return a backend of a client (the program's newest, if none is given) that submits with these flags."""
    from .joblibbackend import EngineryBackend  # noqa: PLC0415 - imports joblib

    view = (client or _client()).load_balanced_view().set_flags(**flags)
    return EngineryBackend(view, nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)


def _client() -> Client:
    """Return the newest client that is open, or one of the running cluster, made once."""
    global _own
    newest = None if _newest is None else _newest()
    for client in (newest, _own):
        if client is not None and _is_open(client):
            return client
    from ..client import Client  # noqa: PLC0415 - which imports this module

    _own = Client()
    return _own


def _is_open(client: Client) -> bool:
    return client._link.core.lost is None
