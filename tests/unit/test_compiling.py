"""The line for grammars: first come, first served, within a time, and nothing of a request that was cancelled."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from foundry_lite.engine.worker.compile_queue import CompilingLine, Job
from foundry_lite.errors import InvalidRequest, QueueFull


class Line:
    """A line whose jobs are done when the test says so, and what they told."""

    def __init__(self, patience: float = 60.0) -> None:
        self.line = CompilingLine(patience)
        self.begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.told: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
        self.gates: dict[int, threading.Event] = {}

    def add(self, number: int, error: BaseException | None = None) -> None:
        gate = self.gates[number] = threading.Event()

        def work(_waited: float) -> Callable[[], None]:
            self.begun.put(number)
            assert gate.wait(30)
            if error is not None:
                raise error
            return lambda: self.told.put((number, "admitted"))

        self.line.add(Job(number, number + 1, work, lambda caught: self.told.put((number, caught))))


def test_the_first_come_are_the_first_served_and_failures_are_told() -> None:
    line, refused = Line(), InvalidRequest("no")
    line.add(1)
    line.add(2, refused)
    line.add(3)
    assert line.begun.get(timeout=30) == 1
    assert len(line.line) == 3
    for number in (1, 2, 3):
        line.gates[number].set()
    assert [line.told.get(timeout=30) for _ in range(3)] == [(1, "admitted"), (2, refused), (3, "admitted")]


class Panic(BaseException):
    """Stand-in for the panic of a Rust library, which is a `BaseException` and no `Exception`."""


def test_a_library_that_panics_fails_one_request_and_not_the_line() -> None:
    line = Line()
    line.add(1, Panic("index out of bounds"))
    line.add(2)
    for number in (1, 2):
        line.gates[number].set()
    number, error = line.told.get(timeout=30)
    assert (number, str(error)) == (1, "Panic: index out of bounds")
    assert line.told.get(timeout=30) == (2, "admitted")


def test_a_cancelled_request_leaves_the_line_and_tells_nothing() -> None:
    line = Line()
    for number in (1, 2, 3):
        line.add(number)
    assert line.begun.get(timeout=30) == 1
    assert [line.line.cancel(number) for number in (1, 2, 9)] == [2, 3, 0]
    assert line.line.cancel(1) == 0
    assert len(line.line) == 1
    line.gates[1].set()  # the thread is still at it
    assert line.begun.get(timeout=30) == 3
    line.gates[3].set()
    assert line.told.get(timeout=30) == (3, "admitted")
    assert line.told.empty()


def test_a_request_that_waited_too_long_is_told_why() -> None:
    line = Line(patience=0.01)
    line.add(1)
    assert line.begun.get(timeout=30) == 1
    line.add(2)
    threading.Event().wait(0.05)
    line.gates[1].set()
    assert line.told.get(timeout=30) == (1, "admitted")
    number, error = line.told.get(timeout=30)
    assert number == 2
    assert isinstance(error, QueueFull)
    assert "grammars of other requests" in error.message
