"""Memory of this process."""

import contextlib
import ctypes


def return_freed_memory() -> None:
    """Return memory that is no longer used to the system, where the C library can (glibc).

    glibc keeps what was freed, in pieces that later arrays of other sizes often do not fit into. It
    is worth a call between steps that take hundreds of MB each.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
