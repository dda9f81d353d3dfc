"""Runner on plain onnxruntime, for graphs of the model builder with ``GroupQueryAttention``.

Such a graph takes the keys and values of all rows as one array per layer, ``(rows, kv_heads, capacity, head_size)``,
and reads each row's length out of the attention mask. Past and present are bound to the same memory, so keys are
appended in place; a batch is rows ``0..n-1`` of the array, of any lengths; one row is prefilled through a pointer to
its first byte. Rows of a batch must be neighbours: slots are names, and `_pack` moves rows so that those to decode lie
first. The memory is reserved whole and touched as sequences grow (an untouched page costs nothing).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from foundry_lite.engine.runner import Logits
from foundry_lite.errors import LoadFailed

_KV_TYPES: dict[str, type[Any]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OrtRunner:
    """One model folder in an `onnxruntime.InferenceSession` on the CPU.

    Raises `LoadFailed` when the folder's graph is not one that this runner can drive.
    """

    def __init__(self, folder: Path, *, threads: int, slots: int, context_length: int) -> None:
        decoder, own_context = _read_config(folder)
        self._session = _open_session(folder / decoder["filename"], threads)
        self._inputs = {one.name: one for one in self._session.get_inputs()}
        self.slots = slots
        self.context_length = min(context_length, own_context)
        layers = int(decoder["num_hidden_layers"])
        self._past = [name for i in range(layers) for name in _names(decoder["inputs"], "past", i)]
        self._present = [name for i in range(layers) for name in _names(decoder["outputs"], "present", i)]
        self._check_graph()
        shape = (slots, int(decoder["num_key_value_heads"]), self.context_length, int(decoder["head_size"]))
        kind = _KV_TYPES[self._inputs[self._past[0]].type]
        self._kv = [np.zeros(shape, kind) for _ in self._past]
        logits = next(one for one in self._session.get_outputs() if one.name == "logits")
        self.vocabulary = int(logits.shape[-1])
        self._is_pruned = logits.shape[1] == 1  # the head is computed for the last position only
        self._logits = np.zeros((slots, 1, self.vocabulary), np.float32)
        self._lengths = np.zeros(slots, np.int64)  # by row
        self._row_of = list(range(slots))
        self._slot_at = list(range(slots))
        self._ids = np.zeros((slots, 1), np.int64)
        self._bindings: dict[int, Any] = {}  # decode: number of rows → binding of all that stays where it is

    def prefill(self, slot: int, tokens: Sequence[int]) -> Logits:
        """Append ``tokens``; see `Runner.prefill`."""
        row = self._row_of[slot]
        binding = self._session.io_binding()
        self._bind_rows(binding, row, 1)
        self._lengths[row] += len(tokens)
        ids = np.asarray(tokens, np.int64)[None, :]
        _bind(binding, "input_ids", ids)
        logits = np.empty((1, 1 if self._is_pruned else len(tokens), self.vocabulary), np.float32)
        _bind_logits(binding, logits)
        self._run(binding, self._lengths[row : row + 1], len(tokens))
        last: Logits = logits[0, -1]
        return last

    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> Logits:
        """Append one token to each slot; see `Runner.decode`."""
        count = len(slots)
        self._pack(slots)
        rows = [self._row_of[slot] for slot in slots]
        self._ids[rows, 0] = tokens
        self._lengths[:count] += 1
        binding = self._bindings.get(count)
        if binding is None:
            binding = self._bindings[count] = self._session.io_binding()
            self._bind_rows(binding, 0, count)
            _bind(binding, "input_ids", self._ids[:count])
            _bind_logits(binding, self._logits[:count])
        self._run(binding, self._lengths[:count], 1)
        logits: Logits = self._logits[:count, 0]
        return logits if rows == list(range(count)) else logits[rows]

    def keep(self, slot: int, length: int) -> None:
        """Forget what lies beyond ``length`` tokens."""
        row = self._row_of[slot]
        self._lengths[row] = min(self._lengths[row], length)

    def copy(self, source: int, target: int, length: int) -> None:
        """Make ``target`` hold the first ``length`` tokens of ``source``."""
        self._copy_row(self._row_of[source], self._row_of[target], length)

    def length(self, slot: int) -> int:
        """Return the number of tokens that the slot holds."""
        return int(self._lengths[self._row_of[slot]])

    def _check_graph(self) -> None:
        known = {"input_ids", "attention_mask", "position_ids", *self._past}
        if set(self._inputs) - known or not known - {"position_ids"} <= set(self._inputs):
            odd = sorted(set(self._inputs) ^ known - {"position_ids"})
            raise LoadFailed(f"this graph is no plain decoder: {', '.join(odd[:4])}")
        kind = self._inputs[self._past[0]].type
        if kind not in _KV_TYPES:
            raise LoadFailed(f"keys and values of type {kind} are not supported")

    def _pack(self, slots: Sequence[int]) -> None:
        """Move the rows of ``slots`` to the front."""
        wanted = set(slots)
        holes = [row for row in range(len(slots)) if self._slot_at[row] not in wanted]
        outside = [self._row_of[slot] for slot in slots if self._row_of[slot] >= len(slots)]
        for hole, row in zip(holes, outside, strict=True):
            self._swap_rows(hole, row)

    def _swap_rows(self, hole: int, row: int) -> None:
        kept = int(self._lengths[hole])
        aside = [kv[hole, :, :kept].copy() for kv in self._kv]
        self._copy_row(row, hole, int(self._lengths[row]))
        for kv, saved in zip(self._kv, aside, strict=True):
            kv[row, :, :kept] = saved
        self._lengths[row] = kept
        first, second = self._slot_at[hole], self._slot_at[row]
        self._slot_at[hole], self._slot_at[row] = second, first
        self._row_of[first], self._row_of[second] = row, hole

    def _copy_row(self, source: int, target: int, length: int) -> None:
        for kv in self._kv:
            kv[target, :, :length] = kv[source, :, :length]
        self._lengths[target] = length

    def _bind_rows(self, binding: Any, row: int, count: int) -> None:
        for kv, past, present in zip(self._kv, self._past, self._present, strict=True):
            shape, start = (count, *kv.shape[1:]), kv.ctypes.data + row * kv.strides[0]
            binding.bind_input(past, "cpu", 0, kv.dtype.type, shape, start)
            binding.bind_output(present, "cpu", 0, kv.dtype.type, shape, start)

    def _run(self, binding: Any, lengths: NDArray[np.int64], new: int) -> None:
        """Run one step that appends ``new`` tokens to each row; ``lengths`` are those after it."""
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        _bind(binding, "attention_mask", mask)
        positions = None  # a name that keeps its memory until the run is over
        if "position_ids" in self._inputs:
            positions = lengths[:, None] + np.arange(-new, 0)
            _bind(binding, "position_ids", positions)
        self._session.run_with_iobinding(binding)


def _bind(binding: Any, name: str, array: NDArray[np.int64]) -> None:
    """Bind an input to the memory of ``array``, which must outlive the run."""
    binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)


def _bind_logits(binding: Any, logits: Logits) -> None:
    binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)


def _read_config(folder: Path) -> tuple[dict[str, Any], int]:
    try:
        model = json.loads((folder / "genai_config.json").read_bytes())["model"]
        return model["decoder"], int(model["context_length"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadFailed(f"genai_config.json cannot be read: {error!r}") from error


def _open_session(graph: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; its warnings speak of optimisations, to its own developers
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise LoadFailed(f"onnxruntime cannot load {graph.name}: {error}") from error


def _names(section: dict[str, str], prefix: str, layer: int) -> tuple[str, str]:
    return section[f"{prefix}_key_names"] % layer, section[f"{prefix}_value_names"] % layer
