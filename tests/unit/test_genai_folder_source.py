"""Folders that are ready for onnxruntime-genai: taken as they stand, unless something of them leads elsewhere."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from foundry_lite.catalog.card import Defaults
from foundry_lite.catalog.recipe import Algorithm, Precision, Provider, Recipe
from foundry_lite.conversion.checkpoint import normalize
from foundry_lite.conversion.export import decoder
from foundry_lite.conversion.formats.onnx_weights import read_weights
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources import detect
from foundry_lite.conversion.sources.chat_templates import PLAIN_TEMPLATE_NOTE
from foundry_lite.conversion.sources.source_model import Exporter, Kind, SourceModel
from foundry_lite.conversion.toolchains.toolchains import Toolchains
from foundry_lite.engine.runners.select import open_runner
from foundry_lite.errors import DamagedWeights, NotAModel, RemoteCode, UnsafeSource, UnsupportedArchitecture
from tests.tiny_model import install


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that works, its graph under a name of its own, its weights in two files."""
    made = install(tmp_path / "home", "tiny")
    model = onnx.load(made / "model.onnx")
    onnx.save(
        model, made / "decoder.onnx", save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=1024
    )
    (made / "model.onnx").unlink()
    change(made, lambda config: config["model"]["decoder"].update(filename="decoder.onnx"))
    return made


def change(folder: Path, edit: Any) -> None:
    config = json.loads((folder / "genai_config.json").read_bytes())
    edit(config)
    (folder / "genai_config.json").write_text(json.dumps(config))


def adopt(found: SourceModel, tmp_path: Path) -> Path:
    """Do what the pipeline does with it; return the export."""
    for name in ("scratch", "prepared", "exported"):
        (tmp_path / name).mkdir()
    bench = StepContext(tmp_path / "scratch", tmp_path / "log", Toolchains(tmp_path / "toolchains"))
    asyncio.run(normalize.prepare(found, tmp_path / "prepared", bench))
    asyncio.run(decoder.export(found, tmp_path / "prepared", tmp_path / "exported", bench))
    return tmp_path / "exported"


def test_a_ready_folder_says_what_it_is(folder: Path) -> None:
    found = detect.inspect(folder)
    assert found.kind is Kind.GENAI
    assert found.exporter is Exporter.NONE
    assert (found.context_length, found.weight_bits) == (512, 32)
    assert found.recipe == Recipe(Precision.FP32)
    assert not found.needs_template
    assert {path.name for path in found.files} >= {"genai_config.json", "decoder.onnx", "table", "embedding"}
    assert "card.toml" not in {path.name for path in found.files}
    assert "no source to compare it with" in found.notes[0]


def test_it_runs_as_it_stands(folder: Path, tmp_path: Path) -> None:
    exported = adopt(detect.inspect(folder), tmp_path)
    runner = open_runner(exported, threads=1, slots=1, context_length=64)
    original = open_runner(folder, threads=1, slots=1, context_length=64)
    np.testing.assert_array_equal(runner.prefill(0, [5, 6, 7]), original.prefill(0, [5, 6, 7]))
    assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in exported.iterdir())


