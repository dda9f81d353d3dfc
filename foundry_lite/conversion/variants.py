"""Makes a variant of a model from its recipe: quantization, the companion graph, LoRA targets.

Variants for the CPU are derived from the float32 export (`quantize.derive`). Those for other providers are made by the
builder itself, from the float folder, wherever it can build without the device; others are refused with the reason.
OpenVINO runs the CPU's graphs: its variants are those, with a configuration that selects its provider.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from foundry_lite.catalog.recipe import Algorithm, KvPrecision, Precision, Provider, Recipe
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.quantize.calibration_data import calibration_tokens
from foundry_lite.conversion.toolchains.toolchains import GENAI
from foundry_lite.errors import BuildFailed

_CONFIG = "genai_config.json"

_NO_BF16 = (Precision.INT4, Precision.INT8, Precision.FP16, Precision.FP32)

# What the builder calls a provider, and which precisions it was seen to build for it without the device.
_BUILDER: dict[Provider, tuple[str, tuple[Precision, ...]]] = {
    Provider.CUDA: ("cuda", tuple(Precision)),
    Provider.DML: ("dml", _NO_BF16),
    Provider.WEBGPU: ("webgpu", _NO_BF16),
    Provider.TRT_RTX: ("NvTensorRtRtx", (Precision.FP16, Precision.BF16, Precision.FP32)),
}
_ALGORITHMS = {Algorithm.RTN: "default", Algorithm.K_QUANT: "k_quant"}
_MIXED = "matmul_mixed_precision=last_matmul:int8,mixed_layers:int8"


async def derive(exported: Path, prepared: Path, target: Path, recipe: Recipe, step: StepContext) -> None:
    """Write a variant into ``target``, which exists and is empty.

    ``exported`` is the float32 export, ``prepared`` the float folder that it was made of (with its grid, if any).
    Raises `BuildFailed` when there is no way to build the recipe, before anything is written.
    """
    if problem := why_not_built(recipe):
        raise BuildFailed(f"{recipe.variant} cannot be built: {problem}", hint="Take another recipe or provider.")
    if is_by_builder(recipe):
        await _by_builder(prepared, target, recipe, step)
        return
    await _by_us(exported, prepared, target, recipe, step)
    if recipe.provider is Provider.OPENVINO:
        _ask_for_openvino(target / _CONFIG)


def is_by_builder(recipe: Recipe) -> bool:
    """Return whether onnxruntime-genai's builder makes the whole variant, from the float folder."""
    return recipe.provider in _BUILDER


def is_calibrated(recipe: Recipe) -> bool:
    """Return whether a variant needs calibration: the float graph is run, so results depend on the CPU's kernels."""
    return recipe.algorithm is Algorithm.GPTQ or recipe.kv is KvPrecision.INT8 or recipe.mixed


def is_run_here(recipe: Recipe) -> bool:
    """Return whether builds run a variant of this recipe, and so can check and measure it."""
    return recipe.provider is Provider.CPU


def why_not_built(recipe: Recipe) -> str:
    """Return why a recipe cannot be built here; an empty string when it can."""
    provider = recipe.provider
    if provider in (Provider.QNN, Provider.COREML):
        return (
            f"the builder of onnxruntime-genai has no target for {provider}, whose graphs need fixed sizes and a "
            f"quantization of their own; it builds for {', '.join((Provider.CPU, *_BUILDER))}, and openvino runs the "
            "graphs of cpu"
        )
    if provider not in _BUILDER:
        return ""
    if recipe.precision not in _BUILDER[provider][1]:
        return f"the builder makes {', '.join(_BUILDER[provider][1])} for {provider}"
    if recipe.precision.is_quantized and recipe.algorithm not in _ALGORITHMS:
        return f"{recipe.algorithm} is for cpu and openvino; for {provider} the builder rounds (rtn) or searches (kq)"
    if recipe.algorithm is Algorithm.K_QUANT and recipe.symmetric:
        return f"the builder's kq for {provider} always has zero points: ask for asym-kq"
    return ""


async def _by_us(exported: Path, prepared: Path, target: Path, recipe: Recipe, step: StepContext) -> None:
    job: dict[str, Any] = {"target": str(target), "recipe": recipe, "prepared": str(prepared)}
    if is_calibrated(recipe):
        job["texts"] = calibration_tokens(exported)
    path = step.scratch / "job.json"
    path.write_bytes(msgspec.json.encode(job))
    await step.run("foundry_lite.conversion.quantize.derive", exported, path, toolchain=GENAI)
    if recipe.adapters:
        await step.run("foundry_lite.conversion.lora.make_adaptable", target, toolchain=GENAI)
    if recipe.fast_prefill:
        await step.run("foundry_lite.conversion.quantize.prefill_graph", exported, target, toolchain=GENAI)


async def _by_builder(prepared: Path, target: Path, recipe: Recipe, step: StepContext) -> None:
    options = ["prune_lm_head=true"]
    if recipe.precision.is_quantized:
        options += [f"block_size={recipe.block_size or 32}", f"is_symmetric={str(recipe.symmetric).lower()}"]
        options += [f"algo_config={_ALGORITHMS[recipe.algorithm]}", *[_MIXED] * recipe.mixed]
    provider, _ = _BUILDER[recipe.provider]
    await step.run(
        "foundry_lite.conversion.torch_scripts.export_provider",
        prepared,
        target,
        step.folder("cache"),
        recipe.precision,
        provider,
        *options,
        toolchain=GENAI,
    )


def _ask_for_openvino(path: Path) -> None:
    """Name OpenVINO's provider; it does not write keys into the memory that they were read from."""
    config: dict[str, Any] = json.loads(path.read_bytes())
    session = config["model"]["decoder"].setdefault("session_options", {})
    session["provider_options"] = [{"OpenVINO": {"device_type": "CPU"}}]
    config.setdefault("search", {})["past_present_share_buffer"] = False
    path.write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
