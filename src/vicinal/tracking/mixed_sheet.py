"""The panel of mixed images as a file of the run, for who has no W&B account."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from vicinal.runs import mixed_sheet
from vicinal.tracking.tracker import Tracker


class MixedSheet(Tracker):
    """Writes ``mixed.png``."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def mixed_images(self, images: Tensor, captions: Sequence[str]) -> None:
        mixed_sheet.write(self.file, images.numpy(), captions)
