"""GPTQ and AWQ folders: what is kept, what is quantized again, and why some are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundry_lite.catalog.recipe import Algorithm, Precision, Recipe
from foundry_lite.conversion.checkpoint.unpack_gptq_awq import unpack
from foundry_lite.conversion.formats.safetensors import read_arrays, read_header
from foundry_lite.conversion.quantize.source_grid import pack, read_grid
from foundry_lite.conversion.sources import detect
from foundry_lite.conversion.sources.source_model import Kind
from foundry_lite.errors import DamagedWeights, NotAModel, SourceRejected, UnsupportedArchitecture
from tests.float_model import write_float_model
from tests.packed_model import write_packed
from tests.unit.safetensors_file import write_raw


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_float_model(tmp_path_factory.mktemp("float") / "source")


def settings(folder: Path, **changes: Any) -> None:
    """Change the quantization_config of a folder."""
    config = json.loads((folder / "config.json").read_bytes())
    config["quantization_config"] |= changes
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gptq", {}),
        ("gptq", {"symmetric": True}),
        ("gptq", {"v2": True, "group": 64}),
        ("gptq", {"bits": 8}),
        ("gptq", {"shuffled": True}),
        ("gptq", {"group": -1}),
        ("gptq", {"bits": 2}),
        ("awq", {}),
        ("awq", {"symmetric": True, "group": 16}),
    ],
    ids=str,
)
def test_the_floats_are_those_that_the_packed_numbers_stand_for(
    method: str, options: dict[str, Any], floats: Path, tmp_path: Path
) -> None:
    expected = write_packed(floats, tmp_path / "packed", method, **options)
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "packed", tmp_path / "out")
    made = read_arrays(tmp_path / "out" / "model.safetensors")
    assert made.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(made[name], array, err_msg=name)
    config = json.loads((tmp_path / "out" / "config.json").read_bytes())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"


@pytest.mark.parametrize(
    ("method", "options", "recipe"),
    [
        ("gptq", {}, Recipe(Precision.INT4, 32, symmetric=False, algorithm=Algorithm.KEPT, mixed=True)),
        ("gptq", {"symmetric": True, "group": 16}, Recipe(Precision.INT4, 16, algorithm=Algorithm.KEPT, mixed=True)),
        ("gptq", {"bits": 8, "group": 64}, Recipe(Precision.INT8, 64, symmetric=False, algorithm=Algorithm.KEPT)),
        ("awq", {}, Recipe(Precision.INT4, 32, symmetric=False, algorithm=Algorithm.KEPT, mixed=True)),
    ],
    ids=str,
)
def test_what_is_packed_is_kept(
    method: str, options: dict[str, Any], recipe: Recipe, floats: Path, tmp_path: Path
) -> None:
    write_packed(floats, tmp_path / "packed", method, **options)
    found = detect.inspect(tmp_path / "packed")
    assert found.kind is (Kind.GPTQ if method == "gptq" else Kind.AWQ)
    assert found.recipe == recipe
    assert found.weight_bits == recipe.precision.bits
    assert found.parameters == detect.inspect(floats).parameters
    assert found.notes == (
        f"its {found.weight_bits}-bit {method.upper()} weights are kept as they are (blocks of {recipe.block_size})",
    )
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "packed", tmp_path / "out")
    grid = read_grid(tmp_path / "out")
    assert grid is not None
    weights = read_arrays(tmp_path / "out" / "model.safetensors")
    for layer in range(2):
        lattice = grid.find(f"/model/layers.{layer}/attn/qkv_proj/MatMul")
        assert lattice is not None
        assert (lattice.zeros is None) is recipe.symmetric
        names = [f"model.layers.{layer}.self_attn.{name}.weight" for name in ("q_proj", "k_proj", "v_proj")]
        packed, _, _ = pack(np.concatenate([weights[name] for name in names]).T, lattice)  # or it would raise
        assert packed.shape[0] == 128
    assert grid.find("/lm_head/MatMul") is None


def test_a_scale_for_a_whole_column_is_a_block_where_the_kernels_have_one_so_long(floats: Path, tmp_path: Path) -> None:
    write_packed(floats, tmp_path / "packed", "gptq", group=-1)
    assert detect.inspect(tmp_path / "packed").notes == (
        "its 4-bit GPTQ weights are kept as they are (blocks of 64 and 128)",
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"shuffled": True}, "GPTQ took the inputs of a group from all over the matrix ('desc_act')"),
        ({"group": 48}, "their groups are not of 16, 32, 64, 128, 256 inputs"),
        ({"bits": 2}, "no kernel multiplies with so few bits"),
    ],
    ids=str,
)
def test_what_cannot_be_kept_is_quantized_again_and_said_so(
    options: dict[str, Any], why: str, floats: Path, tmp_path: Path
) -> None:
    write_packed(floats, tmp_path / "packed", "gptq", **options)
    found = detect.inspect(tmp_path / "packed")
    assert found.recipe is None
    assert found.notes[0].endswith(f"made floats and quantized again, 14 of 14 matrices: {why}")
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "packed", tmp_path / "out")
    assert read_grid(tmp_path / "out") is None


@pytest.mark.parametrize(
    ("method", "changes", "says"),
    [
        ("gptq", {"bits": 3}, "packed by GPTQ with 3 bits"),
        ("gptq", {"bits": "four"}, "packed by GPTQ with 'four' bits"),
        ("awq", {"bits": 8}, "packed by AWQ with 8 bits in the packing 'gemm'"),
        ("awq", {"version": "GEMV"}, "packed by AWQ with 4 bits in the packing 'gemv'"),
    ],
)
def test_another_packing_is_refused_by_name(
    method: str, changes: dict[str, Any], says: str, floats: Path, tmp_path: Path
) -> None:
    write_packed(floats, tmp_path / "packed", method)
    settings(tmp_path / "packed", **changes)
    with pytest.raises(UnsupportedArchitecture, match=says) as caught:
        detect.inspect(tmp_path / "packed")
    assert "Supported: GPTQ" in caught.value.hint


@pytest.mark.parametrize("group", [0, -2, "32", 3.5])
def test_a_group_size_that_is_none_is_refused(group: Any, floats: Path, tmp_path: Path) -> None:
    write_packed(floats, tmp_path / "packed", "gptq")
    settings(tmp_path / "packed", group_size=group)
    with pytest.raises(NotAModel, match="'group_size' is"):
        detect.inspect(tmp_path / "packed")


def damage(folder: Path, change: Any) -> None:
    """Write the weights' header anew, after ``change`` did something to its entries."""
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    write_raw(path, json.dumps(header).encode(), raw[8 + length :])


