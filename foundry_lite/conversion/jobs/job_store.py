"""Builds as jobs: what was ordered, how far it is, and the log of every step. The disk is the state.

    <home>/jobs/<id>/job.json       `Job`, replaced as a whole at every change
    <home>/jobs/<id>/<nn>-<step>.log
    <home>/build/lock               held by the one build that runs; the others wait

A job in state `RUNNING` without its process was interrupted; ``jobs resume`` goes on where it was.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import filelock
import msgspec
from msgspec import Struct

from foundry_lite import machine
from foundry_lite.conversion.build_spec import BuildSpec
from foundry_lite.errors import JobNotFound, StorageFull

_RECORD = "job.json"
_POLL = 0.2  # seconds between two looks at the lock


class State(StrEnum):
    """State of a build job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # its process is gone: a kill, a power cut


class Step(Struct, frozen=True):
    """Step of a build job. ``seconds`` is ``None`` while it runs; ``is_kept``: the result is an earlier job's."""

    number: int
    name: str
    detail: str
    log: str
    seconds: float | None = None
    is_kept: bool = False


class Job(Struct, frozen=True):
    """Job record of one build. Times are UTC, ISO 8601. ``installed`` are the references of the models it made."""

    id: str
    order: BuildSpec
    created: str
    state: State = State.QUEUED
    pid: int | None = None
    process_started: float | None = None
    parameters: int = 0
    steps: tuple[Step, ...] = ()
    seconds_left: float | None = None  # estimated from earlier jobs
    installed: tuple[str, ...] = ()
    ended: str | None = None
    error: str | None = None
    hint: str | None = None


class JobStore:
    """The jobs of one home folder."""

    def __init__(self, home: Path) -> None:
        self._root = home / "jobs"
        self._lock = home / "build" / "lock"

    def begin(self, order: BuildSpec) -> Job:
        """Write a new job, queued. Raises `StorageFull`."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        for number in range(1000):
            name = f"{stamp}-{order.name}" + f"-{number}" * (number > 0)
            try:
                (self._root / name).mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise StorageFull.at_home(self._root, error) from error
            return self.write(Job(name, order, _now()))
        raise StorageFull(f"{self._root} has a thousand jobs of this second")

    def write(self, job: Job) -> Job:
        """Replace a job's record, and return it."""
        path = self.folder(job.id) / _RECORD
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(job), indent=1) + b"\n")
        draft.replace(path)
        return job

    def folder(self, job_id: str) -> Path:
        """Return the folder of a job."""
        return self._root / job_id

    def all(self) -> Iterator[Job]:
        """Yield all jobs that can be read, the newest first."""
        for path in sorted(self._root.glob(f"*/{_RECORD}"), reverse=True):
            with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
                yield _as_it_stands(msgspec.json.decode(path.read_bytes(), type=Job))

    def find(self, name: str) -> Job:
        """Return the job of that number, of which ``name`` may be a part if it is the only one; or the ``last``.

        Raises `JobNotFound`.
        """
        jobs = list(self.all())
        if name == "last" and jobs:
            return jobs[0]
        found = [one for one in jobs if one.id == name] or [one for one in jobs if name and name in one.id]
        if len(found) == 1:
            return found[0]
        fact = f"{len(found)} jobs have '{name}' in their number" if found else f"there is no job '{name}'"
        raise JobNotFound(fact, hint="'foundry-lite jobs ls' shows all.")

    def log(self, job: Job, step: str | None = None) -> str:
        """Return what the steps of a job printed, or one of them. Raises `JobNotFound` for a step that it has not."""
        steps = [one for one in job.steps if step in (None, one.name)]
        if step is not None and not steps:
            names = ", ".join(dict.fromkeys(one.name for one in job.steps))
            raise JobNotFound(f"job {job.id} has no step '{step}'", hint=f"It has: {names}.")
        parts = []
        for one in steps:
            path = self.folder(job.id) / one.log
            text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
            parts.append(f"── {one.number:02} {one.name}: {one.detail}\n{text}")
        return "".join(parts)

    def cancel(self, job: Job) -> Job:
        """Cancel a job: its process gets a signal to stop, and cleans up; a queued job does not begin."""
        if job.state is State.RUNNING or (job.state is State.QUEUED and job.pid is not None):
            assert job.pid is not None
            with suppress(ProcessLookupError):
                os.kill(job.pid, signal.SIGTERM)
            return job
        if job.state in (State.QUEUED, State.INTERRUPTED):
            return self.write(msgspec.structs.replace(job, state=State.CANCELLED, ended=_now()))
        return job

    @asynccontextmanager
    async def turn(self, job: Job) -> AsyncIterator[None]:
        """Wait until no other build runs, and keep others from running."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self._lock)
        while True:
            try:
                lock.acquire(blocking=False)
                break
            except filelock.Timeout:
                await asyncio.sleep(_POLL)
        try:
            yield
        finally:
            lock.release()

    def is_busy(self) -> bool:
        """Return whether a build job is running now."""
        return any(one.state is State.RUNNING for one in self.all())

    def seconds_of(self, step: str, parameters: int) -> float | None:
        """Expect what a step takes from the earlier job whose model is nearest in size; ``None`` without one."""
        done = [
            (one.parameters, step_done.seconds)
            for one in self.all()
            for step_done in one.steps
            if step_done.name == step and step_done.seconds is not None and not step_done.is_kept and one.parameters
        ]
        if not done or not parameters:
            return None
        nearest, seconds = min(done, key=lambda pair: abs(pair[0] - parameters))
        return seconds * max(1.0, parameters / max(nearest, 10**8))  # below 100 M parameters, start-up is all


def owned(job: Job) -> Job:
    """Return the job as one that this process runs."""
    return msgspec.structs.replace(job, pid=os.getpid(), process_started=machine.process_started(os.getpid()))


def ended(job: Job, state: State, error: str | None = None, hint: str | None = None) -> Job:
    """Return the job as one that has ended."""
    return msgspec.structs.replace(job, state=state, ended=_now(), error=error, hint=hint or None, seconds_left=None)


def log_name(number: int, name: str, detail: str = "") -> str:
    """Return the name of a step's log."""
    words = re.sub(r"[^a-z0-9]+", "-", detail.lower()).strip("-")[:40]
    return f"{number:02}-{name}" + f"-{words}" * bool(words) + ".log"


def _as_it_stands(job: Job) -> Job:
    if job.state not in (State.RUNNING, State.QUEUED) or job.pid is None:
        return job
    if machine.process_started(job.pid) == job.process_started is not None:
        return job
    return msgspec.structs.replace(job, state=State.INTERRUPTED, seconds_left=None)


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
