"""Adapters as PEFT saves them, made ready for the graph: ``adapter_config.json`` and ``adapter_model.safetensors``.

Sources: PEFT's LoRA (``y = W x + s B A x``, with ``s = alpha / r``, or ``alpha / sqrt(r)`` for rsLoRA) and its
``LoraConfig`` (version 0.21). A field that changes what the adapter computes is obeyed or refused, and so is a field
that is not known here, unless it is empty.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.build.places import FUSED, Place, Places, read_places
from foundry_lite.build.safetensors import read_arrays
from foundry_lite.catalog.reference import ModelRef
from foundry_lite.engine import adapter_file
from foundry_lite.errors import DamagedWeights, NotAModel, PickledWeights, StorageFull, UnsupportedAdapter
from foundry_lite.store.adapters import FILE, adapter_taken
from foundry_lite.store.manifest import FileEntry, Source, new_adapter_manifest, sha256_of, write_manifest
from foundry_lite.store.store import Artifact, Store

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

Matrix = NDArray[np.float32]

_KEY = re.compile(r"base_model\.model\.(model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+))\.lora_([AB])\.weight")
_READ = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights", "bias"}
# What describes the training, and does not change what the saved adapter computes.
_NEUTRAL = {
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "exclude_modules",
    "inference_mode", "layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core", "peft_version",
    "qalora_group_size", "revision", "runtime_config", "target_modules", "task_type",
}  # fmt: skip
# Ways to begin that leave the base as it was; the others train against a base that they have changed.
_INITS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, slots=True)
class Factors:
    """One module's pair: ``down`` is PEFT's A ``(rank, inputs)``, ``up`` its B ``(outputs, rank)``, already scaled."""

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


def is_adapter(folder: Path) -> bool:
    """Say whether a folder looks like an adapter as PEFT saves it."""
    return (folder / CONFIG).is_file()


def read_adapter(folder: Path) -> PeftAdapter:
    """Read an adapter folder, and check it by itself.

    Raises a `SourceRejected`: `NotAModel`, `UnsupportedAdapter`, `DamagedWeights`, `PickledWeights`.
    """
    if not is_adapter(folder):
        raise NotAModel(f"{folder} is no adapter folder: it has no {CONFIG}", hint="Give a folder as PEFT saves it.")
    config = _read_config(folder / CONFIG)
    _check_config(config)
    if not (folder / WEIGHTS).is_file():
        if (folder / "adapter_model.bin").is_file():
            raise PickledWeights(
                "the weights are pickled (adapter_model.bin): reading them can run any code",
                hint="Save the adapter as safetensors: model.save_pretrained(folder, safe_serialization=True).",
            )
        raise NotAModel(f"{folder} has no {WEIGHTS}", hint="Give a folder as PEFT saves it.")
    base = config.get("base_model_name_or_path")
    return PeftAdapter(folder, base if isinstance(base, str) else "", _read_factors(folder / WEIGHTS, config))


def fit(adapter: PeftAdapter, places: Places) -> dict[str, Matrix]:
    """Return the graph's inputs that make it compute with the adapter; what has no module keeps its default.

    Modules that share a place are put side by side: their A's as columns, their B's as blocks on the diagonal.
    Raises `UnsupportedAdapter` when the adapter is for a model of another shape.
    """
    pieces: dict[Place, list[tuple[Matrix, Matrix]]] = {}
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


def _spans(places: Places, layer: int, module: str) -> list[tuple[Place, int, int]]:
    """Return the places of a module, each with the columns that are its own, in the order of the module's rows."""
    spans: list[tuple[Place, int, int]] = []
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


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise NotAModel(f"{path.name} cannot be read: {error}", hint="Save the adapter again.") from error
    if not isinstance(config, dict):
        raise NotAModel(f"{path.name} is not a JSON object", hint="Save the adapter again.")
    return config


def _check_config(config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise _unsupported("peft_type", config.get("peft_type"), "Only LoRA adapters can be served.")
    if config.get("bias", "none") != "none":
        raise _unsupported("bias", config["bias"], "Train with bias='none', or merge the adapter into its base.")
    if config.get("init_lora_weights", True) not in _INITS:
        raise _unsupported(
            "init_lora_weights",
            config["init_lora_weights"],
            "Such a training changes the base too; PEFT can save it as plain LoRA "
            "(save_pretrained with path_initial_model_for_weight_conversion).",
        )
    for name, value in config.items():
        if name not in _READ | _NEUTRAL and value:
            raise _unsupported(name, value, "Merge such an adapter into its base, and import the merged model.")


def _unsupported(field: str, value: Any, hint: str) -> UnsupportedAdapter:
    return UnsupportedAdapter(f"{CONFIG}: '{field}' is {json.dumps(value)[:80]}, which is not supported", hint=hint)


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
    rank = _pattern(config, "rank_pattern", "r", name)
    if down.ndim != 2 or up.ndim != 2 or not len(down) == up.shape[1] == rank or not down.size or not up.size:
        raise DamagedWeights(
            f"{path.name}: {name} has matrices of the shapes {down.shape} and {up.shape}; {CONFIG} says rank {rank}",
            hint="Save the adapter again.",
        )
    alpha = _pattern(config, "alpha_pattern", "lora_alpha", name)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = up * np.float32(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
    if not (np.isfinite(down).all() and np.isfinite(scaled).all()):
        raise DamagedWeights(f"{path.name}: {name} holds numbers that are not finite", hint="Train it again.")
    return Factors(down, scaled)


def _pattern(config: dict[str, Any], patterns: str, field: str, name: str) -> float:
    """Return a number of the config for one module, as PEFT finds it: the first pattern that its name ends with."""
    try:
        own = config.get(patterns) or {}
        key = next((key for key in own if re.match(rf"(.*\.)?({key})$", name)), None)
    except (re.error, TypeError) as error:
        raise NotAModel(f"{CONFIG}: '{patterns}' cannot be obeyed: {error}", hint="Save the adapter again.") from error
    value = config.get(field) if key is None else own[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise NotAModel(
            f"{CONFIG}: '{field if key is None else patterns}' must be a number above 0, not {json.dumps(value)[:80]}",
            hint="Save the adapter again.",
        )
    return value


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
        return dataclasses.replace(base, adapter=store.adapters.commit(staged, replace=replace))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _adaptable(name: str, store: Store) -> Artifact:
    bases = store.bases(ModelRef(name))
    if bases:
        return bases[0]
    found = store.resolve(ModelRef(name))  # raises when there is none of that name
    raise UnsupportedAdapter(
        f"'{found.ref}' was imported without places for adapters",
        hint=f"Import the base again: foundry-lite import PATH --name {name} --adapters --force",
    )
