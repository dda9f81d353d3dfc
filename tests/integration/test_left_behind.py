"""``import`` of what trainings leave behind: shards, a head against the configuration, leftovers of code, templates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from foundry_lite.catalog.card import Defaults
from foundry_lite.store.store import Artifact, Store
from tests import source_model
from tests.support import cli

pytestmark = pytest.mark.build

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of it, saved by transformers as far as that does so."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = source_model.write(tmp_path_factory.mktemp("sources") / "llama", tie_word_embeddings=False)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    usual = tokenizer.chat_template
    tokenizer.chat_template = {"default": usual, "tool_use": f"{{{{ tools | tojson }}}}\n{usual}", "rag": usual}
    tokenizer.save_pretrained(folder)
    change(folder, "config.json", tie_word_embeddings=True, auto_map={"AutoModelForCausalLM": "a/b--modeling_b.B"})
    change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["a/b--tokenization_b.B", None]})
    own: dict[str, Any] = {"max_new_tokens": 5, "repetition_penalty": 1.2, "num_beams": 3, "do_sample": False}
    own["eos_token_id"] = [2, 1]
    change(folder, "generation_config.json", **own)
    return folder


def change(folder: Path, name: str, **changes: Any) -> None:
    before = json.loads((folder / name).read_text())
    after = {key: value for key, value in {**before, **changes}.items() if value is not ...}
    (folder / name).write_text(json.dumps(after))


def installed(home: Path, path: Path, *options: str) -> tuple[Artifact, dict[str, Any]]:
    result = cli(home, "import", str(path), "--name", "mine", "--precision", "fp32", "--force", "--json", *options)
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    [artifact] = [one for one in Store(home).scan().artifacts if one.ref.name == "mine"]
    return artifact, answer


def test_all_of_it_is_honoured_or_named_and_requests_are_answered_as_by_transformers(
    source: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lacking = Path(shutil.copytree(source, tmp_path / "lacking"))
    change(lacking, "model.safetensors.index.json", metadata=...)  # more than transformers would read
    artifact, answer = installed(tmp_path, lacking)
    card = artifact.card()
    assert card.defaults == Defaults(temperature=0.0, repetition_penalty=1.2, max_new_tokens=5)
    assert tuple(answer["notes"]) == card.notes
    assert json.loads((artifact.folder / "genai_config.json").read_text())["model"]["eos_token_id"] == [2, 1]
    for said in (
        "a/b--modeling_b.B",
        "a/b--tokenization_b.B",
        "num_beams = 3",
        "head of their own",
        "'tool_use'",
        "'rag'",
    ):
        assert [note for note in card.notes if said in note], said
    assert any("num_beams = 3" in line for line in (artifact.folder / "model_card.md").read_text().splitlines())
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModelForCausalLM.from_pretrained(source)
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    for more, tools in (((), None), (("--tools", str(tmp_path / "tools.json")), TOOLS)):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": "hi there"}],
            tools=tools,
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.no_grad():
            made = model.generate(**prompt, num_beams=1)
        start = prompt["input_ids"].shape[1]
        ours = json.loads(cli(tmp_path, "run", "mine", "hi there", "--json", *more).stdout)
        assert ours["usage"]["prompt_tokens"] == start
        assert ours["content"] == tokenizer.decode(made[0, start:], skip_special_tokens=True)
        assert ours["usage"]["completion_tokens"] == 5


@pytest.mark.filterwarnings("ignore")  # PEFT's, of exactly this, and of transformers' newer names
def test_an_adapter_is_merged_over_it_as_peft_merges_it(source: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(source)
    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    adapted = get_peft_model(model, config)
    adapted.save_pretrained(tmp_path / "adapter")
    artifact, answer = installed(tmp_path, tmp_path / "adapter", "--base", str(source))
    assert (artifact.folder / "additional_chat_templates" / "tool_use.jinja").is_file()
    assert any("head of their own" in note for note in answer["notes"])
    merged, tokenizer = adapted.merge_and_unload(), AutoTokenizer.from_pretrained(source)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        made = merged.generate(**prompt, num_beams=1)
    ours = json.loads(cli(tmp_path, "run", "mine", "hi", "--json").stdout)
    assert ours["content"] == tokenizer.decode(made[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
