"""Response formats, guides and forced calls: each becomes a grammar, a choice, or a refusal that names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Grammar, GrammarKind, ToolChoice, ToolMode
from foundry_lite.protocol.chat.request import decode_chat

SCHEMA = {"type": "object", "properties": {"z": {"type": "integer"}, "a": {"const": "ü"}}, "required": ["z"]}
NAMED = {"name": "answer", "schema": SCHEMA}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
STRICT = [TOOLS[0], {"type": "function", "function": {"name": "g", "strict": True}}]


def decode(**fields: Any) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return decode_chat(json.dumps(body).encode()).request


def forced(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [forced(name) for name in names]}}


def guide(**fields: Any) -> dict[str, Any]:
    return {"structured_outputs": fields}


def test_a_schema_keeps_the_order_of_its_properties() -> None:
    grammar = decode(response_format={"type": "json_schema", "json_schema": NAMED}).grammar
    assert (grammar.kind, grammar.param) == (GrammarKind.JSON_SCHEMA, "response_format")
    assert json.loads(grammar.text) == SCHEMA
    assert grammar.text.index('"z"') < grammar.text.index('"a"')


@pytest.mark.parametrize("extra", [{"strict": True}, {"strict": False}, {"strict": None}, {"description": "d"}])
def test_a_schema_may_be_strict_or_not_and_described(extra: dict[str, Any]) -> None:
    plain = decode(response_format={"type": "json_schema", "json_schema": NAMED})
    assert decode(response_format={"type": "json_schema", "json_schema": {**NAMED, **extra}}) == plain


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Grammar(GrammarKind.JSON_OBJECT, "", "response_format")),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "null"}}},
            Grammar(GrammarKind.JSON_SCHEMA, '{"type": "null"}', "response_format"),
        ),
        (
            {"response_format": {"type": "json_object", "value": {"type": "null"}}},
            Grammar(GrammarKind.JSON_SCHEMA, '{"type": "null"}', "response_format"),
        ),
        ({"guided_json": {"type": "null"}}, Grammar(GrammarKind.JSON_SCHEMA, '{"type": "null"}', "guided_json")),
        ({"guided_json": '{"type":"null"}'}, Grammar(GrammarKind.JSON_SCHEMA, '{"type":"null"}', "guided_json")),
        ({"guided_regex": "[ab]+"}, Grammar(GrammarKind.REGEX, "[ab]+", "guided_regex")),
        ({"guided_grammar": 'start: "a"'}, Grammar(GrammarKind.LARK, 'start: "a"', "guided_grammar")),
        ({"guided_choice": ["a", 'ü"']}, Grammar(GrammarKind.LARK, 'start: "a" | "ü\\""', "guided_choice")),
        ({"grammar": 'start: "::="'}, Grammar(GrammarKind.LARK, 'start: "::="', "grammar")),
        ({"guided_regex": "a", "response_format": {"type": "text"}}, Grammar(GrammarKind.REGEX, "a", "guided_regex")),
        (guide(json={"type": "null"}), Grammar(GrammarKind.JSON_SCHEMA, '{"type": "null"}', "structured_outputs.json")),
        (guide(regex="[ab]+"), Grammar(GrammarKind.REGEX, "[ab]+", "structured_outputs.regex")),
        (guide(choice=["a", "b"]), Grammar(GrammarKind.LARK, 'start: "a" | "b"', "structured_outputs.choice")),
        (guide(grammar='start: "a"'), Grammar(GrammarKind.LARK, 'start: "a"', "structured_outputs.grammar")),
        (guide(json_object=True), Grammar(GrammarKind.JSON_OBJECT, "", "structured_outputs.json_object")),
        (guide(json_object=False), None),
    ],
)
def test_each_way_to_ask_for_a_form_is_a_grammar(fields: dict[str, Any], grammar: Grammar | None) -> None:
    assert decode(**fields).grammar == grammar


@pytest.mark.parametrize(
    ("wire", "choice"),
    [
        ("none", ToolChoice(ToolMode.NONE)),
        ("auto", ToolChoice(ToolMode.AUTO)),
        ("required", ToolChoice(ToolMode.REQUIRED)),
        (forced("g"), ToolChoice(ToolMode.REQUIRED, ("g",))),
        (allowed("required", "g", "f"), ToolChoice(ToolMode.REQUIRED, ("g", "f"))),
        (allowed("auto", "g"), ToolChoice(ToolMode.AUTO, ("g",))),
    ],
)
def test_a_tool_choice_says_which_tools_must_or_may_be_called(wire: Any, choice: ToolChoice) -> None:
    assert decode(tools=TOOLS, tool_choice=wire).tool_choice == choice


def test_calls_are_one_at_a_time_only_when_that_is_asked_for() -> None:
    assert decode(tools=TOOLS).tool_choice.is_parallel
    assert decode(tools=TOOLS, parallel_tool_calls=True).tool_choice.is_parallel
    assert not decode(tools=TOOLS, parallel_tool_calls=False).tool_choice.is_parallel


@pytest.mark.parametrize("choice", ["none", "auto", "required", forced("g")])
def test_whether_a_tool_is_strict_is_told_to_the_engine(choice: Any) -> None:
    assert [tool.strict for tool in decode(tools=STRICT, tool_choice=choice).prompt.tools] == [False, True]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"response_format": "json"}, "response_format", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {}}, "response_format.type", "missing_required_parameter"),
        ({"response_format": {"type": "text", "x": 1}}, "response_format.x", "unknown_parameter"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
            "missing_required_parameter",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
            "missing_required_parameter",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {**NAMED, "name": "two words"}}},
            "response_format.json_schema.name",
            "invalid_value",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {**NAMED, "schema": True}}},
            "response_format.json_schema.schema",
            "invalid_value",
        ),
        ({"guided_json": []}, "guided_json", "invalid_value"),
        ({"guided_json": "{"}, "guided_json", "invalid_value"),
        ({"guided_json": "[" * 40_000}, "guided_json", "invalid_value"),
        ({"guided_json": "5"}, "guided_json", "invalid_value"),
        ({"guided_regex": ""}, "guided_regex", "invalid_value"),
        ({"guided_grammar": ""}, "guided_grammar", "invalid_value"),
        ({"guided_json": {}, "guided_regex": "a"}, "guided_regex", "invalid_value"),
        ({"guided_regex": "a", "guided_grammar": "a"}, "guided_grammar", "invalid_value"),
        ({"response_format": {"type": "json_object"}, "guided_json": {}}, "guided_json", "invalid_value"),
        ({"response_format": {"type": "json_object"}, "min_tokens": 1}, "min_tokens", "invalid_value"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "invalid_value"),
        ({"tool_choice": "always"}, "tool_choice", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": {"type": "auto"}}, "tool_choice.type", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": {}}, "tool_choice.type", "missing_required_parameter"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
        ({"tools": TOOLS, "tool_choice": forced("h")}, "tool_choice", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": allowed("required", "f", "h")}, "tool_choice", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": allowed("required")}, "tool_choice.allowed_tools.tools", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": allowed("some", "f")}, "tool_choice.allowed_tools.mode", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": allowed("auto", "h")}, "tool_choice", "invalid_value"),
        (guide(json="5"), "structured_outputs.json", "invalid_value"),
        (guide(grammar='root ::= "a"'), "structured_outputs.grammar", "invalid_value"),
        (guide(regex="a", choice=["a"]), "structured_outputs.choice", "invalid_value"),
        ({**guide(regex="a"), "guided_regex": "a"}, "structured_outputs.regex", "invalid_value"),
        (guide(structural_tag="{}"), "structured_outputs.structural_tag", "unknown_parameter"),
        ({"guided_choice": []}, "guided_choice", "invalid_value"),
        ({"guided_choice": ["a", ""]}, "guided_choice[1]", "invalid_value"),
        ({"guided_choice": ["a"] * 1001}, "guided_choice", "invalid_value"),
        ({"guided_choice": ["a"], "grammar": 'start: "a"'}, "grammar", "invalid_value"),
        ({"grammar": 'root ::= "yes" | "no"'}, "grammar", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": forced("f")}, "tool_choice", "invalid_value"),
        ({"response_format": {"type": "json_object", "schema": []}}, "response_format.schema", "invalid_value"),
        (
            {"response_format": {"type": "json_object", "schema": {}, "value": {}}},
            "response_format.value",
            "invalid_value",
        ),
        ({"tools": TOOLS, "tool_choice": forced("f"), "guided_regex": "a"}, "guided_regex", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": "required", "min_tokens": 2}, "min_tokens", "invalid_value"),
        ({"tools": TOOLS, "tool_choice": "required", "ignore_eos": True}, "ignore_eos", "invalid_value"),
        ({"tools": STRICT, "ignore_eos": True}, "ignore_eos", "invalid_value"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_by_its_name(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert f"'{param}'" in caught.value.message


def test_a_format_beside_tools_that_may_be_called_is_obeyed() -> None:
    assert decode(tools=TOOLS, response_format={"type": "json_object"}).grammar is not None


@pytest.mark.parametrize("choice", ["required", forced("f"), allowed("required", "g")])
def test_a_forced_call_leaves_no_text_for_a_format(choice: Any) -> None:
    named = {"type": "json_schema", "json_schema": NAMED}
    assert decode(tools=TOOLS, tool_choice=choice, response_format=named) == decode(tools=TOOLS, tool_choice=choice)
