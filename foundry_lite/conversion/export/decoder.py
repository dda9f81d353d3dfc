"""The float32 graph of a source: made once, every variant is derived from it (`variants`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from foundry_lite.conversion.export.existing_onnx import adopt
from foundry_lite.conversion.jobs.step_context import Workbench
from foundry_lite.conversion.sources.source_model import Exporter, Found
from foundry_lite.conversion.toolchains.toolchains import GENAI
from foundry_lite.errors import BuildFailed

GRAPH = "model.onnx"

Export = Callable[[Found, Path, Path, Workbench], Awaitable[None]]


async def export(found: Found, prepared: Path, target: Path, bench: Workbench) -> None:
    """Write the float32 graph and all else that the engine needs into ``target``, which exists and is empty.

    Raises `BuildFailed` with the last line of the exporter's output, or `StorageFull`.
    """
    await _EXPORT[found.exporter](found, prepared, target, bench)
    if not (target / GRAPH).is_file():
        raise BuildFailed("the exporter ended without an error and without a model", hint=f"See {bench.log}.")


async def _by_builder(_found: Found, prepared: Path, target: Path, bench: Workbench) -> None:
    await bench.run(
        "foundry_lite.conversion.torch_scripts.export_decoder", prepared, target, bench.folder("cache"), toolchain=GENAI
    )


_EXPORT: dict[Exporter, Export] = {Exporter.BUILDER: _by_builder, Exporter.NONE: adopt}
