"""Llama as a plain ONNX graph of standard operators, with past key values: what optimum exports, written by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from foundry_lite.conversion.formats.safetensors import read_arrays


def write_plain_onnx(
    source: Path,
    target: Path,
    *,
    graph_name: str = "model.onnx",
    external: str | None = None,
    merged: bool = False,
    counted: bool = False,
) -> Path:
    """Write the Llama folder ``source`` as a folder with a graph; ``external`` is the name of a file for its weights.

    ``merged`` gives it two branches and the input that chooses one; a wrong choice adds 100 to every logit. ``counted``
    gives it the input that says how many positions get logits.
    """
    config = json.loads((source / "config.json").read_bytes())
    path = target / graph_name
    path.parent.mkdir(parents=True)
    for one in source.iterdir():
        if one.suffix != ".safetensors":
            shutil.copyfile(one, target / one.name)
    model = _Llama(config, read_arrays(source / "model.safetensors"), merged=merged, counted=counted).model()
    if external is None:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=1024)
    return target


class _Llama:
    def __init__(
        self, config: dict[str, Any], weights: dict[str, NDArray[Any]], *, merged: bool, counted: bool
    ) -> None:
        self._config = config
        self._weights = weights
        self._merged = merged
        self._counted = counted
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._size = config["head_dim"]

    def model(self) -> onnx.ModelProto:
        """Return the whole graph."""
        layers = range(self._config["num_hidden_layers"])
        x = self._op("Gather", self._weight("model.embed_tokens.weight"), "input_ids")
        turns, mask = self._angles(), self._mask()
        for layer in layers:
            x = self._layer(layer, x, turns, mask)
        x = self._norm(x, "model.norm.weight")
        if self._counted:
            start = self._op("Neg", self._op("Unsqueeze", "num_logits_to_keep", self._ints(0)))
            x = self._op("Slice", x, start, self._ints(1 << 40), self._ints(1))
        logits = self._op("MatMul", x, self._weight("lm_head.weight", turned=True))
        logits = self._op("Add", logits, self._branch()) if self._merged else logits
        self._nodes.append(helper.make_node("Identity", [logits], ["logits"]))
        heads, vocabulary = self._config["num_key_value_heads"], self._config["vocab_size"]
        caches = [(i, kind) for i in layers for kind in ("key", "value")]
        past, present = (["batch", heads, length, self._size] for length in ("past", "total"))
        graph = helper.make_graph(
            self._nodes,
            "plain",
            [
                *(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", length])
                  for name, length in (("input_ids", "sequence"), ("attention_mask", "total"),
                                       ("position_ids", "sequence"))),
                *(helper.make_tensor_value_info(f"past_key_values.{i}.{kind}", TensorProto.FLOAT, past)
                  for i, kind in caches),
                *([helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])] * self._merged),
                *([helper.make_tensor_value_info("num_logits_to_keep", TensorProto.INT64, [])] * self._counted),
            ],
            [
                helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", vocabulary]),
                *(helper.make_tensor_value_info(f"present.{i}.{kind}", TensorProto.FLOAT, present)
                  for i, kind in caches),
            ],
            [numpy_helper.from_array(value, name) for name, value in self._constants.items()],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

    def _layer(self, layer: int, x: str, turns: tuple[str, str], mask: str) -> str:
        stem, config = f"model.layers.{layer}", self._config
        inner = self._norm(x, f"{stem}.input_layernorm.weight")
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        query, key, value = (
            self._op("Transpose", self._op("Reshape", self._dense(inner, f"{stem}.self_attn.{name}.weight"),
                                           self._ints(0, 0, number, self._size)), perm=[0, 2, 1, 3])
            for name, number in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads))
        )  # fmt: skip
        query, key = self._turn(query, turns), self._turn(key, turns)
        key = self._op("Concat", f"past_key_values.{layer}.key", key, axis=2, to=f"present.{layer}.key")
        value = self._op("Concat", f"past_key_values.{layer}.value", value, axis=2, to=f"present.{layer}.value")
        shared = self._ints(*np.repeat(np.arange(kv_heads), heads // kv_heads))
        key, value = (self._op("Gather", one, shared, axis=1) for one in (key, value))
        scores = self._op("MatMul", query, self._op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self._op("Add", self._op("Mul", scores, self._float(self._size**-0.5)), mask)
        seen = self._op("MatMul", self._op("Softmax", scores, axis=-1), value)
        seen = self._op("Reshape", self._op("Transpose", seen, perm=[0, 2, 1, 3]), self._ints(0, 0, heads * self._size))
        x = self._op("Add", x, self._dense(seen, f"{stem}.self_attn.o_proj.weight"))
        inner = self._norm(x, f"{stem}.post_attention_layernorm.weight")
        gate, up = (self._dense(inner, f"{stem}.mlp.{name}.weight") for name in ("gate_proj", "up_proj"))
        gate = self._op("Mul", gate, self._op("Sigmoid", gate))
        return self._op("Add", x, self._dense(self._op("Mul", gate, up), f"{stem}.mlp.down_proj.weight"))

    def _norm(self, x: str, weight: str) -> str:
        mean = self._op("ReduceMean", self._op("Mul", x, x), self._ints(-1))
        root = self._op("Sqrt", self._op("Add", mean, self._float(self._config["rms_norm_eps"])))
        return self._op("Mul", self._op("Div", x, root), self._weight(weight))

    def _angles(self) -> tuple[str, str]:
        theta = self._config["rope_parameters"]["rope_theta"]
        steps = (theta ** (-np.arange(0, self._size, 2) / self._size)).astype(np.float32)
        positions = self._op("Cast", self._op("Unsqueeze", "position_ids", self._ints(1, 3)), to_type=TensorProto.FLOAT)
        half = self._op("Mul", positions, self._constant(steps))
        whole = self._op("Concat", half, half, axis=-1)
        return self._op("Cos", whole), self._op("Sin", whole)

    def _turn(self, x: str, turns: tuple[str, str]) -> str:
        half = self._size // 2
        first = self._op("Slice", x, self._ints(0), self._ints(half), self._ints(3))
        second = self._op("Slice", x, self._ints(half), self._ints(self._size), self._ints(3))
        turned = self._op("Concat", self._op("Neg", second), first, axis=-1)
        return self._op("Add", self._op("Mul", x, turns[0]), self._op("Mul", turned, turns[1]))

    def _mask(self) -> str:
        zero, one = self._constant(np.array(0, np.int64)), self._constant(np.array(1, np.int64))
        past = self._past()
        total = self._op("Gather", self._op("Shape", "attention_mask"), one)
        columns = self._op("Unsqueeze", self._op("Range", zero, total, one), self._ints(0))
        rows = self._op("Unsqueeze", self._op("Range", past, total, one), self._ints(1))
        causal = self._op("LessOrEqual", columns, rows)
        real = self._op("Cast", self._op("Unsqueeze", "attention_mask", self._ints(1, 2)), to_type=TensorProto.BOOL)
        return self._op("Where", self._op("And", causal, real), self._float(0.0), self._float(-1e9))

    def _past(self) -> str:
        return self._op("Gather", self._op("Shape", "past_key_values.0.key"), self._constant(np.array(2, np.int64)))

    def _branch(self) -> str:
        """Return 0, or 100 when the wrong branch was taken."""
        is_new = self._op("Equal", self._past(), self._constant(np.array(0, np.int64)))
        right = {"then": self._op("Not", is_new), "else": is_new}
        branches = {
            f"{name}_branch": helper.make_graph(
                [helper.make_node("Where", [is_right, self._float(0.0), self._float(100.0)], [f"{name}_out"])],
                name, [], [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [])],
            )
            for name, is_right in right.items()
        }  # fmt: skip
        return self._op("If", "use_cache_branch", **branches)

    def _dense(self, x: str, weight: str) -> str:
        return self._op("MatMul", x, self._weight(weight, turned=True))

    def _weight(self, name: str, *, turned: bool = False) -> str:
        value = self._weights[name]
        self._constants[name] = np.ascontiguousarray(value.T) if turned else value
        return name

    def _ints(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64))

    def _float(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants[name] = value
        return name

    def _op(self, kind: str, *inputs: str, to: str | None = None, to_type: int | None = None, **attributes: Any) -> str:
        name = to or f"{kind}_{len(self._nodes)}"
        if to_type is not None:
            attributes["to"] = to_type
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=f"/{name}", **attributes))
        return name
