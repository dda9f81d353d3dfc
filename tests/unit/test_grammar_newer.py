"""Forced calls of the families of 2025 and later: in the family's form, and read back as what they are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from foundry_lite.engine.reasoning import ReasoningState
from foundry_lite.generation import GenerationRequest, Grammar, GrammarKind
from tests.unit.grammar_support import is_valid, sample
from tests.unit.newer_dialect_templates import FAMILIES, TOKENS
from tests.unit.test_grammar_dialects import LIGHT, ONE, SEVERAL, STRICT, Model, asked

_FIT = '{"room": "küche", "level": 7}'
_PYTHON = 'light(room="küche", level=7)'
_FENCED = "light\n```json\n%s\n```"
_DEEPSEEK = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>%s<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
_SCHEMAS: dict[str, Any] = {"light": LIGHT.parameters, "stop": {"type": "object"}}

# By family, a call that fits.
CALLS = {
    "lfm2": f"<|tool_call_start|>[{_PYTHON}]<|tool_call_end|>",
    "minicpm": f"<|tool_call_start|>\n```python\n{_PYTHON}\n```\n<|tool_call_end|>",
    "olmo": f"<function_calls>\n{_PYTHON}\n</function_calls>",
    "deepseek": _DEEPSEEK % f"function<｜tool▁sep｜>{_FENCED % _FIT}",
    "deepseek-3.1": _DEEPSEEK % f"light<｜tool▁sep｜>{_FIT}",
    "hunyuan": f"<tool_calls><tool_call>{_FENCED % _FIT}</tool_call></tool_calls>",
    "jamba": f'<tool_calls>[{{"name": "light", "arguments": {_FIT}}}]</tool_calls>',
    "nemotron": f'<TOOLCALL>[{{"name": "light", "arguments": {_FIT}}}]</TOOLCALL>',
    "xlam": f'[{{"name": "light", "arguments": {_FIT}}}]',
    "internlm": f'<|action_start|><|plugin|>{{"name": "light", "parameters": {_FIT}}}<|action_end|>',
    "qwen-xml": "<tool_call>\n<function=light>\n<parameter=room>\nküche\n</parameter>\n"
    "<parameter=level>\n7\n</parameter>\n</function>\n</tool_call>",
    "seed": "<seed:tool_call>\n<function=light>\n<parameter=room>küche</parameter>\n<parameter=level>7</parameter>\n"
    "</function>\n</seed:tool_call>",
    "minicpm-xml": '<function name="light"><param name="room">küche</param><param name="level">7</param></function>',
    "glm": "<tool_call>light\n<arg_key>room</arg_key>\n<arg_value>küche</arg_value>\n<arg_key>level</arg_key>\n"
    "<arg_value>7</arg_value>\n</tool_call>",
    "gpt-oss": f"<|channel|>commentary to=functions.light <|constrain|>json<|message|>{_FIT}",
}
WRITTEN = list(CALLS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return {
        family: Model(tmp_path_factory.mktemp(family), family, templates[0], TOKENS[family])
        for family, templates in FAMILIES.items()
    }


@pytest.mark.parametrize("family", WRITTEN)
def test_a_forced_call_is_in_the_form_of_the_family(models: dict[str, Model], family: str) -> None:
    model, call = models[family], CALLS[family]
    assert model.accepts(asked(choice=ONE), call)
    assert not model.accepts(asked(choice=ONE), call.replace("küche", "bath"))
    assert not model.accepts(asked(choice=ONE), "No.")
    text, calls, _ = model.read(asked(choice=ONE), model.text.encode_text(call))
    assert (text, [(one.name, json.loads(one.arguments)) for one in calls]) == ("", [("light", json.loads(_FIT))])


@pytest.mark.parametrize("family", WRITTEN)
def test_calls_of_strict_tools_follow_their_schema_and_other_text_is_free(
    models: dict[str, Model], family: str
) -> None:
    model, call = models[family], CALLS[family]
    for text in ("<|channel|>final<|message|>Hello.",) if family == "gpt-oss" else ("", "Hello.", call):
        assert model.accepts(asked(STRICT), text), text
    assert not model.accepts(asked(STRICT), call.replace("küche", "bath"))


@pytest.mark.parametrize("family", WRITTEN)
def test_whatever_is_drawn_is_read_back_as_calls_that_fit(models: dict[str, Model], family: str) -> None:
    model, request = models[family], asked(choice=SEVERAL)
    likely = [token for token in range(model.width) if model.text.token_bytes(token) in (b"}", b'"', b"]", b")", b"\n")]
    whole = 0
    for seed in range(4):
        random = np.random.default_rng(seed)

        def logits(random: np.random.Generator = random) -> np.ndarray[Any, np.dtype[np.float64]]:
            drawn = random.standard_normal(model.width)
            drawn[[*likely, model.eos]] += 4
            return drawn

        tokens, is_whole = sample(model.held(request), logits, {model.eos}, 400, seed)
        if is_whole:
            whole += 1
            text, calls, _ = model.read(request, tokens)
            assert not text.strip()
            assert calls
            assert all(is_valid(json.loads(call.arguments), _SCHEMAS[call.name]) for call in calls)
    assert whole


_THOUGHTS = "<|channel|>analysis<|message|>Hm, 1 < 2.<|end|><|start|>assistant"
_SAID = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
_FORM = Grammar(GrammarKind.JSON_OBJECT)


@pytest.mark.parametrize(
    ("request_", "body", "text"),
    [
        (asked(choice=ONE), CALLS["gpt-oss"], ""),
        (asked((), grammar=_FORM), '<|channel|>final<|message|>{"a": 1}', '{"a": 1}'),
        (asked(STRICT, grammar=_FORM), '<|channel|>final<|message|>{"a": 1}', '{"a": 1}'),
        (asked(STRICT, grammar=_FORM), CALLS["gpt-oss"], ""),
        (asked(STRICT), f"{_SAID}{CALLS['gpt-oss']}", "I look."),
        (asked(STRICT), "<|channel|>final<|message|>Yes.", "Yes."),
    ],
)
def test_channels_are_kept_where_an_answer_is_held_to_a_form(
    models: dict[str, Model], request_: GenerationRequest, body: str, text: str
) -> None:
    model = models["gpt-oss"]
    for thoughts, stage in (
        ("", ReasoningState.FREE),
        (_THOUGHTS, ReasoningState.FREE),
        (_THOUGHTS[30:], ReasoningState.INSIDE),
    ):
        answer = thoughts + body
        assert model.accepts(request_, answer, stage), (stage, answer)
        said, calls, reasoning = model.read(request_, model.text.encode_text(answer), stage)
        assert (said, bool(calls), bool(reasoning)) == (text, "functions" in body, bool(thoughts))
    assert not model.accepts(request_, '{"a": 1}', ReasoningState.FREE)
    if "küche" in body:
        assert not model.accepts(request_, body.replace("küche", "bath"), ReasoningState.FREE)
