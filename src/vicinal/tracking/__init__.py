"""Tracking: where a run's progress is shown. The training loop reports to a ``Tracker`` and knows no more."""
