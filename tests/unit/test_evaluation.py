"""The user's cases: what a file may say, and which answers pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundry_lite.conversion.evaluate.cases import Case, Comparison, passes, read_cases
from foundry_lite.conversion.evaluate.reference import as_question
from foundry_lite.errors import BadSetting
from foundry_lite.generation import Role, ToolCall

TOOL = {"type": "function", "function": {"name": "dim", "parameters": {"type": "object"}}}


def read(folder: Path, *lines: Any) -> tuple[Case, ...]:
    path = folder / "cases.jsonl"
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines), encoding="utf-8")
    return read_cases(path)


def case(folder: Path, **fields: Any) -> Case:
    return read(folder, {"prompt": "?", **fields})[0]


@pytest.mark.parametrize(
    ("expected", "tools", "check"),
    [
        ("yes", None, "exact"),
        (4, None, "number"),
        (4.5, None, "number"),
        (True, None, "json"),
        ({"a": 1}, None, "json"),
        ({"name": "dim", "arguments": {}}, [TOOL], "tool_call"),
        ([{"name": "dim", "arguments": {}}], [TOOL], "tool_call"),
        ({"name": "dim", "arguments": {}}, None, "json"),
        ([], [TOOL], "json"),
        (None, None, "json"),
    ],
)
def test_how_an_answer_is_compared_follows_from_what_is_expected(
    tmp_path: Path, expected: Any, tools: Any, check: str
) -> None:
    assert case(tmp_path, expected=expected, tools=tools).check == check


@pytest.mark.parametrize(
    ("check", "expected", "answer", "right"),
    [
        ("exact", "Paris", " Paris\n", True),
        ("exact", "Paris", "Paris.", False),
        ("contains", "Paris", "It is Paris.", True),
        ("contains", "Paris", "It is paris.", False),
        ("regex", r"^\d{4}$", "1969", True),
        ("regex", r"^\d{4}$", "in 1969", False),
        ("number", 42, "6 times 7 is 42.", True),
        ("number", 42, "42 is 6 times 7", False),
        ("number", 1234.5, "It costs 1,234.50 euros", True),
        ("number", -3, "x = -3", True),
        ("number", 3, "the years 10-3", True),
        ("number", 42, "forty-two", False),
        ("number", "0.5", "so .5", True),
        ("json", {"a": [1, 2.0]}, '{ "a": [1.0, 2] }', True),
        ("json", {"a": 1}, '```json\n{"a": 1}\n```', True),
        ("json", {"a": 1}, '{"a": true}', False),
        ("json", {"a": 1}, '{"a": 1, "b": 2}', False),
        ("json", [1], "[1", False),
        ("json", "x", '"x"', True),
    ],
)
def test_a_text_is_compared_as_its_case_says(
    tmp_path: Path, check: str, expected: Any, answer: str, right: bool
) -> None:
    assert passes(case(tmp_path, expected=expected, check=check), answer, ()) is right


@pytest.mark.parametrize(
    ("calls", "right"),
    [
        ([("dim", '{"level": 5}')], True),
        ([("dim", '{"level": 5.0}')], True),
        ([("dim", '{"level": "5"}')], False),
        ([("bright", '{"level": 5}')], False),
        ([("dim", '{"level": 5}'), ("dim", '{"level": 5}')], False),
        ([("dim", "not json")], False),
        ([], False),
    ],
)
def test_a_tool_call_is_right_by_its_name_and_arguments(
    tmp_path: Path, calls: list[tuple[str, str]], right: bool
) -> None:
    one = case(tmp_path, expected={"name": "dim", "arguments": {"level": 5}}, tools=[TOOL])
    assert passes(one, "", [ToolCall("x", *call) for call in calls]) is right


def test_a_call_where_a_text_was_expected_is_wrong(tmp_path: Path) -> None:
    assert not passes(case(tmp_path, expected="yes", tools=[TOOL]), "yes", [ToolCall("x", "dim", "{}")])


def test_messages_are_openais(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "dim", "arguments": '{"level": 5}'}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "done", "tool_call_id": "c"},
    ]
    one = read(tmp_path, {"messages": messages, "tools": [TOOL], "expected": "ok", "max_tokens": 7})[0]
    assert [message.role for message in one.chat.messages] == [Role.USER, Role.ASSISTANT, Role.TOOL]
    assert one.chat.messages[0].content == "ab"
    assert one.prompt == "done"
    assert one.max_tokens == 7
    asked = as_question(one.chat)
    assert asked.messages[1]["tool_calls"][0]["function"] == {"name": "dim", "arguments": {"level": 5}}
    assert asked.tools == ({"type": "function", "function": {"name": "dim", "parameters": {"type": "object"}}},)


def test_empty_lines_and_a_byte_order_mark_are_no_cases(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\r\n{"prompt": "a\xe2\x80\xa8b", "expected": "c"}\r\n\r\n')
    assert [(one.line, one.prompt, one.check) for one in read_cases(path)] == [(2, "a\u2028b", Comparison.EXACT)]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "cases.jsonl:1: "),
        ("[" * 100_000, "cases.jsonl:1: "),
        ({"prompt": "?"}, "`expected`"),
        ({"expected": "x"}, "either 'prompt' or 'messages'"),
        ({"prompt": "?", "messages": [{"role": "user", "content": "?"}], "expected": "x"}, "either"),
        ({"prompt": "?", "expected": "x", "answer": "y"}, "`answer`"),
        ({"prompt": "?", "expected": "x", "check": "close"}, r"\$.check"),
        ({"prompt": "?", "expected": "x", "max_tokens": 0}, r"\$.max_tokens"),
        ({"prompt": "?", "expected": "x", "check": "number"}, "'expected' does not fit the check 'number'"),
        ({"prompt": "?", "expected": True, "check": "number"}, "'expected' does not fit"),
        ({"prompt": "?", "expected": "(", "check": "regex"}, "'expected' does not fit"),
        ({"prompt": "?", "expected": 5, "check": "contains"}, "'expected' does not fit"),
        ({"prompt": "?", "expected": {"name": 5}, "check": "tool_call"}, "'expected' does not fit"),
        ({"messages": [{"role": "judge", "content": "?"}], "expected": "x"}, r"\$.messages\[0\].role"),
        ({"messages": [{"role": "user"}], "expected": "x"}, r"messages\[0\].content"),
        ({"messages": [{"role": "assistant", "content": "?"}], "expected": "x"}, "assistant's turn"),
        ("", "no cases"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(tmp_path: Path, line: Any, complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint):
        read(tmp_path, line)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"nothing\.jsonl: cannot be read"):
        read_cases(tmp_path / "nothing.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadSetting, match=r"binary\.jsonl: cannot be read"):
        read_cases(tmp_path / "binary.jsonl")


def test_the_line_of_a_later_mistake_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"cases\.jsonl:3"):
        read(tmp_path, {"prompt": "?", "expected": "x"}, "", "{}")
