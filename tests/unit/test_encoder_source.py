"""What a folder of an encoder says of itself, and what is refused by name. No weights but a handful of zeros."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.encoder import Activation, Encoder, Pooling, read_encoder, write_encoder
from foundry_lite.catalog.recipe import parse_variant
from foundry_lite.conversion.export import encoder as encoders
from foundry_lite.conversion.sources import sentence_transformers
from foundry_lite.conversion.sources.source_model import Exporter, Kind
from foundry_lite.conversion.sources.weight_checks import INDEX
from foundry_lite.engine.encoder.pooling import pool
from foundry_lite.errors import (
    CheckFailed,
    DamagedArtifact,
    DamagedWeights,
    NotAModel,
    PickledWeights,
    RemoteCode,
    UnsafeSource,
    UnsupportedArchitecture,
)
from tests.unit.safetensors_file import write_tensors
from tests.unit.test_weight_files import cut, prepared

_CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"],
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 10,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
}
_MODULES = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def _write(folder: Path, pooling: dict[str, Any] | None = None, **config: Any) -> Path:
    """A folder of sentence-transformers when ``pooling`` is given, else a plain one."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**_CONFIG, **config}))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": []}))
    write_tensors(
        folder / "model.safetensors",
        {
            "embeddings.word_embeddings.weight": [10, 8],
            "encoder.layer.0.output.dense.weight": [8, 8],
        },
    )
    if pooling is not None:
        (folder / "modules.json").write_text(json.dumps(_MODULES))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def test_a_folder_of_sentence_transformers_says_how_its_vectors_are_made(tmp_path: Path) -> None:
    folder = _write(tmp_path / "model", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": true}')
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}'
    )
    assert sentence_transformers.recognises(folder)
    found = sentence_transformers.inspect(folder)
    assert (found.kind, found.task, found.exporter) == (Kind.SENTENCES, Task.EMBED, Exporter.ENCODER)
    assert (found.context_length, found.parameters, found.notes) == (32, 144, ())
    assert {path.relative_to(folder).as_posix() for path in found.files} >= {"modules.json", "1_Pooling/config.json"}
    head = sentence_transformers.read_head(folder)
    assert (head.pooling, head.normalise, head.dimensions, head.pad_id) == (Pooling.CLS, True, 8, 1)
    assert head.lowercase
    assert (head.prompts, head.default_prompt) == ({"query": "query: "}, "query")


def test_the_newer_way_to_name_a_pooling_is_read_too(tmp_path: Path) -> None:
    assert sentence_transformers.read_head(_write(tmp_path, {"pooling_mode": "lasttoken"})).pooling is Pooling.LAST


def test_a_plain_folder_of_a_family_is_pooled_by_its_mean_and_says_so(tmp_path: Path) -> None:
    folder = _write(tmp_path, architectures=["XLMRobertaForMaskedLM"])
    assert sentence_transformers.recognises(folder)
    found = sentence_transformers.inspect(folder)
    assert "mean" in found.notes[0]
    assert found.context_length == 62  # positions begin behind that of the padding
    head = sentence_transformers.read_head(folder)
    assert (head.pooling, head.normalise) == (Pooling.MEAN, False)


def test_a_decoder_is_no_encoder_unless_sentence_transformers_says_so(tmp_path: Path) -> None:
    assert not sentence_transformers.recognises(_write(tmp_path, architectures=["Qwen3ForCausalLM"]))
    assert sentence_transformers.recognises(
        _write(tmp_path, {"pooling_mode": "lasttoken"}, architectures=["Qwen3ForCausalLM"])
    )
    assert sentence_transformers.read_head(tmp_path).task is Task.EMBED


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({}, Activation.SIGMOID),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, Activation.IDENTITY),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, Activation.SIGMOID),
    ],
)
def test_a_classifier_with_one_label_is_a_reranker(
    tmp_path: Path, config: dict[str, Any], activation: Activation
) -> None:
    folder = _write(tmp_path, architectures=["BertForSequenceClassification"], id2label={"0": "LABEL_0"}, **config)
    found = sentence_transformers.inspect(folder)
    assert (found.kind, found.task) == (Kind.CROSS, Task.RERANK)
    head = sentence_transformers.read_head(folder)
    assert (head.activation, head.dimensions, head.pooling) == (activation, 1, None)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, "2 labels"),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}, "3 labels"),
        ({"architectures": ["T5EncoderModel"]}, "'T5EncoderModel'"),
        ({"architectures": ["Qwen2ForSequenceClassification"], "num_labels": 1}, "'Qwen2ForSequenceClassification'"),
        ({"architectures": None}, "none named"),
        (
            {"architectures": ["BertForSequenceClassification"], "num_labels": 1,
             "sbert_ce_default_activation_function": "torch.nn.Tanh"},
            "'torch.nn.Tanh'",
        ),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    folder = _write(tmp_path, **config)
    with pytest.raises(UnsupportedArchitecture, match=said) as caught:
        sentence_transformers.inspect(folder)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("pooling", "said"),
    [
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, "cls and max"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({}, "not said"),
        ({"pooling_mode": "mean", "include_prompt": False}, "include_prompt"),
    ],
)
def test_a_pooling_that_would_not_be_computed_is_refused(tmp_path: Path, pooling: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=said):
        sentence_transformers.inspect(_write(tmp_path, pooling))


