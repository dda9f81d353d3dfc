"""Progress of a running job, written to its record on disk and reported to a callback. One `JobProgress` a job."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from foundry_lite.conversion.jobs.job_store import Job, JobStore, State, Step, ended, log_name, owned

STEPS = 8
# The number of each step, in the order in which they happen. A variant is one step: quantized, and checked beneath it.
_NUMBERS = {
    "look": 1,
    "hash": 2,
    "normalize": 3,
    "export": 4,
    "reference": 5,
    "quantize": 6,
    "check": 6,
    "measure": 7,
    "install": 8,
}


@dataclass(frozen=True, slots=True)
class StepReport:
    """Report of a step that begins (``seconds`` is ``None``) or is done; ``seconds_left`` is the whole job's."""

    job: str
    number: int
    name: str
    detail: str
    seconds: float | None = None
    is_kept: bool = False
    seconds_left: float | None = None


Tell = Callable[[StepReport], None]


class JobProgress:
    """Writes a job's record at every change."""

    def __init__(self, jobs: JobStore, job: Job, tell: Tell) -> None:
        self._jobs = jobs
        self._tell = tell
        self.job = jobs.write(owned(job))

    def begin(self) -> None:
        """Record that the job is running, no longer queued."""
        self._change(state=State.RUNNING, steps=(), error=None, hint=None, ended=None, installed=())

    def know(self, parameters: int) -> None:
        """Note the size of the model, from which the time is estimated."""
        self._change(parameters=parameters)

    def end(self, state: State, error: str | None = None, hint: str | None = None) -> None:
        """Note how the job ended."""
        self.job = self._jobs.write(ended(self.job, state, error, hint))

    def done(self, installed: tuple[str, ...]) -> None:
        """Note what was installed."""
        self._change(installed=installed)
        self.end(State.DONE)

    def step(self, name: str, detail: str, *, then: tuple[str, ...] = ()) -> RunningStep:
        """Begin a step, to be used as a context; ``then`` are the names of those still to come, for the estimate."""
        number = len(self.job.steps) + 1
        step = Step(number, name, detail, log_name(number, name, detail if name in ("quantize", "check") else ""))
        left = self._seconds_left((name, *then))
        self._change(steps=(*self.job.steps, step), seconds_left=left)
        self._tell(StepReport(self.job.id, _NUMBERS[name], name, detail, seconds_left=left))
        return RunningStep(self, step)

    def log(self, step: Step) -> Path:
        """Return the log of a step."""
        return self._jobs.folder(self.job.id) / step.log

    def finish(self, step: Step) -> None:
        """Note that a step is done."""
        self._change(steps=(*self.job.steps[: step.number - 1], step))
        self._tell(StepReport(self.job.id, _NUMBERS[step.name], step.name, step.detail, step.seconds, step.is_kept))

    def _seconds_left(self, names: tuple[str, ...]) -> float | None:
        expected = [self._jobs.seconds_of(name, self.job.parameters) for name in names]
        known = [one for one in expected if one is not None]
        return round(sum(known), 1) if known and len(known) == len(expected) else None

    def _change(self, **changes: object) -> None:
        self.job = self._jobs.write(msgspec.structs.replace(self.job, **changes))


class RunningStep:
    """Context manager of a running step; the step is done when the block ends without an error."""

    def __init__(self, journal: JobProgress, step: Step) -> None:
        self._journal = journal
        self._step = step
        self._began = time.monotonic()
        self.detail = step.detail
        self.is_kept = False

    @property
    def log(self) -> Path:
        return self._journal.log(self._step)

    def __enter__(self) -> RunningStep:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            seconds = round(time.monotonic() - self._began, 3)
            step = msgspec.structs.replace(self._step, detail=self.detail, seconds=seconds, is_kept=self.is_kept)
            self._journal.finish(step)
