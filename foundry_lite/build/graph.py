"""From the builder's float32 graph to what is served: run by `variants` as a subprocess.

    python -m foundry_lite.build.graph FLOAT_FOLDER JOB.json

``JOB.json`` is a `Job`. All variants of a model come from one float32 export, with its node names:

- ``MatMul`` becomes ``MatMulNBits``; the embedding becomes ``GatherBlockQuantized``. A model whose head is its
  embedding has that matrix once, in int8 too, where the builder leaves a float32 embedding beside it (544 MB in
  Qwen2.5-0.5B). An embedding of its own gets 8 bits.
- The head computes the last position only (the builder's ``prune_lm_head``), or as many as the caller asks for:
  ``logits_from`` is an input with a default, int64 of shape (1,): with -k, the output ``window_logits`` has the
  logits of the last k positions. ``logits`` are those of the last one, whatever is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from foundry_lite.build.grid import Grid, read_grid
from foundry_lite.build.quantize import Blocks, quantize_blocks
from foundry_lite.build.weights import WeightReader, WeightWriter, alias
from foundry_lite.catalog.recipe import Precision, Recipe

WINDOW, WINDOW_LOGITS = "logits_from", "window_logits"

_MICROSOFT = "com.microsoft"
_END = np.iinfo(np.int64).max
_COLUMNS = 1 << 14  # outputs quantized at a time: what bounds the memory
_EMBEDDING_BITS = 8  # of an embedding that is not the head too: a table costs no time, only memory


class Job(Struct, frozen=True):
    """One variant to make: ``target`` is an existing folder, ``prepared`` the float folder (`prepare`)."""

    target: str
    recipe: Recipe
    prepared: str


def main() -> None:
    """Make one variant."""
    job = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Job)
    derive(Path(sys.argv[1]), Path(job.target), job.recipe, read_grid(Path(job.prepared)))


def derive(source: Path, target: Path, recipe: Recipe, grid: Grid | None = None) -> None:
    """Write ``model.onnx`` into ``target`` from the one in ``source``; they may be the same folder in fp32."""
    model = onnx.load(source / "model.onnx", load_external_data=False)
    open_window(model.graph)
    if recipe.precision is not Precision.FP32:
        with WeightWriter(target / "model.onnx.data") as writer:
            _Quantizer(model.graph, WeightReader(source), writer, recipe).run()
    onnx.save(model, target / "model.onnx")


def open_window(graph: onnx.GraphProto) -> None:
    """Let the caller say from which position on logits are computed; by default it is the last one."""
    unsqueeze = next(node for node in graph.node if node.name == "/lm_head/prune/Unsqueeze")
    gather = next(node for node in graph.node if node.name == "/lm_head/prune/Gather")
    constants = {WINDOW: [-1], "logits_to": [_END], "logits_axis": [1]}
    graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in constants.items())
    # An initializer that is also an input has a default and can be given.
    graph.input.append(helper.make_tensor_value_info(WINDOW, onnx.TensorProto.INT64, [1]))
    window = helper.make_node(
        "Slice", [gather.input[0], *constants], list(unsqueeze.output), name="/lm_head/window/Slice"
    )
    replace(graph, {gather.name: [], unsqueeze.name: [window]})
    _name_window(graph)
    del graph.value_info[:]  # they tell of one position


def _name_window(graph: onnx.GraphProto) -> None:
    """Give the logits of the window a name of their own; ``logits`` stay those of the last position.

    onnxruntime-genai reads off the shape of ``logits`` that a graph gives one position whatever the prompt's length.
    """
    logits = next(one for one in graph.output if one.name == "logits")
    head = next(node for node in graph.node if "logits" in node.output)
    head.output[list(head.output).index("logits")] = WINDOW_LOGITS
    last = helper.make_tensor("logits_last", onnx.TensorProto.INT64, [1], [-1])
    graph.initializer.append(last)
    inputs = [WINDOW_LOGITS, last.name, "logits_to", "logits_axis"]
    graph.node.append(helper.make_node("Slice", inputs, ["logits"], name="/lm_head/last/Slice"))
    shape = logits.type.tensor_type.shape.dim
    dims = [shape[0].dim_param or shape[0].dim_value, "logits_length", shape[2].dim_value]
    graph.output.append(helper.make_tensor_value_info(WINDOW_LOGITS, logits.type.tensor_type.elem_type, dims))


def replace(graph: onnx.GraphProto, new: dict[str, list[onnx.NodeProto]]) -> None:
    """Put other nodes in the place of those named, and drop what then serves nobody."""
    nodes = [one for node in graph.node for one in new.get(node.name, [node])]
    wanted = {one.name for one in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    initializers = [one for one in graph.initializer if one.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A quantized matrix as initializers, of ``inputs`` that were filled up to ``padded``."""

    packed: onnx.TensorProto
    others: tuple[onnx.TensorProto, ...]
    inputs: int
    outputs: int
    bits: int

    @property
    def padded(self) -> int:
        return int(self.packed.dims[1] * self.packed.dims[2] * 8) // self.bits


