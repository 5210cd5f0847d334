"""Which loaded modules are the user's own: what is in them is pickled by value, for an engine may not have them."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


class _UserModules:
    """Which loaded modules are the user's own, found again when modules were loaded since."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._count = 0
        self._lock = threading.Lock()
        self._own: set[str] = set()
        self._installed_below: tuple[str, ...] | None = None

    def refresh(self) -> None:
        """Have cloudpickle pickle the user's modules by value."""
        if len(sys.modules) == self._count:
            return
        import cloudpickle  # noqa: PLC0415 - only for values that need it

        with self._lock:
            count = len(sys.modules)
            for name in sys.modules.keys() - self._seen:
                self._seen.add(name)
                module = sys.modules.get(name)
                if module is not None and self._is_own(name, module):
                    self._own.add(name)
                    cloudpickle.register_pickle_by_value(module)
            self._count = count

    def __contains__(self, name: str) -> bool:
        if len(sys.modules) != self._count:
            self.refresh()
        return name in self._own

    def _is_own(self, name: str, module: ModuleType) -> bool:
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names or root in {_PACKAGE, "__main__", "__mp_main__"}:
            return False
        if getattr(module, "__name__", None) != name:  # an alias; cloudpickle would look for the other name
            return False
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            return False
        if self._installed_below is None:
            self._installed_below = _installed_folders()
        parts = file.replace("\\", "/")
        if "/site-packages/" in parts or "/dist-packages/" in parts:
            return False
        return not file.startswith(self._installed_below)


def _installed_folders() -> tuple[str, ...]:
    """Return the folders below which everything is installed.

    `sys.prefix` itself is not one: it may be `/usr`, and a project may live in `/usr/src`.
    """
    import os  # noqa: PLC0415 - once
    import site  # noqa: PLC0415 - once
    import sysconfig  # noqa: PLC0415 - once

    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    if site.ENABLE_USER_SITE:
        paths.append(site.getusersitepackages())
    return tuple(path.rstrip(os.sep) + os.sep for path in paths if path)


_PACKAGE = __name__.partition(".")[0]
user_modules = _UserModules()
"""`name in user_modules`: functions and classes of that module travel by value."""
