"""Folders as AutoGPTQ and AutoAWQ leave them, packed here from the float weights of another folder.

Written from the description of the two formats, number by number, so that it shares nothing with what reads them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats.safetensors import read_arrays, write

Array = NDArray[Any]
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def write_packed(
    source: Path,
    target: Path,
    method: str,
    *,
    bits: int = 4,
    group: int = 32,
    symmetric: bool = False,
    shuffled: bool = False,
    v2: bool = False,
) -> dict[str, Array]:
    """Pack every projection of ``source`` into ``target``; return the floats that the packed numbers stand for.

    ``shuffled`` gives GPTQ's ``desc_act``: which group an input belongs to is in no order.
    """
    target.mkdir()
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, target / path.name)
    tensors: dict[str, Array] = {}
    floats: dict[str, Array] = {}
    for name, weight in read_arrays(source / "model.safetensors").items():
        if "_proj.weight" not in name:
            tensors[name] = floats[name] = weight
            continue
        inputs = weight.shape[1]
        group_of = np.arange(inputs) // (inputs if group == -1 else group)
        if shuffled:
            group_of = np.random.default_rng(7).permutation(group_of)
        whole, zeros, scales = _quantize(weight.T, group_of, bits, symmetric=symmetric)
        floats[name] = ((whole - zeros[group_of]) * scales[group_of].astype(np.float32)).T.astype(np.float32)
        stem = name.removesuffix("weight")
        tensors |= {f"{stem}{part}": array for part, array in _PACK[method](whole, zeros, scales, bits, v2).items()}
        if method == "gptq":
            tensors[f"{stem}g_idx"] = group_of.astype(np.int32)
    kinds = {"float32": "F32", "float16": "F16", "int32": "I32"}
    layout = {name: (kinds[str(array.dtype)], array.shape) for name, array in tensors.items()}
    write(target / "model.safetensors", layout, {name: [array] for name, array in tensors.items()})
    config = json.loads((source / "config.json").read_bytes())
    config["quantization_config"] = _settings(method, bits, group, symmetric, shuffled, v2)
    (target / "config.json").write_text(json.dumps(config))
    return floats


def _quantize(weight: Array, group_of: Array, bits: int, *, symmetric: bool) -> tuple[Array, Array, Array]:
    """Return integers (inputs, outputs), zero points and float16 scales (groups, outputs), by the plain formula."""
    most, groups = (1 << bits) - 1, int(group_of.max()) + 1
    zeros = np.zeros((groups, weight.shape[1]), np.int64)
    scales = np.zeros((groups, weight.shape[1]), np.float16)
    whole = np.zeros(weight.shape, np.int64)
    for group in range(groups):
        rows = weight[group_of == group]
        if symmetric:
            scales[group] = 2 * np.abs(rows).max(0) / most
            zeros[group] = (most + 1) // 2
        else:
            # GPTQ's first format cannot say 0, as it stores one less.
            scales[group] = (rows.max(0) - rows.min(0)) / (most - 1)
            zeros[group] = np.clip(np.rint(-rows.min(0) / scales[group].astype(np.float64)), 1, most)
        whole[group_of == group] = np.clip(np.rint(rows / scales[group].astype(np.float64)) + zeros[group], 0, most)
    return whole, zeros, scales


def _pack_gptq(whole: Array, zeros: Array, scales: Array, bits: int, v2: bool) -> dict[str, Array]:
    stored = zeros if v2 else zeros - 1
    order = range(32 // bits)
    return {"qweight": _words(whole.T, bits, order).T, "qzeros": _words(stored, bits, order), "scales": scales}


def _pack_awq(whole: Array, zeros: Array, scales: Array, bits: int, _v2: bool) -> dict[str, Array]:
    return {"qweight": _words(whole, bits, _AWQ_ORDER), "qzeros": _words(zeros, bits, _AWQ_ORDER), "scales": scales}


_PACK = {"gptq": _pack_gptq, "awq": _pack_awq}


def _words(numbers: Array, bits: int, order: Any) -> Array:
    """Put each 32 / ``bits`` numbers of a row into a word; ``order[i]`` is the one in its i-th lowest bits."""
    rows, columns = numbers.shape
    per_word = 32 // bits
    words = np.zeros((rows, columns // per_word), np.int64)
    for place, which in enumerate(order):
        words |= numbers[:, which::per_word] << (bits * place)
    return np.ascontiguousarray(words.astype(np.uint32).view(np.int32))


def _settings(method: str, bits: int, group: int, symmetric: bool, shuffled: bool, v2: bool) -> dict[str, Any]:
    if method == "awq":
        return {"quant_method": "awq", "bits": bits, "group_size": group, "zero_point": not symmetric,
                "version": "gemm"}  # fmt: skip
    return {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": symmetric, "desc_act": shuffled,
            "checkpoint_format": "gptq_v2" if v2 else "gptq"}  # fmt: skip
