"""The companion graph that computes prompts: run by `variants` as a subprocess.

    python -m foundry_lite.conversion.quantize.prefill_graph FLOAT_FOLDER TARGET_FOLDER

Writes ``prefill.onnx`` (and its data) beside ``model.onnx``: the same graph over the same keys and values, in which
every big product, the head excepted, is W8A8. Weights have 8 bits and a scale for each output, made from the float32
export; activations get 8 bits and a scale for each *row*: a token's result then depends on no other token, and an
outlier in one row costs the others nothing. ``DynamicQuantizeMatMul`` would have one scale for all rows. Everything
else, the embedding and the head included, is the decode graph's own, out of its own data file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from foundry_lite.conversion.formats.external_data import WeightReader, WeightWriter
from foundry_lite.conversion.formats.graph_edit import replace
from foundry_lite.conversion.quantize.blocks import quantize_columns

COMPANION = "prefill.onnx"

_HEAD = "/lm_head/MatMul"  # one row of a prompt needs it, so there is nothing to win
_MICROSOFT = "com.microsoft"
_CONSTANTS = {
    "w8a8.last_axis": np.array([-1], np.int64),
    "w8a8.flat": np.array([-1], np.int64),
    "w8a8.step": np.array(1 / 127, np.float32),
    "w8a8.tiny": np.array(1e-12, np.float32),
    "w8a8.one": np.array(1, np.float32),
    "w8a8.middle": np.array(128, np.uint8),
}


def main() -> None:
    """Make the companion."""
    add(*(Path(argument) for argument in sys.argv[1:3]))


def add(source: Path, target: Path) -> None:
    """Write the companion of ``target``'s graph, with the weights of the float32 export ``source``."""
    weights = _float_weights(source)
    model = onnx.load(target / "model.onnx", load_external_data=False)
    with WeightWriter(target / f"{COMPANION}.data") as writer:
        _Rewriter(model.graph, weights, writer).run()
    onnx.save(model, target / COMPANION)


def _float_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Map the products of the float32 graph, by the name of the node."""
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    floats = {one.name: one for one in graph.initializer}
    reader = WeightReader(folder)
    return {
        node.name: reader.array(floats[node.input[1]])
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in floats and node.name != _HEAD
    }


class _Rewriter:
    """Rewrites one decode graph."""

    def __init__(self, graph: onnx.GraphProto, weights: dict[str, NDArray[np.float32]], writer: WeightWriter) -> None:
        self._graph = graph
        self._weights = weights
        self._writer = writer
        self._added = [numpy_helper.from_array(value, name) for name, value in _CONSTANTS.items()]
        self._quantized: set[str] = set()  # activations: several products may share one

    def run(self) -> None:
        """Rewrite every product whose float weight is known."""
        new = {node.name: self._multiply(node) for node in self._graph.node if _plain_name(node) in self._weights}
        for number, node in enumerate(self._count_tokens()):
            self._graph.node.insert(number, node)
        replace(self._graph, new)
        wanted = {name for node in self._graph.node for name in node.input}
        self._graph.initializer.extend(one for one in self._added if one.name in wanted)

    def _count_tokens(self) -> list[onnx.NodeProto]:
        """Make the zero point of each row: as many as there are tokens, ``w8a8.middles (tokens,)``."""
        self._added.append(numpy_helper.from_array(np.array([1], np.int64), "w8a8.vector"))
        return [
            helper.make_node("Size", ["input_ids"], ["w8a8.tokens"]),
            helper.make_node("Shape", ["input_ids"], ["w8a8.rows"]),
            helper.make_node("Reshape", ["w8a8.tokens", "w8a8.vector"], ["w8a8.count"]),
            helper.make_node("Expand", ["w8a8.middle", "w8a8.count"], ["w8a8.middles"]),
        ]

    def _multiply(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        weight = self._weights[_plain_name(node)]
        packed, scales = quantize_columns(np.asarray(weight))
        name = f"{_plain_name(node)}.w8"
        self._added += [self._writer.add(name, packed), self._writer.add(f"{name}_scales", scales)]
        given, product = node.input[0], f"{name}.product"
        inputs = [f"{given}.a8", name, "w8a8.one", f"{name}_scales", "w8a8.middle"]
        return [
            *self._quantize(given, len(weight)),
            helper.make_node("MatMulIntegerToFloat", inputs, [product], name=name, domain=_MICROSOFT),
            helper.make_node("Mul", [product, f"{given}.scales"], list(node.output), name=f"{name}.Mul"),
        ]

    def _quantize(self, given: str, width: int) -> list[onnx.NodeProto]:
        """Quantize an activation once: ``.a8`` in 8 bits around 128, ``.scales`` one for each row."""
        if given in self._quantized:
            return []
        self._quantized.add(given)
        shape = f"w8a8.shape_{width}"
        nodes = [] if shape in self._quantized else self._shape(shape, width)
        low, high, far, flat = (f"{given}.{one}" for one in ("low", "high", "far", "flat"))
        return [
            *nodes,
            helper.make_node("ReduceMax", [given, "w8a8.last_axis"], [high], keepdims=1),
            helper.make_node("ReduceMin", [given, "w8a8.last_axis"], [low], keepdims=1),
            helper.make_node("Neg", [low], [f"{low}.neg"]),
            helper.make_node("Max", [high, f"{low}.neg", "w8a8.tiny"], [far]),
            helper.make_node("Mul", [far, "w8a8.step"], [f"{given}.scales"]),
            helper.make_node("Reshape", [f"{given}.scales", "w8a8.flat"], [f"{given}.row_scales"]),
            helper.make_node("Reshape", [given, f"{shape}.flat"], [flat]),
            helper.make_node(
                "QuantizeLinear", [flat, f"{given}.row_scales", "w8a8.middles"], [f"{flat}.a8"], axis=0
            ),
            helper.make_node("Reshape", [f"{flat}.a8", shape], [f"{given}.a8"]),
        ]  # fmt: skip

    def _shape(self, name: str, width: int) -> list[onnx.NodeProto]:
        self._quantized.add(name)
        self._added.append(numpy_helper.from_array(np.array([width], np.int64), f"{name}.width"))
        self._added.append(numpy_helper.from_array(np.array([-1, width], np.int64), f"{name}.flat"))
        return [helper.make_node("Concat", ["w8a8.rows", f"{name}.width"], [name], axis=0)]


def _plain_name(node: onnx.NodeProto) -> str:
    """Return the name that the node had in the float32 graph."""
    return str(node.name).removesuffix("_Q4").removesuffix("_Q8")


if __name__ == "__main__":
    main()
