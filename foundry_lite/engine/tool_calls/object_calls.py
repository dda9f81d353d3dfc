"""Readers of the tool-call formats of most models: JSON objects, Python, and Gemma's own syntax."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from foundry_lite.engine.tool_calls.json_reader import ValueReader, escaped
from foundry_lite.engine.tool_calls.stream_reader import IN_NAMES, SPACE, NotACall

_ARGUMENTS = ("arguments", "parameters")


@dataclass(slots=True)
class _Draft:
    """A call whose object is still open: the name and the arguments that were read so far."""

    name: str = ""
    arguments: str | None = None
    is_told: bool = False


class JsonCalls(ValueReader):
    """``{"name": …, "arguments": {…}}``, alone, in a list, or one after the other; ``parameters`` is the same.

    A call begins when its name is that of a tool and its arguments are an object. Other members are passed over.
    """

    def _run(self) -> Iterator[None]:
        yield
        yield from self._skip()
        in_list = self._char == "["
        if in_list:
            self._eat()
            yield
            yield from self._skip()
        yield from self._calls(in_list=in_list)
        if in_list:
            yield from self._take("]")
            self._settle()
            yield
        yield from self._skip()
        yield from self._close()

    def _calls(self, *, in_list: bool) -> Iterator[None]:
        while self._char == "{":
            self._is_between = False
            yield from self._call()
            yield from self._skip()
            if self._char == "," or (self._char == ";" and not in_list):
                self._eat()
                yield
                yield from self._skip()
        if not self.has_begun:
            raise NotACall

    def _call(self) -> Iterator[None]:
        draft = _Draft()
        try:
            yield from self._members(draft)
            if not draft.name:
                raise NotACall
            if not draft.is_told:
                self._write_call(draft, "{}")
        except NotACall:
            if not draft.is_told:
                raise
            self._said.clear()  # of the member that broke off
            return  # the arguments are whole and the object around them is not: many a model forgets the last brace
        self._settle()

    def _members(self, draft: _Draft, *, is_within: bool = False) -> Iterator[None]:
        """Take an object from brace to brace; ``is_within`` another's ``function``."""
        self._eat()
        yield
        yield from self._skip()
        while True:
            yield from self._key()
            yield from self._member(json.loads(self._captured()), draft, is_within=is_within)
            yield from self._skip()
            if self._char == "}":
                break
            yield from self._mark(",")
        if draft.name and draft.arguments is None:
            self._write_call(draft, "{}")  # before the brace is taken: it may be the last character that comes
        self._eat()
        if draft.is_told:
            self._settle()
        yield

    def _member(self, key: str, draft: _Draft, *, is_within: bool) -> Iterator[None]:
        yield from self._mark(":")
        if key == "function" and self._char == "{" and not is_within:
            yield from self._members(draft, is_within=True)
        elif key in _ARGUMENTS and not draft.is_told:
            yield from self._arguments(draft)
        else:
            yield from self._value()
            value = json.loads(self._captured())
            if key == "name" and not draft.is_told:
                draft.name = self._known(value)
        if draft.name and draft.arguments is not None and not draft.is_told:
            self._write_call(draft, draft.arguments)

    def _arguments(self, draft: _Draft) -> Iterator[None]:
        """Emit the arguments while they come; those before the name wait for it, those in a string for its end."""
        if self._char == '"':
            draft.arguments = yield from self._quoted_object()
            return
        if self._char != "{":
            raise NotACall
        if not draft.name:
            yield from self._value()
            draft.arguments = self._captured()
            return
        self._begin(draft.name)
        yield from self._object(0)
        draft.arguments, draft.is_told = "", True

    def _write_call(self, draft: _Draft, arguments: str) -> None:
        self._begin(draft.name)
        self._say(arguments)
        self._finish()
        draft.arguments, draft.is_told = "", True

    def _known(self, name: object) -> str:
        if not isinstance(name, str) or not self._ledger.knows(name):
            raise NotACall
        return name

    def _mark(self, mark: str) -> Iterator[None]:
        yield from self._skip()
        yield from self._take(mark)
        yield
        yield from self._skip()


