"""Messages and tools of a chat, as OpenAI writes them, and the domain values they become."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Message, Role, Tool, ToolCall


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


class MessageBody(Struct, forbid_unknown_fields=True):
    """One message of a request's ``messages``."""

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
    strict: bool | None = None


class ToolBody(Struct, forbid_unknown_fields=True):
    """One tool of a request's ``tools``."""

    function: _Function
    type: Literal["function"] = "function"


def read_message(wire: MessageBody, index: int) -> Message:
    """Read ``messages[index]``. Raises `InvalidRequest` when its parts do not fit its role."""
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


def read_tool(wire: ToolBody) -> Tool:
    """Read one tool; `constraints.read_tool_choice` answers for its ``strict``."""
    return Tool(wire.function.name, wire.function.description, wire.function.parameters)


def _join(parts: list[_TextPart]) -> str:
    return "".join(part.text for part in parts)
