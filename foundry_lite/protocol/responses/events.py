"""The events of a streamed response, by OpenAI's names, which are in their ``type``.

Source: the types of OpenAI's Python client 3.52, "Response ... Event", read 2026-11.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from foundry_lite.protocol.responses.bodies import ResponseObject
from foundry_lite.protocol.responses.items import LogprobBody, OutputItem, OutputText, ReasoningText


class _Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    sequence_number: Annotated[int, Meta(ge=0)]


class _OfResponse(_Event, frozen=True, kw_only=True):
    response: ResponseObject


class ResponseCreated(_OfResponse, frozen=True, tag="response.created"):
    """The response was admitted."""


class ResponseInProgress(_OfResponse, frozen=True, tag="response.in_progress"):
    """The response is being made."""


class ResponseCompleted(_OfResponse, frozen=True, tag="response.completed"):
    """The response is whole."""


class ResponseIncomplete(_OfResponse, frozen=True, tag="response.incomplete"):
    """The response was cut by a limit."""


class ResponseFailed(_OfResponse, frozen=True, tag="response.failed"):
    """The response failed, or was cancelled."""


class ErrorEvent(_Event, frozen=True, kw_only=True, tag="error"):
    """The error event of a stream that failed."""

    code: str | None
    message: str
    param: str | None


class _OfItem(_Event, frozen=True, kw_only=True):
    output_index: int


class _WholeItem(_OfItem, frozen=True, kw_only=True):
    item: OutputItem


class ItemAdded(_WholeItem, frozen=True, tag="response.output_item.added"):
    """An item begins; it is empty."""


class ItemDone(_WholeItem, frozen=True, tag="response.output_item.done"):
    """An item is whole, or was cut."""


class _InItem(_OfItem, frozen=True, kw_only=True):
    item_id: str


class _OfPart(_InItem, frozen=True, kw_only=True):
    content_index: int = 0


class _WholePart(_OfPart, frozen=True, kw_only=True):
    part: OutputText | ReasoningText


class PartAdded(_WholePart, frozen=True, tag="response.content_part.added"):
    """A part begins; it is empty."""


class PartDone(_WholePart, frozen=True, tag="response.content_part.done"):
    """A part is whole."""


class TextDelta(_OfPart, frozen=True, kw_only=True, tag="response.output_text.delta"):
    """Some text of a message."""

    delta: str
    logprobs: list[LogprobBody]


class TextDone(_OfPart, frozen=True, kw_only=True, tag="response.output_text.done"):
    """All text of a message."""

    text: str
    logprobs: list[LogprobBody]


class ReasoningDelta(_OfPart, frozen=True, kw_only=True, tag="response.reasoning_text.delta"):
    """Some text of the reasoning."""

    delta: str


class ReasoningDone(_OfPart, frozen=True, kw_only=True, tag="response.reasoning_text.done"):
    """All text of the reasoning."""

    text: str


class ArgumentsDelta(_InItem, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"):
    """Some JSON of a function call's arguments."""

    delta: str


class ArgumentsDone(_InItem, frozen=True, kw_only=True, tag="response.function_call_arguments.done"):
    """All JSON of a function call's arguments."""

    name: str
    arguments: str


ItemEvent = (
    ItemAdded
    | ItemDone
    | PartAdded
    | PartDone
    | TextDelta
    | TextDone
    | ReasoningDelta
    | ReasoningDone
    | ArgumentsDelta
    | ArgumentsDone
)
ResponseEvent = (
    ResponseCreated
    | ResponseInProgress
    | ResponseCompleted
    | ResponseIncomplete
    | ResponseFailed
    | ErrorEvent
    | ItemEvent
)
