"""Harmony format of gpt-oss, answers in channels: messages with headers, which are thoughts, calls, or text.

``<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…``; a call has a recipient in its
header, ``to=functions.f``, and JSON in its body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

from foundry_lite.engine.reasoning import ReasoningState, Split, Tags
from foundry_lite.engine.tool_calls.json_reader import ValueReader
from foundry_lite.engine.tool_calls.stream_reader import NotACall, overlap

START, MESSAGE, CALL = "<|start|>assistant", "<|message|>", "<|call|>"
ENDS = ("<|end|>", CALL, "<|return|>", "<|start|>")
MARKS = frozenset({"<|start|>", "<|channel|>", "<|constrain|>", MESSAGE, *ENDS})
COMMENTARY = f"<|channel|>commentary{MESSAGE}"
HEAD = f"<|channel|>commentary to=functions.{{}} <|constrain|>json{MESSAGE}"  # of a call
OTHER_HEADS = tuple(  # the recipient before the channel, as the template has it
    f" to=functions.{{}}<|channel|>commentary {kind}{MESSAGE}" for kind in ("json", "<|constrain|>json")
)
CHANNELS = Tags(f"<|channel|>analysis{MESSAGE}", "<|end|>", answer=f"<|channel|>final{MESSAGE}")

_BEGINNINGS = ("<|start|>", "<|channel|>", "to=")
_LONGEST_HEADER = 300  # characters
_RECIPIENT = re.compile(r"to=functions\.([A-Za-z0-9_.-]+)")
_ANALYSIS = re.compile(r"<\|channel\|>\s*analysis")


class Kind(StrEnum):
    """The kind of a message: thought, text or tool call."""

    THOUGHT = "thought"
    TEXT = "text"
    CALL = "call"


class ChannelSplitter:
    """Divides an answer that arrives in pieces into thoughts and text; headers are neither, but for those of calls.

    A call is handed on as the message that it is, with ``<|start|>assistant`` before it. Where an answer has no header,
    it is text.
    """

    def __init__(self, stage: ReasoningState) -> None:
        self._kind = Kind.THOUGHT if stage is ReasoningState.INSIDE else None  # none within a header
        self._held = ""
        self._told: set[Kind] = set()
        self._out: dict[Kind, list[str]] = {}

    @property
    def is_inside(self) -> bool:
        return self._kind is Kind.THOUGHT

    @property
    def held(self) -> int:
        """Characters held back, of which it is not decided yet whether they are thoughts or text."""
        return len(self._held)

    def feed(self, piece: str) -> Split:
        """Take the next piece; return what is decided."""
        self._held += piece
        while self._held and (self._read_header() if self._kind is None else self._read_body(self._kind)):
            pass
        return self._take()

    def flush(self) -> Split:
        """Return what was held back, now that nothing follows. A header without its message is dropped."""
        held, self._held = self._held, ""
        if self._kind is not None:
            self._say(self._kind, held)
        elif not held.lstrip().startswith(_BEGINNINGS):
            self._say(Kind.TEXT, held)
        return self._take()

    def _read_header(self) -> bool:
        header, mark, rest = self._held.partition(MESSAGE)
        begun, longest = self._held.lstrip(), _LONGEST_HEADER + (0 if mark else len(MESSAGE))
        is_header = any(one.startswith(begun) or begun.startswith(one) for one in _BEGINNINGS)
        if not is_header or len(header) > longest:
            self._open(Kind.TEXT)
            self._say(Kind.TEXT, self._held[0])  # it may begin a delimiter, and that would lead here again
            self._held = self._held[1:]
            return True
        if not mark:
            return False
        self._held = rest
        if _RECIPIENT.search(header) is not None:
            self._open(Kind.CALL)
            self._say(Kind.CALL, f"{START}{header.removeprefix(START)}{MESSAGE}")
        else:
            self._open(Kind.THOUGHT if _ANALYSIS.search(header) else Kind.TEXT)
        return True

    def _read_body(self, kind: Kind) -> bool:
        """Take a message up to its end, or to what may be one."""
        found = [(at, end) for end in ENDS if (at := self._held.find(end)) >= 0]
        if not found:
            at = len(self._held) - max(overlap(self._held, end) for end in ENDS)
            self._say(kind, self._held[:at])
            self._held = self._held[at:]
            return False
        at, end = min(found)
        self._say(kind, self._held[:at] + (CALL if kind is Kind.CALL else ""))
        self._held = self._held[at if end == "<|start|>" else at + len(end) :]
        self._kind = None
        return True

    def _open(self, kind: Kind) -> None:
        self._kind = kind
        if kind in self._told and kind is not Kind.CALL:
            self._say(kind, "\n\n")
        self._told.add(kind)

    def _say(self, kind: Kind, text: str) -> None:
        self._out.setdefault(Kind.TEXT if kind is Kind.CALL else kind, []).append(text)

    def _take(self) -> Split:
        out, self._out = self._out, {}
        return Split("".join(out.get(Kind.THOUGHT, ())), "".join(out.get(Kind.TEXT, ())))


class ChannelCalls(ValueReader):
    """A message to a function: the rest of its header, and JSON."""

    def _run(self) -> Iterator[None]:
        yield
        header = yield from self._until(MESSAGE)
        yield
        yield from self._skip()
        recipient = _RECIPIENT.search(header)
        if recipient is None or not self._ledger.knows(recipient[1]) or self._char != "{":
            raise NotACall
        self._begin(recipient[1])
        yield from self._object(0)
        yield from self._skip()
        yield from self._close()
