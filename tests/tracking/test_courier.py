import threading
import time

from vicinal.tracking.courier import Courier


def test_calls_come_in_their_order_and_only_after_the_start() -> None:
    courier, seen = Courier("any"), []
    for number in range(100):
        courier.tell(lambda number=number: seen.append((number, threading.current_thread().name)))
    assert seen == []
    courier.start()
    courier.start()
    assert courier.end(10)
    assert seen == [(number, "any") for number in range(100)]


def test_what_was_never_started_is_done_at_the_end() -> None:
    courier, seen = Courier("any"), []
    courier.tell(lambda: seen.append(1))
    assert courier.end(10)
    assert seen == [1]


def test_whoever_tells_does_not_wait_and_the_end_waits_for_a_bounded_time() -> None:
    courier, release = Courier("any"), threading.Event()
    began = time.perf_counter()
    courier.start()
    for _ in range(1000):
        courier.tell(release.wait)
    assert time.perf_counter() - began < 0.2
    assert not courier.end(0.2)
    assert 0.2 <= time.perf_counter() - began < 1
    release.set()
    assert courier.end(10)
