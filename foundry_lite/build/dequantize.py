"""Quantized sources as float folders: GPTQ and AWQ unpacked by `unpack`, GGUF by `tools/dequantize_gguf`.

Both are subprocesses that hold one tensor at a time, and both leave a grid beside the floats where the integers can be
kept.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from foundry_lite.build.sources.found import Found
from foundry_lite.build.toolchains import GENAI
from foundry_lite.build.workbench import Workbench


async def unpack_folder(found: Found, target: Path, bench: Workbench) -> None:
    """Write the float folder of a GPTQ or AWQ folder. Raises `BuildFailed`."""
    await bench.run("foundry_lite.build.unpack", found.folder, target)
    for path in found.files:
        if path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copyfile(path, found.place(path, target))


async def dequantize_gguf(found: Found, target: Path, bench: Workbench) -> None:
    """Write the float folder of a GGUF file: its tokenizer and template too. Raises `BuildFailed`."""
    await bench.run("foundry_lite.build.tools.dequantize_gguf", found.files[0], target, toolchain=GENAI)
