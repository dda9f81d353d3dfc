"""What each step's result is made from, and so what goes into the key that it is kept under.

Every function returns the inputs of one step, as JSON values, and its `Makers`: the modules that run, with the
toolchains that they run in. What is not named here does not change a result; what is named and changes makes a new one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from foundry_lite import devices
from foundry_lite.build.code_digest import Makers
from foundry_lite.build.encoders import needs_optimum
from foundry_lite.build.sources.found import Exporter, Found, Kind
from foundry_lite.build.toolchains import GENAI, OPTIMUM, OWN
from foundry_lite.build.variants import is_by_builder, is_calibrated
from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import Recipe
from foundry_lite.settings import Settings

Key = tuple[dict[str, Any], Makers]

_BUILD = "foundry_lite.build"
_PREPARE = {
    Kind.ADAPTER: Makers((f"{_BUILD}.merge",)),
    Kind.ZERO: Makers((f"{_BUILD}.consolidate",), toolchains=(OWN, GENAI)),
    Kind.GPTQ: Makers((f"{_BUILD}.unpack",)),
    Kind.AWQ: Makers((f"{_BUILD}.unpack",)),
    Kind.GGUF: Makers((f"{_BUILD}.tools.dequantize_gguf",), toolchains=(GENAI,)),
}


def merge(found: Found, source: str, *, allow_pickle: bool) -> Key:
    """Return the key of the float folder; ``source`` is the fingerprint of all files."""
    makers = _PREPARE.get(found.kind, Makers())
    glue = (f"{_BUILD}.prepare", f"{_BUILD}.dequantize", f"{_BUILD}.consolidate")
    inputs = {"source": source, "kind": found.kind, "pickle": allow_pickle, "template": found.needs_template}
    return inputs, Makers(makers.modules, glue, makers.toolchains)


def export(found: Found, prepared: str) -> Key:
    """Return the key of the float32 graph."""
    inputs = {
        "prepared": prepared,
        "exporter": found.exporter,
        "kind": found.kind,
        "architecture": found.architecture,
        "context_length": found.context_length,
    }
    if _is_encoder(found):
        modules = (f"{_BUILD}.tools.export_encoder", f"{_BUILD}.sources.encoder")
        toolchain = OPTIMUM if needs_optimum(found.architecture) else GENAI
        return inputs, Makers(modules, (f"{_BUILD}.encoders",), (toolchain,))
    module = "ready" if found.exporter is Exporter.NONE else "tools.export_decoder"
    return inputs, Makers((f"{_BUILD}.{module}",), (f"{_BUILD}.export",), (GENAI,))


def ask(found: Found, prepared: str, enquiry: Any) -> Key:
    """Return the key of what the source says; ``enquiry`` is all that it is asked."""
    module = "encode_source" if _is_encoder(found) else "reference"
    inputs = {"prepared": prepared, "enquiry": msgspec.to_builtins(enquiry)}
    return inputs, Makers((f"{_BUILD}.tools.{module}",), toolchains=(GENAI,))


def quantize(found: Found, exported: str, recipe: Recipe, *, is_finished: bool) -> Key:
    """Return the key of a variant. Where the float graph is run, the the kernels of the processor decide, too."""
    inputs = {"exported": exported, "recipe": msgspec.to_builtins(recipe), "is_finished": is_finished}
    if is_finished:
        return inputs, Makers(glue=(f"{_BUILD}.lines",))
    if _is_encoder(found):
        module = "encoder_rows" if recipe.fast_prefill else "graph"
        return inputs, Makers((f"{_BUILD}.{module}",), (f"{_BUILD}.encoders",), (GENAI,))
    if is_by_builder(recipe):
        return inputs, Makers((f"{_BUILD}.tools.export_provider",), (f"{_BUILD}.variants",), (GENAI,))
    modules = ["graph", *["lora"] * recipe.adapters, *["prefill"] * recipe.fast_prefill]
    if is_calibrated(recipe):
        inputs["kernels"] = devices.find_kernels()
        modules.append("calibration")
    names = tuple(f"{_BUILD}.{one}" for one in modules)
    return inputs, Makers(names, (f"{_BUILD}.variants",), (OWN, GENAI) if is_calibrated(recipe) else (GENAI,))


def check(found: Found, built: str, asked: str, *, has_source: bool) -> Key:
    """Return the key of a verdict: of the engine that ran the variant, and of the kernels that it ran with."""
    inputs = {"built": built, "asked": asked, "has_source": has_source, "kernels": devices.find_kernels()}
    if _is_encoder(found):
        return inputs, Makers((f"{_BUILD}.tools.run_encoder",), (f"{_BUILD}.encoders",))
    return inputs, Makers((f"{_BUILD}.scoring",), (f"{_BUILD}.quality",))


def measure(found: Found, built: str, name: str, settings: Settings) -> Key:
    """Return the key of what a variant costs on this machine; ``name`` stands in the command of its figures."""
    inputs = {
        "built": built,
        "name": name,
        "machine": devices.probe_machine().as_dict(),
        "kernels": devices.find_kernels(),
        "threads": settings.threads,
        "context_length": min(found.context_length, settings.context_length),
    }
    return inputs, Makers((f"{_BUILD}.speed",))


def _is_encoder(found: Found) -> bool:
    return found.task is not Task.GENERATE
