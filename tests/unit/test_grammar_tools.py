"""Demanded tool calls: what is said under them can be read as calls of the chosen tools, with fitting arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from foundry_lite.engine.grammar.compiler import Constraint, GrammarCompiler
from foundry_lite.engine.reasoning import ReasoningState
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.tool_calls.parser import ToolCallParser
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Chat, GenerationRequest, Tool, ToolCall, ToolChoice, ToolMode, join_calls
from tests.tiny_model import install
from tests.unit.byte_tokenizer import write_text_model
from tests.unit.grammar_support import accepts, is_valid, sample

_EMBEDDED = Path(__file__).parents[2] / "foundry_lite" / "embedded" / "home-assistant" / "cpu-int4"

_LIGHT: dict[str, Any] = {
    "type": "object",
    "$defs": {"room": {"enum": ["kitchen", "küche"]}},
    "properties": {"room": {"$ref": "#/$defs/room"}, "level": {"type": "integer", "minimum": 0, "maximum": 100}},
    "required": ["room"],
    "additionalProperties": False,
}
_TOOLS = (Tool("light", parameters=_LIGHT), Tool("stop"), Tool("any", parameters={}))
_SCHEMAS = {"light": _LIGHT, "stop": {"type": "object"}, "any": {"type": "object"}}
_ONE = ToolChoice(ToolMode.REQUIRED, is_parallel=False)
_SEVERAL = ToolChoice(ToolMode.REQUIRED)


def _with_special_tags(folder: Path) -> Path:
    path = write_text_model(folder) / "tokenizer.json"
    raw = json.loads(path.read_bytes())
    for token in raw["added_tokens"]:
        token["special"] = True
    path.write_text(json.dumps(raw))
    return folder


class Model:
    """The text side of a model."""

    def __init__(self, folder: Path) -> None:
        self.text = TextModel(folder)
        self.width = self.text.vocabulary + 40
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.compiler = GrammarCompiler(folder, self.width, self.text.eos_ids)
        (self.eos,) = self.text.eos_ids

    def constraint(self, choice: ToolChoice, tools: tuple[Tool, ...] = _TOOLS) -> Constraint:
        constraint = self.constrain(tools, choice)
        assert constraint is not None
        return constraint

    def constrain(self, tools: tuple[Tool, ...], choice: ToolChoice) -> Constraint | None:
        request = GenerationRequest(Chat((), tools), tool_choice=choice)
        return self.compiler.constrain(request, self.text.voice, ReasoningState.OVER)

    def read(self, tokens: list[int]) -> tuple[str, tuple[ToolCall, ...]]:
        detokenizer, parser = self.text.detokenizer(), ToolCallParser()
        parsed = [parser.feed(detokenizer.feed(token)) for token in tokens]
        parsed += [parser.feed(detokenizer.flush()), parser.flush()]
        return "".join(one.text for one in parsed), join_calls(call for one in parsed for call in one.calls)


@pytest.fixture(scope="module", params=["text", "tokens", "special tokens", "embedded"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Tokenizers that have no token for the tags, that have one, that call it special; and the embedded model's."""
    folder = tmp_path_factory.mktemp("model")
    match request.param:
        case "text":
            return Model(install(folder, "tiny"))
        case "tokens":
            return Model(write_text_model(folder))
        case "special tokens":
            return Model(_with_special_tags(folder))
    return Model(_EMBEDDED)


_LIGHT_CALL = '<tool_call>{"name": "light", "arguments": {"room": "küche", "level": 7}}</tool_call>'
_STOP_CALL = '<tool_call>{"name": "stop", "arguments": {}}</tool_call>'


