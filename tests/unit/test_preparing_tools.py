"""From a request to turns, as far as tools and thoughts are concerned: what the model is shown, and how a turn ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundry_lite.catalog.card import Defaults
from foundry_lite.engine.ipc.messages import Load
from foundry_lite.engine.sampling.sampler import Choice
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.worker.input_processor import InputProcessor, Limits
from foundry_lite.engine.worker.sequence import Turn
from foundry_lite.generation import (
    Chat,
    Delta,
    Finish,
    GenerationRequest,
    Message,
    Role,
    Text,
    Tool,
    ToolChoice,
    ToolMode,
    join_calls,
)
from tests.unit.dialect_templates import QWEN_THINKING, text_model

ASKED = (Message(Role.USER, "hi"),)
TOOLS = (Tool("light"), Tool("stop"))
CALL = '<tool_call>{"name": "light", "arguments": {"a": 1}}</tool_call>'


class Prepared:
    """A model that thinks and calls, up to its turns."""

    def __init__(self, folder: Path) -> None:
        self.text: TextModel = text_model(folder, "hermes", QWEN_THINKING)
        load = Load(str(folder), 1, 1, 1, 4096, Defaults(), 1 << 20, reproducible=False, speculation=0)
        self._preparer = InputProcessor(load, self.text, Limits(4096, self.text.vocabulary, 4, 0))

    def turn(self, request: GenerationRequest) -> Turn:
        (turn,) = self._preparer.prepare(1, request)
        return turn

    def prompt(self, request: GenerationRequest) -> str:
        return self.text.decode(self.turn(request).prompt)

    def say(self, request: GenerationRequest, answer: str, *, ends: bool = True) -> list[Delta]:
        turn, deltas = self.turn(request), []
        tokens = [*self.text.encode_text(answer), *(self.text.eos_ids if ends else ())]
        for token in tokens:
            deltas.append(turn.accept(Choice(token)))
            if deltas[-1].finish is not None:
                break
        return deltas


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    ("choice", "shown"),
    [
        (ToolChoice(), ["light", "stop"]),
        (ToolChoice(ToolMode.AUTO, ("stop",)), ["stop"]),
        (ToolChoice(ToolMode.REQUIRED, ("stop",)), ["light", "stop"]),
        (ToolChoice(ToolMode.NONE), []),
    ],
)
def test_a_model_is_shown_the_tools_it_may_call(model: Prepared, choice: ToolChoice, shown: list[str]) -> None:
    prompt = model.prompt(GenerationRequest(Chat(ASKED, TOOLS), tool_choice=choice))
    assert [tool.name for tool in TOOLS if f'"name": "{tool.name}"' in prompt] == shown


def test_a_tool_that_is_not_allowed_is_not_called(model: Prepared) -> None:
    request = GenerationRequest(Chat(ASKED, TOOLS), tool_choice=ToolChoice(ToolMode.AUTO, ("stop",)))
    deltas = model.say(request, CALL)
    assert "".join(delta.text for delta in deltas) == CALL
    assert deltas[-1].finish is Finish.STOP


def test_thoughts_a_call_and_the_count_of_both_come_with_a_turn(model: Prepared) -> None:
    deltas = model.say(GenerationRequest(Chat(ASKED, TOOLS)), f"<think>Hm.</think>{CALL}")
    last = deltas[-1]
    assert last.finish is Finish.TOOL_CALLS
    assert last.usage is not None
    assert last.usage.reasoning_tokens == 5
    assert "".join(delta.reasoning for delta in deltas) == "Hm."
    assert "".join(delta.text for delta in deltas) == ""
    (call,) = join_calls(call for delta in deltas for call in delta.calls)
    assert (call.name, call.arguments) == ("light", '{"a": 1}')
    assert sum(bool(call.id) for delta in deltas for call in delta.calls) == 1


@pytest.mark.parametrize(("ends", "finish"), [(True, Finish.STOP), (False, Finish.LENGTH)])
def test_a_turn_that_ends_within_a_call_keeps_what_there_is(model: Prepared, *, ends: bool, finish: Finish) -> None:
    answer = CALL[: CALL.index("1}}") + 1]
    most = len(model.text.encode_text(answer)) + ends
    deltas = model.say(GenerationRequest(Chat(ASKED, TOOLS), max_new_tokens=most), answer, ends=ends)
    assert deltas[-1].finish is finish
    (call,) = join_calls(call for delta in deltas for call in delta.calls)
    assert call.arguments == '{"a": 1'
    assert "".join(delta.text for delta in deltas) == ""


def test_a_turn_ends_behind_its_call_where_one_is_enough(model: Prepared) -> None:
    request = GenerationRequest(Chat(ASKED, TOOLS), tool_choice=ToolChoice(is_parallel=False))
    deltas = model.say(request, f"Well. {CALL}{CALL} more")
    assert deltas[-1].finish is Finish.TOOL_CALLS
    assert len(join_calls(call for delta in deltas for call in delta.calls)) == 1
    assert "".join(delta.text for delta in deltas) == "Well. "


def test_a_text_that_is_continued_has_neither_calls_nor_thoughts(model: Prepared) -> None:
    deltas = model.say(GenerationRequest(Text("x")), f"<think>a</think>{CALL}")
    assert "".join(delta.text for delta in deltas) == f"<think>a</think>{CALL}"
    assert not any(delta.calls or delta.reasoning for delta in deltas)
