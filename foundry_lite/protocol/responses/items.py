"""Items of OpenAI's Responses API: what a conversation is made of, as requests send it and answers return it.

Sources: the types of OpenAI's Python client 3.52 (``types/responses``), read 2026-11. A message may come
without a type (``EasyInputMessage``); `with_kinds` gives it one. Items of an answer can be sent back as they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Message, Role, ToolCall
from foundry_lite.protocol.chat.messages import CacheBreakpoint
from foundry_lite.protocol.common.decode import invalid_value

Status = Literal["in_progress", "completed", "incomplete"]

_MESSAGE, _CALL, _RESULT, _REASONING, _REFERENCE = (
    "message",
    "function_call",
    "function_call_output",
    "reasoning",
    "item_reference",
)
_KINDS = (_MESSAGE, _CALL, _RESULT, _REASONING, _REFERENCE)
_PARTS = ("input_text", "output_text", "refusal")
_PARSED = ("parsed", "parsed_arguments")
_NULL = ("async_", "created_by")
_PREFIXES = {_MESSAGE: "msg", _CALL: "fc", _RESULT: "fco", _REASONING: "rs"}
_Parts = Meta(max_length=2048)
_Id = Annotated[str, Meta(max_length=512)]
_OWN_ID = re.compile(r"(?:msg|fc|fco|rs)_(?P<response>[0-9a-f]{48})[0-9a-f]{4,}")


class InputText(Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    """A text part of an input message."""

    text: str
    prompt_cache_breakpoint: CacheBreakpoint | None | UnsetType = UNSET


class TopLogprobBody(Struct, forbid_unknown_fields=True):
    """A token that could have been chosen, with its logprob."""

    token: str
    bytes: list[int]
    logprob: float


class LogprobBody(Struct, forbid_unknown_fields=True):
    """The logprob of a token of the text, and the likeliest tokens at its position."""

    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list[TopLogprobBody]


class OutputText(Struct, tag_field="type", tag="output_text", forbid_unknown_fields=True):
    """A text part of an output message; there are never annotations."""

    text: str
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = []
    logprobs: list[LogprobBody] | None = []


class Refusal(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """A refusal by another model, in place of an answer."""

    refusal: str


class ReasoningText(Struct, tag_field="type", tag="reasoning_text", forbid_unknown_fields=True):
    """A part of a model's reasoning."""

    text: str


class SummaryText(Struct, tag_field="type", tag="summary_text", forbid_unknown_fields=True):
    """A part of the summary of another model's reasoning; ours have none."""

    text: str


class InputMessage(Struct, tag_field="type", tag=_MESSAGE, forbid_unknown_fields=True):
    """A message of a request, of any role."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | Annotated[list[InputText | OutputText | Refusal], _Parts]
    id: _Id | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None  # advisory: no template shows it


class FunctionCall(Struct, tag_field="type", tag=_CALL, forbid_unknown_fields=True):
    """A call of a tool by the model; ``arguments`` is JSON text."""

    arguments: str
    call_id: _Id
    name: Annotated[str, Meta(max_length=256)]
    id: _Id | None = None
    status: Status | None = None


class DirectCaller(Struct, tag_field="type", tag="direct", forbid_unknown_fields=True):
    """The caller of a function: the model itself, not a program that it wrote."""


class InputCall(FunctionCall, tag_field="type", tag=_CALL, forbid_unknown_fields=True):
    """A function call in a request, with fields for hosted tools: only values that match our behaviour are accepted."""

    caller: DirectCaller | None = None
    namespace: None = None
    is_async: Literal[False] | None | UnsetType = msgspec.field(default=UNSET, name="async")


class FunctionOutput(Struct, tag_field="type", tag=_RESULT, forbid_unknown_fields=True):
    """The output of a function call."""

    call_id: _Id
    output: str | Annotated[list[InputText], _Parts]
    id: _Id | None = None
    name: Annotated[str, Meta(max_length=256)] | None = None
    status: Status | None = None
    caller: None = None
    namespace: None = None


class Reasoning(Struct, tag_field="type", tag=_REASONING, forbid_unknown_fields=True):
    """Reasoning of a model, before its answer."""

    id: _Id | None = None
    summary: Annotated[list[SummaryText], _Parts] = []
    content: Annotated[list[ReasoningText], _Parts] | None = None
    encrypted_content: None = None
    status: Status | None = None


class ItemReference(Struct, tag_field="type", tag=_REFERENCE, forbid_unknown_fields=True):
    """An item of a stored response, by its id."""

    id: _Id


class OutputMessage(Struct, tag_field="type", tag=_MESSAGE):
    """A message of an answer."""

    id: str
    content: list[OutputText]
    status: Status
    role: Literal["assistant"] = "assistant"


InputItem = InputMessage | InputCall | FunctionOutput | Reasoning | ItemReference
OutputItem = OutputMessage | FunctionCall | Reasoning


def with_kinds(items: Sequence[Any]) -> list[Any]:
    """Give items without a ``type`` the right one. Raises `InvalidRequest` for types of items or parts unknown here.

    A value that is not an object is left for `msgspec.convert` to refuse.
    """
    return [_with_kind(item, f"input[{index}]") for index, item in enumerate(items)]


def require_kind(value: Any, at: str, kinds: Iterable[str]) -> None:
    """Raise `InvalidRequest` when ``value`` is an object whose ``type`` is not one of ``kinds``."""
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind not in kinds:
        raise invalid_value(f"{at}.type", f"{kind!r} is not supported, only {', '.join(kinds)}")


def functions(tools: Sequence[Any]) -> list[Any]:
    """Return the tools of a request as they are read. Raises `InvalidRequest` for one that is no function."""
    for index, tool in enumerate(tools):
        require_kind(tool, f"tools[{index}]", ("function",))
    return [_bare(tool) for tool in tools]


def _bare(value: Any) -> Any:
    """Return an object without what OpenAI's clients add to it: what they parsed, and names of theirs that are null."""
    if not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if name not in _PARSED and (one is not None or name not in _NULL)}


