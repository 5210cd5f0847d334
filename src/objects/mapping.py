"""A file as memory, copy-on-write: what is written there is seen by nobody else, and costs a page when it is.

Not by the standard library's `mmap`, which keeps a descriptor open for each mapping: a program may have thousands.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import weakref

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

_FLAGS = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
"""Nothing is set aside for what might be written: most never is."""

_FAILED = ctypes.c_void_p(-1).value


def map_private(path: str) -> memoryview:
    """Return the content of a file, writable; it is mapped until the last view of it goes. OSError if that fails.

    The file may be removed meanwhile, not changed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if not size:
            return memoryview(bytearray())
        address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, _FLAGS, fd, 0)
        if address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)
    array = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(array, _libc.munmap, address, size).atexit = False
    return pickle.PickleBuffer(array).raw()  # plain bytes: nobody else is used to what ctypes calls them
