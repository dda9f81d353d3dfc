"""Calls in notations that are not JSON, held to the tools' schemas: what fits may be said, and nothing else can."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from foundry_lite.engine.grammar.compiler import Constraint
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Chat, GenerationRequest, Tool, ToolChoice, ToolMode
from tests.unit import newer_dialect_templates
from tests.unit.argument_schemas import CASES
from tests.unit.grammar_support import allowed, sample
from tests.unit.test_grammar_dialects import Model

Arguments = dict[str, Any]
Writer = Callable[[Arguments], str]
Form = tuple[str, Writer]  # a call, and how its arguments are written

FORCED = ToolChoice(ToolMode.REQUIRED)


def _python(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {_python(one)}" for key, one in value.items())
            + "}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def _keywords(arguments: Arguments) -> str:
    return ", ".join(f"{name}={_python(value)}" for name, value in arguments.items())


def _gemma(quote: str) -> Writer:
    def write(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + members(value) + "}"
        if isinstance(value, list):
            return f"[{','.join(map(write, value))}]"
        return f"{quote}{value}{quote}" if isinstance(value, str) else json.dumps(value)

    def members(value: Arguments) -> str:
        names = {name: name if name.replace("-", "_").replace(".", "_").isidentifier() else None for name in value}
        plain = {name: one if one and one.isascii() else f"{quote}{name}{quote}" for name, one in names.items()}
        return ",".join(f"{plain[name]}:{write(value[name])}" for name in sorted(value, key=str.lower))

    return members


def _tagged(before: str, behind: str, *, in_json: bool = False) -> Writer:
    def write(arguments: Arguments) -> str:
        return "".join(
            f"{before.format(name)}{_raw(value, in_json=in_json)}{behind}" for name, value in arguments.items()
        )

    return write


def _raw(value: Any, *, in_json: bool) -> str:
    return value if isinstance(value, str) and not in_json else json.dumps(value, ensure_ascii=False)


_XML = ("<parameter={}>\n", "\n</parameter>\n")
_KEYED = ("<arg_key>{}</arg_key>\n<arg_value>", "</arg_value>\n")
_GEMMA4 = _gemma('<|"|>')
FORMS: dict[str, Form] = {
    "llama-python": ("[%s(%s)]", _keywords),
    "lfm2": ("<|tool_call_start|>[%s(%s)]<|tool_call_end|>", _keywords),
    "gemma4": ("<|tool_call>call:%s{%s}<tool_call|>", _GEMMA4),
    "qwen-xml": (
        "<tool_call>\n<function=%s>\n%s</function>\n</tool_call>",
        _tagged(*_XML),
    ),
    "glm": (
        "<tool_call>%s\n%s</tool_call>",
        _tagged(*_KEYED),
    ),
    "gemma4 in letters": ("<|tool_call>call:%s{%s}<tool_call|>", _GEMMA4),
}


class Held:
    """A model of a family that must call one of the tools of `CASES`."""

    def __init__(self, folder: Path, family: str, spelt: str = "") -> None:
        newer = newer_dialect_templates
        if family in newer.FAMILIES:
            self.model = Model(folder, family, newer.FAMILIES[family][0], newer.TOKENS[family])
        else:
            self.model = Model(folder, family, tokens={} if spelt else None)
        tools = tuple(Tool(_tool(case), parameters=CASES[case].schema) for case in CASES)
        self.request = GenerationRequest(Chat((), tools), tool_choice=FORCED)
        self.constraint = self.model.held(self.request)

    def takes(self, text: str) -> bool:
        """Whether a text may be the whole answer."""
        taken = self.after(text)
        return taken.error is None and self.model.eos in allowed(taken)

    def after(self, text: str) -> Constraint:
        """What may follow a text."""
        taken = self.constraint.copy()
        for token in self.model.text.encode_text(text):
            if taken.error is None:
                taken.take(token)
        return taken

    def read(self, tokens: list[int]) -> tuple[str, list[tuple[str, Any]]]:
        text, calls, _ = self.model.read(self.request, tokens)
        return text, [(call.name, json.loads(call.arguments)) for call in calls]


# Where a schema does not say of each argument alone what it is, strings between tags are JSON.
_QUOTED = {"qwen-xml": _tagged(*_XML, in_json=True), "glm": _tagged(*_KEYED, in_json=True)}
_UNDECLARED = ("anything", "alternative arguments")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Held]:
    """By family, and one whose marks are no tokens."""
    return {name: Held(tmp_path_factory.mktemp("model"), *name.split(" in ")) for name in FORMS}


def _tool(case: str) -> str:
    return case.replace(" ", "_")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", FORMS)
def test_what_fits_may_be_said_and_is_read_as_it_was_meant(held: dict[str, Held], family: str, case: str) -> None:
    model, (call, write) = held[family], FORMS[family]
    if case in _UNDECLARED:
        write = _QUOTED.get(family, write)
    for arguments in CASES[case].fitting:
        text = call % (_tool(case), write(arguments))
        assert model.takes(text), text
        assert model.read(model.model.text.encode_text(text)) == ("", [(_tool(case), arguments)])
    for arguments in CASES[case].misfitting:
        text = call % (_tool(case), write(arguments))
        if model.takes(text):  # as something else, which fits
            ((_, meant),) = model.read(model.model.text.encode_text(text))[1]
            assert meant != arguments
            assert jsonschema_rs.is_valid(CASES[case].schema, meant)


@pytest.mark.parametrize("family", FORMS)
def test_whatever_is_drawn_is_read_back_as_calls_that_fit(held: dict[str, Held], family: str) -> None:
    """From the first letter of the arguments on: half of the tools are called, the other half in the next family."""
    model, (call, _) = held[family], FORMS[family]
    checked = {_tool(case): jsonschema_rs.validator_for(CASES[case].schema, validate_formats=True) for case in CASES}
    logits, cut, cases = _likely(model.model), 0, list(CASES)[list(FORMS).index(family) % 2 :: 2]
    for seed, case in enumerate(cases):
        opening = (call % (_tool(case), "\0")).partition("\0")[0]
        drawn, is_whole = sample(model.after(opening), logits, {model.model.eos}, 150, seed)
        if not is_whole:
            cut += 1
            continue
        said, calls = model.read(model.model.text.encode_text(opening) + drawn)
        assert (said, calls[0][0]) == ("", _tool(case))
        assert all(checked[name].is_valid(arguments) for name, arguments in calls), calls
    assert cut <= len(cases) // 2


def test_a_token_may_follow_a_number_with_bounds_and_a_divisor(held: dict[str, Held]) -> None:
    """A line end is between them, since the library panics without it."""
    number = {"type": "number", "multipleOf": 0.5, "maximum": 100}
    request = GenerationRequest(Chat((), (Tool("f", parameters={"properties": {"n": number}}),)), tool_choice=FORCED)
    model = held["glm"].model
    text = FORMS["glm"][0] % ("f", FORMS["glm"][1]({"n": "12.5\n"}))
    assert model.accepts(request, text)
    assert model.read(request, model.text.encode_text(text))[1][0].arguments == '{"n": 12.5}'


_SHAPELESS = {"type": "object", "required": 5}
_DEEP: Any = json.loads("[" * 500 + "]" * 500)
REFUSED: list[tuple[str, Arguments, str]] = [
    ("llama-python", {"a b": {"type": "string"}}, '"a b" cannot be written as the name of an argument'),
    ("qwen-xml", {"a>b": {"type": "string"}}, '"a>b" cannot be written as the name of an argument'),
    ("gemma4", {"a": {"enum": ['<|"|>']}}, r"cannot stand in a string \(at properties\.a\)"),
    ("glm", {"a": {"enum": ["</arg_value>"]}}, "cannot stand in a string"),
    ("gemma4", {"a": {"type": "object", "patternProperties": {"^x": True}}}, r'"patternProperties".*properties\.a'),
    ("gemma4", {"a": {"type": "string", "format": "regex"}}, 'the "format" "regex" cannot be enforced'),
    ("gemma4", {"a": {"type": "string", "pattern": "a^b"}}, 'a "pattern" with an anchor inside'),
    ("gemma4", {"a": {"oneOf": [{"type": "string"}, {"maxLength": 2}]}}, '"oneOf" with branches that may both fit'),
    ("gemma4", {"a": {"$ref": "#/$defs/none"}}, '"#/\\$defs/none" leads nowhere'),
    ("gemma4", {"a": {"type": "strin"}}, '"type" cannot be "strin"'),
    ("gemma4", {"a": {"minLength": -1}}, '"minLength" has no valid value'),
    (
        "gemma4",
        {"a": {"type": "object", "additionalProperties": False, "minProperties": 1}},
        "nothing can ever satisfy",
    ),
    ("gemma4", {"a": {"type": "object", "minProperties": 3.0}}, '"minProperties" above 1'),
    ("gemma4", {"a": {"minLength": 2, "maxLength": 1}}, r"nothing can ever satisfy it \(at properties\.a\)"),
    (
        "gemma4",
        {"a": {"anyOf": [{"$ref": "#/properties/b"}] * 2}, "b": False},
        r"can ever satisfy it \(at properties\.a",
    ),
    ("gemma4", {"a": {"maxItems": 2_000_000}}, '"maxItems" of 1000000 or more'),
    ("gemma4", {"a": {"oneOf": [{"const": {"x": 1, "y": 2}}, {"const": {"y": 2, "x": 1.0}}]}}, "that may both fit"),
    ("gemma4", {"a": {"oneOf": [{"const": one} for one in range(2500)] + [{"const": 0}]}}, "that may both fit"),
    ("gemma4", {"a": {"oneOf": [_SHAPELESS, _SHAPELESS]}}, r'"required" has no valid value \(at properties\.a\.oneOf'),
    ("glm", {"a": {"anyOf": [{"type": "string", "enum": 5}]}}, '"enum" has no valid value'),
    ("glm", {"a": {"type": "string", "anyOf": [{"$ref": "#/properties/a"}]}}, '"anyOf" cannot be joined'),
    ("gemma4", {"a": {"const": _DEEP}}, "too deep"),
    ("llama-python", {"a": {"enum": []}}, '"enum" has no valid value'),
    ("lfm2", {"a": {"$ref": "http://x/y"}}, "leads nowhere"),
]


@pytest.mark.parametrize(("family", "properties", "named"), REFUSED)
def test_what_cannot_be_held_is_refused_by_its_name(
    held: dict[str, Held], family: str, properties: Arguments, named: str
) -> None:
    parameters = {"properties": properties, "required": list(properties)}
    request = GenerationRequest(Chat((), (Tool("f", parameters=parameters),)), tool_choice=FORCED)
    with pytest.raises(InvalidRequest, match=named) as refused:
        held[family].model.held(request)
    assert (refused.value.param, refused.value.code) == ("tools", "invalid_grammar")


def test_what_is_referred_to_again_and_again_is_looked_at_once(held: dict[str, Held]) -> None:
    """Else these would be 50 to the power of 8 looks."""
    again = {"anyOf": [{"$ref": "#/properties/a"}] * 50}
    request = GenerationRequest(Chat((), (Tool("f", parameters={"properties": {"a": again}}),)), tool_choice=FORCED)
    assert held["glm"].model.accepts(request, FORMS["glm"][0] % ("f", ""))


def test_a_text_may_have_any_character(held: dict[str, Held]) -> None:
    text = {"enum": ["\x7f\x00\b\u2028\\"]}
    request = GenerationRequest(Chat((), (Tool("f", parameters={"properties": {"a": text}}),)), tool_choice=FORCED)
    call, write = FORMS["gemma4"]
    assert held["gemma4"].model.accepts(request, call % ("f", write({"a": text["enum"][0]})))


_EITHER = [{"properties": {f"q{one}": {"type": ["string", "integer"]}}} for one in range(500)]
_MUCH = {"type": "object", "properties": {f"p{one}": {"type": "string"} for one in range(50)}, "anyOf": _EITHER}


@pytest.mark.parametrize(
    ("properties", "named"),
    [({"a": _MUCH}, "say too much"), ({"a": {"description": "x" * 70_000}}, "where they are held to")],
    ids=["much in few words", "many words"],
)
@pytest.mark.parametrize("family", ["llama-python", "gemma4"])
def test_what_is_too_much_is_refused_before_it_is_all_written(
    held: dict[str, Held], family: str, properties: Arguments, named: str
) -> None:
    request = GenerationRequest(Chat((), (Tool("f", parameters={"properties": properties}),)), tool_choice=FORCED)
    with pytest.raises(InvalidRequest, match=named):
        held[family].model.held(request)


def _likely(model: Model) -> Callable[[], NDArray[np.float64]]:
    """Random numbers, but for what ends strings and lists, which comes often."""
    random, ends = np.random.default_rng(0), [bytes([one]) for one in b'"])}<>|/']
    often = [token for token in range(model.width) if model.text.token_bytes(token) in ends]
    plain = [token for token in range(model.width) if model.text.token_bytes(token).isalnum()]
    marks = list(model.text.voice.tokens.values())

    def logits() -> NDArray[np.float64]:
        scores = random.standard_normal(model.width)
        scores[plain] += 3
        scores[often] += 7
        scores[marks] += 8
        scores[model.eos] += 10
        return scores

    return logits


def _one_of_many(arguments: dict[str, Any]) -> tuple[Tool, ...]:
    """A tool with one argument that cannot be held to, among others."""
    fine = Tool("fine", parameters={"type": "object", "properties": {"a": {"type": "string", "pattern": "^a+$"}}})
    return (fine, Tool("bad", parameters={"type": "object", "properties": arguments}), Tool("more"))


@pytest.mark.parametrize("family", FORMS)
@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ({"type": "string", "pattern": "(?=a)b"}, '"pattern"'),
        ({"type": "array", "items": {"type": "string", "pattern": "("}}, '"pattern"'),
        ({"type": "string", "format": "postcode"}, '"format"'),
    ],
    ids=["look-ahead", "no expression", "format"],
)
def test_what_the_library_refuses_is_named_with_its_tool_and_place(
    held: dict[str, Held], family: str, argument: dict[str, Any], named: str
) -> None:
    tools = _one_of_many({"when": argument})
    for request in (
        GenerationRequest(Chat((), tools), tool_choice=FORCED),
        GenerationRequest(Chat((), tuple(msgspec.structs.replace(tool, strict=True) for tool in tools))),
    ):
        with pytest.raises(InvalidRequest, match="'bad'") as refused:
            held[family].model.held(request)
        assert named in refused.value.message
        assert "at properties.when" in refused.value.message
        assert (refused.value.param, refused.value.code) == ("tools", "invalid_grammar")
