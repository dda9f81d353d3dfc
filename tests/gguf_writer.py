"""GGUF files written by llama.cpp's own package from a float folder: what its converter would make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats.safetensors import read_arrays

_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMAL, CONTROL = 1, 3


def write_gguf(source: Path, target: Path, kind: str = "F32", **changes: Any) -> Path:
    """Write the folder ``source`` as one file whose matrices are of ggml's type ``kind``.

    ``changes`` are key-value pairs that replace or add to those that the converter writes; ``None`` leaves one out.
    """
    import gguf

    config = json.loads((source / "config.json").read_bytes())
    family = config["model_type"]
    writer = gguf.GGUFWriter(target, family)
    for key, value in {**_pairs(source, config), **changes}.items():
        _add(writer, key, value)
    quantized = gguf.GGMLQuantizationType[kind]
    for name, array in read_arrays(source / "model.safetensors").items():
        if family in ("llama", "granite"):
            array = _as_pairs(name, array, config)
        if array.ndim == 1:
            writer.add_tensor(_name(name), np.ascontiguousarray(array))
        else:
            packed = gguf.quants.quantize(array, quantized)
            writer.add_tensor(_name(name), packed, raw_dtype=quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _pairs(source: Path, config: dict[str, Any]) -> dict[str, Any]:
    family = config["model_type"]
    tokenizer = json.loads((source / "tokenizer.json").read_bytes())
    special = {one["id"] for one in tokenizer["added_tokens"]}
    vocabulary = {**tokenizer["model"]["vocab"], **{one["content"]: one["id"] for one in tokenizer["added_tokens"]}}
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    own = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": config["rope_parameters"]["rope_theta"],
        "rope.dimension_count": config["head_dim"],
    }
    return {
        **{f"{family}.{key}": value for key, value in own.items()},
        "general.license": "apache-2.0",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL if i in special else NORMAL for i in range(len(tokens))],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in tokenizer["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": (source / "chat_template.jinja").read_text(),
    }


def _add(writer: Any, key: str, value: Any) -> None:
    match value:
        case None:
            return
        case str():
            writer.add_string(key, value)
        case float():
            writer.add_float32(key, value)
        case int():
            writer.add_uint32(key, value)
        case _:
            writer.add_array(key, value)


def _name(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{suffix}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{_PARTS[part]}.{suffix}"


def _as_pairs(name: str, array: NDArray[np.float32], config: dict[str, Any]) -> NDArray[np.float32]:
    """Put the rows of queries and keys where llama.cpp wants them, as its converter does."""
    key = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    if key is None:
        return array
    halves = array.reshape(config[key], 2, len(array) // config[key] // 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)
