"""Weights compared with the configuration: what transformers would replace by random numbers is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundry_lite.build.safetensors import Tensor, is_finite, read_header
from foundry_lite.build.sources.files import check_file, exists, read_json
from foundry_lite.build.sources.model_config import Shape
from foundry_lite.errors import DamagedWeights, NotAModel, PickledWeights, UnsupportedArchitecture

Shapes = Mapping[str, tuple[int, ...]]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Families with Llama's names, whose layers are all alike: of these every size is known beforehand.
_LLAMA_LIKE = {
    "GraniteForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
}  # fmt: skip
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_LAYER = re.compile(r"(?:^|(?:model|transformer|language_model|gpt_neox)\.)(?:layers|h)\.(\d+)\.(.+)")
_WIDTHS = {"F32": 32, "F16": 16, "BF16": 16, "F64": 64}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_LARGEST_INDEX = 64 << 20  # bytes
_SAME = "Save the model again, configuration and weights together."


def find_weights(folder: Path) -> dict[Path, dict[str, Tensor]]:
    """Return the weight files of a folder with their tensors; every tensor that the index names is there.

    Raises `DamagedWeights`, `PickledWeights`, `UnsafeSource`, or `NotAModel` when there are none.
    """
    if exists(folder / INDEX):
        return _read_shards(folder)
    if exists(folder / SINGLE):
        return {folder / SINGLE: read_header(check_file(folder / SINGLE))}
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise PickledWeights(
            f"the weights are pickled ({', '.join(pickles[:3])}): reading them can run any code",
            hint="Save the model as safetensors: model.save_pretrained(folder, safe_serialization=True).",
        )
    raise NotAModel(f"{folder} has no model.safetensors", hint="Give a folder as save_pretrained() writes it.")


def shapes_of(weights: Mapping[Path, Mapping[str, Tensor]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors. Raises `DamagedWeights` when two files hold the same tensor."""
    found: dict[str, tuple[int, ...]] = {}
    for path, tensors in weights.items():
        for name, tensor in tensors.items():
            if name in found:
                raise DamagedWeights(f"{path.name} holds {name}, as another shard does", hint="Download them again.")
            found[name] = tensor.shape
    return found


def weight_bits(weights: Mapping[Path, Mapping[str, Tensor]]) -> int:
    """Return the width of most weights, in bits. Raises `UnsupportedArchitecture` for weights that are no floats."""
    sizes: dict[str, int] = {}
    for tensors in weights.values():
        for tensor in tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.end - tensor.start
    most = max(sizes, key=lambda dtype: sizes[dtype], default="F32")
    if most not in _WIDTHS:
        raise UnsupportedArchitecture(
            f"the weights are of type {most}", hint="Import the model in 16 or 32 bit; foundry-lite quantizes it."
        )
    return _WIDTHS[most]


def check_shapes(config: dict[str, Any], architecture: str, shape: Shape, tensors: Shapes) -> None:
    """Compare all weights with the configuration. Raises `DamagedWeights` naming the first that differs."""
    for name in tensors:
        if name.endswith(_EMBEDDINGS):
            _require(name, tensors[name], (shape.vocabulary, shape.hidden))
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, size in tensors.items():
        if match := _LAYER.match(name):
            layers.setdefault(int(match[1]), {})[match[2]] = size
    missing = [number for number in range(shape.layers) if number not in layers]
    if layers and missing:
        raise DamagedWeights(
            f"config.json says {shape.layers} layers; the weights of layer {missing[0]} are missing", hint=_SAME
        )
    if architecture in _LLAMA_LIKE:
        _check_layers(shape, layers)
        _check_head(config, shape, tensors)


def check_finite(weights: Mapping[Path, Mapping[str, Tensor]]) -> None:
    """Read every weight. Raises `DamagedWeights` naming the first tensor with a NaN or an infinity."""
    for path, tensors in weights.items():
        for name, tensor in sorted(tensors.items(), key=lambda one: one[1].start):
            if not is_finite(path, tensor):
                raise not_finite(path, name)


