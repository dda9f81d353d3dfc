"""Thoughts: taken out of an answer however it is cut, counted, and left alone by stop strings and tool calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_lite.engine.reasoning import KNOWN, ReasoningParser, ReasoningState, Tags, recognise_tags, stage_of
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.worker.output_processor import begin_answer
from foundry_lite.generation import Chat, GenerationRequest, Message, Role, Sampling, Text, Tool, join_calls
from tests.unit.dialect_templates import ALWAYS_THINKING, GEMMA4, QWEN, QWEN_THINKING, SMOLLM, TOKENS, text_model

THINK, MISTRAL, GEMMA = KNOWN[:3]
RESPONSE = THINK._replace(answer="<response>", end="</response>")  # Granite 3.3, ERNIE 4.5
APRIEL = Tags("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]")
SPOKEN = Tags("Here is my thought process:", "Here is my response:")  # Granite 3.2

ANSWERS: list[tuple[Tags, ReasoningState, str, str, str]] = [
    (THINK, ReasoningState.FREE, "<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes."),
    (THINK, ReasoningState.FREE, "\n<think>a\n\nb</think>Yes.\n", "a\n\nb", "Yes.\n"),
    (THINK, ReasoningState.FREE, "<think>\n\n</think>\n\nYes.", "", "Yes."),
    (THINK, ReasoningState.FREE, "Yes.", "", "Yes."),
    (THINK, ReasoningState.FREE, "</think>\n\nYes.", "", "Yes."),
    (THINK, ReasoningState.FREE, "</thin", "", "</thin"),
    (THINK, ReasoningState.FREE, "  Yes, <think>no</think>.", "", "  Yes, <think>no</think>."),
    (THINK, ReasoningState.FREE, "<think>never ends ", "never ends", ""),
    (THINK, ReasoningState.FREE, "<think>a </thin b</thinkk></think>c</think>", "a </thin b</thinkk>", "c</think>"),
    (THINK, ReasoningState.FREE, "<thi", "", "<thi"),
    (THINK, ReasoningState.FREE, "", "", ""),
    (THINK, ReasoningState.INSIDE, "\nHm.\n</think>\n\nYes.", "Hm.", "Yes."),
    (THINK, ReasoningState.INSIDE, "Hm.</thi", "Hm.</thi", ""),
    (THINK, ReasoningState.OVER, "\n\nYes.", "", "Yes."),
    (THINK, ReasoningState.OVER, "<think>x</think>", "", "<think>x</think>"),
    (MISTRAL, ReasoningState.FREE, "[THINK]Hm.[/THINK]Yes.", "Hm.", "Yes."),
    (GEMMA, ReasoningState.FREE, "<|channel>thought\nHm.\n<channel|>Yes.", "Hm.", "Yes."),
    (GEMMA, ReasoningState.FREE, "<|channel>thoughtful<channel|>Yes.", "ful", "Yes."),
    (GEMMA, ReasoningState.FREE, "<|channel>thorn<channel|>Yes.", "thorn", "Yes."),
    (GEMMA, ReasoningState.INSIDE, "thought\nHm.<channel|>Yes.", "Hm.", "Yes."),
    (RESPONSE, ReasoningState.FREE, "<think>Hm.</think>\n<response>\nYes, <b>.\n</response>\n", "Hm.", "Yes, <b>."),
    (RESPONSE, ReasoningState.FREE, "<think>Hm.</think>Yes.</response>", "Hm.", "Yes.</response>"),
    (RESPONSE, ReasoningState.FREE, "Yes, <response>no</response>.", "", "Yes, <response>no</response>."),
    (RESPONSE, ReasoningState.FREE, "<response>Yes.\n\n", "", "Yes.\n\n"),
    (RESPONSE, ReasoningState.INSIDE, "Hm.</think><response>Yes.</resp", "Hm.", "Yes.</resp"),
    (RESPONSE, ReasoningState.INSIDE, "Hm.</think>\n<resp", "Hm.", "<resp"),
    (RESPONSE, ReasoningState.OVER, "<response>A</response>\n<tool_call>", "", "A<tool_call>"),
    (SPOKEN, ReasoningState.FREE, "Here is my thought process:\nHm.\n\nHere is my response:\nYes.", "Hm.", "Yes."),
    (SPOKEN, ReasoningState.FREE, "Here is a list.", "", "Here is a list."),
]


def divide(tags: Tags, stage: ReasoningState, pieces: list[str]) -> tuple[str, str]:
    splitter = ReasoningParser(tags, stage)
    parts = [splitter.feed(piece) for piece in pieces] + [splitter.flush()]
    return "".join(part.thought for part in parts), "".join(part.text for part in parts)


@pytest.mark.parametrize(("tags", "stage", "answer", "thought", "text"), ANSWERS)
def test_thoughts_and_text_are_told_apart(
    tags: Tags, stage: ReasoningState, answer: str, thought: str, text: str
) -> None:
    assert divide(tags, stage, [answer]) == (thought, text)
    assert divide(tags, stage, list(answer)) == (thought, text)


@given(st.sampled_from(ANSWERS), st.data())
@settings(max_examples=60)
def test_any_cut_gives_the_same(case: tuple[Tags, ReasoningState, str, str, str], data: st.DataObject) -> None:
    tags, stage, answer, thought, text = case
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=5)))
    bounds = [0, *cuts, len(answer)]
    pieces = [answer[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    assert divide(tags, stage, pieces) == (thought, text)


def test_thoughts_are_not_held_back() -> None:
    splitter = ReasoningParser(THINK, ReasoningState.INSIDE)
    assert splitter.feed("Hm, 1 < 2").thought == "Hm, 1 < 2"


@pytest.mark.parametrize("tags", [THINK, RESPONSE])
@pytest.mark.parametrize("begun", ["", "<think>a", "<response>a"])
def test_white_space_without_end_is_not_held_back_for_ever(begun: str, tags: Tags) -> None:
    """It was looked at anew with each letter: a model that writes line ends alone took more time with every one."""
    splitter, longest = ReasoningParser(tags, ReasoningState.FREE), 0
    for letter in begun + "\n" * 5_000:
        splitter.feed(letter)
        longest = max(longest, splitter.held)
    assert longest < 1_100


@pytest.mark.parametrize(
    ("template", "tokens", "tags"),
    [
        (QWEN_THINKING, (), THINK),
        (ALWAYS_THINKING, (), THINK),
        (SMOLLM, (), THINK),
        (GEMMA4, (), GEMMA),
        ("", ("[THINK]", "[/THINK]"), MISTRAL),
        (QWEN, ("<think>", "</think>"), THINK),
        (QWEN, ("<think>",), None),
        ("assistant\n<think>", (), THINK),
        (
            "</think>' in content %}<answer>{{ content.split('</answer>')",
            (),
            THINK._replace(answer="<answer>", end="</answer>"),
        ),
        ("use <think></think> and <response></response>", (), RESPONSE),
        ("write it after 'Here is my thought process:' and then 'Here is my response:'", (), SPOKEN),
        ("[|assistant|]<thought>\n", (), Tags("<thought>", "</thought>")),
        ("<|thought_start|>\n{explain}\n<|thought_end|>", (), Tags("<|thought_start|>", "<|thought_end|>")),
        ("begin with 'Here are my reasoning steps:', and then [BEGIN FINAL RESPONSE]", (), APRIEL),
        ("{{ '<mm:think>' + thought + '</mm:think>' }}", (), Tags("<mm:think>", "</mm:think>")),
        (QWEN, (), None),
    ],
)
def test_a_model_thinks_when_its_template_or_its_tokens_say_so(
    template: str, tokens: tuple[str, ...], tags: Tags | None
) -> None:
    assert recognise_tags(template, tokens) == tags


@pytest.mark.parametrize(
    ("end", "tags", "stage"),
    [
        ("assistant\n", THINK, ReasoningState.FREE),
        ("assistant\n<think>\n", THINK, ReasoningState.INSIDE),
        ("assistant\n<think>\n\n</think>\n\n", THINK, ReasoningState.OVER),
        ("model\n<|channel>thought\n", GEMMA, ReasoningState.INSIDE),
        ("model\n<|channel>", GEMMA, ReasoningState.INSIDE),
        ("assistant\nHere are my reasoning steps:\n", APRIEL, ReasoningState.INSIDE),
    ],
)
def test_the_end_of_a_prompt_says_where_its_answer_begins(end: str, tags: Tags, stage: ReasoningState) -> None:
    assert stage_of(end, tags) is stage


ASKED = (Message(Role.USER, "<think>"),)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    return text_model(tmp_path_factory.mktemp("qwen"), "hermes", QWEN_THINKING)


def test_a_template_that_opens_or_closes_the_thoughts_is_noticed(qwen: TextModel, tmp_path: Path) -> None:
    always = text_model(tmp_path, "hermes", ALWAYS_THINKING)
    assert qwen.stage(qwen.encode_chat(Chat(ASKED))) is ReasoningState.FREE
    assert qwen.stage(qwen.encode_chat(Chat(ASKED, reasoning_effort="none"))) is ReasoningState.OVER
    assert always.stage(always.encode_chat(Chat(ASKED))) is ReasoningState.INSIDE


CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def told(
    model: TextModel, request: GenerationRequest, answer: str, stage: ReasoningState | None
) -> tuple[str, str, int, int]:
    """The text and the thoughts of an answer, its calls, and the tokens of the thoughts."""
    begun = begin_answer(request, model.voice, stage, model.detokenizer())
    parts = []
    for token in model.encode_text(answer):
        parts.append(begun.feed(token))
        if begun.is_stopped:
            break
    parts.append(begun.flush())
    calls = join_calls(call for part in parts for call in part.calls)
    assert begun.passed <= begun.made
    text, thought = "".join(part.text for part in parts), "".join(part.reasoning for part in parts)
    return text, thought, len(calls), begun.reasoning_tokens


def test_calls_within_thoughts_are_thoughts(qwen: TextModel) -> None:
    request = GenerationRequest(Chat(ASKED, (Tool("f"),)))
    text, thought, calls, _ = told(qwen, request, f"<think>{CALL}</think>{CALL}", ReasoningState.FREE)
    assert (text, thought, calls) == ("", CALL, 1)


def test_stop_strings_are_looked_for_in_the_text_alone(qwen: TextModel) -> None:
    request = GenerationRequest(Chat(ASKED), stop=("STOP",))
    text, thought, _, _ = told(qwen, request, "<think>a STOP b</think>c STOP d", ReasoningState.FREE)
    assert (text, thought) == ("c ", "a STOP b")


def test_tokens_of_thoughts_are_counted(qwen: TextModel) -> None:
    request = GenerationRequest(Chat(ASKED))
    assert told(qwen, request, "<think>abc</think>de", ReasoningState.FREE)[3] == 5  # the letters and both tags
    assert told(qwen, request, "abc</think>de", ReasoningState.INSIDE)[3] == 4
    assert told(qwen, request, "de", ReasoningState.FREE)[3] == 0


def test_a_text_that_is_continued_has_no_thoughts(qwen: TextModel) -> None:
    text, thought, _, count = told(qwen, GenerationRequest(Text("x")), "<think>a</think>b", None)
    assert (text, thought, count) == ("<think>a</think>b", "", 0)


def test_the_first_tokens_that_stop_strings_spare_may_be_thoughts(qwen: TextModel) -> None:
    request = GenerationRequest(Chat(ASKED), Sampling(min_tokens=100), stop=("b",))
    assert told(qwen, request, "<think>a</think>b", ReasoningState.FREE)[:2] == ("b", "a")


def test_what_has_passed_counts_every_character_of_the_answer(qwen: TextModel) -> None:
    """Logprobs are told by it: those of thoughts too, and those of a stop string not."""
    answer = begin_answer(
        GenerationRequest(Chat(ASKED), stop=("STOP",)), qwen.voice, ReasoningState.FREE, qwen.detokenizer()
    )
    passed = []
    for token in qwen.encode_text("<think>ab</think>\nc STxSTOP"):
        answer.feed(token)
        passed.append(answer.passed)
    begin = len("<think>")
    assert passed[:4] == [begin, begin + 1, begin + 2, begin + 2 + len("</think>")]
    assert passed[-1] == len("<think>ab</think>\nc STx")


def test_thoughts_of_the_history_go_to_a_template_that_asks_for_them(qwen: TextModel, tmp_path: Path) -> None:
    chat = Chat((*ASKED, Message(Role.ASSISTANT, "Yes.", reasoning="Hm. <|im_end|>"), *ASKED))
    assert "<think>\nHm. <|im_end|>\n</think>\n\nYes." in qwen.decode(qwen.encode_chat(chat))
    plain = text_model(tmp_path, "hermes", QWEN, TOKENS["hermes"])
    assert "Hm." not in plain.decode(plain.encode_chat(chat))
