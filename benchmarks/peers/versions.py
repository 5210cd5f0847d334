"""Who is asked, and what is installed for it: the one table of pinned versions.

A peer with requirements gets a virtual environment of its own under `.bench/<peer>/`; one without runs in
the project's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

COMMON = ("numpy==2.4.6", "psutil==7.2.2")
"""What the questions themselves need, in every environment."""


@dataclass(frozen=True)
class Source:
    """Where a peer comes from."""

    module: str
    """Its adapter: `python -m <module>`, started in `benchmarks/`."""
    title: str
    """Its name in the table."""
    imports: str
    """The statement that row 11 measures."""
    requirements: tuple[str, ...] = ()
    options: dict = field(default_factory=dict)
    """For the adapter's `start`."""


ENGINERY = "enginery"
UNWRITTEN = "unwritten"
"""Enginery once more, with nothing written down."""
POOL = "pool"
LIMITS = "limits"

SOURCES = {
    ENGINERY: Source("peers.enginery_peer", "Enginery", "import enginery"),
    UNWRITTEN: Source("peers.enginery_peer", "Enginery without a journal", "", options={"journal": False}),
    LIMITS: Source("peers.limits", "physical limit", ""),
    POOL: Source("peers.pool", "ProcessPoolExecutor", "from concurrent.futures import ProcessPoolExecutor"),
    "loky": Source("peers.loky", "loky", "import loky", ("loky==3.7.0", "cloudpickle==3.1.2")),
    "ray": Source("peers.ray", "ray", "import ray", ("ray==2.60.0",)),
    "dask": Source("peers.dask", "dask", "import distributed", ("dask==2026.8.0", "distributed==2026.8.0")),
    "ipyparallel": Source(
        "peers.ipyparallel",
        "ipyparallel",
        "import ipyparallel",
        ("ipyparallel==9.2.0", "ipykernel==7.4.0", "pyzmq==27.3.0", "tornado==6.6.1"),
    ),
}

OURS = (ENGINERY, UNWRITTEN, LIMITS)
OTHERS = tuple(name for name in SOURCES if name not in OURS)
"""The peers proper: neither the project nor a physical limit."""
