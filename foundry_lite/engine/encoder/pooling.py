"""Pooling of an encoder's output: one vector of the vectors of a text's tokens, a score of a logit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.catalog.encoder import Activation, Pooling

Floats = NDArray[np.float32]

_TINY = 1e-12  # the length of a vector that is none, as torch's normalize has it


def pool(hidden: Floats, mask: NDArray[Any], pooling: Pooling) -> Floats:
    """Make vectors ``(texts, dimensions)`` of ``hidden (texts, tokens, dimensions)`` where ``mask`` is 1."""
    if pooling in (Pooling.CLS, Pooling.LAST):
        one: Floats = hidden[np.arange(len(hidden)), 0 if pooling is Pooling.CLS else mask.sum(1) - 1]
        return one
    if pooling is Pooling.MAX:
        most: Floats = np.where(mask[..., None], hidden, -np.inf).max(1).astype(np.float32)
        return most
    weights = (mask / mask.sum(1, keepdims=True)).astype(np.float32)
    mean: Floats = (weights[:, None, :] @ hidden.astype(np.float32, copy=False))[:, 0]
    return mean


def normalise(vectors: Floats) -> Floats:
    """Make every vector's length 1."""
    made: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _TINY)
    return made


def shorten(vectors: Floats, dimensions: int, *, keeps_length: bool) -> Floats:
    """Return the first ``dimensions`` of each vector; where vectors have the length 1, they get it back."""
    cut = vectors[..., :dimensions]
    return normalise(cut) if keeps_length else cut


def score(logits: Floats, activation: Activation | None) -> Floats:
    """Make scores of logits."""
    if activation is not Activation.SIGMOID:
        return logits
    made: Floats = (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)  # a sigmoid that does not overflow
    return made
