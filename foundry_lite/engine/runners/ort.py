"""Runner on plain onnxruntime, for graphs of the model builder with ``GroupQueryAttention``.

Such a graph takes the keys and values of all rows as one array per layer, ``(rows, kv_heads, capacity, head_size)``,
and reads each row's length out of the attention mask. Past and present are bound to the same memory, so keys are
appended in place; a batch is neighbouring rows of the array, of any lengths; one row is prefilled through a pointer to
its first byte. Slots are names, and `_pack` moves rows so that those to decode together are neighbours.

Two optional things of the folder are used when they are there: ``prefill.onnx``, a companion graph over the same keys
and values that is faster for many tokens, and inputs with defaults: ``lora.*`` (adapters) and ``logits_from``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from foundry_lite.engine.runners import adapter_file
from foundry_lite.engine.runners.base import Logits
from foundry_lite.engine.runners.kv_cache import KvCache
from foundry_lite.errors import LoadFailed

COMPANION = "prefill.onnx"
WINDOW, WINDOW_LOGITS = "logits_from", "window_logits"  # with -k for the first, the second has the last k positions

_KV_TYPES: dict[str, type[Any]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}
SPARE_ROWS = 3  # a batch may be filled up beyond the last slot: see `Runner.row_counts`
_SMALLEST = Path(__file__).parent / "probe" / "model.onnx"  # what providers are tried with
_BINDINGS = 256  # kept at most: with adapters, any rows may come with any of them
_Adapter = dict[str, NDArray[np.float32]]  # by the name of the graph's input


class OrtRunner:
    """Runner of one model folder in an `onnxruntime.InferenceSession` on the CPU.

    Raises `LoadFailed` when the folder's graph is not one that this runner can drive.
    """

    can_copy = can_rewind = can_extend = True

    def __init__(self, folder: Path, *, threads: int, slots: int, context_length: int) -> None:
        decoder, own_context = _read_config(folder)
        layers = int(decoder["num_hidden_layers"])
        past = [name for i in range(layers) for name in _names(decoder["inputs"], "past", i)]
        present = [name for i in range(layers) for name in _names(decoder["outputs"], "present", i)]
        self._graph = _Graph(folder / decoder["filename"], threads, past, present)
        self.uses_companion = (folder / COMPANION).is_file()
        self._prompts = _Graph(folder / COMPANION, threads, past, present) if self.uses_companion else self._graph
        self.slots = slots
        self.context_length = min(context_length, own_context)
        self.vocabulary = self._graph.vocabulary
        self.can_verify = WINDOW in self._graph.optional or not self._graph.is_pruned
        rows = slots + SPARE_ROWS
        self._kv = KvCache(
            len(past),
            rows=rows,
            heads=int(decoder["num_key_value_heads"]),
            context_length=self.context_length,
            head_size=int(decoder["head_size"]),
            kind=self._graph.kv_kind,
        )
        self.kv_bytes_per_token = self._kv.bytes_per_token
        self.kv_granule = self._kv.granule
        self.row_counts: Sequence[int] = range(1, slots + 1)
        self._row_of = list(range(rows))
        self._slot_at = list(range(rows))
        self._adapters: dict[str, _Adapter] = {}
        self._adapter_of: dict[int, str] = {}  # by slot; a slot that is not here uses the base
        self._ids = np.zeros((rows, 1), np.int64)
        self._logits = np.zeros((rows, 1, self.vocabulary), np.float32)
        self._bindings: dict[tuple[int, int, str | None], Any] = {}  # all that stays where it is from step to step

    def prefill(self, slot: int, tokens: Sequence[int]) -> Logits:
        """Append ``tokens``; see `Runner.prefill`."""
        adapter = self._adapter(slot) or {}
        fits = self.uses_companion and adapter.keys() <= self._prompts.optional.keys()
        graph = self._prompts if fits else self._graph
        logits = np.empty((1, 1 if graph.is_pruned else len(tokens), self.vocabulary), np.float32)
        self._append(graph, slot, tokens, logits)
        last: Logits = logits[0, -1]
        return last

    def drop_companion(self) -> None:
        """Compute prompts by the graph that decodes; see `Runner.drop_companion`."""
        self.uses_companion, self._prompts = False, self._graph

    def verify(self, slot: int, tokens: Sequence[int]) -> Logits:
        """Append ``tokens``; return the logits after each of them; see `Runner.verify`."""
        logits = np.empty((1, len(tokens), self.vocabulary), np.float32)
        self._append(self._graph, slot, tokens, logits, is_window=WINDOW in self._graph.optional)
        every: Logits = logits[0]
        return every

    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> Logits:
        """Append one token to each slot; see `Runner.decode`."""
        given = dict(zip(slots, tokens, strict=True))
        start = 0
        for adapter, group in self._groups(slots):
            self._pack(group, start)
            end = start + len(group)
            self._ids[start:end, 0] = [given[slot] for slot in self._slot_at[start:end]]
            self._decode_rows(start, end, adapter)
            start = end
        rows = [self._row_of[slot] for slot in slots]
        logits: Logits = self._logits[: len(rows), 0]
        return logits if rows == list(range(len(rows))) else self._logits[rows, 0]

    def keep(self, slot: int, length: int) -> None:
        """Forget what lies beyond ``length`` tokens; see `Runner.keep`."""
        self._kv.keep(self._row_of[slot], length)

    def copy(self, source: int, target: int, length: int) -> None:
        """Make ``target`` hold the first ``length`` tokens of ``source``."""
        self._kv.copy(self._row_of[source], self._row_of[target], length)
        self.adapt(target, self._adapter_of.get(source))

    def adapt(self, slot: int, adapter: str | None) -> None:
        """Compute what follows in ``slot`` with an adapter."""
        if adapter is None:
            self._adapter_of.pop(slot, None)
        else:
            self._adapter_of[slot] = adapter

    def load_adapter(self, name: str, path: Path) -> None:
        """Load a LoRA adapter; see `Runner.load_adapter`."""
        arrays = adapter_file.read(path)
        adapter_file.check(path.name, arrays, self._graph.optional)
        self.unload_adapter(name)  # the bindings of another one of this name hold its memory
        self._adapters[name] = arrays

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; no slot may use it."""
        self._adapters.pop(name, None)
        self._bindings = {key: one for key, one in self._bindings.items() if key[2] != name}

    def length(self, slot: int) -> int:
        """Return the number of tokens that the slot holds."""
        return int(self._kv.lengths[self._row_of[slot]])

    def _append(
        self, graph: _Graph, slot: int, tokens: Sequence[int], logits: Logits, *, is_window: bool = False
    ) -> None:
        row = self._row_of[slot]
        binding = graph.bind_rows(self._kv, row, 1, self._adapter(slot))
        ids = np.asarray(tokens, np.int64)[None, :]
        _bind(binding, "input_ids", ids)
        window = np.array([-logits.shape[1]], np.int64)  # a name that keeps its memory until the run is over
        if is_window:
            _bind(binding, WINDOW, window)
        _bind_logits(binding, logits, WINDOW_LOGITS if is_window else "logits")
        self._kv.lengths[row] += len(tokens)
        graph.run(binding, self._kv.lengths[row : row + 1], len(tokens))
        self._kv.touch(row, 1)

    def _adapter(self, slot: int) -> _Adapter | None:
        name = self._adapter_of.get(slot)
        return None if name is None else self._adapters[name]

    def _groups(self, slots: Sequence[int]) -> list[tuple[str | None, list[int]]]:
        """Return the slots by adapter; those of the base model come first."""
        if not self._adapter_of:
            return [(None, list(slots))]
        groups: dict[str, list[int]] = {}
        for slot in slots:
            groups.setdefault(self._adapter_of.get(slot, ""), []).append(slot)
        return [(name or None, groups[name]) for name in sorted(groups)]

    def _decode_rows(self, start: int, end: int, adapter: str | None) -> None:
        """Decode rows ``start`` to ``end``, as many a call as may be, with others' rows beside them where too few.

        A row that fills up a batch gets a key behind its end, which nothing reads.
        """
        first = start
        while first < end:
            wanted = min(end - first, self.row_counts[-1])
            high = first + next(count for count in self.row_counts if count >= wanted)
            last = min(high, end)
            self._kv.lengths[first:high] += 1
            self._step(first, high, adapter)
            self._kv.touch(first, high - first)
            self._kv.lengths[last:high] -= 1
            first = last

    def _step(self, low: int, high: int, adapter: str | None) -> None:
        key = (low, high, adapter)
        binding = self._bindings.get(key)
        if binding is None:
            if len(self._bindings) >= _BINDINGS:
                self._bindings.clear()
            binding = self._graph.bind_rows(self._kv, low, high - low, self._adapters.get(adapter or ""))
            self._bindings[key] = binding
            _bind(binding, "input_ids", self._ids[low:high])
            _bind_logits(binding, self._logits[low:high])
        self._graph.run(binding, self._kv.lengths[low:high], 1)

    def _pack(self, slots: Sequence[int], start: int) -> None:
        """Move the rows of ``slots`` to ``start`` and those that follow it."""
        wanted, end = set(slots), start + len(slots)
        holes = [row for row in range(start, end) if self._slot_at[row] not in wanted]
        if not holes:
            return
        outside = [self._row_of[slot] for slot in slots if not start <= self._row_of[slot] < end]
        for hole, row in zip(holes, outside, strict=True):
            self._kv.swap(hole, row)
            first, second = self._slot_at[hole], self._slot_at[row]
            self._slot_at[hole], self._slot_at[row] = second, first
            self._row_of[first], self._row_of[second] = row, hole


