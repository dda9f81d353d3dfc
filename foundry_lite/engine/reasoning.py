"""Reasoning parser: the tags around a model's reasoning, and the text between them taken out of an answer.

Reasoning stands at the beginning of an answer. What a later tag encloses is text: an answer may mention tags.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

from foundry_lite.engine.tool_calls.stream_reader import overlap


class Tags(NamedTuple):
    """Tags that enclose a model's reasoning.

    ``title`` is a word that the model writes behind the opening tag, ``answer`` what it writes before its text, and
    ``end`` behind that.
    """

    opening: str
    closing: str
    title: str = ""
    answer: str = ""
    end: str = ""


KNOWN = (
    Tags("<think>", "</think>"),
    Tags("[THINK]", "[/THINK]"),
    Tags("<|channel>", "<channel|>", "thought"),
    Tags("<seed:think>", "</seed:think>"),
    Tags("<thought>", "</thought>"),
    Tags("<|thought_start|>", "<|thought_end|>"),
    Tags("Here is my thought process:", "Here is my response:"),
    Tags("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    Tags("<mm:think>", "</mm:think>"),
)
_LONGEST_SPACE = 1_000  # characters of white space that are waited for; a model that writes nothing else is not held up
_AROUND_TEXT = (("<response>", "</response>"), ("<answer>", "</answer>"))


class ReasoningState(StrEnum):
    """The reasoning state in which an answer begins: the prompt may have opened the thoughts, and closed them."""

    FREE = "free"  # the model opens its thoughts, or answers at once
    INSIDE = "inside"
    OVER = "over"


def recognise_tags(template: str, tokens: Collection[str]) -> Tags | None:
    """Return the reasoning tags in a template or among the tokens; ``None`` for a model that does not think."""
    for tags in KNOWN:
        if tags.opening in template or tags.closing in template or {tags.opening, tags.closing} <= set(tokens):
            around = (pair for pair in _AROUND_TEXT if all(tag in template for tag in pair))
            answer, end = next(around, ("", ""))
            return tags._replace(answer=answer, end=end)
    return None


def stage_of(prompt_end: str, tags: Tags) -> ReasoningState:
    """Return the reasoning state in which the answer to a prompt begins, whose last characters these are."""
    end = prompt_end.rstrip()
    if end.endswith((tags.opening, tags.opening + tags.title)):
        return ReasoningState.INSIDE
    return ReasoningState.OVER if end.endswith(tags.closing) else ReasoningState.FREE


class Split(NamedTuple):
    """A piece of an answer, divided."""

    thought: str = ""
    text: str = ""


class ReasoningParser:
    """Divides an answer that arrives in pieces into thoughts and text; tags and white space around them are neither.

    So are tags around the text, where the family has some; they may be left out.
    """

    def __init__(self, tags: Tags, stage: ReasoningState) -> None:
        self._tags = tags
        self._stage = stage
        self._held = ""
        self._skips_title = stage is ReasoningState.INSIDE and bool(tags.title)
        self._trims = stage is not ReasoningState.FREE  # white space behind a tag
        self._end = ""  # the tag that ends the text
        self._may_wrap = bool(tags.answer)  # no text so far: a tag may stand before it

    @property
    def is_inside(self) -> bool:
        return self._stage is ReasoningState.INSIDE

    @property
    def held(self) -> int:
        """Characters held back, of which it is not decided yet whether they are thoughts or text."""
        return len(self._held)

    def feed(self, piece: str) -> Split:
        """Take the next piece; return what is decided."""
        self._held += piece
        if self._stage is ReasoningState.FREE:
            self._open()
        thought = self._think() if self._stage is ReasoningState.INSIDE else ""
        return Split(thought, self._speak() if self._stage is ReasoningState.OVER else "")

    def flush(self) -> Split:
        """Return what was held back, now that nothing follows."""
        held, self._held = self._held, ""
        if self._stage is ReasoningState.INSIDE:
            return Split(held.strip())
        return Split(text=held.lstrip() if self._trims else held)

    def _open(self) -> None:
        begun = self._held.lstrip()
        opening, closing = self._tags.opening, self._tags.closing
        if begun.startswith(opening):
            self._stage, self._held, self._trims = ReasoningState.INSIDE, begun[len(opening) :], True
            self._skips_title = bool(self._tags.title)
        elif begun.startswith(closing):  # some end thoughts that they never began
            self._stage, self._held, self._trims = ReasoningState.OVER, begun[len(closing) :], True
        elif not (opening.startswith(begun) or closing.startswith(begun)) or len(self._held) > _LONGEST_SPACE:
            self._stage = ReasoningState.OVER

    def _think(self) -> str:
        """Take thoughts out of what is held, up to the closing tag or to what may begin it."""
        closing, title = self._tags.closing, self._tags.title
        self._trim()
        if self._skips_title:
            if title.startswith(self._held):  # nothing, or not all of it yet
                return ""
            self._held = self._held.removeprefix(title)
            self._skips_title, self._trims = False, True
            self._trim()
        thought, tag, rest = self._held.partition(closing)
        if tag:
            self._stage, self._held, self._trims = ReasoningState.OVER, rest, True
            return thought.rstrip()
        thought = _without_space(thought[: len(thought) - overlap(thought, closing)])
        self._held = self._held[len(thought) :]
        return thought

    def _speak(self) -> str:
        self._trim()
        if self._may_wrap:
            begun, answer = self._held.lstrip(), self._tags.answer
            if begun.startswith(answer):
                self._held, self._end, self._trims = begun[len(answer) :], self._tags.end, True
                self._trim()
            elif answer.startswith(begun) and len(self._held) <= _LONGEST_SPACE:
                return ""
            self._may_wrap = False
        text, tag, rest = self._held.partition(self._end) if self._end else (self._held, "", "")
        if tag:
            self._end, self._held, self._trims = "", rest, True
            return text.rstrip() + self._speak()
        if self._end:
            text = _without_space(text[: len(text) - overlap(text, self._end)])
        self._held = self._held[len(text) :]
        return text

    def _trim(self) -> None:
        if self._trims:
            self._held = self._held.lstrip()
            self._trims = not self._held


def _without_space(text: str) -> str:
    """Return a string without the white space at its end, unless that goes on and on."""
    out = text.rstrip()
    return out if len(text) - len(out) <= _LONGEST_SPACE else text
