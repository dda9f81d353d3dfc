"""Special-token guard: a caller's text never becomes control tokens, whatever it spells."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from foundry_lite.engine.text.chunked_encoding import TooManyTokens
from foundry_lite.generation import Role

_WINDOW = 1 << 16  # characters that are searched at once: an expression holds the interpreter's lock


class Spellings:
    """Strings to look for, all at once."""

    def __init__(self, texts: Iterable[str]) -> None:
        known = {text for text in texts if len(text) > 1}
        self._longest = max(map(len, known), default=0)
        self._pattern = re.compile(_any_of(known)) if known else None

    def find(self, text: str) -> Iterator[re.Match[str]]:
        """Yield their matches from left to right; at one index the longest."""
        if self._pattern is None:
            return
        start = 0
        while start < len(text):
            end = start + _WINDOW
            for match in self._pattern.finditer(text, start, end + self._longest):
                if match.start() >= end:
                    break
                yield match
                start = match.end()
            start = max(start, end)


class SpecialTokenGuard:
    """Keeps the spelling of control tokens in a caller's text from being read as control tokens.

    Before rendering, each such spelling is replaced by a placeholder that nobody can guess; after it, the text is cut
    there, and the spelling is encoded character by character, since a part of it may be a control token too.
    Assistants may write the tokens that are not special, such as ``<tool_call>`` or ``</think>``: templates look for
    them in the history. Each character is a token at least: texts that spell more than ``limit`` raise `TooManyTokens`.
    """

    def __init__(self, for_assistant: Spellings, for_others: Spellings, limit: int | None = None) -> None:
        self._for_assistant = for_assistant
        self._for_others = for_others
        self._nonce = f"q{secrets.token_hex(8)}q"
        self._replaced: list[str] = []
        self._limit = math.inf if limit is None else limit
        self._letters = 0

    def protect(self, text: str, role: Role) -> str:
        """Replace the spellings of control tokens in ``text``."""
        spellings = self._for_assistant if role is Role.ASSISTANT else self._for_others
        parts, end = [], 0
        for match in spellings.find(text):
            parts += [text[end : match.start()], f"{self._nonce}{len(self._replaced)}x"]
            self._replaced.append(match[0])
            end = match.end()
            self._letters += len(match[0])
            if self._letters > self._limit:
                raise TooManyTokens(int(self._limit))
        return "".join([*parts, text[end:]]) if parts else text

    def split(self, rendered: str) -> Iterator[str]:
        """Cut the rendered prompt into pieces to encode one by one."""
        if not self._replaced:
            yield rendered
            return
        for index, piece in enumerate(re.split(rf"{self._nonce}(\d+)x", rendered)):
            if index % 2 == 0:
                yield from (piece,) if piece else ()
            else:
                yield from self._replaced[int(piece)]


class Spelled:
    """The control tokens of one vocabulary as strings, and a `SpecialTokenGuard` made of them for each conversation."""

    def __init__(self, added: Iterable[tuple[str, bool]]) -> None:
        """``added`` are the added tokens, and whether they are special."""
        self._added = tuple(added)

    def guard(self, limit: int | None = None) -> SpecialTokenGuard:
        """Return a new guard; ``limit`` is how many characters may be spelled out."""
        return SpecialTokenGuard(self._for_assistant, self._for_others, limit)

    @cached_property
    def _for_assistant(self) -> Spellings:
        return Spellings(text for text, is_special in self._added if is_special)

    @cached_property
    def _for_others(self) -> Spellings:
        return Spellings(text for text, is_special in self._added if is_special or _is_tag(text))


def _is_tag(text: str) -> bool:
    return len(text) > 2 and text[0] + text[-1] in ("<>", "[]")


def _any_of(texts: Iterable[str]) -> str:
    """Return a regular expression for any of ``texts``, the longest first; a common prefix is matched once.

    Side by side, hundreds of tokens that begin alike would each be tried at every "<" of a text.
    """
    tree: dict[str, Any] = {}
    for text in texts:
        node = tree
        for letter in text:
            node = node.setdefault(letter, {})
        node[""] = {}
    return _expression(tree)


def _expression(tree: dict[str, Any]) -> str:
    branches = [re.escape(letter) + _expression(rest) for letter, rest in sorted(tree.items()) if letter]
    if not branches:
        return ""
    whole = branches[0] if len(branches) == 1 and "" not in tree else f"(?:{'|'.join(branches)})"
    return f"{whole}?" if "" in tree else whole
