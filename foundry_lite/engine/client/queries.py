"""Queries that a worker answers at once: its state, the tokens of a prompt, the text of tokens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from foundry_lite.engine.client.futures import fail, settle
from foundry_lite.engine.ipc.messages import Command, Decode, Decoded, Encode, Encoded, Inspect, Inspected
from foundry_lite.errors import FoundryError
from foundry_lite.generation import Chat, Text, Tokens


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """The tokens of a prompt; ``pieces`` are the bytes that each stands for, where they were asked for."""

    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...] = ()


class PendingQueries:
    """Queries sent to the worker and not answered yet. ``send`` sends it a command; `Engine` assigns the numbers."""

    def __init__(self, send: Callable[[Command], None]) -> None:
        self._send = send
        self._inspections: deque[asyncio.Future[Inspected]] = deque()
        self._texts: dict[int, asyncio.Future[Any]] = {}

    @property
    def open(self) -> int:
        """Number of tokenizer queries that wait for an answer."""
        return len(self._texts)

    async def inspect(self) -> Inspected:
        """Ask what the worker is doing."""
        answer: asyncio.Future[Inspected] = asyncio.get_running_loop().create_future()
        self._inspections.append(answer)
        self._send(Inspect())
        return await answer

    async def encode(self, number: int, prompt: Chat | Text | Tokens, *, with_pieces: bool) -> EncodedPrompt:
        """Ask for the tokens of a prompt. Raises `InvalidRequest`."""
        reply: Encoded = await self._ask(Encode(number, prompt, with_pieces))
        return EncodedPrompt(reply.tokens, reply.pieces)

    async def decode(self, number: int, tokens: Sequence[int]) -> str:
        """Ask for the text of tokens. Raises `InvalidRequest`."""
        reply: Decoded = await self._ask(Decode(number, tuple(tokens)))
        return reply.text

    def hear(self, reply: Inspected | Encoded | Decoded) -> None:
        """Settle the query that a reply answers; whoever asked may have left."""
        if isinstance(reply, Inspected):
            settle(self._inspections.popleft(), reply)
        elif reply.turn in self._texts:
            settle(self._texts[reply.turn], reply)

    def refuse(self, number: int, error: FoundryError) -> None:
        """Fail the query of that number, if there is one."""
        if number in self._texts:
            fail(self._texts[number], error)

    def fail(self, error: FoundryError) -> None:
        """Fail all queries: there will be no answer."""
        for one in (*self._inspections, *self._texts.values()):
            fail(one, error)
        self._inspections.clear()

    async def _ask(self, question: Encode | Decode) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._texts[question.turn] = answer
        try:
            self._send(question)
            return await answer
        finally:
            del self._texts[question.turn]
