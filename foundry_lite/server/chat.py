"""``POST /v1/chat/completions``: decode, load, admit, and write what comes."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.engine.generation_stream import Generation
from foundry_lite.errors import FoundryError
from foundry_lite.generation import Delta, Usage
from foundry_lite.protocol import sse
from foundry_lite.protocol.answer import AnswerWriter, total_usage
from foundry_lite.protocol.chat import ChatCall, decode_chat
from foundry_lite.protocol.errors import reply_for
from foundry_lite.residency import Residency
from foundry_lite.server.answers import EventStream, json_answer, unless_gone
from foundry_lite.server.bodies import read_body
from foundry_lite.store.store import Store

log = logging.getLogger(__name__)


class ChatEndpoint:
    """The handler; it owns nothing."""

    def __init__(self, store: Store, residency: Residency) -> None:
        self._store = store
        self._residency = residency

    async def __call__(self, request: Request) -> Response:
        """Answer one chat completion; what can be refused is refused before a stream begins."""
        began = time.monotonic()
        call = decode_chat(await read_body(request))
        artifact = self._store.resolve(parse_reference(call.model))
        generation = await unless_gone(request, self._residency.begin(artifact, call.request))
        writer = AnswerWriter(
            str(artifact.ref),
            call.request.choices,
            has_logprobs=call.request.top_logprobs is not None,
            includes_usage=call.includes_usage,
        )
        exchange = Exchange(writer, generation, str(artifact.ref), began)
        if call.streams:
            return EventStream(exchange.events(call), exchange.end)
        try:
            return json_answer(writer.completion(await unless_gone(request, exchange.collect())))
        finally:
            exchange.end()


class Exchange:
    """One admitted generation on its way out; `end` must be called, and cancels it if it has not ended by itself."""

    def __init__(self, writer: AnswerWriter, generation: Generation, model: str, began: float) -> None:
        self._writer = writer
        self._generation = generation
        self._model = model
        self._began = began
        self._first: float | None = None
        self._tokens = 0
        self._ends: list[Delta] = []  # the last delta of each choice that has ended
        self._fault: str | None = None

    async def collect(self) -> list[Delta]:
        """Wait for the whole answer."""
        deltas: list[Delta] = []
        try:
            async for batch in self._generation.batches():
                self._note(batch)
                deltas += batch
        except FoundryError as error:
            self._fault = type(error).__name__
            raise
        return deltas

    async def events(self, call: ChatCall) -> AsyncIterator[bytes]:
        """Yield the events; an error in mid-stream is an event of its own, and the last."""
        try:
            yield _events(self._writer.opening())
            async for batch in self._generation.batches():
                self._note(batch)
                if chunks := [chunk for delta in batch for chunk in self._writer.chunks(delta)]:
                    yield _events(chunks)
            if call.includes_usage:
                yield sse.event(self._writer.closing(self._usage()))
            yield sse.DONE
        except FoundryError as error:
            self._fault = type(error).__name__
            yield sse.event(reply_for(error).body)

    def end(self) -> None:
        """Free what the generation holds, and write the request's line into the log."""
        self._generation.close()
        ttft = (self._first or time.monotonic()) - self._began
        usage = self._usage()
        log.info(
            "finished request=%s model=%s prompt_tokens=%d cached_tokens=%d new_tokens=%d ttft_ms=%.0f "
            "tokens_per_s=%.1f finish=%s",
            self._writer.id,
            self._model,
            self._generation.prompt_tokens,
            usage.cached_tokens if usage else 0,
            self._tokens,
            ttft * 1e3,
            self._tokens_per_second(),
            self._fault or self._finishes(),
        )

    def _note(self, batch: list[Delta]) -> None:
        if self._first is None:
            self._first = time.monotonic()
        self._tokens += sum(delta.tokens for delta in batch)
        self._ends += [delta for delta in batch if delta.finish is not None]

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


def _events(chunks: list[dict[str, Any]]) -> bytes:
    return b"".join(map(sse.event, chunks))
