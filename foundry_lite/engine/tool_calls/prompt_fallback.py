"""Conversations adapted to a chat template: ids of calls, and tools where the template has no place for them."""

from __future__ import annotations

import hashlib
import json

from msgspec.structs import replace

from foundry_lite.engine.tool_calls.formats import ToolFormat
from foundry_lite.engine.tool_calls.render_calls import write_calls
from foundry_lite.generation import Chat, Message, Role, Tool, ToolCall

_TOLD = (
    "You can call the following tools. To call one, answer with nothing but {example}, where the arguments follow the "
    "tool's parameters. Call only these tools, and answer in words when none is needed.\n{tools}"
)
_SHORT_ID = 9


def adapt(chat: Chat, dialect: ToolFormat, *, shows_tools: bool) -> Chat:
    """Return the conversation for a template; ``shows_tools`` says whether that has a place for tools.

    Where it has none, a system message describes the tools, and calls and results become text of the assistant and of
    the user. Raises `InvalidRequest` where a family's calls cannot be described in this way.
    """
    if dialect.has_short_ids:
        chat = replace(chat, messages=tuple(map(_with_short_ids, chat.messages)))
    if shows_tools or not chat.tools:
        return chat
    told = _TOLD.format(example=_example(dialect), tools="\n".join(map(_describe, chat.tools)))
    return replace(chat, messages=_merged([Message(Role.SYSTEM, told), *_as_text(chat, dialect)]), tools=None)


def _with_short_ids(message: Message) -> Message:
    """Return a message whose call ids have nine characters, the same ones for the same id."""
    calls = tuple(ToolCall(_short(call.id), call.name, call.arguments) for call in message.tool_calls)
    answered = None if message.tool_call_id is None else _short(message.tool_call_id)
    return replace(message, tool_calls=calls, tool_call_id=answered)


def _short(call_id: str) -> str:
    if len(call_id) == _SHORT_ID and call_id.isascii() and call_id.isalnum():
        return call_id
    return hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:_SHORT_ID]


def _describe(tool: Tool) -> str:
    said = {"name": tool.name, "description": tool.description, "parameters": tool.parameters or {}}
    return json.dumps({key: value for key, value in said.items() if value is not None}, ensure_ascii=False)


def _example(dialect: ToolFormat) -> str:
    return write_calls([("the tool's name", "{...}")], dialect.writing)


def _as_text(chat: Chat, dialect: ToolFormat) -> list[Message]:
    out = []
    for message in chat.messages:
        if message.tool_calls:
            calls = write_calls([(call.name, call.arguments) for call in message.tool_calls], dialect.writing)
            out.append(replace(message, content=f"{message.content or ''}\n{calls}".strip(), tool_calls=()))
        elif message.role is Role.TOOL:
            out.append(Message(Role.USER, f"<tool_response>\n{message.content}\n</tool_response>"))
        else:
            out.append(message)
    return out


def _merged(messages: list[Message]) -> tuple[Message, ...]:
    """Join neighbouring messages of one role: many a template insists that roles alternate."""
    out: list[Message] = []
    for message in messages:
        before = out[-1] if out else None
        if before is not None and before.role is message.role:
            out[-1] = replace(before, content=f"{before.content}\n\n{message.content}")
        else:
            out.append(message)
    return tuple(out)
