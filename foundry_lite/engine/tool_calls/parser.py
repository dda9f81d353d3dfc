"""Tool-call parser: takes calls out of the text of an answer and emits them piece by piece while they arrive.

Text around calls stays text. What looks like a call and is none, because it is no JSON or names no tool that was
declared, is returned as the text it is: nothing is lost. Once a call is certain (its name is known and its arguments
have begun) it is emitted and stays, however the answer goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from foundry_lite.engine.tool_calls.formats import HERMES, ToolFormat
from foundry_lite.engine.tool_calls.stream_reader import CallReader, CallState, ReadResult
from foundry_lite.generation import CallPiece


class OutputPiece(NamedTuple):
    """A piece of parsed output: text, pieces of tool calls, and reasoning."""

    text: str = ""
    calls: tuple[CallPiece, ...] = ()
    reasoning: str = ""


class ToolCallParser:
    """Splits a string that arrives in pieces into plain text and pieces of calls.

    ``names`` are the tools that may be called; ``None`` is any. ``schemas`` are the parameters that tools declare. With
    ``is_single``, what follows the first call is dropped. With ``is_formatted``, an answer that does not begin with a
    call has a format of its own, and no calls. With ``is_forced`` there is no text beside calls: what is left at the
    end is the beginning of one that was cut off.
    """

    def __init__(
        self,
        dialect: ToolFormat = HERMES,
        names: Collection[str] | None = None,
        *,
        schemas: Mapping[str, dict[str, Any] | None] | None = None,
        is_single: bool = False,
        is_formatted: bool = False,
        is_forced: bool = False,
    ) -> None:
        self._dialect = dialect
        self._is_formatted = is_formatted
        self._is_forced = is_forced
        self._ledger = CallState(names, dialect.new_id, is_single, schemas or {})
        self._held = ""
        self._trial: _Trial | None = None
        self._is_first = True  # no text but white space so far: calls without a delimiter may stand here
        self._trims = False  # line ends that follow a call belong to it

    @property
    def found(self) -> bool:
        """Return whether the answer calls tools, and every call is whole."""
        return 0 < self._ledger.whole == self._ledger.begun

    @property
    def is_full(self) -> bool:
        """Return whether the one tool call that is wanted is whole."""
        return self._ledger.is_full

    def feed(self, piece: str) -> OutputPiece:
        """Take the next piece; return what is decided."""
        self._held += piece
        text: list[str] = []
        calls: list[CallPiece] = []
        while self._held and (self._trial is not None or self._find(text)):
            assert self._trial is not None
            heard = self._trial.feed(self._held)
            calls += heard.pieces
            self._held = heard.rest
            if self.is_full:
                self._held = ""
            elif heard.is_over:
                self._leave(heard, text)
        told = "".join(text)
        if self._is_forced and not told.strip():  # white space before and behind forced calls
            told = ""
        return OutputPiece(told, tuple(calls))

    def flush(self) -> OutputPiece:
        """Return what was held back, now that no text follows. A call that was begun stays as it is."""
        if self._trial is None:
            held, self._held = self._held, ""
            return OutputPiece("" if self.is_full or self._is_forced else held)
        heard = self._trial.end()
        text: list[str] = []
        self._leave(heard, text)
        return OutputPiece("" if self.is_full or self._is_forced else "".join(text), heard.pieces)

    def _find(self, text: list[str]) -> bool:
        """Release the text before the next delimiter and begin to read behind it; return whether there is one."""
        if self._trims:
            self._held = self._held.lstrip("\n")
            self._trims = not self._held
        place, mark = self._dialect.find(self._held, is_first=self._is_first)
        if self._is_formatted and not (self._is_first and not self._held[:place].strip()):
            place, mark = len(self._held), None
        text.append(self._held[:place])
        self._is_first = self._is_first and not self._held[:place].strip()
        self._held = self._held[place + len(mark or "") :]
        if mark is None:
            return False
        self._trial = _Trial(mark, self._dialect.readers(mark, self._ledger))
        return True

    def _leave(self, heard: ReadResult, text: list[str]) -> None:
        assert self._trial is not None
        has_begun, mark = self._trial.has_begun, self._trial.mark
        self._trial = None
        self._is_first = self._is_formatted and has_begun
        if not has_begun:
            text.append(mark)
        text.append(heard.text)
        self._trims = has_begun and not heard.text


class _Trial:
    """The candidate readers of one opening delimiter, run side by side until one is certain of a call."""

    def __init__(self, mark: str, readers: list[CallReader]) -> None:
        self.mark = mark
        self._readers = readers

    @property
    def has_begun(self) -> bool:
        return any(reader.has_begun for reader in self._readers)

    def feed(self, text: str) -> ReadResult:
        """Feed all readers; return the result of the one that begins a call, else of the one that got furthest."""
        heard = ReadResult(is_over=True, rest=text)
        going = []
        for reader in self._readers:
            one = reader.feed(text)
            if reader.has_begun:
                self._readers = [reader]
                return one
            if not one.is_over:
                going.append(reader)
            elif len(one.rest) <= len(heard.rest):
                heard = one
        if not going:
            return heard
        self._readers = going
        return ReadResult()

    def end(self) -> ReadResult:
        """Return what is left when no text follows: all readers hold the same."""
        return self._readers[0].end()
