"""The float32 graph of a source: made once, every variant is derived from it (`variants`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from foundry_lite.conversion.export.existing_onnx import adopt
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources.source_model import Exporter, SourceModel
from foundry_lite.conversion.toolchains.toolchains import GENAI
from foundry_lite.errors import BuildFailed

GRAPH = "model.onnx"

Export = Callable[[SourceModel, Path, Path, StepContext], Awaitable[None]]


async def export(found: SourceModel, prepared: Path, target: Path, step: StepContext) -> None:
    """Write the float32 graph and all else that the engine needs into ``target``, which exists and is empty.

    Raises `BuildFailed` with the last line of the exporter's output, or `StorageFull`.
    """
    await _EXPORT[found.exporter](found, prepared, target, step)
    if not (target / GRAPH).is_file():
        raise BuildFailed("the exporter ended without an error and without a model", hint=f"See {step.log}.")


async def _by_builder(_found: SourceModel, prepared: Path, target: Path, step: StepContext) -> None:
    await step.run(
        "foundry_lite.conversion.torch_scripts.export_decoder", prepared, target, step.folder("cache"), toolchain=GENAI
    )


_EXPORT: dict[Exporter, Export] = {Exporter.BUILDER: _by_builder, Exporter.NONE: adopt}
