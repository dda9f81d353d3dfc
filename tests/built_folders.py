"""Tiny folders of the real builder, one for each kind of graph, all from one subprocess: importing torch takes longest.

``python -m tests.built_folders OUT`` writes ``OUT/<name>``, its source ``OUT/<name>-source``, and what transformers
computes for the source: the logits ``(tokens, vocabulary)`` of `TOKENS`, in ``OUT/<name>.npy``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import source_model
from tests.support import ROOT, environment

WINDOW = 64
TOKENS: list[int] = np.random.default_rng(0).integers(3, 400, 200).tolist()
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("Llama", {}),
    "concatenating": ("Llama", {}),  # MultiHeadAttention: present is past and one more, in new memory
    "hybrid": ("Lfm2", {"layer_types": ["conv", "full_attention"]}),  # a state with no way back
    "windowed": ("Gemma2", {"sliding_window": WINDOW, "head_dim": 16, "query_pre_attn_scalar": 16}),
}


def build(folder: Path) -> Path:
    """Write all folders."""
    command = [sys.executable, "-m", "tests.built_folders", str(folder)]
    result = subprocess.run(
        command, cwd=ROOT, env=environment(folder, HF_HUB_OFFLINE="1"), capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stderr
    return folder


def _main(out: Path) -> None:
    from onnxruntime_genai.models import builder

    for name, (family, changes) in _FAMILIES.items():
        arguments = (str(out / f"{name}-source"), str(out / name), "fp32", "cpu", str(out / "cache"))
        source_model.write(Path(arguments[0]), family, **changes)
        options = builder.parse_extra_options(None, *arguments, ["prune_lm_head=true"])
        with _no_grouped_attention(builder.LlamaModel) if name == "concatenating" else nullcontext():
            builder.create_model(None, *arguments, **options)
        np.save(out / f"{name}.npy", _reference(Path(arguments[0])))


def _reference(source: Path) -> NDArray[np.float32]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor([TOKENS])).logits[0].numpy()
    return logits


@contextmanager
def _no_grouped_attention(model: type) -> Iterator[None]:
    """Let the builder believe that the provider has ``MultiHeadAttention`` only."""
    base: Any = next(one for one in model.__mro__ if one.__name__ == "Model")
    usual = base.is_gqa_supported, base.is_packed_attn_supported
    base.is_gqa_supported = base.is_packed_attn_supported = lambda self: False
    yield
    base.is_gqa_supported, base.is_packed_attn_supported = usual


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
