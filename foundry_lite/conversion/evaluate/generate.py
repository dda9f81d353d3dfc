"""Greedy answers of a built model, as its users will get them: through the engine's own preparer and scheduler.

In reproducible mode where the kernels allow it (docs/decisions/0012), so that an answer does not depend on the company
in which it was computed, and the same build gives the same answers again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foundry_lite.catalog.card import Defaults
from foundry_lite.engine.ipc.messages import Load
from foundry_lite.engine.runners.base import Runner
from foundry_lite.engine.scheduling import batch_invariance
from foundry_lite.engine.scheduling.scheduler import Scheduler
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.worker.input_processor import InputProcessor, Limits
from foundry_lite.engine.worker.output_processor import begin_answer
from foundry_lite.errors import FoundryError, InvalidRequest, LoadFailed
from foundry_lite.generation import CallPiece, Chat, Delta, GenerationRequest, Sampling, ToolCall, join_calls

MOST = 8  # answers at once; the runner needs twice as many slots

_KV_BYTES = 256 << 20  # of keys and values, unless one answer needs more


@dataclass(frozen=True, slots=True)
class Said:
    """Complete answer of a model: text and tool calls. ``failed`` is the reason if there is none."""

    text: str = ""
    pieces: tuple[CallPiece, ...] = ()
    failed: str = ""

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return join_calls(self.pieces)

    def is_same(self, other: Said) -> bool:
        """Return whether text and tool calls are equal; the random ids of calls are ignored."""
        mine, theirs = ([(call.name, call.arguments) for call in one.calls] for one in (self, other))
        return self.text == other.text and mine == theirs

    def __str__(self) -> str:
        return self.text + "".join(f"{call.name}({call.arguments})" for call in self.calls)


class Answerer:
    """Answers with one loaded model, whose runner has at least twice `MOST` slots, all empty."""

    def __init__(self, folder: Path, runner: Runner, text_model: TextModel) -> None:
        self._runner = runner
        least = 2 * runner.kv_granule
        fitting = _KV_BYTES // runner.kv_bytes_per_token // runner.kv_granule * runner.kv_granule
        self._kv_tokens = max(fitting, runner.context_length, least)
        load = Load(
            folder=str(folder),
            threads=0,
            slots=MOST,
            queue=0,
            context_length=runner.context_length,
            defaults=Defaults(temperature=0.0),
            kv_bytes=0,
            reproducible=True,
            speculation=0,
        )
        self._preparer = InputProcessor(load, text_model, Limits(runner.context_length, runner.vocabulary, 1, 0))
        self._is_reproducible = _settle(runner)

    def ask(self, chats: Sequence[Chat], max_tokens: Sequence[int]) -> list[Said]:
        """Answer conversations greedily, each with at most so many tokens."""
        answers = [Said() for _ in chats]
        scheduler = Scheduler(self._runner, most=MOST, kv_tokens=self._kv_tokens, is_reproducible=self._is_reproducible)
        for number, (chat, most) in enumerate(zip(chats, max_tokens, strict=True)):
            request = GenerationRequest(chat, Sampling(temperature=0.0), max_new_tokens=most)
            try:
                for turn in self._preparer.prepare(number, request):
                    scheduler.begin(turn)
            except InvalidRequest as error:
                answers[number] = Said(failed=error.message)
        while not scheduler.is_idle:
            for number, told in scheduler.step():
                answers[number] = _extend(answers[number], told)
        for slot in range(self._runner.slots):
            self._runner.keep(slot, 0)
        return answers


def read_answer(text_model: TextModel, chat: Chat, tokens: Sequence[int], eos: Sequence[int]) -> Said:
    """Return the answer that the engine would emit for these tokens."""
    stage = text_model.stage(text_model.encode_chat(chat))
    answer = begin_answer(GenerationRequest(chat), text_model.voice, stage, text_model.detokenizer())
    parts = [answer.feed(token) for token in tokens if token not in eos]
    parts.append(answer.flush())
    return Said("".join(part.text for part in parts), tuple(call for part in parts for call in part.calls))


def _settle(runner: Runner) -> bool:
    try:
        batch_invariance.settle(runner, MOST)
    except LoadFailed:  # too few batch sizes compute alike, or prompts only go in whole
        return False
    return True


def _extend(said: Said, told: Delta | FoundryError) -> Said:
    if isinstance(told, FoundryError):
        return Said(failed=told.message)
    return Said(said.text + told.text, said.pieces + told.calls)
