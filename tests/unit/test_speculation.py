"""Prompt look-up: what is guessed, and when not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.engine.scheduling.prompt_lookup import PromptLookup


def test_what_followed_the_same_three_tokens_is_guessed() -> None:
    lookup = PromptLookup([1, 2, 3, 4, 5, 6, 9, 1, 2, 3], most=2)
    assert lookup.guess(10) == [4, 5]
    assert lookup.guess(1) == [4]
    assert lookup.guess(0) == []


def test_two_tokens_do_where_three_are_new() -> None:
    assert PromptLookup([1, 2, 7, 8, 2, 7], most=3).guess(3) == [8, 2, 7]


def test_the_last_occurrence_counts() -> None:
    assert PromptLookup([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], most=1).guess(1) == [5]


def test_nothing_is_guessed_of_what_was_never_seen() -> None:
    assert PromptLookup([1, 2, 3, 4], most=4).guess(4) == []
    assert PromptLookup([1], most=4).guess(4) == []


def test_a_guess_that_failed_is_followed_by_a_pause() -> None:
    lookup = PromptLookup([1, 2] * 10, most=4)
    assert lookup.guess(4)
    lookup.learn(0)
    assert lookup.guess(4) == []
    for _ in range(16):
        lookup.take(1)
    assert lookup.guess(4)


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 6))
def test_every_guess_did_follow_the_same_end_before(tokens: list[int], most: int) -> None:
    guess = PromptLookup(tokens, most).guess(most)
    assert len(guess) <= most
    if guess:
        ends = [at for at in range(2, len(tokens)) if tokens[at - 2 : at] == tokens[-2:]]
        assert any(tokens[at : at + len(guess)] == guess for at in ends)
