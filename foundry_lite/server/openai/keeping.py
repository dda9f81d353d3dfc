"""A source of deltas that also stores the response of the Responses API on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from foundry_lite.errors import FoundryError
from foundry_lite.generation import Delta
from foundry_lite.protocol.errors import reply_for
from foundry_lite.protocol.responses.writer import ResponseWriter, response_error
from foundry_lite.server.generation.pending import Source
from foundry_lite.server.openai.background_responses import Keep


class Keeping:
    """A source whose response is stored as soon as it is whole, before its last event is written.

    One that fails is stored if ``keeps_failure``: its id is known to somebody already.
    """

    def __init__(self, source: Source, writer: ResponseWriter, keep: Keep, *, keeps_failure: bool) -> None:
        self._source = source
        self._writer = writer
        self._keep = keep
        self._keeps_failure = keeps_failure

    @property
    def prompt_tokens(self) -> int:
        return self._source.prompt_tokens

    @property
    def preparation(self) -> Mapping[str, float]:
        return self._source.preparation

    async def batches(self) -> AsyncIterator[list[Delta]]:
        """Iterate over what the source makes."""
        deltas: list[Delta] = []
        try:
            async for batch in self._source.batches():
                deltas += batch
                yield batch
        except FoundryError as error:
            if self._keeps_failure:
                await self._keep(self._writer.so_far("failed", response_error(reply_for(error))))
            raise
        await self._keep(self._writer.whole(deltas))

    def close(self) -> None:
        """End the generation."""
        self._source.close()
