"""Hugging Face folders with random weights, written without torch: what the packed formats are made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats.safetensors import write
from tests.source_model import _tokenizer
from tests.tiny_model import END, EOS, TEMPLATE

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "dtype": "float32",
}


def write_float_model(folder: Path, *, query_bias: bool = False, head_norms: bool = False, **changes: Any) -> Path:
    """Write a folder with Llama's names; with biases of the projections it is Qwen2's, with norms Qwen3's."""
    folder.mkdir(parents=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    _write_json(folder / "tokenizer_config.json", {"bos_token": EOS, "eos_token": END, "pad_token": EOS,
                                                   "tokenizer_class": "PreTrainedTokenizerFast"})  # fmt: skip
    config = {**LLAMA, "vocab_size": tokenizer.get_vocab_size(), **changes}
    _write_json(folder / "config.json", config)
    tensors = _tensors(config, query_bias=query_bias, head_norms=head_norms)
    layout = {name: ("F32", array.shape) for name, array in tensors.items()}
    write(folder / "model.safetensors", layout, {name: [array] for name, array in tensors.items()})
    return folder


def _tensors(config: dict[str, Any], *, query_bias: bool, head_norms: bool) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], config["hidden_size"])}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], config["hidden_size"])
    for layer in range(config["num_hidden_layers"]):
        for name, shape in _layer(config, query_bias=query_bias, head_norms=head_norms).items():
            shapes[f"model.layers.{layer}.{name}"] = shape
    shapes["model.norm.weight"] = (config["hidden_size"],)
    return {
        name: random.standard_normal(shape, np.float32) * np.float32(0.2) + np.float32("norm" in name)
        for name, shape in shapes.items()
    }


def _layer(config: dict[str, Any], *, query_bias: bool, head_norms: bool) -> dict[str, tuple[int, ...]]:
    hidden, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = size * config["num_attention_heads"], size * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {}
    for name, outputs in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        shapes[f"self_attn.{name}.weight"] = (outputs, hidden)
        if query_bias:
            shapes[f"self_attn.{name}.bias"] = (outputs,)
    shapes["self_attn.o_proj.weight"] = (hidden, queries)
    if head_norms:
        shapes |= {"self_attn.q_norm.weight": (size,), "self_attn.k_norm.weight": (size,)}
    shapes |= {"mlp.gate_proj.weight": (inner, hidden), "mlp.up_proj.weight": (inner, hidden)}
    shapes |= {"mlp.down_proj.weight": (hidden, inner), "input_layernorm.weight": (hidden,)}
    return {**shapes, "post_attention_layernorm.weight": (hidden,)}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
