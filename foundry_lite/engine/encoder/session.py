"""Encoder session: batches of token ids in, vectors or scores out. Conversion checks variants with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.encoder import Encoder, Pooling
from foundry_lite.engine.encoder.batching import Ids, Row
from foundry_lite.engine.encoder.pooling import Floats, normalise, pool, score
from foundry_lite.engine.runners.ort import open_session
from foundry_lite.errors import LoadFailed

_KNOWN = frozenset(("input_ids", "attention_mask", "token_type_ids", "position_ids"))


class EncoderSession:
    """An encoder in an `onnxruntime.InferenceSession` on the CPU. Raises `LoadFailed` when it cannot be driven."""

    def __init__(self, folder: Path, encoder: Encoder, threads: int) -> None:
        self._encoder = encoder
        self._session = open_session(folder / "model.onnx", threads)
        names = {one.name for one in self._session.get_inputs()}
        if odd := sorted((names ^ set(encoder.inputs)) | (names - _KNOWN)):
            raise LoadFailed(f"the encoder's inputs are not those of encoder.json: {', '.join(odd[:4])}")
        if encoder.output not in {one.name for one in self._session.get_outputs()}:
            raise LoadFailed(f"the encoder has no output {encoder.output!r}")

    def run(self, batch: Sequence[Row]) -> Floats:
        """Encode texts together; return ``(texts, dimensions)``, of a reranker the scores ``(pairs, 1)``."""
        found = self.measure(batch)
        return score(found, self._encoder.activation) if self._encoder.task is Task.RERANK else found

    def measure(self, batch: Sequence[Row]) -> Floats:
        """Return what `run` does, of a reranker its logits: what quality is measured on."""
        encoder, longest = self._encoder, max(len(row.ids) for row in batch)
        lengths = np.array([len(row.ids) for row in batch])
        mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
        feed = {
            "input_ids": _fill([row.ids for row in batch], longest, encoder.pad_id),
            "attention_mask": mask,
            "token_type_ids": _fill([row.kinds for row in batch], longest, 0),
            "position_ids": np.tile(np.arange(longest), (len(batch), 1)),
        }
        (out,) = self._session.run([encoder.output], {name: feed[name] for name in encoder.inputs})
        if encoder.task is Task.RERANK:
            return np.asarray(out, np.float32)
        vectors = np.asarray(pool(out, mask, encoder.pooling or Pooling.MEAN), np.float32)
        return normalise(vectors) if encoder.normalise else vectors


def _fill(rows: Sequence[Ids], length: int, value: int) -> Ids:
    filled = np.full((len(rows), length), value, np.int64)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = row
    return filled
