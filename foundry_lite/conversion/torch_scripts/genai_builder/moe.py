"""Families with a mixture of experts, which onnxruntime-genai's builder lacks."""

from __future__ import annotations

from typing import Any

from foundry_lite.conversion.torch_scripts.genai_builder.base import Decoder
from foundry_lite.conversion.torch_scripts.genai_builder.nodes import (
    add_linear,
    add_product,
    add_sum,
    clip_qkv,
    norm_qk,
)


class Experts(Decoder):
    """Families with a mixture of experts, as one ``MoE`` node: it computes the chosen experts only."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self.moe_intermediate_size = getattr(config, "moe_intermediate_size", config.intermediate_size)
        self._is_normal = getattr(config, "norm_topk_prob", True)
        self.moe_attrs.update(activation_type="swiglu", swiglu_fusion=1, normalize_routing_weights=True)

    def feed(self, layer_id: int, mlp: Any, root_input: str) -> str:
        if not hasattr(mlp, "experts"):
            return super().feed(layer_id, mlp, root_input)
        name = f"/model/layers.{layer_id}/moe"
        self.make_interleaved_swiglu_moe_preprocessing(layer_id, mlp)
        scores = self.route(name, layer_id, mlp, root_input)
        weights = self.make_moe_expert_names(layer_id)
        self.make_moe_op(
            f"{name}/MoE",
            root_input=root_input,
            router_probs=scores,
            weight1=weights["gate_up_weight"],
            bias1=weights["gate_up_bias"],
            weight2=weights["down_weight"],
            bias2=weights["down_bias"],
        )
        chosen = f"{name}/MoE/output_0"
        return chosen if self._is_normal else add_product(self, f"{name}/Mul", chosen, self._share(name))

    def route(self, name: str, layer_id: int, mlp: Any, root_input: str) -> str:
        """Add the scores of all experts, ``(tokens, experts)``."""
        scores = add_linear(self, mlp.gate, f"{name}/router", root_input)
        shape = f"/model/constants/INT64/[-1, {self.moe_attrs['num_experts']}]"
        self.make_reshape(f"{name}/router/Reshape", [scores, shape], self.io_dtype, self.make_moe_router_shape())
        return f"{name}/router/Reshape/output_0"

    def _share(self, name: str) -> str:
        """Add the chosen experts' share of all probability: the node always normalizes it to 1 (measured)."""
        shape, k = self.make_hidden_state_shape(last_dim=self.moe_attrs["num_experts"]), self.moe_attrs["top_k"]
        column = self.make_hidden_state_shape(last_dim=1)
        ranks, total = f"{name}/share/TopK", f"{name}/share/ReduceSum"
        self.make_softmax(f"{name}/share/Softmax", f"{name}/router/MatMul/output_0", self.io_dtype, shape)
        taken = [f"{name}/share/Softmax/output_0", f"/model/constants/INT64/[{k}]"]
        self.make_topk(ranks, taken, self.io_dtype, self.make_hidden_state_shape(last_dim=k))
        self.make_reduce_sum(
            total, [f"{ranks}/output_0", "/model/constants/INT64/[-1]"], self.io_dtype, column, keepdims=True
        )
        return f"{total}/output_0"


class Qwen3Experts(Experts):
    """Qwen 3 MoE: a norm over each head's queries and keys."""

    def make_attention_init(self, config: Any) -> None:
        self.attention_attrs["q_norm"] = self.attention_attrs["k_norm"] = True
        super().make_attention_init(config)


class Qwen2Experts(Experts):
    """Qwen 2 MoE: beside the experts one that all tokens share, with a gate of its own."""

    def feed(self, layer_id: int, mlp: Any, root_input: str) -> str:
        chosen = super().feed(layer_id, mlp, root_input)
        if not hasattr(mlp, "shared_expert"):
            return chosen
        name = f"/model/layers.{layer_id}/shared_expert"
        self.make_mlp_proj(layer_id, mlp.shared_expert, root_input)
        gate = add_linear(self, mlp.shared_expert_gate, f"{name}_gate", root_input)
        self.make_sigmoid(f"{name}_gate/Sigmoid", gate, self.io_dtype, self.make_hidden_state_shape(last_dim=1))
        shared = add_product(self, f"{name}/Mul", self.mlp_attrs["output_0"], f"{name}_gate/Sigmoid/output_0")
        return add_sum(self, f"{name}/Add", chosen, shared)


class OlmoExperts(Experts):
    """OLMoE: experts, and norms over all queries and all keys."""

    def is_packed_matmul_supported(self) -> bool:
        return False  # norms stand between the products and the attention

    def make_attention_qk_rope_and_norm(self, layer_id: int, attention: Any, **more: Any) -> Any:
        norm_qk(self, layer_id, attention)
        clip_qkv(self, layer_id, attention.config.clip_qkv)
        return self.make_attention_qk_rope(layer_id, **more)
