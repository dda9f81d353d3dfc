"""Chat template context: messages and tools as the mappings that transformers gives to a template."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from foundry_lite.generation import Message, Role, Tool, ToolCall

Guarding = Callable[[str, Role], str]  # applied to every text that a caller wrote
Writer = Callable[[Sequence[tuple[str, Any]]], str]  # makes text of calls, their arguments as values

_THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # what templates call the thoughts of a message
_WIDEST = 8  # characters of JSON's separators, which come once for each member


class Arguments(dict[str, Any]):
    """The arguments of a call: a mapping, and JSON text where a template writes them as they are."""

    def __str__(self) -> str:
        return tojson(self)

    def __add__(self, text: str) -> str:
        return tojson(self) + text

    def __radd__(self, text: str) -> str:
        return text + tojson(self)


def thought_keys(source: str) -> tuple[str, ...]:
    """Return the names by which a template asks a message for its thoughts."""
    asked = (rf"\.{key}\b|(?:\[|\.get\()['\"]{key}['\"]" for key in _THOUGHTS)
    found = tuple(key for key, way in zip(_THOUGHTS, asked, strict=True) if re.search(way, source))
    return found if len(found) == 1 else tuple(key for key in found if key != "reasoning")  # which often means another


def without_developers(messages: Sequence[Message]) -> list[Message]:
    """Return messages for a template that knows no developers: they speak as the system, in its message if one is next.

    Most templates pass over a role that they do not know.
    """
    out: list[Message] = []
    for message in messages:
        if message.role is not Role.DEVELOPER:
            out.append(message)
        elif out and out[-1].role is Role.SYSTEM:
            out[-1] = replace(out[-1], content=f"{out[-1].content}\n\n{message.content}")
        else:
            out.append(replace(message, role=Role.SYSTEM))
    return out


def tell_in_system(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> None:
    """Give the tools to the system message, as JSON text, for a template that looks for them there."""
    if not messages or messages[0]["role"] != Role.SYSTEM:
        messages.insert(0, {"role": str(Role.SYSTEM), "content": ""})
    messages[0]["tools"] = tojson([tool["function"] for tool in tools])


def message_values(
    message: Message, guard: Guarding, thoughts: tuple[str, ...] = (), write: Writer | None = None
) -> dict[str, Any]:
    """Return a message; its thoughts under the names ``thoughts``, its calls in its text if ``write`` makes it."""
    role = message.role
    out: dict[str, Any] = {"role": str(role)}
    if message.content is not None:  # transformers, too, gives templates no key for null: many would write "None"
        out["content"] = guard(message.content, role)
    if message.name is not None:
        out["name"] = guard(message.name, role)
    if message.reasoning is not None:
        out |= dict.fromkeys(thoughts, guard(message.reasoning, role))
    if message.tool_call_id is not None:
        out["tool_call_id"] = guard(message.tool_call_id, role)
    if message.tool_calls:
        out["tool_calls"] = calls = [_call(call, role, guard) for call in message.tool_calls]
        if write is not None:
            text = write([(call["function"]["name"], call["function"]["arguments"]) for call in calls])
            out["content"] = out.get("content", "") + text
    return out


def ease(messages: list[dict[str, Any]]) -> bool:
    """Change messages so that more templates take them; return whether there was something to change."""
    silent = [message for message in messages if "content" not in message]
    both = [message for message in messages if message.get("tool_calls") and message.get("content")]
    thoughts = [(message, key) for message in both for key in _THOUGHTS if key in message]
    for message in silent:
        message["content"] = ""
    for message, key in thoughts:
        del message[key]
    return bool(silent or thoughts)


def _call(call: ToolCall, role: Role, guard: Guarding) -> dict[str, Any]:
    function = {"name": guard(call.name, role), "arguments": _arguments(call.arguments, role, guard)}
    return {"id": guard(call.id, role), "type": "function", "function": function}


def _arguments(text: str, role: Role, guard: Guarding) -> Any:
    # Templates expect what transformers gives them: the arguments as a mapping, not as JSON text. Guarded after they
    # are parsed: JSON can spell any character as an escape.
    try:
        arguments = json.loads(text)
    except ValueError:
        return guard(text, role)
    guarded = _guarded(arguments, role, guard)
    return Arguments(guarded) if isinstance(guarded, dict) else guarded


def tool_values(tool: Tool, guard: Guarding) -> dict[str, Any]:
    """Return a tool."""
    function: dict[str, Any] = {"name": guard(tool.name, Role.SYSTEM)}
    if tool.description is not None:
        function["description"] = guard(tool.description, Role.SYSTEM)
    function["parameters"] = _guarded(tool.parameters, Role.SYSTEM, guard) if tool.parameters is not None else {}
    return {"type": "function", "function": function}


def _guarded(value: Any, role: Role, guard: Guarding) -> Any:
    if isinstance(value, str):
        return guard(value, role)
    if isinstance(value, dict):
        return {guard(str(key), role): _guarded(one, role, guard) for key, one in value.items()}
    if isinstance(value, list):
        return [_guarded(one, role, guard) for one in value]
    return value


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as transformers' filter of that name does, without HTML escapes."""
    if separators is not None and sum(map(len, separators)) > _WIDEST:
        raise ValueError("the separators of JSON are too long")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
