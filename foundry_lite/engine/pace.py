"""How much of a prompt is computed between two steps of the running streams.

A stream's gap between two tokens is a decode step, and a chunk of somebody's prompt if one is waiting. So that the
95th percentile of the gaps stays below three times their median, a chunk may take one and a half decode steps; the
sizes are learnt from what steps and chunks took. Below a few milliseconds nobody notices, so there is a floor.
"""

from __future__ import annotations

CHUNK = 128  # tokens; more is not faster (measured: 64 to 512 within noise), and this bounds the memory of a chunk
_SIZES = (4, 8, 16, 32, 64, CHUNK)
_SHARE = 1.5
_FLOOR = 0.004  # seconds
_MEMORY = 0.8  # weight of what was known when something new is learnt


class Pace:
    """Learns how long a decode step and chunks take; seconds."""

    def __init__(self) -> None:
        self._decode: float | None = None
        self._chunks: dict[int, float] = {}

    def note_decode(self, seconds: float) -> None:
        """A decode step took this long."""
        self._decode = seconds if self._decode is None else _blend(self._decode, seconds)

    def note_chunk(self, tokens: int, seconds: float) -> None:
        """A chunk of a prompt took this long; only chunks of the sizes in use are learnt from."""
        if tokens in _SIZES:
            known = self._chunks.get(tokens)
            self._chunks[tokens] = seconds if known is None else _blend(known, seconds)

    def chunk(self) -> int:
        """Return how many tokens of a prompt to compute beside running streams."""
        if self._decode is None:
            return CHUNK
        budget = max(_SHARE * self._decode, _FLOOR)
        return max((size for size in _SIZES if self._expected(size) <= budget), default=_SIZES[0])

    def _expected(self, size: int) -> float:
        """Return the time for a chunk; of a size never seen, in proportion to the nearest one that was."""
        if not self._chunks:
            return 0.0
        nearest = min(self._chunks, key=lambda known: abs(known - size))
        return self._chunks[nearest] * size / nearest


def _blend(known: float, new: float) -> float:
    return _MEMORY * known + (1 - _MEMORY) * new
