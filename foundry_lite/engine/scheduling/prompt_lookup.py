"""Speculation by prompt look-up: text that repeats is guessed, and the guess verified in one run of the model.

The tokens that followed the last earlier occurrence of the two or three newest ones are the guess (Saxena, "Prompt
Lookup Decoding", 2023). It pays where answers quote their prompt; a sequence whose guesses fail pauses guessing.
"""

from __future__ import annotations

_LENGTHS = (3, 2)  # of the n-grams that are looked up, the longest first
_PAUSE = 16  # tokens without a guess after one that failed outright


class PromptLookup:
    """The n-grams of one sequence, and where each was seen last."""

    def __init__(self, tokens: list[int], most: int) -> None:
        self._most = most
        self._tokens: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # n-gram → position after its last occurrence but the newest
        self._pause = 0
        for token in tokens:
            self.take(token)

    def take(self, token: int) -> None:
        """Append a token. Its n-grams are entered one token later, so that a sequence never finds its own end."""
        for length in _LENGTHS:
            if len(self._tokens) >= length:
                self._ends[tuple(self._tokens[-length:])] = len(self._tokens)
        self._tokens.append(token)
        self._pause -= self._pause > 0

    def guess(self, most: int) -> list[int]:
        """Return up to ``most`` tokens that may follow; none when nothing alike was seen."""
        if self._pause:
            return []
        for length in _LENGTHS:
            end = self._ends.get(tuple(self._tokens[-length:]))
            if end is not None:
                return self._tokens[end : end + min(most, self._most)]
        return []

    def learn(self, accepted: int) -> None:
        """Take notice of how many tokens of a guess were right."""
        if not accepted:
            self._pause = _PAUSE
