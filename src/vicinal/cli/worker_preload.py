"""Imported once, by the process that the workers of a parallel sweep are forked from: what their jobs need.

So a worker is ready in milliseconds, and the memory that torch takes is there once for all of them.
"""

import atexit
import os
import signal

from vicinal.runs.signals import present
from vicinal.utils.gc_pause import without_collections

# It ends when the last of those that it serves has; what signals mean, they know (launch/worker.py).
for number in present():
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, present())
atexit.register(os._exit, 0)  # the last to be called: no process waits for Python to be taken apart

with without_collections():
    import cloudpickle  # noqa: F401
    import torch._dynamo  # the first optimizer would, for a second  # noqa: F401

    import hydra_plugins.vicinal_launcher  # noqa: F401
    import vicinal.cli.train  # noqa: F401
    import vicinal.jobs.run  # noqa: F401
    import vicinal.launch.worker  # noqa: F401
