"""Parity of an execution provider with the CPU, for folders that were built and checked for the CPU.

A provider can take a graph, compute something else, and say nothing: OpenVINO's plug-in 1.8.1 gives finite nonsense for
graphs with ``MultiHeadAttention`` (docs/providers.md). So the same few tokens are run on both before anybody is
answered, one after the other, so that only one of them is in memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foundry_lite.engine.runners.base import Runner
from foundry_lite.errors import LoadFailed

_PROMPT, _STEPS = 8, 8  # tokens
# The cosine of the centred logits at the worst of the positions. Measured with OpenVINO on a tiny Llama: 1.0000 in
# float32, 0.9993 in int4 with another rounding of the activations, 0.85 for the nonsense above.
_LEAST = 0.99


def sample(runner: Runner) -> NDArray[np.float32]:
    """Return the logits ``(steps + 1, vocabulary)`` after a prompt, and after each of a few tokens behind it."""
    tokens = [(7 * at + 3) % runner.vocabulary for at in range(_PROMPT + _STEPS)]
    rows = [runner.prefill(0, tokens[:_PROMPT]).copy()]
    rows += [runner.decode([0], [token])[0].copy() for token in tokens[_PROMPT:]]
    runner.keep(0, 0)
    return np.stack(rows)


def require(provider: str, found: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
    """Raise `LoadFailed` unless two results of `sample` are alike."""
    alike = [_cosine(ours, theirs) for ours, theirs in zip(found, reference, strict=True)]
    worst = float(np.min(alike))  # which is no number when one of them is none
    if not worst >= _LEAST:
        raise LoadFailed(
            f"{provider} computes something else than the CPU: a cosine of {worst:.3f} between their logits, "
            f"{_LEAST} is the least that roundings explain",
            hint="Run the model on the CPU, or build it for this provider.",
        )


def _cosine(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    with np.errstate(all="ignore"):  # what is no number is found by the comparison
        a, b = (one.astype(np.float64) - one.mean(dtype=np.float64) for one in (ours, theirs))
        if not a.any() and not b.any():
            return 1.0
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))
