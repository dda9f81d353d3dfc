"""What the source itself says: run by `quality` as a subprocess, the only place of ours that imports torch.

    python -m foundry_lite.build.tools.reference MODEL_FOLDER SAMPLE.json OUT.npz

``SAMPLE.json`` has ``texts`` and ``longest``. ``OUT.npz`` gets for text *i* ``tokens_i``, all its token ids, and for
each of its first ``longest`` positions ``ids_i (positions, 64)``, the tokens that the source in float32 finds most
likely to come next, the best first, and ``logprobs_i``, their natural logarithms.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

_KEPT = 64  # of a vocabulary; `quality` takes what is left of the mass as one more token


def main() -> None:
    """Compute the reference."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, sample, out = (Path(argument) for argument in sys.argv[1:4])
    order = json.loads(sample.read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, local_files_only=True
    ).eval()
    arrays: dict[str, Any] = {}
    for number, text in enumerate(order["texts"]):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logprobs = model(torch.tensor([tokens[: order["longest"]]])).logits[0].log_softmax(-1)
            best = logprobs.topk(min(_KEPT, logprobs.shape[-1]))
        arrays[f"tokens_{number}"] = np.array(tokens)
        arrays[f"ids_{number}"] = best.indices.numpy()
        arrays[f"logprobs_{number}"] = best.values.numpy()
    np.savez(out, **arrays)


if __name__ == "__main__":
    main()