class _Quantizer:
    """Quantizes one graph, weight by weight."""

    def __init__(self, graph: onnx.GraphProto, reader: WeightReader, writer: WeightWriter, recipe: Recipe) -> None:
        self._graph = graph
        self._reader = reader
        self._writer = writer
        self._bits = 4 if recipe.precision is Precision.INT4 else 8
        self._block = recipe.block_size or 32
        self._symmetric = recipe.symmetric
        self._floats = {one.name: one for one in graph.initializer}
        self._stored: dict[str, _Stored] = {}  # by the name of the float weight
        self._added: list[onnx.TensorProto] = []

    def run(self) -> None:
        """Quantize every matrix, then the embedding; copy everything else."""
        new = {node.name: [self._multiply(node)] for node in self._graph.node if self._is_product(node)}
        new.update(self._look_up())
        replace(self._graph, new)
        kept = [self._copy(one) for one in self._graph.initializer]
        del self._graph.initializer[:]
        self._graph.initializer.extend([*kept, *self._added])

    def _is_product(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "MatMul" and node.input[1] in self._floats

    def _multiply(self, node: onnx.NodeProto) -> onnx.NodeProto:
        name = node.input[1]
        weight = self._reader.array(self._floats[name])
        stored = self._stored[name] = self._store(name, weight, self._bits)
        self._added += [stored.packed, *stored.others]
        return helper.make_node(
            "MatMulNBits",
            [node.input[0], stored.packed.name, *(one.name for one in stored.others)],
            list(node.output),
            name=f"{node.name}_Q{self._bits}",
            domain=_MICROSOFT,
            K=stored.inputs,
            N=stored.outputs,
            bits=self._bits,
            block_size=self._block,
            accuracy_level=4,  # activations in 8 bits, a scale for each block: the fast kernels
        )

    def _look_up(self) -> dict[str, list[onnx.NodeProto]]:
        """Replace the look-up of the tokens' embeddings."""
        gather = next(node for node in self._graph.node if node.op_type == "Gather" and "input_ids" in node.input)
        source = {out: node for node in self._graph.node for out in node.output}.get(gather.input[0])
        if source is None:
            name = gather.input[0]
            stored = self._store(name, self._reader.array(self._floats[name]).T, _EMBEDDING_BITS)
            self._added += stored.others
        else:  # the transposed head
            stored = self._stored[source.input[0]]
        shape = (stored.outputs, stored.padded * stored.bits // 8)
        table = alias(stored.packed, f"{gather.name}.table", shape)
        self._added.append(table)
        inputs = [table.name, gather.input[1], *(one.name for one in stored.others)]
        return {gather.name: self._gather(gather, inputs, stored)}

    def _gather(self, gather: onnx.NodeProto, inputs: list[str], stored: _Stored) -> list[onnx.NodeProto]:
        is_filled_up = stored.padded != stored.inputs
        outputs = [f"{gather.name}.filled_up"] if is_filled_up else list(gather.output)
        look_up = helper.make_node(
            "GatherBlockQuantized", inputs, outputs, name=f"{gather.name}BlockQuantized", domain=_MICROSOFT,
            bits=stored.bits, block_size=self._block, gather_axis=0, quantize_axis=1,
        )  # fmt: skip
        if not is_filled_up:
            return [look_up]
        bounds = {"embedding_from": 0, "embedding_to": stored.inputs, "embedding_axis": 2}
        self._added += [numpy_helper.from_array(np.array([v], np.int64), k) for k, v in bounds.items()]
        cut = helper.make_node("Slice", [*outputs, *bounds], list(gather.output), name=f"{gather.name}/Slice")
        return [look_up, cut]

    def _store(self, name: str, weight: NDArray[np.float32], bits: int) -> _Stored:
        inputs, outputs = weight.shape
        blocks = -(-inputs // self._block)
        done: list[Blocks] = []

        def pieces() -> Iterator[NDArray[np.uint8]]:
            for start in range(0, outputs, _COLUMNS):
                part = np.ascontiguousarray(weight[:, start : start + _COLUMNS], np.float32)
                made = quantize_blocks(part, bits, self._block, symmetric=self._symmetric)
                done.append(Blocks(made.packed[:0], made.scales, made.zeros))
                yield made.packed

        shape = (outputs, blocks, self._block * bits // 8)
        packed = self._writer.add_pieces(f"{name}_Q{bits}", np.dtype(np.uint8), shape, pieces())
        others = [self._writer.add(f"{name}_scales", np.concatenate([one.scales for one in done]))]
        zeros = [one.zeros for one in done if one.zeros is not None]
        if zeros:
            others.append(self._writer.add(f"{name}_zp", np.concatenate(zeros)))
        return _Stored(packed, tuple(others), inputs, outputs, bits)

    def _copy(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return tensor
        return self._writer.add(tensor.name, self._reader.array(tensor))


if __name__ == "__main__":
    main()
