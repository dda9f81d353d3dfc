"""Grammars: what masks allow, what is refused by name, and what hostile ones cost."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from foundry_lite.engine.grammar.compiled import Compiled, CompiledGrammars
from foundry_lite.engine.grammar.compiler import Constraint, GrammarCompiler
from foundry_lite.engine.grammar.json_schema import read_schema
from foundry_lite.errors import InvalidRequest, QueueFull
from foundry_lite.generation import Grammar, GrammarKind
from tests.unit.byte_tokenizer import END, ENDOFTEXT, MERGES, byte_tokenizer
from tests.unit.grammar_support import accepts, allowed, follow

_WIDTH = 300  # logits are wider than the 266 tokens, as models pad them


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    byte_tokenizer().save(str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def compiler(folder: Path) -> GrammarCompiler:
    return GrammarCompiler(folder, _WIDTH, frozenset({END}))


def _schema(compiler: GrammarCompiler, schema: Any) -> Constraint:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    return compiler.compile(Grammar(GrammarKind.JSON_SCHEMA, text))


def _regex(compiler: GrammarCompiler, regex: str) -> Constraint:
    return compiler.compile(Grammar(GrammarKind.REGEX, regex))


def _lark(compiler: GrammarCompiler, lark: str) -> Constraint:
    return compiler.compile(Grammar(GrammarKind.LARK, lark, "guided_grammar"))


# What masks allow


_LANGUAGES = (
    ("(hi|him|h{1,3}i?){1,2}", "him", 8),
    ("(é|ü|h)+i?", "éüih", 5),
    ("hi|(im){2}|mi", "him", 4),
    ("(😀|i){1,3}", "😀i", 3),
    ("[hi]{0,4}", "hi", 4),
)
_TOKENS = [*(bytes([byte]) for byte in range(256)), *MERGES]


@cache
def _language(regex: str, alphabet: str, longest: int) -> frozenset[bytes]:
    words = ("".join(word) for size in range(longest + 1) for word in itertools.product(alphabet, repeat=size))
    return frozenset(word.encode() for word in words if re.fullmatch(regex, word))


@pytest.mark.parametrize(("regex", "alphabet", "longest"), _LANGUAGES)
@given(data=st.data())
def test_a_mask_allows_what_begins_a_match_and_nothing_else(
    compiler: GrammarCompiler, regex: str, alphabet: str, longest: int, data: st.DataObject
) -> None:
    """By trying all strings. Where the next letters are certain, of their spellings only the tokenizer's is left."""
    language = _language(regex, alphabet, longest)
    constraint, said = _regex(compiler, regex), b""
    for _ in range(3):
        left = {word[len(said) :] for word in language if word.startswith(said)}
        viable = {token for token, text in enumerate(_TOKENS) if any(word.startswith(text) for word in left)}
        if said in language:
            viable.add(END)
        mask = allowed(constraint)
        assert mask
        assert viable.issuperset(mask)
        if len(mask) < len(viable):
            (only,) = mask
            assert all(_TOKENS[only].startswith(_TOKENS[other]) for other in viable)
        token = data.draw(st.sampled_from(mask))
        if token == END:
            break
        constraint.take(token)
        said += _TOKENS[token]


def test_the_mask_is_as_wide_as_the_logits_and_forbids_the_padding(compiler: GrammarCompiler) -> None:
    constraint = _regex(compiler, "(.|\n)*")
    assert constraint.mask().shape == (10,)  # 300 bits
    assert max(allowed(constraint)) < 266


def test_a_tokenizer_with_more_tokens_than_logits_is_cut(folder: Path) -> None:
    compiler = GrammarCompiler(folder, 262, frozenset({ENDOFTEXT}))
    assert _regex(compiler, "[a-z]*").mask().shape == (9,)


def test_every_end_of_turn_is_allowed_where_an_answer_may_end(folder: Path) -> None:
    constraint = _regex(GrammarCompiler(folder, _WIDTH, frozenset({END, ENDOFTEXT})), "a+")
    assert allowed(constraint) == [ord("a")]
    constraint.take(ord("a"))
    assert allowed(constraint) == [ord("a"), ENDOFTEXT, END]
    assert not constraint.is_over


