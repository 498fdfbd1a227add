"""Import the libraries of the jobs of a parallel sweep, in the process from which their workers are forked.

So a worker starts in milliseconds, and all share the memory of torch. Without ``os._exit`` a sweep with piped output
would wait for another 1.2 s of CPU time (4.1 s, not 2.9: medians of 11 interleaved rounds on two cores).
"""

import atexit
import os
import signal

from vicinal.runs.signals import present
from vicinal.utils.gc_pause import without_collections

# It ends with the last of its workers, which handle signals themselves (launch/worker.py).
for number in present():
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, present())
atexit.register(os._exit, 0)  # registered first, so called last: skips the interpreter's clean-up

with without_collections():
    import cloudpickle  # noqa: F401
    import torch._dynamo  # the first optimizer would, for a second  # noqa: F401

    import hydra_plugins.vicinal_launcher  # noqa: F401
    import vicinal.cli.train  # noqa: F401
    import vicinal.jobs.run  # noqa: F401
    import vicinal.launch.worker  # noqa: F401
