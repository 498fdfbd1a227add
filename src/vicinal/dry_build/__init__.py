"""Put together what a config names before anything is trained, and refuse what cannot work: networks, then mixing."""

from vicinal.dry_build.mixing import check_strategy, check_windows, depths, name_layers
from vicinal.dry_build.network import (
    Sizes,
    check_network,
    check_optimizer,
    check_schedule,
    make_strategy,
    make_task,
    meta_model,
)

__all__ = [
    "Sizes",
    "check_network",
    "check_optimizer",
    "check_schedule",
    "check_strategy",
    "check_windows",
    "depths",
    "make_strategy",
    "make_task",
    "meta_model",
    "name_layers",
]
