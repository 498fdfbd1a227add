"""TensorBoard's event files in the run's folder: ``tensorboard --logdir outputs/runs`` shows all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vicinal.errors import UserError
from vicinal.tracking.tracker import RunInfo, Tracker

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Tracker):
    """Numbers per epoch, the panel of mixed images, and the final numbers one step after the last epoch.

    Raises UserError: the package tensorboard is not installed.
    """

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise UserError("tracker=tensorboard: needs the package tensorboard; pip install 'vicinal[tensorboard]'")

    def start(self, info: RunInfo) -> None:
        self._folder = info.folder / "tensorboard"
        self._epochs = info.epochs
        self._writer: SummaryWriter | None = None
        self._panel: tuple[Tensor, Sequence[str]] | None = None

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        known = any(self._folder.glob("events.out.tfevents.*"))
        # Readers drop what an earlier session wrote about the epochs that are trained again.
        self._writer = SummaryWriter(self._folder, purge_step=len(rows) + 1)
        if not (known and rows):
            self._write_panel()
        for row in () if known else rows:  # earlier sessions had other trackers
            self.epoch(row)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._write(row, row["epoch"])

    def mixed_images(self, images: Tensor, captions: Sequence[str]) -> None:
        self._panel = images, captions
        self._write_panel()

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._write(summary, self._epochs + 1)

    def close(self, error: BaseException | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, values: Mapping[str, Any], step: int) -> None:
        assert self._writer is not None
        for name, value in values.items():
            if not isinstance(value, list) and name != "epoch":
                self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a crash loses nothing that a checkpoint has

    def _write_panel(self) -> None:
        """Write one image of a row of tiles per sample, and the captions, to the epoch in which they are seen."""
        if self._writer is None or self._panel is None:
            return
        images, captions = self._panel
        count, tiles, channels, height, width = images.shape
        sheet = images.permute(2, 0, 3, 1, 4).reshape(channels, count * height, tiles * width)
        self._writer.add_image("mixed_images", sheet[: 3 if channels >= 3 else 1], 1)
        self._writer.add_text("mixed_images", "\n".join(f"1. {text}" for text in captions), 1)
