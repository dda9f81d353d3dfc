"""The graphs that are derived from a float32 export, on a small one with the builder's names, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from foundry_lite.catalog.recipe import Algorithm, Precision, Recipe, recipe_for
from foundry_lite.conversion.quantize import derive as graph
from foundry_lite.conversion.quantize import mixed_precision, prefill_graph
from foundry_lite.conversion.quantize.blocks import Blocks, restore
from foundry_lite.conversion.quantize.source_grid import Grid, Lattice
from foundry_lite.errors import BuildFailed, UnsafeSource

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
    prefill_graph.add(tmp_path / "float", target)
    made = onnx.load(target / prefill_graph.COMPANION, load_external_data=False).graph
    products = [node.op_type for node in made.node if "MatMul" in node.op_type]
    head = "MatMul" if recipe.precision is Precision.FP32 else "MatMulNBits"
    assert products == [*["MatMulIntegerToFloat"] * 3, head]
    assert sum(node.op_type == "QuantizeLinear" for node in made.node) == 2  # two products share an activation
    most = 0.02 if recipe.precision is Precision.FP32 else 0.3
    assert 0 < error(run(target / prefill_graph.COMPANION), source_logits(tmp_path, hidden=96)[:, -1:]) < most


def test_in_the_companion_a_row_depends_on_no_other(tmp_path: Path) -> None:
    target = derive(tmp_path, INT8, hidden=96)
    prefill_graph.add(tmp_path / "float", target)
    rows = np.array([[7], [8], [9]], np.int64)
    together = run(target / prefill_graph.COMPANION, tokens=rows)
    alone = run(target / prefill_graph.COMPANION, tokens=rows[1:2])
    assert np.array_equal(run(target / prefill_graph.COMPANION, tokens=rows[::-1].copy())[::-1], together)
    assert error(alone[0], together[1]) < 1e-6


def rewrite(folder: Path, change: Callable[[onnx.ModelProto], None], *, inline: bool = True) -> None:
    """Change a float export; ``inline`` puts its weights into the file."""
    model = onnx.load(folder / "model.onnx", load_external_data=inline)
    change(model)
    if inline:
        (folder / "model.onnx.data").unlink()
        for one in model.graph.initializer:
            one.ClearField("external_data")
            one.data_location = TensorProto.DEFAULT
    onnx.save(model, folder / "model.onnx")


def derived_from(folder: Path, recipe: Recipe) -> Path:
    target = folder.parent / "made"
    target.mkdir()
    graph.derive(folder, target, recipe)
    return target


def kinds(target: Path) -> list[str]:
    return [node.op_type for node in onnx.load(target / "model.onnx", load_external_data=False).graph.node]


def test_weights_within_the_file_are_found(tmp_path: Path) -> None:
    export(tmp_path / "float", tied=True)
    rewrite(tmp_path / "float", lambda model: None)
    target = derived_from(tmp_path / "float", INT8)
    assert kinds(target).count("MatMulNBits") == 4
    assert error(run(target / "model.onnx"), source_logits(tmp_path)[:, -1:]) < 0.03


def test_weights_in_constant_nodes_are_found(tmp_path: Path) -> None:
    export(tmp_path / "float", tied=False)

    def as_nodes(model: onnx.ModelProto) -> None:
        made = [helper.make_node("Constant", [], [one.name], value=one) for one in model.graph.initializer]
        nodes = [*made, *model.graph.node]
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.node.extend(nodes)

    rewrite(tmp_path / "float", as_nodes)
    target = derived_from(tmp_path / "float", INT8)
    assert (kinds(target).count("MatMulNBits"), kinds(target).count("GatherBlockQuantized")) == (4, 1)
    assert error(run(target / "model.onnx"), source_logits(tmp_path, tied=False)[:, -1:]) < 0.03


def test_weights_that_are_transposed_first_are_found(tmp_path: Path) -> None:
    """As torch's linear layers have them; the head then shares the embedding's table as it is."""
    weights = export(tmp_path / "float", tied=False)

    def turn(model: onnx.ModelProto) -> None:
        nodes = []
        for node in model.graph.node:
            if node.op_type == "MatMul":
                name = "table" if node.name == "/lm_head/MatMul" else f"{node.input[1]}.rows"
                if name != "table":
                    turned = numpy_helper.from_array(np.ascontiguousarray(weights[node.input[1]].T), name)
                    model.graph.initializer.append(turned)
                node.input[1] = f"{node.name}.weight"
                nodes.append(helper.make_node("Transpose", [name], [node.input[1]], perm=[1, 0]))
            nodes.append(node)
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    rewrite(tmp_path / "float", turn)
    before = run(tmp_path / "float" / "model.onnx")
    target = derived_from(tmp_path / "float", INT8)
    assert kinds(target).count("Transpose") == 0
    assert error(run(target / "model.onnx"), before) < 0.03
    assert (target / "model.onnx.data").stat().st_size < 1.4 * (HIDDEN * VOCABULARY + 3 * HIDDEN * INNER)


def test_a_head_that_computes_every_position_is_left_so(tmp_path: Path) -> None:
    export(tmp_path / "float", tied=True)

    def unprune(model: onnx.ModelProto) -> None:
        kept = [node for node in model.graph.node if "prune" not in node.name]
        kept[-1].input[0] = "out"
        del model.graph.node[:]
        model.graph.node.extend(kept)
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "sequence_length"

    rewrite(tmp_path / "float", unprune, inline=False)
    target = derived_from(tmp_path / "float", INT8)
    made = run(target / "model.onnx")
    assert made.shape == (1, 6, VOCABULARY)
    assert error(made, source_logits(tmp_path)) < 0.03


def test_a_look_up_of_no_plain_table_is_left_alone(tmp_path: Path) -> None:
    export(tmp_path / "float", tied=False)

    def scale(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "scaled"
        model.graph.initializer.append(numpy_helper.from_array(np.float32(1.0), "by"))
        model.graph.node.insert(0, helper.make_node("Mul", ["table", "by"], ["scaled"]))

    rewrite(tmp_path / "float", scale, inline=False)
    target = derived_from(tmp_path / "float", INT8)
    assert "GatherBlockQuantized" not in kinds(target)
    assert error(run(target / "model.onnx"), source_logits(tmp_path, tied=False)[:, -1:]) < 0.03


def test_other_products_and_branches_stay(tmp_path: Path) -> None:
    """A `Gemm`, and an `If` whose branches read values from without."""
    export(tmp_path / "float", tied=True)

    def add(model: onnx.ModelProto) -> None:
        body = [helper.make_node("Add", ["out_before", "extra"], ["sum"])]
        value = helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)
        branch = helper.make_graph(body, "branch", [], [value])
        nodes = list(model.graph.node)
        at = next(i for i, node in enumerate(nodes) if "out" in node.output)
        nodes[at].output[0] = "out_before"
        nodes[at + 1 : at + 1] = [
            helper.make_node("Reshape", ["out_before", "rows"], ["flat"]),
            helper.make_node("Gemm", ["flat", "square"], ["turned"]),
            helper.make_node("Mul", ["turned", "nothing"], ["extra_flat"]),
            helper.make_node("Shape", ["out_before"], ["shape"]),
            helper.make_node("Reshape", ["extra_flat", "shape"], ["extra"]),
            helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch),
        ]
        values: dict[str, NDArray[Any]] = {
            "rows": np.array([-1, HIDDEN]),
            "square": np.eye(HIDDEN, dtype=np.float32),
            "nothing": np.float32(0) * np.ones(1, np.float32),
            "yes": np.array(True),
        }
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    rewrite(tmp_path / "float", add, inline=False)
    target = derived_from(tmp_path / "float", INT8)
    assert {"Gemm", "If"} <= set(kinds(target))
    assert error(run(target / "model.onnx"), source_logits(tmp_path)[:, -1:]) < 0.03


def test_float16_weights_get_float16_scales(tmp_path: Path) -> None:
    weights = export(tmp_path / "float", tied=False)

    def halve(model: onnx.ModelProto) -> None:
        for one in [*model.graph.initializer]:
            if one.name in weights:
                one.CopyFrom(numpy_helper.from_array(weights[one.name].astype(np.float16), one.name))
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16

    rewrite(tmp_path / "float", halve)
    target = derived_from(tmp_path / "float", INT8)
    made = run(target / "model.onnx")
    assert made.dtype == np.float16
    assert error(made.astype(np.float32), source_logits(tmp_path, tied=False)[:, -1:]) < 0.03


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "C:\\weights", "..\\b", ""])
def test_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    export(tmp_path / "float", tied=True)

    def lead_out(model: onnx.ModelProto) -> None:
        entry = model.graph.initializer[0].external_data[0]
        assert entry.key == "location"
        entry.value = location

    rewrite(tmp_path / "float", lead_out, inline=False)
    with pytest.raises(UnsafeSource, match="outside the model's folder"):
        derived_from(tmp_path / "float", INT4)
    assert not list((tmp_path / "made").iterdir())


def test_data_that_ends_too_early_is_named(tmp_path: Path) -> None:
    export(tmp_path / "float", tied=True)
    with (tmp_path / "float" / "model.onnx.data").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(BuildFailed, match=r"cannot be read from model.onnx.data"):
        derived_from(tmp_path / "float", INT4)


def test_what_is_quantized_is_not_quantized_again(tmp_path: Path) -> None:
    target = derive(tmp_path, INT4)
    (tmp_path / "again").mkdir()
    with pytest.raises(BuildFailed, match="quantized already"):
        graph.derive(target, tmp_path / "again", INT8)
    graph.derive(target, tmp_path / "again", Recipe(Precision.FP32))  # as it is
    assert (tmp_path / "again" / "model.onnx.data").samefile(target / "model.onnx.data")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_sixteen_bits_that_hold_the_weights_lose_nothing(tmp_path: Path, precision: Precision, tied: bool) -> None:
    weights = export(tmp_path / "float", tied=tied)
    kind = np.float16 if precision is Precision.FP16 else ml_dtypes.bfloat16

    def round_weights(model: onnx.ModelProto) -> None:
        for one in [*model.graph.initializer]:
            if one.name in weights:
                rounded = weights[one.name].astype(kind).astype(np.float32)
                one.CopyFrom(numpy_helper.from_array(rounded, one.name))

    rewrite(tmp_path / "float", round_weights)
    target = derived_from(tmp_path / "float", Recipe(precision))
    assert np.array_equal(run(target / "model.onnx"), run(tmp_path / "float" / "model.onnx"))
    count = sum(value.size for value in weights.values())
    assert (target / "model.onnx.data").stat().st_size < 2 * count + 1000


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    export(tmp_path / "float", tied=False)
    model = onnx.load(tmp_path / "float" / "model.onnx")
    changed = next(one for one in model.graph.initializer if one.name == "up.MatMul.weight")
    changed.CopyFrom(numpy_helper.from_array(np.full((HIDDEN, INNER), 1e5, np.float32), changed.name))
    onnx.save(model, tmp_path / "float" / "model.onnx")
    with pytest.raises(BuildFailed, match="float16 ends at 65504"):
        derived_from(tmp_path / "float", Recipe(Precision.FP16))


def test_mixed_gives_the_head_more_bits(tmp_path: Path) -> None:
    made = onnx.load(derive(tmp_path, Recipe(Precision.INT4, 32, mixed=True)) / "model.onnx", load_external_data=False)
    bits = {n.name: a.i for n in made.graph.node if n.op_type == "MatMulNBits" for a in n.attribute if a.name == "bits"}
    assert bits["/lm_head/MatMul_Q8"] == 8


def test_the_sensitive_layers_are_the_outer_eighths_and_every_third() -> None:
    chosen = [layer for layer in range(24) if mixed_precision.is_sensitive(layer, 24)]
    assert chosen == [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]


KEPT = Recipe(Precision.INT4, 32, algorithm=Algorithm.KEPT)


def test_a_source_without_integers_has_none_to_keep(tmp_path: Path) -> None:
    export(tmp_path / "float", tied=True)
    with pytest.raises(BuildFailed, match="came in floats"):
        derived_from(tmp_path / "float", KEPT)


def test_integers_that_came_with_the_source_are_kept(tmp_path: Path) -> None:
    """One matrix lies on a lattice of blocks of 16 with zero points; the others are rounded to nearest."""
    export(tmp_path / "float", tied=True)
    random = np.random.default_rng(5)
    numbers = random.integers(0, 16, (HIDDEN, INNER))
    scales = random.random((INNER, HIDDEN // 16), np.float32) + 0.1
    zeros = random.integers(0, 16, scales.shape, np.uint8)
    lattice = Lattice(4, 16, scales, zeros)
    wide = [np.repeat(one.astype(np.float32), 16, axis=1).T for one in (scales, zeros)]
    weight = np.asarray((numbers - wide[1]) * wide[0], np.float32)

    def put(model: onnx.ModelProto) -> None:
        one = next(one for one in model.graph.initializer if one.name == "up.MatMul.weight")
        one.CopyFrom(numpy_helper.from_array(weight, one.name))

    rewrite(tmp_path / "float", put)
    target = tmp_path / "made"
    target.mkdir()
    graph.derive(tmp_path / "float", target, KEPT, Grid({"/model/up/MatMul": lattice}))
    made = onnx.load(target / "model.onnx").graph
    node = next(node for node in made.node if node.name == "/model/up/MatMul_Q4")
    arrays = {one.name: numpy_helper.to_array(one) for one in made.initializer}
    packed, kept_scales, kept_zeros = (arrays[name] for name in node.input[1:])
    assert np.array_equal(restore(Blocks(packed, kept_scales, kept_zeros), 4)[:HIDDEN], weight)
    assert error(run(target / "model.onnx"), run(tmp_path / "float" / "model.onnx")) < 0.3


def test_what_is_measured_to_matter_gets_more_bits(tmp_path: Path) -> None:
    """One of two equal branches is ten times as loud: it gets the 8 bits that the rule gives to ``down_proj``."""
    hidden = 64
    random = np.random.default_rng(7)
    names = [f"/model/layers.0/mlp/{name}/MatMul" for name in ("loud_proj", "down_proj")]
    weights = {name: random.standard_normal((hidden, hidden), np.float32) for name in [*names, "/lm_head/MatMul"]}
    weights["table"] = random.standard_normal((VOCABULARY, hidden), np.float32)
    weights["/lm_head/MatMul"] = random.standard_normal((hidden, VOCABULARY), np.float32)
    weights["loudness"] = np.array(10, np.float32)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["x"], name="/model/embed_tokens/Gather")]
    nodes += [helper.make_node("MatMul", ["x", name], [f"{name}.out"], name=name) for name in names]
    nodes += [
        helper.make_node("Mul", [f"{names[0]}.out", "loudness"], ["loud"]),
        helper.make_node("Add", ["loud", f"{names[1]}.out"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["bounded"]),
        helper.make_node("MatMul", ["bounded", "/lm_head/MatMul"], ["logits"], name="/lm_head/MatMul"),
    ]
    made = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", VOCABULARY])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    (tmp_path / "float").mkdir()
    (tmp_path / "made").mkdir()
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=10), tmp_path / "float" / "model.onnx")
    recipe = Recipe(Precision.INT4, 32, mixed=True)
    graph.derive(tmp_path / "float", tmp_path / "made", recipe, None, [[1, 2, 3], [200, 299, 5, 8]])
    nodes = onnx.load(tmp_path / "made" / "model.onnx").graph.node
    assert {node.name for node in nodes if node.name.endswith("_Q8")} == {f"{names[0]}_Q8", "/lm_head/MatMul_Q8"}
