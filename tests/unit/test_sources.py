"""What a plain folder is found to be. What is wrong with folders is in test_broken_sources.py."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundry_lite.catalog.card import Defaults
from foundry_lite.conversion import architectures as families
from foundry_lite.conversion.formats import safetensors
from foundry_lite.conversion.sources.detect import inspect
from foundry_lite.conversion.sources.source_model import Kind, SourceModel
from foundry_lite.errors import DamagedWeights, NotAModel, PickledWeights, RemoteCode, UnsupportedArchitecture
from tests.unit import source_folder
from tests.unit.source_folder import change_config, write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return source_folder.write(tmp_path / "source")


def test_an_accepted_folder_says_what_it_is(folder: Path) -> None:
    (folder / "modeling_mine.py").write_text("raise SystemExit")
    (folder / "training_args.bin").write_bytes(b"\x80\x04.")
    assert inspect(folder) == SourceModel(
        kind=Kind.FOLDER,
        folder=folder,
        files=tuple(
            folder / name for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
        ),
        architecture="LlamaForCausalLM",
        parameters=source_folder.PARAMETERS,
        context_length=512,
        weight_bits=32,
    )


def test_the_width_is_that_of_most_weights(folder: Path) -> None:
    found = source_folder.arrays()
    kinds = {name: ("F32" if one.ndim == 1 else "BF16", one.shape) for name, one in found.items()}
    data = {
        name: [one if one.ndim == 1 else (one.view(np.uint32) >> 16).astype(np.uint16)] for name, one in found.items()
    }
    safetensors.write(folder / "model.safetensors", kinds, data)
    assert inspect(folder).weight_bits == 16


def test_what_cannot_be_read_is_no_model_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotAModel, match="cannot be read: File name too long"):
        inspect(tmp_path / ("x" * 300))
    (tmp_path / "file").write_text("x")

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(NotAModel, match=r"file cannot be read: Permission denied"):
        inspect(tmp_path / "file")


def test_what_is_not_there_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotAModel, match="does not exist"):
        inspect(tmp_path / "nowhere")
    with pytest.raises(NotAModel):
        inspect(tmp_path / "file")


def test_a_folder_without_a_config_is_no_model(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(NotAModel, match="has no config.json"):
        inspect(folder)


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"", b"[" * 100_000], ids=["cut", "binary", "empty", "deep"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_file_that_is_no_json_is_named(body: bytes, name: str, folder: Path) -> None:
    (folder / name).write_bytes(body)
    with pytest.raises(NotAModel, match=f"{name} cannot be read: "):
        inspect(folder)


def test_a_config_that_is_no_object_is_named(folder: Path) -> None:
    write_json(folder, "config.json", [source_folder.CONFIG])
    with pytest.raises(NotAModel, match=r"config\.json is not a JSON object"):
        inspect(folder)


@pytest.mark.parametrize(
    ("architectures", "given"),
    [
        (["MineForCausalLM", "Qwen2ForCausalLM"], "'MineForCausalLM'"),
        ([], "none named in config.json"),
        (None, "none named in config.json"),
        ("Qwen2ForCausalLM", "none named in config.json"),
        ([["Qwen2ForCausalLM"]], "Qwen2ForCausalLM"),
    ],
)
def test_another_architecture_is_refused_by_name(architectures: Any, given: str, folder: Path) -> None:
    change_config(folder, architectures=architectures)
    with pytest.raises(UnsupportedArchitecture, match="is not supported") as caught:
        inspect(folder)
    assert given in caught.value.message
    assert families.supported()[0] in caught.value.hint


def test_weights_that_are_quantized_already_are_refused(folder: Path) -> None:
    change_config(folder, quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(UnsupportedArchitecture):
        inspect(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_folder_that_wants_its_code_run_is_refused(name: str, folder: Path) -> None:
    (folder / "modeling_mine.py").write_text("raise SystemExit")
    write_json(folder, name, {**source_folder.CONFIG, "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}})
    with pytest.raises(RemoteCode, match=f"{name} has an 'auto_map'"):
        inspect(folder)


def test_code_is_refused_before_the_architecture_is_looked_at(folder: Path) -> None:
    write_json(folder, "config.json", {"architectures": ["MineForCausalLM"], "auto_map": {}})
    with pytest.raises(RemoteCode):
        inspect(folder)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
        "consolidated.00.pth",
        "model.pt",
        "last.ckpt",
        "weights.pkl",
    ],
)
def test_pickled_weights_are_refused_by_name(name: str, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(PickledWeights, match=name):
        inspect(folder)


def test_a_folder_without_weights_is_no_model(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "training_args.bin").write_bytes(b"")
    (folder / "rng_state_0.pth").write_bytes(b"")
    with pytest.raises(NotAModel, match=r"has no model\.safetensors"):
        inspect(folder)


@pytest.mark.parametrize("missing", [1, 4])
def test_truncated_weights_are_refused(missing: int, folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-missing])
    with pytest.raises(DamagedWeights, match="truncated"):
        inspect(folder)


def test_a_folder_without_a_fast_tokenizer_is_no_model(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(NotAModel, match=r"has no tokenizer\.json"):
        inspect(folder)


def test_the_weights_of_all_shards_are_counted(folder: Path) -> None:
    found = source_folder.arrays()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    where = {name: names[number % 2] for number, name in enumerate(found)}
    for shard in names:
        source_folder.write_arrays(folder / shard, {name: found[name] for name in found if where[name] == shard})
    write_json(folder, "model.safetensors.index.json", {"weight_map": where})
    (folder / "model.safetensors").unlink()
    source = inspect(folder)
    assert source.parameters == source_folder.PARAMETERS
    assert [path.name for path in source.files[:2]] == names
    source_folder.write_arrays(folder / names[0], found)
    with pytest.raises(DamagedWeights, match=f"{names[0]} and {names[1]} both hold "):
        inspect(folder)


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
    write_json(folder, "generation_config.json", own)
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


def test_a_tokenizer_of_unigrams_is_a_list(folder: Path) -> None:
    write_json(folder, "tokenizer.json", {"model": {"vocab": [["<unk>", 0.0], ["a", -1.5]]}})
    assert inspect(folder).parameters == source_folder.PARAMETERS
    write_json(folder, "tokenizer.json", {"model": {"vocab": [[f"t{number}", 0.0] for number in range(21)]}})
    with pytest.raises(NotAModel, match="have tokens 20"):
        inspect(folder)


def test_a_tied_head_needs_no_weights_and_an_untied_one_does(tmp_path: Path) -> None:
    folder = source_folder.write(tmp_path, tied=True)
    assert inspect(folder).parameters == source_folder.PARAMETERS - source_folder.VOCABULARY * source_folder.HIDDEN
    config = json.loads((folder / "config.json").read_text())
    write_json(folder, "config.json", config | {"tie_word_embeddings": False})
    with pytest.raises(DamagedWeights, match=r"no lm_head\.weight"):
        inspect(folder)
