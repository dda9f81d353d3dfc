"""Activations of a float graph over calibration texts, computed a part at a time in the memory of a few layers.

The nodes are cut, in their order, into parts of about `_PART` bytes of weights. A part is run over every text in a
session of its own, then forgotten; what later parts need of it is carried over. So any graph will do, and neither the
weights nor the texts' activations are ever there as a whole. Values are handed out as the walk reaches them.

The look-up of the embeddings, which may be a quarter of a model, is done here; the head is not computed at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from foundry_lite.conversion.formats.external_data import WeightReader, release
from foundry_lite.conversion.formats.graph_edit import LookUp, find_look_up, lift_constants, size_of, uses
from foundry_lite.errors import BuildFailed

_PART = 32 << 20  # bytes of weights
_COLUMNS = 64 << 20  # bytes of an embedding that are looked at at a time
_ALL_POSITIONS = -(1 << 31)

Values = dict[str, NDArray[Any]]
Note = Callable[[str, NDArray[Any]], None]


@dataclass(slots=True)
class _Text:
    """Calibration text while it runs: the activations that later parts need."""

    values: Values = field(default_factory=dict)


class Walk:
    """Runs ``model``, whose weights lie in ``folder``, over sequences of tokens; ``wanted`` are names of values."""

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path,
        head_size: int,
        texts: Sequence[Sequence[int]],
        wanted: Sequence[str],
        replaced: Mapping[str, onnx.TensorProto] | None = None,
    ) -> None:
        """Take the texts in tokens; ``replaced`` are weights to be computed with instead of the graph's own."""
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._folder = folder
        self._reader = WeightReader(folder)
        lift_constants(self._model.graph, all_of_them=True)
        self._wanted = set(wanted)
        self._weights = {one.name: one for one in self._model.graph.initializer} | dict(replaced or {})
        _open_every_position(self._weights)
        self._texts = [_Text(_feeds(self._model.graph, set(self._weights), head_size, text)) for text in texts]
        look_up = find_look_up(self._model.graph)
        if look_up is not None:
            self._embed(look_up)
        self._nodes = _needed(self._model.graph, self._wanted, {look_up.node.name} if look_up else set())

    def run(self, note: Note) -> Iterator[set[str]]:
        """Compute part after part; ``note`` gets each wanted value of each text; yields the names that are complete."""
        parts = list(_parts(self._nodes, self._weights))
        given = {name for name in self._texts[0].values if name in self._wanted}
        for name in sorted(given):
            for text in self._texts:
                note(name, text.values[name])
        if given:
            yield given
        for number, part in enumerate(parts):
            later = {name for other in parts[number + 1 :] for node in other for name in uses(node)}
            yield self._run_part(part, later, note)

    def _embed(self, look_up: LookUp) -> None:
        """Look the tokens of all texts up, a part of the table at a time."""
        name, ids = look_up.node.output[0], [text.values["input_ids"] for text in self._texts]
        tensor = self._weights[look_up.weight]
        table = self._reader.array(tensor)
        rows = table.T if look_up.is_transposed else table
        width = rows.shape[1]
        for text, tokens in zip(self._texts, ids, strict=True):
            text.values[name] = np.empty((*tokens.shape, width), table.dtype)
        step = max(1, _COLUMNS // (rows.shape[0] * table.itemsize)) if look_up.is_transposed else width
        for start in range(0, width, step):
            for text, tokens in zip(self._texts, ids, strict=True):
                text.values[name][..., start : start + step] = rows[:, start : start + step][tokens]
            release(table)

    def _run_part(self, part: list[onnx.NodeProto], later: set[str], note: Note) -> set[str]:
        made = {name for node in part for name in node.output if name}
        fresh = made & self._wanted
        outputs = sorted(made & (later | self._wanted))
        inputs = sorted({name for node in part for name in uses(node)} - made - set(self._weights) - {""})
        session = self._open(part, inputs, outputs)
        for text in self._texts:
            found = dict(zip(outputs, session.run(outputs, {name: text.values[name] for name in inputs}), strict=True))
            for name in sorted(fresh):
                note(name, found[name])
            kept = {**text.values, **found}
            text.values = {name: value for name, value in kept.items() if name in later}
        return fresh

    def _open(self, part: list[onnx.NodeProto], inputs: list[str], outputs: list[str]) -> ort.InferenceSession:
        first = self._texts[0].values
        names = {name for node in part for name in uses(node)}
        graph = helper.make_graph(
            part,
            "part",
            [
                helper.make_tensor_value_info(one, helper.np_dtype_to_tensor_dtype(first[one].dtype), None)
                for one in inputs
            ],
            [onnx.ValueInfoProto(name=one) for one in outputs],
            [one for name, one in self._weights.items() if name in names],
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        model.functions.extend(self._model.functions)
        try:
            return ort.InferenceSession(model.SerializeToString(), _options(self._folder), ["CPUExecutionProvider"])
        except Exception as error:
            raise BuildFailed(
                f"the float graph cannot be run for calibration: {error}",
                hint="Take an algorithm without calibration, such as kq.",
            ) from error


def _options(folder: Path) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")  # copies of weights that are used a few times
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return options


def _open_every_position(weights: Mapping[str, onnx.TensorProto]) -> None:
    """Have the head's input computed for every position, where `derive` has opened a window."""
    window = weights.get("logits_from")
    if window is not None:
        window.CopyFrom(helper.make_tensor("logits_from", onnx.TensorProto.INT64, [1], [_ALL_POSITIONS]))


def _needed(graph: onnx.GraphProto, wanted: set[str], given: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes that the wanted values depend on, in order, without those whose names are ``given``."""
    names, needed = set(wanted), []
    for node in reversed(graph.node):
        if node.name not in given and names.intersection(node.output):
            needed.append(node)
            names.update(uses(node))
    return needed[::-1]


def _parts(nodes: list[onnx.NodeProto], weights: Mapping[str, onnx.TensorProto]) -> Iterator[list[onnx.NodeProto]]:
    part: list[onnx.NodeProto] = []
    size = 0
    for node in nodes:
        part.append(node)
        size += sum(size_of(weights[name]) for name in uses(node) if name in weights)
        if size >= _PART:
            yield part
            part, size = [], 0
    if part:
        yield part


def _feeds(graph: onnx.GraphProto, defaults: set[str], head_size: int, tokens: Sequence[int]) -> Values:
    """Return the inputs for one text from its beginning: no keys and values, or other states, are there yet."""
    length = len(tokens)
    known: Values = {
        "input_ids": np.asarray([tokens], np.int64),
        "attention_mask": np.ones((1, length), np.int64),
        "position_ids": np.arange(length, dtype=np.int64)[None],
    }
    feeds: Values = {}
    for one in graph.input:
        if one.name in defaults:
            continue
        kind = helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)
        value = known.get(one.name)
        feeds[one.name] = np.zeros(_state_shape(one, head_size), kind) if value is None else value.astype(kind)
    return feeds


def _state_shape(state: onnx.ValueInfoProto, head_size: int) -> tuple[int, ...]:
    """Return the shape of an empty state: one row, no tokens; sizes that have a number are kept."""
    dims = state.type.tensor_type.shape.dim
    sizes = [one.dim_value if one.HasField("dim_value") else 0 for one in dims]
    if sizes:
        sizes[0] = 1
    if len(sizes) == 4 and not dims[3].HasField("dim_value"):
        sizes[3] = head_size
    return tuple(sizes)
