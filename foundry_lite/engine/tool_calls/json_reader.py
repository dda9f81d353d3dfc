"""JSON reader that takes a value character by character and emits JSON, also for what is only nearly JSON.

Control characters in strings are escaped, half a surrogate pair becomes the replacement character, a number beyond all
floats the largest there is, and Python's words JSON's.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Generator, Iterator

from foundry_lite.engine.tool_calls.stream_reader import SPACE, CallReader, CallState, NotACall

_DEPTH = 64  # values within values; each level is two coroutines
_WORDS = {"true": "true", "false": "false", "null": "null", "True": "true", "False": "false", "None": "null"}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LONGEST_NUMBER = 1_000  # digits


class ValueReader(CallReader):
    """A reader of calls whose arguments are JSON, or nearly."""

    def _value(self, depth: int = 0) -> Iterator[None]:
        """Take any value and emit it as JSON."""
        if depth > _DEPTH:
            raise NotACall
        char = self._char
        if char == "{":
            yield from self._object(depth)
        elif char == "[":
            yield from self._list(depth)
        elif self._opens_string():
            yield from self._string()
        elif char in "-0123456789":
            yield from self._number()
        else:
            yield from self._constant()

    def _object(self, depth: int) -> Iterator[None]:
        yield from self._punctuation()
        yield from self._spaces()
        while self._char != "}":
            yield from self._key()
            yield from self._spaces()
            if self._char != ":":
                raise NotACall
            yield from self._punctuation()
            yield from self._spaces()
            yield from self._value(depth + 1)
            yield from self._next("}")
        self._eat()
        self._say("}")
        if self._is_live and not depth:
            self._finish()  # now, since this may be the last character that comes
        yield

    def _list(self, depth: int) -> Iterator[None]:
        yield from self._punctuation()
        yield from self._spaces()
        while self._char != "]":
            yield from self._value(depth + 1)
            yield from self._next("]")
        yield from self._punctuation()

    def _next(self, closing: str) -> Iterator[None]:
        """Go on to the next member, or to the end; JSON has no comma there."""
        yield from self._spaces()
        if self._char == ",":
            yield from self._punctuation()
            yield from self._spaces()
            if self._char == closing:
                raise NotACall
        elif self._char != closing:
            raise NotACall

    def _punctuation(self) -> Iterator[None]:
        self._eat()
        self._say(self._char)
        yield

    def _spaces(self) -> Iterator[None]:
        while self._char in SPACE:
            yield from self._punctuation()

    def _key(self) -> Iterator[None]:
        if not self._opens_string():
            raise NotACall
        yield from self._string()

    def _opens_string(self) -> bool:
        return self._char == '"'

    def _string(self) -> Iterator[None]:
        quote = self._char
        self._eat()
        self._say('"')
        yield
        while self._char != quote or not (yield from self._ends_string(quote)):
            if self._char == "\\":
                yield from self._escape()
            elif self._char != quote:
                self._eat()
                self._say(escaped(self._char))
                yield

    def _ends_string(self, quote: str) -> Generator[None, None, bool]:
        """Take a quote; return whether it ends the string that began with one."""
        self._eat()
        self._say('"')
        yield
        return True

    def _quoted_object(self) -> Generator[None, None, str]:
        """Take a string that holds an object, and return that as JSON: templates show models arguments so, too."""
        yield from self._string()
        value = read_value(json.loads(self._captured()))
        if value is None or value[0] != "{":
            raise NotACall
        return value

    def _escape(self) -> Iterator[None]:
        self._eat()
        yield
        if self._char == "u":
            yield from self._unicode_escape()
            return
        self._eat()
        self._say(self._simple_escape(self._char))
        yield

    def _simple_escape(self, letter: str) -> str:
        if letter not in '"\\/bfnrt':
            raise NotACall
        return f"\\{letter}"

    def _unicode_escape(self, before: int = 0) -> Iterator[None]:
        """Take ``uXXXX``; ``before`` is the first half of a pair that was taken already."""
        self._eat()
        yield
        digits: list[str] = []
        while len(digits) < 4:
            if self._char not in "0123456789abcdefABCDEF":
                raise NotACall
            digits.append(self._char)
            self._eat()
            if len(digits) < 4:
                yield
        code = int("".join(digits), 16)
        if 0xD800 <= code < 0xDC00 and not before:
            yield
            yield from self._second_half(code)
            return
        self._say(_pair(before, code))
        yield

    def _second_half(self, first: int) -> Iterator[None]:
        if self._char != "\\":
            self._say("\\ufffd")
            return
        self._eat()
        yield
        if self._char == "u":
            yield from self._unicode_escape(first)
            return
        self._eat()
        self._say("\\ufffd" + self._simple_escape(self._char))
        yield

    def _number(self) -> Iterator[None]:
        digits: list[str] = []
        while self._char in "+-.eE0123456789":
            digits.append(self._char)
            if len(digits) > _LONGEST_NUMBER:
                raise NotACall
            self._eat()
            yield
        number = "".join(digits)
        if _NUMBER.fullmatch(number) is None:
            raise NotACall
        self._say(_finite(number))

    def _constant(self) -> Iterator[None]:
        word = next((one for one in _WORDS if one[0] == self._char), None)
        if word is None:
            raise NotACall
        yield from self._take(word)
        self._say(_WORDS[word])
        yield


class AloneReader(ValueReader):
    """Reads a value that stands alone."""

    def _run(self) -> Iterator[None]:
        yield
        yield from self._skip()
        yield from self._value(1)
        self._settle()
        yield from self._skip()
        raise NotACall

    def read(self, text: str) -> str | None:
        """Return the value as JSON; ``None`` where ``text`` is not one value."""
        is_read = not self.feed(f"{text} ").is_over and self._is_between
        return self._captured() if is_read else None


def read_value(text: str) -> str | None:
    """Return a string that is JSON, or nearly, as JSON; ``None`` for any other."""
    return AloneReader(CallState((), str), "").read(text)


def escaped(char: str) -> str:
    """Return a character as it is written in a JSON string."""
    if char in '"\\' or char < " ":
        return json.dumps(char)[1:-1]
    return char


def _pair(first: int, code: int) -> str:
    if first and 0xDC00 <= code < 0xE000:
        return f"\\u{first:04x}\\u{code:04x}"
    lone = "\\ufffd" if 0xD800 <= code < 0xE000 else f"\\u{code:04x}"
    return f"\\ufffd{lone}" if first else lone


def _finite(digits: str) -> str:
    """Return a number that a float can hold: ``1e999`` becomes the largest there is, so that no call is lost for it."""
    value = float(digits)
    largest = sys.float_info.max
    return digits if abs(value) <= largest else repr(largest if value > 0 else -largest)
