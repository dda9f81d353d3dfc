"""Tool calls rendered in a family's format, for templates that do not render them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from foundry_lite.engine.tool_calls.formats import CallSyntax, Shape
from foundry_lite.errors import InvalidRequest

Call = tuple[str, Any]  # a name, and arguments: JSON text, or the value of it

_IN_LINES, _IN_LIST = ("\n", "\n", "\n"), ("[", ", ", "]")


def can_write(writing: CallSyntax) -> bool:
    """Return whether calls can be written in this syntax."""
    return writing.shape is not Shape.GEMMA


def write_calls(calls: Sequence[Call], writing: CallSyntax) -> str:
    """Return calls as text. Raises `InvalidRequest` where a family's calls, or these, cannot be written."""
    if not can_write(writing):
        raise InvalidRequest("the model's chat template has no place for tools", "tools", "unsupported_parameter")
    before, after = writing.before, writing.after
    try:
        written = [_write(name, arguments, writing) for name, arguments in calls]
    except RecursionError as error:
        raise InvalidRequest("the arguments of a call are nested too deeply", "messages") from error
    match writing.shape:
        case Shape.LIST | Shape.PYTHON | Shape.LINES:
            head, comma, tail = _IN_LINES if writing.shape is Shape.LINES else _IN_LIST
            return f"{before}{writing.head or head}{comma.join(written)}{writing.tail or tail}{after}"
        case Shape.FRAMED:
            return f"{before}{writing.between.join(written)}{after}"
        case Shape.NAMED:
            return "".join(f"{before}{one}" for one in written)
        case Shape.TAGGED:
            return writing.between.join(f"{before}{one}{after}" for one in written)
    return "\n".join(f"{before}{one}{after}" for one in written)


def _write(name: str, arguments: Any, writing: CallSyntax) -> str:
    match writing.shape:
        case Shape.PYTHON | Shape.LINES:
            return f"{name}({_as_python(arguments)})"
        case Shape.FRAMED:
            return f"{writing.head.format(name)}{_as_json(arguments)}{writing.tail}"
        case Shape.TAGGED:
            return f"{writing.head.format(name)}{_in_tags(arguments, writing.pair)}{writing.tail}"
        case Shape.NAMED:
            return f"{name}{writing.after}{_as_json(arguments)}"
    return f'{{"name": {json.dumps(name, ensure_ascii=False)}, "{writing.key}": {_as_json(arguments)}}}'


def _as_json(arguments: Any) -> str:
    text: str = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return text


def _as_python(arguments: Any) -> str:
    members = _read(arguments)
    return members if isinstance(members, str) else ", ".join(f"{key}={value!r}" for key, value in members.items())


def _in_tags(arguments: Any, pair: tuple[str, str]) -> str:
    members = _read(arguments)
    if isinstance(members, str):
        members = {"...": "..."}
    return "".join(f"{pair[0].format(key)}{_as_json(value)}{pair[1]}" for key, value in members.items())


def _read(arguments: Any) -> dict[str, Any] | str:
    """Return arguments as a mapping; as a string where they are an example, or where a model broke them off."""
    if isinstance(arguments, str):
        text = arguments
        try:
            arguments = json.loads(text)
        except ValueError:
            return text.strip("{}")
    return arguments if isinstance(arguments, dict) else {}
