"""Base class of the decoder architectures that onnxruntime-genai's builder lacks, derived from its own.

These make the same graphs as the builder's families, with ``GroupQueryAttention``, so our runner batches them. A layer
is written as plain nodes (norms, sums); onnxruntime fuses them when it loads the graph. Everything that a module of
transformers knows is read from it: the kind of a norm, its epsilon, biases, rotary tables.
"""

from __future__ import annotations

from typing import Any

from onnxruntime_genai.models.builder import Model

from foundry_lite.conversion.torch_scripts.genai_builder.nodes import add_head_norm, add_linear, add_norm, add_sum

_PAIRS = (("c_fc", "c_proj"), ("dense_h_to_4h", "dense_4h_to_h"))  # names of the two products of an MLP without a gate


class Decoder(Model):  # type: ignore[misc]  # the builder has no types
    """A decoder whose layers add to a stream of hidden states: first the attention, then the MLP."""

    attention, norms = "self_attn", ("input_layernorm", "post_attention_layernorm")
    layer, final = "DecoderLayer", "model.norm"
    is_parallel = False  # whether both see the same hidden states

    def make_layer(self, layer_id: int, layer: Any) -> None:
        hidden = self.layernorm_attrs["root_input"]
        self.layernorm_attrs["root_input"] = self.step(f"/model/layers.{layer_id}", layer_id, layer, hidden)

    def step(self, name: str, layer_id: int, layer: Any, hidden: str) -> str:
        """Add one layer; return the name of the hidden states after it."""
        norms = [getattr(layer, one, None) for one in self.norms]
        first = add_norm(self, f"{name}/{self.norms[0]}", norms[0], hidden)
        attended = self.attend(layer_id, getattr(layer, self.attention), first)
        if self.is_parallel:
            second = add_norm(self, f"{name}/{self.norms[1]}", norms[1], hidden) if norms[1] is not None else first
            fed = self.feed(layer_id, layer.mlp, second)
            return add_sum(self, f"{name}/Add_2", add_sum(self, f"{name}/Add_1", hidden, attended), fed)
        hidden = add_sum(self, f"{name}/Add_1", hidden, attended)
        second = add_norm(self, f"{name}/{self.norms[1]}", norms[1], hidden)
        return add_sum(self, f"{name}/Add_2", hidden, self.feed(layer_id, layer.mlp, second))

    def attend(self, layer_id: int, attention: Any, root_input: str) -> str:
        """Add the attention; return the name of its result."""
        self.make_attention(layer_id, self.unpacked(attention), root_input=root_input)
        return str(self.layernorm_attrs["skip_input"])

    def unpacked(self, attention: Any) -> Any:
        """Return an attention with ``q_proj``, ``k_proj``, ``v_proj`` and ``o_proj``."""
        return attention

    def feed(self, layer_id: int, mlp: Any, root_input: str) -> str:
        """Add the MLP; return the name of its result."""
        pair = next((names for names in _PAIRS if hasattr(mlp, names[0])), None)
        if pair is None:
            self.make_mlp(layer_id, mlp, root_input)
            return str(self.mlp_attrs["output_0"])
        name = f"/model/layers.{layer_id}/mlp"
        inner = add_linear(self, getattr(mlp, pair[0]), f"{name}/up_proj", root_input)
        active = f"{self.make_activation(layer_id, root_input=inner)}/output_0"
        return add_linear(self, getattr(mlp, pair[1]), f"{name}/down_proj", active)

    def norm_heads(self, layer_id: int, weights: list[Any], epsilon: float) -> None:
        """Norm each head of queries and keys with weights of its own, ``(heads, size)``."""
        for path, weight in zip(("q_path", "k_path"), weights, strict=True):
            name = f"/model/layers.{layer_id}/attn/{path[0]}_norm"
            self.attention_attrs[path] = add_head_norm(self, name, weight, epsilon, self.attention_attrs[path])

    def make_layernorm(self, layer_id: int, norm: Any, **_more: Any) -> None:
        """Add the last norm: all others are added by `step`."""
        hidden = self.layernorm_attrs["root_input"]
        self.layernorm_attrs["output_0"] = add_norm(self, "/model/norm", norm, hidden)

    def is_layer(self, module: Any) -> bool:
        return type(module).__name__.endswith(self.layer)

    def has_final_norm(self, module: Any, model: Any) -> bool:
        return module is model.get_submodule(self.final)
