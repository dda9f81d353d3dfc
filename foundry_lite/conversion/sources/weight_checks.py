"""Weights compared with the configuration: what transformers would replace by random numbers is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats.hf_config import Shape
from foundry_lite.conversion.formats.safe_files import check_file, exists, read_json
from foundry_lite.conversion.formats.safetensors import Tensor, is_finite, read_header, read_raw, read_rows, spans
from foundry_lite.errors import DamagedWeights, NotAModel, PickledWeights, UnsupportedArchitecture

Shapes = Mapping[str, tuple[int, ...]]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Families with Llama's names, whose layers are all alike: of these every size is known beforehand.
_LLAMA_LIKE = {
    "GraniteForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
}  # fmt: skip
HEADS = ("lm_head.weight", "embed_out.weight")
# Model types with a tied head where config.json does not set it: transformers' own defaults.
TIED_BY_DEFAULT = {
    "cohere", "ernie4_5", "falcon", "gemma", "gemma2", "gemma3_text", "gpt-sw3", "gpt2", "lfm2", "lfm2_moe", "smollm3",
    "starcoder2",
}  # fmt: skip
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_LAYER = re.compile(r"(?:^|(?:model|transformer|language_model|gpt_neox)\.)(?:layers|h)\.(\d+)\.(.+)")
_WIDTHS = {"F32": 32, "F16": 16, "BF16": 16, "F64": 64}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_OF_TRAINERS = re.compile(r"(?:training_args|optimizer|scheduler|scaler|rng_state\w*)\.\w+")
_NAMED = "transformers_weights"
_SHARDS = "model-*-of-*.safetensors"
_LARGEST_INDEX = 64 << 20  # bytes
OWN_HEAD_NOTE = (
    "config.json says that the head is the embedding ('tie_word_embeddings'), and the weights have a head of their own "
    "that differs: the head is kept, as transformers 5 does."
)
_SAME = "Save the model again, configuration and weights together."


def find_weights(folder: Path) -> dict[Path, dict[str, Tensor]]:
    """Return the weight files of a folder with their tensors; every tensor that the index names is there, and once.

    A whole file is read as transformers reads it: an index beside it is ignored. Raises `DamagedWeights`,
    `PickledWeights`, `UnsafeSource`, or `NotAModel` when there are none.
    """
    _refuse_other_name(folder)
    if exists(folder / SINGLE):
        return {folder / SINGLE: read_header(check_file(folder / SINGLE))}
    if exists(folder / INDEX):
        return _read_shards(folder)
    if shards := sorted(path.name for path in folder.glob(_SHARDS)):
        raise DamagedWeights(
            f"{folder} has {len(shards)} shards of weights ({shards[0]}, …) and no {INDEX}",
            hint="Copy or download that file too: it says which shards belong together.",
        )
    pickles = sorted({path.name for one in _PICKLES for path in folder.glob(one) if not _OF_TRAINERS.match(path.name)})
    if pickles:
        raise PickledWeights(
            f"the weights are pickled ({', '.join(pickles[:3])}): reading them can run any code",
            hint="Save the model as safetensors: model.save_pretrained(folder, safe_serialization=True).",
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    there = f"; it has {', '.join(others[:3])}" if others else ""
    raise NotAModel(
        f"{folder} has no model.safetensors{there}",
        hint="Give a folder as save_pretrained() writes it, without variant=.",
    )


def weights_notes(folder: Path) -> tuple[str, ...]:
    """Return what the user should know of which weight files are read."""
    if not (exists(folder / SINGLE) and exists(folder / INDEX)):
        return ()
    return (f"Its weights are those of {SINGLE}, as in transformers; {INDEX} beside it, and its shards, are not read.",)


def index_of(shards: Iterable[Path]) -> dict[str, Any]:
    """Return the index of shards as transformers reads it, from the shards themselves."""
    return {"metadata": {}, "weight_map": {name: path.name for path in shards for name in read_header(path)}}


def is_tied(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration ties the head to the embedding; where it does not set it, as its family does."""
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        if part.get("tie_word_embeddings") is not None:
            return bool(part["tie_word_embeddings"])
    return config.get("model_type") in TIED_BY_DEFAULT


