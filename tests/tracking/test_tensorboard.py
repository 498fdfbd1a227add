"""Event files, read back by TensorBoard itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vicinal.tracking.tensorboard import TensorBoard
from vicinal.tracking.tracker import RunInfo

pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'vicinal[tensorboard]'")

PANEL = torch.randint(0, 256, (3, 4, 1, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CAPTIONS = ["0.73 cat + 0.27 dog", "cat", "dog"]


def row(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "train/loss": 1 / epoch, "mixing/lam": [1, 2, 3]}


def session(info: RunInfo, before: int, until: int, *, panel: str = "new", end: bool = False) -> None:
    """Go on after ``before`` epochs until ``until`` are done.

    Args:
        info: the run.
        before: epochs of the checkpoint.
        until: the last epoch of this session.
        panel: ``new`` in this session, ``old`` if the checkpoint has it.
        end: the run is completed.
    """
    tracker = TensorBoard()
    tracker.start(info)
    if panel == "old":
        tracker.mixed_images(PANEL, CAPTIONS)
    tracker.restore([row(epoch) for epoch in range(1, before + 1)], step=3)
    if panel == "new":
        tracker.mixed_images(PANEL, CAPTIONS)
    for epoch in range(before + 1, until + 1):
        tracker.epoch(row(epoch))
    if end:
        tracker.finish({"test/last/acc1": 0.5})
        tracker.close(None)
    # A killed session closes nothing.


@pytest.fixture
def events(info: RunInfo) -> Callable[[], Any]:
    """Read all event files of the run."""

    def read() -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        return EventAccumulator(str(info.folder / "tensorboard"), size_guidance={"images": 0}).Reload()

    return read


def scalars(events: Any, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(name)]


LOSSES = [(epoch, float(np.float32(1 / epoch))) for epoch in range(1, 6)]


def test_numbers_per_epoch_and_the_final_ones_come_back(info: RunInfo, events: Callable[[], Any]) -> None:
    session(info, 0, 5, end=True)
    read = events()
    assert sorted(read.Tags()["scalars"]) == ["test/last/acc1", "train/loss"]
    assert scalars(read, "train/loss") == LOSSES
    assert scalars(read, "test/last/acc1") == [(info.epochs + 1, 0.5)]


def test_the_panel_comes_back_bit_for_bit(info: RunInfo, events: Callable[[], Any]) -> None:
    import io

    from PIL import Image

    session(info, 0, 1, end=True)
    (image,) = events().Images("mixed_images")
    pixels = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)).convert("L"))
    assert image.step == 1
    assert pixels.shape == (3 * 5, 4 * 7)
    assert np.array_equal(pixels[5:10, 14:21], PANEL[1, 2, 0])
    (text,) = events().Tensors("mixed_images/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "\n".join(f"1. {caption}" for caption in CAPTIONS)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_resumed_run_has_each_step_once(info: RunInfo, events: Callable[[], Any], before: int) -> None:
    """The earlier session was killed after its third epoch, and its last checkpoint may be older."""
    session(info, 0, 3)
    session(info, before, 5, panel="new" if before == 0 else "old", end=True)
    read = events()
    assert scalars(read, "train/loss") == LOSSES
    assert [image.step for image in read.Images("mixed_images")] == [1]


def test_a_session_that_ended_before_the_result_was_written_counts_once(
    info: RunInfo, events: Callable[[], Any]
) -> None:
    session(info, 0, info.epochs, end=True)
    session(info, info.epochs, info.epochs, panel="old", end=True)
    assert scalars(events(), "test/last/acc1") == [(info.epochs + 1, 0.5)]


def test_a_panel_of_the_middle_of_the_first_epoch_stays(info: RunInfo, events: Callable[[], Any]) -> None:
    session(info, 0, 0)
    session(info, 0, 2, panel="old", end=True)
    assert [image.step for image in events().Images("mixed_images")] == [1]


def test_a_run_that_had_other_trackers_is_written_from_its_first_epoch(
    info: RunInfo, events: Callable[[], Any]
) -> None:
    session(info, 3, 5, panel="old", end=True)
    read = events()
    assert scalars(read, "train/loss") == LOSSES
    assert len(read.Images("mixed_images")) == 1
