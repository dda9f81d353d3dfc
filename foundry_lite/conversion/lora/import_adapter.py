"""Adapters as PEFT saves them, made ready for the graph: ``adapter_config.json`` and ``adapter_model.safetensors``.

They run beside the base's weights (``y = W x + s B A x``), so only plain LoRA of linear layers can be served; `merge`
takes more kinds. Source: PEFT's LoRA (version 0.21).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.catalog.reference import ModelRef
from foundry_lite.conversion.formats.peft_config import (
    CONFIG,
    WEIGHTS,
    check_fields,
    find_weights,
    rank_of,
    read_config,
    scale_of,
    unsupported,
)
from foundry_lite.conversion.formats.safetensors import read_arrays
from foundry_lite.conversion.lora.targets import FUSED, LoraTarget, LoraTargets, read_places
from foundry_lite.engine.chat_template import template_file
from foundry_lite.engine.runners import adapter_file
from foundry_lite.errors import DamagedWeights, StorageFull, UnsupportedAdapter
from foundry_lite.store.adapters import FILE, adapter_taken
from foundry_lite.store.manifest import FileEntry, Source, new_adapter_manifest, sha256_of, write_manifest
from foundry_lite.store.store import Artifact, Store

Matrix = NDArray[np.float32]

_KEY = re.compile(r"base_model\.model\.(model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+))\.lora_([AB])\.weight")


@dataclass(frozen=True, slots=True)
class Factors:
    """LoRA factors of a module: ``down`` is PEFT's A ``(rank, inputs)``, ``up`` its B ``(outputs, rank)``, scaled."""

    down: Matrix
    up: Matrix


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """An adapter that was read and found to be in order, by itself; ``factors`` by layer and module."""

    folder: Path
    base: str
    factors: dict[tuple[int, str], Factors]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.folder / CONFIG, self.folder / WEIGHTS)

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(len(one.down) for one in self.factors.values())

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(sorted({module for _, module in self.factors}))

    @property
    def parameters(self) -> int:
        return sum(one.down.size + one.up.size for one in self.factors.values())


def read_adapter(folder: Path) -> PeftAdapter:
    """Read an adapter folder, and check it by itself.

    Raises a `SourceRejected`: `NotAModel`, `UnsupportedAdapter`, `DamagedWeights`, `PickledWeights`.
    """
    config = read_config(folder)
    _check_config(config)
    weights = find_weights(folder)
    base = config.get("base_model_name_or_path")
    return PeftAdapter(folder, base if isinstance(base, str) else "", _read_factors(weights, config))


def fit(adapter: PeftAdapter, places: LoraTargets) -> dict[str, Matrix]:
    """Return the graph's inputs that make it compute with the adapter; what has no module keeps its default.

    Modules that share a target are put side by side: their A's as columns, their B's as blocks on the diagonal.
    Raises `UnsupportedAdapter` when the adapter is for a model of another shape.
    """
    pieces: dict[LoraTarget, list[tuple[Matrix, Matrix]]] = {}
    for (layer, module), factors in adapter.factors.items():
        spans = _spans(places, layer, module)
        sizes = spans[0][0].inputs, sum(high - low for _, low, high in spans)
        if (factors.down.shape[1], len(factors.up)) != sizes:
            raise UnsupportedAdapter(
                f"{WEIGHTS}: {module} of layer {layer} has {factors.down.shape[1]} inputs and {len(factors.up)} "
                f"outputs; the base has {sizes[0]} and {sizes[1]}",
                hint="The adapter was trained on a model of another size.",
            )
        start = 0
        for place, low, high in spans:
            up = np.zeros((len(factors.down), place.outputs), np.float32)
            up[:, low:high] = factors.up[start : start + high - low].T
            pieces.setdefault(place, []).append((factors.down.T, up))
            start += high - low
    arrays: dict[str, Matrix] = {}
    for place, found in pieces.items():
        arrays[place.down] = np.hstack([down for down, _ in found])
        arrays[place.up] = np.vstack([up for _, up in found])
    return arrays


def _spans(places: LoraTargets, layer: int, module: str) -> list[tuple[LoraTarget, int, int]]:
    """Return the targets of a module, each with the columns that are its own, in the order of the module's rows."""
    spans: list[tuple[LoraTarget, int, int]] = []
    for name in FUSED.get(module, (module,)):
        found = places.find(layer, name)
        if found is None:
            whole = f"layer {layer}" if layer >= places.layers else f"'{module}'"
            raise UnsupportedAdapter(
                f"{WEIGHTS} adapts {module} of layer {layer}; the base has no {whole}",
                hint=f"The base has {places.layers} layers; adaptable are {', '.join(places.modules)}.",
            )
        place, part = found
        if spans and spans[-1][0] == place:
            spans[-1] = (place, spans[-1][1], part.stop)  # neighbours: one piece, and its A only once
        else:
            spans.append((place, part.start, part.stop))
    return spans