def test_an_answer_is_over_when_only_its_end_may_follow(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    for text, grammar in (
        ("123", Grammar(GrammarKind.REGEX, "[0-9]{3}")),
        ('{"a":1}', Grammar(GrammarKind.JSON_OBJECT)),
        ('"abc"', Grammar(GrammarKind.JSON_SCHEMA, '{"type": "string", "maxLength": 3}')),
        ("acd", Grammar(GrammarKind.LARK, 'start: "a" b\nb: "c" | "c" "d"')),
    ):
        constraint = compiler.compile(grammar)
        over = []
        for letter in text:
            assert follow(constraint, tokenizer, letter)
            over.append(constraint.is_over)
        assert over == [False] * (len(text) - 1) + [True]
        assert constraint.error is None
        assert allowed(constraint) == [END]


def test_an_answer_that_may_go_on_is_not_over(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    constraint = _schema(compiler, {"type": "integer"})
    assert follow(constraint, tokenizer, "12")
    assert not constraint.is_over
    assert END in allowed(constraint)


def test_copies_begin_anew_and_do_not_disturb_each_other(compiler: GrammarCompiler) -> None:
    first = _regex(compiler, "ab|cd")
    first.take(ord("a"))
    second = first.copy()
    assert allowed(second) == [ord("a"), ord("c")]
    second.take(ord("c"))
    assert allowed(first) == [ord("b")]
    assert allowed(second) == [ord("d")]


def test_a_token_that_was_not_allowed_is_an_error_of_that_answer_only(compiler: GrammarCompiler) -> None:
    broken, fine = _regex(compiler, "abc"), _regex(compiler, "abc")
    broken.take(ord("x"))
    assert broken.error
    assert not broken.is_over
    assert fine.error is None
    assert _regex(compiler, "abc").error is None


# JSON


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ('{"a":1,"b":[]}', True),
        ('{"a": 1, "b": [1, 2]}', True),
        ('{\n    "a": {\n        "b": 1\n    }\n}', True),
        ('{"a":  1}', False),
        ('{\n\n"a":1}', False),
        ('{"a":\t1}', False),
        (' {"a":1}', False),
        ('{"a":1}\n', False),
        ("[1]", False),
        ('{"ä": "😀"}', True),
    ],
)
def test_json_has_one_blank_or_one_indented_line_end_and_no_more(
    compiler: GrammarCompiler, tokenizer: Tokenizer, text: str, may: bool
) -> None:
    assert accepts(compiler.compile(Grammar(GrammarKind.JSON_OBJECT)), tokenizer, text, END) is may


@pytest.mark.parametrize("root", ['{"type": "string"}', "true", "{}", '{"type": ["array", "null"]}'])
def test_the_root_may_be_anything(compiler: GrammarCompiler, root: str) -> None:
    assert allowed(_schema(compiler, root))


def test_properties_come_in_the_order_of_the_schema(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    schema = {"type": "object", "properties": {"b": {"type": "null"}, "a": {"type": "null"}}, "required": ["a"]}
    assert accepts(_schema(compiler, schema), tokenizer, '{"b":null,"a":null}', END)
    assert not accepts(_schema(compiler, schema), tokenizer, '{"a":null,"b":null}', END)


def test_a_recursive_schema_works(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "additionalProperties": False}
    constraint = _schema(compiler, {"$defs": {"node": node}, "$ref": "#/$defs/node"})
    assert accepts(constraint, tokenizer, '{"next":{"next":{}}}', END)


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": ["null", "string"], "nullable": True}, {"type": ["null", "string"]}),
        ({"type": "string", "nullable": False}, {"type": "string"}),
    ],
)
def test_a_type_that_is_nullable_is_one_that_may_be_null(said: dict[str, Any], plain: dict[str, Any]) -> None:
    """OpenAPI 3.0's word, which tools made from such documents have, and smolagents' own."""
    for place in ("anyOf", "allOf", "prefixItems"):
        assert json.loads(read_schema(json.dumps({place: [said]}), "p")) == {place: [plain]}
    for place in ("items", "additionalProperties"):
        assert json.loads(read_schema(json.dumps({place: said}), "p")) == {place: plain}
    named = {"properties": {"nullable": said}, "default": {"nullable": True}}
    assert json.loads(read_schema(json.dumps(named), "p")) == {**named, "properties": {"nullable": plain}}


def test_names_that_are_listed_are_properties(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    names = {"type": "string", "enum": ["a", "b"]}
    schema = {"type": "object", "propertyNames": names, "additionalProperties": {"type": "boolean"}}
    constraint = compiler.compile(Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema)))
    assert accepts(constraint.copy(), tokenizer, '{"a":true,"b":false}', END)
    assert not accepts(constraint.copy(), tokenizer, '{"c":true}', END)
    assert not accepts(constraint.copy(), tokenizer, '{"a":1}', END)
    closed = {**schema, "properties": {"a": {"type": "integer"}, "c": {}}, "additionalProperties": False}
    plain = json.loads(read_schema(json.dumps(closed), "p"))
    assert (plain["properties"], plain["additionalProperties"]) == ({"a": {"type": "integer"}}, False)


