"""Enginery: parallel computing with live IPython engines.

    from enginery import Client, Cluster

Names are imported when they are first used: this module runs in every program of a cluster, and `import enginery` costs
next to nothing.
"""

from __future__ import annotations

if __name__ == "src":
    raise ImportError('this folder is the package "enginery": install it (pip install -e .) and import enginery')

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client.calls.dependencies import Dependency
    from .client.client import Client
    from .client.maps.executor import ClusterExecutor
    from .client.maps.imap import LazyMap
    from .client.results.futures import AsyncResult
    from .client.results.mapresult import AsyncMapResult
    from .client.results.refs import ObjectRef
    from .client.views.balancedview import LoadBalancedView
    from .client.views.decorators import parallel, remote
    from .client.views.directview import DirectView
    from .cluster.cluster import Cluster
    from .dependent import depend, require
    from .errors import (
        ClusterError,
        ClusterExists,
        CompositeError,
        ControllerLost,
        EngineDied,
        EngineryError,
        ImpossibleDependency,
        InvalidDependency,
        NoClusterError,
        NoEngines,
        NoEnginesRegistered,
        NoSuchEngine,
        NoSuchTask,
        ObjectLost,
        ObjectStoreFull,
        RemoteError,
        SerializationError,
        TaskAborted,
        TaskLost,
        TaskRefused,
        TaskTimeout,
        UnmetDependency,
    )
    from .interactive import interactive
    from .prepickled import PrePickled
    from .publishing import publish_data
    from .serialize import Reference

__version__ = "0.1.0"

_HOMES = {
    "AsyncMapResult": ".client.results.mapresult",
    "AsyncResult": ".client.results.futures",
    "Client": ".client.client",
    "Cluster": ".cluster.cluster",
    "ClusterError": ".errors",
    "ClusterExecutor": ".client.maps.executor",
    "ClusterExists": ".errors",
    "CompositeError": ".errors",
    "ControllerLost": ".errors",
    "Dependency": ".client.calls.dependencies",
    "DirectView": ".client.views.directview",
    "EngineDied": ".errors",
    "EngineryError": ".errors",
    "ImpossibleDependency": ".errors",
    "InvalidDependency": ".errors",
    "LazyMap": ".client.maps.imap",
    "LoadBalancedView": ".client.views.balancedview",
    "NoClusterError": ".errors",
    "NoEngines": ".errors",
    "NoEnginesRegistered": ".errors",
    "NoSuchEngine": ".errors",
    "NoSuchTask": ".errors",
    "ObjectLost": ".errors",
    "ObjectRef": ".client.results.refs",
    "ObjectStoreFull": ".errors",
    "PrePickled": ".prepickled",
    "Reference": ".serialize",
    "RemoteError": ".errors",
    "SerializationError": ".errors",
    "TaskAborted": ".errors",
    "TaskLost": ".errors",
    "TaskRefused": ".errors",
    "TaskTimeout": ".errors",
    "UnmetDependency": ".errors",
    "depend": ".dependent",
    "interactive": ".interactive",
    "parallel": ".client.views.decorators",
    "publish_data": ".publishing",
    "remote": ".client.views.decorators",
    "require": ".dependent",
}

__all__ = [
    "AsyncMapResult",
    "AsyncResult",
    "Client",
    "Cluster",
    "ClusterError",
    "ClusterExecutor",
    "ClusterExists",
    "CompositeError",
    "ControllerLost",
    "Dependency",
    "DirectView",
    "EngineDied",
    "EngineryError",
    "ImpossibleDependency",
    "InvalidDependency",
    "LazyMap",
    "LoadBalancedView",
    "NoClusterError",
    "NoEngines",
    "NoEnginesRegistered",
    "NoSuchEngine",
    "NoSuchTask",
    "ObjectLost",
    "ObjectRef",
    "ObjectStoreFull",
    "PrePickled",
    "Reference",
    "RemoteError",
    "SerializationError",
    "TaskAborted",
    "TaskLost",
    "TaskRefused",
    "TaskTimeout",
    "UnmetDependency",
    "depend",
    "interactive",
    "parallel",
    "publish_data",
    "remote",
    "require",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - nothing eagerly

    value = globals()[name] = getattr(import_module(home, __name__), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
