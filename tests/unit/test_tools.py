"""Tool calls out of text: found however the text is cut, and nothing else touched."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.engine.tool_calls.parser import OutputPiece, ToolCallParser
from foundry_lite.generation import CallPiece, join_calls

CALL = '<tool_call>{"name": "get_time", "arguments": {"city": "Köln"}}</tool_call>'
FOUND = ("get_time", '{"city": "Köln"}')


def parse(*pieces: str) -> tuple[str, list[tuple[str, str]]]:
    """Feed the pieces; return the plain text and the calls as name and arguments."""
    parser = ToolCallParser()
    parts = [parser.feed(piece) for piece in pieces] + [parser.flush()]
    calls = [(call.name, call.arguments) for call in join_calls(call for part in parts for call in part.calls)]
    assert parser.found == (bool(calls) and all(is_whole(arguments) for _, arguments in calls))
    return "".join(part.text for part in parts), calls


def is_whole(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("text", "plain", "calls"),
    [
        ("", "", []),
        ("hello", "hello", []),
        (CALL, "", [FOUND]),
        (f"Let me see. {CALL}", "Let me see. ", [FOUND]),
        (f"{CALL} done", " done", [FOUND]),
        (f"a{CALL}b{CALL}c", "abc", [FOUND, FOUND]),
        (f"{CALL}{CALL}", "", [FOUND, FOUND]),
        ('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', "", [("f", '{"a": 1}')]),
        ('<tool_call>{"arguments": {"x": [1.5, null]}, "name": "f"}</tool_call>', "", [("f", '{"x": [1.5, null]}')]),
        ('<tool_call>{"name": "f", "arguments": {"a": "<b>"}}</tool_call>', "", [("f", '{"a": "<b>"}')]),
        ('<tool_call>{"name": "f", "arguments": {}}', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": \\"\\\\n\\"}"}</tool_call>', "", [("f", '{"a": "\\n"}')]),
        ('<tool_call>{"arguments": "{}", "name": "f"}</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>.', ".", [("f", '{"a": 1}')]),
        ('<tool_call>{"name": "f", "arguments": {"x": "\\ud800"}}</tool_call>', "", [("f", '{"x": "\\ufffd"}')]),
        ('<tool_call>{"name": "f", "arguments": {"x": "a\nb"}}</tool_call>', "", [("f", '{"x": "a\\nb"}')]),
        ('<tool_call>{"name": "f", "arguments": {"x": True}}</tool_call>', "", [("f", '{"x": true}')]),
        ('<tool_call>{"type": "function", "function": {"name": "f", "arguments": {}}}</tool_call>', "", [("f", "{}")]),
    ],
)
def test_calls_are_taken_out_and_the_text_around_them_stays(
    text: str, plain: str, calls: list[tuple[str, str]]
) -> None:
    assert parse(text) == (plain, calls)
    assert parse(*text) == (plain, calls)


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>not json</tool_call>",
        "<tool_call></tool_call>",
        '<tool_call>["f"]</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": 1, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "text"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "[{}]"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "{}}"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": null}</tool_call>',
        '<tool_call>{"name": "f", "argu',
        "<tool_call>",
        "<tool_c",
        "a < b and </tool_call> c",
        "<<tool_call",
    ],
)
def test_what_is_no_call_is_given_back_as_the_text_it_is(text: str) -> None:
    assert parse(text) == (text, [])
    assert parse(*text) == (text, [])


def test_a_call_after_a_broken_one_is_still_found() -> None:
    broken = "<tool_call>oops</tool_call>"
    assert parse(f"{broken} {CALL}") == (f"{broken} ", [FOUND])


@given(
    st.lists(
        st.sampled_from(
            [CALL, f"{CALL}\n", CALL[:50], CALL[50:], "<tool_call>", "</tool_call>", "{}", "<", "tool", "ü ", "{", "\n"]
        ),
        max_size=6,
    ),
    st.data(),
)
def test_any_split_of_a_text_gives_the_same_calls_and_text(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    assert parse(*text) == parse(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    bounds = [0, *cuts, len(text)]
    assert parse(*(text[a:b] for a, b in zip(bounds, bounds[1:], strict=False))) == parse(text)


@given(
    st.text(min_size=1),
    st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.booleans() | st.none()),
)
def test_arguments_arrive_as_json_text_of_what_the_model_wrote(name: str, arguments: dict[str, object]) -> None:
    body = json.dumps({"name": name, "arguments": arguments}).replace("<", "\\u003c")
    _, calls = parse(f"<tool_call>{body}</tool_call>")
    assert [(one, json.loads(text)) for one, text in calls] == [(name, json.loads(json.dumps(arguments)))]


def test_plain_text_is_not_held_back() -> None:
    parser = ToolCallParser()
    assert parser.feed("1 < 2").text == "1 < 2"


def test_the_beginning_of_a_tag_is_held_back_until_it_is_decided() -> None:
    parser = ToolCallParser()
    assert parser.feed("a<tool").text == "a"
    assert parser.feed("box>").text == "<toolbox>"


def test_nothing_of_a_call_is_shown_as_text_while_it_arrives() -> None:
    parser = ToolCallParser()
    assert [parser.feed(letter).text for letter in CALL] == [""] * len(CALL)


def test_a_call_is_told_when_it_is_certain_and_then_letter_by_letter() -> None:
    parser = ToolCallParser()
    told = [(letter, parser.feed(letter).calls) for letter in CALL]
    head = CALL.index('{"city"')
    assert all(not calls for _, calls in told[:head])
    _, (first, second) = told[head]
    assert (first.index, first.name, first.arguments) == (0, "get_time", "")
    assert second == CallPiece(0, arguments="{")
    end = CALL.index("}}") + 1
    assert [calls for _, calls in told[head + 1 : end]] == [
        (CallPiece(0, arguments=letter),) for letter in CALL[head + 1 : end]
    ]
    assert all(not calls for _, calls in told[end:])


def test_every_call_has_an_id_of_its_own_told_once() -> None:
    first, second = (piece for piece in ToolCallParser().feed(CALL + CALL).calls if piece.id)
    assert (first.index, second.index) == (0, 1)
    assert first.id.startswith("call_")
    assert first.id != second.id


def test_arguments_that_come_before_the_name_wait_for_it() -> None:
    parser = ToolCallParser()
    text = '<tool_call>{"arguments": {"a": 1}, "name": "f'
    assert all(not parser.feed(letter).calls for letter in text)
    assert [(piece.name, piece.arguments) for piece in parser.feed('"}').calls] == [("f", ""), ("", '{"a": 1}')]


@pytest.mark.parametrize("cut", range(CALL.index('{"city"') + 1, CALL.index("}}") + 1))
def test_a_call_that_is_cut_off_stays_with_what_there_is_and_is_not_whole(cut: int) -> None:
    text, ((name, arguments),) = parse(CALL[:cut])
    assert (text, name) == ("", "get_time")
    assert arguments == CALL[CALL.index('{"city"') : cut]


@pytest.mark.parametrize("cut", range(1, CALL.index('{"city"')))
def test_the_beginning_of_a_forced_call_is_no_text(cut: int) -> None:
    parser = ToolCallParser(is_forced=True)
    begun = parser.feed(CALL[:cut])
    assert (begun.text, begun.calls, parser.flush()) == ("", (), OutputPiece())


def test_arguments_that_break_off_stay_and_what_follows_is_text() -> None:
    assert parse('<tool_call>{"name": "f", "arguments": {"a": oops}}</tool_call>') == (
        "oops}}</tool_call>",
        [("f", '{"a": ')],
    )


@pytest.mark.parametrize(
    ("name", "is_call"), [("light", True), ("Light", False), ("other", False), ("", False), ("light ", False)]
)
def test_only_tools_that_there_are_can_be_called(name: str, *, is_call: bool) -> None:
    parser = ToolCallParser(names={"light"})
    text = f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>'
    parts = [parser.feed(text), parser.flush()]
    assert parser.found is is_call
    assert "".join(part.text for part in parts) == ("" if is_call else text)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_one_call_is_enough_where_it_is_said_to_be(size: int) -> None:
    parser = ToolCallParser(is_single=True)
    text = f"Well. {CALL}\nmore {CALL}"
    parts = [parser.feed(text[at : at + size]) for at in range(0, len(text), size)] + [parser.flush()]
    assert len(join_calls(call for part in parts for call in part.calls)) == 1
    assert parser.found
    assert parser.is_full
    assert "".join(part.text for part in parts) == "Well. "


def test_an_answer_of_a_form_has_no_calls_within_it() -> None:
    text = '{"say": "<tool_call>{\\"name\\": 1}</tool_call>", "x": ' + json.dumps(CALL) + "}" + CALL
    for form in (text, f"Yes. {CALL}"):
        parser = ToolCallParser(is_formatted=True)
        assert parser.feed(form).text + parser.flush().text == form
        assert not parser.found
    parser = ToolCallParser(is_formatted=True)
    parts = [parser.feed(f"{CALL}\n{CALL}"), parser.flush()]
    assert len(join_calls(call for part in parts for call in part.calls)) == 2
    assert not any(part.text for part in parts)


def test_brackets_without_end_are_text() -> None:
    """A model that repeats itself wrote these; the exception ended the worker, and with it everybody's streams."""
    text = f"<tool_call>{'[' * 100_000}</tool_call>"
    assert parse(text) == (text, [])
    deep = '{"x": ' + "[" * 100_000
    rest, ((name, begun),) = parse(f'<tool_call>{{"name": "f", "arguments": {deep}</tool_call>')
    assert (name, begun + rest) == ("f", f"{deep}</tool_call>")
    assert len(begun) < 100


