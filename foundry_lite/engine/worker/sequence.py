"""A sequence: one answer to one admitted request inside the worker, its tokens, and where its time went."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from foundry_lite.engine.sampling.sampler import Choice, SequenceSampler
from foundry_lite.engine.scheduling.prompt_lookup import PromptLookup
from foundry_lite.engine.tool_calls.parser import OutputPiece
from foundry_lite.engine.worker.logprobs import LogprobBuffer
from foundry_lite.engine.worker.output_processor import OutputProcessor
from foundry_lite.engine.worker.prompt_logprobs import PromptScores
from foundry_lite.generation import Delta, Echo, Finish, Timings, Usage

if TYPE_CHECKING:
    from foundry_lite.engine.grammar.compiler import Constraint


@dataclass(slots=True)
class SequenceTimings:
    """Times at which a sequence reached its stages, and how long the work for it took; seconds, monotonic."""

    begun: float = field(default_factory=time.monotonic)
    admitted: float = 0.0
    first_token: float = 0.0
    template: float = 0.0  # from here on durations
    tokenize: float = 0.0
    grammar: float = 0.0
    prefill: float = 0.0
    sample: float = 0.0
    detokenize: float = 0.0

    def timings(self) -> Timings:
        """Return where the time of a sequence that ends now went."""
        return Timings(
            queue=self.admitted - self.begun,
            prefill=self.prefill,
            decode=time.monotonic() - self.first_token if self.first_token else 0.0,
            template=self.template,
            tokenize=self.tokenize,
            grammar=self.grammar,
            sample=self.sample,
            detokenize=self.detokenize,
        )


@dataclass(slots=True, eq=False)
class Turn:
    """A sequence, one answer of a request, from admission to end; ``choice`` is its index. Owned by the scheduler."""

    number: int
    prompt: list[int]
    chooser: SequenceSampler
    answer: OutputProcessor
    eos_ids: frozenset[int]  # empty when the end of turn is ignored
    max_new_tokens: int
    choice: int = 0
    adapter: str | None = None
    constraint: Constraint | None = None
    lookup: PromptLookup | None = None
    trail: LogprobBuffer | None = None
    tells_end: bool = False  # whether the end of turn has a logprob, as any token
    echo: str | None = None  # the prompt's text, to be emitted before the answer
    scores: PromptScores | None = None
    slot: int = -1
    cached: int = 0  # tokens of the prompt that were taken over, not computed
    prefilled: int = 0  # tokens of the prompt that the slot holds
    new_tokens: int = 0
    last_token: int = -1
    clock: SequenceTimings = field(default_factory=SequenceTimings)

    @property
    def most_tokens(self) -> int:
        """The most that its slot will ever hold."""
        return len(self.prompt) + self.max_new_tokens

    def accept(self, choice: Choice) -> Delta:
        """Take the next token; the delta's ``finish`` says whether it was the last."""
        token = choice.token
        self.last_token = token
        self.new_tokens += 1
        if self.new_tokens == 1:
            self.clock.first_token = time.monotonic()
        if token in self.eos_ids:
            return self._end_turn(choice)
        if self.constraint is not None:
            self.constraint.take(token)
        if self.lookup is not None:
            self.lookup.take(token)
        if self.trail is not None:
            self.trail.add(choice, self.answer.made)
        added = self.answer.feed(token)
        if self.answer.is_stopped or (self.constraint is not None and self.constraint.is_over):
            return self._finish(added, Finish.STOP)
        if self.new_tokens >= self.max_new_tokens:
            return self._finish(added, Finish.LENGTH)
        told = () if self.trail is None else self.trail.take(self.answer.passed)
        return Delta(
            added.text,
            added.calls,
            tokens=1,
            choice=self.choice,
            logprobs=told,
            reasoning=added.reasoning,
            echo=self._tell_prompt(),
        )

    def end(self) -> Delta:
        """End a sequence that makes no answer, its prompt computed."""
        return self._finish(OutputPiece(), Finish.LENGTH, tokens=0)

    def _end_turn(self, choice: Choice) -> Delta:
        if self.trail is not None and self.tells_end:
            self.trail.add(choice, self.answer.made)
        return self._finish(OutputPiece(), Finish.STOP)

    def _tell_prompt(self) -> Echo | None:
        if self.echo is None:
            return None
        told = Echo(self.echo, () if self.scores is None else self.scores.told())
        self.echo = None
        return told

    def _finish(self, added: OutputPiece, finish: Finish, tokens: int = 1) -> Delta:
        rest = self.answer.flush()
        is_whole = self.answer.passed == self.answer.made  # else a stop string cut off the token at its end, too
        if finish is Finish.STOP and self.answer.has_calls:
            finish = Finish.TOOL_CALLS
        return Delta(
            text=added.text + rest.text,
            calls=added.calls + rest.calls,
            reasoning=added.reasoning + rest.reasoning,
            tokens=tokens,
            finish=finish,
            usage=Usage(len(self.prompt), self.new_tokens, self.cached, self.answer.reasoning_tokens),
            timings=self.clock.timings(),
            choice=self.choice,
            logprobs=() if self.trail is None else self.trail.take(self.answer.passed, is_last=is_whole),
            echo=self._tell_prompt(),
        )
