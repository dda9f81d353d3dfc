"""Answers in channels: thoughts, text and calls told apart however they are cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_lite.engine.chat_template.template_file import shows_thoughts
from foundry_lite.engine.reasoning import ReasoningState
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.tool_calls.harmony import MARKS, ChannelSplitter
from foundry_lite.engine.worker.output_processor import begin_answer
from foundry_lite.generation import Chat, GenerationRequest, Message, Role, Tool, join_calls
from tests.unit.newer_dialect_templates import GPT_OSS, text_model

THOUGHT = "<|channel|>analysis<|message|>Hm, 1 < 2.<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>"
CALL = '<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>'

# An answer, the thoughts and the text in it.
ANSWERS = [
    (f"{THOUGHT}{FINAL}Yes.<|return|>", "Hm, 1 < 2.", "Yes."),
    (f"{THOUGHT}{FINAL}Yes.", "Hm, 1 < 2.", "Yes."),
    ("<|channel|>final<|message|>Yes.", "", "Yes."),
    (f"<|channel|>commentary<|message|>I look.<|end|>{CALL}", "", f"I look.{CALL}"),
    (f"{THOUGHT}{CALL}", "Hm, 1 < 2.", CALL),
    (CALL.removeprefix("<|start|>assistant"), "", CALL),
    (
        " to=functions.f<|channel|>commentary json<|message|>{}",
        "",
        "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}",
    ),
    (f"{THOUGHT}<|start|>assistant{THOUGHT}{FINAL}A<|end|>{FINAL}B", "Hm, 1 < 2.\n\nHm, 1 < 2.", "A\n\nB"),
    (f"<|channel|>analysis<|message|>Hm.{FINAL}Yes.", "Hm.", "Yes."),
    ("<|channel|>analysis<|message|>never ends <|", "never ends <|", ""),
    ("Yes, <b>.", "", "Yes, <b>."),
    ("<b>", "", "<b>"),
    (f"{THOUGHT}Yes.", "Hm, 1 < 2.", "Yes."),
    ("<|channel|>fin", "", ""),
    ("<|message|>A", "", "<|message|>A"),
    (f"<|start|>{'x' * 400}", "", f"<|start|>{'x' * 400}"),
    (f"<|channel|>{'x' * 289}<|message|>A", "", "A"),
    (f"<|channel|>{'x' * 290}<|message|>A", "", f"<|channel|>{'x' * 290}<|message|>A"),
    (f"<|channel|>{'x' * 400}", "", f"<|channel|>{'x' * 400}"),
    ("", "", ""),
]


def divide(pieces: list[str], stage: ReasoningState = ReasoningState.FREE) -> tuple[str, str]:
    splitter = ChannelSplitter(stage)
    parts = [splitter.feed(piece) for piece in pieces] + [splitter.flush()]
    return "".join(part.thought for part in parts), "".join(part.text for part in parts)


@pytest.mark.parametrize(("answer", "thought", "text"), ANSWERS)
def test_thoughts_and_text_are_told_apart(answer: str, thought: str, text: str) -> None:
    assert divide([answer]) == (thought, text)
    assert divide(list(answer)) == (thought, text)


@given(st.sampled_from(ANSWERS), st.data())
@settings(max_examples=40)
def test_any_cut_gives_the_same(case: tuple[str, str, str], data: st.DataObject) -> None:
    answer, thought, text = case
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=6)))
    bounds = [0, *cuts, len(answer)]
    assert divide([answer[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]) == (thought, text)


_PARTS = [*sorted(MARKS), "assistant", "analysis", "final", " to=functions.f", " ", "a", "<|", "{}", "x" * 150]


@given(st.lists(st.sampled_from(_PARTS), max_size=9), st.sampled_from([ReasoningState.FREE, ReasoningState.INSIDE]))
@settings(max_examples=50)
def test_marks_in_any_order_come_to_an_end_and_to_the_same_one(parts: list[str], stage: ReasoningState) -> None:
    """A header that was none led to itself for ever."""
    assert divide(["".join(parts)], stage) == divide(list("".join(parts)), stage) == divide(parts, stage)


def test_a_prompt_may_end_within_the_thoughts() -> None:
    assert divide([f"Hm.<|end|>{FINAL}Yes."], ReasoningState.INSIDE) == ("Hm.", "Yes.")


def test_nothing_is_held_back_but_what_may_be_a_mark() -> None:
    splitter = ChannelSplitter(ReasoningState.FREE)
    assert splitter.feed("<|channel|>analysis<|message|>Hm, 1 < 2").thought == "Hm, 1 < 2"
    assert splitter.feed(" <|e").thought == " "
    assert splitter.held == 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    return text_model(tmp_path_factory.mktemp("gpt-oss"), "gpt-oss")


def test_an_answer_has_its_thoughts_and_its_call(model: TextModel) -> None:
    request = GenerationRequest(Chat((), (Tool("f"),)), stop=("Hm",))
    told = begin_answer(request, model.voice, ReasoningState.FREE, model.detokenizer())
    tokens = model.encode_text(THOUGHT + CALL)
    parts = [told.feed(token) for token in tokens] + [told.flush()]
    (call,) = join_calls(call for part in parts for call in part.calls)
    assert (call.name, call.arguments) == ("f", '{"a": 1}')
    assert told.has_calls
    assert "".join(part.text for part in parts) == ""
    assert "".join(part.reasoning for part in parts) == "Hm, 1 < 2."
    assert told.reasoning_tokens == len(model.encode_text("<|message|>Hm, 1 < 2.<|end|>"))
    assert told.passed == told.made


def test_the_end_of_a_prompt_says_where_its_answer_begins(model: TextModel) -> None:
    prompt = model.encode_chat(Chat((Message(Role.USER, "hi"),)))
    assert model.stage(prompt) is ReasoningState.FREE
    assert model.stage([*prompt, *model.encode_text("<|channel|>analysis<|message|>")]) is ReasoningState.INSIDE


def test_the_list_of_models_says_that_it_reasons() -> None:
    assert shows_thoughts(GPT_OSS)


def test_a_completion_without_messages_has_no_channels(model: TextModel, tmp_path: Path) -> None:
    assert model.voice.thoughts(None) is None
