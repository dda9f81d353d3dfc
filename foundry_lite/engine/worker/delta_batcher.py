"""Deltas on their way out of the worker: how many steps are sent in one message."""

from __future__ import annotations

import time

from foundry_lite.generation import Delta

_PATIENCE = 0.004  # seconds that a token may wait to be sent with others


class DeltaBatcher:
    """Deltas of several quick steps become one message: a step of a tiny model takes less time than a message.

    Each token of a lone sequence is sent as it is made. Among several, a sequence's first token and its end are sent at
    once and everything else within ``_PATIENCE``, which leaves the cores to the model. Steps that take longer than
    that, as those of models beyond some 100 million parameters do, are always sent one by one. docs/decisions/0007.
    """

    def __init__(self) -> None:
        self._deltas: dict[tuple[int, int], Delta] = {}
        self._known: set[tuple[int, int]] = set()  # request and choice whose first token has been sent
        self._told = 0.0
        self._is_urgent = False

    def add(self, deltas: list[tuple[int, Delta]]) -> int:
        """Gather the deltas of one step; return how many sequences ended."""
        finished = 0
        for number, delta in deltas:
            key = number, delta.choice
            before = self._deltas.get(key)
            self._deltas[key] = delta if before is None else _join(before, delta)
            if key not in self._known:
                self._known.add(key)
                self._is_urgent = True
            if delta.finish is not None:
                self._known.discard(key)
                self._is_urgent = True
                finished += 1
        return finished

    @property
    def is_due(self) -> bool:
        is_ripe = len(self._known) < 2 or time.monotonic() - self._told > _PATIENCE
        return self._is_urgent or (bool(self._deltas) and is_ripe)

    def take(self) -> list[tuple[int, Delta]]:
        """Return what was gathered, one delta a choice."""
        taken = [(number, delta) for (number, _choice), delta in self._deltas.items()]
        self._deltas.clear()
        self._is_urgent = False
        self._told = time.monotonic()
        return taken

    def forget(self, number: int) -> None:
        """Drop what was gathered for a cancelled request."""
        self._deltas = {key: delta for key, delta in self._deltas.items() if key[0] != number}
        self._known = {key for key in self._known if key[0] != number}


def _join(first: Delta, then: Delta) -> Delta:
    return Delta(
        text=first.text + then.text,
        calls=first.calls + then.calls,
        reasoning=first.reasoning + then.reasoning,
        tokens=first.tokens + then.tokens,
        finish=then.finish,
        usage=then.usage,
        timings=then.timings,
        choice=then.choice,
        logprobs=first.logprobs + then.logprobs,
        echo=first.echo,
    )
