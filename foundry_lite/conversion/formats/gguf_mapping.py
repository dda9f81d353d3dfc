"""Mapping of a GGUF file to Hugging Face's format: configuration, names of the weights, order of their rows.

Source: llama.cpp's converter, whose steps are undone here, for the families below.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats.gguf import GgufHeader, GgufTensor
from foundry_lite.engine.chat_template.template_file import DEFAULT
from foundry_lite.errors import DamagedWeights, NotAModel, UnsupportedArchitecture

_INSTEAD = "Give the model's Hugging Face folder."


@dataclass(frozen=True, slots=True)
class Family:
    """Architecture of llama.cpp. ``rotates_pairs``: rows of queries and keys are stored in another order."""

    architecture: str
    model_type: str
    rotates_pairs: bool = False
    scales: tuple[tuple[str, str], ...] = ()  # numbers of its own: GGUF's key, the configuration's


FAMILIES = {
    "llama": Family("LlamaForCausalLM", "llama", rotates_pairs=True),  # Mistral too
    "qwen2": Family("Qwen2ForCausalLM", "qwen2"),
    "qwen3": Family("Qwen3ForCausalLM", "qwen3"),
    "phi3": Family("Phi3ForCausalLM", "phi3"),
    "granite": Family(
        "GraniteForCausalLM",
        "granite",
        rotates_pairs=True,
        scales=(
            ("attention.scale", "attention_multiplier"),
            ("embedding_scale", "embedding_multiplier"),
            ("residual_scale", "residual_multiplier"),
            ("logit_scale", "logits_scaling"),
        ),
    ),
}

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_PARTS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_FACTORS, _LONG, _SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
# Llama 3's own: what its converter made of them is a table, from which they are recognised again.
_LOW, _HIGH, _TRAINED = 1.0, 4.0, 8192
_ENDS = ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|end_of_text|>", "<end_of_turn>")
_TEMPLATE = "tokenizer.chat_template"
_SAMPLING = "general.sampling."
_SAMPLED = {"temp": "temperature", "penalty_repeat": "repetition_penalty"}
_CONTROL = 3  # the type of a token


def family_of(header: GgufHeader) -> Family:
    """Return the family of a file. Raises `UnsupportedArchitecture` naming those that are known."""
    name = header.values.get("general.architecture")
    known = f"Supported in GGUF: {', '.join(FAMILIES)}. {_INSTEAD}"
    if not isinstance(name, str) or name not in FAMILIES:
        raise UnsupportedArchitecture(f"the architecture ({name!r:.80}) is not supported in GGUF", hint=known)
    if header.values.get(f"{name}.expert_count"):
        raise UnsupportedArchitecture(f"a {name} with a mixture of experts is not supported in GGUF", hint=known)
    return FAMILIES[name]


def config_of(header: GgufHeader) -> dict[str, Any]:
    """Return the ``config.json`` of a file. Raises `NotAModel` for a missing number, `UnsupportedArchitecture`."""
    family = family_of(header)
    say = _Said(header)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        raise DamagedWeights(f"{header.path.name} has no token_embd.weight", hint=_INSTEAD)
    hidden, heads = say.whole("embedding_length"), say.whole("attention.head_count")
    head_size = say.whole("attention.key_length", hidden // heads)
    config: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "hidden_size": hidden,
        "intermediate_size": say.whole("feed_forward_length"),
        "num_hidden_layers": say.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": say.whole("attention.head_count_kv", heads),
        "head_dim": head_size,
        "vocab_size": embedding.shape[0],
        "max_position_embeddings": say.whole("context_length"),
        "rms_norm_eps": say.real("attention.layer_norm_rms_epsilon"),
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "dtype": "float32",
    }
    config |= {theirs: say.real(ours) for ours, theirs in family.scales if say.has(ours)}
    config |= _biases(header, family) | _positions(header, say, config) | _tokens(header)
    if family.model_type == "phi3" and say.has("attention.sliding_window"):
        config["sliding_window"] = say.whole("attention.sliding_window")
    return config


def name_of(header: GgufHeader, name: str) -> str | None:
    """Return what a tensor is called in Hugging Face's folder; ``None`` for a table that became configuration.

    Raises `UnsupportedArchitecture` for a tensor that has no counterpart there.
    """
    if name in _TOP:
        return _TOP[name]
    match = _LAYER.fullmatch(name)
    if match and match[2] in _PARTS:
        part = _PARTS[match[2]]
        if part == "mlp.up_proj" and family_of(header).model_type == "phi3":
            part = "mlp.gate_up_proj"
        return f"model.layers.{match[1]}.{part}.{match[3]}"
    if name in (_FACTORS, _LONG, _SHORT):
        return None
    raise UnsupportedArchitecture(f"the weights have {name[:80]}, which no supported family has", hint=_INSTEAD)


def row_order(header: GgufHeader, tensor: GgufTensor, config: dict[str, Any]) -> NDArray[np.intp] | None:
    """Return where each row of the weight is in the file; ``None`` where the order is the same.

    llama.cpp rotates pairs of neighbours, transformers halves: of a head of 4 rows, 0 1 2 3 here are 0 2 1 3 there.
    """
    match = _LAYER.fullmatch(tensor.name)
    if match is None or match[2] not in ("attn_q", "attn_k") or not family_of(header).rotates_pairs:
        return None
    heads = config["num_attention_heads" if match[2] == "attn_q" else "num_key_value_heads"]
    rows = tensor.shape[0]
    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(rows)


class _Said:
    """The numbers under the architecture's name."""

    def __init__(self, header: GgufHeader) -> None:
        self._file = header.path.name
        self._values = header.values
        self._prefix = header.values["general.architecture"]

    def has(self, key: str) -> bool:
        return f"{self._prefix}.{key}" in self._values

    def get(self, key: str) -> Any:
        return self._values.get(f"{self._prefix}.{key}")

    def whole(self, key: str, otherwise: int | None = None) -> int:
        value = self._values.get(f"{self._prefix}.{key}", otherwise)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(key, value)
        return value

    def real(self, key: str, otherwise: float | None = None) -> float:
        value = self._values.get(f"{self._prefix}.{key}", otherwise)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self._wrong(key, value)
        return float(f"{value:.7g}")  # a float32: 1e-5, not 9.999999747378752e-06

    def _wrong(self, key: str, value: Any) -> NotAModel:
        return NotAModel(f"{self._file}: '{self._prefix}.{key}' is {value!r:.40}", hint="Download the file again.")


