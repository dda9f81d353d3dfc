"""Logprobs on their way out: emitted with the text they belong to, never before it nor for what a stop cut off."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from foundry_lite.engine.sampling.sampler import Choice
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.generation import Logprob, TokenLogprob


class LogprobBuffer:
    """Logprobs of the tokens of one answer whose text has not been emitted yet."""

    def __init__(self, text: TextModel) -> None:
        self._text = text
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()  # character at which the token begins

    def add(self, choice: Choice, start: int) -> None:
        """Take note of a token whose text begins at character ``start`` of the answer."""
        assert choice.logprob is not None
        told = describe(self._text, choice.token, choice.logprob, choice.top, start)
        self._waiting.append((start, told))

    def take(self, passed: int, *, is_last: bool = False) -> tuple[TokenLogprob, ...]:
        """Return those whose text lies within the first ``passed`` characters.

        A token without text of its own, such as the first byte of a character, goes with what follows. ``is_last``:
        nothing follows, and no stop string cut anything off, so those at the very end go too.
        """
        told = []
        while self._waiting and (self._waiting[0][0] < passed or (is_last and self._waiting[0][0] == passed)):
            told.append(self._waiting.popleft()[1])
        return tuple(told)


def describe(text: TextModel, token: int, logprob: float, top: Iterable[tuple[int, float]], start: int) -> TokenLogprob:
    """Spell out a token that begins at character ``start``, and the likeliest at its position."""
    return TokenLogprob(_spell(text, token, logprob), tuple(_spell(text, *one) for one in top), start)


def _spell(text: TextModel, token: int, logprob: float) -> Logprob:
    raw = text.token_bytes(token)
    return Logprob(raw.decode(errors="replace"), raw, logprob)
