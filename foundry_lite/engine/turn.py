"""One admitted request inside the worker: the tokens it has, and the answer they become."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from foundry_lite.engine.sampler import Chooser
from foundry_lite.engine.stopping import StopMatcher
from foundry_lite.engine.text import Detokenizer
from foundry_lite.engine.tools import Parsed, ToolCallParser
from foundry_lite.generation import Delta, Finish, Timings, Usage


class Answer:
    """Tokens in, text out: detokenised, cut at a stop string, tool calls taken out of it."""

    def __init__(self, detokenizer: Detokenizer, stops: tuple[str, ...], *, parses_tools: bool) -> None:
        self._detokenizer = detokenizer
        self._stops = StopMatcher(stops)
        self._tools = ToolCallParser() if parses_tools else None

    def feed(self, token: int) -> Parsed:
        """Take one token; return what it adds."""
        return self._parse(self._stops.feed(self._detokenizer.feed(token)))

    def flush(self) -> Parsed:
        """Return what was held back, now that no token follows."""
        last = self._parse(self._stops.feed(self._detokenizer.flush()) + self._stops.flush())
        if self._tools is None:
            return last
        rest = self._tools.flush()
        return Parsed(last.text + rest.text, last.calls + rest.calls)

    @property
    def is_stopped(self) -> bool:
        return self._stops.matched

    @property
    def has_calls(self) -> bool:
        return self._tools is not None and self._tools.found

    def _parse(self, text: str) -> Parsed:
        return Parsed(text) if self._tools is None else self._tools.feed(text)


@dataclass(slots=True)
class Clock:
    """When things happened to a turn; seconds, monotonic. ``prefill`` is a duration."""

    begun: float = field(default_factory=time.monotonic)
    admitted: float = 0.0
    first_token: float = 0.0
    prefill: float = 0.0


@dataclass(slots=True, eq=False)
class Turn:
    """One request from its admission to its end. Owned by the scheduler."""

    number: int
    prompt: list[int]
    chooser: Chooser
    answer: Answer
    eos_ids: frozenset[int]  # empty when the end of turn is ignored
    max_new_tokens: int
    slot: int = -1
    prefilled: int = 0  # tokens of the prompt that the slot holds
    new_tokens: int = 0
    last_token: int = -1
    clock: Clock = field(default_factory=Clock)

    @property
    def is_prefilled(self) -> bool:
        return self.prefilled == len(self.prompt)

    def accept(self, token: int) -> Delta:
        """Take the next token; the delta's ``finish`` says whether it was the last."""
        self.last_token = token
        self.new_tokens += 1
        if self.new_tokens == 1:
            self.clock.first_token = time.monotonic()
        if token in self.eos_ids:
            return self._finish(Parsed(), Finish.STOP)
        added = self.answer.feed(token)
        if self.answer.is_stopped:
            return self._finish(added, Finish.STOP)
        if self.new_tokens >= self.max_new_tokens:
            return self._finish(added, Finish.LENGTH)
        return Delta(added.text, added.calls, tokens=1)

    def _finish(self, added: Parsed, finish: Finish) -> Delta:
        rest = self.answer.flush()
        if finish is Finish.STOP and self.answer.has_calls:
            finish = Finish.TOOL_CALLS
        return Delta(
            text=added.text + rest.text,
            tool_calls=added.calls + rest.calls,
            tokens=1,
            finish=finish,
            usage=Usage(len(self.prompt), self.new_tokens),
            timings=Timings(
                queue=self.clock.admitted - self.clock.begun,
                prefill=self.clock.prefill,
                decode=time.monotonic() - self.clock.first_token,
            ),
        )
