"""Messages and tools of a chat, as OpenAI writes them, and the domain values they become."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Message, Role, Tool, ToolCall
from foundry_lite.protocol.common.decode import invalid_value

_PLAIN = (Role.SYSTEM, Role.DEVELOPER, Role.USER)
_Name = Annotated[str, Meta(max_length=256)]
_Id = Annotated[str, Meta(max_length=512)]


class CacheBreakpoint(Struct, forbid_unknown_fields=True):
    """The end of a prompt prefix to cache: advisory, since every prefix is kept while there is room."""

    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] | None = None


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """A part of a message's text."""

    text: str
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """A refusal: a part of an assistant's message that takes the place of its answer."""

    refusal: str


class _FunctionCall(Struct, forbid_unknown_fields=True):
    name: _Name
    arguments: str
    parsed_arguments: Any = None  # OpenAI's client sends back what it made of them; not read


class _ToolCall(Struct, forbid_unknown_fields=True):
    id: _Id
    function: _FunctionCall
    type: Literal["function"] = "function"
    index: int | None = None  # what a client has collected from a stream may carry it


class MessageBody(Struct, forbid_unknown_fields=True):
    """A chat message of a request's ``messages``."""

    role: Role
    content: str | Annotated[list[TextPart | RefusalPart], Meta(max_length=2048)] | None = None
    name: _Name | None = None
    tool_calls: Annotated[list[_ToolCall], Meta(max_length=128)] | None = None
    tool_call_id: _Id | None = None
    refusal: str | None = None
    # Beyond OpenAI's: what a reasoning model thought, under either of the names that servers give it.
    reasoning_content: str | None = None
    reasoning: str | None = None
    # What OpenAI's client adds when it sends an answer back as history; only the empty value is understood.
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None
    provider_specific_fields: dict[str, Any] | None = None  # LiteLLM's notes on an answer, sent back; not read
    parsed: Any = None  # OpenAI's client sends back what it made of the content; not read


class _Function(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(Struct, forbid_unknown_fields=True):
    """A tool of a request's ``tools``."""

    function: _Function
    type: Literal["function"] = "function"


def read_messages(wires: Sequence[MessageBody]) -> tuple[Message, ...]:
    """Read ``messages``. Raises `InvalidRequest` for parts that do not fit a role, and results of no call."""
    messages, known = [], set[str | None]()
    for index, wire in enumerate(wires):
        message = read_message(wire, index)
        if message.role is Role.TOOL and message.tool_call_id not in known:
            raise invalid_value(
                f"messages[{index}].tool_call_id",
                f"no tool call before it has the id {message.tool_call_id!r}",
                "A message of the role 'tool' answers one of the 'tool_calls' of an assistant's message before it.",
            )
        known.update(call.id for call in message.tool_calls)
        messages.append(message)
    return tuple(messages)


def read_message(wire: MessageBody, index: int) -> Message:
    """Read ``messages[index]``. Raises `InvalidRequest` when its parts do not fit its role."""
    if wire.role in _PLAIN and isinstance(wire.content, str) and not any(_beyond_text(wire)):
        return Message(wire.role, wire.content, wire.name)  # nearly all messages, and there may be thousands
    at = f"messages[{index}]"
    content = _read_content(wire, at)
    if content is None and not (wire.role is Role.ASSISTANT and wire.tool_calls):
        raise InvalidRequest(f"'{at}.content' is required", f"{at}.content", "missing_required_parameter")
    _refuse_misplaced(wire, at)
    if wire.role is Role.TOOL and wire.tool_call_id is None:
        raise InvalidRequest(f"'{at}.tool_call_id' is required", f"{at}.tool_call_id", "missing_required_parameter")
    calls = tuple(ToolCall(one.id, one.function.name, one.function.arguments) for one in wire.tool_calls or ())
    return Message(wire.role, content, wire.name, calls, wire.tool_call_id, _read_reasoning(wire, at))


def _beyond_text(wire: MessageBody) -> tuple[Any, ...]:
    return wire.tool_calls, wire.tool_call_id is not None, wire.refusal, wire.reasoning_content, wire.reasoning


def read_tool(wire: ToolBody) -> Tool:
    """Read one tool."""
    function = wire.function
    return Tool(function.name, function.description, function.parameters, bool(function.strict))


def explain(error: InvalidRequest, body: Mapping[str, Any]) -> InvalidRequest:
    """Return a more precise error where the body has an unknown ``type`` or role at that path; else ``error``."""
    for place, say in _KINDS:
        found = place.match(error.param or "")
        kind = _look_up(body, found.group()) if found else None
        if found and isinstance(kind, dict) and (better := say(found.group(), kind)):
            return better
    return error


def _read_content(wire: MessageBody, at: str) -> str | None:
    """Return the text of all parts; an assistant's refusal is part of its content."""
    content = wire.content
    if isinstance(content, list):
        if wire.role is not Role.ASSISTANT:
            _refuse_refusals(content, at)
        content = "".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)
    if wire.refusal is None or wire.role is not Role.ASSISTANT:
        return content
    return (content or "") + wire.refusal


