"""Admission of a generation request: loading the model may take a minute, and end with a refusal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from datetime import timedelta
from typing import Any, Protocol

from foundry_lite.engine.client.generation import Generation
from foundry_lite.generation import Delta, GenerationRequest
from foundry_lite.residency.manager import Residency
from foundry_lite.residency.options import require_generator
from foundry_lite.store.store import Artifact


class Source(Protocol):
    """A source of deltas: a `Generation`, several as one (`multi_prompt`), or one that is not admitted yet."""

    @property
    def prompt_tokens(self) -> int:
        """The number of prompt tokens."""

    @property
    def preparation(self) -> Mapping[str, float]:
        """Seconds of each phase before the first delta: ``load``, ``template``, ``tokenize``, ``grammar``."""

    def batches(self) -> AsyncIterator[list[Delta]]:
        """Iterate over all that has arrived since the last time, at least one delta."""

    def close(self) -> None:
        """End the generation."""


async def admit(
    residency: Residency, artifact: Artifact, request: GenerationRequest, keep_alive: timedelta | None = None
) -> Generation:
    """Admit a request, and note how long it waited for the model to be loaded. Raises what `Residency.begin` does."""
    require_generator(artifact)
    began = time.monotonic()
    load = 0.0
    if not residency.is_loaded(artifact.base):
        await residency.engine(artifact, keep_alive)
        load = time.monotonic() - began
    generation = await residency.begin(artifact, request, keep_alive)
    generation.preparation["load"] = load
    return generation


class PendingGeneration:
    """A `Source` for a request that is not admitted yet. `close` cancels the admission or, later, the generation."""

    def __init__(self, admitting: Coroutine[Any, Any, Source]) -> None:
        self._task: asyncio.Task[Source] = asyncio.create_task(admitting)

    @property
    def is_over(self) -> bool:
        """Return whether the request has been admitted, or refused."""
        return self._task.done()

    @property
    def source(self) -> Source | None:
        """The admitted source; ``None`` before admission and after a refusal."""
        is_refused = not self._task.done() or self._task.cancelled() or self._task.exception() is not None
        return None if is_refused else self._task.result()

    @property
    def prompt_tokens(self) -> int:
        return self.source.prompt_tokens if self.source is not None else 0

    @property
    def preparation(self) -> Mapping[str, float]:
        return self.source.preparation if self.source is not None else {}

    async def settled(self, seconds: float = 0.0) -> None:
        """Wait until the admission is over, at most ``seconds`` (0: no limit). Raises the error of a refusal."""
        await asyncio.wait({self._task}, timeout=seconds or None)
        if self._task.done():
            self._task.result()

    async def batches(self) -> AsyncIterator[list[Delta]]:
        """Wait until the request is admitted, and iterate over the batches."""
        source = await self._task
        async for batch in source.batches():
            yield batch

    def close(self) -> None:
        """End the generation, or cancel its admission."""
        if self.source is not None:
            self.source.close()
        else:
            self._task.cancel()