Q = "model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda header: header.update({"x": header.pop(f"{Q}.scales")}), "scales or zero points are missing"),
        (lambda header: header.update({"x": header.pop(f"{Q}.qzeros")}), "scales or zero points are missing"),
        (
            lambda header: header[f"{Q}.scales"].update(shape=[4, 32]),
            r"scales is F16 \[4, 32\], expected F16 \[2, 64\]",
        ),
        (lambda header: header[f"{Q}.qweight"].update(shape=[512]), "a part of it is no matrix"),
        (lambda header: header[f"{Q}.qweight"].update(dtype="F32"), "qweight is F32"),
        (lambda header: header[f"{Q}.g_idx"].update(shape=[8, 8]), r"g_idx is I32 \[8, 8\], expected I32 \[64\]"),
    ],
)
def test_parts_that_do_not_fit_are_named(change: Any, says: str, floats: Path, tmp_path: Path) -> None:
    write_packed(floats, tmp_path / "packed", "gptq")
    damage(tmp_path / "packed", change)
    with pytest.raises(DamagedWeights, match=says):
        detect.inspect(tmp_path / "packed")


def test_a_folder_that_only_says_that_it_is_packed_is_refused(floats: Path, tmp_path: Path) -> None:
    write_packed(floats, tmp_path / "packed", "gptq")
    (tmp_path / "packed" / "model.safetensors").write_bytes((floats / "model.safetensors").read_bytes())
    with pytest.raises(DamagedWeights, match="has no packed matrix"):
        detect.inspect(tmp_path / "packed")


def test_packed_shapes_are_compared_with_the_configuration(floats: Path, tmp_path: Path) -> None:
    write_packed(floats, tmp_path / "packed", "awq")
    config = json.loads((tmp_path / "packed" / "config.json").read_bytes())
    (tmp_path / "packed" / "config.json").write_text(json.dumps({**config, "intermediate_size": 192}))
    with pytest.raises(DamagedWeights, match=r"config.json says \[64, 192\]"):
        detect.inspect(tmp_path / "packed")


def test_scales_that_are_not_finite_are_refused(floats: Path, tmp_path: Path) -> None:
    write_packed(floats, tmp_path / "packed", "awq")
    path = tmp_path / "packed" / "model.safetensors"
    scales = read_header(path)[f"{Q}.scales"]
    raw = bytearray(path.read_bytes())
    raw[scales.start : scales.start + 2] = b"\xff\x7f"
    path.write_bytes(raw)
    with pytest.raises(DamagedWeights, match="scales holds numbers that are not finite"):
        detect.inspect(tmp_path / "packed")


def test_another_method_is_not_taken_for_one_of_these(floats: Path, tmp_path: Path) -> None:
    write_packed(floats, tmp_path / "packed", "gptq")
    settings(tmp_path / "packed", quant_method="compressed-tensors")
    with pytest.raises(SourceRejected, match="quantized already"):
        detect.inspect(tmp_path / "packed")
