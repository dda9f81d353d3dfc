"""Stream reader of tool calls: reads a call character by character while it is being written.

A reader is a coroutine: it looks at the character in ``_char``, takes it with ``_eat``, and yields to have the next.
What it has taken and not yet emitted is kept, so that nothing is lost when the text turns out to be no call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from foundry_lite.engine.tool_calls.declared_types import kinds_of
from foundry_lite.generation import CallPiece

SPACE = " \t\r\n"
IN_NAMES = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


class NotACall(Exception):
    """Text that cannot be a tool call, or cannot go on as one."""


@dataclass(slots=True)
class CallState:
    """The calls of one answer: how many were begun, and how many are whole.

    ``names`` are the tools that there are, ``schemas`` their parameters, where they declare some.
    """

    names: Collection[str] | None
    new_id: Callable[[], str]
    is_single: bool = False  # what follows the first call is dropped
    schemas: Mapping[str, dict[str, Any] | None] = field(default_factory=dict)
    begun: int = 0
    whole: int = 0

    def knows(self, name: str) -> bool:
        """Return whether a tool has that name; without declared tools any may."""
        return self.names is None or name in self.names

    def kinds(self, name: str, parameter: str) -> frozenset[str]:
        """Return the types of values that a tool declares for a parameter; none where it declares none."""
        return kinds_of(self.schemas.get(name), parameter)

    @property
    def is_full(self) -> bool:
        return self.is_single and self.whole > 0


class ReadResult(NamedTuple):
    """Result of a reader: pieces of calls; once it is over, the text that was no call, and what it left unread."""

    pieces: tuple[CallPiece, ...] = ()
    is_over: bool = False
    text: str = ""
    rest: str = ""


class CallReader(ABC):
    """Reads one tool-call format, from behind its opening delimiter to behind its closing one.

    ``has_begun`` is set once a call is certain: what was emitted of it is not taken back.
    """

    def __init__(self, ledger: CallState, closing: str) -> None:
        self._ledger = ledger
        self._closing = closing
        self._char = ""
        self._is_eaten = True
        self._held: list[str] = []  # taken, and neither emitted nor certain to be part of a call
        self._said: list[str] = []  # JSON text that goes to the call which is being written
        self._pieces: list[CallPiece] = []
        self._is_live = False  # inside the arguments of a call that was begun
        self._is_between = False  # behind a call, before the next
        self._index = -1
        self.has_begun = False
        self._course = self._run()
        next(self._course)

    def feed(self, text: str) -> ReadResult:
        """Take the next characters; return the pieces of calls in them."""
        for place, char in enumerate(text):
            self._char, self._is_eaten = char, False
            try:
                next(self._course)
            except (NotACall, StopIteration):
                rest = text[place + self._is_eaten :]
                return ReadResult(self._told(), True, "".join(self._held), rest)
        return ReadResult(self._told())

    def end(self) -> ReadResult:
        """Return what is left when no character follows: a call that was begun stays, as far as it came."""
        held = "".join(self._held)
        if self._is_live:
            self._said.append(held)
        is_text = not (self._is_live or self._is_between)
        return ReadResult(self._told(), True, held if is_text else "")

    @abstractmethod
    def _run(self) -> Iterator[None]:
        """Read it all; begins with a yield."""

    def _told(self) -> tuple[CallPiece, ...]:
        self._tell()
        pieces, self._pieces = tuple(self._pieces), []
        return pieces

    def _captured(self) -> str:
        """Return the JSON of a value outside the arguments, which is not emitted."""
        said = "".join(self._said)
        self._said = []
        return said

    def _tell(self) -> None:
        if self._is_live:
            said = self._captured()
            if said:
                self._pieces.append(CallPiece(self._index, arguments=said))

    def _eat(self) -> None:
        self._held.append(self._char)
        self._is_eaten = True

    def _say(self, text: str) -> None:
        self._said.append(text)
        if self._is_live:
            self._held.clear()

    def _begin(self, name: str) -> None:
        """Announce a call: from here on it is one."""
        if self._ledger.is_full:
            raise NotACall
        self._is_between = False
        self.has_begun = True
        self._index = self._ledger.begun
        self._ledger.begun += 1
        self._pieces.append(CallPiece(self._index, self._ledger.new_id(), name))
        self._is_live = True
        self._held.clear()

    def _finish(self) -> None:
        """End a call, whose arguments are whole."""
        self._ledger.whole += 1
        self._tell()
        self._is_live = False
        self._settle()

    def _settle(self) -> None:
        """Drop what was held back: all that was taken is part of a call."""
        self._held.clear()
        self._is_between = True

    def _skip(self) -> Iterator[None]:
        while self._char in SPACE:
            self._eat()
            yield

    def _take(self, text: str) -> Iterator[None]:
        """Take exactly this string, whose last character is taken without asking for the next."""
        for place, letter in enumerate(text):
            if place:
                yield
            if self._char != letter:
                raise NotACall
            self._eat()

    def _tag(self, *tags: str) -> Generator[None, None, str]:
        """Take white space and one of the tags, whose last character is taken without asking for the next."""
        yield from self._skip()
        taken = ""
        while True:
            taken += self._char
            if not any(tag.startswith(taken) for tag in tags):
                raise NotACall
            self._eat()
            if taken in tags:
                return taken
            yield

    def _until(self, mark: str) -> Generator[None, None, str]:
        """Take all up to a delimiter, and the delimiter; return what stands before it."""
        letters: list[str] = []
        while True:
            letters.append(self._char)
            self._eat()
            if self._char == mark[-1] and "".join(letters[-len(mark) :]) == mark:
                return "".join(letters[: -len(mark)])
            yield

    def _close(self) -> Iterator[None]:
        """Take the closing delimiter, where the format has one."""
        if self._closing:
            yield from self._take(self._closing)
            self._settle()

    def _letters(self, alphabet: str) -> Generator[None, None, str]:
        """Take all characters of an alphabet that follow, and return them; there must be one."""
        letters: list[str] = []
        while self._char in alphabet:
            letters.append(self._char)
            self._eat()
            yield
        if not letters:
            raise NotACall
        return "".join(letters)


def overlap(text: str, mark: str) -> int:
    """Return how many characters at the end of ``text`` begin ``mark``."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
