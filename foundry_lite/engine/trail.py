"""Logprobs on their way out: told with the text they belong to, never before it and never for what a stop cut off."""

from __future__ import annotations

from collections import deque

from foundry_lite.engine.sampler import Choice
from foundry_lite.engine.text import TextModel
from foundry_lite.generation import Logprob, TokenLogprob


class LogprobTrail:
    """The tokens of one answer whose text has not been told yet."""

    def __init__(self, text: TextModel) -> None:
        self._text = text
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()  # character at which the token begins

    def add(self, choice: Choice, start: int) -> None:
        """Take note of a token whose text begins at character ``start`` of the answer."""
        assert choice.logprob is not None
        top = tuple(self._describe(token, value) for token, value in choice.top)
        self._waiting.append((start, TokenLogprob(self._describe(choice.token, choice.logprob), top)))

    def take(self, passed: int, *, is_last: bool = False) -> tuple[TokenLogprob, ...]:
        """Return those whose text lies within the first ``passed`` characters.

        A token without text of its own, such as the first byte of a character, goes with what follows; at the end of
        an answer those at its very end go too.
        """
        told = []
        while self._waiting and (self._waiting[0][0] < passed or (is_last and self._waiting[0][0] == passed)):
            told.append(self._waiting.popleft()[1])
        return tuple(told)

    def _describe(self, token: int, value: float) -> Logprob:
        raw = self._text.token_bytes(token)
        return Logprob(raw.decode(errors="replace"), raw, value)
