"""The exchange between a generation and its client: deltas in, one HTTP answer or event stream out, for any API."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Protocol

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from foundry_lite.errors import FoundryError
from foundry_lite.generation import Delta, Usage
from foundry_lite.protocol import sse
from foundry_lite.protocol.common.served import Served
from foundry_lite.protocol.common.timings import header, server_timing, total_timings
from foundry_lite.protocol.common.usage import total_usage
from foundry_lite.protocol.errors import ErrorReply, reply_for
from foundry_lite.server.generation.pending import PendingGeneration
from foundry_lite.server.generation.pending import Source as Source  # part of the interface of `Exchange`
from foundry_lite.server.http.responses import EventStream, json_answer, unless_gone

log = logging.getLogger(__name__)

_PREPARATION = ("load", "template", "tokenize", "grammar")  # in their order in the header


class Writer(Protocol):
    """Writes one answer as one API has it: whole, or as the bytes of server-sent events. Pure.

    ``choices`` is how many answers it has; each ends with a delta that has a ``finish``.
    """

    id: str
    choices: int

    def whole(self, deltas: list[Delta]) -> Any:
        """Return the body of an answer that is not streamed."""

    def opening(self, prompt_tokens: int = 0, /) -> bytes:
        """Return the events that come before the first delta. ``prompt_tokens`` were read."""

    def write(self, batch: list[Delta]) -> bytes:
        """Return the events of some deltas; there may be none."""

    def closing(self) -> bytes:
        """Return the events that follow the last delta."""

    def failure(self, reply: ErrorReply) -> bytes:
        """Return the events of an error in mid-stream, the last ones."""


async def answer(
    request: Request, exchange: Exchange, *, streams: bool, pulse: timedelta = timedelta(seconds=10)
) -> Response:
    """Answer with what is made, whole or as a stream; a client that leaves ends it.

    A request that is not admitted yet is refused with a status of its own, if that takes no longer than ``pulse``; else
    the stream begins with a comment, and what goes wrong then is an event. A comment follows every such silence.
    """
    if streams:
        try:
            await unless_gone(request, exchange.begin(pulse.total_seconds()))
        except BaseException:
            exchange.end()
            raise
        return EventStream(exchange.events(), exchange.end, exchange.headers(), pulse.total_seconds())
    try:
        body = await unless_gone(request, exchange.whole())
    finally:
        exchange.end()
    return json_answer(body, headers=exchange.headers())


class Exchange:
    """A generation and the writer of its answer. `end` must be called; it cancels a generation that still runs.

    ``began`` is the arrival of the request, in seconds of the monotonic clock.
    """

    def __init__(self, writer: Writer, source: Source, served: Served, began: float) -> None:
        self._writer = writer
        self._source = source
        self._served = served
        self._began = began
        self._first: float | None = None
        self._tokens = 0
        self._ends: list[Delta] = []  # the last delta of each choice that has ended
        self._fault: str | None = None

    async def begin(self, seconds: float) -> None:
        """Wait until the request is admitted, at most so long (0: however long). Raises what it is refused with."""
        if isinstance(self._source, PendingGeneration):
            await self._source.settled(seconds)

    async def whole(self) -> Any:
        """Wait for the whole answer, and return its body."""
        deltas: list[Delta] = []
        try:
            async for batch in self._source.batches():
                deltas += self._note(batch)
        except FoundryError as error:
            self._fault = type(error).__name__
            raise
        return self._writer.whole(deltas)

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the events; an error in mid-stream is an event of its own, and the last."""
        try:
            if self._is_pending:
                yield sse.COMMENT
                await self.begin(0.0)
            yield self._writer.opening(self._source.prompt_tokens)
            async for batch in self._source.batches():
                if chunk := self._writer.write(self._note(batch)):
                    yield chunk
            yield self._writer.closing()
        except FoundryError as error:
            self._fault = type(error).__name__
            yield self._writer.failure(reply_for(error))

    def headers(self) -> dict[str, str]:
        """Return the headers that name the model, and ``Server-Timing`` as far as the times are known now."""
        if times := total_timings(self._ends):
            return {**self._served.headers, "server-timing": server_timing(times)}
        spent = self._source.preparation
        known = {name: spent[name] for name in _PREPARATION if spent.get(name, 0.0) > 0}
        return {**self._served.headers, **({"server-timing": header(known)} if known else {})}

    def end(self) -> None:
        """Free what the generation holds, and write the request's line into the log if it was admitted."""
        was_admitted = not isinstance(self._source, PendingGeneration) or self._source.source is not None
        self._source.close()
        if was_admitted:
            self._log()

    def _log(self) -> None:
        ttft = (self._first or time.monotonic()) - self._began
        usage = self._usage()
        log.info(
            "finished request=%s model=%s prompt_tokens=%d cached_tokens=%d new_tokens=%d ttft_ms=%.0f "
            "tokens_per_s=%.1f finish=%s",
            self._writer.id,
            self._served.name,
            self._source.prompt_tokens,
            usage.cached_tokens if usage else 0,
            self._tokens,
            ttft * 1e3,
            self._tokens_per_second(),
            self._fault or self._finishes(),
        )

    @property
    def _is_pending(self) -> bool:
        return isinstance(self._source, PendingGeneration) and not self._source.is_over

    def _note(self, batch: list[Delta]) -> list[Delta]:
        """Take note of some deltas, and return them with the times that only the daemon knows."""
        if self._first is None:
            self._first = time.monotonic()
        self._tokens += sum(delta.tokens for delta in batch)
        if not any(delta.finish for delta in batch):
            return batch
        batch = [self._timed(delta) if delta.finish is not None else delta for delta in batch]
        self._ends += [delta for delta in batch if delta.finish is not None]
        return batch

    def _timed(self, end: Delta) -> Delta:
        if end.timings is None:
            return end
        load, total = self._source.preparation.get("load", 0.0), time.monotonic() - self._began
        return replace(end, timings=replace(end.timings, load=load, total=total))

    def _finishes(self) -> str:
        if len(self._ends) < self._writer.choices:
            return "cancelled"
        ends = sorted(self._ends, key=lambda delta: delta.choice)
        return ",".join(str(delta.finish) for delta in ends)

    def _usage(self) -> Usage | None:
        return total_usage(delta.usage for delta in self._ends)

    def _tokens_per_second(self) -> float:
        """All choices together, from the first token to the last."""
        decode = max((delta.timings.decode for delta in self._ends if delta.timings), default=0.0)
        return (self._tokens - len(self._ends)) / decode if decode else 0.0