def test_a_folder_without_a_template_gets_a_plain_one(folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    found = detect.inspect(folder)
    assert found.needs_template
    assert found.notes[-1] == PLAIN_TEMPLATE_NOTE
    assert "assistant:" in (adopt(found, tmp_path) / "chat_template.jinja").read_text()


@pytest.mark.parametrize(
    ("edit", "kind", "says"),
    [
        (lambda config: config.pop("model"), NotAModel, "no section 'model'"),
        (lambda config: config["model"].pop("decoder"), NotAModel, "no section 'decoder'"),
        (lambda config: config["model"].update(vision={}), UnsupportedArchitecture, r"several graphs \(vision\)"),
        (lambda config: config["model"]["decoder"].update(pipeline=[]), UnsupportedArchitecture, "decoder.pipeline"),
        (lambda config: config["model"].update(context_length=0), NotAModel, "'context_length' is 0"),
        (lambda config: config["model"].update(context_length="long"), NotAModel, "'context_length' is 'long'"),
        (lambda config: config["model"].update(context_length=10**12), UnsafeSource, "no model has more"),
        (lambda config: config["model"]["decoder"].update(num_hidden_layers=10**9), UnsafeSource, "num_hidden_layers"),
        (lambda config: config["model"]["decoder"].update(filename="../x.onnx"), UnsafeSource, "outside of its folder"),
        (lambda config: config["model"]["decoder"].update(filename="gone.onnx"), NotAModel, "which is missing"),
        (lambda config: config["model"]["decoder"].update(filename=7), NotAModel, "names no graph"),
        (
            lambda config: config["model"]["decoder"].update(session_options={"custom_ops_library": "evil.so"}),
            RemoteCode,
            "'custom_ops_library'",
        ),
    ],
)
def test_what_cannot_be_taken_says_why(edit: Any, kind: type[Exception], says: str, folder: Path) -> None:
    change(folder, edit)
    with pytest.raises(kind, match=says):
        detect.inspect(folder)


def test_sampling_and_provider_are_read(folder: Path) -> None:
    change(
        folder, lambda config: config.update(search={"do_sample": True, "temperature": 0.5, "top_k": 40, "top_p": 7})
    )
    change(
        folder, lambda config: config["model"]["decoder"].update(session_options={"provider_options": [{"cuda": {}}]})
    )
    found = detect.inspect(folder)
    assert found.defaults == Defaults(temperature=0.5, top_k=40)
    assert found.recipe is not None
    assert found.recipe.provider is Provider.CUDA
    change(folder, lambda config: config.update(search={"do_sample": False}))
    assert detect.inspect(folder).defaults == Defaults(temperature=0.0)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "table").rename(tmp_path / "table")
    (folder / "table").symlink_to(tmp_path / "table")
    with pytest.raises(UnsafeSource, match="outside of"):
        detect.inspect(folder)


def test_data_that_is_missing_or_short_is_named(folder: Path) -> None:
    whole = (folder / "table").read_bytes()
    (folder / "table").write_bytes(whole[:-1])
    with pytest.raises(DamagedWeights, match="table is truncated"):
        detect.inspect(folder)
    (folder / "table").unlink()
    with pytest.raises(DamagedWeights, match="its weights in table, which is missing"):
        detect.inspect(folder)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "C:\\x", "..\\x", ""])
@pytest.mark.parametrize("hidden", [False, True], ids=["initializer", "within a node"])
def test_data_outside_of_the_folder_is_refused(location: str, hidden: bool, tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(400, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    initializers = [numpy_helper.from_array(np.zeros(3, np.float32), "v")]
    nodes = [helper.make_node("Identity", ["v"], ["y"])]
    output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    if hidden:
        inner = helper.make_graph([helper.make_node("Constant", [], ["z"], value=tensor)], "inner", [], [])
        nodes.append(helper.make_node("If", ["c"], ["q"], then_branch=inner, else_branch=inner))
    else:
        initializers.append(tensor)
    model = helper.make_model(helper.make_graph(nodes, "g", [], output, initializers))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsafeSource, match="outside of its folder"):
        read_weights(tmp_path / "model.onnx", tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f", b"not onnx"])
def test_what_is_no_graph_is_refused(content: bytes, folder: Path) -> None:
    (folder / "decoder.onnx").write_bytes(content)
    with pytest.raises((DamagedWeights, NotAModel)):
        detect.inspect(folder)


def quantized(bits: int, block: int, *, zeros: bool) -> bytes:
    inputs = ["x", "packed", "scales", *["zp"] * zeros]
    node = helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", K=256, N=8, bits=bits,
                            block_size=block)  # fmt: skip
    arrays = {"packed": np.zeros((8, 256 // block, block * bits // 8), np.uint8),
              "scales": np.zeros(8 * 256 // block, np.float32), "zp": np.zeros(64, np.uint8),
              "norm": np.zeros(256, np.float32)}  # fmt: skip
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], tensors)
    return bytes(helper.make_model(graph).SerializeToString())


@pytest.mark.parametrize(
    ("bits", "block", "zeros", "recipe"),
    [
        (4, 32, False, Recipe(Precision.INT4, 32, algorithm=Algorithm.KEPT)),
        (4, 128, True, Recipe(Precision.INT4, 128, symmetric=False, algorithm=Algorithm.KEPT)),
        (8, 64, False, Recipe(Precision.INT8, 64, algorithm=Algorithm.KEPT)),
        (2, 32, False, None),
    ],
)
def test_the_recipe_is_read_off_the_graph(
    bits: int, block: int, zeros: bool, recipe: Recipe | None, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(quantized(bits, block, zeros=zeros))
    found = read_weights(tmp_path / "model.onnx", tmp_path)
    assert (found.bits, found.recipe) == (bits, recipe)
    assert found.parameters >= 256 * 8 + 256
