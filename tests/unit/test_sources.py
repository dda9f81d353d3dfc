"""What can be imported: folders written by hand, and why most of them are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundry_lite.build.sources import ARCHITECTURES, HfFolder, describe, inspect, link_files
from foundry_lite.catalog.card import Defaults
from foundry_lite.errors import (
    DamagedWeights,
    NotAModel,
    PickledWeights,
    RemoteCode,
    SourceRejected,
    UnsupportedArchitecture,
)
from tests.unit.safetensors_file import write_tensors

CONFIG = {"architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 512}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The smallest folder that is accepted."""
    folder = tmp_path / "source"
    folder.mkdir()
    write(folder, "config.json", CONFIG)
    write(folder, "tokenizer.json", {})
    write_tensors(folder / "model.safetensors", {"embed": [10, 4], "norm": [4]})
    return folder


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def refusal(folder: Path, kind: type[SourceRejected]) -> str:
    """Inspect the folder; return the message of the refusal, which has a hint."""
    with pytest.raises(SourceRejected) as caught:
        inspect(folder)
    assert type(caught.value) is kind
    assert caught.value.hint
    return caught.value.message


def test_an_accepted_folder_says_what_it_is(folder: Path) -> None:
    source = inspect(folder)
    assert source == HfFolder(
        folder=folder,
        architecture="Qwen2ForCausalLM",
        parameters=44,
        context_length=512,
        defaults=Defaults(),
        license="unknown",
        files=(folder / "model.safetensors", folder / "config.json", folder / "tokenizer.json"),
    )
    assert source.weight_bytes == (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_supported_family_is_accepted(architecture: str, folder: Path) -> None:
    write(folder, "config.json", {**CONFIG, "architectures": [architecture]})
    assert inspect(folder).architecture == architecture


def test_what_is_no_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert refusal(tmp_path / "nowhere", NotAModel) == f"{tmp_path / 'nowhere'} is not a folder"
    assert refusal(tmp_path / "file", NotAModel) == f"{tmp_path / 'file'} is not a folder"


def test_a_folder_without_a_config_is_no_model(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert refusal(folder, NotAModel) == f"{folder} is no model folder: it has no config.json"


def test_an_adapter_is_named_as_one(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")
    assert refusal(folder, NotAModel) == f"{folder} is no model folder: it has an adapter"


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"", b"[" * 100_000], ids=["cut", "binary", "empty", "deep"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_file_that_is_no_json_is_named(body: bytes, name: str, folder: Path) -> None:
    (folder / name).write_bytes(body)
    assert refusal(folder, NotAModel).startswith(f"{name} cannot be read: ")


def test_a_config_that_is_no_object_is_named(folder: Path) -> None:
    write(folder, "config.json", [CONFIG])
    assert refusal(folder, NotAModel) == "config.json is not a JSON object"


@pytest.mark.parametrize(
    ("architectures", "given"),
    [
        (["GPT2LMHeadModel"], "'GPT2LMHeadModel'"),
        (["BertModel", "Qwen2ForCausalLM"], "'BertModel'"),
        ([], "none named in config.json"),
        (None, "none named in config.json"),
        ("Qwen2ForCausalLM", "none named in config.json"),
        ([["Qwen2ForCausalLM"]], "'['Qwen2ForCausalLM']'"),
    ],
)
def test_another_architecture_is_refused_by_name(architectures: Any, given: str, folder: Path) -> None:
    write(folder, "config.json", {**CONFIG, "architectures": architectures})
    assert refusal(folder, UnsupportedArchitecture) == f"the architecture ({given}) is not supported"


def test_weights_that_are_quantized_already_are_refused(folder: Path) -> None:
    write(folder, "config.json", {**CONFIG, "quantization_config": {"quant_method": "gptq"}})
    assert "quantized already" in refusal(folder, UnsupportedArchitecture)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_folder_that_wants_its_code_run_is_refused(name: str, folder: Path) -> None:
    write(folder, name, {**CONFIG, "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}})
    assert refusal(folder, RemoteCode).startswith(f"{name} has an 'auto_map'")


def test_code_is_refused_before_the_architecture_is_looked_at(folder: Path) -> None:
    write(folder, "config.json", {"architectures": ["MineForCausalLM"], "auto_map": {}})
    refusal(folder, RemoteCode)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt", "last.ckpt", "weights.pkl"])
def test_pickled_weights_are_refused_by_name(name: str, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / name)
    assert refusal(folder, PickledWeights) == f"the weights are pickled ({name}): reading them can run any code"


def test_pickles_beside_safetensors_are_left_alone(folder: Path) -> None:
    (folder / "training_args.bin").write_bytes(b"\x80\x04.")
    assert folder / "training_args.bin" not in inspect(folder).files


def test_a_folder_without_weights_is_no_model(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert refusal(folder, NotAModel) == f"{folder} has no model.safetensors"


def test_truncated_weights_are_refused(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    assert "truncated" in refusal(folder, DamagedWeights)


def test_a_folder_without_a_fast_tokenizer_is_no_model(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    assert refusal(folder, NotAModel) == f"{folder} has no tokenizer.json"


@pytest.mark.parametrize("length", [None, 0, -1, "512", 512.0])
def test_a_folder_that_does_not_say_its_context_is_no_model(length: Any, folder: Path) -> None:
    write(folder, "config.json", {**CONFIG, "max_position_embeddings": length})
    assert "max_position_embeddings" in refusal(folder, NotAModel)


def shard(folder: Path, names: dict[str, str]) -> None:
    """Say that the weights are in several files; write the first two of them."""
    (folder / "model.safetensors").unlink()
    write_tensors(folder / "model-00001-of-00002.safetensors", {"a": [3]})
    write_tensors(folder / "model-00002-of-00002.safetensors", {"b": [4], "c": [5]})
    write(folder, "model.safetensors.index.json", {"metadata": {}, "weight_map": names})


SHARDS = {
    "a": "model-00001-of-00002.safetensors",
    "b": "model-00002-of-00002.safetensors",
    "c": "model-00002-of-00002.safetensors",
}


def test_the_weights_of_all_shards_are_counted(folder: Path) -> None:
    shard(folder, SHARDS)
    source = inspect(folder)
    assert source.parameters == 3 + 4 + 5
    assert [path.name for path in source.files[:2]] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_a_missing_shard_is_named(folder: Path) -> None:
    shard(folder, SHARDS)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert refusal(folder, DamagedWeights) == "1 of 2 shards are missing: model-00002-of-00002.safetensors"


def test_a_truncated_shard_is_named(folder: Path) -> None:
    shard(folder, SHARDS)
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    assert refusal(folder, DamagedWeights).startswith("model-00002-of-00002.safetensors is damaged: it is truncated")


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/x.safetensors", "sub\\x.safetensors", "x.bin", ""])
def test_an_index_that_names_other_files_is_refused(name: str, folder: Path) -> None:
    shard(folder, {**SHARDS, "d": name})
    write_tensors(folder.parent / "x.safetensors", {"d": [1]})
    assert refusal(folder, DamagedWeights) == ("model.safetensors.index.json names no safetensors files of this folder")


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["a"]}])
def test_an_index_that_names_nothing_is_refused(index: Any, folder: Path) -> None:
    write(folder, "model.safetensors.index.json", index)
    refusal(folder, DamagedWeights)


@pytest.mark.parametrize(
    ("own", "defaults"),
    [
        ({}, Defaults(temperature=1.0, top_p=1.0, top_k=0)),
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.5}, Defaults(temperature=0.0, top_p=1.0, top_k=0)),
        (
            {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
            Defaults(temperature=0.7, top_p=0.8, top_k=20),
        ),
        ({"temperature": 0.6, "top_k": 40}, Defaults(temperature=0.6, top_p=1.0, top_k=40)),
        ({"temperature": 1}, Defaults(temperature=1.0)),
        ({"temperature": None, "top_p": None, "top_k": None}, Defaults()),
        ({"temperature": "hot", "top_p": 1.5, "top_k": -1}, Defaults()),
        ({"top_p": 0}, Defaults()),
        ({"temperature": -1}, Defaults()),
        ({"temperature": float("nan"), "top_p": float("nan")}, Defaults()),
    ],
)
def test_the_models_own_sampling_is_taken(own: Any, defaults: Defaults, folder: Path) -> None:
    write(folder, "generation_config.json", own)
    assert inspect(folder).defaults == defaults


@pytest.mark.parametrize(
    ("readme", "license"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model", "apache-2.0"),
        ("---\nlicense: mit\n---", "mit"),
        ('---\nlicense: "mit"\n---', "mit"),
        ("---\nlicense:\n---\n", "unknown"),
        ("---\nlanguage: en\n---\nlicense: mit", "unknown"),
        ("# Model\nlicense: mit", "unknown"),
        ("---\nlicense: mit\nnever closed", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_licence_is_read_from_the_front_matter(readme: str, license: str, folder: Path) -> None:
    (folder / "README.md").write_text(readme)
    assert inspect(folder).license == license


def test_the_build_sees_the_known_files_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    (folder / "modeling_mine.py").write_text("raise SystemExit")
    (folder / "training_args.bin").write_bytes(b"\x80\x04.")
    write(folder, "generation_config.json", {})
    linked = link_files(inspect(folder), tmp_path / "linked")
    assert sorted(path.name for path in linked.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert json.loads((linked / "config.json").read_bytes()) == CONFIG


def test_the_record_of_a_source_has_the_hash_of_each_file(folder: Path) -> None:
    record = describe(inspect(folder), "as/given")
    assert (record.kind, record.location, record.parameters) == ("huggingface-folder", "as/given", 44)
    assert [entry.path for entry in record.files] == ["model.safetensors", "config.json", "tokenizer.json"]
    # sha256sum of the two characters {}
    assert record.files[2].sha256 == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
