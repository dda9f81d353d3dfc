"""Rewrites a graph with every matrix, and the embedding, quantized. The rounding itself is in `algorithms`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.conversion.formats.external_data import WeightReader, WeightWriter, alias, release
from foundry_lite.conversion.formats.graph_edit import LookUp, Product, find_look_up, find_products, is_shared, replace
from foundry_lite.conversion.quantize.algorithms import Form, Rounding
from foundry_lite.conversion.quantize.blocks import Blocks
from foundry_lite.conversion.quantize.half_precision import copy_weights
from foundry_lite.conversion.quantize.moe import quantize_experts, routers

_MICROSOFT = "com.microsoft"
_PIECE = 1 << 22  # weights quantized at a time: what bounds the memory
_EMBEDDING_BITS = 8  # of an embedding that is not the head too: a table costs no time, only memory


@dataclass(frozen=True, slots=True)
class _Stored:
    """A quantized matrix as initializers, of ``inputs`` that were filled up to ``padded``."""

    packed: onnx.TensorProto
    others: tuple[onnx.TensorProto, ...]
    inputs: int
    outputs: int
    bits: int
    block: int

    @property
    def padded(self) -> int:
        return int(self.packed.dims[1]) * self.block


class Quantizer:
    """Quantizes one graph, weight by weight; ``bits`` are those of nodes that get others than the recipe's."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        reader: WeightReader,
        writer: WeightWriter,
        recipe: Recipe,
        rounding: Rounding,
        bits: Mapping[str, int],
    ) -> None:
        self._graph = graph
        self._reader = reader
        self._writer = writer
        self._rounding = rounding
        self._usual_bits = 4 if recipe.precision is Precision.INT4 else 8
        self._block = recipe.block_size or 32
        self._bits = bits
        self._floats = {one.name: one for one in graph.initializer}
        self._stored: dict[tuple[str, bool], _Stored] = {}  # by the name of the float weight, and whether transposed
        self._added: list[onnx.TensorProto] = []

    def run(self) -> None:
        """Quantize every matrix, then the embedding; copy everything else."""
        kept = routers(self._graph)
        products = [one for one in find_products(self._graph) if one.node.name not in kept]
        new = {one.node.name: [self._multiply(one)] for one in products}
        look_up = find_look_up(self._graph)
        if look_up is not None:
            head = next((one for one in products if is_shared(one, look_up)), None)
            new[look_up.node.name] = self._look_up(look_up, head)
        experts = quantize_experts(self._graph, self._reader, self._writer, self._usual_bits, self._block)
        new.update(experts.nodes)
        self._added += experts.added
        replace(self._graph, new)
        copy_weights(self._graph, self._reader, self._writer, self._added)

    def _multiply(self, product: Product) -> onnx.NodeProto:
        node, key = product.node, (product.weight, product.is_transposed)
        if key not in self._stored:
            form = self._rounding.form(node.name, product.given, self._bits.get(node.name, self._usual_bits))
            self._stored[key] = self._store(product.weight, product.is_transposed, form)
            self._added += [self._stored[key].packed, *self._stored[key].others]
        stored = self._stored[key]
        return helper.make_node(
            "MatMulNBits",
            [node.input[0], stored.packed.name, *(one.name for one in stored.others)],
            list(node.output),
            name=f"{node.name}_Q{stored.bits}",
            domain=_MICROSOFT,
            K=stored.inputs,
            N=stored.outputs,
            bits=stored.bits,
            block_size=stored.block,
            accuracy_level=4,  # activations in 8 bits, a scale for each block: the fast kernels
        )

    def _look_up(self, look_up: LookUp, head: Product | None) -> list[onnx.NodeProto]:
        """Replace the look-up of the tokens' embeddings; a head's matrix serves it too."""
        gather = look_up.node
        if head is None:
            form = self._rounding.form(gather.name, "", _EMBEDDING_BITS)
            stored = self._store(look_up.weight, not look_up.is_transposed, form)
            self._added += stored.others
        else:
            stored = self._stored[head.weight, head.is_transposed]
        shape = (stored.outputs, stored.padded * stored.bits // 8)
        table = alias(stored.packed, f"{gather.name}.table", shape)
        self._added.append(table)
        inputs = [table.name, gather.input[1], *(one.name for one in stored.others)]
        return self._gather(gather, inputs, stored)

    def _gather(self, gather: onnx.NodeProto, inputs: list[str], stored: _Stored) -> list[onnx.NodeProto]:
        is_filled_up = stored.padded != stored.inputs
        outputs = [f"{gather.name}.filled_up"] if is_filled_up else list(gather.output)
        look_up = helper.make_node(
            "GatherBlockQuantized", inputs, outputs, name=f"{gather.name}BlockQuantized", domain=_MICROSOFT,
            bits=stored.bits, block_size=stored.block, gather_axis=0, quantize_axis=1,
        )  # fmt: skip
        if not is_filled_up:
            return [look_up]
        bounds = {"embedding_from": 0, "embedding_to": stored.inputs, "embedding_axis": 2}
        self._added += [numpy_helper.from_array(np.array([v], np.int64), k) for k, v in bounds.items()]
        cut = helper.make_node("Slice", [*outputs, *bounds], list(gather.output), name=f"{gather.name}/Slice")
        return [look_up, cut]

    def _store(self, name: str, is_transposed: bool, form: Form) -> _Stored:
        array = self._reader.array(self._floats[name])
        weight = array.T if is_transposed else array
        inputs, outputs = weight.shape
        blocks, kind = -(-inputs // form.block), array.dtype
        step = max(1, _PIECE // inputs)
        done: list[Blocks] = []

        def pieces() -> Iterator[NDArray[np.uint8]]:
            for start in range(0, outputs, step):
                part = np.ascontiguousarray(weight[:, start : start + step], np.float32)
                release(array)
                made = form.run(part, start)
                done.append(Blocks(made.packed[:0], made.scales, made.zeros))
                yield made.packed

        shape = (outputs, blocks, form.block * form.bits // 8)
        packed = self._writer.add_pieces(f"{name}_Q{form.bits}", np.dtype(np.uint8), shape, pieces())
        scales: NDArray[Any] = np.concatenate([one.scales for one in done])
        others = [self._writer.add(f"{name}_scales", scales.astype(kind))]
        zeros = [one.zeros for one in done if one.zeros is not None]
        if zeros:
            others.append(self._writer.add(f"{name}_zp", np.concatenate(zeros)))
        return _Stored(packed, tuple(others), inputs, outputs, form.bits, form.block)
