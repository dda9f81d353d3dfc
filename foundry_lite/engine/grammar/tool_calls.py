"""Tool calls as a grammar: in the format of a model's family, with arguments that fit the tools.

What stands around the arguments is fixed to the character, as templates write it, so that the model spends its freedom
on the choice of the tool and on the arguments. Free are line ends and blanks where templates of one family differ, and
Mistral's ids.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from foundry_lite.engine.grammar.argument_syntaxes import Gemma, Python, Tagged
from foundry_lite.engine.grammar.json_schema import check_schema, in_plain_words
from foundry_lite.engine.grammar.lark import LINE, MOST_BYTES, Marks, Rules, literal, pattern
from foundry_lite.engine.grammar.schema_algebra import Unwritable
from foundry_lite.engine.tool_calls.formats import CallSyntax, Shape
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Tool

_PARAM = "tools"
_ID = "[A-Za-z0-9]{9}"  # of a call
_WRITTEN_OUT = frozenset({Shape.PYTHON, Shape.LINES, Shape.GEMMA, Shape.TAGGED})


def write_calls(
    tools: Sequence[Tool],
    writing: CallSyntax,
    marks: Marks,
    options: dict[str, Any],
    *,
    is_parallel: bool,
    opening: str | None = None,
) -> list[str]:
    """Return rules of a Lark grammar, of which ``calls`` is one call of a tool, or several.

    ``options`` go with each schema; ``opening`` is a symbol in place of the opening delimiter. Raises `InvalidRequest`
    for parameters that cannot be enforced.
    """
    _check_size(tools)
    marks = replace(marks, is_loose=writing.is_loose)
    calls, call = _frame(writing, marks, opening or marks.write(writing.before), "({})*" if is_parallel else "")
    one = " | ".join(f"tool_{index}" for index in range(len(tools)))
    rules = [f"calls: {calls} {LINE if is_parallel else ''}", f"call: {call.format(one)}"]
    parts = Rules()
    for index, tool in enumerate(tools):
        if writing.shape in _WRITTEN_OUT:
            rules.append(f"tool_{index}: {_write_out(tool, writing, marks, parts)}")
        else:
            rules.append(f"tool_{index}: {_write_tool(tool, writing, marks, options)}")
    return rules + parts.lines


def _check_size(tools: Sequence[Tool]) -> None:
    """Refuse what could not be compiled before it is looked at, which would take longer."""
    size = sum(len(msgspec.json.encode(tool.parameters)) for tool in tools)
    if size > MOST_BYTES:
        reason = f"the parameters of the tools have {size} bytes; where they are held to, they may have {MOST_BYTES}"
        raise InvalidRequest(reason, _PARAM, "invalid_grammar")


def _frame(writing: CallSyntax, marks: Marks, before: str, more: str) -> tuple[str, str]:
    """Return what calls are written as, and what one of them is; ``more`` is what several are put into."""
    line, after = LINE, marks.write(writing.after)
    match writing.shape:
        case Shape.LIST:
            rest = more.format(r"/, |,\n {0,4}/ call")
            return rf'{before} / ?/ "[" /(\n {{0,4}})?/ call {rest} {line} "]" {after}', "{}"
        case Shape.PYTHON:
            rest = more.format('", " call')
            return f'{before} "[" call {rest} "]" {after}', "{}"
        case Shape.LINES:
            rest = more.format('"\\n" call')
            head, tail = marks.write(writing.head) or line, marks.write(writing.tail) or line
            return f"{before} {head} call {rest} {tail} {after}", "{}"
        case Shape.FRAMED:
            end = f"({after})?" if writing.is_loose else after
            return f"{before} call {more.format(f'{marks.write(writing.between)} call')} {end}", "{}"
        case Shape.NAMED:
            return f"call {more.format('call')}", f"{before} ({{}})"
        case Shape.GEMMA | Shape.TAGGED:
            rest = more.format(f"{line if writing.between else ''} call")
            return f"call {rest}", f"{before} ({{}}) {after}"
    if before:
        return f"call {more.format(f'{line} call')}", f"{before} {line} ({{}}) {line} {after}"
    rest = more.format(r"/; |\n?/ call")  # Llama 4 has nothing between two
    return f"call {rest}", "{}"


def _write_tool(tool: Tool, writing: CallSyntax, marks: Marks, options: dict[str, Any]) -> str:
    schema = json.dumps({**arguments_of(tool), "x-guidance": options}, ensure_ascii=False)
    match writing.shape:
        case Shape.NAMED:
            return f"{literal(tool.name)} {_write_id(writing, marks)} {marks.write(writing.after)} %json {schema}"
        case Shape.FRAMED:
            heads = " | ".join(marks.write(head.format(tool.name)) for head in (writing.head, *writing.heads))
            return f"({heads}) %json {schema} {marks.write(writing.tail)}"
    head = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "{writing.key}": '
    return f'{literal(head)} %json {schema} {_write_id(writing, marks)} "}}"'


def _write_id(writing: CallSyntax, marks: Marks) -> str:
    """Return symbols for the id of a call, which may be left out."""
    before, after = writing.around_id
    if not before:
        return ""
    return f"({marks.write(before)} /{_ID}{pattern(after)}/)?"


def _write_out(tool: Tool, writing: CallSyntax, marks: Marks, parts: Rules) -> str:
    """Return symbols for a call whose arguments have a syntax of their own."""
    schema = arguments_of(tool)
    try:
        match writing.shape:
            case Shape.GEMMA:
                return f'{literal(f"call:{tool.name}{{")} {Gemma(schema, parts, writing.quote, marks).arguments()} "}}"'
            case Shape.TAGGED:
                tagged = Tagged(schema, parts, writing.pair, marks, tool.parameters)
                return f"{marks.write(writing.head.format(tool.name))} {tagged.arguments()} {marks.write(writing.tail)}"
        return f'{literal(f"{tool.name}(")} {Python(schema, parts).arguments()} ")"'
    except RecursionError as error:
        reason = f"the parameters of {tool.name!r} are nested too deep, or refer to parts of themselves too often"
        raise InvalidRequest(reason, _PARAM, "invalid_grammar") from error
    except Unwritable as error:
        reason = f"the parameters of {tool.name!r}, as this model writes calls: {error}"
        raise InvalidRequest(reason, _PARAM, "invalid_grammar") from error


def arguments_of(tool: Tool) -> dict[str, Any]:
    """Return the schema of a tool's arguments, which are an object whatever it says. Raises `InvalidRequest`."""
    schema = tool.parameters or {}
    kinds = schema.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise InvalidRequest(f"the parameters of {tool.name!r} are no object", _PARAM, "invalid_grammar")
    try:
        check_schema(schema, _PARAM)
    except InvalidRequest as error:
        reason = f"the parameters of {tool.name!r}: {error.message}"
        raise InvalidRequest(reason, _PARAM, "invalid_grammar") from error
    return {**in_plain_words(schema), "type": "object"}
