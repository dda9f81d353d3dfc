"""``import`` with the real builder, on small models with random weights that transformers wrote."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foundry_lite.catalog.recipe import Precision
from foundry_lite.engine.ort_runner import OrtRunner
from foundry_lite.store.store import Store
from tests import source_model
from tests.support import COMMAND, cli, environment, eventually


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source_model.write(tmp_path_factory.mktemp("sources") / "llama")


@pytest.fixture(scope="module")
def imported(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store into which the source was imported as ``mine``, in float32."""
    home = tmp_path_factory.mktemp("imported")
    result = cli(home, "import", str(source), "--name", "mine", "--precision", "fp32")
    assert result.returncode == 0, result.stderr
    return home


def test_an_import_reports_its_steps_and_installs_a_checked_model(imported: Path, source: Path) -> None:
    shown = json.loads(cli(imported, "show", "mine", "--verify", "--json").stdout)
    assert shown["model"] == "mine:cpu-fp32"
    manifest = shown["manifest"]
    assert manifest["source"]["architecture"] == "LlamaForCausalLM"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        one["path"] for one in manifest["source"]["files"]
    }
    assert {"model.onnx", "tokenizer.json", "card.toml"} <= {one["path"] for one in manifest["files"]}
    assert manifest["versions"]["onnxruntime-genai"]
    check = manifest["checks"][0]
    assert check["name"] == "top1_agreement"
    assert check["value"] >= 0.99
    assert check["samples"] > 500
    assert shown["card"]["evidence"][0]["value"] == check["value"]
    assert not any((imported / "staging").iterdir())


