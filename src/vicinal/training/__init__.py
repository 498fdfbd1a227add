"""The training loop, its step, schedules, random streams, state and evaluation."""
