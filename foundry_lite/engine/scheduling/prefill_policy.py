"""Prefill policy: when chunks of waiting prompts may be computed while streams run.

A stream's gap between two tokens is a decode step, and whatever is done between two steps. Prompts are computed in
bursts of whole chunks, since small pieces are slow (4 tokens at a time take three times as long for each as 128), and
between two bursts every running stream gets at least `_STEPS` tokens. So fewer than one gap in twenty holds a burst,
and the 95th percentile of the gaps is that of plain decoding.

How long a burst may be: about twice the time of the steps between two bursts, so that prompts get two thirds of the
time, but no stall of more than a second, unless the model is so slow that prompts would starve. Streams that have
only their first token are not stalled yet: those that arrive together also begin together.
"""

from __future__ import annotations

_STEPS = 24
_SHARE = 2.0  # seconds of burst for each second of steps
_STALL = 1.0  # seconds
_STARVING = 0.5  # seconds of burst for each second of steps that even the slowest model allows
_FIRST_STALL = 4.0  # seconds, where every running stream has only just begun
_MEMORY = 0.8  # weight of what was known when a step is timed


class PrefillPolicy:
    """Counts the steps between bursts and the seconds within one."""

    def __init__(self) -> None:
        self._step = 0.0  # seconds that a decode step takes
        self._steps = _STEPS  # since the last burst
        self._burst = 0.0  # seconds that the present one has taken

    def allows_chunk(self, *, all_new: bool) -> bool:
        """Return whether a chunk of a prompt may be computed before the next decode step."""
        if not self._burst:
            return self._steps >= _STEPS
        return self._burst < (_FIRST_STALL if all_new else self._longest())

    def note_chunk(self, seconds: float) -> None:
        """Record a chunk that was computed while streams were running."""
        self._burst += seconds

    def note_step(self, seconds: float) -> None:
        """Record a decode step, in which every running stream had a token."""
        self._step = seconds if not self._step else _MEMORY * self._step + (1 - _MEMORY) * seconds
        self._steps = 1 if self._burst else self._steps + 1
        self._burst = 0.0

    def rest(self) -> None:
        """Allow a burst at once: no stream is running that would wait for a token."""
        self._steps, self._burst = _STEPS, 0.0

    def _longest(self) -> float:
        between = _STEPS * self._step
        return min(_SHARE * between, max(_STALL, _STARVING * between))
