"""OpenAI's chat completions, the request: JSON in, domain values out. `protocol.chat.writer` writes what comes of it.

Sources: OpenAI's API reference, "Create chat completion", and the types of its Python client 3.52, read 2026-11; for
fields beyond it, vLLM's "extra parameters for Chat API". A field is obeyed or refused with a 400 that names it;
docs/api.md has the table. Some fields that we do not support may be sent with the one value that asks for nothing
(``modalities: ["text"]``), since many clients always send them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Chat, GenerationRequest
from foundry_lite.protocol.chat.messages import MessageBody, ToolBody, explain, read_messages, read_tool
from foundry_lite.protocol.common.decode import convert, decode_object, invalid_value
from foundry_lite.protocol.common.output_format import (
    GuidedBody,
    ResponseFormat,
    ToolChoiceBody,
    format_beside,
    only_one,
    read_format,
    read_guide,
    read_tool_choice,
    refuse_conflicts,
)
from foundry_lite.protocol.common.request_fields import Count, StreamOptions, read_keep_alive
from foundry_lite.protocol.common.sampling import read_sampling, read_stop

UNSUPPORTED = frozenset(
    [
        "audio",
        "function_call",
        "functions",
        "modalities",
        "moderation",
        "prediction",
        "verbosity",
        "web_search_options",
    ]
)

# Unsupported fields whose listed values ask for what happens anyway.
_NEUTRAL: dict[str, tuple[Any, ...]] = {"modalities": (["text"],), "verbosity": ("medium",), "functions": ([],)}
_HINTS = {"functions": "Send 'tools' in its place.", "function_call": "Send 'tool_choice' in its place."}

_MOST_CHOICES = 128
_MOST_TOP_LOGPROBS = 20
_MOST_VARIABLES_BYTES = 16 << 10

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Variables = Annotated[dict[Annotated[str, Meta(min_length=1, max_length=64)], Any], Meta(max_length=32)]


class PromptCacheOptions(Struct, forbid_unknown_fields=True):
    """Prompt cache options of OpenAI's service: advisory, since every prefix is kept while there is room."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m", "12h"] | None = None


class ChatBody(GuidedBody, kw_only=True, forbid_unknown_fields=True):
    """The body of a chat completion."""

    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=2048)]
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    n: Annotated[int, Meta(ge=1, le=_MOST_CHOICES)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=_MOST_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolBody], Meta(max_length=128)] | None = None
    tool_choice: ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    # Advisory.
    store: bool | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    # Beyond OpenAI's.
    chat_template_kwargs: Variables | None = None
    # Foundry Local's names: of seed, of keep_alive, and of the execution provider that the model must run with.
    random_seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    ttl: Annotated[int, Meta(ge=0, le=10**9)] | None = None
    ep: Annotated[str, Meta(max_length=64)] | None = None


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A decoded chat completion request: the model, what to generate, and how to answer.

    ``ep`` is the execution provider that the model must run with; empty: any.
    """

    model: str
    request: GenerationRequest
    streams: bool
    includes_usage: bool
    keep_alive: timedelta | None = None
    includes_timings: bool = False
    ep: str = ""
    continuous_usage: bool = False


def decode_chat(body: bytes) -> ChatCall:
    """Decode the body of a chat completion. Raises `InvalidRequest` naming the field."""
    whole = decode_object(body)
    fields = {name: value for name, value in whole.items() if not _asks_nothing(name, value)}
    try:
        wire = convert(fields, ChatBody)
    except InvalidRequest as error:
        raise explain(error, whole) from error
    _take_other_names(wire)
    options = wire.stream_options
    if options is not None and not wire.stream:
        raise invalid_value("stream_options", "it is only allowed with 'stream': true")
    return ChatCall(
        model=wire.model,
        request=_read_request(wire),
        streams=bool(wire.stream),
        includes_usage=options is not None and bool(options.include_usage),
        keep_alive=read_keep_alive(wire.keep_alive),
        includes_timings=options is not None and bool(options.include_timings),
        continuous_usage=options is not None and bool(options.continuous_usage_stats),
        ep=(wire.ep or "").lower(),
    )


def _take_other_names(wire: ChatBody) -> None:
    """Put what has Foundry Local's name where OpenAI's and ours are read; its ``ttl`` of 0 is none."""
    for name, other, value in (("seed", "random_seed", wire.random_seed), ("keep_alive", "ttl", wire.ttl or None)):
        if value is None:
            continue
        if getattr(wire, name) not in (None, value):
            raise invalid_value(other, f"it is not what '{name}' says")
        setattr(wire, name, value)


def _read_request(wire: ChatBody) -> GenerationRequest:
    choice = read_tool_choice(wire.tool_choice, wire.tools or (), is_parallel=wire.parallel_tool_calls)
    grammar = only_one(format_beside(choice, read_format(wire.response_format)), read_guide(wire))
    strict = any(tool.function.strict for tool in wire.tools or ())
    refuse_conflicts(grammar, choice, min_tokens=wire.min_tokens or 0, ignore_eos=bool(wire.ignore_eos), strict=strict)
    return GenerationRequest(
        prompt=Chat(
            messages=read_messages(wire.messages),
            tools=None if wire.tools is None else tuple(read_tool(one) for one in wire.tools),
            variables=_read_variables(wire.chat_template_kwargs or {}),
            reasoning_effort=wire.reasoning_effort,
        ),
        sampling=read_sampling(wire, _max_new_tokens(wire)),
        max_new_tokens=_max_new_tokens(wire),
        stop=read_stop(wire),
        ignore_eos=bool(wire.ignore_eos),
        choices=wire.n or 1,
        top_logprobs=_top_logprobs(wire),
        grammar=grammar,
        tool_choice=choice,
    )


def _asks_nothing(name: str, value: Any) -> bool:
    """Return whether a field is unsupported and its value changes nothing. Raises `InvalidRequest` if it does."""
    if name not in UNSUPPORTED:
        return False
    if value is None or any(type(value) is type(one) and value == one for one in _NEUTRAL.get(name, ())):
        return True
    message = f"'{name}' is not supported by foundry-lite"
    raise InvalidRequest(message, name, "unsupported_parameter", _HINTS.get(name, ""))


def _read_variables(wire: dict[str, Any]) -> dict[str, Any]:
    if wire and len(msgspec.json.encode(wire)) > _MOST_VARIABLES_BYTES:
        most = _MOST_VARIABLES_BYTES >> 10
        raise invalid_value("chat_template_kwargs", f"it has more than {most} KiB of JSON")
    return wire


def _max_new_tokens(wire: ChatBody) -> int | None:
    if None not in (wire.max_tokens, wire.max_completion_tokens) and wire.max_tokens != wire.max_completion_tokens:
        raise invalid_value("max_tokens", "it is not what 'max_completion_tokens' says")
    return wire.max_completion_tokens or wire.max_tokens


def _top_logprobs(wire: ChatBody) -> int | None:
    if wire.top_logprobs and not wire.logprobs:
        raise invalid_value("top_logprobs", "it is only allowed with 'logprobs': true")
    return (wire.top_logprobs or 0) if wire.logprobs else None
