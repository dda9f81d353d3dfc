"""A plain ONNX decoder as the engine needs it: run by `existing_onnx` as a subprocess.

    python -m foundry_lite.conversion.export.adapt_onnx GRAPH TARGET

The weights stay as they are; what changes is small. Files of weights are called ``model.onnx.data``, ``.data1`` and so
on. Inputs that onnxruntime-genai cannot give are computed, or get a default: a merged export's choice of a branch
(``use_cache_branch``: are there keys and values?), and the number of positions that get logits.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

_BRANCH, _KEPT_LOGITS, _FIRST_PAST = "use_cache_branch", "num_logits_to_keep", "past_key_values.0.key"
_GRAPH = "model.onnx"


def main() -> None:
    """Adopt one graph."""
    adopt(Path(sys.argv[1]), Path(sys.argv[2]))


def adopt(source: Path, target: Path) -> None:
    """Write ``model.onnx`` and the files of its weights into ``target``."""
    model = onnx.load(source, load_external_data=False)
    inputs = {one.name for one in model.graph.input} - {one.name for one in model.graph.initializer}
    moved = _move_data(model, source.parent, target)
    if not moved and not inputs & {_BRANCH, _KEPT_LOGITS}:
        shutil.copyfile(source, target / _GRAPH)
        return
    if _BRANCH in inputs:
        _compute_branch(model.graph)
    if _KEPT_LOGITS in inputs:
        _keep_last_logits(model.graph)
    onnx.save(model, target / _GRAPH)


def _move_data(model: onnx.ModelProto, source: Path, target: Path) -> dict[str, str]:
    """Copy the files of weights under new names; return the names, by the old ones."""
    new: dict[str, str] = {}
    for tensor in _tensors(model.graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                if entry.value not in new:
                    new[entry.value] = f"{_GRAPH}.data{len(new) or ''}"
                    shutil.copyfile(source / entry.value, target / new[entry.value])
                entry.value = new[entry.value]
    return new


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a graph that may lie in files, and those of graphs within its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _tensors(inner)


def _compute_branch(graph: onnx.GraphProto) -> None:
    """Let the graph see by itself whether there are keys and values."""
    _add_constant(graph, "cache_axis", np.array([2], np.int64))
    _add_constant(graph, "cache_none", np.array([0], np.int64))
    nodes = [
        helper.make_node("Shape", [_FIRST_PAST], ["cache_shape"], name="/cache/Shape"),
        helper.make_node("Gather", ["cache_shape", "cache_axis"], ["cache_length"], name="/cache/Gather"),
        helper.make_node("Greater", ["cache_length", "cache_none"], [_BRANCH], name="/cache/Greater"),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    _remove_input(graph, _BRANCH)


def _keep_last_logits(graph: onnx.GraphProto) -> None:
    """Compute the logits of the last position only: the engine reads no others."""
    info = next(one for one in graph.input if one.name == _KEPT_LOGITS)
    shape = [1] * len(info.type.tensor_type.shape.dim)
    kind = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
    _remove_input(graph, _KEPT_LOGITS)
    _add_constant(graph, _KEPT_LOGITS, np.ones(shape, kind))
    logits = next(one for one in graph.output if one.name == "logits")
    logits.type.tensor_type.shape.dim[1].dim_value = 1  # by which onnxruntime-genai knows


def _add_constant(graph: onnx.GraphProto, name: str, value: Any) -> None:
    graph.initializer.append(numpy_helper.from_array(value, name))


def _remove_input(graph: onnx.GraphProto, name: str) -> None:
    kept = [one for one in graph.input if one.name != name]
    del graph.input[:]
    graph.input.extend(kept)


if __name__ == "__main__":
    main()
