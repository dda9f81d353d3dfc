"""PEFT's adapters: what is obeyed, what is refused, and which matrices the graph gets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foundry_lite.conversion.formats.peft_config import CONFIG, WEIGHTS, is_adapter
from foundry_lite.conversion.lora.import_adapter import fit, read_adapter
from foundry_lite.conversion.lora.targets import LoraTarget, LoraTargets, Part, read_places, write_places
from foundry_lite.engine.runners import adapter_file
from foundry_lite.errors import (
    DamagedArtifact,
    DamagedWeights,
    LoadFailed,
    NotAModel,
    PickledWeights,
    UnsupportedAdapter,
)
from tests.unit.safetensors_file import write_raw

Arrays = dict[str, NDArray[np.float32]]

# Two layers as the builder makes them: 6 wide, 4 + 2 + 2 columns of queries, keys and values, 5 in the MLP.
PLACES = LoraTargets(
    tuple(
        place
        for layer in range(2)
        for place in (
            LoraTarget(layer, "qkv_proj", 6, 8, (Part("q_proj", 0, 4), Part("k_proj", 4, 6), Part("v_proj", 6, 8))),
            LoraTarget(layer, "o_proj", 4, 6, (Part("o_proj", 0, 6),)),
            LoraTarget(layer, "gate_proj", 6, 5, (Part("gate_proj", 0, 5),)),
            LoraTarget(layer, "up_proj", 6, 5, (Part("up_proj", 0, 5),)),
            LoraTarget(layer, "down_proj", 5, 6, (Part("down_proj", 0, 6),)),
        )
    )
)


def key(layer: int, module: str, side: str) -> str:
    block = "self_attn" if module in ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj") else "mlp"
    return f"base_model.model.model.layers.{layer}.{block}.{module}.lora_{side}.weight"


def pair(layer: int, module: str, rank: int, inputs: int, outputs: int) -> Arrays:
    random = np.random.default_rng(layer + outputs)
    return {
        key(layer, module, "A"): random.standard_normal((rank, inputs), np.float32),
        key(layer, module, "B"): random.standard_normal((outputs, rank), np.float32),
    }


def write(folder: Path, arrays: Arrays, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    header: dict[str, Any] = {}
    data = b""
    for name, array in arrays.items():
        shape, raw = list(array.shape), array.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    write_raw(folder / WEIGHTS, json.dumps(header).encode(), data)
    whole = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", **config}
    (folder / CONFIG).write_text(json.dumps(whole))
    return folder


def test_modules_that_share_a_place_are_put_side_by_side_with_the_scale_in_b(tmp_path: Path) -> None:
    arrays = {**pair(1, "q_proj", 2, 6, 4), **pair(1, "v_proj", 2, 6, 2)}
    fitted = fit(read_adapter(write(tmp_path / "a", arrays)), PLACES)
    assert set(fitted) == {"lora.1.qkv_proj.A", "lora.1.qkv_proj.B"}
    x = np.random.default_rng(0).standard_normal((3, 6), np.float32)
    got = x @ fitted["lora.1.qkv_proj.A"] @ fitted["lora.1.qkv_proj.B"]
    scale = 4 / 2
    for module, low, high in (("q_proj", 0, 4), ("v_proj", 6, 8)):
        wanted = scale * (x @ arrays[key(1, module, "A")].T @ arrays[key(1, module, "B")].T)
        np.testing.assert_allclose(got[:, low:high], wanted, rtol=1e-5)
    assert not got[:, 4:6].any()


@pytest.mark.parametrize(
    ("module", "outputs", "names"),
    [
        ("qkv_proj", 8, {"lora.0.qkv_proj.A": (6, 2), "lora.0.qkv_proj.B": (2, 8)}),
        (
            "gate_up_proj",
            10,
            {
                "lora.0.gate_proj.A": (6, 2),
                "lora.0.gate_proj.B": (2, 5),
                "lora.0.up_proj.A": (6, 2),
                "lora.0.up_proj.B": (2, 5),
            },
        ),
    ],
)
def test_a_module_that_was_trained_fused_is_cut_where_the_graph_is(
    tmp_path: Path, module: str, outputs: int, names: dict[str, tuple[int, int]]
) -> None:
    arrays = pair(0, module, 2, 6, outputs)
    fitted = fit(read_adapter(write(tmp_path / "a", arrays)), PLACES)
    assert {name: array.shape for name, array in fitted.items()} == names
    nodes = [name.removesuffix(".B") for name in names if name.endswith(".B")]
    got = np.hstack([fitted[f"{node}.A"] @ fitted[f"{node}.B"] for node in nodes])
    wanted = 2 * arrays[key(0, module, "A")].T @ arrays[key(0, module, "B")].T
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": 4, "lora_alpha": 6}, 6 / 4),
        ({"r": 4, "lora_alpha": 6, "use_rslora": True}, 6 / 2),
        ({"r": 2, "rank_pattern": {"o_proj": 4}, "lora_alpha": 6}, 6 / 4),
        ({"r": 4, "alpha_pattern": {r"layers\.0.*": 1}}, 1 / 4),
        ({"r": 4, "alpha_pattern": {r"layers\.1.*": 1, "x.o_proj": 2}}, 4 / 4),
        ({"r": 2, "use_rslora": True, "rank_pattern": {"model.layers.0.self_attn.o_proj": 4}}, 4 / math.sqrt(4)),
    ],
)
def test_the_scale_is_pefts(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    arrays = pair(0, "o_proj", 4, 4, 6)
    adapter = read_adapter(write(tmp_path / "a", arrays, **config))
    np.testing.assert_allclose(adapter.factors[0, "o_proj"].up, scale * arrays[key(0, "o_proj", "B")], rtol=1e-6)
    assert (adapter.rank, adapter.modules, adapter.parameters) == (4, ("o_proj",), 40)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peft_type", "IA3"),
        ("bias", "lora_only"),
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("fan_in_fan_out", True),
        ("lora_bias", True),
        ("layer_replication", [[0, 1]]),
        ("trainable_token_indices", [1]),
        ("target_parameters", ["x"]),
        ("init_lora_weights", "pissa_niter_4"),
        ("a_field_of_next_year", {"x": 1}),
    ],
)
def test_a_field_that_cannot_be_obeyed_is_named(tmp_path: Path, field: str, value: Any) -> None:
    folder = write(tmp_path / "a", pair(0, "o_proj", 2, 4, 6), **{field: value})
    with pytest.raises(UnsupportedAdapter, match=f"adapter_config.json: '{field}' is ") as caught:
        read_adapter(folder)
    assert caught.value.hint


def test_fields_that_tell_of_the_training_only_are_no_obstacle(tmp_path: Path) -> None:
    neutral = {"lora_dropout": 0.1, "task_type": "CAUSAL_LM", "use_dora": False, "modules_to_save": None}
    folder = write(tmp_path / "a", pair(0, "o_proj", 2, 4, 6), base_model_name_or_path="some/base", **neutral)
    assert read_adapter(folder).base == "some/base"


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"r": 0}, "'r' must be a number above 0"),
        ({"r": None}, "'r'"),
        ({"r": True}, "'r'"),
        ({"lora_alpha": "x"}, "'lora_alpha'"),
        ({"rank_pattern": {"o_proj": "x"}}, "'rank_pattern'"),
        ({"rank_pattern": {"(": 2}}, "'rank_pattern' cannot be obeyed"),
        ({"rank_pattern": 7}, "'rank_pattern' cannot be obeyed"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_by_field(tmp_path: Path, config: dict[str, Any], word: str) -> None:
    with pytest.raises(NotAModel) as caught:
        read_adapter(write(tmp_path / "a", pair(0, "o_proj", 2, 4, 6), **config))
    assert word in caught.value.message


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path, text: bytes) -> None:
    folder = write(tmp_path / "a", {})
    (folder / CONFIG).write_bytes(text)
    with pytest.raises(NotAModel, match="adapter_config.json"):
        read_adapter(folder)


def test_a_folder_that_lacks_something_is_told_what(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {})
    (folder / WEIGHTS).unlink()
    with pytest.raises(NotAModel, match="has no adapter_model.safetensors"):
        read_adapter(folder)
    (folder / "adapter_model.bin").write_bytes(b"\x80")
    with pytest.raises(PickledWeights):
        read_adapter(folder)
    (folder / CONFIG).unlink()
    assert not is_adapter(folder)
    with pytest.raises(NotAModel, match="has no adapter_config.json"):
        read_adapter(folder)


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.lm_head.lora_A.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.layers.0.self_attn.o_proj.lora_magnitude_vector",
        "base_model.model.model.norm.weight",
        "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight",
    ],
)
def test_a_tensor_that_is_no_matrix_of_a_linear_layer_is_named(tmp_path: Path, name: str) -> None:
    arrays = {**pair(0, "o_proj", 2, 4, 6), name: np.zeros((2, 2), np.float32)}
    with pytest.raises(UnsupportedAdapter, match=name):
        read_adapter(write(tmp_path / "a", arrays))


def test_damaged_matrices_are_refused(tmp_path: Path) -> None:
    good = pair(0, "o_proj", 2, 4, 6)
    down, up = good
    cases: list[tuple[Arrays, str]] = [
        ({}, "holds no matrices"),
        ({down: good[down]}, "only one of its two"),
        ({**good, up: good[up][:, :1]}, "says rank 2"),
        ({down: good[down][:1], up: good[up][:, :1]}, "says rank 2"),
        ({**good, up: good[up][0]}, "has matrices of the shapes"),
        ({**good, down: good[down] * np.float32("nan")}, "not finite"),
        ({**good, up: np.full_like(good[up], np.inf)}, "not finite"),
        ({**good, up: np.full_like(good[up], 3e38)}, "not finite"),
    ]
    for arrays, word in cases:
        with pytest.raises(DamagedWeights, match=word):
            read_adapter(write(tmp_path / "a", arrays))


@pytest.mark.parametrize(
    ("layer", "module", "inputs", "outputs", "fact"),
    [
        (0, "o_proj", 5, 6, "has 5 inputs and 6 outputs; the base has 4 and 6"),
        (0, "o_proj", 4, 7, "has 4 inputs and 7 outputs; the base has 4 and 6"),
        (0, "k_proj", 6, 4, "has 6 inputs and 4 outputs; the base has 6 and 2"),
        (0, "gate_up_proj", 6, 5, "the base has 6 and 10"),
        (2, "o_proj", 4, 6, "the base has no layer 2"),
        (0, "fc1", 4, 6, "the base has no 'fc1'"),
    ],
)
def test_an_adapter_of_another_base_is_refused(
    tmp_path: Path, layer: int, module: str, inputs: int, outputs: int, fact: str
) -> None:
    adapter = read_adapter(write(tmp_path / "a", pair(layer, module, 2, inputs, outputs)))
    with pytest.raises(UnsupportedAdapter, match=fact):
        fit(adapter, PLACES)


def test_places_survive_being_written(tmp_path: Path) -> None:
    write_places(tmp_path, PLACES)
    assert read_places(tmp_path) == PLACES
    (tmp_path / "lora.json").write_text("{}")
    with pytest.raises(DamagedArtifact, match="lora.json cannot be read"):
        read_places(tmp_path)


def test_an_adapter_file_survives_being_written_and_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx_adapter"
    random = np.random.default_rng(0)
    # Transposed, as PEFT's matrices are: the file must not be written from copies that are gone by then.
    arrays = {f"lora.{layer}.o_proj.A": random.standard_normal((4, 64), np.float32).T for layer in range(24)}
    adapter_file.write(path, arrays)
    read = adapter_file.read(path)
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    for content in (b"", path.read_bytes()[:40], b"x" * 500):
        path.write_bytes(content)
        with pytest.raises(LoadFailed, match="x.onnx_adapter cannot be read as an adapter"):
            adapter_file.read(path)
    with pytest.raises(LoadFailed):
        adapter_file.read(tmp_path / "none")


def test_an_adapter_must_fit_the_inputs_of_the_graph() -> None:
    inputs: dict[str, Any] = {
        "A": [4, "rank"], "B": ["rank", 6], "other.A": [4, "other"], "other.B": ["other", 6], "logits_from": [1],
    }  # fmt: skip
    good = {"A": np.zeros((4, 3), np.float32), "B": np.zeros((3, 6), np.float32)}
    adapter_file.check("x", good, inputs)
    adapter_file.check("x", {}, inputs)
    cases: list[tuple[Arrays, str]] = [
        ({**good, "C": good["A"]}, "x adapts C, which this model has no place for"),
        ({**good, "A": np.zeros((5, 3), np.float32)}, r"A has the shape \(5, 3\), this model needs \(4, 'rank'\)"),
        ({**good, "A": np.zeros((4, 3, 1), np.float32)}, "A has the shape"),
        ({**good, "A": np.zeros((4, 2), np.float32)}, "B has the rank 3, its other half 2"),
        ({"B": good["B"]}, "B has the rank 3, its other half 1"),
    ]
    for arrays, words in cases:
        with pytest.raises(LoadFailed, match=words):
            adapter_file.check("x", arrays, inputs)