def _biases(header: GgufHeader, family: Family) -> dict[str, bool]:
    if family.model_type in ("qwen2", "phi3"):
        return {}  # the first always has them, the second never
    found = [f"blk.0.{part}.bias" in header.tensors for part in ("attn_q", "attn_k", "attn_v", "attn_output")]
    if any(found) and not all(found):
        raise UnsupportedArchitecture(f"a {family.model_type} with biases of some projections only", hint=_INSTEAD)
    inner = {"mlp_bias": "blk.0.ffn_up.bias" in header.tensors} if family.model_type != "qwen3" else {}
    return {"attention_bias": all(found), **inner}


def _positions(header: GgufHeader, say: _Said, config: dict[str, Any]) -> dict[str, Any]:
    """Return how positions are turned into angles."""
    head_size = config["head_dim"]
    turned = say.whole("rope.dimension_count", head_size)
    theta = say.real("rope.freq_base", 10_000.0)
    if turned != head_size and config["model_type"] != "phi3":
        raise UnsupportedArchitecture(f"it turns {turned} of the {head_size} numbers of a head", hint=_INSTEAD)
    found: dict[str, Any] = {} if turned == head_size else {"partial_rotary_factor": turned / head_size}
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": theta, **found}
    kind = say.get("rope.scaling.type")
    if _LONG in header.tensors and _SHORT in header.tensors:
        trained = say.whole("rope.scaling.original_context_length")
        factors = {"long_factor": _table(header, _LONG), "short_factor": _table(header, _SHORT)}
        found["original_max_position_embeddings"] = trained
        parameters |= {"rope_type": "longrope", **factors, "original_max_position_embeddings": trained}
    elif _FACTORS in header.tensors:
        parameters |= _llama3(np.array(_table(header, _FACTORS)), theta, turned)
    elif kind in ("linear", "yarn"):
        parameters |= {"rope_type": kind, "factor": say.real("rope.scaling.factor")}
        if kind == "yarn":
            trained = say.whole("rope.scaling.original_context_length")
            parameters["original_max_position_embeddings"] = trained
    elif kind not in (None, "none"):
        raise UnsupportedArchitecture(f"its positions are scaled by {kind!r:.40}", hint=_INSTEAD)
    return {**found, "rope_parameters": parameters}


