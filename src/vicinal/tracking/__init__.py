"""Tracking: where a run's progress is shown. The training loop reports to a :class:`Tracker` and knows no more."""

from vicinal.tracking.console import Console
from vicinal.tracking.jsonlines import TIME_FIELDS, JsonLines
from vicinal.tracking.mixed_sheet import MixedSheet
from vicinal.tracking.predictions_file import PredictionsFile
from vicinal.tracking.tracker import Progress, RunInfo, Tracker, Trackers
from vicinal.tracking.wandb_mode import resolve_mode
from vicinal.tracking.wandb_tracker import WandbTracker

__all__ = [
    "TIME_FIELDS",
    "Console",
    "JsonLines",
    "MixedSheet",
    "PredictionsFile",
    "Progress",
    "RunInfo",
    "Tracker",
    "Trackers",
    "WandbTracker",
    "resolve_mode",
]
