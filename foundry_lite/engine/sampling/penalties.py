"""Logit bias, penalties and forbidden tokens: what is added to and taken from logits before a token is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.engine.runners.base import Logits
from foundry_lite.generation import Sampling

# Eight bits of a mask as what they add: 0 where a token is allowed.
_ADDED = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") == 1,
    np.float32(0.0),
    np.float32(-np.inf),
)


class Penalties:
    """Bias and penalties of one answer, and how often it contains each token.

    ``repetition_penalty`` (Keskar et al., CTRL, and transformers) divides positive logits and multiplies negative ones
    of all tokens in prompt and answer. ``frequency_penalty`` times the count, and ``presence_penalty`` once, are taken
    from those in the answer (OpenAI). Ids outside the vocabulary are passed over.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._repetition = 1.0 if sampling.repetition_penalty is None else sampling.repetition_penalty
        self._presence, self._frequency = sampling.presence_penalty, sampling.frequency_penalty
        bias = sampling.logit_bias | dict.fromkeys(sampling.suppressed, -np.inf)
        self._bias_ids = np.array(list(bias.keys()), np.int64)
        self._bias = np.array(list(bias.values()), np.float64)
        self._counts_said = self._repetition != 1.0 or self._presence != 0.0 or self._frequency != 0.0
        said = np.unique(np.array(prompt if self._repetition != 1.0 else (), np.int64))
        self._ids, self._counts = said, np.zeros(len(said))
        self._said = len(said)
        self._place = {token: place for place, token in enumerate(said.tolist())}

    @property
    def is_idle(self) -> bool:
        """Return whether there is no bias or penalty to apply, now or later."""
        return not (self._counts_said or len(self._bias))

    def note(self, token: int) -> None:
        """Count one token of the answer."""
        if not self._counts_said:
            return
        place = self._place.setdefault(token, self._said)
        if place == self._said:
            self._append(token)
        self._counts[place] += 1

    def apply(self, logits: Logits) -> None:
        """Change the logits ``(vocabulary,)`` in place."""
        if len(self._bias):
            ids, bias = _within(self._bias_ids, self._bias, len(logits))
            logits[ids] = logits[ids].astype(np.float64) + bias
        if self._said:
            ids, counts = _within(self._ids[: self._said], self._counts[: self._said], len(logits))
            values = logits[ids].astype(np.float64)
            if self._repetition != 1.0:
                values = np.where(values < 0.0, values * self._repetition, values / self._repetition)
            logits[ids] = values - (counts * self._frequency + (counts > 0) * self._presence)

    def _append(self, token: int) -> None:
        if self._said == len(self._ids):
            room = max(64, self._said)
            self._ids = np.concatenate([self._ids, np.zeros(room, np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(room)])
        self._ids[self._said] = token
        self._said += 1


def forbid(logits: Logits, tokens: Iterable[int]) -> None:
    """Make tokens impossible, in place; ids outside the vocabulary are passed over."""
    logits[[token for token in tokens if 0 <= token < len(logits)]] = -np.inf


def apply_mask(logits: Logits, mask: NDArray[np.int32]) -> None:
    """Make impossible, in place, what a grammar does not allow: bit i of word w allows token 32 w + i.

    What lies beyond the mask is not allowed.
    """
    words: NDArray[Any] = np.ascontiguousarray(mask, "<i4").reshape(-1).view(np.uint8)
    added = _ADDED.take(words, axis=0).reshape(-1)[: len(logits)]
    logits[: len(added)] += added
    logits[len(added) :] = -np.inf


def _within(ids: NDArray[np.int64], values: NDArray[np.float64], vocabulary: int) -> tuple[NDArray[Any], NDArray[Any]]:
    if ids.min() >= 0 and ids.max() < vocabulary:
        return ids, values
    valid = (ids >= 0) & (ids < vocabulary)
    return ids[valid], values[valid]
