"""The LoRA targets of a graph, where an adapter can be put in: ``lora.json`` beside the model.

A target is one matrix product of the graph, ``y = x W``; with an adapter it is ``y = x W + (x A) B``. The builder fuses
the projections of queries, keys and values into one product, so one target may hold what training knows as three
modules, side by side in its columns.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from foundry_lite.errors import DamagedArtifact

PLACES = "lora.json"

# What families that train fused projections call them: Phi-3's one module covers these, in this order of its rows.
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


class Part(Struct, frozen=True):
    """Slice of a LoRA target that is one trained module: columns ``start`` to ``stop`` of the target's output."""

    module: str
    start: int
    stop: int


class LoraTarget(Struct, frozen=True):
    """LoRA target, a product ``x W``: ``node`` is the builder's name, ``inputs`` and ``outputs`` the sizes of ``W``."""

    layer: int
    node: str
    inputs: int
    outputs: int
    parts: tuple[Part, ...]

    @property
    def down(self) -> str:
        """The graph's input for ``A``, shape ``(inputs, rank)``."""
        return f"lora.{self.layer}.{self.node}.A"

    @property
    def up(self) -> str:
        """The graph's input for ``B``, shape ``(rank, outputs)``."""
        return f"lora.{self.layer}.{self.node}.B"


class LoraTargets(Struct, frozen=True):
    """All LoRA targets of a model."""

    all: tuple[LoraTarget, ...]

    @property
    def layers(self) -> int:
        return 1 + max(place.layer for place in self.all)

    @property
    def modules(self) -> tuple[str, ...]:
        """The trained modules that have a target, in the order of the graph."""
        return tuple(dict.fromkeys(part.module for place in self.all for part in place.parts))

    def find(self, layer: int, module: str) -> tuple[LoraTarget, Part] | None:
        """Return the target of a module that is not fused."""
        found = ((place, part) for place in self.all if place.layer == layer for part in place.parts)
        return next((pair for pair in found if pair[1].module == module), None)


def write_places(folder: Path, plan: LoraTargets) -> None:
    """Write the plan beside the model."""
    (folder / PLACES).write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")


def read_places(folder: Path) -> LoraTargets:
    """Read the plan of an installed model. Raises `DamagedArtifact`."""
    try:
        return msgspec.json.decode((folder / PLACES).read_bytes(), type=LoraTargets)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedArtifact(
            f"{folder.parent.name}:{folder.name}: {PLACES} cannot be read: {error}",
            hint="Import the model again with --force.",
        ) from error
