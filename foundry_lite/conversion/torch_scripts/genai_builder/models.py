"""Decoder families that onnxruntime-genai's builder lacks, and the table that puts them in its hands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from onnxruntime_genai.models import builder

from foundry_lite.conversion.torch_scripts.genai_builder.base import Decoder
from foundry_lite.conversion.torch_scripts.genai_builder.moe import Experts, OlmoExperts, Qwen2Experts, Qwen3Experts
from foundry_lite.conversion.torch_scripts.genai_builder.nodes import add_norm, add_sum, epsilon_of, norm_qk


class Olmo2(Decoder):
    """OLMo 2 and 3: norms behind attention and MLP, and over all queries and all keys."""

    def step(self, name: str, layer_id: int, layer: Any, hidden: str) -> str:
        attended = self.attend(layer_id, layer.self_attn, hidden)
        attended = add_norm(self, f"{name}/post_attention_layernorm", layer.post_attention_layernorm, attended)
        hidden = add_sum(self, f"{name}/Add_1", hidden, attended)
        fed = add_norm(
            self, f"{name}/post_feedforward", layer.post_feedforward_layernorm, self.feed(layer_id, layer.mlp, hidden)
        )
        return add_sum(self, f"{name}/Add_2", hidden, fed)

    def is_packed_matmul_supported(self) -> bool:
        return False  # a norm stands between the products and the attention

    def make_attention_qk_rope_and_norm(self, layer_id: int, attention: Any, **more: Any) -> Any:
        norm_qk(self, layer_id, attention)
        return self.make_attention_qk_rope(layer_id, **more)


class StableLm(Decoder):
    """StableLM: norms with a mean, rotary embeddings of a part of each head."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        self._has_head_norms = config.qk_layernorm
        super().__init__(config, *arguments)
        self.is_parallel = config.use_parallel_residual

    def make_attention_qk_rope_and_norm(self, layer_id: int, attention: Any, **more: Any) -> Any:
        if attention.qk_layernorm:
            norms = attention.q_layernorm.norms, attention.k_layernorm.norms
            weights = [torch.stack([one.weight for one in norm]) for norm in norms]
            self.norm_heads(layer_id, weights, epsilon_of(norms[0][0], 1e-5))
        return self.make_attention_qk_rope(layer_id, **more)

    def is_packed_matmul_supported(self) -> bool:
        return not self._has_head_norms


class Starcoder2(Decoder):
    """Starcoder 2: norms with a mean, biases, an MLP without a gate."""


class Cohere(Decoder):
    """Command R: attention and MLP side by side over one norm; interleaved rotary embeddings; scaled logits."""

    is_parallel, norms = True, ("input_layernorm", "")

    def __init__(self, config: Any, *arguments: Any) -> None:
        self._has_head_norms = config.use_qk_norm
        super().__init__(config, *arguments)
        self.rope_attrs["interleaved"] = 1
        self.lm_head_attrs["scale"] = config.logit_scale

    def is_packed_matmul_supported(self) -> bool:
        return not self._has_head_norms

    def make_attention_qk_rope_and_norm(self, layer_id: int, attention: Any, **more: Any) -> Any:
        if attention.use_qk_norm:
            weights = [attention.q_norm.weight, attention.k_norm.weight]
            self.norm_heads(layer_id, weights, epsilon_of(attention.q_norm, 1e-5))
        return self.make_attention_qk_rope(layer_id, **more)


class GptNeoX(Decoder):
    """GPT-NeoX and Pythia: one packed product, head by head."""

    attention, layer, final = "attention", "GPTNeoXLayer", "gpt_neox.final_layer_norm"

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self.is_parallel = config.use_parallel_residual

    def unpacked(self, attention: Any) -> Any:
        return _split(attention.query_key_value, attention.dense, (self.num_kv_heads, 1, 1), self.head_size)


class Falcon(Decoder):
    """Falcon: one packed product, group by group of heads that share their keys."""

    attention, final = "self_attention", "transformer.ln_f"

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self.is_parallel = config.parallel_attn or config.new_decoder_architecture
        if config.new_decoder_architecture and config.num_ln_in_parallel_attn != 1:
            self.norms = ("ln_attn", "ln_mlp")
        elif self.is_parallel:
            self.norms = ("input_layernorm", "")

    def unpacked(self, attention: Any) -> Any:
        group = self.num_attn_heads // self.num_kv_heads
        packed = attention.query_key_value
        return _split(packed, attention.dense, (self.num_kv_heads, group, 1), self.head_size)