def test_greedy_text_equals_transformers_even_across_prefill_chunks(imported: Path, source: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = (Path(__file__).parents[2] / "foundry_lite" / "build" / "sample.txt").read_text(encoding="utf-8")[:500]
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert prompt["input_ids"].shape[1] > 2 * 128
    made = model.generate(**prompt, max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)
    expected = tokenizer.decode(made[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    ours = cli(imported, "run", "mine", "--max-tokens", "24", "--temperature", "0", "--json", stdin=text)
    answer = json.loads(ours.stdout)
    assert answer["usage"]["prompt_tokens"] == prompt["input_ids"].shape[1]
    assert answer["content"] == expected


def test_a_name_that_exists_is_refused_unless_forced(imported: Path, source: Path) -> None:
    before = Store(imported).scan().artifacts[0].manifest.created
    refused = cli(imported, "import", str(source), "--name", "mine")
    assert refused.returncode == 4
    assert "--force" in refused.stderr
    assert Store(imported).scan().artifacts[0].manifest.created == before
    time.sleep(1.1)  # a manifest's time has seconds
    forced = cli(imported, "import", str(source), "--name", "mine", "--precision", "fp32", "--force", "--json")
    assert forced.returncode == 0, forced.stderr
    assert json.loads(forced.stdout)["model"] == "mine:cpu-fp32"
    own = [one for one in Store(imported).scan().artifacts if not one.is_embedded]
    assert [str(one.ref) for one in own] == ["mine:cpu-fp32"]
    assert own[0].manifest.created > before


@pytest.mark.parametrize(("precision", "block"), [("int4", 32), ("int4", 128), ("int8", 64)])
def test_quantized_imports_have_the_bits_and_blocks_they_were_asked_for(
    tmp_path: Path, precision: str, block: int
) -> None:
    """The builder ignores options that it does not know, so the graph itself is looked at."""
    import onnx

    source = source_model.write(tmp_path / "source", "Qwen2", hidden_size=128, intermediate_size=256)
    arguments = ("--name", "q", "--precision", precision, "--block-size", str(block))
    result = cli(tmp_path / "home", "import", str(source), *arguments)
    assert result.returncode == 0, result.stderr
    artifact = next(one for one in Store(tmp_path / "home").scan().artifacts if not one.is_embedded)
    assert artifact.manifest.recipe.precision is Precision(precision)
    graph = onnx.load(artifact.folder / "model.onnx", load_external_data=False).graph
    quantized = [node for node in graph.node if node.op_type == "MatMulNBits"]
    seen = {(a.name, a.i) for node in quantized for a in node.attribute if a.name in ("bits", "block_size")}
    assert seen == {("bits", 4 if precision == "int4" else 8), ("block_size", block)}
    logits = next(one for one in graph.output if one.name == "logits")
    assert logits.type.tensor_type.shape.dim[1].dim_value == 1


def test_without_a_block_size_the_fastest_that_loses_little_is_taken_and_the_card_tells_of_both(tmp_path: Path) -> None:
    source = source_model.write(tmp_path / "source", "Qwen2", hidden_size=128, intermediate_size=256)
    flags = ("--precision", "int8", "--fast-prefill", "--adapters", "--reproducible", "--json")
    result = cli(tmp_path / "home", "import", str(source), "--name", "q", *flags)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["model"] == "q:cpu-int8-b128-fp-lora"
    checks = {one["name"]: one for one in answer["checks"]}
    assert checks.keys() == {"top1_agreement", "kl_mean", "top1_agreement.fast_prefill", "kl_mean.fast_prefill"}
    assert 0 < checks["kl_mean"]["value"] < 0.1
    assert 400 < checks["kl_mean.fast_prefill"]["samples"] < checks["kl_mean"]["samples"]
    assert "4/6 check     cpu-int8-fp-lora: top1_agreement" in result.stderr
    artifact = next(one for one in Store(tmp_path / "home").scan().artifacts if not one.is_embedded)
    card = artifact.card()
    assert card.defaults.reproducible
    figures = {one.metric: one for one in card.evidence}
    assert figures["kl_mean"].value == checks["kl_mean"]["value"]
    assert 0 < figures["kl_mean.cpu-int8-fp-lora"].value < 0.1
    assert figures["kl_mean"].unit == "nats"
    runner = OrtRunner(artifact.folder, threads=1, slots=1, context_length=64)
    with_companion = runner.prefill(0, range(100, 130)).copy()
    (artifact.folder / "prefill.onnx").unlink()
    plain = OrtRunner(artifact.folder, threads=1, slots=1, context_length=64).prefill(0, range(100, 130))
    assert with_companion == pytest.approx(plain, abs=0.2 * float(np.abs(plain).max()))
    assert not np.array_equal(with_companion, plain)


def test_several_positions_can_be_verified_at_once(imported: Path) -> None:
    artifact = next(one for one in Store(imported).scan().artifacts if not one.is_embedded)
    runner = OrtRunner(artifact.folder, threads=1, slots=2, context_length=64)
    assert runner.can_verify
    runner.prefill(0, range(100, 120))
    runner.prefill(1, range(100, 120))
    at_once = runner.verify(0, [7, 8, 9])
    one_by_one = [runner.prefill(1, [token]) for token in (7, 8, 9)]
    assert at_once == pytest.approx(np.stack(one_by_one), abs=1e-4)


def test_an_import_leaves_nothing_outside_its_own_folders(tmp_path: Path, source: Path) -> None:
    person = tmp_path / "person"
    person.mkdir()
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    result = cli(
        tmp_path / "home", "import", str(source), "--name", "tidy", "--precision", "fp32",
        HOME=str(person), TMPDIR=str(person), XDG_CACHE_HOME="", XDG_DATA_HOME="", XDG_CONFIG_HOME="",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert list(person.rglob("*")) == []
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before


def test_an_interrupted_import_leaves_no_trace(tmp_path: Path, source: Path) -> None:
    process = begin_import(tmp_path, source)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list((tmp_path / "staging").iterdir()) == []
    assert Store(tmp_path).scan().leftovers == ()


def test_a_killed_import_leaves_a_staging_folder_that_is_reported_and_removed(tmp_path: Path, source: Path) -> None:
    process = begin_import(tmp_path, source)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    listing = json.loads(cli(tmp_path, "list", "--json").stdout)
    assert [one for one in listing["models"] if not one["is_embedded"]] == []
    assert listing["leftovers"][0]["is_live"] is False
    assert "left over" in cli(tmp_path, "list").stderr
    removed = cli(tmp_path, "rm", "--leftovers")
    assert removed.returncode == 0
    eventually(lambda: json.loads(cli(tmp_path, "list", "--json").stdout)["leftovers"] == [])


def begin_import(home: Path, source: Path) -> subprocess.Popen[str]:
    """Start an import and wait until the builder works."""
    process = subprocess.Popen(
        [*COMMAND, "import", str(source), "--name", "mine"],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    eventually(lambda: list(home.glob("staging/*/export.log")), seconds=30)
    time.sleep(0.5)
    return process


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, source: Path) -> None:
    """A limit on the size of files stands in for the end of the disk: the write of the weights fails half-way."""
    limited = subprocess.run(
        [*COMMAND, "import", str(source), "--name", "mine", "--precision", "fp32"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert limited.returncode == 6
    assert "disk is full" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert list((tmp_path / "staging").iterdir()) == []
    assert not (tmp_path / "models" / "mine").exists()


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _add_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _rename_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["MambaForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config))


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_truncate, "truncated"),
        (_add_code, "auto_map"),
        (_pickle, "pickled"),
        (_rename_architecture, "MambaForCausalLM"),
        (_empty, "no config.json"),
    ],
)
def test_a_folder_that_cannot_become_a_model_is_refused(
    tmp_path: Path, source: Path, spoil: Callable[[Path], None], says: str
) -> None:
    spoilt = Path(shutil.copytree(source, tmp_path / "spoilt"))
    spoil(spoilt)
    result = cli(tmp_path / "home", "import", str(spoilt), "--name", "mine")
    assert result.returncode == 5
    assert says in result.stderr
    assert "hint:" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "home").exists()
    assert not (spoilt / "ran").exists()


@pytest.mark.parametrize("family", ["Granite", "Mistral", "Phi3", "Qwen2", "Qwen3"])
def test_each_supported_family_converts_to_what_transformers_computes(tmp_path: Path, family: str) -> None:
    source = source_model.write(tmp_path / "source", family)
    result = cli(tmp_path / "home", "import", str(source), "--name", "mine", "--precision", "fp32", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["checks"][0]["value"] >= 0.99
