"""The integers that a source came with, in the layout of the kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from foundry_lite.conversion.quantize.blocks import quantize_blocks
from foundry_lite.conversion.quantize.source_grid import Grid, Lattice, pack, read_grid, write_grid
from foundry_lite.errors import BuildFailed

LAYER = "model.layers.3"


def unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The other way round, written down from the documentation of MatMulNBits."""
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)


def lattice_of(
    bits: int, block: int, outputs: int, inputs: int, *, symmetric: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.uint8], Lattice]:
    """A random weight (inputs, outputs), its integers (outputs, blocks, block), and its lattice."""
    random = np.random.default_rng(bits * 1000 + block)
    blocks = -(-inputs // block)
    scales = random.standard_normal((outputs, blocks)).astype(np.float16).astype(np.float32)
    zeros = None if symmetric else random.integers(0, 1 << bits, (outputs, blocks)).astype(np.uint8)
    whole = random.integers(0, 1 << bits, (outputs, blocks, block)).astype(np.uint8)
    middle = np.float32(1 << (bits - 1)) if zeros is None else zeros[:, :, None].astype(np.float32)
    rows = (scales[:, :, None] * (whole.astype(np.float32) - middle)).reshape(outputs, -1)[:, :inputs]
    return np.ascontiguousarray(rows.T), whole, Lattice(bits, block, scales, zeros)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "block"), [(4, 16), (4, 32), (4, 128), (8, 32), (8, 256)])
def test_every_integer_is_the_one_it_was(bits: int, block: int, symmetric: bool) -> None:
    weight, whole, lattice = lattice_of(bits, block, outputs=6, inputs=3 * block, symmetric=symmetric)
    packed, scales, zeros = pack(weight, lattice)
    assert packed.shape == (6, 3, block * bits // 8)
    assert np.array_equal(unpack(packed, bits), whole)
    assert np.array_equal(scales, lattice.scales)
    if lattice.zeros is None:
        assert zeros is None
    else:
        assert zeros is not None
        assert np.array_equal(unpack(zeros, bits)[:, :3], lattice.zeros)


def test_the_layout_is_that_of_the_quantizer() -> None:
    weight = np.random.default_rng(0).standard_normal((96, 8), np.float32)
    made = quantize_blocks(weight, 4, 32, symmetric=False)
    assert made.zeros is not None
    zeros = unpack(made.zeros, 4)[:, :3]
    whole = unpack(made.packed, 4).astype(np.float32) - zeros[:, :, None]
    floats = np.ascontiguousarray((made.scales[:, :, None] * whole).reshape(8, 96).T)
    packed, _, again = pack(floats, Lattice(4, 32, made.scales, zeros))
    assert np.array_equal(packed, made.packed)
    assert again is not None
    assert np.array_equal(again, made.zeros)


def test_inputs_that_fill_no_whole_block_are_filled_up() -> None:
    weight, whole, lattice = lattice_of(4, 32, outputs=4, inputs=40)
    packed, _, _ = pack(weight, lattice)
    assert np.array_equal(unpack(packed, 4).reshape(4, 64)[:, :40], whole.reshape(4, 64)[:, :40])
    assert (unpack(packed, 4).reshape(4, 64)[:, 40:] == 8).all()


def test_a_block_without_weights_has_a_scale_of_zero() -> None:
    lattice = Lattice(4, 32, np.zeros((2, 1), np.float32), None)
    packed, _, _ = pack(np.zeros((32, 2), np.float32), lattice)
    assert (packed == 0x88).all()


def test_a_weight_that_is_not_on_the_lattice_is_never_rounded() -> None:
    weight, _, lattice = lattice_of(4, 32, outputs=4, inputs=64)
    weight[5, 2] += 0.3 * abs(lattice.scales[2, 0])
    with pytest.raises(BuildFailed, match="away from the integers"):
        pack(weight, lattice)


def test_a_weight_beyond_its_bits_is_refused() -> None:
    _, _, lattice = lattice_of(4, 32, outputs=1, inputs=32)
    with pytest.raises(BuildFailed, match="more than the 4 bits"):
        pack(np.full((32, 1), lattice.scales[0, 0] * 9, np.float32), lattice)


def test_scales_of_another_shape_are_refused() -> None:
    weight, _, lattice = lattice_of(4, 32, outputs=4, inputs=64)
    with pytest.raises(BuildFailed, match="64 x 3"):
        pack(weight[:, :3], lattice)
    with pytest.raises(BuildFailed, match="32 x 4"):
        pack(weight[:32], lattice)


def grid_of(tmp_path: Path) -> Grid:
    """A grid as `prepare` leaves it, read back from its file."""
    parts = {name: lattice_of(4, 32, 4, 64)[2] for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    asymmetric = lattice_of(4, 32, 8, 64, symmetric=False)[2]
    lattices = {f"{LAYER}.self_attn.{name}.weight": one for name, one in parts.items()}
    lattices[f"{LAYER}.mlp.gate_proj.weight"] = asymmetric
    lattices[f"{LAYER}.mlp.up_proj.weight"] = lattice_of(4, 32, 8, 64)[2]
    lattices["model.layers.4.self_attn.q_proj.weight"] = parts["q_proj"]
    lattices["model.layers.4.self_attn.k_proj.weight"] = lattice_of(8, 32, 4, 64)[2]
    lattices["model.layers.4.self_attn.v_proj.weight"] = parts["v_proj"]
    lattices["model.embed_tokens.weight"] = lattice_of(8, 32, 100, 64)[2]
    write_grid(tmp_path, lattices)
    grid = read_grid(tmp_path)
    assert grid is not None
    return grid


def test_lattices_are_found_by_the_names_of_nodes(tmp_path: Path) -> None:
    grid = grid_of(tmp_path)
    query = grid.find("/model/layers.3/attn/q_proj/MatMul")
    assert query is not None
    assert np.array_equal(query.scales, lattice_of(4, 32, 4, 64)[2].scales)
    assert (query.bits, query.block_size, query.zeros) == (4, 32, None)
    fused = grid.find("/model/layers.3/attn/qkv_proj/MatMul")
    assert fused is not None
    assert np.array_equal(fused.scales, np.concatenate([query.scales] * 3))
    assert grid.find("/model/layers.3/mlp/down_proj/MatMul") is None
    assert grid.find("/model/layers.30/attn/q_proj/MatMul") is None


def test_parts_with_and_without_zero_points_are_put_together(tmp_path: Path) -> None:
    fused = grid_of(tmp_path).find("/model/layers.3/mlp/gate_up_proj/MatMul")
    assert fused is not None
    assert fused.zeros is not None
    assert (fused.zeros[8:] == 8).all()
    gate = lattice_of(4, 32, 8, 64, symmetric=False)[2].zeros
    assert gate is not None
    assert np.array_equal(fused.zeros[:8], gate)


def test_parts_of_different_widths_have_no_lattice_together(tmp_path: Path) -> None:
    assert grid_of(tmp_path).find("/model/layers.4/attn/qkv_proj/MatMul") is None


def test_a_head_that_is_the_embedding_has_its_lattice(tmp_path: Path) -> None:
    grid = grid_of(tmp_path)
    head, embedding = grid.find("/lm_head/MatMul"), grid.find("/model/embed_tokens/Gather")
    assert head is not None
    assert embedding is not None
    assert head.bits == 8
    assert np.array_equal(head.scales, embedding.scales)


def test_a_folder_without_lattices_has_no_grid(tmp_path: Path) -> None:
    write_grid(tmp_path, {})
    assert read_grid(tmp_path) is None
