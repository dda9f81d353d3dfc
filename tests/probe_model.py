"""The decoder that execution providers are tried with; ``python -m tests.probe_model`` writes it into the package.

A cache that really grows, plain operators, small integers: its logits are exact on every device, and known.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from foundry_lite.engine.runners.providers import PROBE

_VOCABULARY = _WIDTH = 8


def files() -> dict[str, bytes]:
    """Return the files by their names."""
    config = {
        "model": {
            "type": "llama",
            "vocab_size": _VOCABULARY,
            "context_length": 64,
            "bos_token_id": 0,
            "eos_token_id": 7,
            "pad_token_id": 0,
            "decoder": {
                "filename": "model.onnx",
                "head_size": _WIDTH,
                "hidden_size": _WIDTH,
                "num_attention_heads": 1,
                "num_hidden_layers": 1,
                "num_key_value_heads": 1,
                "inputs": {
                    "input_ids": "input_ids",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {"max_length": 64, "past_present_share_buffer": False},
    }
    return {
        "genai_config.json": json.dumps(config, indent=1).encode() + b"\n",
        "model.onnx": _graph().SerializeToString(deterministic=True),
    }


def _graph() -> onnx.ModelProto:
    numbers = np.arange(_VOCABULARY, dtype=np.float32)
    constants = {
        "embedding": np.repeat(numbers[:, None], _WIDTH, axis=1),
        "table": np.repeat((numbers + 1)[None] / _WIDTH, _WIDTH, axis=0),
        "axis_1": np.array([1], np.int64),
        "axis_2": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["embedded"]),
        helper.make_node("Unsqueeze", ["embedded", "axis_1"], ["state"]),
        helper.make_node("Concat", ["past_key_values.0.key", "state"], ["present.0.key"], axis=2),
        helper.make_node("Concat", ["past_key_values.0.value", "state"], ["present.0.value"], axis=2),
        helper.make_node("Add", ["present.0.key", "present.0.value"], ["twice"]),
        helper.make_node("Sub", ["twice", "present.0.key"], ["once"]),
        helper.make_node("ReduceSum", ["once", "axis_2"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["sum", "table"], ["logits"]),
    ]

    def cache(name: str, length: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, length, _WIDTH])

    graph = helper.make_graph(
        nodes,
        "probe",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"]),
            cache("past_key_values.0.key", "past"),
            cache("past_key_values.0.value", "past"),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, _VOCABULARY]),
            cache("present.0.key", "total"),
            cache("present.0.value", "total"),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write(folder: Path = PROBE) -> None:
    """Write the files."""
    folder.mkdir(exist_ok=True)
    for name, content in files().items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    write()
