"""Scores one built variant, its loss and its answers: run by `quality` as a subprocess, so a crash stays there.

    python -m foundry_lite.conversion.evaluate.score_variant TASK.json RESULT.json

``RESULT.json`` is a `Result`: the figures, or why the model is refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from foundry_lite.catalog.recipe import Recipe
from foundry_lite.catalog.report import Golden, Quality, TaskScore, TextLoss
from foundry_lite.conversion.evaluate import text_loss
from foundry_lite.conversion.evaluate.cases import Case, passes
from foundry_lite.conversion.evaluate.generate import MOST, Answerer, Said, read_answer
from foundry_lite.conversion.evaluate.reference import Passage, Reference, Rendered, read_reference
from foundry_lite.conversion.evaluate.template_parity import CONVERSATIONS, check_templates, check_tokenizer
from foundry_lite.engine.runners import fingerprint
from foundry_lite.engine.runners.base import Runner
from foundry_lite.engine.runners.divergence import is_tolerable
from foundry_lite.engine.runners.select import open_runner
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.errors import CheckFailed, FoundryError
from foundry_lite.generation import Chat, Message, Role
from foundry_lite.machine import find_kernels, usable_cores

_CONTEXT = 4096  # tokens: what the engine gives a model by default, or the model's own if that is less
_ROWS = 48  # texts that run in one batch
_OWN_GOLDENS = 4  # of the user's cases


class Task(Struct, frozen=True):
    """Scoring job for one variant. ``reference`` is the folder of the reference; ``None`` if there is no source."""

    built: str
    recipe: Recipe
    reference: str | None
    texts: tuple[str, ...]
    longest: int
    cases: tuple[Case, ...]
    goldens: tuple[str, ...]
    golden_tokens: int
    fingerprint: str = ""  # the file that it is written to


class Result(Struct, frozen=True):
    """Either figures, or ``refused``: a message and a hint."""

    quality: Quality | None = None
    refused: tuple[str, str] | None = None


def main() -> None:
    """Score one model."""
    task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Task)
    try:
        result = Result(_Scoring(task).run())
    except CheckFailed as error:
        result = Result(refused=(error.message, error.hint))
    except FoundryError as error:
        sys.exit(error.message)
    Path(sys.argv[2]).write_bytes(msgspec.json.encode(result))


class _Scoring:
    """Scoring run of one model, which is loaded once for all of its measurements."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._folder = Path(task.built)
        self._reference = None if task.reference is None else read_reference(Path(task.reference))
        self._text = TextModel(self._folder)
        self._goldens = [Chat((Message(Role.USER, one),)) for one in task.goldens]

    def run(self) -> Quality:
        """Compare prompts and tokens first, then score texts, then answer."""
        neutral, own = self._passages()
        runner = open_runner(self._folder, threads=usable_cores(), slots=max(_ROWS, 2 * MOST), context_length=_CONTEXT)
        neutral_loss = self._score_neutral(runner, neutral)
        own_loss = text_loss.score(runner, own, rows=_rows(runner)).summary(has_source=True) if own else None
        self._record_fingerprint(runner, neutral, neutral_loss.kl_mean)
        task, goldens = self._answer(Answerer(self._folder, runner, self._text))
        return Quality(neutral=neutral_loss, own=own_loss, task=task, goldens=goldens)

    def _record_fingerprint(self, runner: Runner, passages: Sequence[Passage], loss: float | None) -> None:
        found = fingerprint.record(runner, [one.tokens for one in passages], loss, find_kernels())
        if found is not None and self._task.fingerprint:
            Path(self._task.fingerprint).write_bytes(msgspec.json.encode(found))

    def _passages(self) -> tuple[Sequence[Passage], Sequence[Passage]]:
        if self._reference is None:
            return [self._bare(text) for text in self._task.texts], ()
        self._check_prompts(self._reference)
        return self._reference.neutral, [one for one in self._reference.own if len(one.losses)]

    def _bare(self, text: str) -> Passage:
        tokens = [*_prefix(self._folder, self._text), *self._text.encode_text(text)][: self._task.longest]
        return Passage(tokens, 0, np.zeros((0, 0), np.int64), np.zeros((0, 0), np.float32), np.zeros(0, np.float32))

    def _check_prompts(self, reference: Reference) -> None:
        record = reference.record
        texts = zip(self._task.texts, reference.neutral, strict=True)
        check_tokenizer(self._text, [(text, one.tokens[record.prefix :]) for text, one in texts])
        rendered = zip(CONVERSATIONS.items(), record.chats, strict=True)
        check_templates(self._folder, self._text, [(name, chat, one) for (name, chat), one in rendered], record)
        asked = zip(self._questions(), record.prompts, strict=True)
        prompts = [(name, chat, Rendered(one)) for (name, chat), one in asked]
        check_templates(self._folder, self._text, prompts, record)

    def _questions(self) -> list[tuple[str, Chat]]:
        cases = [(f"the case of line {case.line}", case.chat) for case in self._task.cases]
        return [*(("a golden prompt", chat) for chat in self._goldens), *cases]

    def _score_neutral(self, runner: Runner, passages: Sequence[Passage]) -> TextLoss:
        has_source = self._reference is not None
        rows = _rows(runner)
        if not self._task.recipe.fast_prefill:
            # Row by row, a text takes as long as an answer of its length: half of it is computed as a prompt then.
            slow = rows == 1
            scores = text_loss.score(runner, passages, skips_half=slow, prefills=slow, rows=rows)
            return scores.summary(has_source=has_source)
        scores = text_loss.score(runner, passages, skips_half=True, rows=rows)
        without = text_loss.score(runner, passages, skips_half=True, prefills=False, rows=rows)
        faster, slower = (one.summary(has_source=has_source) for one in (scores, without))
        if has_source and not is_tolerable(faster.kl_mean, slower.kl_mean):
            raise CheckFailed(
                f"with prompts computed in 8 bits the model loses too much: {faster.kl_mean:.4f} nats on average, "
                f"without them {slower.kl_mean:.4f}",
                hint="Build it without fast prefill.",
            )
        return faster

    def _answer(self, answerer: Answerer) -> tuple[TaskScore | None, tuple[Golden, ...]]:
        cases = self._task.cases
        shown = len(self._goldens) + min(len(cases), _OWN_GOLDENS)
        chats = [chat for _, chat in self._questions()]
        limits = [self._task.golden_tokens] * len(self._goldens) + [case.max_tokens for case in cases]
        prompts = [*self._task.goldens, *(case.prompt for case in cases)]
        if self._reference is None:
            said = answerer.ask(chats[:shown], limits[:shown])
            pairs = zip(prompts[:shown], said, strict=True)
            return None, tuple(Golden(prompt, str(one)) for prompt, one in pairs if not one.failed)
        said = answerer.ask(chats, limits)
        record = self._reference.record
        recorded = zip(chats, record.answers, strict=True)
        source = [read_answer(self._text, chat, one, record.eos) for chat, one in recorded]
        goldens = [Golden(prompts[at], str(said[at]), said[at].is_same(source[at])) for at in range(shown)]
        ours, theirs = (count_passed(cases, answers[len(self._goldens) :]) for answers in (said, source))
        return TaskScore(ours, theirs, len(cases)) if cases else None, tuple(goldens)


def count_passed(cases: Sequence[Case], answers: Sequence[Said]) -> int:
    """Return how many answers pass their case's check."""
    pairs = zip(cases, answers, strict=True)
    return sum(not said.failed and passes(case, said.text, said.calls) for case, said in pairs)


def _rows(runner: Runner) -> int:
    """Return how many texts to run together: one, where each takes a whole context's memory and nothing is batched."""
    return runner.slots if runner.can_copy else 1


def _prefix(folder: Path, text_model: TextModel) -> list[int]:
    """Return the token that the tokenizer's configuration puts before every text, if there is one."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_bytes()) if path.is_file() else {}
    bos = config.get("bos_token")
    text = bos.get("content") if isinstance(bos, dict) else bos
    return text_model.encode_text(text) if config.get("add_bos_token") and isinstance(text, str) else []


if __name__ == "__main__":
    main()
