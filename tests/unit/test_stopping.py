"""Stop strings: the text before the first of them, however it arrives."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foundry_lite.engine.text.stop_strings import StopMatcher

TEXTS = st.text("ab\n", max_size=24)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3).map(tuple)


def shown(stops: tuple[str, ...], *pieces: str) -> list[str]:
    """What each piece lets through, and then the flush."""
    matcher = StopMatcher(stops)
    return [matcher.feed(piece) for piece in pieces] + [matcher.flush()]


def before_first_stop(text: str, stops: tuple[str, ...]) -> str:
    """The definition, by trying every position."""
    for position in range(len(text)):
        if any(text.startswith(stop, position) for stop in stops):
            return text[:position]
    return text


@given(TEXTS, STOPS, st.data())
@example("aab", ("ab", "aabb"), None)
def test_any_split_of_a_text_shows_what_comes_before_the_first_stop(
    text: str, stops: tuple[str, ...], data: st.DataObject | None
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8))) if data else range(1, len(text))
    bounds = [0, *cuts, len(text)]
    pieces = [text[first:last] for first, last in zip(bounds, bounds[1:], strict=False)]
    matcher = StopMatcher(stops)
    output = "".join(map(matcher.feed, pieces)) + matcher.flush()
    assert output == before_first_stop(text, stops)
    assert matcher.matched == (output != text)


@given(TEXTS, STOPS)
def test_letter_by_letter_never_more_is_shown_than_in_the_end(text: str, stops: tuple[str, ...]) -> None:
    matcher, output = StopMatcher(stops), ""
    for letter in text:
        output += matcher.feed(letter)
        assert before_first_stop(text, stops).startswith(output)


def test_a_stop_string_split_across_pieces_never_leaks() -> None:
    assert shown(("END",), "text E", "N", "D more") == ["text ", "", "", ""]


def test_what_only_looked_like_a_stop_is_shown_when_that_is_clear() -> None:
    assert shown(("END",), "text E", "N", "T") == ["text ", "", "ENT", ""]


def test_a_text_that_cannot_become_a_stop_is_shown_at_once() -> None:
    assert shown(("END",), "hello ", "world") == ["hello ", "world", ""]


def test_a_stop_that_began_and_never_ended_is_given_back_in_the_end() -> None:
    assert shown(("END",), "text EN") == ["text ", "EN"]


def test_nothing_follows_a_stop() -> None:
    matcher = StopMatcher(("X",))
    assert matcher.feed("aXb") == "a"
    assert matcher.matched
    assert matcher.feed("c") == ""
    assert matcher.flush() == ""


def test_the_stop_that_begins_first_decides_even_if_another_ends_sooner() -> None:
    assert shown(("abcd", "c"), "xab", "c", "d") == ["x", "", "", ""]


def test_an_earlier_stop_that_fails_makes_way_for_the_one_inside_it() -> None:
    assert shown(("abcd", "c"), "xabc", "e") == ["x", "ab", ""]


def test_a_stop_inside_what_is_held_back_is_found_in_the_end() -> None:
    matcher = StopMatcher(("abcd", "c"))
    assert matcher.feed("xabc") == "x"
    assert not matcher.matched
    assert matcher.flush() == "ab"
    assert matcher.matched


def test_a_stop_of_repeated_letters_is_found_at_its_first_place() -> None:
    assert "".join(shown(("aab",), "a", "a", "a", "b")) == "a"


@pytest.mark.parametrize("stops", [(), ("",)])
def test_without_stops_everything_passes_at_once(stops: tuple[str, ...]) -> None:
    assert shown(stops, "a", "b") == ["a", "b", ""]


def test_a_flush_gives_what_is_held_only_once() -> None:
    matcher = StopMatcher(("END",))
    matcher.feed("E")
    assert (matcher.flush(), matcher.flush()) == ("E", "")
