"""Signals that wait for the end of a step, in real processes, and what they leave with."""

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from vicinal.runs.signals import NAMES, GracefulShutdown, Interrupted

STEPS = """
import signal, sys, time
from vicinal.runs.signals import GracefulShutdown

{before}

def step(number):
    print("step", number, flush=True)
    if number == 2:
        sys.stdin.readline()  # the signal comes in here
    print("done", number, flush=True)

with GracefulShutdown() as shutdown:
    try:
        for number in range(1, 5):
            step(number)
            if shutdown.signal is not None:
                print("saved", flush=True)
            shutdown.check()
    finally:
        print("left", flush=True)
print("end", flush=True)
"""


class Process:
    """Takes four steps, and waits for a line of ours inside the second."""

    def __init__(self, before: str = "") -> None:
        command = [sys.executable, "-c", STEPS.format(before=before)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        # pytest may run under nohup
        pipes["preexec_fn"] = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
        self.process = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
        assert [self.process.stdout.readline() for _ in range(3)] == ["step 1\n", "done 1\n", "step 2\n"]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str], str]:
        out, err = self.process.communicate("go on\n", timeout=20)
        return self.process.returncode, out.splitlines(), err


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_waits_for_the_step_and_the_save(name: str) -> None:
    number = signal.Signals[name]
    process = Process("signal.signal(signal.SIGINT, signal.SIG_DFL)" if number == signal.SIGINT else "")
    process.send(number)
    code, out, err = process.end()
    assert code == 128 + number
    assert out == ["done 2", "saved", "left"]
    again = "; again: stop without saving" if number == signal.SIGINT else ""
    assert err.splitlines() == [
        f"{name}: finishing the step and saving{again}",
        f"{name}: everything is saved; rerun the same command to resume",
    ]


def test_ctrl_c_is_a_keyboard_interrupt_in_the_end() -> None:
    process = Process()
    process.send(signal.SIGINT)
    code, out, err = process.end()
    assert out == ["done 2", "saved", "left"]
    assert err.endswith("\nKeyboardInterrupt\n")
    assert code == -signal.SIGINT  # as Python leaves; a shell calls it 130, and so does train.py


def test_a_second_ctrl_c_does_not_wait() -> None:
    process = Process()
    process.send(signal.SIGINT)
    assert process.process.stderr.readline().startswith("SIGINT: finishing the step")
    process.send(signal.SIGINT)
    process.process.wait(timeout=20)  # although the step still waits for us
    code, out, _ = process.end()
    assert (code, out) == (-signal.SIGINT, ["left"])


@pytest.mark.parametrize(("first", "then"), [("SIGTERM", "SIGTERM"), ("SIGTERM", "SIGUSR1"), ("SIGUSR1", "SIGTERM")])
def test_a_second_signal_of_another_kind_changes_nothing(first: str, then: str) -> None:
    process = Process()
    process.send(signal.Signals[first])
    assert process.process.stderr.readline().startswith(f"{first}: finishing the step")
    process.send(signal.Signals[then])
    code, out, _ = process.end()
    assert (code, out) == (128 + signal.Signals[first], ["done 2", "saved", "left"])


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM"])
def test_an_ignored_signal_stays_ignored(name: str) -> None:
    """``nohup`` ignores SIGHUP, a shell without job control SIGINT in its background jobs."""
    process = Process(f"signal.signal(signal.{name}, signal.SIG_IGN)")
    process.send(signal.Signals[name])
    code, out, err = process.end()
    assert (code, err) == (0, "")
    assert out == ["done 2", "step 3", "done 3", "step 4", "done 4", "left", "end"]


HANDLER = """
def requeue(number, frame):
    print("handler", number, flush=True)
    {leave}
signal.signal(signal.SIGUSR2, requeue)
"""


@pytest.mark.parametrize(("leave", "code"), [("sys.exit(7)", 7), ("pass", 128 + signal.SIGUSR2)])
def test_who_handled_the_signal_before_gets_it_when_all_is_saved(leave: str, code: int) -> None:
    process = Process(HANDLER.format(leave=leave))
    process.send(signal.SIGUSR2)
    found, out, _ = process.end()
    assert out == ["done 2", "saved", "left", f"handler {int(signal.SIGUSR2)}"]
    assert found == code


@pytest.fixture
def handlers() -> Iterator[dict[str, object]]:
    before = {name: signal.getsignal(signal.Signals[name]) for name in NAMES}
    yield dict(before)
    for name, handler in before.items():
        signal.signal(signal.Signals[name], handler)


def interrupted(name: str, error: type[Exception] | None = None) -> None:
    with GracefulShutdown():
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        if name:
            signal.raise_signal(signal.Signals[name])
        if error:
            raise error


def test_handlers_are_put_back(handlers: dict[str, object]) -> None:
    with pytest.raises(ZeroDivisionError):
        interrupted("", ZeroDivisionError)
    assert {name: signal.getsignal(signal.Signals[name]) for name in NAMES} == handlers
    with pytest.raises(SystemExit):
        interrupted("SIGTERM")
    assert {name: signal.getsignal(signal.Signals[name]) for name in NAMES} == handlers


def test_a_signal_after_the_last_step_is_not_lost(handlers: dict[str, object]) -> None:
    with pytest.raises(SystemExit) as left:
        interrupted("SIGTERM")
    assert left.value.code == 128 + signal.SIGTERM


def test_a_signal_is_obeyed_although_the_step_fails(
    handlers: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as left:
        interrupted("SIGTERM", ZeroDivisionError)
    assert caplog.messages == ["SIGTERM: not everything could be saved: "]
    assert left.value.code == 128 + signal.SIGTERM
    assert isinstance(left.value.__context__, ZeroDivisionError)


def test_an_interruption_is_nobodys_failure() -> None:
    assert not issubclass(Interrupted, Exception)


def test_outside_the_main_thread_signals_are_left_alone(handlers: dict[str, object]) -> None:
    found: list[object] = []

    def work() -> None:
        with GracefulShutdown() as shutdown:
            found.append({name: signal.getsignal(signal.Signals[name]) for name in NAMES})
            shutdown.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [handlers]


CLOSED = """
import os, signal, sys
from vicinal.runs.signals import GracefulShutdown
with GracefulShutdown() as shutdown:
    os.kill(os.getpid(), signal.SIGHUP)
    print("saved", flush=True)
    shutdown.check()
"""


def test_a_closed_terminal_does_not_keep_from_saving() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", CLOSED], stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    os.close(ours)
    assert process.communicate()[0] == "saved\n"
    assert process.returncode == 129
