"""Numbers in bytes: what is packed is what onnxruntime's kernels multiply with."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from foundry_lite.conversion.quantize.blocks import Blocks, pack_blocks, quantize_blocks, restore


def multiply(given: NDArray[np.float32], blocks: Blocks, bits: int, block: int, inputs: int) -> NDArray[np.float32]:
    """Multiply with `MatMulNBits`, activations in float32."""
    constants = {"b": blocks.packed, "scales": blocks.scales}
    if blocks.zeros is not None:
        constants["zeros"] = blocks.zeros
    node = helper.make_node(
        "MatMulNBits", ["a", *constants], ["y"], domain="com.microsoft",
        K=inputs, N=len(blocks.scales), bits=bits, block_size=block, accuracy_level=1,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["rows", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", len(blocks.scales)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("com.microsoft", 1)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    product: NDArray[np.float32] = session.run(None, {"a": given})[0]
    return product


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_kernels_multiply_with_what_restore_returns(bits: int, block: int, symmetric: bool) -> None:
    """80 and 336 inputs are no whole number of blocks, and 3 blocks no whole number of bytes."""
    random = np.random.default_rng(bits + block)
    for inputs in (80, 336):
        weight = random.standard_normal((inputs, 24), np.float32)
        blocks = quantize_blocks(weight, bits, block, symmetric=symmetric)
        given = random.standard_normal((3, inputs), np.float32)
        expected = given @ restore(blocks, bits)[:inputs]
        assert multiply(given, blocks, bits, block, inputs) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_packed_numbers_come_back(bits: int, blocks: int) -> None:
    random = np.random.default_rng(0)
    numbers = random.integers(0, 1 << bits, (5, blocks, 16), np.uint8)
    scales = random.random((5, blocks), np.float32) + 0.5
    zeros = random.integers(0, 1 << bits, (5, blocks), np.uint8)
    expected = (numbers.astype(np.float32) - zeros[..., None]) * scales[..., None]
    assert np.array_equal(restore(pack_blocks(numbers, scales, zeros, bits), bits), expected.reshape(5, -1).T)
