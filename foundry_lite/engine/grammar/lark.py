"""Lark symbols in llguidance's dialect: strings, delimiters that may be tokens, terminals, rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foundry_lite.errors import InvalidRequest

LINE = r"/\n?/"  # a line end that may be left out
_LINES = r"/\n{0,2}/"
MOST_BYTES = 64 << 10  # of a schema, and of what is written of one
_MOST_WRITTEN = 16 * MOST_BYTES  # characters, those of what was known already too: some 0.2 s


@dataclass(frozen=True, slots=True)
class Marks:
    """Delimiters and tags of one tokenizer as Lark symbols: ``ids`` are those that are tokens.

    A tag that is a token must be written as one: as text it could not be matched (llguidance 1.9.1). With ``is_loose``,
    line ends may be left out.
    """

    ids: Mapping[str, int]
    is_loose: bool = False

    def write(self, text: str) -> str:
        """Return a string as symbols of a rule, tokens in it as such."""
        symbols = []
        while text:
            at, mark = self._next(text)
            symbols += ([literal(text[:at])] if at else []) + ([self._symbol(mark)] if mark else [])
            text = text[at + len(mark) :]
        return " ".join(symbols)

    def split(self, text: str) -> tuple[str, str]:
        """Return a string up to its first token, or to what may be left out, and symbols for the rest."""
        at, _ = self._next(text)
        return text[:at], self.write(text[at:])

    def begins(self, text: str) -> bool:
        """Return whether a string begins with a token."""
        at, mark = self._next(text)
        return not at and bool(mark)

    def __contains__(self, mark: str) -> bool:
        return mark in self.ids

    def _symbol(self, mark: str) -> str:
        return f"<[{self.ids[mark]}]>" if mark in self.ids else _LINES

    def _next(self, text: str) -> tuple[int, str]:
        """Return where the first token of a string stands, the longest one there, and what it is; else the end."""
        marks = [*self.ids, *("\n" if self.is_loose else "")]
        found = [(text.find(mark), -len(mark), mark) for mark in marks if mark in text]
        at, _, mark = min(found, default=(len(text), 0, ""))
        return at, mark


class Rules:
    """Rules beside those that a grammar has names for; what is written alike is one rule.

    A small schema may say much, such as alternatives of alternatives, or the same again and again: `add`,
    `add_terminal` and `give` raise `InvalidRequest` as soon as it is too much.
    """

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._size = self._written = 0  # bytes of all rules, and characters that were written for them

    @property
    def lines(self) -> list[str]:
        return [f"{name}: {body}" for name, body in self._bodies.items()]

    def add(self, body: str) -> str:
        """Return the name of a rule with that body."""
        return self._add(body, f"part_{len(self._bodies)}")

    def add_terminal(self, body: str) -> str:
        """Return the name of a terminal, which is one lexeme."""
        return self._add(body, f"TEXT_{len(self._bodies)}")

    def reserve(self) -> str:
        """Return a name whose body is given later, since it may be recursive."""
        name = f"part_{len(self._bodies)}"
        self._bodies[name] = ""
        return name

    def __contains__(self, name: str) -> bool:
        return name in self._bodies

    def give(self, name: str, body: str) -> None:
        """Give a name its body."""
        self._bodies[name] = body
        self._size += len(body.encode(errors="replace"))
        self._refuse_too_much()

    def _refuse_too_much(self) -> None:
        if self._size > MOST_BYTES or self._written > _MOST_WRITTEN:
            reason = f"the parameters of the tools say too much: as a grammar, they have over {MOST_BYTES} bytes"
            raise InvalidRequest(reason, "tools", "invalid_grammar")

    def _add(self, body: str, name: str) -> str:
        self._written += len(body)
        self._refuse_too_much()
        known = self._names.get(body)
        if known is None:
            known = self._names[body] = name
            self.give(name, body)
        return known


def literal(text: str) -> str:
    """Return a string as a symbol of a rule."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # which llguidance's Lark does not read


def pattern(text: str) -> str:
    """Return a string as a part of a regular expression between slashes."""
    return re.sub(r"([\\.+*?()|\[\]{}^$/])", r"\\\1", text)


def without(texts: Iterable[str], most: str = "(?s:.*)") -> str:
    """Return a terminal: what ``most`` matches and has none of the strings in it."""
    found = "|".join(pattern(text) + (r"\s*\[" if text.isalpha() else "") for text in texts)
    return f"/{most}/ & ~/(?s:.*)({found})(?s:.*)/" if found else f"/{most}/"
