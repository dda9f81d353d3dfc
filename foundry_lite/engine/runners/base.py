"""The seam to an inference library: one loaded model, synchronous, used from one thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Logits: TypeAlias = NDArray[np.float32]


class Runner(Protocol):
    """Computes logits for slots that each hold the keys and values of one sequence.

    Calls come from one thread. A slot is a number from 0 to ``slots`` - 1; it belongs to whoever uses it, and is
    empty after ``keep(slot, 0)``. Lengths and slots are the caller's care: nothing is checked here.
    """

    slots: int
    context_length: int  # tokens that one slot holds at most
    vocabulary: int
    kv_bytes_per_token: int  # of all layers together
    kv_granule: int  # tokens: a slot's memory comes in multiples of this
    row_counts: Sequence[int]  # how many rows one call of the library may decode, ascending, with gaps of 3 at most
    can_copy: bool  # whether `copy` works; what cannot be copied can still be continued in its own slot
    can_rewind: bool  # whether `keep` works for any length; if not, only for 0 and for all that there is
    can_extend: bool  # whether several tokens can follow others at no more cost than alone
    can_verify: bool  # whether `verify` works
    uses_companion: bool  # whether prompts are computed by a graph of their own, faster and a little less exact

    def prefill(self, slot: int, tokens: Sequence[int]) -> Logits:
        """Append ``tokens`` to the slot; return the logits ``(vocabulary,)`` after the last of them."""

    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> Logits:
        """Append one token to each slot; return logits ``(rows, vocabulary)`` in the order of ``slots``.

        The array is the runner's own and is overwritten by the next call.
        """

    def verify(self, slot: int, tokens: Sequence[int]) -> Logits:
        """Append ``tokens`` to the slot; return the logits ``(tokens, vocabulary)`` after each of them."""

    def keep(self, slot: int, length: int) -> None:
        """Forget what lies beyond ``length`` tokens, and give its memory back."""

    def drop_companion(self) -> None:
        """Compute prompts by the graph that decodes from now on, and give the memory of their own graph back."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Make ``target`` hold the first ``length`` tokens of ``source``, and its adapter."""

    def adapt(self, slot: int, adapter: str | None) -> None:
        """Compute what follows in ``slot``, which must be empty, with an adapter that `load_adapter` has loaded."""

    def load_adapter(self, name: str, path: Path) -> None:
        """Load a LoRA adapter. Raises `LoadFailed` when it does not fit this model."""

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; no slot may use it."""

    def length(self, slot: int) -> int:
        """Return the number of tokens that the slot holds."""
