"""The vocabulary of one generation, shared by the daemon and the worker.

These values cross the pipe between the two processes as they are, so they are msgspec structs; they know neither
OpenAI's JSON nor tokens of a particular model.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolCall(Struct, frozen=True):
    """A call of a tool; ``arguments`` is JSON text, as OpenAI's clients write and read it."""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation. ``content`` is ``None`` only beside ``tool_calls``."""

    role: Role
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Tool(Struct, frozen=True):
    """A function that the model may call; ``parameters`` is its JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Chat(Struct, frozen=True, tag="chat"):
    """A conversation to continue. ``tools=None`` means that the caller said nothing of tools."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] | None = None


class Tokens(Struct, frozen=True, tag="tokens"):
    """Token ids to continue as they are: for measuring, where the length must be exact."""

    ids: tuple[int, ...]


class Sampling(Struct, frozen=True):
    """How the next token is chosen. ``None`` leaves a choice to the model's own defaults.

    ``temperature`` 0 is greedy. ``top_k`` 0 keeps all tokens. The same ``seed`` gives the same draws.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None


class GenerationRequest(Struct, frozen=True):
    """All that one generation is told.

    ``max_new_tokens=None`` means up to the end of the context. ``stop`` strings end the text before they appear.
    ``ignore_eos`` goes on past the model's end of turn, for measuring.
    """

    prompt: Chat | Tokens
    sampling: Sampling = Sampling()
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


class Finish(StrEnum):
    """Why a generation ended, in OpenAI's words."""

    STOP = "stop"  # the model ended its turn, or a stop string was found
    LENGTH = "length"  # max_new_tokens, or the context is full
    TOOL_CALLS = "tool_calls"  # the model ended its turn, and the turn calls tools


class Usage(Struct, frozen=True):
    """Tokens read and written; ``completion_tokens`` counts the end-of-turn token too, as the work it was."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Timings(Struct, frozen=True):
    """Where the time of one generation went, in seconds on the worker's monotonic clock.

    ``decode`` is from the first token to the last; ``prefill`` only what the model itself took for this prompt.
    """

    queue: float
    prefill: float
    decode: float


class Delta(Struct, frozen=True, omit_defaults=True):
    """What one step adds to an answer. ``tokens`` may be more than the text shows: bytes and stop strings are held."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: int = 0
    finish: Finish | None = None
    usage: Usage | None = None
    timings: Timings | None = None
