"""Answers drawn at random under a schema, with the embedded model's tokenizer, are JSON that fits the schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

from foundry_lite.engine.grammar.compiler import Constraint, GrammarCompiler
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.generation import Grammar, GrammarKind
from tests.unit.grammar_support import is_valid, sample

_FOLDER = Path(__file__).parents[2] / "foundry_lite" / "embedded" / "home-assistant" / "cpu-int4"
_WIDTH = 1024
_LIMIT = 400  # tokens


class Speaker:
    """Says anything, and rather what closes strings, arrays and objects, so that most answers end."""

    def __init__(self) -> None:
        self.text = TextModel(_FOLDER)
        self.compiler = GrammarCompiler(_FOLDER, _WIDTH, self.text.eos_ids)
        spellings = [self.text.token_bytes(token) for token in range(_WIDTH)]
        self._closing = np.array([3.0 * any(letter in text for letter in b'"]}') for text in spellings])

    def constraint(self, schema: Any) -> Constraint:
        return self.compiler.compile(Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema)))

    def answer(self, constraint: Constraint, seed: int) -> str | None:
        """An answer, or ``None`` when it did not end in time."""
        random = np.random.default_rng(seed)
        logits: Callable[[], NDArray[np.float64]] = lambda: self._closing + 2 * random.standard_normal(_WIDTH)  # noqa: E731
        tokens, is_whole = sample(constraint, logits, set(self.text.eos_ids), _LIMIT, seed)
        detokenizer = self.text.detokenizer()
        said = "".join(map(detokenizer.feed, tokens)) + detokenizer.flush()
        return said if is_whole else None


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker()


_NAMES = st.text('abé_ 日"\\😀', min_size=1, max_size=4)


def _integers(low: int, size: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": low + size}


_LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"type": "number"}, {"type": "integer"}]),
    st.builds(_integers, st.integers(-300, 300), st.integers(0, 400)),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low, "maximum": low + 2.5}, st.integers(-20, 20)),
    st.builds(lambda step: {"type": "integer", "multipleOf": step, "minimum": 0}, st.integers(1, 12)),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, *[st.integers(0, 5)] * 2
    ),
    st.builds(
        lambda values: {"enum": values}, st.lists(_NAMES | st.integers(-5, 5) | st.none(), min_size=1, max_size=4)
    ),
    st.builds(lambda value: {"const": value}, _NAMES | st.lists(st.integers(0, 3), max_size=3)),
)


def _arrays(items: dict[str, Any], low: int, more: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": low, "maxItems": low + more}


@st.composite
def _objects(draw: st.DrawFn, children: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    named = draw(st.dictionaries(_NAMES, children, max_size=4))
    required = [name for name in named if draw(st.booleans())]
    others = draw(st.just(False) | st.just(True) | children)
    return {"type": "object", "properties": named, "required": required, "additionalProperties": others}


def _compound(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    either = st.builds(lambda options: {"anyOf": options}, st.lists(children, min_size=1, max_size=3))
    return _objects(children) | st.builds(_arrays, children, st.integers(0, 2), st.integers(0, 3)) | either


@settings(max_examples=150)
@given(schema=st.recursive(_LEAVES, _compound, max_leaves=8), seed=st.integers(0, 2**32 - 1))
def test_whatever_is_drawn_fits_its_schema(speaker: Speaker, schema: dict[str, Any], seed: int) -> None:
    answer = speaker.answer(speaker.constraint(schema), seed)
    if answer is not None:
        assert is_valid(json.loads(answer), schema), answer


_EVERYDAY: list[dict[str, Any]] = [
    {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name"]},
    {"type": "array", "items": {"enum": ["rouge", "grün", "青"]}, "minItems": 2},
    {"anyOf": [{"type": "number", "minimum": -0.5, "maximum": 0.5}, {"type": "string", "maxLength": 8}]},
    {
        "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}},
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/tree"}},
        "required": ["root"],
        "additionalProperties": False,
    },
]


@pytest.mark.parametrize("schema", _EVERYDAY)
def test_everyday_schemas_give_whole_answers(speaker: Speaker, schema: dict[str, Any]) -> None:
    constraint = speaker.constraint(schema)
    answers = [speaker.answer(constraint.copy(), seed) for seed in range(12)]
    whole = [json.loads(answer) for answer in answers if answer is not None]
    assert len(whole) >= 9
    assert all(is_valid(value, schema) for value in whole)


def test_any_json_object_is_one(speaker: Speaker) -> None:
    constraint = speaker.compiler.compile(Grammar(GrammarKind.JSON_OBJECT))
    answers = [speaker.answer(constraint.copy(), seed) for seed in range(12)]
    assert any(answers)
    assert all(isinstance(json.loads(answer), dict) for answer in answers if answer is not None)


@pytest.mark.parametrize("text", ["é", "日本語", "😀👍🏽", 'a"b\\c/', "\u2028", "tab\tline\nend"])
def test_any_text_can_be_said(speaker: Speaker, text: str) -> None:
    tokenizer = Tokenizer.from_file(str(_FOLDER / "tokenizer.json"))
    constraint = speaker.constraint({"const": text})
    said = json.dumps(text, ensure_ascii=False)
    assert speaker.answer(constraint.copy(), 0) == said
    assert all(_takes(constraint, token) for token in tokenizer.encode(said, add_special_tokens=False).ids)
    assert constraint.is_over


def _takes(constraint: Constraint, token: int) -> bool:
    may = bool(constraint.mask()[token // 32] >> (token % 32) & 1)
    constraint.take(token)
    return may


def test_the_validator_of_these_tests_can_say_no() -> None:
    schema = {"type": "object", "properties": {"a": _integers(0, 3)}, "required": ["a"], "additionalProperties": False}
    assert is_valid({"a": 3}, schema)
    wrong: list[Any] = [{}, {"a": 4}, {"a": 1, "b": 1}, {"a": True}, {"a": 1.5}, []]
    assert not any(is_valid(value, schema) for value in wrong)
    assert not is_valid("abc", {"type": "string", "maxLength": 2})
    assert not is_valid(1, {"enum": [True, "1"]})
    assert not is_valid([1], {"type": "array", "minItems": 2})
    assert not is_valid(7, {"multipleOf": 2})
    assert not is_valid(1, {"exclusiveMinimum": 1})
    assert not is_valid(1, {"exclusiveMaximum": 1})
