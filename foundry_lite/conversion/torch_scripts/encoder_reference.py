"""Reference of an encoder, computed by transformers in float32: run by `encoder` as a subprocess.

    python -m foundry_lite.conversion.torch_scripts.encoder_reference PREPARED JOB.json OUT.npz

``JOB.json`` has ``texts`` (texts, or pairs of them), ``task``, ``max_length``, ``lowercase``, and ``pooling`` where the
task is ``embed``. Each text goes alone, so there is no padding. ``OUT.npz`` gets ``results (texts, dimensions)`` (of a
reranker its logits, one column) and ``ids_i``, the tokens of text *i*.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from foundry_lite.conversion.torch_scripts.export_encoder import load


def main() -> None:
    """Record the reference."""
    prepared, job, out = (Path(argument) for argument in sys.argv[1:4])
    record(prepared, json.loads(job.read_text(encoding="utf-8")), out)


def record(prepared: Path, job: dict[str, Any], out: Path) -> None:
    """Write the source's vectors or logits of a job's texts."""
    import torch
    from transformers import AutoTokenizer

    is_ranking = job["task"] == "rerank"
    tokenizer = AutoTokenizer.from_pretrained(prepared, local_files_only=True, trust_remote_code=False)
    model = load(prepared, "text-classification" if is_ranking else "feature-extraction")
    arrays: dict[str, Any] = {}
    results = []
    for number, text in enumerate(job["texts"]):
        given = [one.lower() if job["lowercase"] else one for one in (text if is_ranking else [text])]
        encoded = tokenizer(*given, truncation=True, max_length=job["max_length"], return_tensors="pt")
        arrays[f"ids_{number}"] = encoded["input_ids"][0].numpy()
        with torch.inference_mode():
            said = model(**encoded)
        results.append((said.logits[0] if is_ranking else _pool(said.last_hidden_state[0], job["pooling"])).numpy())
    np.savez(out, results=np.stack(results), **arrays)


def _pool(hidden: Any, how: str) -> Any:
    """Make one vector of the hidden states ``(tokens, dimensions)`` of a text without padding."""
    if how == "mean":
        return hidden.mean(0)
    if how == "max":
        return hidden.max(0).values
    return hidden[0] if how == "cls" else hidden[-1]


if __name__ == "__main__":
    main()