def _check_config(config: dict[str, Any]) -> None:
    if config.get("bias", "none") != "none":
        raise unsupported("bias", config["bias"], "Train with bias='none', or merge the adapter into its base.")
    check_fields(config, set(), "Merge such an adapter into its base: import its folder without '@' in the name.")


def _read_factors(path: Path, config: dict[str, Any]) -> dict[tuple[int, str], Factors]:
    arrays = read_arrays(path)
    names: dict[str, tuple[int, str]] = {}
    for key in arrays:
        match = _KEY.fullmatch(key)
        if match is None:
            raise UnsupportedAdapter(
                f"{path.name}: '{key}' is no LoRA matrix of a linear layer of a decoder",
                hint="Only linear layers of attention and MLP can be adapted; not embeddings, head or norms.",
            )
        names[match[1]] = (int(match[2]), match[3])
    if not names:
        raise DamagedWeights(f"{path.name} holds no matrices", hint="Save the adapter again.")
    return {place: _factors(path, name, arrays, config) for name, place in names.items()}


def _factors(path: Path, name: str, arrays: dict[str, Matrix], config: dict[str, Any]) -> Factors:
    down, up = (arrays.get(f"base_model.model.{name}.lora_{side}.weight") for side in "AB")
    if down is None or up is None:
        raise DamagedWeights(f"{path.name}: {name} has only one of its two matrices", hint="Save the adapter again.")
    rank, scale = rank_of(config, name), scale_of(config, name)
    if down.ndim != 2 or up.ndim != 2 or not len(down) == up.shape[1] == rank or not down.size or not up.size:
        raise DamagedWeights(
            f"{path.name}: {name} has matrices of the shapes {down.shape} and {up.shape}; {CONFIG} says rank {rank}",
            hint="Save the adapter again.",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = up * np.float32(scale)
    if not (np.isfinite(down).all() and np.isfinite(scaled).all()):
        raise DamagedWeights(f"{path.name}: {name} holds numbers that are not finite", hint="Train it again.")
    return Factors(down, scaled)


def install(folder: Path, ref: ModelRef, store: Store, *, replace: bool) -> Artifact:
    """Fit an adapter folder to its base and install it as ``ref``; return the base with it.

    Raises a `SourceRejected`, `ModelNotFound`, `NameTaken` or `StorageFull`; then nothing of it is installed.
    """
    name = str(ref.adapter)
    if store.adapters.folder(ref.name, name).exists() and not replace:
        raise adapter_taken(ref.name, name)
    adapter = read_adapter(folder)
    base = _adaptable(ref.name, store)
    arrays = fit(adapter, read_places(base.folder))
    staging = store.begin_staging(f"{ref.name}--{name}")
    try:
        needed, free = sum(one.nbytes for one in arrays.values()), shutil.disk_usage(staging).free
        if free < 2 * needed:
            raise StorageFull(
                f"the adapter has {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free in {staging.parent}"
            )
        staged = staging / name
        staged.mkdir()
        adapter_file.write(staged / FILE, arrays)
        files = tuple(FileEntry(path.name, path.stat().st_size, sha256_of(path)) for path in adapter.files)
        source = Source("peft-adapter", str(folder), "LoRA", adapter.parameters, files)
        manifest = new_adapter_manifest(staged, base.manifest, name, source, rank=adapter.rank, modules=adapter.modules)
        write_manifest(staged, manifest)
        return store.install_adapter(staged, base, replace=replace)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def notes_on(own: Mapping[str, str], base: Artifact) -> tuple[str, ...]:
    """Return what the user should know of the chat templates that lie beside an adapter of ``base``.

    Raises `LoadFailed` when those of the base cannot be read.
    """
    if not own or own == template_file.read_templates(base.folder):
        return ()
    return (
        "It brings a chat template of its own, which is not its base's: requests to it are written with the base's. "
        f"Import it without '@{base.adapter.manifest.adapter if base.adapter else ''}' to merge it with its own.",
    )


def _adaptable(name: str, store: Store) -> Artifact:
    bases = store.bases(ModelRef(name))
    if bases:
        return bases[0]
    found = store.resolve(ModelRef(name))  # raises when there is none of that name
    raise UnsupportedAdapter(
        f"'{found.ref}' was imported without places for adapters",
        hint=f"Import the base again: foundry-lite import PATH --name {name} --adapters --force",
    )
