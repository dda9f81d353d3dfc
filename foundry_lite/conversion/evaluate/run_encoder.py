"""A built encoder over texts, as it will be served: run by `encoder` as a subprocess.

    python -m foundry_lite.conversion.evaluate.run_encoder BUILT JOB.json OUT.npz

``JOB.json`` has ``texts`` (texts, or pairs of them). They go in batches, shorter ones filled up. ``OUT.npz`` is that of
`encoder_reference`, with vectors normalised where `encoder.json` sets ``normalise``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.encoder import Encoder, Pooling, read_encoder
from foundry_lite.engine.encoder.pooling import normalise, pool

_BATCH = 8  # texts of quite different lengths together: what padding does wrong would show

_Floats = NDArray[np.float32]


def main() -> None:
    """Run the texts."""
    built, job, out = (Path(argument) for argument in sys.argv[1:4])
    run(built, json.loads(job.read_text(encoding="utf-8"))["texts"], out)


def run(built: Path, texts: list[Any], out: Path) -> None:
    """Write a built encoder's vectors of texts, or its scores of pairs of them."""
    encoder = read_encoder(built)
    encoded = _encode(built, encoder, texts)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(built / "model.onnx"), options, providers=["CPUExecutionProvider"])
    results = [
        _run(session, encoder, encoded[start : start + _BATCH]) for start in range(0, len(encoded), _BATCH)
    ]  # fmt: skip
    arrays: dict[str, Any] = {f"ids_{number}": np.array(one.ids) for number, one in enumerate(encoded)}
    arrays |= {f"kinds_{number}": np.array(one.type_ids) for number, one in enumerate(encoded)}
    np.savez(out, results=np.concatenate(results), **arrays)


def _encode(built: Path, encoder: Encoder, texts: list[Any]) -> list[Encoding]:
    tokenizer = Tokenizer.from_file(str(built / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(encoder.max_length)
    given = [[part.lower() if encoder.lowercase else part for part in ([text] if isinstance(text, str) else text)]
             for text in texts]  # fmt: skip
    found: list[Encoding] = tokenizer.encode_batch([tuple(one) if len(one) > 1 else one[0] for one in given])
    return found


def _run(session: Any, encoder: Encoder, batch: list[Encoding]) -> _Floats:
    length = max(len(one.ids) for one in batch)
    feed = {
        "input_ids": _fill([one.ids for one in batch], length, encoder.pad_id),
        "attention_mask": _fill([one.attention_mask for one in batch], length, 0),
        "token_type_ids": _fill([one.type_ids for one in batch], length, 0),
    }
    feed["position_ids"] = np.tile(np.arange(length), (len(batch), 1))
    (out,) = session.run([encoder.output], {name: feed[name] for name in encoder.inputs})
    if encoder.task is Task.RERANK:
        return np.asarray(out, np.float32)
    vectors = pool(out, feed["attention_mask"], encoder.pooling or Pooling.MEAN)
    return normalise(vectors) if encoder.normalise else vectors


def _fill(rows: list[list[int]], length: int, value: int) -> NDArray[np.int64]:
    return np.array([row + [value] * (length - len(row)) for row in rows], np.int64)


if __name__ == "__main__":
    main()
