"""Environment variables of processes that compute: waiting threads sleep, and freed memory is kept for the next arrays.

The C library reads them when a process starts, torch when it is loaded. The Makefile exports the same.
"""

import os
import sys
from typing import Any

DEFAULTS = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}
MALLOPT = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}  # what malloc.h calls them


def set_defaults() -> None:
    """Set what is not set yet, for the processes that this one starts and, before it loads torch, for itself."""
    import ctypes  # the parent of a jail does without

    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    for name in DEFAULTS.keys() - os.environ.keys():
        os.environ[name] = DEFAULTS[name]
        if name in MALLOPT and hasattr(libc, "mallopt"):  # glibc: this process has read its variables
            libc.mallopt(MALLOPT[name], min(int(DEFAULTS[name]), 2**31 - 1))