def test_beginnings_of_calls_without_end_are_read_once() -> None:
    text = '<tool_call>{"a": "' * 5_000
    began = time.monotonic()
    assert parse(text) == (text, [])
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("member", ['"x": [1 ', '"x": {"y" ', '"x": tru', '"x" '])
def test_what_breaks_off_behind_arguments_is_no_part_of_the_next_call(member: str) -> None:
    """What was read of it stood before the next call's first key; that was no JSON, and ended the worker."""
    second = '{"name": "g", "arguments": {"b": 2}}'
    text = f'<tool_call>{{"name": "f", "arguments": {{"a": 1}}, {member}{second}</tool_call>'
    assert parse(text) == parse(*text) == ("", [("f", '{"a": 1}'), ("g", '{"b": 2}')])


def test_functions_within_functions_are_text() -> None:
    text = "<tool_call>" + '{"function": ' * 10_000
    assert parse(text) == (text, [])


@pytest.mark.parametrize(
    ("text", "plain"), [(f"{CALL}\n{CALL}\n", ""), (f"{CALL}\n\nText\n", "Text\n"), (f"a\n{CALL}\n \n", "a\n \n")]
)
def test_line_ends_after_a_call_belong_to_it_however_they_arrive(text: str, plain: str) -> None:
    """They were dropped only when they came in one piece with the end of the call: never, token by token."""
    assert parse(text)[0] == parse(*text)[0] == plain


@pytest.mark.parametrize(("said", "read"), [("1e999", 1.7976931348623157e308), ("-1E+999", -1.7976931348623157e308)])
def test_a_number_beyond_all_floats_does_not_cost_the_call(said: str, read: float) -> None:
    _, calls = parse(f'<tool_call>{{"name": "f", "arguments": {{"x": {said}, "y": 1.5}}}}</tool_call>')
    assert [json.loads(arguments) for _, arguments in calls] == [{"x": read, "y": 1.5}]
