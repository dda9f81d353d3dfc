"""Logits to tokens: greedy, or drawn from the distribution that temperature, top-k and top-p leave.

Order of the filters as in OpenAI's and vLLM's servers: temperature, then top-k, then top-p over what is left. One
uniform number is drawn a token, from a generator of the request's own, so a seed gives the same draws whoever else is
being served.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foundry_lite.engine.runner import Logits


@dataclass(slots=True)
class Chooser:
    """How one request chooses its tokens, and the state of its random numbers."""

    temperature: float
    top_p: float
    top_k: int
    seed: int | None = None
    _random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        seed = secrets.randbits(64) if self.seed is None else self.seed % 2**64
        self._random = np.random.Generator(np.random.Philox(seed))

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0

    def draw(self, logits: Logits) -> int:
        """Draw one token from logits ``(vocabulary,)``."""
        tokens, weights = self._candidates(logits)
        total = np.cumsum(weights)
        return int(
            tokens[np.searchsorted(total, self._random.random() * total[-1], side="right").clip(max=len(tokens) - 1)]
        )

    def _candidates(self, logits: Logits) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the tokens that may be drawn, most likely first, with weights that need not sum to 1."""
        best = logits.argmax()
        if not np.isfinite(logits[best]):  # NaN or infinite: one broken row must not cost the others their worker
            return np.array([best]), np.ones(1)
        scaled = logits.astype(np.float64)
        scaled = (scaled - scaled.max()) / self.temperature
        # What is e^-50 times less likely than the best cannot change a draw; sorting the rest is cheap.
        tokens = np.flatnonzero(scaled > -50.0)
        tokens = tokens[np.argsort(-scaled[tokens], kind="stable")]
        if 0 < self.top_k < len(tokens):
            tokens = tokens[: self.top_k]
        weights = np.exp(scaled[tokens])
        if self.top_p < 1.0:
            mass = np.cumsum(weights)
            kept = int(np.searchsorted(mass, self.top_p * mass[-1])) + 1  # the token that crosses top_p is kept
            tokens, weights = tokens[:kept], weights[:kept]
        return tokens, weights


def choose(logits: Logits, choosers: Sequence[Chooser]) -> list[int]:
    """Choose one token for each row of logits ``(rows, vocabulary)``; among equals, greedy takes the lowest id."""
    best: list[int] = logits.argmax(axis=-1).tolist()
    return [
        token if chooser.is_greedy else chooser.draw(row)
        for token, row, chooser in zip(best, logits, choosers, strict=True)
    ]
