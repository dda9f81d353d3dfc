"""Safetensors files written by hand."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path


def write_tensors(path: Path, shapes: dict[str, list[int]]) -> None:
    """Write a good file of float32 zeros."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    write_raw(path, json.dumps(header).encode(), bytes(end))


def write_raw(path: Path, header: bytes, data: bytes = b"") -> None:
    """Write a header, good or not, and the data."""
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