@pytest.mark.parametrize(
    ("text", "one", "several"),
    [
        (_LIGHT_CALL, True, True),
        ('<tool_call>\n{"name": "stop", "arguments": {"x": [1]}}\n</tool_call>', True, True),
        (f"{_STOP_CALL}\n{_LIGHT_CALL}\n{_STOP_CALL}", False, True),
        (_STOP_CALL + _LIGHT_CALL, False, True),
        (_STOP_CALL + "\n", False, True),  # as some templates end a turn
        ("", False, False),
        ("No.", False, False),
        ('<tool_call>{"name": "light", "arguments": {"level": 7}}</tool_call>', False, False),
        ('<tool_call>{"name": "light", "arguments": {"room": "bath"}}</tool_call>', False, False),
        ('<tool_call>{"name": "stop", "arguments": 3}</tool_call>', False, False),
        ('<tool_call>{"name": "none", "arguments": {}}</tool_call>', False, False),
    ],
)
def test_an_answer_is_one_call_or_several(model: Model, text: str, *, one: bool, several: bool) -> None:
    assert accepts(model.constraint(_ONE), model.tokenizer, text, model.eos) is one
    assert accepts(model.constraint(_SEVERAL), model.tokenizer, text, model.eos) is several


def test_only_the_chosen_tools_may_be_called(model: Model) -> None:
    choice = ToolChoice(ToolMode.REQUIRED, ("stop",))
    assert accepts(model.constraint(choice), model.tokenizer, _STOP_CALL, model.eos)
    assert not accepts(model.constraint(choice), model.tokenizer, _LIGHT_CALL, model.eos)


@pytest.mark.parametrize("choice", [_ONE, _SEVERAL])
def test_whatever_is_drawn_is_read_as_calls_that_fit(model: Model, choice: ToolChoice) -> None:
    tags = [token for token in range(model.width) if b"}" in model.text.token_bytes(token)]
    quotes = [token for token in range(model.width) if b'"' in model.text.token_bytes(token)]
    whole = 0
    for seed in range(20):
        random = np.random.default_rng(seed)

        def logits(random: np.random.Generator = random) -> np.ndarray[Any, np.dtype[np.float64]]:
            drawn = random.standard_normal(model.width)
            drawn[[*tags, *quotes, model.eos]] += 3
            return drawn

        tokens, is_whole = sample(model.constraint(choice), logits, {model.eos}, 400, seed)
        if is_whole:
            whole += 1
            text, calls = model.read(tokens)
            assert not text.strip(" \n")
            assert calls
            assert len(calls) == 1 or choice.is_parallel
            assert all(is_valid(json.loads(call.arguments), _SCHEMAS[call.name]) for call in calls)
    assert whole >= 10


@pytest.mark.parametrize("mode", [ToolMode.AUTO, ToolMode.NONE])
def test_nothing_is_demanded_where_a_call_is_not(model: Model, mode: ToolMode) -> None:
    assert model.constrain(_TOOLS, ToolChoice(mode)) is None


@pytest.mark.parametrize(
    ("tool", "named"),
    [
        (Tool("f", parameters={"properties": {"a": {"uniqueItems": True}}}), r"'f': \"uniqueItems\".*properties\.a"),
        (Tool("f", parameters={"type": "string"}), "'f' are no object"),
        (
            Tool("f", parameters={"properties": {"a": {"pattern": "("}}}),
            r"'f': \"pattern\" cannot be enforced \(at properties\.a\): invalid regex: unclosed group",
        ),
        (Tool("f", parameters={"description": "x" * 70_000}), "they may have 65536"),
    ],
)
def test_parameters_that_cannot_be_enforced_are_refused(model: Model, tool: Tool, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named) as refused:
        model.constrain((*_TOOLS, tool), _ONE)
    assert refused.value.param == "tools"


def test_an_argument_whose_type_is_nullable_may_be_null(model: Model) -> None:
    tool = Tool("f", parameters={"properties": {"a": {"type": "string", "nullable": True}}, "nullable": False})
    for value in ("null", '"b"'):
        text = f'<tool_call>{{"name": "f", "arguments": {{"a": {value}}}}}</tool_call>'
        assert accepts(model.constraint(_ONE, (tool,)), model.tokenizer, text, model.eos)


def test_a_call_must_have_a_tool(model: Model) -> None:
    with pytest.raises(InvalidRequest, match="none to choose from"):
        model.constrain((), _ONE)


def test_a_name_with_quotes_is_written_as_json(model: Model) -> None:
    constraint = model.constraint(_ONE, (Tool('say "é"\\'),))
    text = '<tool_call>{"name": "say \\"é\\"\\\\", "arguments": {}}</tool_call>'
    assert accepts(constraint, model.tokenizer, text, model.eos)
