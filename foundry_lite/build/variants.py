"""One variant from the float32 export: quantized, given its companion and places for adapters, as its recipe says."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from foundry_lite.build.export import GRAPH
from foundry_lite.build.toolchains import GENAI
from foundry_lite.build.workbench import Workbench, link_or_copy
from foundry_lite.catalog.recipe import Precision, Provider, Recipe


async def derive(exported: Path, prepared: Path, target: Path, recipe: Recipe, bench: Workbench) -> None:
    """Write a variant into ``target``, which exists and is empty.

    ``exported`` is the float32 export, ``prepared`` the float folder that it was made of (with its grid, if any).
    """
    shutil.copytree(exported, target, ignore=shutil.ignore_patterns(f"{GRAPH}*"), dirs_exist_ok=True)
    if recipe.precision is Precision.FP32:  # only the graph changes: the weights are the export's own
        for path in exported.glob(f"{GRAPH}.*"):
            link_or_copy(path, target / path.name)
    job = bench.scratch / "job.json"
    job.write_bytes(msgspec.json.encode({"target": str(target), "recipe": recipe, "prepared": str(prepared)}))
    await bench.run("foundry_lite.build.graph", exported, job, toolchain=GENAI)
    if recipe.adapters:
        await bench.run("foundry_lite.build.lora", target, toolchain=GENAI)
    if recipe.fast_prefill:
        await bench.run("foundry_lite.build.prefill", exported, target, toolchain=GENAI)


def is_run_here(recipe: Recipe) -> bool:
    """Say whether builds run a variant of this recipe, and so can check and measure it."""
    return recipe.provider is Provider.CPU
