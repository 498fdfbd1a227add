"""``train.py`` that leaves right after its first optimizer step, so that the time until then can be taken outside."""

from __future__ import annotations

import os

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def main() -> None:
    """Take the words of the command line as ``train.py`` does."""
    register_optimizer_step_post_hook(_leave)
    from vicinal.cli.train import main

    main()


def _leave(*args: object) -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    os._exit(0)  # no farewell: it would be timed


if __name__ == "__main__":
    main()