@pytest.mark.parametrize(
    ("modules", "error"),
    [
        ([*_MODULES, {"path": "3_Dense", "type": "sentence_transformers.models.Dense"}], UnsupportedArchitecture),
        ([_MODULES[1], _MODULES[0]], NotAModel),
        ([_MODULES[0], {**_MODULES[1], "path": "../elsewhere"}], UnsafeSource),
        ({"a": 1}, NotAModel),
        ([1], NotAModel),
    ],
)
def test_modules_that_are_not_understood_are_refused(tmp_path: Path, modules: Any, error: type[Exception]) -> None:
    folder = _write(tmp_path / "model", {"pooling_mode": "mean"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.json").write_text('{"pooling_mode": "mean"}')
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(error):
        sentence_transformers.inspect(folder)


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"vocab_size": 11}, DamagedWeights),
        ({"num_hidden_layers": 3}, DamagedWeights),
        ({"num_hidden_layers": 10**9}, UnsafeSource),
        ({"max_position_embeddings": 2}, NotAModel),
        ({"hidden_size": -1}, NotAModel),
        ({"auto_map": {"AutoModel": "evil.Model"}}, RemoteCode),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    tmp_path: Path, config: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        sentence_transformers.inspect(_write(tmp_path, **config))


def test_pickles_and_old_layouts_are_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = _write(tmp_path / "pickled", {"pooling_mode": "mean"})
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(PickledWeights):
        sentence_transformers.inspect(folder)
    old = _write(tmp_path / "old", {"pooling_mode": "mean"})
    (old / "config.json").unlink()
    (old / "modules.json").write_text(json.dumps([{**_MODULES[0], "path": "0_Transformer"}, *_MODULES[1:]]))
    assert sentence_transformers.recognises(old)
    with pytest.raises(NotAModel, match="'0_Transformer'"):
        sentence_transformers.inspect(old)


def test_an_encoder_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Encoder(Task.EMBED, 32, 8, 1, ("input_ids",), "last_hidden_state", Pooling.MAX, prompts={"q": "query: "})
    write_encoder(written, tmp_path)
    assert read_encoder(tmp_path) == written
    (tmp_path / "encoder.json").write_text('{"task": "embed"}')
    with pytest.raises(DamagedArtifact, match="max_length"):
        read_encoder(tmp_path)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (Pooling.MEAN, [[2, 2], [7, -1]]),
        (Pooling.CLS, [[1, 4], [7, -1]]),
        (Pooling.LAST, [[3, 0], [7, -1]]),
        (Pooling.MAX, [[3, 4], [7, -1]]),
    ],
)
def test_padding_has_no_part_in_a_vector(pooling: Pooling, expected: list[list[float]]) -> None:
    hidden = np.array([[[1, 4], [3, 0], [9, 9]], [[7, -1], [9, 9], [9, 9]]], np.float32)
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    assert pool(hidden, mask, pooling).tolist() == expected


@pytest.mark.parametrize(
    "variant", ["cpu-int4-b128-fp", "cpu-int8-lora", "cpu-int8-kv8", "cpu-int4-mixed", "cpu-int4-gptq", "cpu-int4-kept"]
)
def test_recipes_that_make_no_sense_for_an_encoder_say_why(variant: str) -> None:
    assert encoders.contradiction(parse_variant(variant))
    assert not encoders.contradiction(parse_variant("cpu-int8-fp"))


def test_other_tokens_and_results_that_are_no_numbers_fail_the_check(tmp_path: Path) -> None:
    head = Encoder(Task.EMBED, 32, 2, pooling=Pooling.MEAN)
    source, ours = tmp_path / "source.npz", tmp_path / "ours.npz"
    vectors = np.array([[1.0, 0.0], [0.0, 2.0]])
    np.savez(source, results=vectors, ids_0=[1, 2], ids_1=[3])
    np.savez(ours, results=vectors * [[3], [1]], ids_0=[1, 2], ids_1=[3])
    assert encoders.compare(source, ours, ["a", "b"], head) == pytest.approx(1)
    np.savez(ours, results=np.array([[1.0, 0.0], [2.0, 0.0]]), ids_0=[1, 2], ids_1=[3])
    assert encoders.compare(source, ours, ["a", "b"], head) == pytest.approx(0.5)
    np.savez(ours, results=vectors * np.nan, ids_0=[1, 2], ids_1=[3])
    with pytest.raises(CheckFailed, match="no numbers"):
        encoders.compare(source, ours, ["a", "b"], head)
    np.savez(ours, results=vectors, ids_0=[1, 2], ids_1=[4])
    with pytest.raises(CheckFailed, match="does not encode 'b'"):
        encoders.compare(source, ours, ["a", "b"], head)


def test_scores_are_compared_by_their_correlation(tmp_path: Path) -> None:
    head = Encoder(Task.RERANK, 32, 1)
    source, ours = tmp_path / "source.npz", tmp_path / "ours.npz"
    scores = np.array([[1.0], [2.0], [4.0]])
    np.savez(source, results=scores)
    np.savez(ours, results=2 * scores + 1)
    assert encoders.compare(source, ours, [], head) == pytest.approx(1)
    np.savez(ours, results=-scores)
    assert encoders.compare(source, ours, [], head) == pytest.approx(-1)
    np.savez(ours, results=scores * 0)
    assert encoders.compare(source, ours, [], head) == 0


def test_shards_of_an_encoder_come_to_its_exporter_with_an_index(tmp_path: Path) -> None:
    folder = _write(tmp_path / "source", {"pooling_mode": "mean"})
    where = cut(folder)
    target = prepared(sentence_transformers.inspect(folder), tmp_path)
    assert json.loads((target / INDEX).read_text())["weight_map"] == where
    assert (target / "1_Pooling" / "config.json").is_file()
