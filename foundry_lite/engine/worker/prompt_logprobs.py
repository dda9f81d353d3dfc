"""Logprobs of a prompt's own tokens, chunk by chunk as their logits come."""

from __future__ import annotations

import math

import numpy as np

from foundry_lite.engine.runners.base import Logits
from foundry_lite.engine.sampling.logprobs import likeliest, log_normaliser, logprobs_of
from foundry_lite.engine.sampling.top_k_top_p import Scratch
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.worker.logprobs import describe
from foundry_lite.generation import TokenLogprob

_LOGITS_BYTES = 64 << 20  # that one chunk's logits may take; 110 tokens of a vocabulary of 150,000


class PromptScores:
    """The tokens of one prompt with their logprobs, and ``wanted`` of the likeliest at the position of each.

    ``starts`` are the characters at which they begin. Logits are looked at once, and not kept.
    """

    def __init__(self, prompt: list[int], starts: list[int], wanted: int, text: TextModel) -> None:
        self._prompt = prompt
        self._starts = starts
        self._wanted = wanted
        self._text = text
        self._told = [describe(text, prompt[0], 0.0, (), starts[0])]  # it follows nothing

    def take(self, logits: Logits) -> None:
        """Take the logits ``(tokens, vocabulary)`` after the next tokens of the prompt."""
        scratch = Scratch(logits.shape[1])
        for row in logits[: len(self._prompt) - len(self._told)]:  # those after the last token belong to the answer
            place = len(self._told)
            token = self._prompt[place]
            self._told.append(self._score(place, token, row, scratch))

    def told(self) -> tuple[TokenLogprob, ...]:
        """Return all that was scored so far."""
        return tuple(self._told)

    def _score(self, place: int, token: int, row: Logits, scratch: Scratch) -> TokenLogprob:
        best = int(row.argmax())
        if not math.isfinite(row[best]):  # what is no number is not possible
            row = np.where(np.isfinite(row), row, np.float32(-np.inf))
            best = int(row.argmax())
        with np.errstate(all="ignore"):
            top = likeliest(row, self._wanted)
            normaliser = log_normaliser(row, float(row[best]), scratch)
        logprob, *others = logprobs_of(row, [token, *top], normaliser)
        return describe(self._text, token, logprob, zip(top, others, strict=True), self._starts[place])


def chunk_size(vocabulary: int, most: int) -> int:
    """Return how many tokens of a prompt to score at once, ``most`` at most."""
    return max(1, min(most, _LOGITS_BYTES // (4 * vocabulary)))
