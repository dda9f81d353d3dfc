"""Folders whose weights are 4- or 8-bit integers in GPTQ's or AWQ's packing: the integers are kept (`source_grid`).

A packed matrix ``X`` is ``X.qweight``, ``X.scales`` and ``X.qzeros``; GPTQ's ``X.g_idx`` says which group of scales
each input belongs to. Sources: AutoGPTQ's and AutoAWQ's ("gemm") checkpoints, as transformers saves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foundry_lite.catalog.recipe import BLOCK_SIZES, Algorithm, Precision, Recipe
from foundry_lite.conversion.formats.hf_config import read_config
from foundry_lite.conversion.formats.safetensors import Tensor, read_raw
from foundry_lite.conversion.sources import hf_folder, weight_checks
from foundry_lite.conversion.sources.source_model import Kind, Options, SourceModel
from foundry_lite.conversion.sources.weight_checks import HEADS, by_name, check_finite, find_weights, is_tied
from foundry_lite.errors import DamagedWeights, NotAModel, SourceRejected, UnsupportedArchitecture

Files = Mapping[Path, Mapping[str, Tensor]]

_SETTINGS = "quantization_config"
_METHODS = {"gptq": Kind.GPTQ, "awq": Kind.AWQ}
_BITS = {Kind.GPTQ: (2, 4, 8), Kind.AWQ: (4,)}
_KEPT_BITS = (4, 8)
_PARTS = ("qweight", "scales", "qzeros", "g_idx")
_WORD = 32  # bits of the integers that weights are packed into
_INSTEAD = "Supported: GPTQ with 2, 4 or 8 bits, AWQ with 4 bits in the packing 'gemm'; or give the model in 16 bit."


@dataclass(frozen=True, slots=True)
class Packing:
    """Packing format of GPTQ or AWQ weights. ``group`` inputs share a scale; -1: all of them.

    ``adds_one``: zero points are stored less one (GPTQ's first format).
    """

    kind: Kind
    bits: int
    group: int
    symmetric: bool
    adds_one: bool


class Part(NamedTuple):
    """Tensor of a packed matrix, with its file: the tensors of one matrix may lie in several shards."""

    path: Path
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Matrix:
    """Packed matrix of GPTQ or AWQ: the tensors that make it up."""

    name: str  # that of its float weight
    words: Part
    scales: Part
    zeros: Part
    order: Part | None
    inputs: int
    outputs: int

    @property
    def group(self) -> int:
        """Inputs that share a scale."""
        return -(-self.inputs // self.scales.tensor.shape[0])

    @property
    def is_in_order(self) -> bool:
        """Return whether the inputs of a group lie side by side; not so where GPTQ ordered them by activation size."""
        if self.order is None:
            return True
        order = np.concatenate([*read_raw(*self.order), np.zeros(0, np.uint8)]).view("<i4")
        return bool(np.array_equal(order, np.arange(self.inputs) // self.group))


def recognises(path: Path) -> bool:
    """Return whether config.json declares GPTQ or AWQ weights."""
    try:
        return path.is_dir() and str(_settings(path).get("quant_method")) in _METHODS
    except SourceRejected:
        return False  # `hf_folder` reports what is wrong with the file


def inspect(folder: Path, _options: Options | None = None) -> SourceModel:
    """Return the description of a GPTQ or AWQ folder; its recipe keeps the integers. Raises a `SourceRejected`."""
    packing = read_packing(folder)
    config = {key: value for key, value in read_config(folder).items() if key != _SETTINGS}
    hf_folder.check_code(folder, config)
    architecture = hf_folder.read_architecture(config)
    weights = find_weights(folder)
    matrices = find_matrices(weights, packing)
    if not matrices:
        raise DamagedWeights(f"{folder} says that it is {packing.kind}, and has no packed matrix", hint=_INSTEAD)
    plain = find_floats(weights, matrices)
    floats = {name: tensor.shape for name, (_, tensor) in plain.items()}
    packed = {one.name: (one.outputs, one.inputs) for one in matrices}
    found = hf_folder.describe_model(folder, config, architecture, floats | packed)
    check_finite(weights)
    kept = [one for one in matrices if can_be_kept(one, packing)]
    found = replace(
        found,
        kind=packing.kind,
        files=(*weights, *hf_folder.text_files(folder)),
        weight_bits=packing.bits,
        recipe=_recipe(packing, kept[0].group) if kept else None,
        notes=(*found.notes, _note(packing, matrices, kept)),
    )
    has_own_head = any(name in packed for name in HEADS) or weight_checks.has_own_head(plain)
    return hf_folder.with_head(found, unties=is_tied(config) and has_own_head)


def read_packing(folder: Path) -> Packing:
    """Read how the weights are packed. Raises `UnsupportedArchitecture` for a way that is not known."""
    settings = _settings(folder)
    kind = _METHODS[str(settings.get("quant_method"))]
    bits, group = settings.get("bits"), settings.get("group_size", 128)
    version = str(settings.get("version", "gemm")).lower()
    if bits not in _BITS[kind] or (kind is Kind.AWQ and version != "gemm"):
        packed = f"{bits!r} bits" + (f" in the packing {version!r}" if kind is Kind.AWQ else "")
        raise UnsupportedArchitecture(f"the weights are packed by {kind.name} with {packed}", hint=_INSTEAD)
    if not isinstance(group, int) or group == 0 or group < -1:
        raise NotAModel(f"config.json: 'group_size' is {group!r}", hint="Save the model again.")
    symmetric = not settings.get("zero_point", True) if kind is Kind.AWQ else bool(settings.get("sym", True))
    adds_one = kind is Kind.GPTQ and settings.get("checkpoint_format", "gptq") != "gptq_v2"
    return Packing(kind, int(bits), group, symmetric, adds_one)


def find_matrices(weights: Files, packing: Packing) -> list[Matrix]:
    """Return the packed matrices of some files, checked. Raises `DamagedWeights`."""
    tensors = {name: Part(*found) for name, found in by_name(weights).items()}
    matrices = []
    for name, words in tensors.items():
        if name.endswith(".qweight"):
            stem = name.removesuffix(".qweight")
            scales, zeros, order = (tensors.get(f"{stem}.{part}") for part in ("scales", "qzeros", "g_idx"))
            if scales is None or zeros is None:
                raise _damaged(stem, "its scales or zero points are missing")
            order = order if packing.kind is Kind.GPTQ else None
            matrices.append(_matrix(stem, words, scales, zeros, order, packing))
    return matrices


def find_floats(weights: Files, matrices: list[Matrix]) -> dict[str, tuple[Path, Tensor]]:
    """Return the tensors that are no part of a packed matrix, by name."""
    parts = {f"{one.name.removesuffix('weight')}{part}" for one in matrices for part in _PARTS}
    return {name: found for name, found in by_name(weights).items() if name not in parts}


def can_be_kept(matrix: Matrix, packing: Packing) -> bool:
    """Return whether the kernels can multiply with a matrix as it is: blocks of inputs that lie side by side."""
    return packing.bits in _KEPT_BITS and matrix.group in BLOCK_SIZES and matrix.is_in_order


def _matrix(stem: str, words: Part, scales: Part, zeros: Part, order: Part | None, packing: Packing) -> Matrix:
    per_word = _WORD // packing.bits
    if any(len(one.tensor.shape) != 2 or 0 in one.tensor.shape for one in (words, scales, zeros)):
        raise _damaged(stem, "a part of it is no matrix")
    across = 1 if packing.kind is Kind.AWQ else 0
    size = [*words.tensor.shape]
    size[across] *= per_word
    inputs, outputs = size
    groups = 1 if packing.group == -1 else -(-inputs // packing.group)
    expected = {
        "scales": (scales, (groups, outputs), ("F16", "BF16", "F32")),
        "qzeros": (zeros, (groups, -(-outputs // per_word)), ("I32",)),
        "qweight": (words, words.tensor.shape, ("I32",)),
        **({} if order is None else {"g_idx": (order, (inputs,), ("I32",))}),
    }
    for part, ((_, tensor), shape, kinds) in expected.items():
        if tensor.shape != shape or tensor.dtype not in kinds:
            raise _damaged(stem, f"{part} is {tensor.dtype} {list(tensor.shape)}, expected {kinds[0]} {list(shape)}")
    return Matrix(f"{stem}.weight", words, scales, zeros, order, inputs, outputs)


def _settings(folder: Path) -> dict[str, Any]:
    settings = read_config(folder).get(_SETTINGS)
    return settings if isinstance(settings, dict) else {}


def _recipe(packing: Packing, group: int) -> Recipe:
    """Return what keeps the integers; the head, which came in floats, gets 8 bits (``mixed``)."""
    is_small = packing.bits == 4
    precision = Precision.INT4 if is_small else Precision.INT8
    return Recipe(precision, group, symmetric=packing.symmetric, algorithm=Algorithm.KEPT, mixed=is_small)


def _note(packing: Packing, matrices: list[Matrix], kept: list[Matrix]) -> str:
    what = f"its {packing.bits}-bit {packing.kind.name} weights"
    if len(kept) == len(matrices):
        sizes = sorted({one.group for one in kept})
        return f"{what} are kept as they are (blocks of {' and '.join(map(str, sizes))})"
    if packing.bits not in _KEPT_BITS:
        why = "no kernel multiplies with so few bits"
    elif any(one.group not in BLOCK_SIZES for one in matrices):
        why = f"their groups are not of {', '.join(map(str, BLOCK_SIZES))} inputs"
    else:
        why = "GPTQ took the inputs of a group from all over the matrix ('desc_act')"
    return f"{what} are made floats and quantized again, {len(matrices) - len(kept)} of {len(matrices)} matrices: {why}"


def _damaged(stem: str, fact: str) -> DamagedWeights:
    return DamagedWeights(f"the packed matrix {stem} is damaged: {fact}", hint="Copy or download the model again.")
