"""Is the converted model still the source? Loads it as the engine will, and compares it with transformers.

Some families convert wrongly without an error, so every import passes here before it is committed. The texts are run
through the engine's own decode path, all of them as rows of one ragged batch, one token a step.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from foundry_lite.build.export import run_python
from foundry_lite.catalog.recipe import Precision
from foundry_lite.devices import usable_cores
from foundry_lite.engine.ort_runner import OrtRunner
from foundry_lite.engine.text import TextModel
from foundry_lite.errors import CheckFailed
from foundry_lite.store.manifest import Check

# The share of positions at which the most likely next token must be the source's. These bounds refuse what is broken,
# not what is merely bad: on random weights, which have near-ties everywhere, int4 kept 19 % to 99 % and int8 96 % to
# 100 % (measured on six models of 0.2 to 5 M parameters), while a broken graph agrees almost nowhere.
THRESHOLDS = {Precision.FP32: 0.99, Precision.INT8: 0.50, Precision.INT4: 0.02}
WORTH_A_WARNING = 0.90

_SAMPLE = Path(__file__).with_name("sample.txt")
_LONGEST = 128  # tokens of each text that are compared


@dataclass(frozen=True, slots=True)
class _Reference:
    tokens: list[int]
    best: list[int]


async def check_fidelity(source: Path, built: Path, precision: Precision, scratch: Path) -> tuple[Check, ...]:
    """Compare the built model with its source; return what was measured.

    Raises `CheckFailed` when the tokenizers or too many predictions differ, or when the model cannot generate.
    """
    texts = [text.strip() for text in _SAMPLE.read_text(encoding="utf-8").split("\n---\n")]
    sample, out = scratch / "sample.json", scratch / "reference.json"
    sample.write_text(json.dumps(texts), encoding="utf-8")
    await run_python(["-m", "foundry_lite.build.reference", str(source), str(sample), str(out)], scratch, "reference")
    references = [_Reference(**one) for one in json.loads(out.read_text(encoding="utf-8"))]
    return await asyncio.to_thread(_compare, built, precision, texts, references)


def _compare(built: Path, precision: Precision, texts: list[str], references: list[_Reference]) -> tuple[Check, ...]:
    _compare_tokenizers(TextModel(built), texts, references)
    longest = min(_LONGEST, max(len(one.tokens) for one in references))
    runner = OrtRunner(built, threads=usable_cores(), slots=len(references), context_length=longest + 1)
    agreed, positions = _count_agreement(runner, [one.tokens[:longest] for one in references], references)
    check = Check("top1_agreement", round(agreed / positions, 4), THRESHOLDS[precision], positions)
    if check.value < check.threshold:
        raise CheckFailed(
            f"the converted model predicts the source's next token at {check.value:.1%} of {positions} positions, "
            f"fewer than {check.threshold:.0%}: the conversion went wrong",
            hint="Try --precision fp32 to see whether it is the quantization, and report the model's family.",
        )
    return (check,)


def _compare_tokenizers(text_model: TextModel, texts: list[str], references: list[_Reference]) -> None:
    for text, reference in zip(texts, references, strict=True):
        if text_model.encode_text(text) != reference.tokens:
            raise CheckFailed(
                f"tokenizer.json does not encode {text[:40]!r} as transformers does",
                hint="Save the tokenizer again with the transformers version that trained the model.",
            )


def _count_agreement(runner: OrtRunner, rows: list[list[int]], references: list[_Reference]) -> tuple[int, int]:
    """Feed all rows token by token; count where the best next token is the source's."""
    agreed = positions = 0
    for step in range(max(len(row) for row in rows)):
        slots = [slot for slot, row in enumerate(rows) if step < len(row)]
        best = runner.decode(slots, [rows[slot][step] for slot in slots]).argmax(-1)
        agreed += sum(int(token) == references[slot].best[step] for slot, token in zip(slots, best, strict=True))
        positions += len(slots)
    return agreed, positions
