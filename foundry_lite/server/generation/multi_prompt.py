"""Several generations as one source: the prompts of one call run beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from msgspec.structs import replace

from foundry_lite.engine.client.generation import Generation
from foundry_lite.generation import Delta, GenerationRequest
from foundry_lite.residency.manager import Residency
from foundry_lite.server.generation.pending import Source, admit
from foundry_lite.store.store import Artifact


async def admit_all(
    residency: Residency,
    artifact: Artifact,
    requests: Sequence[GenerationRequest],
    keep_alive: timedelta | None = None,
) -> Source:
    """Admit requests that have as many choices each: all of them, or none. Raises what `admit` does."""
    first = await admit(residency, artifact, requests[0], keep_alive)  # the model is loaded for one, and refuses once
    if len(requests) == 1:
        return first
    others = [asyncio.ensure_future(residency.begin(artifact, request, keep_alive)) for request in requests[1:]]
    try:
        generations = [first, *[await one for one in others]]
    except BaseException:
        first.close()
        for one in others:
            one.cancel()
        for admitted in await asyncio.gather(*others, return_exceptions=True):
            if isinstance(admitted, Generation):
                admitted.close()
        raise
    return Bundle(generations, requests[0].choices)


class Bundle:
    """Generations whose choices are counted on: those of the second follow the ``choices`` of the first.

    It ends when all have ended, or with the error of the first that fails.
    """

    def __init__(self, generations: Sequence[Generation], choices: int) -> None:
        self._generations = generations
        self._choices = choices
        self._arrived: asyncio.Queue[list[Delta] | BaseException | None] = asyncio.Queue()  # None: one has ended
        self._readers: list[asyncio.Task[None]] = []
        self.prompt_tokens = sum(one.prompt_tokens for one in generations)
        each = [one.preparation for one in generations]
        self.preparation = {name: sum(one.get(name, 0.0) for one in each) for name in each[0]}

    async def batches(self) -> AsyncIterator[list[Delta]]:
        """Iterate over all that has arrived since the last time, at least one delta."""
        each = enumerate(self._generations)
        self._readers = [asyncio.create_task(self._read(one, place * self._choices)) for place, one in each]
        for reader in self._readers:
            reader.add_done_callback(self._tell_end)
        unfinished = len(self._readers)
        while unfinished:
            batch: list[Delta] = []
            arrived = [await self._arrived.get()]
            while not self._arrived.empty():
                arrived.append(self._arrived.get_nowait())
            for one in arrived:
                if isinstance(one, BaseException):
                    raise one
                batch += one or ()
                unfinished -= one is None
            if batch:
                yield batch

    def close(self) -> None:
        """End all of them."""
        for generation in self._generations:
            generation.close()
        for reader in self._readers:
            reader.cancel()

    async def _read(self, generation: Generation, first: int) -> None:
        """Pass on the deltas of one generation, whose choices are counted from ``first``."""
        async for batch in generation.batches():
            self._arrived.put_nowait([replace(delta, choice=first + delta.choice) for delta in batch])

    def _tell_end(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled():
            self._arrived.put_nowait(reader.exception())
