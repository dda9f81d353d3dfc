"""OpenAI's chat completions, the request: JSON in, domain values out. `protocol.answer` writes what comes of it.

Sources: OpenAI's API reference, "Create chat completion", and the types of its Python client 3.52, read 2026-11; for
fields beyond it, vLLM's "extra parameters for Chat API". A field is obeyed or refused with a 400 that names it;
docs/api.md has the table. Some fields that we do not support may be sent with the one value that asks for nothing
(``store: false``), since many clients always send them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Chat, GenerationRequest, Sampling
from foundry_lite.protocol.constraints import (
    Guide,
    ResponseFormat,
    ToolChoiceBody,
    only_one,
    read_format,
    read_guide,
    read_tool_choice,
    refuse_conflicts,
)
from foundry_lite.protocol.conversation import MessageBody, ToolBody, read_message, read_tool
from foundry_lite.protocol.fields import convert, decode_object

_UNSUPPORTED = frozenset(
    [
        "audio",
        "function_call",
        "functions",
        "metadata",
        "modalities",
        "moderation",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
        "web_search_options",
    ]
)

# Unsupported fields whose listed values ask for what happens anyway.
_NEUTRAL: dict[str, tuple[Any, ...]] = {"modalities": (["text"],), "store": (False,)}

_MOST_CHOICES = 128
_MOST_TOP_LOGPROBS = 20
_MOST_BIASES = 300
_MOST_BIAS = 100.0
_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,8}")

_StopString = Annotated[str, Meta(min_length=1, max_length=1000)]
_Count = Annotated[int, Meta(ge=1)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_Share = Annotated[float, Meta(ge=0, le=1)]


class _StreamOptions(Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class _ChatBody(Struct, forbid_unknown_fields=True):
    model: str
    messages: Annotated[list[MessageBody], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    n: Annotated[int, Meta(ge=1, le=_MOST_CHOICES)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: Annotated[dict[str, float], Meta(max_length=_MOST_BIASES)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _StopString | Annotated[list[_StopString], Meta(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=_MOST_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolBody], Meta(max_length=128)] | None = None
    tool_choice: ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    # Beyond OpenAI's.
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: _Share | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    min_tokens: Annotated[int, Meta(ge=0)] | None = None
    ignore_eos: bool | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: Guide | None = None
    guided_grammar: Guide | None = None


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
        raise _refuse("stream_options", "'stream_options' is only allowed with 'stream': true")
    usage = wire.stream_options is not None and bool(wire.stream_options.include_usage)
    return ChatCall(wire.model, _read_request(wire), bool(wire.stream), usage)


def _read_request(wire: _ChatBody) -> GenerationRequest:
    grammar = only_one(
        read_format(wire.response_format), read_guide(wire.guided_json, wire.guided_regex, wire.guided_grammar)
    )
    choice = read_tool_choice(wire.tool_choice, wire.tools or (), is_parallel=wire.parallel_tool_calls)
    refuse_conflicts(grammar, choice, min_tokens=wire.min_tokens or 0, ignore_eos=bool(wire.ignore_eos))
    return GenerationRequest(
        prompt=Chat(
            messages=tuple(read_message(one, index) for index, one in enumerate(wire.messages)),
            tools=None if wire.tools is None else tuple(read_tool(one) for one in wire.tools),
        ),
        sampling=_sampling(wire),
        max_new_tokens=_max_new_tokens(wire),
        stop=(wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ()),
        ignore_eos=bool(wire.ignore_eos),
        choices=wire.n or 1,
        top_logprobs=_top_logprobs(wire),
        grammar=grammar,
        tool_choice=choice,
    )


def _asks_nothing(name: str, value: Any) -> bool:
    if name not in _UNSUPPORTED:
        return False
    return value is None or any(type(value) is type(one) and value == one for one in _NEUTRAL.get(name, ()))


def _sampling(wire: _ChatBody) -> Sampling:
    return Sampling(
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=None if wire.top_k is None else max(wire.top_k, 0),
        seed=wire.seed,
        min_p=wire.min_p or 0.0,
        presence_penalty=wire.presence_penalty or 0.0,
        frequency_penalty=wire.frequency_penalty or 0.0,
        repetition_penalty=1.0 if wire.repetition_penalty is None else wire.repetition_penalty,
        logit_bias={_token_id(key): _bias(key, value) for key, value in (wire.logit_bias or {}).items()},
        min_tokens=_min_tokens(wire),
    )


def _token_id(key: str) -> int:
    if not _TOKEN_ID.fullmatch(key):
        raise _refuse("logit_bias", f"'logit_bias': its keys are token ids, such as \"42\"; {key!r} is none")
    return int(key)


def _bias(key: str, value: float) -> float:
    if not -_MOST_BIAS <= value <= _MOST_BIAS:
        raise _refuse("logit_bias", f"'logit_bias': the bias of {key} is {value:g}, beyond -100 to 100")
    return value


def _max_new_tokens(wire: _ChatBody) -> int | None:
    if None not in (wire.max_tokens, wire.max_completion_tokens) and wire.max_tokens != wire.max_completion_tokens:
        raise _refuse("max_tokens", "'max_tokens' and 'max_completion_tokens' disagree")
    return wire.max_completion_tokens or wire.max_tokens


def _min_tokens(wire: _ChatBody) -> int:
    least, most = wire.min_tokens or 0, _max_new_tokens(wire)
    if most is not None and least > most:
        raise _refuse("min_tokens", f"'min_tokens': {least} are more than the {most} tokens allowed at most")
    return least


def _top_logprobs(wire: _ChatBody) -> int | None:
    if wire.top_logprobs is not None and not wire.logprobs:
        raise _refuse("top_logprobs", "'top_logprobs' is only allowed with 'logprobs': true")
    return (wire.top_logprobs or 0) if wire.logprobs else None


def _refuse(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param, "invalid_value")
