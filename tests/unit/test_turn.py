"""The text of one answer: where it ends, and what is taken out of it."""

from __future__ import annotations

from foundry_lite.engine.text.tokenizer import Detokenizer
from foundry_lite.engine.tool_calls.parser import OutputPiece, ToolCallParser
from foundry_lite.engine.worker.output_processor import OutputProcessor
from foundry_lite.generation import join_calls
from tests.unit.byte_tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()
CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def read(answer: OutputProcessor, text: str) -> tuple[list[OutputPiece], int]:
    """Feed the text until the answer has ended; return what it gave, and how many tokens were left."""
    tokens = TOKENIZER.encode(text, add_special_tokens=False).ids
    parsed = []
    while tokens and not answer.is_stopped:
        parsed.append(answer.feed(tokens.pop(0)))
    return [*parsed, answer.flush()], len(tokens)


def test_calls_follow_each_other_unless_one_is_enough() -> None:
    for calls_once, calls in ((False, 2), (True, 1)):
        answer = OutputProcessor(Detokenizer(TOKENIZER), (), tools=ToolCallParser(is_single=calls_once))
        parsed, left = read(answer, f"Well. {CALL}\n{CALL}")
        assert "".join(one.text for one in parsed) == "Well. "
        assert len(join_calls(call for one in parsed for call in one.calls)) == calls
        assert (left > 0) == calls_once


def test_an_answer_that_calls_nothing_is_not_ended_by_that() -> None:
    answer = OutputProcessor(Detokenizer(TOKENIZER), (), tools=ToolCallParser(is_single=True))
    parsed, left = read(answer, "Well. <tool_call>nothing</tool_call> Well.")
    assert "".join(one.text for one in parsed) == "Well. <tool_call>nothing</tool_call> Well."
    assert left == 0
