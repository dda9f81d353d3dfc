"""The user's own cases: prompts, expected answers, and how an answer is compared with what is expected.

A file has one JSON object a line. Everything in it is checked when it is read, before anything is built;
docs/quality.md has the fields.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from foundry_lite.errors import BadSetting
from foundry_lite.generation import Chat, Message, Role, Tool, ToolCall

MAX_TOKENS = 256  # of an answer, where the case sets no limit

_LARGEST = 256 << 20  # bytes of a file
_MOST = 20_000  # cases
_NUMBER = re.compile(r"(?:(?<!\w)[-+])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
_FENCE = re.compile(r"^```\w*\n(.*)\n```$", re.DOTALL)


class Comparison(StrEnum):
    """Comparison of an answer with the expected value of an evaluation case."""

    EXACT = "exact"  # the same string, but for white space around it
    CONTAINS = "contains"  # the expected string is somewhere in it
    REGEX = "regex"  # the expression is found in it
    NUMBER = "number"  # its last number is this one
    JSON = "json"  # it is this JSON value, however it is written
    TOOL_CALL = "tool_call"  # it calls these functions with these arguments, in this order


class Case(Struct, frozen=True):
    """Evaluation case, a line of the file. ``expected``: string, number, JSON value, list of ``{name, arguments}``."""

    line: int
    chat: Chat
    expected: Any
    check: Comparison
    max_tokens: int = MAX_TOKENS

    @property
    def prompt(self) -> str:
        """The last message, for people."""
        return self.chat.messages[-1].content or ""


class _Part(Struct, forbid_unknown_fields=True):
    text: str
    type: Literal["text"] = "text"


class _Function(Struct):
    name: str
    arguments: str | dict[str, Any]


class _Call(Struct):
    function: _Function
    id: str = "call_0"
    type: Literal["function"] = "function"


class _Message(Struct, forbid_unknown_fields=True):
    role: Role
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None


class _Declared(Struct):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(Struct, forbid_unknown_fields=True):
    function: _Declared
    type: Literal["function"] = "function"


class _Line(Struct, forbid_unknown_fields=True):
    expected: Any
    prompt: Annotated[str, Meta(min_length=1)] | None = None
    messages: Annotated[list[_Message], Meta(min_length=1)] | None = None
    tools: list[_Tool] | None = None
    check: Comparison | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=32_768)] = MAX_TOKENS


class _ExpectedCall(Struct, forbid_unknown_fields=True):
    name: str
    arguments: dict[str, Any] = {}


def read_cases(path: Path) -> tuple[Case, ...]:
    """Read a file of cases. Raises `BadSetting` naming file, line and field."""
    try:
        if path.stat().st_size > _LARGEST:
            raise _refuse(path.name, f"the file is larger than {_LARGEST >> 20} MiB")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _refuse(path.name, f"cannot be read: {error}") from error
    # Only the line feed ends a line of JSON Lines: a JSON string may hold what else ``splitlines`` takes for an end.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise _refuse(path.name, "the file has no cases")
    if len(lines) > _MOST:
        raise _refuse(path.name, f"the file has {len(lines)} cases, {_MOST} are the most")
    return tuple(_read(path.name, number, line) for number, line in lines)


def passes(case: Case, text: str, calls: Sequence[ToolCall]) -> bool:
    """Return whether an answer meets the case. ``text`` is the answer without its tool calls, ``calls``."""
    if case.check is Comparison.TOOL_CALL:
        return _same([{"name": one.name, "arguments": _parse(one.arguments)} for one in calls], case.expected)
    return not calls and _COMPARE[case.check](text.strip(), case.expected)


def _read(name: str, number: int, line: str) -> Case:
    at = f"{name}:{number}"
    try:
        wire = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refuse(at, str(error)) from error
    if (wire.prompt is None) == (wire.messages is None):
        raise _refuse(at, "a case has either 'prompt' or 'messages'")
    check = wire.check or _usual_check(wire.expected, has_tools=bool(wire.tools))
    return Case(number, _chat(at, wire), _expected(at, wire.expected, check), check, wire.max_tokens)


def _chat(at: str, wire: _Line) -> Chat:
    tools = None if wire.tools is None else tuple(_tool(one.function) for one in wire.tools)
    if wire.prompt is not None:
        return Chat((Message(Role.USER, wire.prompt),), tools)
    messages = tuple(_message(at, index, one) for index, one in enumerate(wire.messages or ()))
    if messages[-1].role is Role.ASSISTANT:
        raise _refuse(at, "'messages' ends with the assistant's turn, and that is what is asked for")
    return Chat(messages, tools)


def _tool(declared: _Declared) -> Tool:
    return Tool(declared.name, declared.description, declared.parameters)


def _message(at: str, index: int, wire: _Message) -> Message:
    if wire.content is None and not wire.tool_calls:
        raise _refuse(at, f"'messages[{index}].content' is required")
    content = "".join(part.text for part in wire.content) if isinstance(wire.content, list) else wire.content
    calls = tuple(_call(one) for one in wire.tool_calls or ())
    return Message(wire.role, content, wire.name, calls, wire.tool_call_id)


def _call(wire: _Call) -> ToolCall:
    arguments = wire.function.arguments
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(wire.id, wire.function.name, text)


def _usual_check(expected: Any, *, has_tools: bool) -> Comparison:
    """Return the default comparison for an expected value."""
    if isinstance(expected, str):
        return Comparison.EXACT
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        return Comparison.NUMBER
    calls = expected if isinstance(expected, list) else [expected]
    looks_called = bool(calls) and all(isinstance(one, dict) and one.keys() == {"name", "arguments"} for one in calls)
    return Comparison.TOOL_CALL if has_tools and looks_called else Comparison.JSON


def _expected(at: str, expected: Any, check: Comparison) -> Any:
    """Return the expected value as `passes` compares it. Raises `BadSetting` when the check cannot take it."""
    try:
        if check is Comparison.TOOL_CALL:
            calls = expected if isinstance(expected, list) else [expected]
            return msgspec.to_builtins([msgspec.convert(one, _ExpectedCall) for one in calls])
        if check is Comparison.NUMBER:
            return _finite(expected)
        if check is Comparison.REGEX:
            re.compile(msgspec.convert(expected, str))
        if check in (Comparison.EXACT, Comparison.CONTAINS, Comparison.REGEX):
            return msgspec.convert(expected, str)
    except (msgspec.ValidationError, ValueError, TypeError, re.error) as error:
        raise _refuse(at, f"'expected' does not fit the check '{check}': {error}") from error
    return expected


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _last_number(text: str, expected: float) -> bool:
    found = [match[0] for match in _NUMBER.finditer(text)]
    return bool(found) and math.isclose(float(found[-1].replace(",", "")), expected, rel_tol=1e-9, abs_tol=1e-12)


def _is_json(text: str, expected: Any) -> bool:
    fenced = _FENCE.match(text)
    try:
        return _same(json.loads(fenced[1] if fenced else text), expected)
    except (ValueError, RecursionError):
        return False


def _same(first: Any, second: Any) -> bool:
    """Compare two JSON values; ``1`` and ``1.0`` are the same, ``1`` and ``true`` are not."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(value, second[key]) for key, value in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def _parse(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


_COMPARE: dict[Comparison, Callable[[str, Any], bool]] = {
    Comparison.EXACT: lambda text, expected: text == expected.strip(),
    Comparison.CONTAINS: lambda text, expected: expected in text,
    Comparison.REGEX: lambda text, expected: re.search(expected, text) is not None,
    Comparison.NUMBER: _last_number,
    Comparison.JSON: _is_json,
}


def _refuse(at: str, reason: str) -> BadSetting:
    return BadSetting(f"{at}: {reason}", hint="docs/quality.md shows what a case looks like.")
