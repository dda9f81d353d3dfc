"""Output format of an answer, as requests ask for it: a response format, a guide (structured output), or a tool call.

``response_format`` and ``tool_choice`` are OpenAI's; the guides have vLLM's names. All of them become a
grammar in the worker, which is also where a schema or an expression that cannot be compiled is refused, by the name
of its field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Grammar, GrammarKind, ToolChoice, ToolMode
from foundry_lite.protocol.chat.messages import ToolBody
from foundry_lite.protocol.common.decode import invalid_value
from foundry_lite.protocol.common.sampling import SamplingBody

_LARK_START = re.compile(r"^[ \t]*\??start\b[^:\n]*:(?!:)", re.MULTILINE)


class _Text(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    pass


class _JsonObject(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    schema: dict[str, Any] | None = None  # llama-server's
    value: dict[str, Any] | None = None  # what Hugging Face's client makes of a json_schema


class _NamedSchema(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None  # an answer follows the schema either way


class _JsonSchema(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    json_schema: _NamedSchema


ResponseFormat = _Text | _JsonObject | _JsonSchema
Guide = Annotated[str, Meta(min_length=1, max_length=1 << 18)]
SchemaGuide = Annotated[str, Meta(max_length=1 << 20)] | dict[str, Any]
Choices = Annotated[list[Annotated[str, Meta(min_length=1, max_length=1024)]], Meta(min_length=1, max_length=1000)]


class _FunctionName(Struct, forbid_unknown_fields=True):
    name: str


class _Named(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    function: _FunctionName


class _AllowedTool(Struct, forbid_unknown_fields=True):
    function: _FunctionName
    type: Literal["function"] = "function"


class _AllowedTools(Struct, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[_AllowedTool], Meta(min_length=1, max_length=128)]


class _Allowed(Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    allowed_tools: _AllowedTools


ToolChoiceBody = Literal["none", "auto", "required"] | _Named | _Allowed


def read_format(wire: ResponseFormat | None) -> Grammar | None:
    """Read ``response_format``; ``text`` asks for nothing."""
    match wire:
        case _JsonObject(schema=None, value=None):
            return Grammar(GrammarKind.JSON_OBJECT, param="response_format")
        case _JsonObject(schema=schema, value=value):
            if None not in (schema, value):
                raise invalid_value("response_format.value", "the schema is in 'schema' already")
            return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(value if schema is None else schema), "response_format")
        case _JsonSchema():
            return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(wire.json_schema.schema), "response_format")
    return None


def format_beside(choice: ToolChoice, form: Grammar | None) -> Grammar | None:
    """Return the format that the text of an answer follows: none where a forced call leaves no text to follow it."""
    return None if choice.mode is ToolMode.REQUIRED else form


class StructuredOutputs(Struct, forbid_unknown_fields=True):
    """The guides as vLLM has had them since its release 0.12: one of them."""

    json: SchemaGuide | None = None
    regex: Guide | None = None
    choice: Choices | None = None
    grammar: Guide | None = None
    json_object: bool | None = None


class GuidedBody(SamplingBody, kw_only=True, forbid_unknown_fields=True):
    """The guides, of which a request may have one. ``grammar`` is another name of ``guided_grammar``."""

    guided_json: SchemaGuide | None = None
    guided_regex: Guide | None = None
    guided_grammar: Guide | None = None
    guided_choice: Choices | None = None
    grammar: Guide | None = None
    structured_outputs: StructuredOutputs | None = None


def read_guide(wire: GuidedBody) -> Grammar | None:
    """Read the guides. Raises `InvalidRequest` for more than one, and for a grammar in another language than Lark."""
    newer, place = wire.structured_outputs or StructuredOutputs(), "structured_outputs"
    return only_one(
        _guide(GrammarKind.JSON_SCHEMA, wire.guided_json, "guided_json", _schema_text),
        _guide(GrammarKind.REGEX, wire.guided_regex, "guided_regex"),
        _guide(GrammarKind.LARK, wire.guided_grammar, "guided_grammar"),
        _guide(GrammarKind.LARK, wire.guided_choice, "guided_choice", _alternatives),
        _guide(GrammarKind.LARK, wire.grammar, "grammar", _lark),
        _guide(GrammarKind.JSON_SCHEMA, newer.json, f"{place}.json", _schema_text),
        _guide(GrammarKind.REGEX, newer.regex, f"{place}.regex"),
        _guide(GrammarKind.LARK, newer.choice, f"{place}.choice", _alternatives),
        _guide(GrammarKind.LARK, newer.grammar, f"{place}.grammar", _lark),
        _guide(GrammarKind.JSON_OBJECT, "" if newer.json_object else None, f"{place}.json_object"),
    )


def only_one(*grammars: Grammar | None) -> Grammar | None:
    """Return the one grammar there is, or none. Raises `InvalidRequest` that names the second."""
    given = [grammar for grammar in grammars if grammar is not None]
    if len(given) > 1:
        raise invalid_value(given[1].param, f"an answer cannot also follow '{given[0].param}'")
    return given[0] if given else None


def read_tool_choice(wire: ToolChoiceBody | None, tools: Sequence[ToolBody], *, is_parallel: bool | None) -> ToolChoice:
    """Read ``tool_choice`` and ``parallel_tool_calls``. Raises `InvalidRequest` for names that no tool has."""
    mode, names = _mode_and_names(wire)
    require_tools(mode, names, {tool.function.name for tool in tools})
    return ToolChoice(mode, names, is_parallel is not False)


def require_tools(mode: ToolMode, names: Sequence[str], known: Collection[str]) -> None:
    """Raise `InvalidRequest` where a choice forces a call and no tool is known, or names one that is not."""
    if mode is ToolMode.REQUIRED and not known:
        raise invalid_value("tool_choice", "there are no 'tools' to call")
    if unknown := [name for name in names if name not in known]:
        raise invalid_value("tool_choice", f"no tool is called {unknown[0]!r}")


def refuse_conflicts(
    grammar: Grammar | None, choice: ToolChoice, *, min_tokens: int, ignore_eos: bool, strict: bool = False
) -> None:
    """Raise `InvalidRequest` when a constraint meets another that it cannot be obeyed beside."""
    is_forced = choice.mode is ToolMode.REQUIRED
    if grammar is not None and is_forced:
        raise invalid_value(grammar.param, "'tool_choice' forces a call, which has a form of its own")
    is_held = strict and choice.mode is not ToolMode.NONE
    if grammar is None and not is_forced and not is_held:
        return
    constraint = grammar.param if grammar is not None else "tool_choice" if is_forced else "strict"
    for name, is_given in (("min_tokens", min_tokens > 0), ("ignore_eos", ignore_eos)):
        if is_given:
            raise invalid_value(name, f"an answer that follows '{constraint}' ends where its form ends")


def _mode_and_names(wire: ToolChoiceBody | None) -> tuple[ToolMode, tuple[str, ...]]:
    match wire:
        case None:
            return ToolMode.AUTO, ()
        case _Named():
            return ToolMode.REQUIRED, (wire.function.name,)
        case _Allowed():
            allowed = wire.allowed_tools
            return ToolMode(allowed.mode), tuple(tool.function.name for tool in allowed.tools)
    return ToolMode(wire), ()


def _as_it_is(text: str, _param: str) -> str:
    return text


def _guide(kind: GrammarKind, value: Any, param: str, read: Callable[[Any, str], str] = _as_it_is) -> Grammar | None:
    return None if value is None else Grammar(kind, read(value, param), param)


def _alternatives(texts: list[str], _param: str) -> str:
    """Return a grammar of these texts and no others; Lark spells its strings as JSON does."""
    return "start: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)


def _lark(text: str, param: str) -> str:
    if "::=" in text and not _LARK_START.search(text):
        raise InvalidRequest(
            f"'{param}': this is GBNF or another form of BNF; grammars here are written in Lark",
            param,
            "invalid_value",
            hint="docs/grammars.md has examples.",
        )
    return text


def _schema_text(schema: str | dict[str, Any], param: str) -> str:
    if isinstance(schema, dict):
        return json.dumps(schema)
    try:
        is_object = isinstance(json.loads(schema), dict)
    except (ValueError, RecursionError) as error:
        raise invalid_value(param, f"the text is no JSON: {error}") from error
    if not is_object:
        raise invalid_value(param, "a schema is a JSON object")
    return schema
