"""Compile queue: requests whose grammar is being compiled, and the thread that serves them.

Compiling may take seconds. It goes on beside the intake, so that other requests and cancellations pass by. One grammar
is compiled at a time, first come, first served: two would leave no core to a model on two.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from foundry_lite.errors import QueueFull

PATIENCE = 10.0  # seconds that a request waits for others' grammars at most


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A request in the compile queue, of so many ``choices``.

    ``work`` is given the seconds that it waited, may take long, and returns what admits the request. ``refuse`` gets
    what was raised. Neither is called for a request that was cancelled meanwhile.
    """

    number: int
    choices: int
    work: Callable[[float], Callable[[], None]]
    refuse: Callable[[Exception], None]
    since: float = field(default_factory=time.monotonic)


class CompilingLine:
    """The compile queue; its thread is started when the first request comes."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._waiting: OrderedDict[int, Job] = OrderedDict()
        self._current: Job | None = None
        self._changed = threading.Condition()
        self._is_started = False

    def __len__(self) -> int:
        """Return the number of requests, the one whose grammar is being compiled included."""
        with self._changed:
            return len(self._waiting) + (self._current is not None)

    def add(self, job: Job) -> None:
        with self._changed:
            self._waiting[job.number] = job
            self._changed.notify()
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._serve, name="compiling", daemon=True).start()

    def cancel(self, number: int) -> int:
        """Drop a request; return how many choices it had, 0 if it was not here.

        A grammar that is being compiled is compiled to its end, and kept.
        """
        with self._changed:
            job, current = self._waiting.pop(number, None), self._current
            if job is None and current is not None and current.number == number:
                job, self._current = current, None
            return 0 if job is None else job.choices

    def _serve(self) -> None:
        while True:
            job = self._next()
            tell = self._work(job)
            with self._changed:  # a cancellation comes before this, and is obeyed, or later, and finds the sequences
                if self._current is job:
                    self._current = None
                    tell()

    def _next(self) -> Job:
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            self._current = self._waiting.popitem(last=False)[1]
            return self._current

    def _work(self, job: Job) -> Callable[[], None]:
        waited = time.monotonic() - job.since
        try:
            if waited > self._patience:
                raise QueueFull(
                    f"the grammars of other requests took {waited:.0f} s to compile; that of this one was not begun",
                    retry_after=2,
                    hint="Try again in a moment; a grammar that was compiled lately need not wait.",
                )
            return job.work(waited)
        except BaseException as error:  # noqa: BLE001 - such as a panic of the library: the line must go on
            caught = error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
            return lambda: job.refuse(caught)
