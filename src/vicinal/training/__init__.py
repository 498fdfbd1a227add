"""The loop, its schedules, its random streams and evaluation."""
