"""As little as the result of a completed run says."""

from typing import Any

SCORES = {"acc1": 0.5, "nll": 1.0}
OUTCOME: dict[str, Any] = {
    "epochs": 2,
    "best_epoch": None,
    "val": None,
    "test": {"last": SCORES, "best_val": None, "median10": SCORES},
    "seconds": {},
    "images_per_second": 1.0,
    "hardware": {"device": "cpu", "precision": "fp32", "threads": 1},
    "versions": {"torch": "2.11.0"},
    "changed": [],
    "wandb": {"mode": "disabled", "id": None},
}
"""What came of it."""
RESULT: dict[str, Any] = {
    "run_id": "c0ffee-s0",
    "cell_id": "c0ffee",
    "name": "digits-mlp",
    "seed": 0,
    "choices": {},
    "config": {},
    **OUTCOME,
}
"""All of it, but the status."""
