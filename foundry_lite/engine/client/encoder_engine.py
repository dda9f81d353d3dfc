"""The asynchronous face of an encoder's worker, inside the daemon: texts in, vectors or scores out.

Confined to one event loop, so it needs no locks.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundry_lite import machine
from foundry_lite.catalog.recipe import Provider
from foundry_lite.embedding import Encoded, EncodeRequest
from foundry_lite.engine.client.futures import fail, settle
from foundry_lite.engine.client.queries import EncodedPrompt
from foundry_lite.engine.client.worker_process import WorkerFace, start_worker
from foundry_lite.engine.ipc import encoder_messages
from foundry_lite.engine.ipc.encoder_messages import (
    Cancel,
    Detokenize,
    Detokenized,
    Done,
    Encode,
    EncoderLoaded,
    LoadEncoder,
    Tokenize,
    Tokenized,
)
from foundry_lite.engine.ipc.messages import Failure
from foundry_lite.errors import FoundryError, LoadFailed, QueueFull

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """Options of an encoder's worker. ``threads=0`` means as many as this process may use cores.

    ``most_requests`` may be open at once. ``provider`` is the one that was asked for: encoders run on the CPU.
    """

    threads: int = 0
    most_requests: int = 272
    provider: Provider = Provider.CPU


class EncoderEngine(WorkerFace):
    """A loaded encoder, made by `load_encoder`. It has the attributes of an `Engine` that describe it."""

    kv_bytes = 0
    runner = "onnxruntime"
    provider = Provider.CPU
    adapters: tuple[str, ...] = ()
    is_reduced = False

    def __init__(self, most_requests: int, fallback_reason: str | None = None) -> None:
        self._numbers = itertools.count()
        self._most_requests = most_requests
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.fallback_reason = fallback_reason
        self.context_length = 0  # tokens of a text
        self.vocabulary = 0
        self.dimensions = 0
        self.processor_note = ""

    async def start(self, folder: Path, threads: int) -> None:
        """Start the worker, and wait until it has loaded the model. Raises `LoadFailed`; the worker is gone then."""
        self._worker = await start_worker(
            "foundry_lite.engine.encoder.worker", self._hear, self._bury, RAYON_NUM_THREADS=str(threads)
        )
        self._worker.write(encoder_messages.frame(LoadEncoder(str(folder), threads)))
        try:
            await self._loaded
        except BaseException:
            await self.close()
            raise

    @property
    def open_requests(self) -> int:
        """Requests that have not ended."""
        return len(self._waiting)

    async def encode(self, request: EncodeRequest) -> Encoded:
        """Encode the texts of a request; whoever cancels this cancels them.

        Raises `InvalidRequest`, `QueueFull`, or `EngineDied`.
        """
        reply: Done = await self._ask(lambda number: Encode(number, request))
        return reply.encoded

    async def tokenize(self, text: str, *, as_input: bool, with_pieces: bool = False) -> EncodedPrompt:
        """Return the tokens of a text: as they would be read, or of the text as it is. Raises as `encode` does."""
        reply: Tokenized = await self._ask(lambda number: Tokenize(number, text, as_input, with_pieces))
        return EncodedPrompt(reply.tokens, reply.pieces)

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones spelt out. Raises as `encode` does."""
        reply: Detokenized = await self._ask(lambda number: Detokenize(number, tuple(tokens)))
        return reply.text

    async def _ask(self, command: Callable[[int], Encode | Tokenize | Detokenize]) -> Any:
        if self.is_ending:
            raise self._worker.death()
        if len(self._waiting) >= self._most_requests:
            raise QueueFull(f"{len(self._waiting)} requests wait for this model already", hint="Try again in a moment.")
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._worker.write(encoder_messages.frame(command(number)))
            return await answer
        finally:
            if self._waiting.pop(number, None) is not None:  # nobody waits for it any more
                self._worker.write(encoder_messages.frame(Cancel(number)))

    def _hear(self, body: bytes) -> None:
        match encoder_messages.decode_reply(body):
            case Done() | Tokenized() | Detokenized() as reply:
                if reply.number in self._waiting:
                    settle(self._waiting.pop(reply.number), reply)
            case Failure() as failure:
                self._refuse(failure.turn, failure.error())
            case EncoderLoaded() as loaded:
                self.context_length, self.vocabulary = loaded.context_length, loaded.vocabulary
                self.dimensions, self.processor_note = loaded.dimensions, loaded.processor_note
                self._loaded.set_result(None)

    def _refuse(self, number: int | None, error: FoundryError) -> None:
        if number is None:
            self._loaded.set_exception(error)
        elif number in self._waiting:
            fail(self._waiting.pop(number), error)

    def _bury(self) -> None:
        """Fail the load and every request that is waited for: the worker is gone."""
        if not self._loaded.done():
            self._loaded.set_exception(LoadFailed(f"the worker ended while loading: {self._worker.cause()}"))
        if self._waiting and not self._worker.is_closing:
            log.error("lost requests=%d pid=%d cause=%s", len(self._waiting), self.pid, self._worker.cause())
        for answer in self._waiting.values():
            fail(answer, self._worker.death())
        self._waiting.clear()


async def load_encoder(folder: Path, options: EncoderOptions) -> EncoderEngine:
    """Start a worker, wait until it has loaded the encoder, and return its engine. Raises `LoadFailed`."""
    asked = options.provider
    reason = None if asked is Provider.CPU else f"{asked}: encoders are computed on the CPU"
    engine = EncoderEngine(options.most_requests, reason)
    await engine.start(folder, options.threads or machine.usable_cores())
    return engine