class _Graph:
    """A graph in an `onnxruntime.InferenceSession`: its inputs, bindings of rows, and one run of it."""

    def __init__(self, path: Path, threads: int, past: list[str], present: list[str]) -> None:
        self._session = open_session(path, threads)
        self._past, self._present = past, present
        inputs = {one.name: one for one in self._session.get_inputs()}
        self.optional: dict[str, list[int | str]] = {
            one.name: one.shape for one in self._session.get_overridable_initializers()
        }
        _check_inputs(set(inputs), past)
        self._has_positions = "position_ids" in inputs
        kind = inputs[past[0]].type
        if kind not in _KV_TYPES:
            raise LoadFailed(f"keys and values of type {kind} are not supported")
        self.kv_kind = _KV_TYPES[kind]
        logits = next(one for one in self._session.get_outputs() if one.name == "logits")
        self.vocabulary = int(logits.shape[-1])
        self.is_pruned = logits.shape[1] == 1  # the head is computed for the last position only

    def bind_rows(self, kv: KvCache, row: int, count: int, adapter: _Adapter | None) -> Any:
        """Return a binding of the keys and values of some rows, and of an adapter."""
        binding = self._session.io_binding()
        for array, past, present in zip(kv.arrays, self._past, self._present, strict=True):
            shape, start = (count, *array.shape[1:]), array.ctypes.data + row * array.strides[0]
            binding.bind_input(past, "cpu", 0, array.dtype.type, shape, start)
            binding.bind_output(present, "cpu", 0, array.dtype.type, shape, start)
        for name, array in (adapter or {}).items():
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return binding

    def run(self, binding: Any, lengths: NDArray[np.int64], new: int) -> None:
        """Run one step that appends ``new`` tokens to each row; ``lengths`` are those after it."""
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        _bind(binding, "attention_mask", mask)
        positions = None  # a name that keeps its memory until the run is over
        if self._has_positions:
            positions = lengths[:, None] + np.arange(-new, 0)
            _bind(binding, "position_ids", positions)
        self._session.run_with_iobinding(binding)


