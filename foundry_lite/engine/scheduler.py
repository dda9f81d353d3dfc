"""Who runs in this step: continuous batching over the slots of one runner.

Requests join and leave at every step. `Scheduler.step` is the table of contents: admit what waits into free slots,
prefill one chunk of the oldest unfinished prompt, decode one token for every running turn, choose, emit. One chunk a
step bounds how long running streams wait for somebody else's prompt.
"""

from __future__ import annotations

import time
from collections import deque

from foundry_lite.engine.runner import Logits, Runner
from foundry_lite.engine.sampler import choose
from foundry_lite.engine.turn import Turn
from foundry_lite.generation import Delta

# A multiple of every kernel's tile (measured: chunks of 16 to 256 give the same logits bit for bit at int4 block 32).
PREFILL_CHUNK = 128


class Scheduler:
    """Turns waiting and running on one runner. Used from one thread."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._waiting: deque[Turn] = deque()
        self._prefilling: deque[Turn] = deque()
        self._running: list[Turn] = []
        self._free = list(range(runner.slots - 1, -1, -1))  # the lowest slot is taken first

    @property
    def is_idle(self) -> bool:
        return not (self._waiting or self._prefilling or self._running)

    @property
    def active(self) -> int:
        """Turns that hold a slot."""
        return len(self._prefilling) + len(self._running)

    def begin(self, turn: Turn) -> None:
        """Queue a turn; the first come is the first served."""
        self._waiting.append(turn)

    def cancel(self, number: int) -> bool:
        """Drop a turn wherever it is; its slot is free at once. Return whether it was still there."""
        for place in (self._waiting, self._prefilling, self._running):
            for turn in place:
                if turn.number == number:
                    place.remove(turn)
                    self._release(turn)
                    return True
        return False

    def step(self) -> list[tuple[int, Delta]]:
        """Do one step; return what it adds to each turn, by the turn's number."""
        self._admit()
        ready = self._decode() if self._running else []
        ready += self._prefill() if self._prefilling else []
        return [(turn.number, self._accept(turn, token)) for turn, token in ready]

    def _admit(self) -> None:
        while self._waiting and self._free:
            turn = self._waiting.popleft()
            turn.slot = self._free.pop()
            turn.clock.admitted = time.monotonic()
            self._prefilling.append(turn)

    def _prefill(self) -> list[tuple[Turn, int]]:
        """Run one chunk of the oldest prompt; return its turn and first token when that was the last chunk."""
        turn = self._prefilling[0]
        chunk = turn.prompt[turn.prefilled : turn.prefilled + PREFILL_CHUNK]
        began = time.monotonic()
        logits = self._runner.prefill(turn.slot, chunk)
        turn.clock.prefill += time.monotonic() - began
        turn.prefilled += len(chunk)
        if not turn.is_prefilled:
            return []
        self._running.append(self._prefilling.popleft())
        return self._choose([turn], logits[None, :])

    def _decode(self) -> list[tuple[Turn, int]]:
        turns = list(self._running)
        logits = self._runner.decode([turn.slot for turn in turns], [turn.last_token for turn in turns])
        return self._choose(turns, logits)

    def _choose(self, turns: list[Turn], logits: Logits) -> list[tuple[Turn, int]]:
        return list(zip(turns, choose(logits, [turn.chooser for turn in turns]), strict=True))

    def _accept(self, turn: Turn, token: int) -> Delta:
        delta = turn.accept(token)
        if delta.finish is not None:
            self._running.remove(turn)
            self._release(turn)
        return delta

    def _release(self, turn: Turn) -> None:
        if turn.slot >= 0:
            self._runner.keep(turn.slot, 0)
            self._free.append(turn.slot)
            turn.slot = -1
