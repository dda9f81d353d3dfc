"""An adapter merged into its base, one tensor at a time, by numpy: no torch, and no copy of the model in memory.

    python -m foundry_lite.conversion.checkpoint.merge_lora JOB.json

What changes is computed and stored in float32, also when the base has 16 bit: rounded back, the merged model would be
off by more than the adapter's own precision, and the float32 export gains nothing from it. The rest keeps its bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from foundry_lite.conversion.checkpoint.merge_plan import HEAD, Change, Plan
from foundry_lite.conversion.formats import safetensors
from foundry_lite.conversion.formats.hf_config import read_config
from foundry_lite.conversion.formats.safetensors import Tensor, read_rows, spans
from foundry_lite.conversion.jobs.step_context import StepContext, link_or_copy
from foundry_lite.conversion.sources.chat_templates import read_templates, write_templates
from foundry_lite.conversion.sources.peft_adapter import TOKENIZER_FILES, Weights, own_texts, read_plan, shards_of
from foundry_lite.conversion.sources.source_model import SourceModel
from foundry_lite.conversion.sources.weight_checks import INDEX, SINGLE

Matrix = NDArray[np.float32]


_WRITTEN = (".safetensors", ".jinja")  # not taken over as they are


class Job(Struct, frozen=True):
    """Merge of a LoRA adapter into its base; all fields are paths. ``target`` is an existing, empty folder."""

    adapter: str
    base: str
    shards: tuple[str, ...]
    target: str


async def prepare(found: SourceModel, target: Path, step: StepContext) -> None:
    """Write the merged model of an adapter into ``target``, which exists and is empty. Raises `BuildFailed`."""
    base = found.base
    if base is None:
        raise ValueError("an adapter without its base")
    texts = {path.name: path for path in base.files if path.suffix not in _WRITTEN and path.name != "config.json"}
    own = {path.name: path for path in own_texts(found.folder) if path.suffix not in _WRITTEN}
    if "tokenizer.json" in own:
        texts = {name: path for name, path in texts.items() if name not in TOKENIZER_FILES}
    for name, path in (texts | own).items():
        link_or_copy(path.resolve(), target / name)
    write_templates(target, read_templates(found.folder) or read_templates(base.folder))
    job = Job(str(found.folder), str(base.folder), tuple(map(str, shards_of(base))), str(target))
    path = step.scratch / "merge.json"
    path.write_bytes(msgspec.json.encode(job))
    await step.run("foundry_lite.conversion.checkpoint.merge_lora", path)


def main() -> None:
    """Merge one adapter."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    merge(Path(job.adapter), Path(job.base), tuple(map(Path, job.shards)), Path(job.target))


def merge(adapter: Path, base: Path, shards: Iterable[Path], target: Path) -> None:
    """Write the weights and the configuration of the merged model, with as many shards as the base has."""
    plan, weights = read_plan(adapter, base, shards)
    files: dict[Path, dict[str, Tensor]] = {}
    for name, (path, tensor) in weights.base.items():
        files.setdefault(path, {})[name] = tensor
    where: dict[str, str] = {}
    for path, tensors in files.items():
        name = path.name if len(files) > 1 else SINGLE
        where |= dict.fromkeys(_write_shard(target / name, path, tensors, plan, weights), name)
    if len(files) > 1:
        _write_json(target / INDEX, {"metadata": {}, "weight_map": dict(sorted(where.items()))})
    _write_json(target / "config.json", _merged_config(read_config(base), plan))


def _write_shard(target: Path, path: Path, tensors: Mapping[str, Tensor], plan: Plan, weights: Weights) -> set[str]:
    """Write one shard; return the names in it. A head of its own goes where the embedding is."""
    changes = {name: change for name, change in plan.changes.items() if name in tensors}
    if plan.unties and plan.changes[HEAD].source in tensors:
        changes[HEAD] = plan.changes[HEAD]
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {
        name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()
    }
    data: dict[str, Iterable[NDArray[Any]]] = {
        name: safetensors.read_raw(path, tensor) for name, tensor in tensors.items()
    }
    for name, change in changes.items():
        kinds[name] = ("F32", change.shape)
        data[name] = _changed(change, weights)
    safetensors.write(target, kinds, data)
    return set(kinds)


def _changed(change: Change, weights: Weights) -> Iterator[Matrix]:
    """Compute a tensor, in pieces of rows."""
    path, tensor = (weights.path, weights.adapter[change.whole]) if change.whole else weights.base[change.source]
    moved = _Moved(change, weights)
    columns = moved.column_scales(path, tensor) if change.magnitude and change.by_columns else None
    for first, last in spans(tensor):
        rows = moved.rows(path, tensor, first, last)
        if columns is not None:
            rows *= columns
        elif change.magnitude:
            rows *= (moved.magnitude[first:last] / np.linalg.norm(rows, axis=1))[:, None]
        yield rows


class _Moved:
    """A tensor with what is added to it; the small arrays of the adapter are held."""

    def __init__(self, change: Change, weights: Weights) -> None:
        self._change = change
        self._weights = weights
        self._left, self._right = self._factors()
        self._added = self._array(change.added)
        self.magnitude = self._array(change.magnitude)
        self._trained = self._array(change.rows)

    def rows(self, path: Path, tensor: Tensor, first: int, last: int) -> Matrix:
        """Return the rows ``first <= i < last``: trained ones put in, the product of the factors added, or the bias."""
        rows = read_rows(path, self._change.source, tensor, first, last)
        for number, index in enumerate(self._change.indices):
            if first <= index < last:
                rows[index - first] = self._trained[number]
        if self._left.size:
            rows += self._left[first:last] @ self._right
        if self._added.size:
            rows += self._added[first:last] * np.float32(self._change.scale)
        return rows

    def column_scales(self, path: Path, tensor: Tensor) -> Matrix:
        """Return the factor of each column that brings it to its magnitude. Reads the whole tensor."""
        squares = np.zeros(tensor.shape[1])
        for first, last in spans(tensor):
            squares += np.square(self.rows(path, tensor, first, last), dtype=np.float64).sum(0)
        scales: Matrix = (self.magnitude / np.sqrt(squares)).astype(np.float32)
        return scales

    def _factors(self) -> tuple[Matrix, Matrix]:
        """Return ``left (rows, rank)`` and ``right (rank, columns)`` in the order in which the tensor is stored."""
        up, down = self._array(self._change.up), self._array(self._change.down)
        scale = np.float32(self._change.scale)
        return (down.T * scale, up.T) if self._change.by_columns else (up * scale, down)

    def _array(self, name: str) -> Matrix:
        if not name:
            return np.zeros((0, 0), np.float32)
        return read_rows(self._weights.path, name, self._weights.adapter[name])


def _merged_config(config: dict[str, Any], plan: Plan) -> dict[str, Any]:
    parts = [config, *(part for part in [config.get("text_config")] if isinstance(part, dict))]
    for part in parts:
        if plan.unties and "tie_word_embeddings" in part:
            part["tie_word_embeddings"] = False
        if "vocab_size" in part:
            part["vocab_size"] = plan.vocabulary
        for name in ("dtype", "torch_dtype"):
            if name in part:
                part[name] = "float32"  # else transformers rounds what was merged
    config["dtype"] = "float32"
    if plan.unties:
        config["tie_word_embeddings"] = False
    return config


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