def _check_inputs(inputs: set[str], past: list[str]) -> None:
    needed = {"input_ids", "attention_mask", *past}
    odd = sorted((inputs ^ needed) - {"position_ids"})
    if odd:
        raise LoadFailed(f"this graph is no plain decoder: {', '.join(odd[:4])}")


def _bind(binding: Any, name: str, array: NDArray[np.int64]) -> None:
    """Bind an input to the memory of ``array``, which must outlive the run."""
    binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)


def _bind_logits(binding: Any, logits: Logits, name: str = "logits") -> None:
    binding.bind_output(name, "cpu", 0, np.float32, logits.shape, logits.ctypes.data)


def _read_config(folder: Path) -> tuple[dict[str, Any], int]:
    try:
        model = json.loads((folder / "genai_config.json").read_bytes())["model"]
        return model["decoder"], int(model["context_length"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadFailed(f"genai_config.json cannot be read: {error!r}") from error


def start_runtime(threads: int) -> None:
    """Load the smallest of graphs and forget it: what the library then keeps is its own memory, and no model's."""
    open_session(_SMALLEST, threads)


def open_session(graph: Path, threads: int) -> ort.InferenceSession:
    """Load a graph on the CPU. Raises `LoadFailed`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; its warnings are on optimisations, for its own developers
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise LoadFailed(f"onnxruntime cannot load {graph.name}: {error}") from error


def _names(section: dict[str, str], prefix: str, layer: int) -> tuple[str, str]:
    return section[f"{prefix}_key_names"] % layer, section[f"{prefix}_value_names"] % layer
