"""Mixtures of experts in few bits: a ``MoE`` node of onnxruntime becomes a ``QMoE`` node.

The experts' matrices are ``(experts, outputs, inputs)``; each is quantized as those of ``MatMul`` are, in blocks along
its inputs, one expert at a time. The router stays as it is: rounding it would choose other experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from foundry_lite.conversion.formats.external_data import WeightReader, WeightWriter
from foundry_lite.conversion.quantize.blocks import quantize_blocks

_MICROSOFT = "com.microsoft"
_BLOCKS = (32, 64, 128)  # what QMoE's kernel takes; there is none between


@dataclass(frozen=True, slots=True)
class Experts:
    """Quantized experts that replace ``MoE`` nodes: ``nodes`` by the names of the old ones, and new initializers."""

    nodes: dict[str, list[onnx.NodeProto]]
    added: list[onnx.TensorProto]


def routers(graph: onnx.GraphProto) -> frozenset[str]:
    """Return the names of the ``MatMul`` nodes whose results choose experts."""
    makers = {out: node for node in graph.node for out in node.output if out}
    found, seen = set(), set()
    wanted = [node.input[1] for node in graph.node if node.op_type in ("MoE", "QMoE")]
    while wanted:
        name = wanted.pop()
        maker = makers.get(name)
        if maker is None or name in seen:
            continue
        seen.add(name)
        if maker.op_type == "MatMul":
            found.add(maker.name)
        else:
            wanted += maker.input
    return frozenset(found)


def quantize_experts(
    graph: onnx.GraphProto, reader: WeightReader, writer: WeightWriter, bits: int, block: int
) -> Experts:
    """Quantize the experts of all ``MoE`` nodes, symmetric, in blocks that the kernel takes, next to ``block``."""
    floats = {one.name: one for one in graph.initializer}
    found = Experts({}, [])
    for node in graph.node:
        if node.op_type != "MoE" or not {node.input[2], node.input[4]} <= floats.keys():
            continue
        size = _block([floats[node.input[at]].dims[-1] for at in (2, 4)], block)
        stored = [_store(floats[node.input[at]], reader, writer, bits, size) for at in (2, 4)]
        found.added.extend(tensor for pair in stored for tensor in pair)
        found.nodes[node.name] = [_node(node, [[one.name for one in pair] for pair in stored], bits, size)]
    return found


def _block(inputs: list[int], wanted: int) -> int:
    """Return the block nearest to ``wanted``; one that divides the inputs is multiplied with twice as fast."""
    return min(_BLOCKS, key=lambda one: (any(count % one for count in inputs), abs(one - wanted), one))


def _node(node: onnx.NodeProto, stored: list[list[str]], bits: int, block: int) -> onnx.NodeProto:
    biases = [node.input[at] if at < len(node.input) else "" for at in (3, 5)]
    inputs = [*node.input[:2], *stored[0], biases[0], *stored[1], biases[1]]
    made = helper.make_node("QMoE", inputs, list(node.output), name=f"{node.name}_Q{bits}", domain=_MICROSOFT)
    made.attribute.extend(node.attribute)
    made.attribute.extend(
        [helper.make_attribute("expert_weight_bits", bits), helper.make_attribute("block_size", block)]
    )
    return made


def _store(
    tensor: onnx.TensorProto, reader: WeightReader, writer: WeightWriter, bits: int, block: int
) -> tuple[onnx.TensorProto, onnx.TensorProto]:
    weight = reader.array(tensor)
    experts, outputs, inputs = weight.shape
    width = inputs * bits // 8
    scales: list[NDArray[np.float32]] = []

    def pieces() -> Iterator[NDArray[np.uint8]]:
        for one in weight:
            made = quantize_blocks(np.ascontiguousarray(one.T, np.float32), bits, block, symmetric=True)
            scales.append(made.scales)
            yield np.ascontiguousarray(made.packed.reshape(outputs, -1)[:, :width])  # without what fills up a block

    packed = writer.add_pieces(f"{tensor.name}_Q{bits}", np.dtype(np.uint8), (experts, outputs, width), pieces())
    return packed, writer.add(f"{tensor.name}_scales", np.stack(scales))
