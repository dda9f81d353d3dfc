"""Encoders: export of their graphs, their variants, and the comparison of these with the source.

An encoder's every token is prompt, so the variant of choice is ``cpu-int8-fp``: 8 bits in weights and activations
(`encoder_w8a8`). The others are made as those of decoders are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.encoder import Encoder, read_encoder, write_encoder
from foundry_lite.catalog.recipe import Algorithm, KvPrecision, Precision, Recipe
from foundry_lite.catalog.report import FINGERPRINT, Quality
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources.sentence_transformers import read_head
from foundry_lite.conversion.sources.source_model import SourceModel
from foundry_lite.conversion.toolchains.toolchains import GENAI, OPTIMUM, OWN
from foundry_lite.engine.encoder import fingerprint
from foundry_lite.engine.encoder.fingerprint import EncoderFingerprint
from foundry_lite.errors import BuildFailed, CheckFailed
from foundry_lite.machine import find_kernels
from foundry_lite.store.manifest import Check

SIMILARITY = "similarity"

# They refuse broken variants; the gate decides what is good enough. docs/decisions/0014 has what variants lose.
LEAST = {
    Precision.FP32: 0.9999,
    Precision.FP16: 0.999,
    Precision.BF16: 0.99,
    Precision.INT8: 0.95,
    Precision.INT4: 0.70,
}

_SENTENCES = Path(__file__).with_name("sentences.txt")
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_GRAPH = "model.onnx"
_SOURCE = "source.npz"


class Through(StrEnum):
    """Exporter of an encoder's float32 graph."""

    TORCH = "torch"  # torch's own tracer, in the toolchain that decoders are converted with
    OPTIMUM = "optimum"  # optimum-onnx, in an environment of its own


# All that has been tried goes through torch but these: its tracer fails on their masks (docs/decisions/0014).
_NEEDS_OPTIMUM = ("Gemma3TextModel",)


def needs_optimum(architecture: str) -> bool:
    """Return whether an architecture is exported by optimum, in its own toolchain."""
    return architecture in _NEEDS_OPTIMUM


async def export(
    found: SourceModel, prepared: Path, target: Path, step: StepContext, through: Through | None = None
) -> None:
    """Write the float32 graph, the tokenizer and `encoder.json` into ``target``, which exists and is empty.

    ``through`` is chosen by the architecture where it is not given. Raises `BuildFailed`, `StorageFull`, or
    `ToolchainMissing`.
    """
    chosen = through or (Through.OPTIMUM if needs_optimum(found.architecture) else Through.TORCH)
    head = read_head(found.folder)  # `prepared` has links to its files
    task = "text-classification" if head.task is Task.RERANK else "feature-extraction"
    scratch = step.folder("export")
    toolchain = OPTIMUM if chosen is Through.OPTIMUM else GENAI
    module = "foundry_lite.conversion.torch_scripts.export_encoder"
    await step.run(module, chosen, prepared, target, task, scratch, toolchain=toolchain)
    shutil.rmtree(scratch, ignore_errors=True)
    names = json.loads((target / "io.json").read_text(encoding="utf-8"))
    (target / "io.json").unlink()
    write_encoder(msgspec.structs.replace(head, inputs=tuple(names["inputs"]), output=names["output"]), target)
    for path in (prepared / name for name in _FILES):
        if path.is_file():
            shutil.copyfile(path, target / path.name)


async def derive(exported: Path, target: Path, recipe: Recipe, step: StepContext) -> None:
    """Write a variant of the float32 export into ``target``, which exists and is empty.

    Raises `BuildFailed` for recipes that encoders do not have, before anything is done.
    """
    if problem := contradiction(recipe):
        raise BuildFailed(
            f"an encoder cannot be built as {recipe.variant!r}: {problem}",
            hint="Encoders: cpu-fp32, cpu-fp16, cpu-int8, cpu-int8-fp, cpu-int4, with -b128, -asym, -kq.",
        )
    if recipe.fast_prefill:
        shutil.copytree(exported, target, ignore=shutil.ignore_patterns(f"{_GRAPH}*"), dirs_exist_ok=True)
        rows = "foundry_lite.conversion.quantize.encoder_w8a8"
        await step.run(rows, exported, target, step.folder("rows"), toolchain=GENAI)
        return
    job = step.scratch / "job.json"
    job.write_bytes(
        msgspec.json.encode({"target": str(target), "recipe": recipe, "prepared": str(step.folder("no-grid"))})
    )
    await step.run("foundry_lite.conversion.quantize.derive", exported, job, toolchain=GENAI)


