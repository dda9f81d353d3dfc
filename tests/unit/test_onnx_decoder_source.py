"""Plain ONNX decoders: what is a decoder with past key values, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.conversion.export.existing_onnx import describe
from foundry_lite.conversion.formats.hf_config import read_config, read_shape
from foundry_lite.conversion.sources import detect
from foundry_lite.conversion.sources.onnx_decoder import read_decoder, recognises
from foundry_lite.conversion.sources.source_model import Exporter, Kind
from foundry_lite.errors import NotAModel, SourceRejected, UnsafeSource, UnsupportedArchitecture
from tests.float_model import write_float_model
from tests.plain_onnx import write_plain_onnx


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_float_model(tmp_path_factory.mktemp("float") / "source")


@pytest.fixture
def folder(floats: Path, tmp_path: Path) -> Path:
    return write_plain_onnx(floats, tmp_path / "plain")


def edit(folder: Path, change: Any) -> None:
    """Change the graph of a folder."""
    model = onnx.load(folder / "model.onnx")
    change(model.graph)
    onnx.save(model, folder / "model.onnx")


def test_a_plain_decoder_says_what_it_is(folder: Path) -> None:
    found = detect.inspect(folder)
    assert (found.kind, found.exporter) == (Kind.ONNX, Exporter.NONE)
    assert (found.architecture, found.context_length) == ("LlamaForCausalLM", 512)
    assert (found.weight_bits, found.recipe) == (32, Recipe(Precision.FP32))
    assert found.files[0] == folder / "model.onnx"
    assert found.folder == folder


def test_a_graph_can_be_named_itself(floats: Path, tmp_path: Path) -> None:
    folder = write_plain_onnx(floats, tmp_path / "plain", graph_name="onnx/model_special.onnx")
    found = detect.inspect(folder / "onnx" / "model_special.onnx")
    assert found.folder == folder
    assert found.files[0].name == "model_special.onnx"


def test_weights_beside_a_graph_are_another_kind(folder: Path, floats: Path) -> None:
    assert recognises(folder)
    (folder / "model.safetensors").write_bytes((floats / "model.safetensors").read_bytes())
    assert not recognises(folder)
    assert detect.inspect(folder).kind is Kind.FOLDER


def test_the_engine_is_told_what_the_graph_takes(folder: Path) -> None:
    config = read_config(folder)
    found = detect.inspect(folder)
    made = describe(read_decoder(folder / "model.onnx", read_shape(config)), found, config)
    decoder = made["model"]["decoder"]
    assert (decoder["num_hidden_layers"], decoder["num_key_value_heads"], decoder["head_size"]) == (2, 2, 16)
    assert decoder["inputs"] == {
        "input_ids": "input_ids",
        "attention_mask": "attention_mask",
        "position_ids": "position_ids",
        "past_key_names": "past_key_values.%d.key",
        "past_value_names": "past_key_values.%d.value",
    }
    assert made["model"]["eos_token_id"] == 2
    assert made["search"]["past_present_share_buffer"] is False


def test_several_ends_of_a_turn_are_all_kept(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 1]}))
    (folder / "config.json").write_text(
        json.dumps({key: value for key, value in read_config(folder).items() if key != "pad_token_id"})
    )
    config = read_config(folder)
    made = describe(read_decoder(folder / "model.onnx", read_shape(config)), detect.inspect(folder), config)
    assert made["model"]["eos_token_id"] == [2, 1]
    assert made["model"]["pad_token_id"] == 2


def _without(name: str) -> Any:
    def change(graph: onnx.GraphProto) -> None:
        kept = [one for one in graph.input if one.name != name]
        del graph.input[:]
        graph.input.extend(kept)

    return change


def _flat(graph: onnx.GraphProto) -> None:
    del graph.input[3].type.tensor_type.shape.dim[3]


def _no_present(graph: onnx.GraphProto) -> None:
    graph.output[1].name = "renamed"


def _no_past(graph: onnx.GraphProto) -> None:
    del graph.input[3:]


def _odd(graph: onnx.GraphProto) -> None:
    graph.input.append(helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_no_past, "keeps no past key values"),
        (_odd, "its inputs are others than a plain decoder's: pixel_values"),
        (_without("attention_mask"), "others than a plain decoder's: attention_mask"),
        (_without("past_key_values.0.key"), "of 1 of 2 layers only"),
        (_flat, "past_key_values.0.key has the shape"),
        (_no_present, "does not give present.0.key"),
    ],
)
def test_another_graph_is_refused_by_what_it_takes(change: Any, says: str, folder: Path) -> None:
    edit(folder, change)
    with pytest.raises(UnsupportedArchitecture, match=says) as caught:
        detect.inspect(folder)
    assert "text-generation-with-past" in caught.value.hint


def test_what_else_is_wrong_is_said(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "kept")
    with pytest.raises(NotAModel, match="no tokenizer.json"):
        detect.inspect(folder)
    (folder / "kept").rename(folder / "tokenizer.json")
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(SourceRejected, match="no ONNX graph"):
        detect.inspect(folder)
    (folder / "config.json").unlink()
    with pytest.raises(NotAModel, match="no config.json"):
        detect.inspect(folder)


def test_a_graph_that_is_a_link_out_of_its_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(UnsafeSource, match="outside of"):
        detect.inspect(folder)
