"""Tool calls out of text: found however the text is cut, and nothing else touched."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.engine.tools import ToolCallParser

CALL = '<tool_call>{"name": "get_time", "arguments": {"city": "Köln"}}</tool_call>'
FOUND = ("get_time", '{"city":"Köln"}')


def parse(*pieces: str) -> tuple[str, list[tuple[str, str]]]:
    """Feed the pieces; return the plain text and the calls as name and arguments."""
    parser = ToolCallParser()
    parts = [parser.feed(piece) for piece in pieces] + [parser.flush()]
    calls = [(call.name, call.arguments) for part in parts for call in part.calls]
    assert parser.found == bool(calls)
    return "".join(part.text for part in parts), calls


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
        ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', "", [("f", '{"a":1}')]),
        ('<tool_call>{"arguments": {"x": [1.5, null]}, "name": "f"}</tool_call>', "", [("f", '{"x":[1.5,null]}')]),
        ('<tool_call>{"name": "f", "arguments": {"a": "<b>"}}</tool_call>', "", [("f", '{"a":"<b>"}')]),
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
        '<tool_call>{"name": "f", "arguments": {</tool_call>',
        '<tool_call>["f"]</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": 1, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "text"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": null}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"x": "\\ud800"}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {}}',
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
        st.sampled_from([CALL, f"{CALL}\n", "<tool_call>", "</tool_call>", "{}", "<", "tool", "ü ", "{", "\n"]),
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


@given(st.text(), st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.booleans() | st.none()))
def test_arguments_arrive_as_json_text_of_what_the_model_wrote(name: str, arguments: dict[str, object]) -> None:
    body = json.dumps({"name": name, "arguments": arguments}).replace("<", "\\u003c")
    _, calls = parse(f"<tool_call>{body}</tool_call>")
    assert [(one, json.loads(text)) for one, text in calls] == [(name, arguments)]


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


def test_a_call_is_given_with_the_piece_that_closes_it() -> None:
    parser = ToolCallParser()
    assert parser.feed(CALL[:-1]).calls == ()
    assert len(parser.feed(CALL[-1]).calls) == 1


def test_every_call_has_an_id_of_its_own() -> None:
    first, second = ToolCallParser().feed(CALL + CALL).calls
    assert first.id.startswith("call_")
    assert first.id != second.id


@pytest.mark.parametrize("body", ["[" * 100_000, '{"name": "f", "arguments": {"x": ' + "[" * 100_000])
def test_brackets_without_end_are_text(body: str) -> None:
    """A model that repeats itself wrote these; the exception ended the worker, and with it everybody's streams."""
    text = f"<tool_call>{body}</tool_call>"
    assert parse(text) == (text, [])


@pytest.mark.parametrize(
    ("text", "plain"), [(f"{CALL}\n{CALL}\n", ""), (f"{CALL}\n\nText\n", "Text\n"), (f"a\n{CALL}\n \n", "a\n \n")]
)
def test_line_ends_after_a_call_belong_to_it_however_they_arrive(text: str, plain: str) -> None:
    """They were dropped only when they came in one piece with the end of the call: never, token by token."""
    assert parse(text)[0] == parse(*text)[0] == plain


@pytest.mark.parametrize(("said", "read"), [("1e999", 1.7976931348623157e308), ("-1E+999", -1.7976931348623157e308)])
def test_a_number_beyond_all_floats_does_not_cost_the_call(said: str, read: float) -> None:
    parsed = ToolCallParser().feed(f'<tool_call>{{"name": "f", "arguments": {{"x": {said}, "y": 1.5}}}}</tool_call>')
    assert [json.loads(call.arguments) for call in parsed.calls] == [{"x": read, "y": 1.5}]
