"""Bodies of a chat completion, whole and in chunks, as they are encoded; also a part of ``/openapi.json``.

Source: OpenAI's API reference, "The chat completion object" and "The chat completion chunk object", read 2026-11.
Beyond it: ``reasoning_content`` (DeepSeek's and llama-server's name) and ``timings`` (llama-server's).
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from foundry_lite.generation import Finish
from foundry_lite.protocol.common.served import ServedModel
from foundry_lite.protocol.common.timings import TimingsBody
from foundry_lite.protocol.common.usage import UsageBody


class LogprobBody(Struct):
    """A token, the bytes it stands for, and the natural logarithm of its probability."""

    token: str
    bytes: list[int]
    logprob: float


class TokenLogprobBody(Struct):
    """A token of the answer, and the likeliest tokens at its position."""

    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list[LogprobBody]


class LogprobsBody(Struct):
    """The logprobs of an answer, or of one chunk of it."""

    content: list[TokenLogprobBody]
    refusal: None = None


class FunctionCall(Struct):
    """The function that is called; ``arguments`` is JSON text."""

    name: str
    arguments: str


class ChatToolCall(Struct):
    """A tool call of a chat completion."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class ChatMessage(Struct, kw_only=True):
    """The assistant message of an answer; ``reasoning_content`` is the reasoning before it."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ChatToolCall] | UnsetType = UNSET


class ChatChoice(Struct, kw_only=True):
    """A choice: an answer of the ``n`` that were requested."""

    index: int
    message: ChatMessage
    logprobs: LogprobsBody | None
    finish_reason: Finish | None


class ChatCompletion(Struct, kw_only=True):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str | None = None
    choices: list[ChatChoice]
    usage: UsageBody | None
    timings: TimingsBody | UnsetType = UNSET
    foundry_lite: ServedModel | UnsetType = UNSET


class FunctionPiece(Struct, kw_only=True):
    """The name comes once, with empty arguments; then the arguments in pieces."""

    name: str | UnsetType = UNSET
    arguments: str


class ToolCallPiece(Struct, kw_only=True):
    """A piece of the call that is ``index`` among those of this choice; only its first has an id and a type."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionPiece


class ChatDelta(Struct, kw_only=True):
    """The delta that a chunk adds to a choice; the role comes once, in the first."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallPiece] | UnsetType = UNSET


class ChunkChoice(Struct, kw_only=True):
    """The choice that a chunk belongs to; the chunk with its ``finish_reason`` adds nothing else."""

    index: int
    delta: ChatDelta
    logprobs: LogprobsBody | None = None
    finish_reason: Finish | None = None


class ChatChunk(Struct, kw_only=True):
    """A chunk: the data of a stream's event. ``usage`` is absent unless requested, and null before the last chunk.

    ``foundry_lite`` is in the first chunk.
    """

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str | None = None
    choices: list[ChunkChoice]
    usage: UsageBody | None | UnsetType = UNSET
    timings: TimingsBody | UnsetType = UNSET
    foundry_lite: ServedModel | UnsetType = UNSET
