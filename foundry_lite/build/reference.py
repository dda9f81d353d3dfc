"""What the source itself says: run by `quality` as a subprocess, the only place of ours that imports torch.

    python -m foundry_lite.build.reference MODEL_FOLDER SAMPLE.json OUT.json

``SAMPLE.json`` is a list of texts. ``OUT.json`` gets the token ids of each and, for each position, the token that the
source in float32 finds most likely to come next.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Compute the reference."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, sample, out = (Path(argument) for argument in sys.argv[1:4])
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, local_files_only=True
    ).eval()
    answers = []
    for text in json.loads(sample.read_text(encoding="utf-8")):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            best = model(torch.tensor([tokens])).logits[0].argmax(-1).tolist()
        answers.append({"tokens": tokens, "best": best})
    out.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
