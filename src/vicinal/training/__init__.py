"""The training loop, its step, schedules, random streams, checkpoints and evaluation."""
