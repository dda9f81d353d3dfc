"""Which matrices of a mixed variant get 8 bits where the others have 4."""

from __future__ import annotations

import re

import onnx

from foundry_lite.build.onnx_graph import find_products

_LAYER = re.compile(r"layers?[./](\d+)[./]")
_SENSITIVE = re.compile(r"(v_proj|qkv_proj|down_proj)")


def more_bits(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the bits of the nodes that get more: the head, and by layer what the field has found to matter."""
    products = find_products(graph)
    layers = {name: int(match[1]) for name in (one.node.name for one in products) if (match := _LAYER.search(name))}
    count = 1 + max(layers.values(), default=-1)
    chosen = {name: 8 for name, layer in layers.items() if is_sensitive(layer, count) and _SENSITIVE.search(name)}
    chosen |= {one.node.name: 8 for one in products if one.node.name not in layers}
    return chosen


def is_sensitive(layer: int, count: int) -> bool:
    """Say whether a layer is of the first eighth, of the last, or every third of those between."""
    eighth = count // 8
    return layer < eighth or layer >= 7 * count // 8 or (layer - eighth) % 3 == 2
