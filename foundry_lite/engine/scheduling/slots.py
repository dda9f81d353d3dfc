"""KV slots: the tokens that each slot holds, the memory that they take, and the prefix that a new prompt can reuse.

The keys and values of a sequence depend on its tokens and its adapter only, so a new prompt need not compute the part
that it shares with a sequence that is still there, be it running or ended. Ended ones stay until their memory is
needed, the longest unused first. The tokens promised to running sequences and those of ended ones never exceed
the limit together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from foundry_lite.engine.runners.base import Runner
from foundry_lite.engine.worker.sequence import Turn

_WORTH_SHARING = 16  # tokens: computing fewer costs less than it is worth to move them
_COMPUTED = 2  # tokens of a prompt that are computed even if all are there: for the logits, and by the usual kernels
_MOSTLY = 0.75  # the share of an ended sequence from which on it is continued in place, not copied


@dataclass(slots=True, eq=False)
class Slot:
    """A KV slot, which holds the keys and values of ``tokens``. ``turn`` is ``None`` when no sequence runs in it."""

    number: int
    tokens: list[int] = field(default_factory=list)
    adapter: str | None = None
    turn: Turn | None = None
    steady: int = 0  # tokens from the beginning that were computed in whole chunks, as any prompt's would be
    used: int = 0  # a counter: the higher, the later

    @property
    def is_idle(self) -> bool:
        return self.turn is None and bool(self.tokens)


class SlotTable:
    """The slots of one runner. ``limit`` is in tokens; ``unit`` is the chunk size in reproducible mode, else 1."""

    def __init__(self, runner: Runner, *, most: int, limit: int, unit: int = 1) -> None:
        self._runner = runner
        self._most = most
        self._limit = limit
        self._unit = unit
        self._slots = [Slot(number) for number in range(runner.slots)]
        self._clock = itertools.count(1)

    @property
    def promised_tokens(self) -> int:
        """Tokens that running sequences may need at most."""
        return sum(self._cost(slot.turn.most_tokens) for slot in self._slots if slot.turn is not None)

    @property
    def kept_tokens(self) -> int:
        """Tokens that ended sequences hold."""
        return sum(self._cost(len(slot.tokens)) for slot in self._idle())

    def uses(self, adapter: str) -> bool:
        """Return whether a running sequence uses the adapter."""
        return any(slot.turn is not None and slot.adapter == adapter for slot in self._slots)

    def place(self, turn: Turn) -> bool:
        """Give a sequence a slot that holds as much of its prompt as can be had; return ``False`` when it must wait."""
        running = sum(slot.turn is not None for slot in self._slots)
        need = self._cost(turn.most_tokens)
        if running >= self._most or self.promised_tokens + need > self._limit:
            return False
        source, shared = self._match(turn)
        continues = source is not None and self._can_continue(source, shared)
        slot = source if source is not None and continues else self._vacate(source, need)
        if source is not None and slot is not source:
            self._runner.copy(source.number, slot.number, shared)
            slot.tokens = source.tokens[:shared]
        self._begin(slot, turn, shared)
        self._shrink(0, None)
        return True

    def release(self, turn: Turn) -> None:
        """Release the slot of an ended sequence: its keys and values stay for others."""
        slot = self._slots[turn.slot]
        slot.turn = None
        slot.used = next(self._clock)
        turn.slot = -1

    def note(self, turn: Turn, tokens: list[int], *, steady: bool = False) -> None:
        """Record that a sequence's slot holds these tokens too; ``steady`` when they are a chunk of its prompt."""
        slot = self._slots[turn.slot]
        if steady and slot.steady == len(slot.tokens):
            slot.steady += len(tokens)
        slot.tokens += tokens

    def shorten(self, turn: Turn, length: int) -> None:
        """Forget what a sequence's slot holds beyond ``length`` tokens."""
        slot = self._slots[turn.slot]
        del slot.tokens[length:]
        self._runner.keep(slot.number, length)

    def drop_adapter(self, adapter: str) -> None:
        """Drop the keys and values that ended sequences computed with an adapter."""
        for slot in self._idle():
            if slot.adapter == adapter:
                self._clear(slot)

    def _begin(self, slot: Slot, turn: Turn, shared: int) -> None:
        slot.turn, turn.slot = turn, slot.number
        turn.prefilled = turn.cached = shared
        if shared < len(slot.tokens):
            self.shorten(turn, shared)
        slot.steady = shared if self._unit > 1 else 0
        if not shared:
            self._runner.adapt(slot.number, turn.adapter)
        slot.adapter = turn.adapter

    def _match(self, turn: Turn) -> tuple[Slot | None, int]:
        """Return the slot that holds most of the prompt, and how much of it can be taken over.

        Of a prompt that is scored nothing is: the logits after each of its tokens are wanted.
        """
        if turn.scores is not None:
            return None, 0
        best, most = None, _WORTH_SHARING - 1
        for slot in self._slots:
            if slot.adapter != turn.adapter or len(slot.tokens) <= most:
                continue
            shared = self._usable(slot, turn.prompt)
            if shared > most and (self._runner.can_copy or self._can_continue(slot, shared)):
                best, most = slot, shared
        return (best, most) if best is not None else (None, 0)

    def _usable(self, slot: Slot, prompt: list[int]) -> int:
        shared = min(common_prefix(slot.tokens, prompt), len(prompt) - _COMPUTED)
        if self._unit > 1:
            shared = min(shared, slot.steady)
        return shared // self._unit * self._unit

    def _can_continue(self, slot: Slot, shared: int) -> bool:
        if not slot.is_idle:
            return False
        whole = len(slot.tokens)
        if not self._runner.can_rewind:
            return shared == whole
        return not self._runner.can_copy or shared >= _MOSTLY * whole

    def _vacate(self, source: Slot | None, need: int) -> Slot:
        """Return an empty slot, with memory for ``need`` tokens; where there is none for a copy, ``source`` itself."""
        self._shrink(need, source)
        if source is not None and source.is_idle and self.promised_tokens + self.kept_tokens + need > self._limit:
            return source
        empty = next((slot for slot in self._slots if slot.turn is None and not slot.tokens), None)
        if empty is not None:
            return empty
        oldest = min(self._idle(), key=lambda slot: (slot is source, slot.used))
        if oldest is not source:
            self._clear(oldest)
        return oldest

    def _shrink(self, need: int, source: Slot | None) -> None:
        """Clear idle slots, the longest unused first, until ``need`` more tokens fit; ``source`` is spared."""
        others = sorted((slot for slot in self._idle() if slot is not source), key=lambda slot: slot.used)
        for slot in others:
            if self.promised_tokens + self.kept_tokens + need <= self._limit:
                return
            self._clear(slot)

    def _clear(self, slot: Slot) -> None:
        self._runner.keep(slot.number, 0)
        slot.tokens, slot.adapter, slot.steady = [], None, 0

    def _idle(self) -> Iterator[Slot]:
        return (slot for slot in self._slots if slot.is_idle)

    def _cost(self, tokens: int) -> int:
        return -(-tokens // self._runner.kv_granule) * self._runner.kv_granule


def common_prefix(first: list[int], second: list[int]) -> int:
    """Return how many tokens two sequences have in common from the beginning; by bisection, as slices compare fast."""
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