def test_an_answer_may_be_null_where_its_type_is_nullable(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "nullable": True}}, "required": ["a"]}
    for answer in ('{"a":null}', '{"a":5}'):
        assert accepts(_schema(compiler, schema), tokenizer, answer, END)


@pytest.mark.parametrize("names", [{"type": "string"}, {}, True])
def test_names_of_which_nothing_is_demanded_may_be_any(
    names: Any, compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    record = {"type": "object", "propertyNames": names, "additionalProperties": {"type": "integer"}}
    named = {"type": "object", "properties": {"propertyNames": record}, "required": ["propertyNames"]}
    constraint = _schema(compiler, named)
    assert accepts(constraint, tokenizer, '{"propertyNames":{"a":1}}', END)
    assert not accepts(constraint, tokenizer, '{"propertyNames":{"a":true}}', END)


# What is refused


def _chain_of_patterns(length: int) -> dict[str, Any]:
    links = {str(one): {"pattern": f"[a-z]{{{one},}}", "$ref": f"#/$defs/{one + 1}"} for one in range(length)}
    return {"$defs": {**links, str(length): {"type": "string"}}, "$ref": "#/$defs/0"}


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"properties": {"tags": {"type": "array", "uniqueItems": True}}}, r'"uniqueItems".*at properties\.tags\)'),
        ({"not": {"type": "string"}}, '"not"'),
        ({"anyOf": [{"if": {}, "then": {}}]}, r'"if".*at anyOf\[0\]\)'),
        ({"items": {"contains": {}}}, '"contains".*at items'),
        ({"$defs": {"a": {"propertyNames": {"maxLength": 3}}}}, r'"propertyNames".*at \$defs\.a'),
        ({"propertyNames": False}, '"propertyNames"'),
        ({"propertyNames": {"enum": ["a"]}, "patternProperties": {"b": {}}}, '"propertyNames"'),
        ({"propertyNames": {"enum": ["a", 1]}}, '"propertyNames"'),
        ({"propertyNames": {"enum": ["a"] * 999}, "additionalProperties": {"title": "x" * 30}}, '"propertyNames"'),
        ({"$ref": "#/x/y", "x": {"y": {"type": "array", "uniqueItems": True}}}, r'"\$ref" must lead into'),
        (False, "nothing can ever satisfy it"),
        ({"dependencies": {"a": ["b"]}}, '"dependencies"'),
        ({"type": "object", "unevaluatedProperties": False}, '"unevaluatedProperties"'),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "dependentRequired": {}}, '"dependentRequired"'),
        ({"$dynamicRef": "#a"}, r'"\$dynamicRef"'),
        ({"items": {"enum": ["a"], "nullable": True}}, '"nullable".*at items'),
        ({"type": "string", "nullable": "yes"}, '"nullable"'),
        ({"x-guidance": {"lenient": True}}, '"x-guidance"'),
        ({"type": "object", "minProperties": 2}, '"minProperties"'),
        ({"type": "integer", "multipleOf": 1234567}, '"multipleOf"'),
        ({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}, '"multipleOf"'),
        ({"allOf": [{"pattern": f"[a-z]{{{one},}}"} for one in range(20)]}, "more than 8 .pattern."),
        (_chain_of_patterns(20), "more than 8 .pattern."),
        ({"type": "object", "patternProperties": {f"^{one}_": {} for one in range(100)}}, "more than 64 "),
        ({"type": "string", "format": "postcode"}, '"format" cannot be enforced: Unknown format: postcode'),
        ({"properties": {"a": {"format": "postcode"}}}, r'"format" cannot be enforced \(at properties\.a\)'),
        ({"type": "string", "pattern": "(?=a)b"}, '"pattern" cannot be enforced: .*look-ahead'),
        ({"anyOf": [{"type": "string"}, {"pattern": "\\b"}]}, r'"pattern" cannot be enforced \(at anyOf\[1\]\)'),
        ({"patternProperties": {"(?!a)": {}}}, '"patternProperties" cannot be enforced: .*look-ahead'),
        ({"patternProperties": {"a": {}, "ab": {}}}, '"patternProperties" cannot be enforced: .*not disjoint'),
        ({"items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"pattern": "("}}}, r'"pattern".*\(at \$defs\.x\)'),
        ({"additionalProperties": {"minimum": "3"}}, r'"minimum" cannot be enforced \(at additionalProperties\)'),
        ({"items": {"multipleOf": 0}}, r'"multipleOf" cannot be enforced \(at items\)'),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, '"oneOf" cannot be enforced: .*use anyOf'),
        ({"$ref": "https://example.org/a.json"}, "'https://example.org/a.json' cannot be followed"),
        ({"$ref": "#/$defs/none"}, r'"\$ref" cannot be enforced: .*/\$defs/none'),
        ({"type": "integer", "minimum": 5, "maximum": 3}, '"minimum" cannot be enforced'),
        ({"$ref": "#"}, "nothing can ever satisfy it"),
        ({"items": {"type": "text"}}, r'"type" cannot be enforced \(at items\): Invalid type: text'),
        ({"properties": {"a": 3}}, r"at properties\.a"),
        ("[]", "a schema is an object"),
        ("{", "not JSON"),
        ('{"type": "string"', "not JSON"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(compiler: GrammarCompiler, schema: Any, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named) as refused:
        _schema(compiler, schema)
    assert refused.value.param == "response_format"
    assert refused.value.code == "invalid_grammar"
    assert len(refused.value.message) < 400


def test_many_patterns_of_different_strings_are_fine(compiler: GrammarCompiler) -> None:
    day = {"type": "string", "format": "date"}
    item = {"allOf": [{"$ref": "#/$defs/day"}], "pattern": "^2"}
    named = {f"day{one}": item if one % 2 else day for one in range(40)}
    assert allowed(_schema(compiler, {"$defs": {"day": day}, "properties": named, "anyOf": [day] * 20}))


def test_names_and_values_that_look_like_keywords_are_no_keywords(
    compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    schema = {"type": "object", "properties": {"not": {"const": {"if": 1}}}, "required": ["not"]}
    assert follow(_schema(compiler, schema), tokenizer, '{"not":{"if":1}')


@pytest.mark.parametrize(
    ("kind", "text", "named"),
    [
        (GrammarKind.REGEX, "(((a", "invalid regex: unclosed group"),
        (GrammarKind.REGEX, "(a)\\1", "backreferences are not supported"),
        (GrammarKind.LARK, "start: missing", "unknown name"),
        (GrammarKind.LARK, "", "no start rule"),
        (GrammarKind.LARK, 'start: %json {"uniqueItems": true}', '"uniqueItems" cannot be enforced'),
        (GrammarKind.LARK, 'start: %json {"type": "null", "nullable": true}', '"nullable" cannot be enforced in'),
        (GrammarKind.LARK, 'start: %json\n{"x-guidance": {"lenient": true}, "not": {}}', '"x-guidance"'),
        (
            GrammarKind.LARK,
            '{"grammars": [{"json_schema": {"not": {}, "x-guidance": {"lenient": true}}}]}',
            "expecting",
        ),
    ],
)
def test_a_broken_grammar_is_refused_with_the_reason(
    compiler: GrammarCompiler, kind: GrammarKind, text: str, named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named) as refused:
        compiler.compile(Grammar(kind, text, "guided"))
    assert refused.value.param == "guided"


# What hostile grammars cost


def _nested(depth: int) -> str:
    return '{"items":' * depth + "{}" + "}" * depth


def _references(count: int) -> str:
    parts = {str(one): {"items": {"$ref": f"#/$defs/{one + 1}"}} for one in range(count)}
    return json.dumps({"$defs": {**parts, str(count): {}}, "$ref": "#/$defs/0"}, separators=(",", ":"))


def _branches(one: int) -> dict[str, Any]:
    """Alternatives that multiply with those of others."""
    return {"anyOf": [{"type": "object", "properties": {f"p{one}": {"const": other}}} for other in range(4)]}


def _optional(count: int) -> str:
    return json.dumps({"type": "object", "properties": {f"p{one}": {"type": "null"} for one in range(count)}})


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (GrammarKind.JSON_SCHEMA, _nested(10_000)),
        (GrammarKind.JSON_SCHEMA, _nested(100)),
        (GrammarKind.JSON_SCHEMA, "[" * 60_000),
        (GrammarKind.JSON_SCHEMA, json.dumps({"const": json.loads("[" * 200 + "]" * 200)})),
        (GrammarKind.JSON_SCHEMA, json.dumps({"enum": [f"value {one}" for one in range(100_000)]})),
        (GrammarKind.JSON_SCHEMA, _optional(1_500)),
        (GrammarKind.JSON_SCHEMA, json.dumps({"allOf": [_branches(one) for one in range(10)]})),
        (GrammarKind.JSON_SCHEMA, _references(1_000)),
        (GrammarKind.REGEX, "(" * 8_000 + ")" * 8_000),
        (GrammarKind.REGEX, "|".join(f"word{one}" for one in range(10_000))),
        (GrammarKind.LARK, "start: " + "(" * 8_000 + '"a"' + ")" * 8_000),
    ],
)
def test_a_hostile_grammar_is_refused_in_time(compiler: GrammarCompiler, kind: GrammarKind, text: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequest):
        compiler.compile(Grammar(kind, text))
    assert time.monotonic() - began < 10  # 2 s and a busy machine


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (GrammarKind.REGEX, "(a{1,1000}){1,1000}"),
        (GrammarKind.REGEX, "(.*a.{40})"),
        (GrammarKind.JSON_SCHEMA, _references(100)),
        (GrammarKind.JSON_SCHEMA, json.dumps({"type": "string", "minLength": 100_000_000})),
        (GrammarKind.LARK, "\n".join(f"r{one}: r{one + 1}" for one in range(1_000)) + '\nr1000: "a"\nstart: r0'),
    ],
)
def test_a_grammar_that_only_looks_hostile_works(compiler: GrammarCompiler, kind: GrammarKind, text: str) -> None:
    assert allowed(compiler.compile(Grammar(kind, text)))


