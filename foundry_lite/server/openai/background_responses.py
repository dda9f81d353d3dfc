"""Responses that are kept: those that are being made without anybody waiting, and those that were made.

Confined to the event loop. A response in the background has a task; what ends it, is stored before it is forgotten
here. One that is stored as being made and has no task is what a daemon left behind that ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from foundry_lite.errors import InvalidRequest, StorageFull
from foundry_lite.protocol.responses.bodies import ResponseErrorBody, ResponseObject, State
from foundry_lite.protocol.responses.writer import ResponseWriter
from foundry_lite.server.openai.response_store import Record, ResponseStore

log = logging.getLogger(__name__)

# Whoever follows a response and loses the connection may come back after its end: the events of the last ones are kept.
_REMEMBERED = 8
_REMEMBERED_BYTES = 8 * 2**20

_STOPPED = ResponseErrorBody("server_error", "the daemon ended before this response was made")


Keep = Callable[[ResponseObject], Coroutine[Any, Any, None]]


class Run:
    """A background response: its task, its stored record and its events. `Background.begin` starts it.

    ``record`` has the stored fields other than the response itself. ``has_log``: the events are kept for clients that
    follow it; they take ``size`` bytes.
    """

    def __init__(self, writer: ResponseWriter, record: Record, *, has_log: bool) -> None:
        self.writer = writer
        self.has_log = has_log
        self.is_made = False  # there is nothing to cancel any more
        self.is_over = False
        self.size = 0
        self.task: asyncio.Task[None] | None = None
        self.stopping: asyncio.Task[None] | None = None
        self._record = record
        self._events: list[bytes] = []  # each at the index of its sequence number
        self._news = asyncio.Event()

    def record(self, response: ResponseObject | None = None) -> Record:
        """Return the record with ``response``; without one, with the response as far as it is made."""
        return msgspec.structs.replace(self._record, response=response or self.writer.so_far("in_progress"))

    async def drive(self, events: AsyncIterator[bytes], on_end: Callable[[], None]) -> None:
        """Read the events to their end."""
        try:
            async for chunk in events:
                self._tell(chunk)
        finally:
            on_end()

    async def follow(self, after: int = -1) -> AsyncIterator[bytes]:
        """Yield the events behind the one with that sequence number, up to its end."""
        place = after + 1
        while True:
            while place < len(self._events):
                yield self._events[place]
                place += 1
            if self.is_over:
                return
            await self._news.wait()

    def end(self, last: bytes = b"") -> None:
        """Mark the run as over, with ``last`` as the last event of its followers."""
        self.is_over = True
        self._tell(last)

    def _tell(self, chunk: bytes) -> None:
        if self.has_log:  # without the comments that may be among the events
            events = [one + b"\n\n" for one in chunk.split(b"\n\n") if one.startswith(b"event:")]
            self._events += events
            self.size += sum(map(len, events))
        self._news.set()
        self._news = asyncio.Event()


class Background:
    """All responses that are kept, made or being made."""

    def __init__(self, store: ResponseStore) -> None:
        self.store = store
        self._runs: dict[str, Run] = {}
        self._over: dict[str, Run] = {}  # the last of those that have ended, the oldest first

    def find(self, identity: str) -> Run | None:
        """Return a response that is being made, or has ended of late with its events remembered."""
        return self._runs.get(identity) or self._over.get(identity)

    def keeping(self, writer: ResponseWriter, record: Record) -> Keep:
        """Return what stores a response once it is made, together with ``record``."""

        async def keep(response: ResponseObject) -> None:
            if (run := self._runs.get(response.id)) is not None:
                run.is_made = True
            await self._write(writer, msgspec.structs.replace(record, response=response))

        return keep

    async def begin(self, run: Run, events: AsyncIterator[bytes], on_end: Callable[[], None]) -> None:
        """Store a response as being made, and read its events to their end. Raises `StorageFull`."""
        try:
            await self.store.write(run.record())
        except BaseException:
            on_end()
            raise
        self._runs[run.writer.id] = run
        run.task = asyncio.create_task(run.drive(events, on_end))
        run.task.add_done_callback(lambda task: self._ended(run, task))

    async def read(self, identity: str) -> Record:
        """Return what is kept of a response, as it is now. Raises `ResponseNotFound`."""
        run = self._runs.get(identity)
        record = await self.store.read(identity) if run is None else run.record()
        if run is None and record.response.status == "in_progress" and identity not in self._runs:
            lost = msgspec.structs.replace(record.response, status="failed", error=_STOPPED)
            return msgspec.structs.replace(record, response=lost)
        return record

    async def cancel(self, identity: str) -> ResponseObject:
        """Cancel a response in the background, and return it; one that has ended stays as it is.

        Raises `ResponseNotFound`, and `InvalidRequest` for one that is not in the background.
        """
        run = self._runs.get(identity)
        if run is not None:
            await self._stop(run, "cancelled")
        response = (await self.read(identity)).response
        if not response.background:
            raise InvalidRequest(
                f"{identity} was not made in the background", "response_id", "invalid_value", hint="It has ended."
            )
        return response

    async def delete(self, identity: str) -> None:
        """Forget a response; one that is being made is cancelled first. Raises `ResponseNotFound`."""
        if (run := self._runs.get(identity)) is not None:
            await self._stop(run, "cancelled")
        self._over.pop(identity, None)
        await self.store.delete(identity)

    async def close(self) -> None:
        """End all runs; they have failed."""
        for run in list(self._runs.values()):
            await self._stop(run, "failed", _STOPPED)

    async def _stop(self, run: Run, state: State, error: ResponseErrorBody | None = None) -> None:
        """Stop a run, once, whoever else asks for it: a second writing could bring back what was deleted meanwhile."""
        if run.stopping is None:
            run.stopping = asyncio.create_task(self._stop_now(run, state, error))
        await asyncio.shield(run.stopping)  # goes on when the one who asked leaves

    async def _stop_now(self, run: Run, state: State, error: ResponseErrorBody | None) -> None:
        assert run.task is not None
        if not run.is_made:
            run.task.cancel()
        await asyncio.wait({run.task})
        if run.task.cancelled():
            await self._write(run.writer, run.record(run.writer.so_far(state, error)))
            self._put_by(run, run.writer.broken_off(state, error))

    async def _write(self, writer: ResponseWriter, record: Record) -> None:
        try:
            await self.store.write(record)
        except StorageFull as error:  # an answer that was made is worth more than its copy
            log.error("%s is not stored: %s", record.response.id, error.message)
            writer.forget()

    def _ended(self, run: Run, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return  # `_stop` stores it, and forgets it then
        self._put_by(run)
        if (mistake := task.exception()) is not None:
            log.error("%s failed", run.writer.id, exc_info=mistake)

    def _put_by(self, run: Run, last: bytes = b"") -> None:
        """End a run, and keep its events; those of older runs are dropped."""
        run.end(last)
        self._runs.pop(run.writer.id, None)
        if run.has_log:
            self._over[run.writer.id] = run
        while len(self._over) > _REMEMBERED or sum(one.size for one in self._over.values()) > _REMEMBERED_BYTES:
            del self._over[next(iter(self._over))]
