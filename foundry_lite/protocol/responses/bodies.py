"""The response object of OpenAI's Responses API, and the lists and receipts around it.

Source: the types of OpenAI's Python client 3.52, read 2026-11. Fields that there may be absent are always here, since
other implementations of this API require them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from foundry_lite.generation import Usage
from foundry_lite.protocol.common.served import Served, ServedModel
from foundry_lite.protocol.common.timings import TimingsBody
from foundry_lite.protocol.responses.items import InputItem, OutputItem
from foundry_lite.protocol.responses.request import (
    AnyJson,
    FunctionTool,
    JsonBySchema,
    PlainText,
    ReasoningBody,
    ResponseCall,
    TextBody,
    ToolChoiceBody,
)

State = Literal["completed", "failed", "in_progress", "cancelled", "incomplete"]


class ResponseErrorBody(Struct, frozen=True):
    """Why a response failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(Struct, frozen=True):
    """Why a response was cut; the end of the context counts as a limit, too."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class InputTokensDetails(Struct, frozen=True):
    """Counts of input tokens by kind; ``cached_tokens`` were not computed again. Writing to the KV cache is free."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True):
    """Counts of the answer's tokens by kind."""

    reasoning_tokens: int


class ResponseUsage(Struct, frozen=True):
    """Tokens read and written."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseObject(Struct, kw_only=True):
    """The response object: the request's fields, the status, and the output. The last two fields are ours."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: State
    error: ResponseErrorBody | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputItem] = []
    usage: ResponseUsage | None = None
    previous_response_id: str | None
    instructions: str | None
    metadata: dict[str, str]
    background: bool
    store: bool
    max_output_tokens: int | None
    max_tool_calls: None = None
    parallel_tool_calls: bool
    presence_penalty: float
    frequency_penalty: float
    temperature: float
    top_p: float
    top_logprobs: int
    reasoning: ReasoningBody
    text: TextBody
    tool_choice: ToolChoiceBody
    tools: list[FunctionTool]
    truncation: Literal["auto", "disabled"]
    service_tier: Literal["default"] = "default"
    safety_identifier: str | None
    prompt_cache_key: str | None
    user: str | None
    timings: TimingsBody | UnsetType = UNSET
    foundry_lite: ServedModel | UnsetType = UNSET


class DeletedResponse(Struct, frozen=True):
    """The receipt of a deletion."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class InputTokens(Struct, frozen=True):
    """The number of input tokens that a request would have."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


class ItemList(Struct, frozen=True):
    """A page of items; ``has_more`` if others follow ``last_id``."""

    data: list[InputItem]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Facts beside the request: the model that serves it, its default sampling, and whether the response is stored."""

    served: Served
    temperature: float
    top_p: float
    is_kept: bool


def blank_response(identity: str, created: int, call: ResponseCall, around: Circumstances) -> ResponseObject:
    """Return a response of which nothing has been made yet. ``created`` is in seconds since 1970."""
    wire = call.wire
    return ResponseObject(
        id=identity,
        created_at=created,
        status="in_progress",
        model=around.served.asked,
        foundry_lite=around.served.body,
        previous_response_id=wire.previous_response_id,
        instructions=wire.instructions,
        metadata=wire.metadata or {},
        background=call.is_background,
        store=around.is_kept,
        max_output_tokens=wire.max_output_tokens,
        parallel_tool_calls=wire.parallel_tool_calls is not False,
        presence_penalty=wire.presence_penalty or 0.0,
        frequency_penalty=wire.frequency_penalty or 0.0,
        temperature=around.temperature if wire.temperature is None else wire.temperature,
        top_p=around.top_p if wire.top_p is None else wire.top_p,
        top_logprobs=wire.top_logprobs or 0,
        reasoning=wire.reasoning or ReasoningBody(),
        text=TextBody(_told_format(wire.text.format if wire.text else None), "medium"),
        tool_choice="auto" if wire.tool_choice is None else wire.tool_choice,
        tools=wire.tools or [],
        truncation=wire.truncation or "disabled",
        safety_identifier=wire.safety_identifier,
        prompt_cache_key=wire.prompt_cache_key,
        user=wire.user,
    )


def _told_format(wire: PlainText | AnyJson | JsonBySchema | None) -> PlainText | AnyJson | JsonBySchema:
    """Return the format with its defaults: plain text, and ``strict`` for a schema."""
    if isinstance(wire, JsonBySchema) and wire.strict is None:
        return replace(wire, strict=True)
    return wire or PlainText()


def write_response_usage(usage: Usage | None) -> ResponseUsage | None:
    """Return the body; ``None`` when nothing is known."""
    if usage is None:
        return None
    return ResponseUsage(
        usage.prompt_tokens,
        InputTokensDetails(usage.cached_tokens),
        usage.completion_tokens,
        OutputTokensDetails(usage.reasoning_tokens),
        usage.total_tokens,
    )
