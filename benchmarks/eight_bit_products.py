"""Ways to multiply 8-bit activations by few-bit weights on this processor: time and relative error of each.

    python -m benchmarks.eight_bit_products [--inputs 1024] [--outputs 2816] [--rounds 12]

One matrix of normal weights, activations with outliers, one thread; the ways alternate. Figures: docs/decisions/0024.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from foundry_lite.conversion.quantize.blocks import quantize_blocks, quantize_columns
from foundry_lite.machine import find_kernels, saturates

ROWS = (1, 16, 128, 512)
_Floats: TypeAlias = NDArray[np.float32]
_Made: TypeAlias = tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]
_Choose: TypeAlias = Callable[[_Floats], tuple[NDArray[np.int8], _Floats]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--inputs", 1024), ("--outputs", 2816), ("--rounds", 12)):
        parser.add_argument(name, type=int, default=default)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    weight = random.standard_normal((given.inputs, given.outputs), np.float32) * np.float32(0.02)
    batches = [_activations(random, rows, given.inputs) for rows in ROWS]
    kernels = find_kernels()
    print(
        f"{kernels}{', 8-bit sums saturate' if saturates(kernels) else ''}; onnxruntime {ort.__version__}, one thread"
    )
    sessions = {name: _session(make(weight), given) for name, make in WAYS.items()}
    times: dict[str, list[list[float]]] = {name: [[] for _ in ROWS] for name in sessions}
    errors: dict[str, float] = {}
    for _ in range(given.rounds):
        for name, session in sessions.items():
            for at, batch in enumerate(batches):
                began = time.perf_counter()
                (out,) = session.run(None, {"x": batch})
                times[name][at].append(time.perf_counter() - began)
                exact = batch.astype(np.float64) @ weight
                errors[name] = float(np.linalg.norm(out - exact) / np.linalg.norm(exact))  # of the largest batch
    print(f"{'way':<28}", *(f"{rows:>4} rows, us" for rows in ROWS), "  relative error")
    for name in sessions:
        print(f"{name:<28}", *(f"{np.median(one) * 1e6:13.0f}" for one in times[name]), f"{errors[name]:16.4f}")


def _activations(random: np.random.Generator, rows: int, width: int) -> _Floats:
    outliers = random.random((rows, width)) < 0.002
    return (random.standard_normal((rows, width)) * np.where(outliers, 6, 1)).astype(np.float32)


def _session(nodes: _Made, given: argparse.Namespace) -> ort.InferenceSession:
    made, constants = nodes
    graph = helper.make_graph(
        made,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", given.inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", given.outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _floats(weight: _Floats) -> _Made:
    return [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}


def _blocks(bits: int, block: int) -> Callable[[_Floats], _Made]:
    def make(weight: _Floats) -> _Made:
        made = quantize_blocks(weight, bits, block, symmetric=True)
        inputs, outputs = weight.shape
        node = helper.make_node(
            "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft",
            K=inputs, N=outputs, bits=bits, block_size=block, accuracy_level=4,
        )  # fmt: skip
        return [node], {"w": made.packed, "s": made.scales.reshape(-1)}

    return make


def _bytes(choose: _Choose, *, signed: bool = True) -> Callable[[_Floats], _Made]:
    def make(weight: _Floats) -> _Made:
        packed, scales = choose(weight)
        zero = np.array(0, np.int8) if signed else np.array(128, np.uint8)
        values = packed if signed else (packed.astype(np.int16) + 128).astype(np.uint8)
        constants = {
            "w": values, "wz": zero, "ws": scales, "middle": np.array(128, np.uint8), "one": np.array(1, np.float32),
            "step": np.array(1 / 127, np.float32), "axis": np.array([-1], np.int64),
        }  # fmt: skip
        nodes = [
            helper.make_node("Abs", ["x"], ["magnitude"]),
            helper.make_node("ReduceMax", ["magnitude", "axis"], ["far"], keepdims=1),
            helper.make_node("Mul", ["far", "step"], ["scale"]),
            helper.make_node("Div", ["x", "scale"], ["scaled"]),
            helper.make_node("QuantizeLinear", ["scaled", "one", "middle"], ["a"]),
            helper.make_node(
                "MatMulIntegerToFloat", ["a", "w", "one", "ws", "middle", "wz"], ["p"], domain="com.microsoft"
            ),
            helper.make_node("Mul", ["p", "scale"], ["y"]),
        ]
        return nodes, constants

    return make


def _full_scale(largest: int) -> _Choose:
    def choose(weight: _Floats) -> tuple[NDArray[np.int8], _Floats]:
        scales = np.abs(weight).max(0) / np.float32(largest)
        return np.rint(weight / scales).astype(np.int8), scales

    return choose


WAYS: dict[str, Callable[[_Floats], _Made]] = {
    "float32": _floats,
    "signed, 8 bits": _bytes(_full_scale(127)),
    "signed, 7 bits": _bytes(_full_scale(64)),
    "signed, pairs within 128": _bytes(quantize_columns),
    "unsigned, 8 bits": _bytes(_full_scale(127), signed=False),
    "MatMulNBits int8, block 32": _blocks(8, 32),
    "MatMulNBits int4, block 32": _blocks(4, 32),
    "MatMulNBits int4, block 128": _blocks(4, 128),
}


if __name__ == "__main__":
    main()
