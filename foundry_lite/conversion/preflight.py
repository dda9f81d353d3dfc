"""Preflight checks of a build: enough memory, enough disk space, and the fingerprint of the source's files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from foundry_lite import machine
from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.conversion.sources.source_model import Exporter, SourceModel
from foundry_lite.errors import MemoryShort, StorageFull
from foundry_lite.store.manifest import Source

_OVERHEAD = 600_000_000  # bytes that a build takes beside its weights: mostly torch and transformers themselves
_FLOAT = 4


def require_memory(found: SourceModel) -> None:
    """Refuse a build that would not fit: 4 bytes for each parameter, and what torch takes. Raises `MemoryShort`."""
    if found.exporter is Exporter.NONE:
        return  # no torch, and weights are streamed
    needed, free = memory_needed(found.parameters), machine.free_memory()
    if needed > free:
        raise MemoryShort(
            f"the build of {found.parameters / 1e6:.0f} M parameters needs {needed / 1e9:.1f} GB of memory, "
            f"{free / 1e9:.1f} GB are free",
            hint="Close other programs, or build on a larger machine and copy the model's folder.",
        )


def memory_needed(parameters: int) -> int:
    """Return the bytes of memory that a build takes at its peak (measured: docs/variants.md)."""
    return _FLOAT * parameters + _OVERHEAD


def require_room(found: SourceModel, recipes: Sequence[Recipe], home: Path) -> None:
    """Refuse a build for which the disk has no room. Raises `StorageFull`."""
    # Merged weights, the export, and each variant with an eighth more for its scales, or the companion's 8 bits.
    bits = 64 + sum(one.precision.bits * 9 / 8 + 8 * one.fast_prefill for one in recipes)
    bits -= 32 * sum(one.precision is Precision.FP32 for one in recipes)  # those are the export's own
    needed = int(found.parameters * bits / 8)
    existing = next(one for one in (home, *home.parents) if one.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StorageFull(
            f"the build needs about {needed / 1e6:.0f} MB in {home}, {free / 1e6:.0f} MB are free",
            hint="Free some space, or set FOUNDRY_LITE_HOME to another disk.",
        )


def fingerprint(source: Source) -> str:
    """Return a hash that changes when any file of the source does, and not with where it lies."""
    lines = sorted(f"{one.path} {one.sha256}" for one in source.files)
    lines += [] if source.base is None else [fingerprint(source.base)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
