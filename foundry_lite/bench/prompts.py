"""Prompts of random tokens for a measurement: no two of a run begin alike, so that none comes out of the prefix cache.

Prompts differ in their first token where the vocabulary has one for each, else in as few of the first as it takes. What
is alike then is too little to be worth reusing; where it was reused all the same, `Usage.cached_tokens` counts it.
"""

from __future__ import annotations

import random

_FIRST_PLAIN_TOKEN = 256  # below lie control tokens and bytes in most vocabularies


class Prompts:
    """The prompts of one run, of which there are at most ``count``; the same for the same seed."""

    def __init__(self, seed: int, vocabulary: int, count: int) -> None:
        self._random = random.Random(seed)
        self._lowest = _FIRST_PLAIN_TOKEN if vocabulary - _FIRST_PLAIN_TOKEN >= count else 0
        self._tokens = vocabulary - self._lowest
        self._digits = 1
        while self._tokens > 1 and self._tokens**self._digits < count:
            self._digits += 1
        beginnings = self._tokens**self._digits
        self._beginnings = self._random.sample(range(beginnings), min(count, beginnings))

    def draw(self, length: int) -> tuple[int, ...]:
        """Return the next prompt, of exactly ``length`` tokens."""
        number = self._beginnings.pop() if self._beginnings else 0
        beginning = []
        for _ in range(self._digits):
            number, digit = divmod(number, self._tokens)
            beginning.append(digit)
        rest = (self._random.randrange(self._tokens) for _ in range(length - self._digits))
        return tuple(self._lowest + token for token in (*beginning[:length], *rest))