class Gpt2(Decoder):
    """GPT-2: learned positions, weights the other way round."""

    attention, norms, layer, final = "attn", ("ln_1", "ln_2"), "GPT2Block", "transformer.ln_f"

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self.attention_attrs["rope"] = False

    def is_fused_rope_supported(self) -> bool:
        return False  # so ``position_ids`` stays an input

    def make_embedding(self, embedding: Any) -> None:
        super().make_embedding(embedding)
        table, name = "model.embed_positions.weight", "/model/embed_positions"
        self.make_initializer(self.weights.transformer.wpe.weight, table, to=self.io_dtype)
        self.make_gather(
            f"{name}/Gather", [table, "position_ids"], self.io_dtype, self.make_hidden_state_shape(), axis=0
        )
        tokens = self.layernorm_attrs["root_input"]
        self.layernorm_attrs["root_input"] = add_sum(self, f"{name}/Add", tokens, f"{name}/Gather/output_0")

    def unpacked(self, attention: Any) -> Any:
        self.attention_attrs["scale"] = attention.scaling
        weights, biases = attention.c_attn.weight.T.chunk(3), attention.c_attn.bias.chunk(3)
        q, k, v = (SimpleNamespace(weight=weight, bias=bias) for weight, bias in zip(weights, biases, strict=True))
        return SimpleNamespace(q_proj=q, k_proj=k, v_proj=v, o_proj=_turned(attention.c_proj))

    def feed(self, layer_id: int, mlp: Any, root_input: str) -> str:
        turned = SimpleNamespace(c_fc=_turned(mlp.c_fc), c_proj=_turned(mlp.c_proj))
        return super().feed(layer_id, turned, root_input)


_CLASSES: dict[str, type[Decoder]] = {
    "CohereForCausalLM": Cohere,
    "FalconForCausalLM": Falcon,
    "GPT2LMHeadModel": Gpt2,
    "GPTNeoXForCausalLM": GptNeoX,
    "MixtralForCausalLM": Experts,
    "Olmo2ForCausalLM": Olmo2,
    "Olmo3ForCausalLM": Olmo2,
    "OlmoeForCausalLM": OlmoExperts,
    "Qwen2MoeForCausalLM": Qwen2Experts,
    "Qwen3MoeForCausalLM": Qwen3Experts,
    "StableLmForCausalLM": StableLm,
    "Starcoder2ForCausalLM": Starcoder2,
}


@contextmanager
def installed(config: Any) -> Iterator[None]:
    """Let the builder take our class, under the name of Llama, for a family that it lacks."""
    ours = _CLASSES.get(config.architectures[0])
    if ours is None:
        yield
        return
    theirs, builder.LlamaModel = builder.LlamaModel, ours
    config.architectures = ["LlamaForCausalLM"]
    try:
        yield
    finally:
        builder.LlamaModel = theirs


def _split(packed: Any, out: Any, parts: tuple[int, int, int], size: int) -> Any:
    """Take a packed product apart. ``parts``: groups, and in each the heads of queries and those of keys."""
    groups, queries, keys = parts
    counts = [queries * size, keys * size, keys * size]

    def pieces(tensor: Any) -> list[Any]:
        grouped = tensor.reshape(groups, sum(counts), *tensor.shape[1:])
        return [one.reshape(-1, *tensor.shape[1:]) for one in grouped.split(counts, dim=1)]

    weights = pieces(packed.weight)
    biases = pieces(packed.bias) if packed.bias is not None else [None] * 3
    q, k, v = (SimpleNamespace(weight=weight, bias=bias) for weight, bias in zip(weights, biases, strict=True))
    return SimpleNamespace(q_proj=q, k_proj=k, v_proj=v, o_proj=out)


def _turned(product: Any) -> Any:
    """Return a ``Conv1D`` of transformers, whose weight is ``(inputs, outputs)``, as a linear layer."""
    return SimpleNamespace(weight=product.weight.T, bias=product.bias)
