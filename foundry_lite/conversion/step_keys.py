"""Step keys: the inputs of each step's result, which make up its key in the step cache.

Every function returns the inputs of one step, as JSON values, and its `Makers`: the modules that run, with the
toolchains that they run in. Anything not named here must not change a result; a change of anything named does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from foundry_lite import machine
from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import Recipe
from foundry_lite.conversion.export.encoder import needs_optimum
from foundry_lite.conversion.jobs.code_digest import Makers
from foundry_lite.conversion.sources.source_model import Exporter, Kind, SourceModel
from foundry_lite.conversion.toolchains.toolchains import GENAI, OPTIMUM, OWN
from foundry_lite.conversion.variants import is_by_builder, is_calibrated
from foundry_lite.settings import Settings

Key = tuple[dict[str, Any], Makers]

_CONVERSION = "foundry_lite.conversion"
_PREPARE = {
    Kind.ADAPTER: Makers((f"{_CONVERSION}.checkpoint.merge_lora",)),
    Kind.ZERO: Makers((f"{_CONVERSION}.checkpoint.consolidate_zero",), toolchains=(OWN, GENAI)),
    Kind.GPTQ: Makers((f"{_CONVERSION}.checkpoint.unpack_gptq_awq",)),
    Kind.AWQ: Makers((f"{_CONVERSION}.checkpoint.unpack_gptq_awq",)),
    Kind.GGUF: Makers((f"{_CONVERSION}.torch_scripts.dequantize_gguf",), toolchains=(GENAI,)),
}


def merge(found: SourceModel, source: str, *, allow_pickle: bool) -> Key:
    """Return the key of the float folder; ``source`` is the fingerprint of all files."""
    makers = _PREPARE.get(found.kind, Makers())
    glue = (
        f"{_CONVERSION}.checkpoint.normalize",
        f"{_CONVERSION}.checkpoint.dequantize",
        f"{_CONVERSION}.checkpoint.consolidate_zero",
    )
    inputs = {"source": source, "kind": found.kind, "pickle": allow_pickle, "template": found.needs_template}
    return inputs, Makers(makers.modules, glue, makers.toolchains)


def export(found: SourceModel, prepared: str) -> Key:
    """Return the key of the float32 graph."""
    inputs = {
        "prepared": prepared,
        "exporter": found.exporter,
        "kind": found.kind,
        "architecture": found.architecture,
        "context_length": found.context_length,
    }
    if _is_encoder(found):
        modules = (f"{_CONVERSION}.torch_scripts.export_encoder", f"{_CONVERSION}.sources.sentence_transformers")
        toolchain = OPTIMUM if needs_optimum(found.architecture) else GENAI
        return inputs, Makers(modules, (f"{_CONVERSION}.export.encoder",), (toolchain,))
    module = "export.existing_onnx" if found.exporter is Exporter.NONE else "torch_scripts.export_decoder"
    return inputs, Makers((f"{_CONVERSION}.{module}",), (f"{_CONVERSION}.export.decoder",), (GENAI,))


def ask(found: SourceModel, prepared: str, enquiry: Any) -> Key:
    """Return the key of the reference; ``enquiry`` is the input of the reference run."""
    module = "encoder_reference" if _is_encoder(found) else "decoder_reference"
    inputs = {"prepared": prepared, "enquiry": msgspec.to_builtins(enquiry)}
    return inputs, Makers((f"{_CONVERSION}.torch_scripts.{module}",), toolchains=(GENAI,))


def quantize(found: SourceModel, exported: str, recipe: Recipe, *, is_finished: bool) -> Key:
    """Return the key of a variant. Where the float graph is run, the the kernels of the processor decide, too."""
    inputs = {"exported": exported, "recipe": msgspec.to_builtins(recipe), "is_finished": is_finished}
    if is_finished:
        return inputs, Makers(glue=(f"{_CONVERSION}.tasks",))
    if _is_encoder(found):
        module = "encoder_w8a8" if recipe.fast_prefill else "derive"
        return inputs, Makers((f"{_CONVERSION}.quantize.{module}",), (f"{_CONVERSION}.export.encoder",), (GENAI,))
    if is_by_builder(recipe):
        return inputs, Makers((f"{_CONVERSION}.torch_scripts.export_provider",), (f"{_CONVERSION}.variants",), (GENAI,))
    modules = (
        ["quantize.derive"]
        + ["lora.make_adaptable"] * recipe.adapters
        + ["quantize.prefill_graph"] * recipe.fast_prefill
    )
    if is_calibrated(recipe):
        inputs["kernels"] = machine.find_kernels()
        modules.append("quantize.calibration_data")
    names = tuple(f"{_CONVERSION}.{one}" for one in modules)
    return inputs, Makers(names, (f"{_CONVERSION}.variants",), (OWN, GENAI) if is_calibrated(recipe) else (GENAI,))


def check(found: SourceModel, built: str, asked: str, *, has_source: bool) -> Key:
    """Return the key of a verdict: of the engine that ran the variant, and of the kernels that it ran with."""
    inputs = {"built": built, "asked": asked, "has_source": has_source, "kernels": machine.find_kernels()}
    if _is_encoder(found):
        return inputs, Makers((f"{_CONVERSION}.evaluate.run_encoder",), (f"{_CONVERSION}.export.encoder",))
    return inputs, Makers((f"{_CONVERSION}.evaluate.score_variant",), (f"{_CONVERSION}.evaluate.quality",))


def measure(found: SourceModel, built: str, name: str, settings: Settings) -> Key:
    """Return the key of what a variant costs on this machine; ``name`` stands in the command of its figures."""
    inputs = {
        "built": built,
        "name": name,
        "machine": machine.probe_machine().as_dict(),
        "kernels": machine.find_kernels(),
        "threads": settings.threads,
        "context_length": min(found.context_length, settings.context_length),
    }
    return inputs, Makers((f"{_CONVERSION}.evaluate.speed",))


def _is_encoder(found: SourceModel) -> bool:
    return found.task is not Task.GENERATE
