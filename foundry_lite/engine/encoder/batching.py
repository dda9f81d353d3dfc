"""Batches of texts that are encoded together: texts of about one length, from whatever requests wait.

Whose turn it is, fair queueing decides: every text is given the virtual time at which it would begin if all waiting
requests were served at once, each at its share. So a short request that finds a huge one at work has its turn at once,
and many short ones do not keep the huge one from its share. The text whose turn it is leads a batch, and those whose
lengths are next to its own fill it up.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

MOST_TOKENS = 256  # of a batch, padding included; docs/encoders.md has what was measured
MOST_ROWS = 64
_FREE_PADDING = 16  # tokens: about what calling the model once more costs
_MOST_PADDING = 1 / 8  # of a batch


@dataclass(slots=True, eq=False)
class Row:
    """A tokenised text: the one at index ``place`` of a request. ``kinds`` are token types: which half of a pair."""

    request: int
    place: int
    ids: Ids
    kinds: Ids
    turn: float = 0.0
    serial: int = 0
    is_taken: bool = field(default=False)

    @property
    def key(self) -> tuple[int, int]:
        return len(self.ids), self.serial


class Waiting:
    """The texts that wait, and the turns of their requests. Not safe for threads."""

    def __init__(self, most_tokens: int = MOST_TOKENS, most_rows: int = MOST_ROWS) -> None:
        self._most_tokens = most_tokens
        self._most_rows = most_rows
        self._serials = itertools.count()
        self._now = 0.0  # the virtual time: tokens that each waiting request was given since the beginning
        self._ends: dict[int, float] = {}  # by request: when its last text would be done
        self._counts: Counter[int] = Counter()  # texts by request
        self._by_length: list[Row] = []
        self._by_turn: list[tuple[float, int, Row]] = []  # a heap, with those that were taken out of turn

    def __len__(self) -> int:
        return len(self._by_length)

    def add(self, rows: Iterable[Row]) -> None:
        """Queue texts."""
        for row in rows:
            row.serial = next(self._serials)
            row.turn = max(self._now, self._ends.get(row.request, 0.0))
            self._ends[row.request] = row.turn + len(row.ids)
            self._counts[row.request] += 1
            insort(self._by_length, row, key=lambda one: one.key)
            heapq.heappush(self._by_turn, (row.turn, row.serial, row))

    def drop(self, request: int) -> None:
        """Forget a request, and those of its texts that still wait."""
        self._ends.pop(request, None)
        if self._counts.pop(request, 0):
            for row in self._by_length:
                row.is_taken = row.is_taken or row.request == request
            self._by_length = [row for row in self._by_length if not row.is_taken]

    def take(self) -> list[Row]:
        """Take the next batch, the shortest text first; at least one must wait."""
        lead = self._next()
        low, high = self._reach(bisect_left(self._by_length, lead.key, key=lambda one: one.key))
        batch = self._by_length[low:high]
        del self._by_length[low:high]
        self._now += sum(len(row.ids) for row in batch) / len(self._counts)
        for row in batch:
            row.is_taken = True
            self._counts[row.request] -= 1
            if not self._counts[row.request]:
                del self._counts[row.request]
        return batch

    def _next(self) -> Row:
        while True:
            _, _, row = heapq.heappop(self._by_turn)
            if not row.is_taken:
                return row

    def _reach(self, lead: int) -> tuple[int, int]:
        """Return where the batch around a leader begins and ends: the neighbours that cost least padding."""
        low, high = lead, lead + 1
        tokens = longest = len(self._by_length[lead].ids)
        while high - low < self._most_rows:
            below = len(self._by_length[low - 1].ids) if low else None
            above = len(self._by_length[high].ids) if high < len(self._by_length) else None
            if above is None or (below is not None and longest - below <= (above - longest) * (high - low)):
                wanted, taller = below, longest
            else:
                wanted, taller = above, above
            if wanted is None or not self._fits(tokens + wanted, taller * (high - low + 1)):
                break
            tokens, longest = tokens + wanted, taller
            low, high = (low - 1, high) if wanted is below else (low, high + 1)
        return low, high

    def _fits(self, tokens: int, padded: int) -> bool:
        return padded <= self._most_tokens and padded - tokens <= max(_FREE_PADDING, _MOST_PADDING * padded)
