"""The asynchronous face of one worker, inside the daemon: submit a request, iterate over its deltas.

Confined to one event loop, so it needs no locks. Its process is a `WorkerProcess`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from foundry_lite.catalog.recipe import Provider
from foundry_lite.engine.client.adapters import AdapterFile, Adapters
from foundry_lite.engine.client.futures import fail, settle
from foundry_lite.engine.client.generation import Generation
from foundry_lite.engine.client.options import EngineOptions as EngineOptions  # users of an engine find it here
from foundry_lite.engine.client.queries import EncodedPrompt, PendingQueries
from foundry_lite.engine.client.worker_process import WorkerFace, start_worker
from foundry_lite.engine.ipc import messages
from foundry_lite.engine.ipc.messages import (
    AdapterReady,
    Admitted,
    Begin,
    Cancel,
    Command,
    Decoded,
    Encoded,
    Failure,
    Inspected,
    Loaded,
    Produced,
)
from foundry_lite.errors import FoundryError, LoadFailed
from foundry_lite.generation import Chat, Delta, GenerationRequest, Text, Tokens

log = logging.getLogger(__name__)


class Engine(WorkerFace):
    """A loaded model in a worker process, made by `load_engine`."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._generations: dict[int, Generation] = {}
        self._unfinished: dict[int, int] = {}  # choices of each generation that have not finished
        self._admissions: dict[int, asyncio.Future[None]] = {}
        self._questions = PendingQueries(self._send)
        self._adapters = Adapters(self._send)
        self._loaded: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        self.context_length = 0
        self.vocabulary = 0
        self.kv_bytes = 0
        self.runtime_bytes: int | None = None  # the worker's memory before it loaded the model
        self.runner = ""
        self.provider = Provider.CPU  # the execution provider that computes
        self.processor_note = ""  # what differs from the processor that the figures were measured on
        self.is_reduced = False  # a part of the model is not used for that reason
        self.fallback_reason: str | None = None  # why it is not the one that was asked for

    async def start(self, folder: Path, options: EngineOptions) -> None:
        """Start the worker, and wait until it has loaded the model. Raises `LoadFailed`; the worker is gone then."""
        self._worker = await start_worker("foundry_lite.engine.worker.worker", self._hear_frame, self._bury)
        self._send(options.load(folder))
        try:
            await self._loaded
        except BaseException:
            await self.close()
            raise

    @property
    def open_requests(self) -> int:
        """Requests and queries that have not ended."""
        return len(self._generations) + self._questions.open

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that are loaded, by the names of their `AdapterFile`."""
        return self._adapters.names

    async def begin(self, request: GenerationRequest, adapter: AdapterFile | None = None) -> Generation:
        """Admit a request, which an adapter may compute, and return its generation.

        Raises `InvalidRequest`, `EngineBusy`, `EngineDied`, or `LoadFailed` when the adapter does not fit the model.
        """
        self._require_life()
        number, name = next(self._numbers), None if adapter is None else adapter.name
        generation = Generation(request.choices, name, partial(self._cancel, number))
        self._generations[number] = generation  # from here on, neither the model nor the adapter is idle
        self._unfinished[number] = request.choices
        try:
            if adapter is not None:
                await self.load_adapter(adapter)
            self._require_life()
            admission = self._admissions[number] = asyncio.get_running_loop().create_future()
            self._send(Begin(number, msgspec.structs.replace(request, adapter=name)))
            await admission
        except BaseException:
            generation.close()
            raise
        return generation

    async def load_adapter(self, adapter: AdapterFile) -> None:
        await self._adapters.load(adapter)
        self._adapters.trim(self._adapters_in_use())

    async def inspect(self) -> Inspected:
        """Ask the worker what it is doing. Raises `EngineDied`."""
        self._require_life()
        return await self._questions.inspect()

    async def encode(self, prompt: Chat | Text | Tokens, *, with_pieces: bool = False) -> EncodedPrompt:
        """Return the tokens that a prompt would be. Raises `InvalidRequest` or `EngineDied`."""
        self._require_life()
        return await self._questions.encode(next(self._numbers), prompt, with_pieces=with_pieces)

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, control tokens spelt out. Raises `InvalidRequest` or `EngineDied`."""
        self._require_life()
        return await self._questions.decode(next(self._numbers), tokens)

    def drop_adapters(self, names: Collection[str]) -> None:
        """Unload those of ``names`` that no request uses."""
        self._adapters.drop(names, self._adapters_in_use())

    def _require_life(self) -> None:
        if self.is_ending:
            raise self._worker.death()

    def _adapters_in_use(self) -> set[str | None]:
        return {generation.adapter for generation in self._generations.values()}

    def _send(self, command: Command) -> None:
        self._worker.write(messages.frame(command))

    def _cancel(self, number: int) -> None:
        self._forget(number)
        self._admissions.pop(number, None)
        self._send(Cancel(number))

    def _hear_frame(self, body: bytes) -> None:
        self._hear(messages.decode_reply(body))

    def _hear(self, reply: messages.Reply) -> None:
        match reply:
            case Produced(deltas=deltas):
                for number, delta in deltas:
                    self._deliver(number, delta)
            case Admitted(turn=number):
                if number in self._generations:
                    self._generations[number].admit(reply)
                    settle(self._admissions.pop(number), None)
            case Failure(turn=number):
                self._refuse(number, reply.error())
            case _:
                self._hear_of_worker(reply)

    def _hear_of_worker(self, reply: Loaded | AdapterReady | Inspected | Encoded | Decoded) -> None:
        match reply:
            case AdapterReady():
                self._adapters.hear(reply)
            case Inspected() | Encoded() | Decoded():
                self._questions.hear(reply)
            case Loaded():
                self.context_length, self.vocabulary = reply.context_length, reply.vocabulary
                self.kv_bytes, self.runner, self.provider = reply.kv_bytes, reply.runner, reply.provider
                self.runtime_bytes = reply.runtime_bytes
                self.processor_note, self.is_reduced = reply.processor_note, reply.is_reduced
                self._loaded.set_result(reply)

    def _refuse(self, number: int | None, error: FoundryError) -> None:
        if number is None:
            self._loaded.set_exception(error)
            return
        generation = self._forget(number)
        self._questions.refuse(number, error)
        if number in self._admissions:
            fail(self._admissions.pop(number), error)
        elif generation is not None:
            generation.put(error)

    def _deliver(self, number: int, delta: Delta) -> None:
        generation = self._generations.get(number)
        if generation is None:
            return  # cancelled a moment ago
        if delta.finish is not None:
            self._unfinished[number] -= 1
            if not self._unfinished[number]:
                self._forget(number)
        generation.put(delta)

    def _forget(self, number: int) -> Generation | None:
        self._unfinished.pop(number, None)
        return self._generations.pop(number, None)

    def _bury(self) -> None:
        """Fail the load, and every request and query that is waited for: the worker is gone."""
        death = self._worker.death()
        if not self._loaded.done():
            self._loaded.set_exception(LoadFailed(f"the worker ended while loading: {self._worker.cause()}"))
        if self._generations and not self._worker.is_closing:
            log.error("lost requests=%d pid=%d cause=%s", len(self._generations), self.pid, self._worker.cause())
        self._adapters.fail(death)
        self._questions.fail(death)
        for one in self._admissions.values():
            fail(one, death)
        for generation in self._generations.values():
            generation.put(death)
        self._admissions.clear()
        self._generations.clear()
        self._unfinished.clear()


async def load_engine(folder: Path, options: EngineOptions) -> Engine:
    """Start a worker, wait until it has loaded the model, and return its engine.

    A provider that cannot be loaded, or takes its worker down with it, is replaced by the CPU where ``options`` allow
    it; `Engine.fallback_reason` says why, and whoever shows the model must show it. Raises `LoadFailed`; the worker is
    gone then.
    """
    try:
        return await _start(folder, options)
    except LoadFailed as error:
        if options.provider is Provider.CPU or not options.falls_back:
            raise
        failed = error
    try:
        engine = await _start(folder, replace(options, provider=Provider.CPU))
    except LoadFailed as error:
        raise LoadFailed(
            f"{options.provider}: {failed.message}; and not on the CPU either: {error.message}",
            hint="'foundry-lite devices' lists what can be used here.",
        ) from error
    engine.fallback_reason = f"{options.provider}: {failed.message}"
    return engine


async def _start(folder: Path, options: EngineOptions) -> Engine:
    engine = Engine()
    await engine.start(folder, options)
    return engine
