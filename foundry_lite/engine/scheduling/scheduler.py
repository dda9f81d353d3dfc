"""Scheduler of sequences: continuous batching over the slots of one runner.

Sequences join and leave at every step. `Scheduler.step` computes either one chunk of the oldest prompt, which is given
a slot first, or one token for every running sequence; `prefill_policy` decides which. First come, first served: a
sequence that does not fit yet keeps those behind it waiting, so it never starves.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from foundry_lite.engine.runners.base import Logits, Runner
from foundry_lite.engine.sampling.sampler import Choice, choose
from foundry_lite.engine.scheduling.prefill_policy import PrefillPolicy
from foundry_lite.engine.scheduling.slots import SlotTable
from foundry_lite.engine.worker.prompt_logprobs import chunk_size
from foundry_lite.engine.worker.sequence import Turn
from foundry_lite.errors import FoundryError, InvalidRequest
from foundry_lite.generation import Delta

# Tokens of a prompt that are computed at once. More is not faster (measured: 64 to 512 within 5 %), and this bounds the
# memory of a step, and how long a cancelled prompt goes on.
CHUNK = 128
# In reproducible mode prompts are cut, and taken over, at multiples of this: 5 % slower, but less is computed twice.
STEADY_CHUNK = 64

Told = list[tuple[int, Delta | FoundryError]]


class Scheduler:
    """Sequences waiting and running on one runner. Used from one thread.

    At most ``most`` sequences run at once, and hold at most ``kv_tokens`` tokens together.
    """

    def __init__(self, runner: Runner, *, most: int, kv_tokens: int, is_reproducible: bool = False) -> None:
        self._runner = runner
        self._is_reproducible = is_reproducible
        self._slots = SlotTable(runner, most=most, limit=kv_tokens, unit=STEADY_CHUNK if is_reproducible else 1)
        self._waiting: deque[Turn] = deque()
        self._prefilling: Turn | None = None
        self._running: list[Turn] = []
        self._pace = PrefillPolicy()

    @property
    def is_idle(self) -> bool:
        return not (self._waiting or self._prefilling or self._running)

    @property
    def active(self) -> int:
        """Sequences that hold a slot."""
        return len(self._running) + (self._prefilling is not None)

    @property
    def waiting(self) -> int:
        """Sequences that have no slot yet."""
        return len(self._waiting)

    @property
    def promised_tokens(self) -> int:
        """Tokens that sequences with a slot may need at most."""
        return self._slots.promised_tokens

    @property
    def kept_tokens(self) -> int:
        """Tokens of ended sequences whose keys and values are kept."""
        return self._slots.kept_tokens

    def begin(self, turn: Turn) -> None:
        """Queue a sequence; the first come is the first served."""
        self._waiting.append(turn)

    def cancel(self, number: int) -> int:
        """Drop a request's sequences wherever they are; their slots are free at once. Return how many there were."""
        found = [turn for turn in self._all() if turn.number == number]
        for turn in found:
            self._drop(turn)
        return len(found)

    def uses(self, adapter: str) -> bool:
        """Return whether a sequence that runs or waits uses the adapter."""
        return any(turn.adapter == adapter for turn in self._all())

    def forget(self, adapter: str) -> None:
        """Unload an adapter that no sequence uses any more, and drop the keys and values computed with it."""
        self._slots.drop_adapter(adapter)
        self._runner.unload_adapter(adapter)

    def step(self) -> Told:
        """Do one step; return what it adds to each request, by the request's number."""
        if not self._running:
            self._pace.rest()
        all_new = all(turn.new_tokens == 1 for turn in self._running)
        if self._pace.allows_chunk(all_new=all_new):
            self._place()
            if self._prefilling is not None:
                return self._prefill(self._prefilling)
        return self._decode() if self._running else []

    def _place(self) -> None:
        if self._prefilling is None and self._waiting and self._slots.place(self._waiting[0]):
            self._prefilling = self._waiting.popleft()
            self._prefilling.clock.admitted = time.monotonic()

    def _prefill(self, turn: Turn) -> Told:
        """Run one chunk of the prompt; the last one gives the first token."""
        chunk = self._next_chunk(turn)
        is_last = turn.prefilled + len(chunk) == len(turn.prompt)
        began = time.monotonic()
        last = self._compute(turn, chunk)
        if self._running:
            self._pace.note_chunk(time.monotonic() - began)
        self._slots.note(turn, chunk, steady=turn.scores is None)
        turn.prefilled += len(chunk)
        if not is_last:
            return []
        self._prefilling = None
        self._running.append(turn)
        if not turn.max_new_tokens:
            self._drop(turn)
            return [(turn.number, turn.end())]
        return self._choose([turn], last[None, :])

    def _compute(self, turn: Turn, chunk: list[int]) -> Logits:
        """Run a chunk of a prompt, and score it where that is asked for; return the logits after its last token."""
        began = time.monotonic()
        if turn.scores is None or len(chunk) == 1:
            logits = self._runner.prefill(turn.slot, chunk)[None, :]
        else:
            logits = self._runner.verify(turn.slot, chunk)
        computed = time.monotonic()
        turn.clock.prefill += computed - began
        if turn.scores is not None:
            turn.scores.take(logits)
            turn.clock.sample += time.monotonic() - computed
        last: Logits = logits[-1]
        return last

    def _next_chunk(self, turn: Turn) -> list[int]:
        left = turn.prompt[turn.prefilled :]
        if turn.scores is not None:
            return left[: self._scored_at_once(len(left))]
        if not self._runner.can_extend:
            return left
        if self._is_reproducible:
            return left[:STEADY_CHUNK]
        # A token on its own is computed by other kernels than several: no prompt is cut so that one is left over.
        return left[: CHUNK + (len(left) == CHUNK + 1)]

    def _scored_at_once(self, left: int) -> int:
        """Return how many tokens to score in one step: one by one where only the last one's logits can be had."""
        if not self._runner.can_verify:
            return 1
        size = chunk_size(self._runner.vocabulary, STEADY_CHUNK if self._is_reproducible else CHUNK)
        return size + (left == size + 1)

    def _decode(self) -> Told:
        turns = list(self._running)
        if len(turns) == 1 and (guess := self._guess(turns[0])):
            return self._verify(turns[0], guess)
        began = time.monotonic()
        logits = self._runner.decode([turn.slot for turn in turns], [turn.last_token for turn in turns])
        self._pace.note_step(time.monotonic() - began)
        for turn in turns:
            self._slots.note(turn, [turn.last_token])
        return self._choose(turns, logits)

    def _guess(self, turn: Turn) -> list[int]:
        return [] if turn.lookup is None else turn.lookup.guess(turn.max_new_tokens - turn.new_tokens - 1)

    def _verify(self, turn: Turn, guess: list[int]) -> Told:
        """Run the last token and a guess of those that follow; keep as many as the model would have chosen."""
        tokens = [turn.last_token, *guess]
        began = time.monotonic()
        logits = self._runner.verify(turn.slot, tokens)
        self._pace.note_step(time.monotonic() - began)
        self._slots.note(turn, tokens)
        told: Told = []
        for position, guessed in enumerate([*guess, None]):
            told += self._choose([turn], logits[position : position + 1])
            if turn.slot < 0 or turn.last_token != guessed:
                break
        right = len(told) - 1
        assert turn.lookup is not None
        turn.lookup.learn(right)
        if turn.slot >= 0:
            self._slots.shorten(turn, len(turn.prompt) + turn.new_tokens - 1)
        return told

    def _choose(self, turns: Sequence[Turn], logits: Logits) -> Told:
        began = time.perf_counter()
        masks = [None if turn.constraint is None else turn.constraint.mask() for turn in turns]
        choices = choose(logits, [turn.chooser for turn in turns], masks)
        chosen = time.perf_counter()
        share = (chosen - began) / len(turns)
        for turn in turns:
            turn.clock.sample += share
        told = [(turn.number, self._accept(turn, choice)) for turn, choice in zip(turns, choices, strict=True)]
        share = (time.perf_counter() - chosen) / len(turns)
        for turn in turns:
            turn.clock.detokenize += share
        return told

    def _accept(self, turn: Turn, choice: Choice) -> Delta | FoundryError:
        if turn.constraint is not None and turn.constraint.error is not None:
            self._drop(turn)
            reason = f"the grammar could not be followed any further: {turn.constraint.error}"
            return InvalidRequest(reason, turn.constraint.param, "grammar_too_complex")
        delta = turn.accept(choice)
        if delta.finish is not None:
            self._drop(turn)
        return delta

    def _all(self) -> list[Turn]:
        return [*self._waiting, *([self._prefilling] if self._prefilling else []), *self._running]

    def _drop(self, turn: Turn) -> None:
        if turn.slot >= 0:
            self._slots.release(turn)
        if turn is self._prefilling:
            self._prefilling = None
        elif turn in self._running:
            self._running.remove(turn)
        else:
            self._waiting.remove(turn)
