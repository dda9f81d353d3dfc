"""``import`` with the real builder, on small models with random weights that transformers wrote."""

from __future__ import annotations

import json
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
from foundry_lite.engine.runners.ort import OrtRunner
from foundry_lite.store.store import Store
from tests import source_model
from tests.support import COMMAND, cli, environment, eventually


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source_model.write(tmp_path_factory.mktemp("sources") / "llama")


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of a person, in which nothing of ours may appear."""
    return tmp_path_factory.mktemp("person")


@pytest.fixture(scope="module")
def imported(source: Path, person: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store into which the source was imported as ``mine``, in float32."""
    home = tmp_path_factory.mktemp("imported")
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    result = cli(
        home, "import", str(source), "--name", "mine", "--precision", "fp32",
        HOME=str(person), TMPDIR=str(person), XDG_CACHE_HOME="", XDG_DATA_HOME="", XDG_CONFIG_HOME="",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before
    return home


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three quantized variants of another source as ``q``, and that source in ``source``."""
    home = tmp_path_factory.mktemp("quantized")
    folder = source_model.write(home / "source", "Qwen2", hidden_size=128, intermediate_size=256)
    variants = [word for one in ("cpu-int4", "cpu-int4-b128", "cpu-int8-b64") for word in ("--variant", one)]
    result = cli(home, "build", str(folder), "--name", "q", *variants)
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


def test_greedy_text_equals_transformers_even_across_prefill_chunks(imported: Path, source: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = (Path(__file__).parents[2] / "foundry_lite" / "conversion" / "evaluate" / "sample.txt").read_text(
        encoding="utf-8"
    )[:500]
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


@pytest.mark.parametrize(("variant", "bits", "block"), [("int4", 4, 32), ("int4-b128", 4, 128), ("int8-b64", 8, 64)])
def test_quantized_variants_have_the_bits_and_blocks_they_were_asked_for(
    quantized: Path, variant: str, bits: int, block: int
) -> None:
    """The builder ignores options that it does not know, so the graph itself is looked at."""
    import onnx

    folder = quantized / "models" / "q" / f"cpu-{variant}"
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    nodes = [node for node in graph.node if node.op_type == "MatMulNBits"]
    seen = {(a.name, a.i) for node in nodes for a in node.attribute if a.name in ("bits", "block_size")}
    assert seen == {("bits", bits), ("block_size", block)}
    logits = next(one for one in graph.output if one.name == "logits")
    assert logits.type.tensor_type.shape.dim[1].dim_value == 1


def test_without_a_block_size_the_fastest_that_loses_little_is_taken_and_the_report_tells_of_both(
    quantized: Path,
) -> None:
    flags = ("--precision", "int8", "--fast-prefill", "--adapters", "--reproducible", "--json")
    result = cli(quantized, "import", str(quantized / "source"), "--name", "fast", *flags)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["model"] == "fast:cpu-int8-b128-fp-lora"
    assert "4/8 export    float32 graph: onnxruntime-genai's builder  kept" in result.stderr
    first, last = answer["report"]["candidates"]
    assert (first["recipe"]["block_size"], last["recipe"]["block_size"]) == (128, 32)
    assert 0 < last["quality"]["neutral"]["kl_mean"] < first["quality"]["neutral"]["kl_mean"] < 0.1
    artifact = next(one for one in Store(quantized).scan().artifacts if one.ref.name == "fast")
    assert artifact.manifest.recipe.precision is Precision.INT8
    assert artifact.card().defaults.reproducible
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


def test_an_import_leaves_nothing_outside_its_own_folders(imported: Path, person: Path) -> None:
    assert list(person.rglob("*")) == []
    assert not any((imported / "staging").iterdir())
    assert not (imported / "build" / "work").exists()


def test_an_interrupted_import_leaves_nothing_half_done(tmp_path: Path, source: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "import", str(source), "--name", "mine"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    eventually(lambda: list(tmp_path.glob("build/work/export-*")), seconds=30)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("build/work/*"))
    assert Store(tmp_path).scan().leftovers == ()
    assert "cancelled" in cli(tmp_path, "jobs", "ls").stdout


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
    assert limited.returncode == 6, limited.stderr
    assert "disk is full" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert not list(tmp_path.glob("build/work/*"))
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
