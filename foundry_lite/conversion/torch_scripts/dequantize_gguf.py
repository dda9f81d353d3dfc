"""A GGUF file to a folder of floats, and the grid of what can be kept: run by `dequantize` as a subprocess.

    python -m foundry_lite.conversion.torch_scripts.dequantize_gguf FILE TARGET

A few rows are in memory at a time. The formulas of the quantized types are the gguf package's, the tokenizer is
transformers'; configuration, names and the order of rows are `gguf_mapping`'s.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats.gguf import TYPES, GgufHeader, GgufTensor, read_gguf
from foundry_lite.conversion.formats.gguf_mapping import config_of, name_of, row_order, templates_of
from foundry_lite.conversion.formats.safetensors import Array, write
from foundry_lite.conversion.quantize.source_grid import Lattice, write_grid
from foundry_lite.conversion.sources.chat_templates import write_templates
from foundry_lite.conversion.sources.gguf import DIGIT_SPLITS

_PIECE = 1 << 22  # weights that are made floats at a time
_BLOCK = 32
_KEPT = {"Q4_0": 4, "Q8_0": 8}  # each block: its scale in float16, then whole numbers around a fixed zero point
_SIZES = {name: (block, size) for name, block, size in TYPES.values()}


def main() -> None:
    """Dequantize one file."""
    path, target = Path(sys.argv[1]), Path(sys.argv[2])
    header = read_gguf(path)
    config = config_of(header)
    (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    ids = {key: value for key, value in config.items() if key.endswith("_token_id")}
    (target / "generation_config.json").write_text(json.dumps(ids, indent=2, sort_keys=True), encoding="utf-8")
    _write_tokenizer(header, target)
    write_templates(target, templates_of(header))
    _write_weights(header, config, target)


def _write_weights(header: GgufHeader, config: dict[str, Any], target: Path) -> None:
    tensors = {name: one for one in header.tensors.values() if (name := name_of(header, one.name)) is not None}
    orders = {name: row_order(header, one, config) for name, one in tensors.items()}
    layout = {name: ("F32", one.shape) for name, one in tensors.items()}
    write(target / "model.safetensors", layout, {n: _floats(header.path, one, orders[n]) for n, one in tensors.items()})
    kept = {name: one for name, one in tensors.items() if one.kind in _KEPT and len(one.shape) == 2}
    write_grid(target, {name: _lattice(header.path, one, orders[name]) for name, one in kept.items()})


def _floats(path: Path, tensor: GgufTensor, order: NDArray[np.intp] | None) -> Iterator[Array]:
    """Yield a tensor as float32, some rows at a time, in the order that transformers has them."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    for rows in _rows(path, tensor, order):
        kind = GGMLQuantizationType[tensor.kind]
        weights = dequantize(rows.view(_raw_type(tensor.kind)), kind).astype(np.float32, copy=False)
        if not np.isfinite(weights).all():
            raise SystemExit(f"{path.name}: {tensor.name} holds numbers that are not finite (NaN or infinity)")
        yield weights


def _lattice(path: Path, tensor: GgufTensor, order: NDArray[np.intp] | None) -> Lattice:
    _, size = _SIZES[tensor.kind]
    pieces = (
        np.ascontiguousarray(rows.reshape(len(rows), -1, size)[:, :, :2]).view("<f2")[:, :, 0].astype(np.float32)
        for rows in _rows(path, tensor, order)
    )
    return Lattice(_KEPT[tensor.kind], _BLOCK, np.concatenate(list(pieces)), None)


def _rows(path: Path, tensor: GgufTensor, order: NDArray[np.intp] | None) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of some rows at a time, ``(rows, bytes)``; a vector is one row."""
    block, size = _SIZES[tensor.kind]
    columns = tensor.shape[-1]
    width, count = columns // block * size, tensor.count // columns
    if order is not None and len(tensor.shape) == 1:  # a bias: its numbers are its rows
        width, count = size, columns
    step = max(1, _PIECE // columns) if order is None else count
    with path.open("rb") as stream:
        stream.seek(tensor.start)
        for first in range(0, count, step):
            rows = min(step, count - first)
            raw = np.fromfile(stream, np.uint8, rows * width).reshape(rows, width)
            yield raw if order is None else raw[order]


def _raw_type(kind: str) -> str:
    return {"F32": "<f4", "F16": "<f2"}.get(kind, "u1")


def _write_tokenizer(header: GgufHeader, target: Path) -> None:
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast.from_pretrained(header.path.parent, gguf_file=header.path.name)
    if header.values.get("tokenizer.ggml.pre") in DIGIT_SPLITS:
        made.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    made.save_pretrained(target)


if __name__ == "__main__":
    main()