def _read_reasoning(wire: MessageBody, at: str) -> str | None:
    if None not in (wire.reasoning, wire.reasoning_content) and wire.reasoning != wire.reasoning_content:
        raise invalid_value(f"{at}.reasoning", "it is not what 'reasoning_content' says")
    return wire.reasoning_content or wire.reasoning or None


def _refuse_refusals(parts: list[TextPart | RefusalPart], at: str) -> None:
    for number, part in enumerate(parts):
        if isinstance(part, RefusalPart):
            raise invalid_value(f"{at}.content[{number}]", "only an assistant's message has a 'refusal' part")


def _refuse_misplaced(wire: MessageBody, at: str) -> None:
    if wire.role is not Role.ASSISTANT:
        for field in ("tool_calls", "refusal", "reasoning_content", "reasoning"):
            if getattr(wire, field):
                raise invalid_value(f"{at}.{field}", "only an assistant's message has it")
    if wire.role is not Role.TOOL and wire.tool_call_id is not None:
        raise invalid_value(f"{at}.tool_call_id", "only a tool's message has it")


def _look_up(body: Any, path: str) -> Any:
    for name, number in re.findall(r"(\w+)|\[(\d+)\]", path):
        try:
            body = body[name] if name else body[int(number)]
        except (LookupError, TypeError):
            return None
    return body


def _say_part(at: str, part: dict[str, Any]) -> InvalidRequest | None:
    kind = part.get("type")
    if not isinstance(kind, str) or kind in ("text", "refusal"):
        return None
    return invalid_value(
        at, f"a part of the type {kind[:64]!r} cannot be read: models here take text", "Send its text."
    )


def _say_message(at: str, message: dict[str, Any]) -> InvalidRequest | None:
    if message.get("role") != "function":
        return None
    return invalid_value(
        f"{at}.role", "the role 'function' has been replaced", "Send the role 'tool' with a tool_call_id."
    )


def _say_tool(at: str, tool: dict[str, Any]) -> InvalidRequest | None:
    kind = tool.get("type", "function")
    if not isinstance(kind, str) or kind == "function":
        return None
    return invalid_value(
        f"{at}.type", f"tools of the type {kind[:64]!r} are not supported", "Only functions can be called."
    )


# JSON paths of objects whose type, or role, names their kind.
_KINDS = (
    (re.compile(r"messages\[\d+\]\.content\[\d+\]"), _say_part),
    (re.compile(r"messages\[\d+\]\.tool_calls\[\d+\]"), _say_tool),
    (re.compile(r"messages\[\d+\]"), _say_message),
    (re.compile(r"tools\[\d+\]"), _say_tool),
    (re.compile(r"tool_choice\.allowed_tools\.tools\[\d+\]"), _say_tool),
)
