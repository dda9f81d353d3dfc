"""Edits ONNX graphs: finds matrix products and embedding look-ups, replaces nodes, lifts constants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from foundry_lite.errors import BuildFailed

_SMALL = 1024  # bytes: constants up to this size are no weights
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_QUANTIZED = (
    *("MatMulNBits", "MatMulBnb4", "QMoE", "GatherBlockQuantized", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    *("DequantizeLinear", "MatMulInteger", "QLinearMatMul", "QAttention", "ConvInteger", "QLinearConv"),
)


@dataclass(frozen=True, slots=True)
class Product:
    """A ``MatMul`` with a constant matrix, which is ``(inputs, outputs)``, or the other way round if transposed."""

    node: onnx.NodeProto
    weight: str
    is_transposed: bool

    @property
    def given(self) -> str:
        """The name of what is multiplied."""
        return str(self.node.input[0])


@dataclass(frozen=True, slots=True)
class LookUp:
    """The ``Gather`` of the tokens' embeddings; the table is ``(width, tokens)`` if transposed."""

    node: onnx.NodeProto
    weight: str
    is_transposed: bool


def find_products(graph: onnx.GraphProto) -> list[Product]:
    """Return the products with constant matrices, in the order of the graph; others are left as they are."""
    weights = {one.name: one for one in graph.initializer}
    makers = _makers(graph)
    found = (
        (node, _matrix(node.input[1], weights, makers))
        for node in graph.node
        if node.op_type == "MatMul" and node.domain in ("", "ai.onnx")
    )
    return [Product(node, *matrix) for node, matrix in found if matrix is not None]


def find_look_up(graph: onnx.GraphProto) -> LookUp | None:
    """Return the look-up of the tokens' embeddings in a constant table, if there is one that is plain to see."""
    weights = {one.name: one for one in graph.initializer}
    makers = _makers(graph)
    for node in graph.node:
        if node.op_type == "Gather" and len(node.input) > 1 and node.input[1] == "input_ids" and _axis(node) == 0:
            matrix = _matrix(node.input[0], weights, makers)
            return None if matrix is None else LookUp(node, *matrix)
    return None


def is_shared(product: Product, look_up: LookUp) -> bool:
    """Return whether a head multiplies with the embedding's own table, each output being a token."""
    return product.weight == look_up.weight and product.is_transposed != look_up.is_transposed


def require_floats(graph: onnx.GraphProto) -> None:
    """Refuse a graph whose weights have few bits already. Raises `BuildFailed`."""
    kinds = [node.op_type for node in graph.node if node.op_type in _QUANTIZED]
    if kinds:
        names = ", ".join(sorted(set(kinds)))
        raise BuildFailed(
            f"the graph is quantized already ({len(kinds)} x {names}): from its weights no other variant can be made",
            hint="Import it as it is, or build from the float model that it was made of.",
        )


def uses(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, those within its branches and loops too."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                yield from uses(inner)
            yield from (one.name for one in graph.output)


def replace(graph: onnx.GraphProto, new: Mapping[str, Sequence[onnx.NodeProto]]) -> None:
    """Replace the named nodes by others, and drop what is then unused."""
    nodes = [one for node in graph.node for one in (new.get(node.name, [node]) if node.name else [node])]
    wanted = {one.name for one in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(uses(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    initializers = [one for one in graph.initializer if one.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node that has no name, or another's, one of its own: they are replaced by name."""
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}/{number}"
        taken.add(node.name)


def lift_constants(graph: onnx.GraphProto, *, all_of_them: bool = False) -> None:
    """Make initializers of ``Constant`` nodes, where matrices are looked for: of those that may be one, or of all."""
    kept = []
    for node in graph.node:
        tensor = _constant(node) if node.op_type == "Constant" else None
        if tensor is None or (size_of(tensor) <= _SMALL and not all_of_them):
            kept.append(node)
            continue
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def size_of(tensor: onnx.TensorProto) -> int:
    """Return how many bytes a tensor has."""
    return int(math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    for attribute in node.attribute:
        if attribute.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
            return tensor
        kinds: dict[str, Any] = {"value_float": np.float32, "value_int": np.int64}
        for name, kind in kinds.items():
            if attribute.name.removesuffix("s") == name:
                return numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), kind))
    return None


def _makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def _matrix(
    name: str, weights: Mapping[str, onnx.TensorProto], makers: Mapping[str, onnx.NodeProto]
) -> tuple[str, bool] | None:
    """Return the constant that a name stands for, and whether it is transposed."""
    maker = makers.get(name)
    is_transposed = maker is not None and maker.op_type == "Transpose"
    if maker is not None and is_transposed:
        name = maker.input[0]
    tensor = weights.get(name)
    if tensor is None or len(tensor.dims) != 2 or tensor.data_type not in _FLOATS or 0 in tensor.dims:
        return None
    return name, is_transposed


def _axis(node: onnx.NodeProto) -> int:
    return next((int(one.i) for one in node.attribute if one.name == "axis"), 0)
