"""The graphs that are derived from a float32 export, on a small one with the builder's names, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from foundry_lite.build import graph, prefill
from foundry_lite.catalog.recipe import Precision, Recipe, recipe_for

VOCABULARY, HIDDEN, INNER = 300, 80, 64
TOKENS = np.array([[5, 17, 200, 3, 299, 42]], np.int64)
INT8, INT4 = recipe_for(Precision.INT8), recipe_for(Precision.INT4)


def export(folder: Path, *, tied: bool, hidden: int = HIDDEN) -> dict[str, NDArray[Any]]:
    """Write a float32 export: an embedding, two layers without attention, a pruned head. Return its weights."""
    random = np.random.default_rng(0)
    weights: dict[str, NDArray[Any]] = {
        "lm_head.MatMul.weight": random.standard_normal((hidden, VOCABULARY), np.float32),
        "up.MatMul.weight": random.standard_normal((hidden, INNER), np.float32),
        "side.MatMul.weight": random.standard_normal((hidden, INNER), np.float32),
        "down.MatMul.weight": random.standard_normal((INNER, hidden), np.float32) / 8,
    }
    embedding = [helper.make_node("Transpose", ["lm_head.MatMul.weight"], ["table"], perm=[1, 0])]
    if not tied:
        weights["table"] = random.standard_normal((VOCABULARY, hidden), np.float32)
        embedding = []
    constants = {"last": np.array(-1, np.int64), "axis": np.array([1], np.int64)}
    nodes = [
        *embedding,
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"], name="/model/embed_tokens/Gather"),
        helper.make_node("MatMul", ["embedded", "up.MatMul.weight"], ["up"], name="/model/up/MatMul"),
        helper.make_node("MatMul", ["embedded", "side.MatMul.weight"], ["side"], name="/model/side/MatMul"),
        helper.make_node("Mul", ["up", "side"], ["inner"]),
        helper.make_node("MatMul", ["inner", "down.MatMul.weight"], ["down"], name="/model/down/MatMul"),
        helper.make_node("Add", ["embedded", "down"], ["out"]),
        helper.make_node("Gather", ["out", "last"], ["one"], axis=1, name="/lm_head/prune/Gather"),
        helper.make_node("Unsqueeze", ["one", "axis"], ["pruned"], name="/lm_head/prune/Unsqueeze"),
        helper.make_node("MatMul", ["pruned", "lm_head.MatMul.weight"], ["logits"], name="/lm_head/MatMul"),
    ]
    made = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", 1, VOCABULARY])],
        [numpy_helper.from_array(value, name) for name, value in {**weights, **constants}.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    folder.mkdir()
    onnx.save(
        helper.make_model(made, opset_imports=opsets, ir_version=10),
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=1000,
    )
    return weights


def derive(tmp_path: Path, recipe: Recipe, *, tied: bool = True, hidden: int = HIDDEN) -> Path:
    export(tmp_path / "float", tied=tied, hidden=hidden)
    target = tmp_path / "float" if recipe.precision is Precision.FP32 else tmp_path / "made"
    target.mkdir(exist_ok=True)
    graph.derive(tmp_path / "float", target, recipe)
    return target


def run(path: Path, output: str = "logits", tokens: NDArray[np.int64] = TOKENS, **given: Any) -> NDArray[np.float32]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    made: NDArray[np.float32] = session.run([output], {"input_ids": tokens, **given})[0]
    return made


def source_logits(tmp_path: Path, *, tied: bool = True, hidden: int = HIDDEN) -> NDArray[np.float32]:
    """What the float graph computes at every position."""
    weights = export(tmp_path / "again", tied=tied, hidden=hidden)
    table = weights["lm_head.MatMul.weight"].T if tied else weights["table"]
    x = table[TOKENS]
    inner = (x @ weights["up.MatMul.weight"]) * (x @ weights["side.MatMul.weight"])
    return np.asarray((x + inner @ weights["down.MatMul.weight"]) @ weights["lm_head.MatMul.weight"], np.float32)


def error(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def test_by_default_the_logits_are_those_of_the_last_position(tmp_path: Path) -> None:
    path = derive(tmp_path, Recipe(Precision.FP32)) / "model.onnx"
    assert run(path) == pytest.approx(source_logits(tmp_path)[:, -1:], rel=1e-4, abs=1e-3)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["input_ids"]
    assert session.get_outputs()[0].shape[1] == 1  # by which onnxruntime-genai reserves its memory


@pytest.mark.parametrize("count", [1, 3, 6, 9])
def test_the_last_positions_can_be_asked_for(tmp_path: Path, count: int) -> None:
    path = derive(tmp_path, Recipe(Precision.FP32)) / "model.onnx"
    window = run(path, graph.WINDOW_LOGITS, logits_from=np.array([-count], np.int64))
    assert window == pytest.approx(source_logits(tmp_path)[:, -count:], rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(("recipe", "most"), [(INT8, 0.03), (INT4, 0.3), (recipe_for(Precision.INT8, 128), 0.03)])
@pytest.mark.parametrize("tied", [True, False])
def test_quantized_graphs_compute_nearly_the_same(tmp_path: Path, recipe: Recipe, most: float, tied: bool) -> None:
    """80 inputs are no whole number of blocks, so padding is part of it."""
    target = derive(tmp_path, recipe, tied=tied)
    assert 0 < error(run(target / "model.onnx"), source_logits(tmp_path, tied=tied)[:, -1:]) < most


def test_asymmetric_quantization_has_zero_points(tmp_path: Path) -> None:
    target = derive(tmp_path, Recipe(Precision.INT4, 32, symmetric=False))
    assert error(run(target / "model.onnx"), source_logits(tmp_path)[:, -1:]) < 0.3
    made = onnx.load(target / "model.onnx", load_external_data=False).graph
    assert {len(node.input) for node in made.node if node.op_type == "MatMulNBits"} == {4}


@pytest.mark.parametrize("recipe", [INT4, INT8])
def test_an_embedding_that_is_the_head_is_stored_once(tmp_path: Path, recipe: Recipe) -> None:
    target = derive(tmp_path, recipe, hidden=96)
    made = onnx.load(target / "model.onnx", load_external_data=False).graph
    places = {one.name: [(e.key, e.value) for e in one.external_data] for one in made.initializer}
    head = next(node for node in made.node if node.name.startswith("/lm_head/MatMul"))
    look_up = next(node for node in made.node if node.op_type == "GatherBlockQuantized")
    assert places[look_up.input[0]] == places[head.input[1]] != []
    weights = 96 * VOCABULARY + 3 * 96 * INNER
    assert (target / "model.onnx.data").stat().st_size < weights * (0.5 if recipe is INT4 else 1) * 1.4


def test_an_embedding_of_its_own_gets_eight_bits(tmp_path: Path) -> None:
    made = onnx.load(derive(tmp_path, INT4, tied=False) / "model.onnx", load_external_data=False).graph
    look_up = next(node for node in made.node if node.op_type == "GatherBlockQuantized")
    assert {a.i for a in look_up.attribute if a.name == "bits"} == {8}


@pytest.mark.parametrize("recipe", [INT4, Recipe(Precision.FP32)])
def test_the_companion_computes_all_but_the_head_in_eight_bits(tmp_path: Path, recipe: Recipe) -> None:
    target = derive(tmp_path, recipe, hidden=96)
    prefill.add(tmp_path / "float", target)
    made = onnx.load(target / prefill.COMPANION, load_external_data=False).graph
    products = [node.op_type for node in made.node if "MatMul" in node.op_type]
    head = "MatMul" if recipe.precision is Precision.FP32 else "MatMulNBits"
    assert products == [*["MatMulIntegerToFloat"] * 3, head]
    assert sum(node.op_type == "QuantizeLinear" for node in made.node) == 2  # two products share an activation
    most = 0.02 if recipe.precision is Precision.FP32 else 0.3
    assert 0 < error(run(target / prefill.COMPANION), source_logits(tmp_path, hidden=96)[:, -1:]) < most


def test_in_the_companion_a_row_depends_on_no_other(tmp_path: Path) -> None:
    target = derive(tmp_path, INT8, hidden=96)
    prefill.add(tmp_path / "float", target)
    rows = np.array([[7], [8], [9]], np.int64)
    together = run(target / prefill.COMPANION, tokens=rows)
    alone = run(target / prefill.COMPANION, tokens=rows[1:2])
    assert np.array_equal(run(target / prefill.COMPANION, tokens=rows[::-1].copy())[::-1], together)
    assert error(alone[0], together[1]) < 1e-6
