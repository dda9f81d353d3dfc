"""Which runner a folder gets, and what the graph file says of itself; on tiny graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from foundry_lite.engine.runners import model_folder, onnx_header
from foundry_lite.engine.runners.ort import OrtRunner
from foundry_lite.engine.runners.select import open_runner, runner_name
from foundry_lite.errors import LoadFailed
from tests import tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_model.install(tmp_path, "alphabet")


def _configure(folder: Path, **search: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "genai_config.json").read_bytes())
    config["search"] = search
    (folder / "genai_config.json").write_text(json.dumps(config))
    return config


def _make_concatenating(folder: Path) -> None:
    """The same inputs and outputs, but the caches are concatenated. It is only looked at, never run."""
    model = onnx.load(folder / "model.onnx")
    attention = next(one for one in model.graph.node if one.op_type == "GroupQueryAttention")
    at = list(model.graph.node).index(attention)
    model.graph.node.remove(attention)
    for number, kind in enumerate(("key", "value")):
        names = [f"past_key_values.0.{kind}", f"past_key_values.0.{kind}"]
        model.graph.node.insert(at + number, helper.make_node("Concat", names, [f"present.0.{kind}"], axis=2))
    onnx.save(model, folder / "model.onnx")


def test_a_plain_decoder_gets_our_own_runner(folder: Path) -> None:
    runner = open_runner(folder, threads=1, slots=1, context_length=64)
    assert isinstance(runner, OrtRunner)
    assert runner_name(runner) == "onnxruntime"


def test_a_graph_that_concatenates_is_found_though_its_inputs_are_the_same(folder: Path) -> None:
    before = model_folder.read(folder).graph
    _make_concatenating(folder)
    _configure(folder, past_present_share_buffer=True)
    found = model_folder.read(folder)
    assert (found.graph.inputs, found.graph.outputs) == (before.inputs, before.outputs)
    assert "layer 0 does not keep its keys and values with GroupQueryAttention" in found.why_not_plain(64)


def test_a_configuration_that_shares_no_memory_is_believed(folder: Path) -> None:
    assert model_folder.read(folder).why_not_plain(64) == ""
    _configure(folder, past_present_share_buffer=False)
    assert "do not share" in model_folder.read(folder).why_not_plain(64)


@pytest.mark.parametrize("has_default", [False, True])
def test_an_input_more_is_odd_unless_it_has_a_default(folder: Path, has_default: bool) -> None:
    model = onnx.load(folder / "model.onnx")
    model.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))
    if has_default:
        model.graph.initializer.append(helper.make_tensor("extra", TensorProto.FLOAT, [1], [0.5]))
    onnx.save(model, folder / "model.onnx")
    assert model_folder.read(folder).why_not_plain(64) == (
        "" if has_default else "its inputs are others than a plain decoder's: extra"
    )


def test_a_window_longer_than_the_context_is_not_for_our_own_runner(folder: Path) -> None:
    config = _configure(folder)
    config["model"]["decoder"]["sliding_window"] = {"window_size": 100}
    (folder / "genai_config.json").write_text(json.dumps(config))
    assert model_folder.read(folder).why_not_plain(100) == ""
    assert "window of 100" in model_folder.read(folder).why_not_plain(99)


def test_a_folder_that_no_runner_can_drive_is_refused_with_both_reasons(folder: Path) -> None:
    config = _configure(folder, past_present_share_buffer=False)
    config["model"]["type"] = "nonsense"
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(LoadFailed, match=r"do not share their memory; onnxruntime-genai: .*nonsense"):
        open_runner(folder, threads=1, slots=1, context_length=64)


def test_a_model_that_sees_is_refused_before_anything_is_loaded(folder: Path) -> None:
    config = _configure(folder, past_present_share_buffer=False)
    config["model"]["vision"] = {}
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(LoadFailed, match="more than tokens: vision"):
        open_runner(folder, threads=1, slots=1, context_length=64)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("genai_config.json", b"{", "genai_config.json cannot be read"),
        ("genai_config.json", b'{"model": {}}', "decoder"),
        ("genai_config.json", b"[]", "genai_config.json cannot be read"),
        ("model.onnx", b"", "model.onnx is no ONNX graph"),
        ("model.onnx", b"\x80" * 40, "model.onnx is no ONNX graph"),
        ("model.onnx", b"not a graph", "model.onnx is no ONNX graph"),
        ("model.onnx", None, "model.onnx cannot be read: No such file"),
    ],
)
def test_damaged_files_are_named(folder: Path, name: str, content: bytes | None, message: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(LoadFailed, match=message):
        open_runner(folder, threads=1, slots=1, context_length=64)


def test_a_graph_cut_off_anywhere_is_refused(folder: Path) -> None:
    whole = (folder / "model.onnx").read_bytes()
    cut = folder / "cut.onnx"
    for length in range(1, len(whole) - 100, len(whole) // 50):
        cut.write_bytes(whole[:length])
        with pytest.raises(LoadFailed, match="no ONNX graph"):
            onnx_header.read(cut)


def test_the_graph_is_read_as_the_onnx_package_reads_it(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    model.graph.input.append(helper.make_tensor_value_info("axis_1", TensorProto.INT64, [1]))
    onnx.save(model, folder / "model.onnx")
    ours, theirs = onnx_header.read(folder / "model.onnx"), model.graph
    for values, infos in ((ours.inputs, theirs.input), (ours.outputs, theirs.output)):
        assert list(values) == [one.name for one in infos]
        for info in infos:
            tensor = info.type.tensor_type
            shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
            assert values[info.name] == onnx_header.Value(tensor.elem_type, shape)
    assert [(one.inputs, one.outputs) for one in ours.nodes] == [
        (tuple(one.input), tuple(one.output)) for one in theirs.node
    ]
    kinds = {one.kind for one in ours.nodes}
    assert {"Gather", "com.microsoft.GroupQueryAttention"} <= kinds
    assert ours.optional == {"axis_1"}
