"""Calls whose name stands before their arguments, which are JSON: Mistral's later format, and those in fences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from foundry_lite.engine.tool_calls.json_reader import ValueReader
from foundry_lite.engine.tool_calls.stream_reader import IN_NAMES, NotACall


class NamedCalls(ValueReader):
    """Mistral's later format: the name, perhaps ``[CALL_ID]`` and the id, ``[ARGS]``, then the arguments."""

    def _run(self) -> Iterator[None]:
        yield
        yield from self._skip()
        name = yield from self._letters(IN_NAMES)
        yield from self._skip()
        while self._char == "[":
            mark = yield from self._letters("[ABCDEFGHIJKLMNOPQRSTUVWXYZ_")
            yield from self._take("]")
            yield
            if mark == "[CALL_ID":
                yield from self._letters(IN_NAMES)
            elif mark != "[ARGS":
                raise NotACall
        yield from self._arguments(name)

    def _arguments(self, name: str) -> Iterator[None]:
        if not self._ledger.knows(name) or self._char not in '{"':
            raise NotACall
        if self._char == "{":
            self._begin(name)
            yield from self._object(0)
            return
        arguments = yield from self._quoted_object()
        self._begin(name)
        self._say(arguments)
        self._finish()


class FencedCalls(NamedCalls):
    """Each call between delimiters of its own: the name, and a fence of JSON."""

    before: ClassVar[str] = "<tool_call>"
    within: ClassVar[str] = ""  # between the name and the arguments, or before the name and behind ``function``
    after: ClassVar[str] = "</tool_call>"

    def _run(self) -> Iterator[None]:
        yield
        while (yield from self._tag(self.before, self._closing)) == self.before:
            yield
            yield from self._call()
            yield
        if not self.has_begun:
            raise NotACall
        self._settle()

    def _call(self) -> Iterator[None]:
        self._is_between = False
        yield from self._skip()
        name = yield from self._letters(IN_NAMES)
        if self.within:
            yield from self._take(self.within)
            yield
            if self._char in IN_NAMES:
                name = yield from self._letters(IN_NAMES)
        yield from self._skip()
        is_fenced = self._char == "`"
        if is_fenced:
            yield from self._take("```json")
            yield
            yield from self._skip()
        yield from self._arguments(name)
        if is_fenced:
            yield from self._tag("```")
            yield
        yield from self._tag(self.after)
        self._settle()


class DeepSeekCalls(FencedCalls):
    """`FencedCalls` in DeepSeek's delimiters; since V3.1 without a fence."""

    before = "<｜tool▁call▁begin｜>"
    within = "<｜tool▁sep｜>"
    after = "<｜tool▁call▁end｜>"
