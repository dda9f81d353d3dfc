"""What a request demands of the form of its answer: a response format, a guide, or a call of a tool.

``response_format``, ``tool_choice`` and ``strict`` are OpenAI's; the guides have vLLM's names. All of them become a
grammar in the worker, which is also where a schema or an expression that cannot be compiled is refused, by the name
of its field.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Grammar, GrammarKind, ToolChoice, ToolMode
from foundry_lite.protocol.conversation import ToolBody


class _Text(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    pass


class _JsonObject(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    pass


class _NamedSchema(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None  # an answer follows the schema either way


class _JsonSchema(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    json_schema: _NamedSchema


ResponseFormat = _Text | _JsonObject | _JsonSchema
Guide = Annotated[str, Meta(min_length=1)]


class _FunctionName(Struct, forbid_unknown_fields=True):
    name: str


class _Named(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    function: _FunctionName


class _AllowedTool(Struct, forbid_unknown_fields=True):
    function: _FunctionName
    type: Literal["function"] = "function"


class _AllowedTools(Struct, forbid_unknown_fields=True):
    mode: Literal["required"]
    tools: Annotated[list[_AllowedTool], Meta(min_length=1, max_length=128)]


class _Allowed(Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    allowed_tools: _AllowedTools


ToolChoiceBody = Literal["none", "auto", "required"] | _Named | _Allowed


def read_format(wire: ResponseFormat | None) -> Grammar | None:
    """Read ``response_format``; ``text`` asks for nothing."""
    match wire:
        case _JsonObject():
            return Grammar(GrammarKind.JSON_OBJECT, param="response_format")
        case _JsonSchema():
            return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(wire.json_schema.schema), "response_format")
    return None


def read_guide(schema: str | dict[str, Any] | None, regex: str | None, lark: str | None) -> Grammar | None:
    """Read ``guided_json``, ``guided_regex`` and ``guided_grammar``. Raises `InvalidRequest` for more than one."""
    guides: list[Grammar] = []
    if schema is not None:
        guides.append(Grammar(GrammarKind.JSON_SCHEMA, _schema_text(schema), "guided_json"))
    if regex is not None:
        guides.append(Grammar(GrammarKind.REGEX, regex, "guided_regex"))
    if lark is not None:
        guides.append(Grammar(GrammarKind.LARK, lark, "guided_grammar"))
    return only_one(*guides)


def only_one(*grammars: Grammar | None) -> Grammar | None:
    """Return the one grammar there is, or none. Raises `InvalidRequest` that names the second."""
    given = [grammar for grammar in grammars if grammar is not None]
    if len(given) > 1:
        raise _refuse(given[1].param, f"an answer cannot also follow '{given[0].param}'")
    return given[0] if given else None


def read_tool_choice(wire: ToolChoiceBody | None, tools: Sequence[ToolBody], *, is_parallel: bool | None) -> ToolChoice:
    """Read ``tool_choice`` and ``parallel_tool_calls``, and check ``strict`` of each tool against them.

    Raises `InvalidRequest` for names that no tool has, and for ``strict`` where nothing forces a call: what a model
    calls of its own accord is not held to a schema.
    """
    mode, names = _mode_and_names(wire)
    if mode is ToolMode.REQUIRED and not tools:
        raise _refuse("tool_choice", "there are no 'tools' to call")
    unknown = [name for name in names if name not in {tool.function.name for tool in tools}]
    if unknown:
        raise _refuse("tool_choice", f"no tool is called {unknown[0]!r}")
    if mode is ToolMode.AUTO:
        _refuse_strict(tools)
    return ToolChoice(mode, names, is_parallel is not False)


def refuse_conflicts(grammar: Grammar | None, choice: ToolChoice, *, min_tokens: int, ignore_eos: bool) -> None:
    """Raise `InvalidRequest` when a constraint meets another that it cannot be obeyed beside."""
    is_forced = choice.mode is ToolMode.REQUIRED
    if grammar is not None and is_forced:
        raise _refuse(grammar.param, "'tool_choice' forces a call, which has a form of its own")
    if grammar is None and not is_forced:
        return
    constraint = "tool_choice" if grammar is None else grammar.param
    for name, is_given in (("min_tokens", min_tokens > 0), ("ignore_eos", ignore_eos)):
        if is_given:
            raise _refuse(name, f"an answer that follows '{constraint}' ends where its form ends")


def _mode_and_names(wire: ToolChoiceBody | None) -> tuple[ToolMode, tuple[str, ...]]:
    match wire:
        case None:
            return ToolMode.AUTO, ()
        case _Named():
            return ToolMode.REQUIRED, (wire.function.name,)
        case _Allowed():
            return ToolMode.REQUIRED, tuple(tool.function.name for tool in wire.allowed_tools.tools)
    return ToolMode(wire), ()


def _refuse_strict(tools: Sequence[ToolBody]) -> None:
    for index, tool in enumerate(tools):
        if tool.function.strict:
            raise _refuse(
                f"tools[{index}].function.strict", "arguments follow their schema only when 'tool_choice' forces a call"
            )


def _schema_text(schema: str | dict[str, Any]) -> str:
    if isinstance(schema, dict):
        return json.dumps(schema)
    try:
        is_object = isinstance(json.loads(schema), dict)
    except (ValueError, RecursionError) as error:
        raise _refuse("guided_json", f"the text is no JSON: {error}") from error
    if not is_object:
        raise _refuse("guided_json", "a schema is a JSON object")
    return schema


def _refuse(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"'{param}': {why}", param, "invalid_value")
