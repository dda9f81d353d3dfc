"""Long texts: the work on what cannot fit is bounded, and the interpreter's lock is let go of.

A text that cannot fit is refused without encoding all of it: it is cut into pieces, and these are counted until there
are surely too many tokens. What may fit is encoded whole, as a cut changes the tokens beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

PIECE = 8_192  # characters; what one piece takes is what a later request may have to wait
_SLACK = 8  # tokens that a cut may add

Encode = Callable[[str], list[int]]


class TooManyTokens(Exception):  # never leaves the engine: who knows what the text was for makes an error of it
    """A text has more than ``limit`` tokens; how many, nobody has counted."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} tokens")
        self.limit = limit


def encode_all(texts: Iterable[str], encode: Encode, limit: int | None) -> list[int]:
    """Encode texts one by one. Raises `TooManyTokens` when more than ``limit`` are to be expected."""
    tokens: list[int] = []
    for text in texts:
        if limit is not None and (len(tokens) > limit or _exceeds(text, encode, limit - len(tokens))):
            raise TooManyTokens(limit)
        tokens += encode(text)
    return tokens


def _exceeds(text: str, encode: Encode, limit: int) -> bool:
    """Return whether a text surely has more than ``limit`` tokens; ``False`` for any of at most `PIECE` characters."""
    if len(text) <= PIECE:
        return False
    count = 0
    for piece in pieces(text):
        count += len(encode(piece)) - _SLACK
        if count > limit:
            return True
    return False


def pieces(text: str) -> Iterator[str]:
    """Cut a text before white space, where there is some."""
    start = 0
    while start < len(text):
        end = start + PIECE
        if end < len(text):
            space = max(text.rfind(" ", start + PIECE // 2, end), text.rfind("\n", start + PIECE // 2, end))
            end = space if space > start else end
        yield text[start:end]
        start = end
