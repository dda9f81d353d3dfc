"""Tool calls whose arguments stand between tags as plain text.

Whether such a text is a string or JSON depends on what the tool declares: a string is emitted while it comes,
anything else when it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from typing import ClassVar

from foundry_lite.engine.tool_calls.declared_types import TEXT, is_of
from foundry_lite.engine.tool_calls.json_reader import AloneReader, escaped, read_value
from foundry_lite.engine.tool_calls.object_calls import PythonCalls
from foundry_lite.engine.tool_calls.stream_reader import IN_NAMES, CallReader, CallState, NotACall, overlap


class TaggedCalls(CallReader):
    """``<function=f><parameter=a>…</parameter></function>``, once or several times.

    One line end behind the opening tag of a value, and one before its closing tag, belong to the tags.
    """

    before_name: ClassVar[str] = "<function="
    behind_name: ClassVar[str] = ">"
    before_key: ClassVar[str] = "<parameter="
    behind_key: ClassVar[str] = ">"
    behind_value: ClassVar[str] = "</parameter>"
    behind_call: ClassVar[str] = "</function>"
    line: ClassVar[str] = "\n"  # what may stand on both sides of a value
    is_opened: ClassVar[bool] = False  # what stands before the name was the delimiter

    def _run(self) -> Iterator[None]:
        yield
        if not self.is_opened:
            yield from self._tag(self.before_name)
            yield
        while (yield from self._call()) == self.behind_call and self._closing:
            yield
            if (yield from self._tag(self.before_name, self._closing)) != self.before_name:
                break
            yield
        self._settle()

    def _call(self) -> Generator[None, None, str]:
        """Take a call, from behind the tag before its name; return the tag that ended it."""
        self._is_between = False
        yield from self._skip()
        name = yield from self._letters(IN_NAMES)
        if not self._ledger.knows(name):
            raise NotACall
        if self.behind_name:
            yield from self._take(self.behind_name)
            yield
        tags = [tag for tag in (self.before_key, self.behind_call, self._closing) if tag]
        tag = yield from self._tag(*tags)
        while tag == self.before_key:
            yield
            yield from self._argument(name)
            yield
            tag = yield from self._tag(*tags)
        if not self._is_live:
            self._open(name)
        self._say("}")
        self._finish()
        return tag

    def _argument(self, name: str) -> Iterator[None]:
        key = yield from self._key()
        if self._is_live:
            self._say(", ")
        else:
            self._open(name)
        self._say(f"{json.dumps(key, ensure_ascii=False)}: ")
        yield
        if self.line and self._char == self.line:
            self._eat()
            yield
        kinds = self._ledger.kinds(name, key)
        if kinds == TEXT:
            yield from self._string()
            return
        text = yield from self._text()
        value = read_value(text)
        if value is None and kinds and "string" not in kinds:
            # As templates write lists that have no filter for it.
            value = _LiteralReader(CallState((), str), "").read(text)
        is_text = value is None or ("string" in kinds and not is_of(kinds - TEXT, value))
        self._say(json.dumps(text, ensure_ascii=False) if value is None or is_text else value)

    def _text(self) -> Generator[None, None, str]:
        """Take a whole value, and the tag that closes it."""
        text = yield from self._until(self.behind_value)
        return text.removesuffix(self.line)

    def _key(self) -> Generator[None, None, str]:
        """Take the name of a parameter, and all up to its value."""
        return (yield from self._until(self.behind_key))

    def _string(self) -> Iterator[None]:
        """Emit a string while it comes, but for what may be the tag that closes it."""
        self._say('"')
        closings, text = (self.behind_value, self.line + self.behind_value), ""
        while True:
            text += self._char
            self._eat()
            if text.endswith(self.behind_value):
                break
            certain = len(text) - max(overlap(text, closing) for closing in closings)
            if certain:
                self._say("".join(map(escaped, text[:certain])))
                text = text[certain:]
            yield
        text = text.removesuffix(self.behind_value).removesuffix(self.line)
        self._say("".join(map(escaped, text)) + '"')

    def _open(self, name: str) -> None:
        self._begin(name)
        self._say("{")


class OpenedCalls(TaggedCalls):
    """`TaggedCalls` behind ``<function=``: many a model forgets the delimiter before it."""

    is_opened = True


class UnlinedCalls(TaggedCalls):
    """`TaggedCalls` without line ends around values, as Seed-OSS writes them."""

    line = ""


class ParameterCalls(TaggedCalls):
    """MiniCPM 5's: ``<function name="f"><param name="a">…</param></function>``, strings perhaps in a section of XML."""

    before_name = '<function name="'
    behind_name = '">'
    before_key = '<param name="'
    behind_key = '">'
    behind_value = "</param>"
    line = ""
    is_opened = True
    section: ClassVar[tuple[str, str]] = ("<![CDATA[", "]]>")

    def _text(self) -> Generator[None, None, str]:
        text = yield from super()._text()
        before, after = self.section
        return text[len(before) : -len(after)] if text.startswith(before) and text.endswith(after) else text

    def _string(self) -> Iterator[None]:
        text = yield from self._text()
        self._say(json.dumps(text, ensure_ascii=False))


class _LiteralReader(AloneReader, PythonCalls):
    """Reads a value of Python's that stands alone."""


class KeyedCalls(TaggedCalls):
    """GLM's: ``f<arg_key>a</arg_key><arg_value>…</arg_value>``, where the name is all that stands before."""

    behind_name = ""
    before_key = "<arg_key>"
    behind_key = "</arg_key>"
    behind_value = "</arg_value>"
    behind_call = ""
    line = ""
    is_opened = True

    def _key(self) -> Generator[None, None, str]:
        key = yield from super()._key()
        yield
        yield from self._tag("<arg_value>")
        return key
