"""Matrices in 16 bits: half the disk, and the arithmetic of float32 as before.

onnxruntime's CPU kernels for 16-bit floats are few and slow, so a ``Cast`` makes float32 of each matrix; onnxruntime
computes it once, when the model is loaded. The embedding's rows are cast as they are looked up: its table stays in 16
bits. Norms, biases and rotary tables stay as they are. bf16 loses nothing when the source's weights are in bf16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from foundry_lite.catalog.recipe import Precision
from foundry_lite.conversion.formats.external_data import WeightReader, WeightWriter, release
from foundry_lite.conversion.formats.graph_edit import LookUp, Product, find_look_up, find_products, is_shared, replace
from foundry_lite.errors import BuildFailed

_PIECE = 1 << 22  # weights at a time
_KINDS: dict[Precision, tuple[Any, int]] = {
    Precision.FP16: (np.float16, TensorProto.FLOAT16),
    Precision.BF16: (ml_dtypes.bfloat16, TensorProto.BFLOAT16),
}


class Halver:
    """Rewrites one graph."""

    def __init__(
        self, graph: onnx.GraphProto, reader: WeightReader, writer: WeightWriter, precision: Precision
    ) -> None:
        self._graph = graph
        self._reader = reader
        self._writer = writer
        self._kind, self._type = _KINDS[precision]
        self._floats = {one.name: one for one in graph.initializer if one.data_type == TensorProto.FLOAT}
        self._added: list[onnx.TensorProto] = []

    def run(self) -> None:
        """Store every matrix and the embedding in 16 bits; copy everything else."""
        products = [one for one in find_products(self._graph) if one.weight in self._floats]
        look_up = find_look_up(self._graph)
        new: dict[str, list[onnx.NodeProto]] = {}
        shared = None
        if look_up is not None and look_up.weight in self._floats:
            shared = next((one for one in products if is_shared(one, look_up)), None)
            new[look_up.node.name] = self._look_up(look_up)
        stored: dict[str, list[onnx.NodeProto]] = {}
        for product in products:
            if look_up is not None and product is shared:
                new[product.node.name] = _multiply(product, f"{look_up.weight}.table", is_transposed=True)
            else:
                if product.weight not in stored:
                    self._added.append(self._store(product.weight, f"{product.weight}.half", is_transposed=False))
                    stored[product.weight] = []
                new[product.node.name] = _multiply(product, f"{product.weight}.half", product.is_transposed)
        replace(self._graph, new)
        copy_weights(self._graph, self._reader, self._writer, self._added)

    def _look_up(self, look_up: LookUp) -> list[onnx.NodeProto]:
        table, out = f"{look_up.weight}.table", look_up.node.output[0]
        self._added.append(self._store(look_up.weight, table, is_transposed=look_up.is_transposed))
        return [
            helper.make_node("Gather", [table, look_up.node.input[1]], [f"{out}.half"], name=look_up.node.name),
            helper.make_node("Cast", [f"{out}.half"], [out], name=f"{look_up.node.name}/Cast", to=TensorProto.FLOAT),
        ]

    def _store(self, weight: str, name: str, *, is_transposed: bool) -> onnx.TensorProto:
        array = self._reader.array(self._floats[weight])
        rows = array.T if is_transposed else array
        return self._writer.add_pieces(name, np.dtype(self._kind), rows.shape, self._pieces(weight, array, rows))

    def _pieces(self, weight: str, array: NDArray[Any], rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
        step = max(1, _PIECE // rows.shape[1])
        for start in range(0, len(rows), step):
            piece = np.ascontiguousarray(rows[start : start + step])
            with np.errstate(over="ignore"):
                half = piece.astype(self._kind)
            if self._type == TensorProto.FLOAT16 and np.isinf(half).any():
                raise BuildFailed(
                    f"{weight} has weights up to {np.abs(piece).max():.3g}, and float16 ends at 65504",
                    hint="Build the variant in bf16 instead.",
                )
            yield half
            release(array)


def _multiply(product: Product, weight: str, is_transposed: bool) -> list[onnx.NodeProto]:
    """Return the product with a matrix that is cast first, and transposed then if it needs to be."""
    node, whole = product.node, f"{product.node.name}/weight"
    made = [helper.make_node("Cast", [weight], [f"{whole}.cast"], name=f"{node.name}/Cast", to=TensorProto.FLOAT)]
    if is_transposed:
        made.append(
            helper.make_node("Transpose", [f"{whole}.cast"], [whole], name=f"{node.name}/Transpose", perm=[1, 0])
        )
    given = whole if is_transposed else f"{whole}.cast"
    return [*made, helper.make_node("MatMul", [node.input[0], given], list(node.output), name=node.name)]


def copy_weights(
    graph: onnx.GraphProto, reader: WeightReader, writer: WeightWriter, added: list[onnx.TensorProto]
) -> None:
    """Copy what is left of the float graph's weights into the new file, and put ``added`` beside them."""
    kept = []
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            array = reader.array(tensor)
            kept.append(writer.add(tensor.name, array))
            release(array)
        else:
            kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend([*kept, *added])
