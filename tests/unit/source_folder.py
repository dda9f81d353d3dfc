"""The smallest folders that are accepted: a decoder with Llama's names, and an adapter over it, by numpy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats import safetensors
from tests.tiny_model import TEMPLATE

Arrays = dict[str, NDArray[np.float32]]

HIDDEN, KEYS, INNER, VOCABULARY, LAYERS = 32, 16, 12, 20, 2
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
PARAMETERS = (2 * VOCABULARY + 1) * HIDDEN + LAYERS * HIDDEN * (2 * HIDDEN + 2 * KEYS + 3 * INNER + 2)
TOKENIZER: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {f"t{number}": number for number in range(18)}, "merges": []},
    "added_tokens": [{"id": 18, "content": "<s>"}],
}


def write(folder: Path, *, seed: int = 0, tied: bool = False, **changes: Any) -> Path:
    """Write a folder with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder, "config.json", {**CONFIG, "tie_word_embeddings": tied, **changes})
    write_json(folder, "tokenizer.json", TOKENIZER)
    write_json(folder, "tokenizer_config.json", {"chat_template": TEMPLATE, "eos_token": "<s>"})
    found = arrays(seed)
    if tied:
        del found["lm_head.weight"]
    write_arrays(folder / "model.safetensors", found)
    return folder


def arrays(seed: int = 0) -> Arrays:
    """Return random weights by name."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }
    for layer in range(LAYERS):
        own = {
            "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (KEYS, HIDDEN),
            "self_attn.v_proj": (KEYS, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN),
            "mlp.down_proj": (HIDDEN, INNER), "input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,),
        }  # fmt: skip
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in own.items()}
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def write_arrays(path: Path, found: Mapping[str, NDArray[Any]]) -> None:
    """Write a safetensors file of float32."""
    safetensors.write(
        path, {name: ("F32", one.shape) for name, one in found.items()}, {n: [a] for n, a in found.items()}
    )


def change_weights(folder: Path, **changes: NDArray[np.float32] | None) -> None:
    """Put other arrays in place of the weights whose names end so, a dot written ``__``; ``None`` removes one."""
    found = safetensors.read_arrays(folder / "model.safetensors")
    for end, array in changes.items():
        name = next(name for name in found if name.endswith(end.replace("__", ".")))
        if array is None:
            del found[name]
        else:
            found[name] = array
    write_arrays(folder / "model.safetensors", found)


def write_json(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def change_config(folder: Path, **changes: Any) -> None:
    """Change fields of config.json; ``...`` removes one."""
    config = json.loads((folder / "config.json").read_text()) | changes
    write_json(folder, "config.json", {name: value for name, value in config.items() if value is not ...})


def write_adapter(folder: Path, base: Path | str, found: Arrays | None = None, **config: Any) -> Path:
    """Write an adapter; by default LoRA of rank 2 over the queries of both layers."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(base)}
    write_json(folder, "adapter_config.json", {**fields, **config})
    write_arrays(folder / "adapter_model.safetensors", lora() if found is None else found)
    return folder


def lora(module: str = "self_attn.q_proj", *, inputs: int = HIDDEN, outputs: int = HIDDEN, rank: int = 2) -> Arrays:
    """Return the matrices of one module in both layers."""
    random = np.random.default_rng(1)
    found = {}
    for layer in range(LAYERS):
        name = f"base_model.model.model.layers.{layer}.{module}"
        found[f"{name}.lora_A.weight"] = random.standard_normal((rank, inputs), np.float32)
        found[f"{name}.lora_B.weight"] = random.standard_normal((outputs, rank), np.float32)
    return found
