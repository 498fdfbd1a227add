"""Work in a thread: one piece at a time, waited for, and its errors are raised."""

import logging
import threading
from concurrent.futures import Future

import pytest

from vicinal.runs.background import Background


class Gate:
    """Work that ends when it is let."""

    def __init__(self) -> None:
        self.began, self.may_end, self.done = threading.Event(), threading.Event(), False

    def __call__(self) -> None:
        self.began.set()
        assert self.may_end.wait(60)
        self.done = True


def fail() -> None:
    raise OSError(28, "No space left on device", "checkpoint.pt")


def test_the_caller_goes_on_and_the_next_piece_waits() -> None:
    first, seen = Gate(), []
    with Background("a checkpoint") as background:
        background.start(first)
        assert first.began.wait(60)  # in another thread: this one is here
        first.may_end.set()
        background.start(lambda: seen.append(first.done))
        background.wait()
        assert seen == [True]


def test_the_end_waits() -> None:
    gate = Gate()
    threads = threading.active_count()
    with Background("a checkpoint") as background:
        background.start(gate)
        gate.may_end.set()
    assert gate.done
    assert threading.active_count() == threads


@pytest.mark.parametrize("where", ["wait", "start", "end"])
def test_an_error_is_raised_where_it_is_waited_for_and_once(where: str) -> None:
    seen: list[int] = []
    background = Background("a checkpoint")

    def work() -> None:
        with background:
            background.start(fail)
            if where == "wait":
                background.wait()
            elif where == "start":
                background.start(lambda: seen.append(1))

    with pytest.raises(OSError, match=r"No space left on device: 'checkpoint\.pt'"):
        work()
    background.wait()
    assert seen == []


def test_another_error_is_not_hidden(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        with Background("a checkpoint") as background:
            background.start(fail)
            raise ValueError("the loss is not finite")

    with pytest.raises(ValueError, match="the loss is not finite"):
        work()
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "a checkpoint: [Errno 28] No space left on device: 'checkpoint.pt'")
    ]


def test_an_interrupted_wait_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    background = Background("a checkpoint")
    background.start(gate)

    def interrupted(self: Future[None], timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            background.wait()
    assert not gate.done
    gate.may_end.set()
    background.wait()
    assert gate.done
