"""A thread that does what it is told, in that order, while whoever tells it goes on."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread


class Courier:
    """Calls what it is told to call, one after the other, once it has been started. No call may raise.

    Args:
        name: of its thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)  # a stuck one must not hold the process

    def tell(self, call: Callable[[], object]) -> None:
        """Have it call this after all that it has been told before; returns at once."""
        self._calls.put(call)

    def start(self) -> None:
        """Begin with what it has been told so far; nothing if it has begun."""
        if self._thread.ident is None:
            self._thread.start()

    def end(self, seconds: float) -> bool:
        """Wait until it has done all it was told, but no longer than so many seconds; whether it has."""
        self.start()
        self._calls.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