def test_a_grammar_that_takes_too_long_is_given_up_and_beside_two_of_them_nothing_new_is_compiled(folder: Path) -> None:
    compiler = GrammarCompiler(folder, _WIDTH, frozenset({END}), deadline=0.05)
    kept = _regex(compiler, "kept")

    def give_up(name: str) -> None:
        with pytest.raises(InvalidRequest, match=r"too complex: it did not compile within 0\.05 s"):
            _schema(compiler, {"type": "array", "items": {"enum": [[one, {name: str(one)}] for one in range(2_500)]}})

    give_up("a")
    assert allowed(_regex(compiler, "beside"))
    give_up("b")
    if len(threads := [one for one in threading.enumerate() if one.name == "grammar"]) > 1:  # a busy machine is late
        with pytest.raises(QueueFull, match="2 grammars that took too long"):
            _regex(compiler, "new")
    assert allowed(kept.copy()) == allowed(_regex(compiler, "kept"))  # what is compiled already still works
    for thread in threads:
        thread.join(60)
    assert allowed(_regex(compiler, "new"))


def test_an_answer_beyond_the_limits_fails_alone_and_the_grammar_is_compiled_anew(
    compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    """Copies share their automaton: one that is full would fail all answers of that grammar to come."""
    grammar = Grammar(GrammarKind.LARK, 'start: a a a a a a a a\na: b | b b | b b b\nb: c* | "x"\nc: "x"*')
    constraint = compiler.compile(grammar)
    for _ in range(1_000):
        constraint.mask()
        if constraint.error is not None:
            break
        constraint.take(ord("x"))
    assert constraint.error is not None
    assert "ambiguous" in constraint.error
    assert ord("x") in allowed(compiler.compile(grammar))


# Keeping


def test_a_grammar_is_compiled_once(compiler: GrammarCompiler) -> None:
    schema = json.dumps({"type": "object", "properties": {f"p{one}": {} for one in range(200)}})
    first, second = _schema(compiler, schema), _schema(compiler, schema)
    assert first is not second
    assert first._compiled is second._compiled


def test_what_is_kept_is_bounded_in_number_and_by_what_it_took() -> None:
    """A grammar that took a second to compile leaves more than 100 MB of states."""
    grammars = CompiledGrammars()
    for one in range(40):
        grammars.keep(str(one), Compiled(None, 0.01))
    assert [one for one in range(40) if grammars.by_source(str(one))] == list(range(8, 40))
    for one in range(100, 103):
        grammars.keep(str(one), Compiled(None, 0.9))
    kept = [one for one in (*range(40), *range(100, 103)) if grammars.by_source(str(one))]
    assert kept == [101, 102]
    grammars.keep("200", Compiled(None, 5.0))  # the one in use is kept, however long it took
    assert grammars.by_source("200") is not None
    assert grammars.by_source("102") is None


def test_a_folder_without_eos_is_served(folder: Path, tokenizer: Tokenizer) -> None:
    constraint = _regex(GrammarCompiler(folder, _WIDTH, frozenset()), "hi")
    assert follow(constraint, tokenizer, "hi")
    assert constraint.is_over


def test_a_tokenizer_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidRequest, match="because of its tokenizer"):
        _regex(GrammarCompiler(tmp_path, _WIDTH, frozenset({END})), "a")
