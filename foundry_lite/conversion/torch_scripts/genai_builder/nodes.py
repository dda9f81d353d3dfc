"""Nodes that several families need, added to a graph that onnxruntime-genai's builder is making."""

from __future__ import annotations

from typing import Any

import torch


def add_norm(model: Any, name: str, norm: Any, root_input: str) -> str:
    """Add a norm of hidden states, with or without a mean and a bias as the module has it; return its result's name."""
    kind = "SimplifiedLayerNormalization" if "RMS" in type(norm).__name__ else "LayerNormalization"
    inputs = [root_input, f"{name[1:].replace('/', '.')}.weight"]
    model.make_initializer(norm.weight.float(), inputs[1])
    bias = getattr(norm, "bias", None)
    if kind == "LayerNormalization":
        inputs.append(f"{name[1:].replace('/', '.')}.bias")
        model.make_initializer((torch.zeros_like(norm.weight) if bias is None else bias).float(), inputs[2])
    out = f"{name}/output_0"
    model.make_node(
        kind, inputs=inputs, outputs=[out], name=name, epsilon=epsilon_of(norm, 1e-5), axis=-1, stash_type=1
    )
    model.make_value(out, model.io_dtype, shape=model.make_hidden_state_shape(last_dim=norm.weight.shape[0]))
    return out


def add_head_norm(model: Any, name: str, weight: Any, epsilon: float, root_input: str) -> str:
    """Add a norm with a mean of each head, ``weight`` of ``(heads, size)``; return the name of its result."""
    heads, size = weight.shape
    base = name[1:].replace("/", ".")
    shape = ["batch_size", "sequence_length", heads, size]
    model.make_initializer(weight.float(), f"{base}.weight")
    model.make_initializer(torch.ones(size), f"{base}.ones")
    apart = [root_input, f"/model/constants/INT64/[0, 0, {heads}, {size}]"]
    model.make_reshape(f"{name}/Reshape_1", apart, dtype=model.io_dtype, shape=shape)
    inputs, out = [f"{name}/Reshape_1/output_0", f"{base}.ones"], f"{name}/LayerNormalization"
    model.make_node(
        "LayerNormalization", inputs=inputs, outputs=[f"{out}/output_0"], name=out, epsilon=epsilon, axis=-1
    )
    model.make_value(f"{out}/output_0", model.io_dtype, shape=shape)
    model.make_mul(f"{name}/Mul", [f"{out}/output_0", f"{base}.weight"], dtype=model.io_dtype, shape=shape)
    together = [f"{name}/Mul/output_0", f"/model/constants/INT64/[0, 0, {heads * size}]"]
    model.make_reshape(f"{name}/Reshape_2", together, dtype=model.io_dtype, shape=[*shape[:2], heads * size])
    return f"{name}/Reshape_2/output_0"


def epsilon_of(norm: Any, usual: float) -> float:
    """Return a norm's epsilon under any of its names."""
    if type(norm).__name__ == "OlmoLayerNorm":
        return 1e-5  # a number in the code of its forward()
    return float(getattr(norm, "variance_epsilon", getattr(norm, "eps", usual)))


def add_linear(model: Any, linear: Any, name: str, root_input: str) -> str:
    """Add a product, and its bias if there is one; return the name of the result."""
    out = f"{model.make_matmul(linear, f'{name}/MatMul', root_input)}/output_0"
    if getattr(linear, "bias", None) is None:
        return out
    model.make_add_bias(linear.bias, f"{name}/Add", root_input=out)
    return f"{name}/Add/output_0"


def norm_qk(model: Any, layer_id: int, attention: Any) -> None:
    """Norm all queries of an attention together, and all its keys."""
    for path, norm in (("q_path", attention.q_norm), ("k_path", attention.k_norm)):
        name = f"/model/layers.{layer_id}/attn/{path[0]}_norm"
        model.attention_attrs[path] = add_norm(model, name, norm, model.attention_attrs[path])


def clip_qkv(model: Any, layer_id: int, limit: float | None) -> None:
    """Clip queries, keys and values to ``-limit`` … ``limit``, packed or not; ``None`` clips nothing."""
    for path in ("q_path", "k_path", "v_path"):
        if limit is None or not model.attention_attrs[path]:
            continue
        name = f"/model/layers.{layer_id}/attn/{path[0]}_clip"
        bounds = [f"/model/constants/FLOAT/{bound}" for bound in (-float(limit), float(limit))]
        model.make_clip(name, [model.attention_attrs[path], *bounds], dtype=model.io_dtype, shape=None)
        model.attention_attrs[path] = f"{name}/output_0"


def add_sum(model: Any, name: str, *terms: str) -> str:
    """Add a sum of hidden states; return the name of the result."""
    model.make_add(name, list(terms), dtype=model.io_dtype, shape=model.make_hidden_state_shape())
    return f"{name}/output_0"


def add_product(model: Any, name: str, *factors: str) -> str:
    """Add an elementwise product of hidden states; return the name of the result."""
    model.make_mul(name, list(factors), dtype=model.io_dtype, shape=model.make_hidden_state_shape())
    return f"{name}/output_0"
