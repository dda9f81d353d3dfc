"""Natural logarithms of probability, from the logits as the model made them."""

from __future__ import annotations

import math

import numpy as np

from foundry_lite.engine.runners.base import Logits
from foundry_lite.engine.sampling.top_k_top_p import SAFE, Scratch, candidates

LOWEST = -9999.0  # what OpenAI reports for tokens that are as good as impossible; JSON has no infinity


def log_normaliser(logits: Logits, best: float, scratch: Scratch) -> float:
    """Return the logarithm of the sum of exp(logits), right to 1e-6, given the highest; 0 when nothing is possible."""
    if best == -math.inf:
        return 0.0
    if SAFE[0] < best < SAFE[1]:
        eighths = scratch.exponentials(logits).reshape(8, -1).sum(axis=0)  # seven additions in float32, no more
        return math.log(float(eighths.sum(dtype=np.float64)))
    return best + math.log(float(np.exp(logits.astype(np.float64) - best).sum()))


def logprobs_of(logits: Logits, tokens: list[int], normaliser: float) -> list[float]:
    """Return the logprobs of some tokens; none is lower than `LOWEST` or, by rounding, above 0."""
    return [min(max(float(value) - normaliser, LOWEST), 0.0) for value in logits[tokens]]


def likeliest(logits: Logits, count: int) -> list[int]:
    """Return the ids of the ``count`` highest logits, the highest first, the lower id first among equals."""
    if count <= 0:
        return []
    ids = candidates(logits, count)
    order = np.argsort(-logits[ids], kind="stable")[:count]
    best: list[int] = ids[order].tolist()
    return best
