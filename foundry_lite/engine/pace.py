"""How much of a prompt is computed between two steps of the running streams.

A stream's gap between two tokens is a decode step, and a chunk of somebody's prompt if one is waiting. So that the
95th percentile of the gaps stays below three times their median, a chunk may take one and a half decode steps. No
model of the machine is needed: a chunk that took too long makes the next one smaller at once, one that left room makes
it a size larger. Below a few milliseconds nobody notices, so there is a floor.
"""

from __future__ import annotations

CHUNK = 128  # tokens; more is not faster (measured: 64 to 512 within noise), and this bounds the memory of a chunk
_SIZES = (4, 8, 16, 32, 64, CHUNK)
_SHARE = 1.5
_FLOOR = 0.004  # seconds
_ROOM = 0.6  # the next size takes up to twice as long, mostly much less: small chunks are dominated by what is fixed
_MEMORY = 0.8  # weight of what was known when a decode step is timed


class Pace:
    """Settles on a chunk size; seconds."""

    def __init__(self) -> None:
        self._decode: float | None = None
        self._place = len(_SIZES) - 1

    @property
    def chunk(self) -> int:
        """How many tokens of a prompt to compute beside running streams."""
        return _SIZES[self._place]

    def note_decode(self, seconds: float) -> None:
        """A decode step took this long."""
        known = seconds if self._decode is None else self._decode
        self._decode = _MEMORY * known + (1 - _MEMORY) * seconds

    def note_chunk(self, tokens: int, seconds: float) -> None:
        """A chunk beside running streams took this long."""
        if self._decode is None:
            return
        budget = max(_SHARE * self._decode, _FLOOR)
        if seconds > budget:
            fitting = tokens * budget / seconds
            self._place = max((place for place, size in enumerate(_SIZES) if size <= fitting), default=0)
        elif seconds < _ROOM * budget and tokens >= self.chunk:
            self._place = min(self._place + 1, len(_SIZES) - 1)
