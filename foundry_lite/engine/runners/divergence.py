"""Kullback-Leibler divergence of logits from recorded likeliest tokens, in nats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foundry_lite.engine.runners.base import Logits

# Another way to compute the same model may lose this much more than the first, on average: the second figure is in
# nats, and half a percent of the perplexity on the source's own text.
TOLERATED_RATIO = 1.5
TOLERATED_MORE = 0.005

_NOTHING = 1e-6  # of the mass: what float32 logarithms of a whole vocabulary may be off


def divergences(logits: Logits, ids: NDArray[np.int64], logprobs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence, in nats, of each row of ``logits (rows, vocabulary)`` from the source.

    Of the source only the likeliest tokens are known, ``(rows, kept)``; what is left of the mass counts as one token
    on both sides. This never exceeds the divergence over the whole vocabulary.
    """
    ours = np.take_along_axis(logits, ids, 1) - normalizer(logits)[:, None]
    theirs = logprobs.astype(np.float64)
    known = (np.exp(theirs) * (theirs - ours)).sum(1)
    rest, our_rest = 1 - np.exp(theirs).sum(1), 1 - np.exp(ours).sum(1)
    tail = np.maximum(rest, _NOTHING) * np.log(np.maximum(rest, _NOTHING) / np.maximum(our_rest, _NOTHING))
    return np.asarray(known + np.where(rest < _NOTHING, 0.0, tail))


def is_tolerable(faster: float | None, slower: float | None) -> bool:
    """Return whether the faster way's mean divergence exceeds the slower one's by little enough for its speed."""
    return faster is not None and slower is not None and faster <= TOLERATED_RATIO * slower + TOLERATED_MORE


def normalizer(logits: Logits) -> NDArray[np.float64]:
    """Return the logarithm of the sum of exponentials of each row."""
    top = logits.max(1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(1, dtype=np.float64)))
