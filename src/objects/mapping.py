"""A file as memory, copy-on-write: what is written there is seen by nobody else, and costs a page when it is.

Not by the standard library's `mmap` alone, which keeps a descriptor open for each mapping: a program may have
thousands. So that one maps nothing, and the file is put in its place. What unmaps it is the end of the `mmap`, without
a step of Python's in which an interrupt would be lost.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import os

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

_FAILED = ctypes.c_void_p(-1).value

_ACCESS = mmap.PROT_READ | mmap.PROT_WRITE

_FLAGS = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
"""Nothing is set aside for what might be written: most never is."""

_FIXED = 0x10
"""MAP_FIXED, which has this value wherever there are stores, and no name in the standard library."""


def map_private(path: str) -> memoryview:
    """Return the content of a file, writable; it is mapped until the last view of it goes. OSError if that fails.

    The file may be removed meanwhile, not changed.
    """
    with io.FileIO(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return memoryview(bytearray())
        place = mmap.mmap(-1, size, _FLAGS | mmap.MAP_ANONYMOUS, _ACCESS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(place))
        if _libc.mmap(address, size, _ACCESS, _FLAGS | _FIXED, file.fileno(), 0) == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    return memoryview(place)
