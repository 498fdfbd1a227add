"""Importing what a training needs, torch and its compilers above all, without looking for garbage meanwhile."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections(library: str = "torch") -> Iterator[None]:
    """Inside ``with``, where the library is not imported yet, the garbage collector rests; what is there then stays.

    The imports make half a million objects and no garbage. Python would go through all of them again and again, for a
    fifth of the time and more, and go on to do so in every collection of the training.
    """
    if library in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries complain of what the end of the interpreter does not collect
        gc.enable()
