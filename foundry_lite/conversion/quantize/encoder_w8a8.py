"""An encoder computed in 8 bits, weights and activations: run by `encoder` as a subprocess.

    python -m foundry_lite.conversion.quantize.encoder_w8a8 EXPORTED TARGET SCRATCH

Every product with a constant matrix becomes W8A8: a scale for each output of the weight and, computed as it runs, one
for each *row* of the activations, which is a token. So a text's vector does not depend on what else is in its batch;
with one scale for all rows (``DynamicQuantizeLinear``) it moved by 0.03 (docs/decisions/0014). The embedding gets 8
bits in blocks, as in all variants.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.conversion.formats.external_data import WeightReader, WeightWriter
from foundry_lite.conversion.formats.graph_edit import Product, find_products, lift_constants, name_nodes, replace
from foundry_lite.conversion.quantize.algorithms import Nearest
from foundry_lite.conversion.quantize.blocks import quantize_columns
from foundry_lite.conversion.quantize.rewrite import Quantizer

GRAPH, DATA = "model.onnx", "model.onnx.data"

_MICROSOFT = "com.microsoft"
_ROWS = "rows.data"
_CONSTANTS = {
    "w8a8.last_axis": np.array([-1], np.int64),
    "w8a8.step": np.array(1 / 127, np.float32),
    "w8a8.tiny": np.array(1e-12, np.float32),
    "w8a8.one": np.array(1, np.float32),
    "w8a8.middle": np.array(128, np.uint8),
}


def main() -> None:
    """Make the variant."""
    exported, target, scratch = (Path(argument) for argument in sys.argv[1:4])
    rewrite(exported, target, scratch)


def rewrite(exported: Path, target: Path, scratch: Path) -> None:
    """Write ``model.onnx`` with its weights into ``target`` from the float32 export."""
    model = onnx.load(exported / GRAPH, load_external_data=False)
    name_nodes(model.graph)
    lift_constants(model.graph)
    # Twice: the first pass has the matrices, the second one the embedding, and copies the first one's.
    with WeightWriter(scratch / _ROWS) as writer:
        _Rewriter(model.graph, WeightReader(exported), writer).run()
    reader = _TwoFolders(exported, scratch)
    recipe = Recipe(Precision.INT8, 32)
    with WeightWriter(target / DATA) as writer:
        Quantizer(model.graph, reader, writer, recipe, Nearest(recipe), {}).run()
    (scratch / _ROWS).unlink()
    model.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    onnx.save(model, target / GRAPH)


class _TwoFolders(WeightReader):
    """Reads what the first pass wrote, and what it left in the export."""

    def __init__(self, exported: Path, scratch: Path) -> None:
        super().__init__(exported)
        self._first_pass = WeightReader(scratch)

    def array(self, tensor: onnx.TensorProto) -> np.ndarray:
        is_ours = any(one.key == "location" and one.value == _ROWS for one in tensor.external_data)
        return self._first_pass.array(tensor) if is_ours else super().array(tensor)


class _Rewriter:
    """Rewrites the products of one graph."""

    def __init__(self, graph: onnx.GraphProto, reader: WeightReader, writer: WeightWriter) -> None:
        self._graph = graph
        self._reader = reader
        self._writer = writer
        self._floats = {one.name: one for one in graph.initializer}
        self._stored: set[str] = set()
        self._quantized: set[str] = set()  # activations: several products may share one

    def run(self) -> None:
        """Rewrite every product with a constant matrix."""
        self._graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in _CONSTANTS.items())
        replace(self._graph, {one.node.name: self._multiply(one) for one in find_products(self._graph)})

    def _multiply(self, product: Product) -> list[onnx.NodeProto]:
        node, given = product.node, product.given
        weight, product_name = self._store(product), f"{node.name}.product"
        inputs = [f"{given}.a8", weight, "w8a8.one", f"{weight}_scales", "w8a8.middle"]
        return [
            *self._quantize(given),
            helper.make_node("MatMulIntegerToFloat", inputs, [product_name], name=node.name, domain=_MICROSOFT),
            helper.make_node("Mul", [product_name, f"{given}.scales"], list(node.output), name=f"{node.name}.Mul"),
        ]

    def _store(self, product: Product) -> str:
        name = f"{product.weight}.w8"
        if name not in self._stored:
            self._stored.add(name)
            array = self._reader.array(self._floats[product.weight])
            packed, scales = quantize_columns(np.asarray(array.T if product.is_transposed else array, np.float32))
            self._graph.initializer.append(self._writer.add(name, packed))
            self._graph.initializer.append(self._writer.add(f"{name}_scales", scales))
        return name

    def _quantize(self, given: str) -> list[onnx.NodeProto]:
        """Quantize an activation once: ``.a8`` in 8 bits around 128, ``.scales`` one for each row."""
        if given in self._quantized:
            return []
        self._quantized.add(given)
        low, high, far, flat, shape, rows = (
            f"{given}.{one}" for one in ("low", "high", "far", "flat", "shape", "row_scales")
        )
        return [
            helper.make_node("ReduceMax", [given, "w8a8.last_axis"], [high], keepdims=1),
            helper.make_node("ReduceMin", [given, "w8a8.last_axis"], [low], keepdims=1),
            helper.make_node("Neg", [low], [f"{low}.neg"]),
            helper.make_node("Max", [high, f"{low}.neg", "w8a8.tiny"], [far]),
            helper.make_node("Mul", [far, "w8a8.step"], [f"{given}.scales"]),
            helper.make_node("Reshape", [f"{given}.scales", "w8a8.last_axis"], [rows]),
            helper.make_node("Shape", [rows], [f"{rows}.count"]),
            helper.make_node("Expand", ["w8a8.middle", f"{rows}.count"], [f"{rows}.middles"]),
            helper.make_node("Flatten", [given], [flat], axis=-1),
            helper.make_node("QuantizeLinear", [flat, rows, f"{rows}.middles"], [f"{flat}.a8"], axis=0),
            helper.make_node("Shape", [given], [shape]),
            helper.make_node("Reshape", [f"{flat}.a8", shape], [f"{given}.a8"]),
        ]


if __name__ == "__main__":
    main()
