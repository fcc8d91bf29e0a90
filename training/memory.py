"""Memory that a training step frees is kept for the next one."""

import ctypes
import os

__all__ = ["keep_freed_memory"]

# Of malloc.h: the parameter, what it is set to, and the variable by which somebody may have set it himself.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
SETTINGS = ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 1 << 30), (M_TOP_PAD, 1 << 26))


def keep_freed_memory() -> bool:
    """Asks the C library to keep freed memory, of up to 1 GiB at its end, instead of handing it back; whether it does.

    A step on the CPU makes and frees tensors of megabytes by the hundred. glibc takes each from the kernel and gives it
    back, so that every page of it is a fault and is cleared anew: a fifth to two fifths of a step's time, measured with
    and without large pages. Only before a program has threads is it for all of them. Left as it is where there is no
    glibc, or where the environment sets its allocator (MALLOC_…, GLIBC_TUNABLES).
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    try:
        set_parameter = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return all(set_parameter(*setting) == 1 for setting in SETTINGS)
