"""The families of decoders that can be converted: which exporter makes the graph, and which configurations are refused.

Each family is converted from random weights and compared with transformers by tests/integration/test_families.py;
docs/families.md is the table that it writes. Why which exporter: docs/decisions/0019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from foundry_lite.conversion.sources.source_model import Exporter
from foundry_lite.errors import UnsupportedArchitecture

_GRAIN = 16  # numbers: onnxruntime's GroupQueryAttention turns heads of multiples of it
_ROTARY_GRAIN = 8

Config = Mapping[str, Any]
Check = Callable[[Config], str]


@dataclass(frozen=True, slots=True)
class Family:
    """Architecture of decoders, with the exporter and limits of its conversion.

    ``context_length`` is the most tokens that the converted model can take, ``None`` for the configuration's own limit.
    ``notes`` are sentences that the user should read. ``why_not`` returns why a configuration cannot be converted, an
    empty string when it can.
    """

    name: str
    exporter: Exporter = Exporter.BUILDER
    is_ours: bool = False  # the builder lacks it: `conversion/torch_scripts/genai_builder/models` teaches it
    context_length: int | None = None
    notes: tuple[str, ...] = ()
    why_not: Check = lambda _config: ""


def find(architecture: str, config: Config) -> Family:
    """Return how to convert a model. Raises `UnsupportedArchitecture` with what is supported, or what is in the way."""
    family = _FAMILIES.get(architecture)
    if family is None:
        given = f"'{architecture}'" if architecture else "none named in config.json"
        known = _OTHERS.get(architecture, "") or _guess(architecture)
        raise UnsupportedArchitecture(
            f"the architecture ({given}) is not supported{known}", hint=f"Supported: {', '.join(supported())}."
        )
    if reason := family.why_not(config) or _odd_heads(config):
        raise UnsupportedArchitecture(
            f"this {family.name} model cannot be converted: {reason}", hint="docs/families.md lists what can be."
        )
    return _limited(family, config)


def supported() -> tuple[str, ...]:
    """Return the architectures that can be converted, as config.json names them, in the order of the alphabet."""
    return tuple(sorted(_FAMILIES))


def _limited(family: Family, config: Config) -> Family:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type")) not in ("longrope", "su"):
        return family
    limit = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    longest = config.get("max_position_embeddings")
    if not isinstance(limit, int) or not isinstance(longest, int) or limit >= longest:
        return family
    note = (
        f"the context is {limit} tokens, not {longest}: longer prompts need another table of positions (longrope), "
        "which cannot be changed in the middle of a conversation"
    )
    return replace(family, context_length=limit, notes=(*family.notes, note))


def _odd_heads(config: Config) -> str:
    size = head_size(config)
    if size and size % _GRAIN:
        return f"its attention heads have {size} numbers, and onnxruntime's attention needs a multiple of {_GRAIN}"
    rope = config.get("rope_parameters")
    part = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    part = config.get("partial_rotary_factor") if part is None else part
    turned = int(size * part) if size and isinstance(part, int | float) else 0
    if turned % _ROTARY_GRAIN:
        return f"its heads turn {turned} numbers by the position; onnxruntime needs a multiple of {_ROTARY_GRAIN}"
    return ""


def head_size(config: Config) -> int:
    """Return the size of one attention head; 0 when the configuration does not have it."""
    own = config.get("head_dim")
    hidden, heads = (
        config.get("hidden_size", config.get("n_embd")),
        config.get("num_attention_heads", config.get("n_head")),
    )
    if isinstance(own, int):
        return own
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else 0


def _granite_4(config: Config) -> str:
    types = config.get("layer_types")
    if not isinstance(types, list) or set(types) - {"attention", "full_attention"}:
        return "it has Mamba layers, which the builder cannot write"
    return "it has experts, which the builder leaves out" if config.get("num_local_experts") else ""


def _asked(field: str, what: str, *, unless: Any = None) -> Check:
    """Return a check for a field that must not be set."""
    return lambda config: what if config.get(field) not in (None, False, unless) else ""


_WHOLE = "it attends in both directions: it is no model that writes text"

_FAMILIES: dict[str, Family] = {
    "CohereForCausalLM": Family("Cohere Command R", is_ours=True),
    "Ernie4_5ForCausalLM": Family("ERNIE 4.5"),
    "FalconForCausalLM": Family(
        "Falcon", is_ours=True, why_not=_asked("alibi", "it has ALiBi, which onnxruntime's attention lacks")
    ),
    "GPT2LMHeadModel": Family(
        "GPT-2", is_ours=True, why_not=_asked("add_cross_attention", "it has a cross-attention: it is half a model")
    ),
    "GPTNeoXForCausalLM": Family("GPT-NeoX, Pythia", is_ours=True),
    "Gemma2ForCausalLM": Family("Gemma 2"),
    "Gemma3ForCausalLM": Family("Gemma 3 (text)", why_not=_asked("use_bidirectional_attention", _WHOLE)),
    "GemmaForCausalLM": Family("Gemma", why_not=_asked("use_bidirectional_attention", _WHOLE)),
    "GptOssForCausalLM": Family("gpt-oss"),
    "GraniteForCausalLM": Family("Granite 3"),
    "GraniteMoeHybridForCausalLM": Family("Granite 4 (attention only)", why_not=_granite_4),
    "HunYuanDenseV1ForCausalLM": Family("Hunyuan (dense)"),
    "Lfm2ForCausalLM": Family("LFM2"),
    "Lfm2MoeForCausalLM": Family("LFM2 MoE"),
    "LlamaForCausalLM": Family("Llama"),
    "MistralForCausalLM": Family("Mistral"),
    "MixtralForCausalLM": Family("Mixtral", is_ours=True),
    "NemotronForCausalLM": Family("Nemotron"),
    "Olmo2ForCausalLM": Family("OLMo 2", is_ours=True),
    "Olmo3ForCausalLM": Family("OLMo 3", is_ours=True),
    "OlmoForCausalLM": Family("OLMo"),
    "OlmoeForCausalLM": Family("OLMoE", is_ours=True),
    "Phi3ForCausalLM": Family("Phi 3, 3.5 and 4"),
    "PhiForCausalLM": Family(
        "Phi 1, 1.5 and 2", why_not=_asked("qk_layernorm", "it norms queries and keys, which the builder leaves out")
    ),
    "Qwen2ForCausalLM": Family("Qwen 2 and 2.5"),
    "Qwen2MoeForCausalLM": Family("Qwen 1.5 and 2 MoE", is_ours=True),
    "Qwen3ForCausalLM": Family("Qwen 3"),
    "Qwen3MoeForCausalLM": Family("Qwen 3 MoE", is_ours=True),
    "SmolLM3ForCausalLM": Family("SmolLM 3"),
    "StableLmForCausalLM": Family("StableLM", is_ours=True),
    "Starcoder2ForCausalLM": Family("StarCoder 2", is_ours=True),
}
_CODE = ": transformers has no class for it, so it would need code of its own folder, which is never run"
_OTHERS: dict[str, str] = {  # what the builder knows, or people ask for, and why it is not in the table
    "ChatGLMForConditionalGeneration": _CODE,
    "ChatGLMModel": _CODE,
    "InternLM2ForCausalLM": _CODE,
    "Phi3SmallForCausalLM": _CODE,
    "PhiMoEForCausalLM": ": it mixes experts in a way that onnxruntime computes on CUDA only",
    "PhimoeForCausalLM": ": it mixes experts in a way that onnxruntime computes on CUDA only",
}


def _guess(architecture: str) -> str:
    if architecture.endswith("ForConditionalGeneration"):
        return ": it takes more than text, or is an encoder with a decoder"
    return ""
