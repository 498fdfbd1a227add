"""Imported once, by the process that the workers of a parallel sweep are forked from: all that their jobs need.

So a worker is ready in milliseconds, and the memory that torch takes is there once for all of them.
"""

import signal

from vicinal.imports import without_collections
from vicinal.runs.interruption import NAMES

with without_collections():
    import torch._dynamo  # the first optimizer would, for a second  # noqa: F401

    import vicinal.job
    import vicinal.main  # noqa: F401

for name in NAMES:  # it ends when the last of those that it serves has; they do otherwise (worker.py)
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
