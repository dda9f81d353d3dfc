"""The network of the home assistant: a small Llama, written lean for training on a CPU.

Only what training needs: right-padded batches, no cache, and a forward pass that is a function of
its weights, so that several threads can run it on one set of rounded weights. ``export`` gives the
weights the names that transformers' ``LlamaForCausalLM`` reads; both give the same logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Weights = Mapping[str, Tensor]

_THEIR_NAMES = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "norm_attention": "input_layernorm",
    "norm_mlp": "post_attention_layernorm",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network; all multiples of 128, so that int4 in blocks of 128 fits."""

    vocabulary: int
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    intermediate: int = 640
    context_length: int = 4096
    rope_theta: float = 10000.0


def rounded_to_int4(weight: Tensor, block_size: int) -> Tensor:
    """Return ``weight`` as int4 in blocks along the last axis would reproduce it.

    Symmetric, round to nearest: the scale of a block is its signed largest value over -8, as
    onnxruntime's default quantizer for MatMulNBits does.
    """
    blocks = weight.reshape(-1, block_size)
    peak = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))
    scale = peak / -8.0
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return ((blocks / scale).round().clamp(-8, 7) * scale).reshape(weight.shape)


class Network(nn.Module):
    """The weights of a Llama with tied embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, shape.hidden) * 0.05)
        self.layers = nn.ModuleList(_layer(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))

    @torch.no_grad()
    def weights(self, block_size: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Return detached weights; ``block_size`` above 0 rounds every matrix to int4."""
        rounded = {}
        for name, weight in self.named_parameters():
            is_rounded = block_size > 0 and weight.ndim == 2
            rounded[name] = (rounded_to_int4(weight, block_size) if is_rounded else weight.clone()).to(dtype)
        return rounded

    def export(self) -> dict[str, Tensor]:
        """Return the weights by the names that transformers' Llama uses."""
        weights = {"model.embed_tokens.weight": self.embedding, "model.norm.weight": self.norm}
        for index, layer in enumerate(self.layers):
            for ours, theirs in _THEIR_NAMES.items():
                weights[f"model.layers.{index}.{theirs}.weight"] = layer[ours]
        return {name: weight.detach().float().contiguous().clone() for name, weight in weights.items()}


def logits(shape: Shape, weights: Weights, tokens: Tensor, chosen: Tensor) -> Tensor:
    """Return logits ``(chosen positions, vocabulary)`` for right-padded ``tokens`` ``(batch, length)``.

    ``chosen`` are positions in the flattened batch: the loss needs few of them. The residual stream
    is float32; products are in the dtype of the weights.
    """
    x = functional.embedding(tokens, weights["embedding"]).float()
    angles = _angles(shape, tokens.shape[1], weights["embedding"].dtype)
    for index in range(shape.layers):
        x = _block(shape, weights, f"layers.{index}.", x, angles)
    x = x.reshape(-1, shape.hidden)[chosen]
    return functional.linear(_norm(x, weights["norm"]), weights["embedding"]).float()


def _layer(shape: Shape) -> nn.ParameterDict:
    hidden, queries, keys = shape.hidden, shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    deep = (2 * shape.layers) ** -0.5  # keeps the residual stream's variance flat in depth
    layer = nn.ParameterDict(
        {
            "norm_attention": nn.Parameter(torch.ones(hidden)),
            "norm_mlp": nn.Parameter(torch.ones(hidden)),
            "query": _matrix(queries, hidden),
            "key": _matrix(keys, hidden),
            "value": _matrix(keys, hidden),
            "output": _matrix(hidden, queries, deep),
            "gate": _matrix(shape.intermediate, hidden),
            "up": _matrix(shape.intermediate, hidden),
            "down": _matrix(hidden, shape.intermediate, deep),
        }
    )
    _incline_to_copy(shape, layer)
    return layer


@torch.no_grad()
def _incline_to_copy(shape: Shape, layer: nn.ParameterDict) -> None:
    """Start each head near "pass on what you attend to", and every second one near "attend to the same token".

    After "Mimetic initialization of self-attention layers" (Trockman and Kolter, 2023); copying is most of this task.
    """
    for head in range(shape.heads):
        here = slice(head * shape.head_size, (head + 1) * shape.head_size)
        shared = head * shape.kv_heads // shape.heads
        keys = slice(shared * shape.head_size, (shared + 1) * shape.head_size)
        layer["output"][:, here] = 0.4 * layer["value"][keys].T
        if head % 2 == 0:
            layer["query"][here] = layer["key"][keys]


def _matrix(rows: int, columns: int, gain: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) * columns**-0.5 * gain)


def _block(shape: Shape, weights: Weights, layer: str, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Attention with grouped keys, then a gated MLP, each with a norm before it."""
    batch, length, _ = x.shape
    y = _norm(x, weights[layer + "norm_attention"])
    joined = functional.linear(y, torch.cat([weights[layer + name] for name in ("query", "key", "value")]))
    heads = joined.view(batch, length, -1, shape.head_size).transpose(1, 2)
    turning, value = heads.split([shape.heads + shape.kv_heads, shape.kv_heads], dim=1)
    query, key = _rotate(turning, angles).split([shape.heads, shape.kv_heads], dim=1)
    repeats = shape.heads // shape.kv_heads
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    x = x + functional.linear(mixed.transpose(1, 2).reshape(batch, length, -1), weights[layer + "output"])
    y = _norm(x, weights[layer + "norm_mlp"])
    gate = functional.silu(functional.linear(y, weights[layer + "gate"]))
    return x + functional.linear(gate * functional.linear(y, weights[layer + "up"]), weights[layer + "down"])


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], weight.float(), 1e-6).to(weight.dtype)


def _angles(shape: Shape, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    half = shape.head_size // 2
    frequencies = shape.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = angles
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
