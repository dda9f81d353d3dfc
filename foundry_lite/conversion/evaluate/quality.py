"""Is the converted model still the source, and what did it lose? Asks transformers once, and runs what the engine runs.

Some families convert wrongly without an error, so every build passes here before it is committed. What is measured and
how: docs/quality.md. `gate` decides whether a loss is accepted; only broken variants are refused here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.catalog.report import FINGERPRINT, Quality, TextLoss
from foundry_lite.conversion.evaluate.cases import Case, Comparison
from foundry_lite.conversion.evaluate.generate import read_answer
from foundry_lite.conversion.evaluate.reference import Enquiry, Question, as_question, call_turn, read_reference
from foundry_lite.conversion.evaluate.score_variant import Result, Task, count_passed
from foundry_lite.conversion.evaluate.template_parity import as_questions
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources.source_model import SourceModel
from foundry_lite.conversion.toolchains.toolchains import GENAI
from foundry_lite.engine.runners.divergence import is_tolerable as is_tolerable_loss
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.errors import BuildFailed, CheckFailed
from foundry_lite.generation import Chat, Message, Role
from foundry_lite.store.manifest import Check

TOP1 = "top1_agreement"
KL = "kl_mean"

# Bounds of the share of positions at which the most likely next token is the source's, and of the divergence. They
# refuse what is broken, not what is merely bad: on random weights, which have near-ties everywhere, int4 kept 0 % to
# 99 % and up to 3.7 nats, int8 88 % to 100 % and 0.03 nats (measured on seven models of 0.2 to 500 M parameters), while
# a broken graph agrees almost nowhere. fp16 lost a millionth of a nat (embedded model); bf16 has 8 bits of mantissa, so
# its bounds lie between those of fp16 and of int8.
LEAST_TOP1 = {
    Precision.FP32: 0.99,
    Precision.FP16: 0.97,
    Precision.BF16: 0.85,
    Precision.INT8: 0.50,
    Precision.INT4: 0.02,
}
MOST_KL = {
    Precision.FP32: 0.01,
    Precision.FP16: 0.01,
    Precision.BF16: 0.10,
    Precision.INT8: 1.0,
    Precision.INT4: 10.0,
}

GOLDEN_PROMPTS = (
    "Hello! Who are you?",
    "Name three things that are found in a kitchen.",
    "What is 17 plus 25?",
    "Write one sentence about the sea.",
)

_SAMPLE = Path(__file__).with_name("sample.txt")
_LONGEST = 128  # tokens of each text that are compared
_OWN_TEXTS = 48  # of the user's cases, evenly spread
_GOLDEN_TOKENS = 40
_CONTEXT = 4096  # as in `score_variant`


def enquire(found: SourceModel, cases: tuple[Case, ...]) -> Enquiry:
    """Return the enquiry for the reference run of the source."""
    goldens = [as_question(chat, max_tokens=_GOLDEN_TOKENS, name="a golden prompt") for chat in _golden_chats()]
    return Enquiry(
        texts=sample(),
        longest=_LONGEST,
        chats=as_questions(),
        questions=(*goldens, *(_question(case) for case in cases)),
        own_texts=tuple(len(goldens) + at for at in _spread(len(cases), _OWN_TEXTS)),
        context_length=min(found.context_length, _CONTEXT),
    )


async def ask_source(enquiry: Enquiry, prepared: Path, target: Path, step: StepContext) -> None:
    """Have transformers compute, in float32, all that variants are compared with; write it into ``target``.

    Raises `BuildFailed` when the source cannot be run.
    """
    order = step.scratch / "enquiry.json"
    order.write_bytes(msgspec.json.encode(enquiry))
    await step.run("foundry_lite.conversion.torch_scripts.decoder_reference", prepared, order, target, toolchain=GENAI)


def judge_source(prepared: Path, asked: Path, cases: tuple[Case, ...]) -> None:
    """Raise `CheckFailed` when the source passes none of the user's cases; ``asked`` is what `ask_source` has written.

    This is checked at each build: the cache keeps the reference, not the verdict on it.
    """
    if cases and not _count_of_source(prepared, asked, cases):
        raise CheckFailed(
            f"the source itself passes none of the {len(cases)} cases, so they cannot tell good variants from bad ones",
            hint="Compare 'expected' and 'check' of the cases with what the model answers.",
        )


async def assess(
    built: Path, recipe: Recipe, reference: Path | None, cases: tuple[Case, ...], target: Path, step: StepContext
) -> Quality:
    """Measure one built model, in a process of its own; ``reference`` is what `ask_source` has written.

    The folder ``target`` gets the fingerprint of what it computes here.

    Raises `CheckFailed` when it reads or writes prompts otherwise than its source, or is no model any more, and
    `BuildFailed` when it cannot be run.
    """
    task = Task(
        built=str(built),
        recipe=recipe,
        reference=None if reference is None else str(reference),
        texts=sample(),
        longest=_LONGEST,
        cases=cases,
        goldens=GOLDEN_PROMPTS,
        golden_tokens=_GOLDEN_TOKENS,
        fingerprint=str(target / FINGERPRINT),
    )
    order, out = step.scratch / "scoring.json", step.scratch / "scored.json"
    order.write_bytes(msgspec.json.encode(task))
    await step.run("foundry_lite.conversion.evaluate.score_variant", order, out)
    result = msgspec.json.decode(out.read_bytes(), type=Result)
    if result.refused is not None:
        raise CheckFailed(*result.refused)
    if result.quality is None:
        raise BuildFailed("the scoring ended without figures", hint=f"See {step.log}.")
    return result.quality


def check_fidelity(quality: Quality, recipe: Recipe) -> tuple[Check, ...]:
    """Return what is recorded of an installed model. Raises `CheckFailed` when it is not the source's any more.

    A model without a source to compare with has nothing to record.
    """
    loss = quality.neutral
    if loss is None or loss.top1 is None or loss.kl_mean is None:
        return ()
    least, most = LEAST_TOP1[recipe.precision], MOST_KL[recipe.precision]
    if not (loss.top1 >= least and loss.kl_mean <= most):
        raise CheckFailed(
            f"the converted model predicts the source's next token at {loss.top1:.1%} of {loss.positions} positions "
            f"and diverges by {loss.kl_mean:.3g} nats, where {least:.0%} and {most:g} are needed: the conversion went "
            "wrong",
            hint="Try --precision fp32 to see whether it is the quantization, and report the model's family.",
        )
    return (
        Check(TOP1, round(loss.top1, 4), least, loss.positions),
        Check(KL, round(loss.kl_mean, 6), most, loss.positions),
    )


def is_tolerable(faster: Quality, slower: Quality) -> bool:
    """Return whether the faster variant's loss is so little above the slower one's that its speed is worth it."""
    first, second = _deciding(faster), _deciding(slower)
    return first is not None and second is not None and is_tolerable_loss(first.kl_mean, second.kl_mean)


def sample() -> tuple[str, ...]:
    """Return the neutral texts that ship with the package."""
    return tuple(text.strip() for text in _SAMPLE.read_text(encoding="utf-8").split("\n---\n"))


def _deciding(quality: Quality) -> TextLoss | None:
    return quality.own or quality.neutral


def _golden_chats() -> list[Chat]:
    return [Chat((Message(Role.USER, prompt),)) for prompt in GOLDEN_PROMPTS]


def _question(case: Case) -> Question:
    """Return a case as a question, with the expected assistant message where it is known to the character."""
    answer: dict[str, Any] | None = None
    if case.check is Comparison.EXACT:
        answer = {"role": "assistant", "content": case.expected}
    elif case.check is Comparison.TOOL_CALL and case.expected:
        answer = call_turn(case.expected)
    return as_question(case.chat, max_tokens=case.max_tokens, answer=answer, name=f"the case of line {case.line}")


def _spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` of ``count`` indices, evenly spread."""
    step = max(count, most) / most
    return sorted({int(place * step) for place in range(most) if int(place * step) < count})


def _count_of_source(prepared: Path, target: Path, cases: tuple[Case, ...]) -> int:
    record = read_reference(target).record
    text_model = TextModel(prepared)
    answers = record.answers[len(GOLDEN_PROMPTS) :]
    said = [read_answer(text_model, case.chat, one, record.eos) for case, one in zip(cases, answers, strict=True)]
    return count_passed(cases, said)
