import io
import logging
import threading
from collections.abc import Iterator

import pytest
import rich.console

from vicinal.tracking.console import Console
from vicinal.tracking.tracker import Progress, RunInfo, Trackers

ROW = {
    "epoch": 3,
    "step": 12,
    "lr": 0.05,
    "train/loss": 0.5123,
    "train/acc1": 0.842,
    "train/acc1_ceiling": 0.899,
    "train/loss_floor": 0.1,
    "val/acc1": 0.961,
    "val/acc5": 1.0,
    "val/nll": 0.134,
    "val/ece": 0.01,
    "throughput": 5123.4,
    "seconds": 5.0,
}


class Clock:
    """Seconds that pass when told so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    return Clock()


def piped(clock: Clock) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(4, rich.console.Console(file=file, width=60), clock), file


def test_piped_output_is_one_plain_line_an_epoch_and_nothing_else(info: RunInfo, clock: Clock) -> None:
    console, file = piped(clock)
    with Trackers(info, console, chosen={}):
        for epoch in (1, 2, 3):
            clock.now += 5.857
            console.progress(Progress(epoch, 2, {"loss": 0.6, "acc1": 0.8}, 5000.0))
            console.epoch(ROW | {"epoch": epoch})
        console.finish({})
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[2] == (
        "epoch  3/10  loss 0.512  acc1 0.842 (ceiling 0.899)  val acc1 0.961 acc5 1.000 nll 0.134 ece 0.010  lr 0.0500"
        "  5123 images/s  0:41 left"
    )


def test_time_left_counts_only_epochs_of_this_process(info: RunInfo, clock: Clock) -> None:
    console, file = piped(clock)
    with Trackers(info, console, chosen={}):
        console.restore([ROW] * 7, step=0)
        clock.now += 3600
        console.epoch(ROW | {"epoch": 8, "lr": 1e-5})
    assert file.getvalue().endswith("lr 1.00e-05  5123 images/s  2:00:00 left\n")


def test_without_validation_split_the_test_scores_are_shown_or_none(info: RunInfo, clock: Clock) -> None:
    console, file = piped(clock)
    bare = {key: value for key, value in ROW.items() if not key.startswith("val/")}
    with Trackers(info, console, chosen={}):
        clock.now += 1
        console.epoch(bare)
        console.epoch(bare | {"test/acc1": 0.5, "test/nll": 0.25})
    first, second = file.getvalue().splitlines()
    assert "(ceiling 0.899)  lr" in first
    assert "(ceiling 0.899)  test acc1 0.500 nll 0.250  lr" in second


def test_terminal_shows_a_bar_with_the_epoch_lines_above(info: RunInfo, clock: Clock) -> None:
    file = io.StringIO()
    terminal = rich.console.Console(
        file=file, force_terminal=True, force_interactive=True, color_system=None, width=120, _environ={}
    )
    console = Console(4, terminal, clock)
    with Trackers(info, console, chosen={}):
        clock.now += 10
        console.progress(Progress(epoch=1, step=2, means={"loss": 0.75, "acc1": 0.5}, images_per_second=1234.0))
        assert console._bar is not None
        console._bar.refresh()
        clock.now += 10
        console.epoch(ROW | {"epoch": 1})
        task = console._bar.tasks[0]
        assert (task.completed, task.total) == (2, 40)
    text = file.getvalue()
    # Half an epoch took 10 s, so the other 9.5 take 190 s.
    assert "loss 0.750  acc1 0.500  1234 images/s  3:10 left" in text
    assert "epoch 1/10 ━" in text
    # The permanent line is whole and ends with a line feed; a bar is drawn below it again.
    line = (
        "epoch  1/10  loss 0.512  acc1 0.842 (ceiling 0.899)  val acc1 0.961 acc5 1.000 nll 0.134 ece 0.010  lr 0.0500"
        "  5123 images/s  3:00 left"
    )
    assert line + "\n" in text
    assert "━" in text.split(line)[1]


def test_what_another_thread_logs_is_a_line_above_the_bar(info: RunInfo, clock: Clock) -> None:
    file = io.StringIO()
    terminal = rich.console.Console(
        file=file, force_terminal=True, force_interactive=True, color_system=None, width=40, _environ={}
    )
    handler = logging.StreamHandler(file)
    logging.getLogger().addHandler(handler)
    try:
        with Trackers(info, Console(4, terminal, clock), chosen={}) as console:
            console.progress(Progress(epoch=1, step=2, means={"loss": 0.75, "acc1": 0.5}, images_per_second=1234.0))
            line = "W&B is offline; to upload the run: wandb sync --yes /a/folder/[bold]/whose/name/is/long"
            thread = threading.Thread(target=logging.getLogger("any").warning, args=(line,))
            thread.start()
            thread.join()
        logging.getLogger("any").warning("afterwards")
    finally:
        logging.getLogger().removeHandler(handler)
    before, after = file.getvalue().split(line)
    assert before.endswith("\x1b[2K")  # the bar has been wiped away
    assert after.startswith("\n")
    assert "epoch 1/10" in after  # and is drawn again below
    assert after.endswith("afterwards\n")


def test_bar_stops_when_the_run_fails(info: RunInfo, clock: Clock) -> None:
    terminal = rich.console.Console(file=io.StringIO(), force_terminal=True, force_interactive=True, _environ={})
    console = Console(4, terminal, clock)
    with pytest.raises(ValueError, match="boom"), Trackers(info, console, chosen={}):
        raise ValueError("boom")
    assert console._bar is not None
    assert not console._bar.live.is_started
