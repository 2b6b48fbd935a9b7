"""The allocator of glibc; other C libraries are not changed."""

import ctypes
import sys
from collections.abc import Callable

_M_ARENA_MAX = -8  # from glibc's <malloc.h>


def share_one_heap() -> None:
    """Make all threads that start later allocate from one heap.

    With glibc each thread has its own heap and cannot reuse memory freed by others: channels that
    are separated in parallel then need a third more memory.
    """
    mallopt = _glibc_function("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Return memory that is no longer used to the system.

    glibc keeps what was freed, in pieces that later arrays of other sizes often do not fit into. It
    is worth a call between steps that take hundreds of MB each.
    """
    malloc_trim = _glibc_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _glibc_function(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