def _with_kind(item: Any, at: str) -> Any:
    require_kind(item, at, _KINDS)
    if not isinstance(item, dict):
        return item
    item = _bare(item)
    for name in ("content", "output"):
        parts = item.get(name)
        if item.get("type") != _REASONING and isinstance(parts, list):
            for index, part in enumerate(parts):
                require_kind(part, f"{at}.{name}[{index}]", _PARTS)
            item[name] = [_bare(part) for part in parts]
    if item.get("type") is not None:
        return item
    return {**item, "type": _MESSAGE if "role" in item else _REFERENCE} if {"role", "id"} & set(item) else item


def item_id(kind: str, response: str, number: int) -> str:
    """Return the id of an item that belongs to the response of that id; ``number`` counts its items, input first."""
    return f"{_PREFIXES[kind]}_{response.partition('_')[2]}{number:04x}"


def response_of(item: str) -> str | None:
    """Return the id of the response that an item's id belongs to; ``None`` when it is none of ours."""
    match = _OWN_ID.fullmatch(item)
    return f"resp_{match['response']}" if match else None


def listed(items: Sequence[InputItem], response: str) -> list[InputItem]:
    """Return the items of a request as they are listed later: each with an id and a status, its content in parts."""
    return [_listed(item, response, number) for number, item in enumerate(items)]


def _listed(item: InputItem, response: str, number: int) -> InputItem:
    if isinstance(item, ItemReference):
        return item
    given = item.id or item_id(str(item.__struct_config__.tag), response, number)
    item = msgspec.structs.replace(item, id=given, status=item.status or "completed")
    if isinstance(item, InputMessage) and isinstance(item.content, str):
        part = OutputText(item.content) if item.role == "assistant" else InputText(item.content)
        item = msgspec.structs.replace(item, content=[part])
    return item


def as_input(items: Sequence[OutputItem]) -> list[InputItem]:
    """Return an answer's items as input of the next request; a call that was cut off is not among them."""
    whole = (one for one in items if not (isinstance(one, FunctionCall) and one.status != "completed"))
    return [msgspec.convert(msgspec.to_builtins(one), InputItem) for one in whole]


def resolve(items: Sequence[InputItem], found: Mapping[str, InputItem]) -> list[InputItem]:
    """Replace item references by the items. Raises `InvalidRequest` for one that was not found."""
    return [
        _found(item, found, f"input[{index}].id") if isinstance(item, ItemReference) else item
        for index, item in enumerate(items)
    ]


def _found(reference: ItemReference, found: Mapping[str, InputItem], at: str) -> InputItem:
    if reference.id not in found:
        raise InvalidRequest(f"'{at}': no item {reference.id!r} is stored", at, "item_not_found")
    return found[reference.id]


def read_items(items: Sequence[InputItem], history: Sequence[Message] = ()) -> list[Message]:
    """Return ``history`` continued by ``items``, in which there is no reference any more.

    Reasoning, text and tool calls of one answer become one message. Raises `InvalidRequest` for a tool's result
    that answers no call.
    """
    reading = _Reading(history)
    for index, item in enumerate(items):
        reading.take(item, f"input[{index}]")
    reading.end_turn()
    return reading.messages


class _Reading:
    def __init__(self, history: Sequence[Message]) -> None:
        self.messages = list(history)
        self._known = {call.id for message in history for call in message.tool_calls}
        self._thought: list[str] = []  # reasoning of the assistant, before the text or calls that follow
        self._said: str | None = None
        self._calls: list[ToolCall] = []

    def take(self, item: InputItem, at: str) -> None:
        match item:
            case Reasoning():
                self.end_turn()
                self._thought += (part.text for part in item.content or ())
            case InputCall():
                self._known.add(item.call_id)
                self._calls.append(ToolCall(item.call_id, item.name, item.arguments))
            case InputMessage(role="assistant"):
                self.end_turn()
                self._said = _join(item.content)
            case InputMessage():
                self.end_turn()
                self._add(Message(Role(item.role), _join(item.content)))
            case FunctionOutput():
                self.end_turn()
                self._add(_read_result(item, self._known, at))

    def end_turn(self) -> None:
        """Make one message of the assistant's text and tool calls since the last one."""
        if self._said is not None or self._calls:
            thought = "".join(self._thought) or None
            self._add(Message(Role.ASSISTANT, self._said, tool_calls=tuple(self._calls), reasoning=thought))
            self._said, self._calls = None, []

    def _add(self, message: Message) -> None:
        self.messages.append(message)
        self._thought = []


def _read_result(item: FunctionOutput, known: Collection[str], at: str) -> Message:
    if item.call_id not in known:
        raise invalid_value(f"{at}.call_id", f"no function call before it has the id {item.call_id!r}")
    return Message(Role.TOOL, _join(item.output), item.name, tool_call_id=item.call_id)


def _join(content: str | Sequence[InputText | OutputText | Refusal]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, Refusal) else part.text for part in content)
