"""Code that a folder names: leftovers of it are left out with a note, what a model needs is refused and never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foundry_lite.conversion.sources.detect import inspect
from foundry_lite.conversion.sources.remote_code import FILES, check_code
from foundry_lite.errors import RemoteCode
from tests.unit import source_folder
from tests.unit.source_folder import CONFIG, change_config, write_adapter, write_json

LOCAL = {"AutoConfig": "configuration_mine.MineConfig", "AutoModelForCausalLM": "modeling_mine.Mine"}
FAR = {"AutoModelForCausalLM": "someone/mine--modeling_mine.Mine", "AutoTokenizer": ["tok.Slow", None]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return source_folder.write(tmp_path / "source")


@pytest.mark.parametrize("entry", [LOCAL, FAR, {}, None, ["tok.Slow", None]], ids=str)
@pytest.mark.parametrize("name", FILES)
def test_names_of_code_that_is_not_there_are_left_out_with_a_note(name: str, entry: Any, folder: Path) -> None:
    own = CONFIG if name == "config.json" else {}
    write_json(folder, name, {**own, "auto_map": entry})
    (folder / "train.py").write_text("raise SystemExit")  # not the file that is named
    (folder / "modeling_others.py").write_text("raise SystemExit")
    [note] = [one for one in inspect(folder).notes if "Python code" in one]
    assert note.startswith(f"{name} names Python code that is not in the folder")
    assert "'llama'" in note


@pytest.mark.parametrize("entry", [LOCAL, {"AutoModelForCausalLM": "a/b--modeling_mine.Mine"}], ids=["local", "far"])
@pytest.mark.parametrize("name", FILES)
def test_code_that_lies_in_the_folder_is_refused_with_what_to_do(name: str, entry: Any, folder: Path) -> None:
    (folder / "modeling_mine.py").write_text("raise SystemExit")
    write_json(folder, name, {**(CONFIG if name == "config.json" else {}), "auto_map": entry})
    with pytest.raises(RemoteCode, match=f"{name} has an 'auto_map', and modeling_mine.py is there") as caught:
        inspect(folder)
    assert f"remove 'auto_map' from {name}" in caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mine"},
        {"model_type": ...},
        {"model_type": "qwen2"},
        {"model_type": "mine", "architectures": ["MineForCausalLM"]},
        {"architectures": ["MineForCausalLM"]},
        {"model_type": "", "architectures": ["ForCausalLM"]},
    ],
    ids=str,
)
def test_a_family_that_needs_the_code_is_refused(changes: dict[str, Any], folder: Path) -> None:
    change_config(folder, auto_map=LOCAL, **changes)
    with pytest.raises(RemoteCode, match=r"config\.json has an 'auto_map'"):
        inspect(folder)


def test_what_an_adapter_brings_is_looked_at_as_well(folder: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", folder)
    write_json(adapter, "tokenizer_config.json", {"auto_map": FAR})
    assert [note for note in inspect(adapter).notes if note.startswith("tokenizer_config.json names Python code")]
    (adapter / "tok.py").write_text("raise SystemExit")
    with pytest.raises(RemoteCode, match=r"tok\.py is there"):
        inspect(adapter)


def test_every_family_that_is_converted_is_known_as_built_in(tmp_path: Path) -> None:
    """The model type of each, as transformers has it: an entry in its configuration is a leftover."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES

    from foundry_lite.conversion import architectures
    from foundry_lite.conversion.sources import sentence_transformers

    causal = {name: kind for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items() if isinstance(name, str)}
    causal |= {"GPT2LMHeadModel": "gpt2", "LlamaForCausalLM": "llama"}
    plain = {name: kind for kind, name in MODEL_MAPPING_NAMES.items() if isinstance(name, str)}
    encoders = [f"{stem}Model" for stem in (*sentence_transformers.FAMILIES, *sentence_transformers.DECODERS)]
    known = [(name, causal[name]) for name in architectures.supported()] + [(name, plain[name]) for name in encoders]
    for name, kind in known:
        config = {"architectures": [name], "model_type": kind, "auto_map": LOCAL}
        write_json(tmp_path, "config.json", config)
        assert len(check_code(tmp_path, config, is_known=True)) == 1, name
