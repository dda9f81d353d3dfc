"""Every recipe, made of a folder of the real builder and run by our own runner."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from foundry_lite.catalog.recipe import Provider, parse_variant
from foundry_lite.conversion import variants
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.quantize import derive as graph
from foundry_lite.conversion.quantize.calibration_data import TOKENS, calibration_tokens
from foundry_lite.conversion.toolchains.toolchains import Toolchains
from foundry_lite.engine.runners import model_folder
from foundry_lite.engine.runners.base import Logits
from foundry_lite.engine.runners.ort import OrtRunner
from foundry_lite.errors import BuildFailed
from tests.built_folders import TOKENS as SAMPLE

pytestmark = pytest.mark.build
CONTEXT = len(SAMPLE)


@pytest.fixture(scope="module")
def texts(built: Path) -> tuple[tuple[int, ...], ...]:
    return calibration_tokens(built / "plain")[:6]


def derive(built: Path, target: Path, variant: str, texts: tuple[tuple[int, ...], ...]) -> Path:
    target.mkdir()
    graph.derive(built / "plain", target, parse_variant(variant), None, texts)
    return target


def runner(folder: Path, slots: int = 3) -> OrtRunner:
    return OrtRunner(folder, threads=1, slots=slots, context_length=CONTEXT)


def divergence(ours: Logits, theirs: Logits) -> float:
    """Mean over positions, in nats."""
    one, other = (x - np.logaddexp.reduce(x, axis=-1, keepdims=True) for x in (theirs, ours))
    return float((np.exp(one) * (one - other)).sum(-1).mean())


def logits(folder: Path) -> Logits:
    """What a variant says at the last 32 positions of the sample."""
    model = runner(folder, 1)
    model.prefill(0, SAMPLE[: CONTEXT - 32])
    return np.stack([model.decode([0], [token])[0].copy() for token in SAMPLE[CONTEXT - 32 :]])


# Bounds of the divergence from float32 for these random weights: measured, and about twice that.
@pytest.mark.parametrize(
    ("variant", "most"),
    [
        ("cpu-fp16", 1e-5),
        ("cpu-bf16", 1e-3),
        ("cpu-int8-b128", 0.01),
        ("cpu-int4-b16", 0.4),
        ("cpu-int4-b256-asym-kq", 0.6),
        ("cpu-int4-mixed", 0.4),
        ("cpu-int4-gptq", 0.4),
        ("cpu-int4-asym-gptq-mixed-kv8", 0.4),
        ("cpu-fp32-kv8", 5e-3),
    ],
)
def test_a_recipe_gives_a_model_that_runs_and_the_same_bytes_again(
    built: Path, tmp_path: Path, texts: tuple[tuple[int, ...], ...], variant: str, most: float
) -> None:
    first, again = (derive(built, tmp_path / name, variant, texts) for name in ("first", "again"))
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert all((first / name).read_bytes() == (again / name).read_bytes() for name in names)
    assert divergence(logits(first), logits(built / "plain")) < most


@pytest.fixture(scope="module")
def small(built: Path, tmp_path_factory: pytest.TempPathFactory, texts: tuple[tuple[int, ...], ...]) -> Path:
    """A folder whose keys and values are int8."""
    return derive(built, tmp_path_factory.mktemp("kv") / "small", "cpu-fp32-kv8", texts)


def test_keys_in_bytes_are_driven_by_our_own_runner(small: Path, built: Path) -> None:
    folder = model_folder.read(small)
    assert folder.why_not_plain(CONTEXT) == ""
    assert folder.kv_bytes_per_token * 4 == model_folder.read(built / "plain").kv_bytes_per_token
    assert runner(small).kv_bytes_per_token == folder.kv_bytes_per_token


def test_keys_in_bytes_do_not_depend_on_how_the_tokens_came(small: Path) -> None:
    """Chunks, rows of several lengths side by side, copies and rewinding: the logits are those of one prompt."""
    model = runner(small)
    whole = model.prefill(0, SAMPLE[:120]).copy()
    chunked = [model.prefill(1, SAMPLE[at : at + 40]) for at in range(0, 120, 40)][-1]
    np.testing.assert_allclose(chunked, whole, atol=1e-4)
    following = model.prefill(2, SAMPLE[:121]).copy()
    model.copy(0, 2, 70)
    model.prefill(2, SAMPLE[70:100])
    ragged = model.decode([0, 2, 1], [SAMPLE[120], SAMPLE[100], SAMPLE[120]]).copy()
    np.testing.assert_allclose(ragged[0], following, atol=1e-4)
    np.testing.assert_allclose(ragged[2], following, atol=1e-4)
    model.keep(0, 100)
    np.testing.assert_allclose(model.decode([0], [SAMPLE[100]])[0], ragged[1], atol=1e-4)


def test_a_graph_without_grouped_attention_keeps_its_floats(
    built: Path, tmp_path: Path, texts: tuple[tuple[int, ...], ...]
) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(BuildFailed, match="need GroupQueryAttention"):
        graph.derive(built / "concatenating", tmp_path / "made", parse_variant("cpu-int4-kv8"), None, texts)
    assert not list((tmp_path / "made").iterdir())


def test_calibration_texts_have_control_tokens_and_a_bounded_length(built: Path) -> None:
    tokens = calibration_tokens(built / "plain")
    assert max(map(len, tokens)) <= TOKENS
    assert 3000 < sum(map(len, tokens)) < 20000
    assert any(1 in text for text in tokens)  # <|im_start|>


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        ("qnn-int4", "no target for qnn"),
        ("coreml-fp16", "no target for coreml"),
        ("cuda-int4-gptq", "gptq is for cpu"),
        ("cuda-int4-kq", "asym-kq"),
    ],
)
def test_what_nobody_can_build_is_refused(variant: str, says: str) -> None:
    assert says in variants.why_not_built(parse_variant(variant))


def test_openvino_gets_the_cpu_s_graph(built: Path, tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.mkdir()
    bench = StepContext(tmp_path, tmp_path / "log", Toolchains(tmp_path))
    recipe = parse_variant("openvino-int4")
    asyncio.run(variants.derive(built / "plain", built / "plain-source", target, recipe, bench))
    config = json.loads((target / "genai_config.json").read_bytes())
    options = config["model"]["decoder"]["session_options"]["provider_options"]
    assert options == [{"OpenVINO": {"device_type": "CPU"}}]
    assert model_folder.read(target).why_not_plain(CONTEXT)  # onnxruntime-genai drives it
    assert not variants.is_run_here(recipe)


def test_the_builder_makes_what_is_for_other_providers(built: Path, tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.mkdir()
    bench = StepContext(tmp_path, tmp_path / "log", Toolchains(tmp_path))
    recipe = parse_variant("cuda-int4-asym-kq-mixed")
    assert recipe.provider is Provider.CUDA
    asyncio.run(variants.derive(built / "plain", built / "plain-source", target, recipe, bench))
    made = onnx.load(target / "model.onnx", load_external_data=False).graph
    products = [node for node in made.node if node.op_type == "MatMulNBits"]
    attributes = [{one.name: one.i for one in node.attribute} for node in products]
    assert {one["block_size"] for one in attributes} == {32}
    assert {one["bits"] for one in attributes} == {4, 8}
    assert all(len(node.input) > 3 for node in products)
    assert made.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
