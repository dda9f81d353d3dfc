"""Held answers by family: forced calls, strict tools in free text, a format beside tools, and thoughts before them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from foundry_lite.engine.grammar.compiler import Constraint, GrammarCompiler
from foundry_lite.engine.reasoning import ReasoningState
from foundry_lite.engine.worker.output_processor import begin_answer
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import (
    Chat,
    GenerationRequest,
    Grammar,
    GrammarKind,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    join_calls,
)
from tests.unit.dialect_templates import FAMILIES, QWEN_THINKING, TOKENS, text_model
from tests.unit.grammar_support import accepts, allowed, follow, is_valid, sample

_LIGHT: dict[str, Any] = {
    "type": "object",
    "properties": {"room": {"enum": ["kitchen", "küche"]}, "level": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["room"],
    "additionalProperties": False,
}
LIGHT, STOP = Tool("light", parameters=_LIGHT), Tool("stop")
STRICT = (Tool("light", parameters=_LIGHT, strict=True), STOP)
_SCHEMAS: dict[str, Any] = {"light": _LIGHT, "stop": {"type": "object"}}
AUTO = ToolChoice()
ONE = ToolChoice(ToolMode.REQUIRED, is_parallel=False)
SEVERAL = ToolChoice(ToolMode.REQUIRED)
WRITTEN = sorted(FAMILIES)

# By family: a call, whose arguments fit, or do not.
_FIT, _MISFIT = '{"room": "küche", "level": 7}', '{"room": "bath"}'
CALLS = {
    "hermes": '<tool_call>\n{"name": "light", "arguments": %s}\n</tool_call>',
    "smollm": '<tool_call>{"name": "light", "arguments": %s}</tool_call>',
    "llama": '{"name": "light", "parameters": %s}',
    "mistral": '[TOOL_CALLS] [{"name": "light", "arguments": %s}]',
    "mistral-named": "[TOOL_CALLS]light[ARGS]%s",
    "phi": '<|tool_call|>[{"name": "light", "arguments": %s}]<|/tool_call|>',
    "phi-functools": 'functools[{"name": "light", "arguments": %s}]',
    "granite": '<|tool_call|>[{"name": "light", "arguments": %s}]',
    "gemma": '{"name": "light", "parameters": %s}',
    "llama-python": "[light(%s)]",
    "gemma-python": "[light(%s)]",
    "function-gemma": "<start_function_call>call:light{%s}<end_function_call>",
    "gemma4": "<|tool_call>call:light{%s}<tool_call|>",
}
_KEYWORDS = ('room="küche", level=7', 'room="bath"')
ARGUMENTS = {  # of those that do not write JSON
    "llama-python": _KEYWORDS,
    "gemma-python": _KEYWORDS,
    "function-gemma": ("level:7,room:<escape>küche<escape>", "room:<escape>bath<escape>"),
    "gemma4": ('level:7,room:<|"|>küche<|"|>', 'room:<|"|>bath<|"|>'),
}
ALONE = ("llama", "llama-python", "gemma", "gemma-python")  # whose calls have no mark


def called(family: str) -> tuple[str, str]:
    """A fitting call, and one whose arguments do not fit."""
    call = CALLS.get(family, CALLS["hermes"])
    fit, misfit = ARGUMENTS.get(family, (_FIT, _MISFIT))
    return call % fit, call % misfit


class Model:
    """The text side of a model of a family."""

    def __init__(self, folder: Path, family: str, template: str | None = None, tokens: dict[str, bool] | None = None):
        self.text = text_model(folder, family, template, tokens)
        self.width = self.text.vocabulary
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.compiler = GrammarCompiler(folder, self.width, self.text.eos_ids)
        (self.eos,) = self.text.eos_ids

    def held(self, request: GenerationRequest, stage: ReasoningState | None = ReasoningState.OVER) -> Constraint:
        constraint = self.compiler.constrain(request, self.text.voice, stage)
        assert constraint is not None
        return constraint

    def accepts(self, request: GenerationRequest, text: str, stage: ReasoningState = ReasoningState.OVER) -> bool:
        return accepts(self.held(request, stage), self.tokenizer, text, self.eos)

    def read(
        self, request: GenerationRequest, tokens: list[int], stage: ReasoningState = ReasoningState.OVER
    ) -> tuple[str, tuple[ToolCall, ...], str]:
        answer = begin_answer(request, self.text.voice, stage, self.text.detokenizer())
        parts = [answer.feed(token) for token in tokens] + [answer.flush()]
        calls = join_calls(call for part in parts for call in part.calls)
        return "".join(part.text for part in parts), calls, "".join(part.reasoning for part in parts)


def asked(
    tools: tuple[Tool, ...] = (LIGHT, STOP), choice: ToolChoice = AUTO, grammar: Grammar | None = None
) -> GenerationRequest:
    return GenerationRequest(Chat((), tools), tool_choice=choice, grammar=grammar)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """A model of each family, and one of Qwen's whose tags are no tokens."""
    models = {family: Model(tmp_path_factory.mktemp(family), family) for family in FAMILIES}
    models["letters"] = Model(tmp_path_factory.mktemp("letters"), "hermes", tokens={})
    models["thinking"] = Model(tmp_path_factory.mktemp("thinking"), "hermes", QWEN_THINKING)
    spelt = {"<tool_call>": True, "</tool_call>": True}
    models["thinking in letters"] = Model(tmp_path_factory.mktemp("spelt"), "hermes", QWEN_THINKING, spelt)
    return models


