"""Keys and values in 8 bits: a quarter of the memory of a conversation.

Each channel of each head gets a scale, from the largest value that it has over the calibration texts: 127 steps to
either side. Beyond that the kernel cuts off, so a little room is left. ``GroupQueryAttention`` then takes and gives
int8 caches, and everything else is as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from foundry_lite.conversion.quantize.activations import Walk
from foundry_lite.errors import BuildFailed

_STEPS = 127
_ROOM = 1.1  # beyond what the texts show
_LEAST = 1e-6
_KEY, _VALUE, _KEY_SCALE, _VALUE_SCALE = 3, 4, 12, 13  # inputs of the operator
_HINT = "Build the variant without kv8."
_ATTRIBUTES: dict[str, Any] = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}


def store_in_bytes(graph: onnx.GraphProto, make_walk: Callable[[Sequence[str]], Walk]) -> None:
    """Change a graph's keys and values to int8. Raises `BuildFailed` when it has none that can be."""
    layers = _attention(graph)
    largest = _largest(make_walk, [name for node in layers for name in node.output[1:3]])
    kinds = {one.name: one for one in [*graph.input, *graph.output]}
    for node in layers:
        _require_whole_cache(node)
        for place, past, present in ((_KEY_SCALE, _KEY, 1), (_VALUE_SCALE, _VALUE, 2)):
            name = f"{node.output[present]}.scale"
            scale = np.maximum(largest[node.output[present]] * np.float32(_ROOM / _STEPS), np.float32(_LEAST))
            graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), name))
            node.input.extend([""] * (place + 1 - len(node.input)))
            node.input[place] = name
            for one in (node.input[past], node.output[present]):
                kinds[one].type.tensor_type.elem_type = TensorProto.INT8
        node.attribute.extend(helper.make_attribute(*one) for one in _ATTRIBUTES.items())
    changed = {name for node in layers for name in (*node.input[_KEY : _VALUE + 1], *node.output[1:3])}
    told = [one for one in graph.value_info if one.name not in changed]
    del graph.value_info[:]
    graph.value_info.extend(told)


def _attention(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that keep keys and values; every one of the graph's caches must be theirs, in float32."""
    layers = [node for node in graph.node if node.op_type == "GroupQueryAttention" and len(node.output) > 2]
    theirs = {name for node in layers for name in node.input[_KEY : _VALUE + 1]}
    caches = {one.name: one for one in graph.input if one.name.startswith("past_")}
    others = sorted(set(caches) - theirs)
    if others or not layers:
        raise BuildFailed(
            f"keys and values in 8 bits need GroupQueryAttention: {others[0] if others else 'the graph'} has it not",
            hint=_HINT,
        )
    if any(one.type.tensor_type.elem_type != TensorProto.FLOAT for one in caches.values()):
        raise BuildFailed("keys and values of this graph are not float32", hint=_HINT)
    return layers


def _largest(make_walk: Callable[[Sequence[str]], Walk], names: list[str]) -> Mapping[str, NDArray[np.float32]]:
    """Return for each cache the largest magnitude of each channel, ``(heads * head_size,)``."""
    found: dict[str, NDArray[np.float32]] = {}

    def note(name: str, value: NDArray[Any]) -> None:  # (1, heads, tokens, head_size)
        here = np.abs(value).max(axis=(0, 2)).reshape(-1)
        found[name] = np.maximum(found[name], here) if name in found else here

    for _ in make_walk(names).run(note):
        pass
    return found


def _require_whole_cache(node: onnx.NodeProto) -> None:
    if any(one.name == "sliding_window_cache" and one.i for one in node.attribute):
        raise BuildFailed(f"{node.name} keeps a window of its cache only, which was not tried in int8", hint=_HINT)