def untied(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose head has weights of its own."""
    inner = config.get("text_config")
    more = {"text_config": {**inner, "tie_word_embeddings": False}} if isinstance(inner, dict) else {}
    return {**config, **more, "tie_word_embeddings": False}


def has_own_head(tensors: Mapping[str, tuple[Path, Tensor]]) -> bool:
    """Return whether the head differs from the embedding. Reads both, up to the first difference."""
    head = next((tensors[name] for name in HEADS if name in tensors), None)
    embedding = next((one for name, one in tensors.items() if name.endswith(EMBEDDINGS)), None)
    if head is None or embedding is None:
        return False
    first, second = head[1], embedding[1]
    if first.shape != second.shape:
        return True
    pieces: Iterator[tuple[NDArray[Any], NDArray[Any]]]
    if first.dtype == second.dtype:
        pieces = zip(read_raw(head[0], first), read_raw(embedding[0], second), strict=True)
    else:
        pieces = (
            (read_rows(head[0], HEADS[0], first, *span), read_rows(embedding[0], HEADS[0], second, *span))
            for span in spans(first)
        )
    return not all(np.array_equal(*pair) for pair in pieces)


def by_name(weights: Mapping[Path, Mapping[str, Tensor]]) -> dict[str, tuple[Path, Tensor]]:
    """Return the tensors of all files by name, each with its file."""
    return {name: (path, tensor) for path, tensors in weights.items() for name, tensor in tensors.items()}


def shapes_of(weights: Mapping[Path, Mapping[str, Tensor]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors."""
    return {name: tensor.shape for name, (_, tensor) in by_name(weights).items()}


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
        if name.endswith(EMBEDDINGS):
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
    """Return the error for a tensor with a NaN or an infinity."""
    return DamagedWeights(
        f"{path.name}: {name} holds numbers that are not finite (NaN or infinity)",
        hint="The training diverged, or the weights were cast to float16 and overflowed: save an earlier checkpoint.",
    )


def _refuse_other_name(folder: Path) -> None:
    """Refuse a configuration that has transformers read other weights than those that are looked for here."""
    named = read_json(folder / "config.json").get(_NAMED) if exists(folder / "config.json") else None
    usual = SINGLE if exists(folder / SINGLE) else INDEX
    if named is not None and named != usual:
        raise UnsupportedArchitecture(
            f"config.json names the file of its weights ('{_NAMED}' is {str(named)[:80]!r}), which is not {usual}",
            hint=f"Save the model again, or rename the file and remove '{_NAMED}'.",
        )


def _read_shards(folder: Path) -> dict[Path, dict[str, Tensor]]:
    mapping = read_json(folder / INDEX, _LARGEST_INDEX).get("weight_map")
    names = sorted({str(name) for name in mapping.values()}) if isinstance(mapping, dict) else []
    if not isinstance(mapping, dict) or not names or not all(_is_plain(name) for name in names):
        raise DamagedWeights(f"{INDEX} names no safetensors files of this folder", hint="Download it again.")
    missing = [name for name in names if not exists(folder / name)]
    if missing:
        raise DamagedWeights(
            f"{len(missing)} of {len(names)} shards are missing: {', '.join(missing[:3])}", hint="Download them."
        )
    shards = {folder / name: read_header(check_file(folder / name)) for name in names}
    for tensor, name in mapping.items():
        if tensor not in shards[folder / name]:
            raise DamagedWeights(
                f"{INDEX} says that {tensor[:80]} is in {name}, and it is not", hint="Download the files again."
            )
    _check_once(shards)
    return shards


def _check_once(shards: Mapping[Path, Mapping[str, Tensor]]) -> None:
    where: dict[str, Path] = {}
    for path, tensors in shards.items():
        for name in tensors:
            if name in where:
                raise DamagedWeights(
                    f"{where[name].name} and {path.name} both hold {name[:80]}",
                    hint="Save the model again, into an empty folder: one of them may be of an earlier save.",
                )
            where[name] = path


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
    if not any(name.endswith(EMBEDDINGS) for name in tensors):
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
