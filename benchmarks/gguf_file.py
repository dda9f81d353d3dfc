"""Write a Hugging Face folder of the Qwen2 or Llama family as one GGUF file, for llama.cpp.

    python benchmarks/gguf_file.py FOLDER FILE.gguf [--type Q4_0]

Run it with a Python that has ``gguf`` (the ``bench`` extra). It does what llama.cpp's own converter and
``llama-quantize --pure`` do for these two families: matrices in ``--type``, norms and biases in float32, a tied
embedding stored once. It is no general converter.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

_OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def main() -> None:
    """Write one file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--type", default="Q4_0", choices=("Q4_0", "Q8_0", "F16"))
    arguments = parser.parse_args()
    config = json.loads((arguments.folder / "config.json").read_bytes())
    writer = gguf.GGUFWriter(str(arguments.file), config["model_type"])
    _write_shape(writer, config)
    _write_tokenizer(writer, arguments.folder, config)
    kind = gguf.GGMLQuantizationType[arguments.type]
    for name, values in _tensors(arguments.folder, config):
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{arguments.file}: {arguments.type}, {arguments.file.stat().st_size / 1e6:.0f} MB")


def _write_shape(writer: Any, config: dict[str, Any]) -> None:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    rope = config.get("rope_parameters") or config
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])


def _write_tokenizer(writer: Any, folder: Path, config: dict[str, Any]) -> None:
    content = json.loads((folder / "tokenizer.json").read_bytes())
    model, added = content["model"], {one["id"]: one["content"] for one in content["added_tokens"]}
    texts = {number: text for text, number in model["vocab"].items()} | added
    numbers = range(config["vocab_size"])
    kinds = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([texts.get(number, f"<unused{number}>") for number in numbers])
    writer.add_token_types([kinds.CONTROL if number in added else kinds.NORMAL for number in numbers])
    writer.add_token_merges([" ".join(one) if isinstance(one, list) else one for one in model["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    if (folder / "chat_template.jinja").is_file():
        writer.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf-8"))


def _tensors(folder: Path, config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield llama.cpp's name and float32 values, one tensor in memory at a time."""
    for path in sorted(folder.glob("*.safetensors")):
        content = np.memmap(path, np.uint8, "r")
        start = 8 + int.from_bytes(content[:8].tobytes(), "little")
        header = json.loads(content[8:start].tobytes())
        for name in sorted(header.keys() - {"__metadata__"}):
            first, end = (start + offset for offset in header[name]["data_offsets"])
            values = _to_float32(content[first:end], header[name]["dtype"]).reshape(header[name]["shape"])
            yield _rename(name), np.ascontiguousarray(_rearrange(name, values, config))


def _to_float32(raw: Any, kind: str) -> Any:
    if kind == "BF16":  # the upper half of a float32
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return raw.view({"F16": np.float16, "F32": np.float32}[kind]).astype(np.float32)


def _rename(name: str) -> str:
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    _model, _layers, number, *middle, kind = name.split(".")
    return f"blk.{number}.{_LAYER['.'.join(middle)]}.{kind}"


def _rearrange(name: str, values: Any, config: dict[str, Any]) -> Any:
    """Llama's rotary pairs are neighbours in llama.cpp and halves in transformers; Qwen2 keeps its order."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    part = next((one for one in heads if one in name), None)
    if config["model_type"] != "llama" or part is None:
        return values
    shape = (heads[part], 2, values.shape[0] // heads[part] // 2, *values.shape[1:])
    return values.reshape(shape).swapaxes(1, 2).reshape(values.shape)


if __name__ == "__main__":
    main()
