"""Quantized sources as float folders: by `unpack_gptq_awq`, or `dequantize_gguf` in a toolchain.

Both are subprocesses that hold one tensor at a time, and both leave a grid beside the floats where the integers can be
kept.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources.source_model import SourceModel
from foundry_lite.conversion.toolchains.toolchains import GENAI


async def unpack_folder(found: SourceModel, target: Path, step: StepContext) -> None:
    """Write the float folder of a GPTQ or AWQ folder. Raises `BuildFailed`."""
    await step.run("foundry_lite.conversion.checkpoint.unpack_gptq_awq", found.folder, target)
    for path in found.files:
        if path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copyfile(path, found.place(path, target))


async def dequantize_gguf(found: SourceModel, target: Path, step: StepContext) -> None:
    """Write the float folder of a GGUF file: its tokenizer and template too. Raises `BuildFailed`."""
    await step.run("foundry_lite.conversion.torch_scripts.dequantize_gguf", found.files[0], target, toolchain=GENAI)