def _llama3(factors: NDArray[np.float64], theta: float, turned: int) -> dict[str, Any]:
    """Recognise the table that llama.cpp's converter makes of Llama 3's scaling of positions."""
    factor = float(factors.max())
    if factor == 1.0 and factors.min() == 1.0:
        return {}
    waves = 2 * math.pi * theta ** (np.arange(0, turned, 2) / turned)
    smooth = (_TRAINED / waves - _LOW) / (_HIGH - _LOW)
    middle = 1 / ((1 - smooth) / factor + smooth)
    expected = np.where(waves < _TRAINED / _HIGH, 1.0, np.where(waves > _TRAINED / _LOW, factor, middle))
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-3):
        raise UnsupportedArchitecture("its positions are scaled by a table that is not Llama 3's", hint=_INSTEAD)
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": _TRAINED,
    }


def templates_of(header: GgufHeader) -> dict[str, str]:
    """Return the chat templates of a file by name: the key of the usual one has none, those of others have theirs."""
    prefix = f"{_TEMPLATE}."
    found = {DEFAULT: header.values.get(_TEMPLATE)}
    found |= {key.removeprefix(prefix): value for key, value in header.values.items() if key.startswith(prefix)}
    return {name: text for name, text in found.items() if isinstance(text, str) and text}


def sampling_of(header: GgufHeader) -> dict[str, Any]:
    """Return how a file wants tokens to be drawn, in transformers' words where it has them."""
    found = {key.removeprefix(_SAMPLING): value for key, value in header.values.items() if key.startswith(_SAMPLING)}
    return {_SAMPLED.get(key, key): value for key, value in found.items()}


def _table(header: GgufHeader, name: str) -> list[float]:
    tensor = header.tensors[name]
    if tensor.kind != "F32" or len(tensor.shape) != 1:
        raise DamagedWeights(f"{name} is {tensor.kind} {list(tensor.shape)}, no list of F32", hint=_INSTEAD)
    with header.path.open("rb") as stream:
        stream.seek(tensor.start)
        return [float(f"{value:.7g}") for value in np.fromfile(stream, "<f4", tensor.count)]


def _tokens(header: GgufHeader) -> dict[str, Any]:
    """Return the ids of the tokens that begin, end and fill up."""
    values, tokens = header.values, header.values.get("tokenizer.ggml.tokens", [])
    kinds = values.get("tokenizer.ggml.token_type", [])
    ends = [values.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    ends += [i for i, (text, kind) in enumerate(zip(tokens, kinds, strict=False)) if kind == _CONTROL and text in _ENDS]
    known = list(dict.fromkeys(one for one in ends if isinstance(one, int) and 0 <= one < len(tokens)))
    found: dict[str, Any] = {"eos_token_id": known[0] if len(known) == 1 else known} if known else {}
    for name, theirs in (("bos", "bos_token_id"), ("padding", "pad_token_id")):
        one = values.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(one, int) and 0 <= one < len(tokens):
            found[theirs] = one
    return found