class PythonCalls(ValueReader):
    """``name(key=value, …)``: Python with literals alone; several in a list, or one after the other.

    It may stand in a fence.
    """

    def _run(self) -> Iterator[None]:
        yield
        yield from self._skip()
        is_fenced = self._char == "`"
        if is_fenced:
            yield from self._take("```python")
            yield
            yield from self._skip()
        yield from self._calls()
        yield from self._skip()
        if is_fenced:
            yield from self._take("```")
            yield
            yield from self._skip()
        yield from self._close()

    def _calls(self) -> Iterator[None]:
        in_list = self._char == "["
        if in_list:
            self._eat()
            yield
            yield from self._skip()
        while self._char in IN_NAMES:
            self._is_between = False
            yield from self._call()
            yield from self._skip()
            if self._char == ("," if in_list else ";"):
                self._eat()
                yield
                yield from self._skip()
        if not self.has_begun:
            raise NotACall
        if in_list:
            yield from self._take("]")
            self._settle()
            yield

    def _call(self) -> Iterator[None]:
        name = yield from self._letters(IN_NAMES)
        if not self._ledger.knows(name):
            raise NotACall
        yield from self._take("(")
        yield
        yield from self._skip()
        while self._char != ")":
            yield from self._keyword(name)
            yield from self._skip()
            if self._char == ",":
                self._eat()
                yield
                yield from self._skip()
            elif self._char != ")":
                raise NotACall
        if not self._is_live:
            self._open(name)
        self._eat()
        self._say("}")
        self._finish()
        yield

    def _keyword(self, name: str) -> Iterator[None]:
        key = yield from self._letters(IN_NAMES)
        yield from self._skip()
        yield from self._take("=")
        if self._is_live:
            self._say(", ")
        else:
            self._open(name)
        self._say(f"{json.dumps(key)}: ")
        yield
        yield from self._skip()
        yield from self._value(1)

    def _open(self, name: str) -> None:
        self._begin(name)
        self._say("{")

    def _opens_string(self) -> bool:
        return self._char in "\"'"

    def _ends_string(self, quote: str) -> Generator[None, None, bool]:
        """Take a quote and white space; where a call cannot go on behind them, they belong to the string.

        LFM2.5's template escapes no quotes.
        """
        self._eat()
        yield
        taken = [quote]
        while self._char in SPACE:
            taken.append(self._char)
            self._eat()
            yield
        if self._char in ",:)]}":
            self._say('"')
            return True
        self._say("".join(map(escaped, taken)))
        return False

    def _simple_escape(self, letter: str) -> str:
        if letter in '"\\/bfnrt':
            return f"\\{letter}"
        return escaped(letter) if letter == "'" else "\\\\" + escaped(letter)  # Python keeps what it does not know


class GemmaCalls(ValueReader):
    """``call:name{key:value, …}``, where a delimiter of its own stands on both sides of a string."""

    quote = "<escape>"

    def _run(self) -> Iterator[None]:
        yield
        yield from self._skip()
        yield from self._take("call:")
        yield
        name = yield from self._letters(IN_NAMES)
        if not self._ledger.knows(name) or self._char != "{":
            raise NotACall
        self._begin(name)
        yield from self._object(0)
        yield from self._skip()
        yield from self._close()

    def _key(self) -> Iterator[None]:
        if self._opens_string():
            yield from self._string()
            return
        key = yield from self._letters(IN_NAMES)
        self._say(json.dumps(key))

    def _opens_string(self) -> bool:
        return self._char == self.quote[0]

    def _string(self) -> Iterator[None]:
        yield from self._take(self.quote)
        self._say('"')
        yield
        while True:
            matched = 0
            while matched < len(self.quote) and self._char == self.quote[matched]:
                self._eat()
                matched += 1
                if matched < len(self.quote):
                    yield
            if matched == len(self.quote):
                break
            if not matched:
                self._eat()
            self._say("".join(map(escaped, self.quote[:matched] or self._char)))
            if not matched:
                yield
        self._say('"')
        yield


class Gemma4Calls(GemmaCalls):
    """`GemmaCalls` with the string delimiters of Gemma 4."""

    quote = '<|"|>'
