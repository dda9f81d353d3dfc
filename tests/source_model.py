"""Hugging Face folders with random weights, written by transformers itself: what ``import`` is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.tiny_model import END, EOS, START, TEMPLATE

_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,  # wide enough that the best next token is clear
}
_OWN: dict[str, dict[str, Any]] = {
    "Phi3": {"original_max_position_embeddings": 1024},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen3": {"head_dim": 16},
}


_FULL, _SLIDING = "full_attention", "sliding_attention"
# What a converter may get wrong must make a difference: sizes that are no squares, heads whose size is not
# hidden_size / heads, an epsilon that is no default, norms that are not all ones, biases that are not zero.
_ODD: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 320,
    "max_position_embeddings": 256,
    "initializer_range": 0.08,
}
_RMS: dict[str, Any] = {**_ODD, "rms_norm_eps": 1e-3}
_LAYER: dict[str, Any] = {**_ODD, "layer_norm_eps": 1e-3}
_HEADS: dict[str, Any] = {**_RMS, "head_dim": 32}
_WINDOW: dict[str, Any] = {"sliding_window": 32}
_FAR: dict[str, Any] = {"rope_theta": 500000.0, "original_max_position_embeddings": 64, "factor": 4.0}
_PART: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 2 / 3}
_FACTORS: dict[str, Any] = {
    "short_factor": [1.0 + i / 10 for i in range(24)],
    "long_factor": [2.0 + i for i in range(24)],
}
_EXPERTS: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ERNIE 4.5": ("Ernie4_5", {**_HEADS, "use_bias": True}),
    "Gemma": ("Gemma", _HEADS),
    "Gemma 2": ("Gemma2", {**_HEADS, **_WINDOW, "query_pre_attn_scalar": 20}),
    "Gemma 3": ("Gemma3", {**_HEADS, **_WINDOW, "query_pre_attn_scalar": 20, "layer_types": [_SLIDING, _FULL]}),
    "gpt-oss": ("GptOss", {**_HEADS, **_WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "Granite": (
        "Granite",
        {
            **_RMS,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.7,
            "attention_multiplier": 0.2,
        },
    ),
    "Granite 4, attention only": (
        "GraniteMoeHybrid",
        {
            **_RMS,
            "layer_types": ["attention"] * 2,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 320,
            "residual_multiplier": 0.7,
            "attention_multiplier": 0.2,
            "mamba_n_heads": 4,
            "position_embedding_type": "rope",
        },
    ),
    "Hunyuan": ("HunYuanDenseV1", _HEADS),
    "LFM2": ("Lfm2", {**_ODD, "norm_eps": 1e-3, "layer_types": ["conv", _FULL]}),
    "LFM2 MoE": (
        "Lfm2Moe",
        {**_ODD, **_EXPERTS, "norm_eps": 1e-3, "layer_types": ["conv", _FULL], "num_dense_layers": 1},
    ),
    "Llama": ("Llama", {**_RMS, "attention_bias": True, "mlp_bias": True}),
    "Llama, tied": ("Llama", {**_HEADS, "tie_word_embeddings": True}),
    "Llama 3.1 (rope: llama3)": (
        "Llama",
        {**_RMS, "rope_parameters": {**_FAR, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}},
    ),
    "Llama (rope: linear)": ("Llama", {**_RMS, "rope_parameters": {**_FAR, "rope_type": "linear"}}),
    "Llama (rope: yarn)": ("Llama", {**_RMS, "rope_parameters": {**_FAR, "rope_type": "yarn"}}),
    "Llama (rope: dynamic)": ("Llama", {**_RMS, "rope_parameters": {**_FAR, "rope_type": "dynamic"}}),
    "Mistral": ("Mistral", {**_HEADS, "sliding_window": None}),
    "Mistral with a window": ("Mistral", {**_HEADS, **_WINDOW}),
    "Nemotron": ("Nemotron", {**_ODD, "norm_eps": 1e-3, "head_dim": 32, "mlp_bias": True, "attention_bias": True}),
    "OLMo": ("Olmo", {**_ODD, "clip_qkv": 1.0}),
    "OLMo 2": ("Olmo2", _RMS),
    "OLMo 3": ("Olmo3", {**_RMS, **_WINDOW, "layer_types": [_SLIDING, _FULL]}),
    "Phi": ("Phi", {**_LAYER, "num_key_value_heads": None, "rope_parameters": _PART}),
    "Phi 3": ("Phi3", {**_RMS, "original_max_position_embeddings": 256, "sliding_window": None}),
    "Phi 3 with a window": ("Phi3", {**_RMS, **_WINDOW, "original_max_position_embeddings": 256}),
    "Phi 3 (rope: longrope)": (
        "Phi3",
        {
            **_RMS,
            "max_position_embeddings": 1024,
            "original_max_position_embeddings": 256,
            "sliding_window": None,
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, **_FACTORS},
        },
    ),
    "Phi 4 mini": (
        "Phi3",
        {
            **_RMS,
            "max_position_embeddings": 1024,
            "original_max_position_embeddings": 256,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 2 / 3,
                **{name: values[:16] for name, values in _FACTORS.items()},
            },
        },
    ),
    "Qwen 2": ("Qwen2", {**_RMS, "tie_word_embeddings": True}),
    "Qwen 2 with a window": ("Qwen2", {**_RMS, **_WINDOW, "use_sliding_window": True, "max_window_layers": 1}),
    "Qwen 2 MoE": ("Qwen2Moe", {**_RMS, **_EXPERTS, "shared_expert_intermediate_size": 80}),
    "Qwen 3": ("Qwen3", {**_HEADS, "tie_word_embeddings": True}),
    "Qwen 3 MoE": ("Qwen3Moe", {**_HEADS, **_EXPERTS, "norm_topk_prob": True}),
    "Mixtral": ("Mixtral", {**_RMS, "num_local_experts": 4}),
    "OLMoE": ("Olmoe", {**_RMS, **_EXPERTS, "intermediate_size": 64, "clip_qkv": 1.0}),
    "SmolLM 3": ("SmolLM3", {**_RMS, "no_rope_layers": [1, 0]}),
    "StableLM": ("StableLm", {**_LAYER, "use_qkv_bias": True, "rope_parameters": _PART}),
    "StableLM 2 12B": (
        "StableLm",
        {**_LAYER, "qk_layernorm": True, "use_parallel_residual": True, "rope_parameters": _PART},
    ),
    "GPT-2": (
        "GPT2",
        {
            "max_position_embeddings": 256,
            "n_embd": 192,
            "n_layer": 2,
            "n_head": 4,
            "layer_norm_epsilon": 1e-3,
            "initializer_range": 0.08,
        },
    ),
    "GPT-NeoX": ("GPTNeoX", {**_LAYER, "rope_parameters": _PART}),
    "Starcoder 2": ("Starcoder2", {**_ODD, **_WINDOW, "norm_epsilon": 1e-3}),
    "Cohere": ("Cohere", {**_LAYER, "logit_scale": 0.25, "use_qk_norm": True}),
    "Falcon": (
        "Falcon",
        {
            "hidden_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "layer_norm_epsilon": 1e-3,
        },
    ),
}


def write(folder: Path, family: str = "Llama", **changes: Any) -> Path:
    """Write a model of a family, such as ``Llama``, with its tokenizer and chat template."""
    import torch
    import transformers

    torch.manual_seed(0)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(), bos_token=EOS, eos_token=END, pad_token=EOS
    )
    fast.chat_template = TEMPLATE
    shape = {**_SHAPE, **_OWN.get(family, {}), **changes}
    config_class, model_class = _classes(family)
    config = config_class(vocab_size=len(fast), bos_token_id=0, eos_token_id=2, pad_token_id=0, **shape)
    model_class(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def write_family(folder: Path, family: str) -> Path:
    """Write one of `FAMILIES`; every weight makes a difference, norms and biases too."""
    import torch
    from transformers import AutoModelForCausalLM

    prefix, changes = FAMILIES[family]
    write(folder, prefix, **changes)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight += 0.3 * torch.randn_like(weight)
            elif weight.ndim == 3:  # experts, which some families leave as they come
                weight.copy_(0.08 * torch.randn_like(weight))
    model.to(torch.bfloat16).save_pretrained(folder)  # as models come
    return folder


def reference(source: Path, tokens: list[int]) -> Any:
    """Return what transformers computes in float32: the logits ``(tokens, vocabulary)``, as a NumPy array."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model.eval()(torch.tensor([tokens])).logits[0].numpy()


def _classes(family: str) -> tuple[Any, Any]:
    import transformers

    config = f"{family}TextConfig" if family == "Gemma3" else f"{family}Config"
    model = f"{family}LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    return getattr(transformers, config), getattr(transformers, model)


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[EOS, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sample = Path(__file__).parent.parent / "foundry_lite" / "conversion" / "evaluate" / "sample.txt"
    tokenizer.train_from_iterator([sample.read_text(encoding="utf-8")], trainer)
    return tokenizer
