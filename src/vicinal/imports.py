"""Importing what a training needs, torch and its compilers above all, without looking for garbage meanwhile."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Inside ``with``, the first time in a process, the garbage collector rests; what is there at the end stays.

    The imports make half a million objects and no garbage. Python would go through all of them again and again, for a
    fifth of the time, and go on to do so in every collection of the training.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries complain of what the end of the interpreter does not collect
        gc.enable()
