"""OpenAI's chat completions: JSON in, domain values, JSON out.

Source: OpenAI's API reference, "Create chat completion", read 2026-11. A field is obeyed or refused with a 400 that
names it; docs/api.md has the table. Some fields that we do not support may be sent with the one value that asks for
nothing (``n: 1``), since many clients always send them.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import (
    Chat,
    Delta,
    Finish,
    GenerationRequest,
    Message,
    Role,
    Sampling,
    Tool,
    ToolCall,
    Usage,
)
from foundry_lite.protocol.fields import convert, decode_object

_UNSUPPORTED = frozenset(
    [
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "metadata",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "store",
        "tool_choice",
        "top_logprobs",
        "user",
        "verbosity",
        "web_search_options",
    ]
)

# Unsupported fields whose listed values ask for what happens anyway.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "logit_bias": ({},),
    "tool_choice": ("auto",),
    "parallel_tool_calls": (True,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
}

_StopString = Annotated[str, Meta(min_length=1, max_length=1000)]
_Count = Annotated[int, Meta(ge=1)]


class _TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str


class _FunctionCall(Struct, forbid_unknown_fields=True):
    name: str
    arguments: str


class _ToolCall(Struct, forbid_unknown_fields=True):
    id: str
    function: _FunctionCall
    type: Literal["function"] = "function"
    index: int | None = None  # what a client has collected from a stream may carry it


class _Message(Struct, forbid_unknown_fields=True):
    role: Role
    content: str | list[_TextPart] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    # What OpenAI's client adds when it sends an answer back as history; only the empty value is understood.
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None


class _Function(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Literal[False] | None = None


class _Tool(Struct, forbid_unknown_fields=True):
    function: _Function
    type: Literal["function"] = "function"


class _StreamOptions(Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class _ChatBody(Struct, forbid_unknown_fields=True):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _StopString | Annotated[list[_StopString], Meta(max_length=4)] | None = None
    tools: Annotated[list[_Tool], Meta(max_length=128)] | None = None


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One decoded request: which model, what to generate, and how to answer."""

    model: str
    request: GenerationRequest
    streams: bool
    includes_usage: bool


def decode_chat(body: bytes) -> ChatCall:
    """Decode the body of a chat completion. Raises `InvalidRequest` naming the field."""
    fields = {name: value for name, value in decode_object(body).items() if not _asks_nothing(name, value)}
    wire = convert(fields, _ChatBody, known_unsupported=_UNSUPPORTED)
    if wire.stream_options is not None and not wire.stream:
        raise InvalidRequest("'stream_options' is only allowed with 'stream': true", "stream_options", "invalid_value")
    stops = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    request = GenerationRequest(
        prompt=Chat(
            messages=tuple(_read_message(one, index) for index, one in enumerate(wire.messages)),
            tools=None if wire.tools is None else tuple(_read_tool(one) for one in wire.tools),
        ),
        sampling=Sampling(wire.temperature, wire.top_p, None, wire.seed),
        max_new_tokens=_max_new_tokens(wire),
        stop=stops,
    )
    usage = wire.stream_options is not None and bool(wire.stream_options.include_usage)
    return ChatCall(wire.model, request, bool(wire.stream), usage)


def _asks_nothing(name: str, value: Any) -> bool:
    if name not in _UNSUPPORTED:
        return False
    return value is None or any(type(value) is type(one) and value == one for one in _alike(_NEUTRAL.get(name, ())))


def _alike(values: tuple[Any, ...]) -> tuple[Any, ...]:
    # 0 may come as 0.0; False is not 0.
    return values + tuple(float(one) for one in values if type(one) is int)


def _max_new_tokens(wire: _ChatBody) -> int | None:
    if None not in (wire.max_tokens, wire.max_completion_tokens) and wire.max_tokens != wire.max_completion_tokens:
        raise InvalidRequest("'max_tokens' and 'max_completion_tokens' disagree", "max_tokens", "invalid_value")
    return wire.max_completion_tokens or wire.max_tokens


def _read_message(wire: _Message, index: int) -> Message:
    at = f"messages[{index}]"
    content = wire.content if wire.content is None or isinstance(wire.content, str) else _join(wire.content)
    if content is None and not (wire.role is Role.ASSISTANT and wire.tool_calls):
        raise InvalidRequest(f"'{at}.content' is required", f"{at}.content", "missing_required_parameter")
    if wire.tool_calls and wire.role is not Role.ASSISTANT:
        raise InvalidRequest(f"'{at}.tool_calls': only an assistant calls tools", f"{at}.tool_calls", "invalid_value")
    if wire.role is Role.TOOL and wire.tool_call_id is None:
        raise InvalidRequest(f"'{at}.tool_call_id' is required", f"{at}.tool_call_id", "missing_required_parameter")
    calls = tuple(ToolCall(one.id, one.function.name, one.function.arguments) for one in wire.tool_calls or ())
    return Message(wire.role, content, wire.name, calls, wire.tool_call_id)


def _join(parts: list[_TextPart]) -> str:
    return "".join(part.text for part in parts)


def _read_tool(wire: _Tool) -> Tool:
    return Tool(wire.function.name, wire.function.description, wire.function.parameters)


class ChatWriter:
    """Writes one answer: its id, its time and its model are the same in every part."""

    def __init__(self, model: str) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(16)}"
        self._created = int(time.time())
        self._model = model
        self._calls = 0  # tool calls written so far: each has an index of its own

    def completion(self, deltas: list[Delta]) -> dict[str, Any]:
        """Return the whole answer, as a response that is not streamed."""
        text = "".join(delta.text for delta in deltas)
        calls = [_write_call(call) for delta in deltas for call in delta.tool_calls]
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
        if calls:
            message["tool_calls"] = calls
        finish, usage = deltas[-1].finish, deltas[-1].usage
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion"), "choices": [choice], "usage": _write_usage(usage)}

    def opening(self) -> dict[str, Any]:
        """Return the first chunk: the role, and nothing else."""
        return self._chunk({"role": "assistant", "content": ""})

    def chunks(self, delta: Delta) -> list[dict[str, Any]]:
        """Return the chunks for one delta; the one with the finish reason has no content."""
        chunks = [self._chunk({"content": delta.text})] if delta.text else []
        for call in delta.tool_calls:
            head = {**_write_call(call), "function": {"name": call.name, "arguments": ""}}
            body = {"function": {"arguments": call.arguments}}
            chunks += [self._chunk({"tool_calls": [{"index": self._calls, **part}]}) for part in (head, body)]
            self._calls += 1
        if delta.finish is not None:
            chunks.append(self._chunk({}, delta.finish))
        return chunks

    def closing(self, usage: Usage | None) -> dict[str, Any]:
        """Return the last chunk, which carries the usage and no choice."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": _write_usage(usage)}

    def _chunk(self, delta: dict[str, Any], finish: Finish | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": None,
        }


def _write_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _write_usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