def contradiction(recipe: Recipe) -> str:
    """Return why a recipe cannot be built for an encoder; an empty string when it can."""
    if recipe.adapters:
        return "adapters at run time are for models that generate text"
    if recipe.kv is not KvPrecision.FLOAT:
        return "it keeps no keys and values"
    if recipe.mixed:
        return "which of its matrices need more bits is known for models that generate text"
    if recipe.algorithm in (Algorithm.GPTQ, Algorithm.KEPT):
        return f"{recipe.algorithm} is for models that generate text"
    if recipe.fast_prefill and recipe.precision is not Precision.INT8:
        return "all of a text is computed at once, and in 8 bits as cpu-int8-fp"
    return ""


def enquire(found: SourceModel) -> dict[str, Any]:
    """Return the job of the reference run: the sentences of the package, and the settings of the encoder."""
    head = read_head(found.folder)
    return {**msgspec.to_builtins(head), "texts": read_texts(head.task), "lowercase": head.lowercase}


async def ask(enquiry: dict[str, Any], prepared: Path, target: Path, step: StepContext) -> None:
    """Record the reference in the folder ``target``: transformers' results, in float32, for the job of `enquire`."""
    job = step.scratch / "texts.json"
    job.write_text(json.dumps(enquiry), encoding="utf-8")
    module = "foundry_lite.conversion.torch_scripts.encoder_reference"
    await step.run(module, prepared, job, target / _SOURCE, toolchain=GENAI)


async def check(built: Path, asked: Path, target: Path, step: StepContext) -> Quality:
    """Compare a variant with the reference of `ask` in the folder ``asked``; write its fingerprint into ``target``.

    Raises `CheckFailed` when its tokenizer is not the source's, or a result is no number.
    """
    encoder = read_encoder(built)
    texts = read_texts(encoder.task)
    job, ours = step.scratch / "texts.json", step.scratch / "ours.npz"
    job.write_text(json.dumps({"texts": texts}), encoding="utf-8")
    await step.run("foundry_lite.conversion.evaluate.run_encoder", built, job, ours, toolchain=OWN)
    similarity = compare(asked / _SOURCE, ours, texts, encoder)
    (target / FINGERPRINT).write_bytes(msgspec.json.encode(_fingerprint(ours, similarity)))
    return Quality(similarity=similarity)


def _fingerprint(ours: Path, similarity: float) -> EncoderFingerprint:
    with np.load(ours) as made:
        results = made["results"]
        texts = [(made[f"ids_{at}"].tolist(), made[f"kinds_{at}"].tolist()) for at in range(len(results))]
    return fingerprint.record(texts, results, max(0.0, 1 - similarity), find_kernels())


def check_similarity(quality: Quality, recipe: Recipe) -> tuple[Check, ...]:
    """Return what is recorded of a sound variant. Raises `CheckFailed` when it is not the source's any more."""
    found, least = quality.similarity or 0.0, LEAST[recipe.precision]
    samples = len(read_texts(Task.EMBED))
    if found < least:
        raise CheckFailed(
            f"the converted encoder is {found:.4f} similar to its source over {samples} texts, {least:g} is needed",
            hint="Try the variant cpu-fp32 to see whether it is the quantization.",
        )
    return (Check(SIMILARITY, round(found, 6), least, samples),)


def read_texts(task: Task) -> list[Any]:
    """Return the sentences; for rerankers as many pairs, of neighbours (some mean the same) and of strangers."""
    lines = _SENTENCES.read_text(encoding="utf-8").splitlines()
    if task is not Task.RERANK:
        return list(lines)
    return [[line, lines[(n + (1 if n % 2 == 0 else 7)) % len(lines)]] for n, line in enumerate(lines)]


def compare(source: Path, ours: Path, texts: Sequence[Any], encoder: Encoder) -> float:
    """Return the mean cosine between two files of vectors; of a reranker the correlation of the logits.

    Raises `CheckFailed` when the tokens differ, or a result is no number.
    """
    with np.load(source) as theirs, np.load(ours) as mine:
        for number, text in enumerate(texts):
            if theirs[f"ids_{number}"].tolist() != mine[f"ids_{number}"].tolist():
                raise CheckFailed(
                    f"tokenizer.json does not encode {str(text)[:40]!r} as transformers does",
                    hint="Save the tokenizer again with the transformers version that trained the model.",
                )
        expected, found = theirs["results"].astype(np.float64), mine["results"].astype(np.float64)
    if not np.isfinite(found).all():
        raise CheckFailed("the converted encoder gives results that are no numbers", hint="Try the variant cpu-fp32.")
    if encoder.task is Task.RERANK:
        return _correlation(expected[:, 0], found[:, 0])
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    return float(((expected * found).sum(1) / np.maximum(lengths, 1e-30)).mean())


def _correlation(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    if np.ptp(expected) == 0 or np.ptp(found) == 0:  # a model with the same result for every text
        return float(np.allclose(expected, found, rtol=1e-3))
    return float(np.corrcoef(expected, found)[0, 1])
