"""GPTQ against the algorithm as it was published, and against round to nearest; and the walk that calibrates it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from foundry_lite.catalog.recipe import Algorithm, Precision, Recipe
from foundry_lite.conversion.quantize import activations, derive, kquant
from foundry_lite.conversion.quantize.activations import Walk
from foundry_lite.conversion.quantize.algorithms import Hessians
from foundry_lite.conversion.quantize.blocks import quantize_blocks, restore
from foundry_lite.conversion.quantize.gptq import GptqSolver
from foundry_lite.errors import BuildFailed
from tests.unit.test_graph import export

INPUTS, BLOCK = 96, 32
TEXTS = [[5, 17, 200, 3, 299, 42], [7, 7, 1], [250, 12, 90, 31]]
_Floats = NDArray[np.float32]


def inputs(seed: int = 0, width: int = INPUTS) -> _Floats:
    """Activations that depend on each other, as those of models do."""
    random = np.random.default_rng(seed)
    mix = random.standard_normal((width, width), np.float32) * np.exp(-np.arange(width) / 30)[:, None]
    return np.asarray(random.standard_normal((600, width), np.float32) @ mix, np.float32)


def published(weight: _Floats, hessian: NDArray[np.float64]) -> _Floats:
    """Frantar et al.: round a weight, and move all later ones by its error through the inverse's Cholesky factor."""
    work = weight.astype(np.float64)
    damped = hessian + 0.01 * np.diag(hessian).mean() * np.eye(len(hessian))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    importance = 1 / np.diag(upper) ** 2
    found = kquant.Scales(np.zeros(0, np.float32), np.zeros(0, np.float32))
    for at in range(len(weight)):
        if at % BLOCK == 0:
            rows = slice(at, at + BLOCK)
            counts = np.broadcast_to(importance[rows, None], (BLOCK, weight.shape[1])).astype(np.float32)
            found = kquant.search(work[rows].astype(np.float32), counts, 4, symmetric=True)
        number = np.clip(np.rint(work[at] / found.scale) + 8, 0, 15)
        rounded = (number - 8) * found.scale
        error = (work[at] - rounded) / upper[at, at]
        work[at:] -= upper[at, at:, None] * error
        work[at] = rounded
    return work.astype(np.float32)


def test_the_numbers_are_those_of_the_published_algorithm() -> None:
    x, weight = inputs(), np.random.default_rng(1).standard_normal((INPUTS, 40), np.float32)
    ours = restore(GptqSolver(x.T @ x).quantize(weight, 4, BLOCK, symmetric=True), 4)
    theirs = published(weight, x.T.astype(np.float64) @ x)
    assert np.isclose(ours, theirs, atol=1e-4).mean() > 0.95  # where float32 rounds a tie the other way, all after it


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_products_error_is_much_smaller_on_other_inputs(symmetric: bool) -> None:
    x, weight = inputs(), np.random.default_rng(1).standard_normal((INPUTS, 40), np.float32)
    others = inputs(0)[300:]
    made = GptqSolver(x[:300].T @ x[:300]).quantize(weight, 4, BLOCK, symmetric=symmetric)
    plain = quantize_blocks(weight, 4, BLOCK, symmetric=symmetric)
    ours, theirs = (float(np.linalg.norm(others @ (restore(one, 4) - weight))) for one in (made, plain))
    assert ours < 0.7 * theirs


@pytest.mark.parametrize("kind", ["nothing", "one input", "few rows", "huge"])
def test_what_the_texts_do_not_show_is_no_reason_to_fail(kind: str) -> None:
    x = inputs()
    x = {"nothing": x * 0, "one input": x * (np.arange(INPUTS) == 3), "few rows": x[:2], "huge": x * 1e15}[kind]
    weight = np.random.default_rng(1).standard_normal((INPUTS, 8), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        made = restore(GptqSolver((x.T @ x).astype(np.float32)).quantize(weight, 4, BLOCK, symmetric=True), 4)
    assert np.abs(made - weight).max() < 3.0  # nothing is lost but what the texts do not use


def test_inputs_that_are_no_whole_number_of_blocks_are_filled_up() -> None:
    x, weight = inputs(width=80), np.random.default_rng(1).standard_normal((80, 8), np.float32)
    made = restore(GptqSolver(x.T @ x).quantize(weight, 4, BLOCK, symmetric=False), 4)
    assert made.shape == (96, 8)
    assert not made[80:].any()


def walk(folder: Path, wanted: list[str], texts: list[list[int]] = TEXTS) -> Walk:
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    derive.open_window(model.graph)
    return Walk(model, folder, 0, texts, wanted)


def noted(folder: Path, wanted: list[str]) -> dict[str, list[NDArray[Any]]]:
    found: dict[str, list[NDArray[Any]]] = {}
    for _ in walk(folder, wanted).run(lambda name, value: found.setdefault(name, []).append(value)):
        pass
    return found


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("part", [1, 1 << 30])
def test_a_walk_computes_what_the_whole_graph_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool, part: int
) -> None:
    export(tmp_path / "float", tied=tied)
    monkeypatch.setattr(activations, "_PART", part)  # every product by itself, or all of them together
    wanted = ["embedded", "inner", "pruned"]
    found = noted(tmp_path / "float", wanted)
    model = onnx.load(tmp_path / "float" / "model.onnx")
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("embedded", "inner", "out"))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for number, text in enumerate(TEXTS):
        expected = session.run(["embedded", "inner", "out"], {"input_ids": np.array([text], np.int64)})
        for name, value in zip(wanted, expected, strict=True):  # the head gets every position
            np.testing.assert_allclose(found[name][number], value, rtol=1e-4, atol=1e-4)


def test_hessians_are_sums_over_all_texts(tmp_path: Path) -> None:
    weights = export(tmp_path / "float", tied=False)
    hessians = Hessians(lambda names: walk(tmp_path / "float", list(names)), ["embedded", "inner"])
    rows = weights["table"][[token for text in TEXTS for token in text]]
    np.testing.assert_allclose(hessians.take("embedded"), rows.T @ rows, rtol=1e-4, atol=1e-3)
    inner = (rows @ weights["up.MatMul.weight"]) * (rows @ weights["side.MatMul.weight"])
    np.testing.assert_allclose(hessians.take("inner"), inner.T @ inner, rtol=1e-3, atol=0.1)


def test_a_recipe_that_is_calibrated_needs_texts(tmp_path: Path) -> None:
    export(tmp_path / "float", tied=True)
    (tmp_path / "made").mkdir()
    with pytest.raises(BuildFailed, match="needs calibration texts"):
        derive.derive(tmp_path / "float", tmp_path / "made", Recipe(Precision.INT4, 32, algorithm=Algorithm.GPTQ))