def not_finite(path: Path, name: str) -> DamagedWeights:
    """Return what is said of a tensor with a NaN or an infinity."""
    return DamagedWeights(
        f"{path.name}: {name} holds numbers that are not finite (NaN or infinity)",
        hint="The training diverged, or the weights were cast to float16 and overflowed: save an earlier checkpoint.",
    )


def _read_shards(folder: Path) -> dict[Path, dict[str, Tensor]]:
    mapping = read_json(folder / INDEX, _LARGEST_INDEX).get("weight_map")
    names = sorted({str(name) for name in mapping.values()}) if isinstance(mapping, dict) else []
    if not isinstance(mapping, dict) or not names or not all(_is_plain(name) for name in names):
        raise DamagedWeights(f"{INDEX} names no safetensors files of this folder", hint="Download it again.")
    missing = [name for name in names if not exists(folder / name)]
    if missing:
        raise DamagedWeights(f"{len(missing)} of {len(names)} shards are missing: {missing[0]}", hint="Download them.")
    shards = {folder / name: read_header(check_file(folder / name)) for name in names}
    for tensor, name in mapping.items():
        if tensor not in shards[folder / name]:
            raise DamagedWeights(
                f"{INDEX} says that {tensor[:80]} is in {name}, and it is not", hint="Download the files again."
            )
    return shards


def _is_plain(name: str) -> bool:
    return "/" not in name and "\\" not in name and name.endswith(".safetensors")


def _check_layers(shape: Shape, layers: dict[int, dict[str, tuple[int, ...]]]) -> None:
    if len(layers) != shape.layers:
        raise DamagedWeights(f"config.json says {shape.layers} layers, the weights are of {len(layers)}", hint=_SAME)
    sizes, first = _sizes(shape), layers[0].keys()
    for number, tensors in layers.items():
        if differing := sorted(tensors.keys() ^ first):
            lacking = number if differing[0] in first else 0
            raise DamagedWeights(f"layer {lacking} lacks {differing[0]}, which other layers have", hint=_SAME)
        for name, size in tensors.items():
            if name in sizes:
                _require(f"{name} of layer {number}", size, sizes[name])


def _sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    sizes = {
        "self_attn.q_proj.weight": (queries, shape.hidden),
        "self_attn.k_proj.weight": (keys, shape.hidden),
        "self_attn.v_proj.weight": (keys, shape.hidden),
        "self_attn.qkv_proj.weight": (queries + 2 * keys, shape.hidden),
        "self_attn.o_proj.weight": (shape.hidden, queries),
        "input_layernorm.weight": (shape.hidden,),
        "post_attention_layernorm.weight": (shape.hidden,),
    }
    if shape.inner is not None:
        sizes |= {
            "mlp.gate_proj.weight": (shape.inner, shape.hidden),
            "mlp.up_proj.weight": (shape.inner, shape.hidden),
            "mlp.gate_up_proj.weight": (2 * shape.inner, shape.hidden),
            "mlp.down_proj.weight": (shape.hidden, shape.inner),
        }
    return sizes


def _check_head(config: dict[str, Any], shape: Shape, tensors: Shapes) -> None:
    if not any(name.endswith(_EMBEDDINGS) for name in tensors):
        raise DamagedWeights("the weights have no embed_tokens.weight", hint=_SAME)
    if "lm_head.weight" in tensors:
        _require("lm_head.weight", tensors["lm_head.weight"], (shape.vocabulary, shape.hidden))
    elif not config.get("tie_word_embeddings") and not any(name.startswith("lm_head.") for name in tensors):
        raise DamagedWeights(
            "the weights have no lm_head.weight, and config.json does not say that it is tied to the embedding",
            hint=_SAME,
        )


def _require(name: str, size: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if size != expected:
        raise DamagedWeights(f"{name} has the shape {list(size)}; config.json says {list(expected)}", hint=_SAME)
