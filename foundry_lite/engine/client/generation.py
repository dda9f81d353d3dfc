"""A generation: one admitted request as the daemon sees it, its deltas as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from foundry_lite.engine.ipc.messages import Admitted
from foundry_lite.errors import FoundryError
from foundry_lite.generation import Delta


class Generation:
    """Deltas of one admitted request: an asynchronous iterator, the last delta of each choice with a ``finish``.

    It must be closed; closing it before its end cancels the request. Iterating raises `EngineDied` when the worker
    ends first.
    """

    def __init__(self, choices: int, adapter: str | None, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self.adapter = adapter
        self._unfinished = choices
        self._deltas: asyncio.Queue[Delta | FoundryError] = asyncio.Queue()
        self._is_ended = False
        self.prompt_tokens = 0
        self.preparation: dict[str, float] = {}  # seconds by what they went into; whoever waits for a load adds it

    async def __aenter__(self) -> Generation:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        async for batch in self.batches():
            for delta in batch:
                yield delta

    async def batches(self) -> AsyncIterator[list[Delta]]:
        """Iterate over all that has arrived since the last time, at least one delta."""
        while not self._is_ended:
            batch = [self._take(await self._deltas.get())]
            while not self._deltas.empty() and not self._is_ended:
                batch.append(self._take(self._deltas.get_nowait()))
            yield batch

    def close(self) -> None:
        """End it; the worker frees the slot before its next step."""
        if not self._is_ended:
            self._is_ended = True
            self._cancel()

    def admit(self, reply: Admitted) -> None:
        """Record the length of the prompt, and the times that its preparation took."""
        self.prompt_tokens = reply.prompt_tokens
        self.preparation |= {"template": reply.template, "tokenize": reply.tokenize, "grammar": reply.grammar}

    def _take(self, delta: Delta | FoundryError) -> Delta:
        if isinstance(delta, FoundryError):
            self._is_ended = True
            raise delta
        self._unfinished -= delta.finish is not None
        self._is_ended = not self._unfinished
        return delta

    def put(self, delta: Delta | FoundryError) -> None:
        """Queue a delta of the worker's, or the error that ends the generation."""
        self._deltas.put_nowait(delta)