@pytest.mark.parametrize("family", WRITTEN)
def test_a_forced_call_is_in_the_form_of_the_family(models: dict[str, Model], family: str) -> None:
    model, (fit, misfit) = models[family], called(family)
    assert model.accepts(asked(choice=ONE), fit)
    assert not model.accepts(asked(choice=ONE), misfit)
    assert not model.accepts(asked(choice=ONE), "No.")
    assert not model.accepts(asked(choice=ONE), "")
    assert not model.accepts(asked(choice=ToolChoice(ToolMode.REQUIRED, ("stop",))), fit)


@pytest.mark.parametrize("choice", [ONE, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize("family", WRITTEN)
def test_whatever_is_drawn_is_read_back_as_calls_that_fit(
    models: dict[str, Model], family: str, choice: ToolChoice
) -> None:
    model = models[family]
    likely = [token for token in range(model.width) if model.text.token_bytes(token) in (b"}", b'"', b"]", b")")]
    request, whole, most = asked(choice=choice), 0, 0
    for seed in range(5):
        random = np.random.default_rng(seed)

        def logits(random: np.random.Generator = random) -> np.ndarray[Any, np.dtype[np.float64]]:
            drawn = random.standard_normal(model.width)
            drawn[[*likely, *model.text.voice.tokens.values(), model.eos]] += 4
            return drawn

        tokens, is_whole = sample(model.held(request), logits, {model.eos}, 300, seed)
        if is_whole:
            whole += 1
            text, calls, _ = model.read(request, tokens)
            assert not text.strip()
            assert all(is_valid(json.loads(call.arguments), _SCHEMAS[call.name]) for call in calls)
            most = max(most, len(calls))
            assert len(calls) == 1 or (calls and choice.is_parallel)
    assert whole >= 2
    assert most >= 1


@pytest.mark.parametrize("family", [*WRITTEN, "letters"])
def test_calls_of_strict_tools_follow_their_schema_and_other_text_is_free(
    models: dict[str, Model], family: str
) -> None:
    model, request, (fit, misfit) = models[family], asked(STRICT), called(family)
    for text in ("", "Hello.", "1 < 2 and [3] {4}", fit):
        assert model.accepts(request, text), text
    assert not model.accepts(request, misfit)
    if family not in ALONE:
        assert model.accepts(request, f"Well, {fit}")
        assert not model.accepts(request, f"Well, {misfit}")
    text, calls, _ = model.read(request, model.text.encode_text(fit))
    assert (text, [one.name for one in calls]) == ("", ["light"])


@pytest.mark.parametrize(("family", "mark"), [("hermes", "<tool_call>"), ("mistral", "[TOOL_CALLS]")])
def test_a_tag_cannot_be_spelt_to_get_round_a_schema(models: dict[str, Model], family: str, mark: str) -> None:
    """The parser reads letters; where the tag is a token, its last letter must not come."""
    constraint = models[family].held(asked(STRICT))
    for letter in mark[:-1].encode():
        assert letter in allowed(constraint)
        constraint.take(letter)
    assert ord(mark[-1]) not in allowed(constraint)


def test_arguments_of_tools_that_are_not_strict_are_free(models: dict[str, Model]) -> None:
    call = '<tool_call>{"name": "stop", "arguments": {"x": [1]}}</tool_call>'
    assert models["hermes"].accepts(asked(STRICT), call)
    assert not models["hermes"].accepts(asked(STRICT), call.replace("stop", "none"))


def test_without_strict_tools_nothing_is_held(models: dict[str, Model]) -> None:
    assert models["hermes"].compiler.constrain(asked(), models["hermes"].text.voice, ReasoningState.OVER) is None


FORMATS = [
    (Grammar(GrammarKind.JSON_OBJECT), '{"a": 1}', "Hello."),
    (Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object", "required": ["a"]}'), '{"a": 1}', "{}"),
    (Grammar(GrammarKind.REGEX, "[a-c]/+", "guided_regex"), "b//", "d/"),
    (Grammar(GrammarKind.LARK, 'start: call\ncall: "x"+', "guided_grammar"), "xx", "y"),
]


@pytest.mark.parametrize(
    "family",
    [*("hermes", "letters", "llama", "llama-python", "mistral", "mistral-named", "phi", "granite"), "gemma4"],
)
@pytest.mark.parametrize(("form", "fits", "misfits"), FORMATS, ids=[form.kind for form, _, _ in FORMATS])
def test_beside_tools_an_answer_is_calls_or_has_its_form(
    models: dict[str, Model], family: str, form: Grammar, fits: str, misfits: str
) -> None:
    model, request = models[family], asked(STRICT, grammar=form)
    fit, misfit = (f"{'<|python_tag|>' if family in ALONE else ''}{call}" for call in called(family))
    assert model.accepts(request, fits)
    assert not model.accepts(request, misfits)
    assert model.accepts(request, fit)
    assert not model.accepts(request, misfit)
    assert not model.accepts(request, f"{fits}{fit}")
    assert [call.name for call in model.read(request, model.text.encode_text(fit))[1]] == ["light"]


@pytest.mark.parametrize("family", ["gemma", "gemma-python"])
def test_a_form_that_calls_cannot_be_told_from_is_refused(models: dict[str, Model], family: str) -> None:
    with pytest.raises(InvalidRequest, match="could not be told from an answer of that form") as refused:
        models[family].held(asked(grammar=Grammar(GrammarKind.JSON_OBJECT)))
    assert refused.value.param == "response_format"


@pytest.mark.parametrize("family", ["thinking", "thinking in letters"])
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (asked((), grammar=Grammar(GrammarKind.JSON_OBJECT)), '{"a": 1}'),
        (asked(choice=ONE), CALLS["hermes"] % _FIT),
        (asked(STRICT), CALLS["hermes"] % _FIT),
        (asked(STRICT, grammar=Grammar(GrammarKind.JSON_OBJECT)), '{"a": 1}'),
    ],
    ids=["a format", "a forced call", "strict tools", "a format beside tools"],
)
def test_what_is_demanded_begins_behind_the_thoughts(
    models: dict[str, Model], family: str, request_: GenerationRequest, answer: str
) -> None:
    model, thought = models[family], 'Hm, {"a": or <tool_ca'
    stages = {
        ReasoningState.FREE: [answer, f"<think>\n{thought}\n</think>\n\n{answer}"],
        ReasoningState.INSIDE: [f"{thought}</think>\n\n{answer}"],
        ReasoningState.OVER: [answer],
    }
    for stage, texts in stages.items():
        for text in texts:
            assert model.accepts(request_, text, stage), (stage, text)
            said, calls, reasoning = model.read(request_, model.text.encode_text(text), stage)
            assert reasoning == (thought if "</think>" in text else "")
            assert (said, bool(calls)) == ((answer, False) if answer[0] == "{" else ("", True))
    misfit = CALLS["hermes"] % _MISFIT
    assert not model.accepts(request_, f"{thought}</think>{misfit}", ReasoningState.INSIDE)


def test_no_grammar_begins_before_thoughts_in_a_text_that_is_continued(models: dict[str, Model]) -> None:
    """A completion without messages has no thoughts."""
    request = GenerationRequest(Chat((), None), grammar=Grammar(GrammarKind.JSON_OBJECT))
    constraint = models["thinking"].held(request, None)
    assert not follow(constraint, models["thinking"].tokenizer, "<think>")


def test_every_token_of_the_families_tests_is_one(models: dict[str, Model]) -> None:
    for family, tokens in TOKENS.items():
        assert all(len(models[family].text.encode_text(token)) == 1 for token in tokens)
