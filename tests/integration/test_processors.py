"""Numbers on processors that the tests do not run on: the same small models, run by an emulator.

``make test-cpus`` runs these. ``qemu-x86_64 -cpu Haswell`` has AVX2 without VNNI, whose kernels add 8-bit products in
16 bits that saturate; ``-cpu Nehalem`` has SSE4.2 only.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from foundry_lite.catalog.encoder import read_encoder
from foundry_lite.catalog.report import FINGERPRINT
from foundry_lite.conversion.quantize import encoder_w8a8, prefill_graph
from foundry_lite.conversion.quantize.blocks import quantize_columns
from foundry_lite.engine.encoder import fingerprint as encoder_fingerprint
from foundry_lite.engine.encoder.batching import Row
from foundry_lite.engine.encoder.session import EncoderSession
from foundry_lite.engine.encoder.tokenizer import EncoderText
from foundry_lite.engine.runners import fingerprint
from foundry_lite.engine.runners.ort import OrtRunner
from foundry_lite.errors import LoadFailed
from foundry_lite.machine import find_kernels
from tests import tiny_encoder, tiny_model
from tests.support import ROOT, Daemon, cli, environment

_TEXTS = [[97 + (7 * row + at) % 26 for at in range(20)] for row in range(3)]
_MEASURED = "x86-64 of the tests"  # no processor: so every one compares
_FULL = 127  # of a signed byte


def _emulator() -> str | None:
    own = Path(f"{sys.prefix}-qemu", "usr", "bin", "qemu-x86_64-static")  # where the Makefile puts it
    found = (shutil.which(name) for name in ("qemu-x86_64", "qemu-x86_64-static", str(own)))
    return next((one for one in found if one), None) if platform.machine() in ("x86_64", "AMD64") else None


needs_emulator = pytest.mark.skipif(
    _emulator() is None and not os.environ.get("FOUNDRY_LITE_TEST_CPUS"),
    reason="needs qemu-user on x86-64 Linux; 'make test-cpus' fetches it where it can",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that `tests.on_processor` runs: models as a build makes them today, and with 8-bit weights of full scale."""
    folder = tmp_path_factory.mktemp("processors")
    _write_sums(folder / "sums.onnx")
    decoders, encoders = folder / "decoders", folder / "encoders"
    new, old = _decoder(decoders / "new"), decoders / "old"
    shutil.copytree(new, old)
    _use_full_scale(old / prefill_graph.COMPANION)
    shutil.copytree(old, decoders / "old-without-fingerprint")
    for path in (new, old):
        _record(path)
    shutil.copytree(new, decoders / "another-model")
    _shift_weights(decoders / "another-model" / "model.onnx")
    _encoder(folder / "float", encoders / "new")
    shutil.copytree(encoders / "new", encoders / "old")
    _use_full_scale(encoders / "old" / "model.onnx")
    for path in (encoders / "new", encoders / "old"):
        _record_encoder(path)
    return folder


@pytest.fixture(scope="module")
def here(folder: Path) -> dict[str, Any]:
    return _run(folder)


@pytest.fixture(scope="module", params=[pytest.param("Haswell", marks=needs_emulator)])
def haswell(folder: Path) -> dict[str, Any]:
    return _run(folder, "Haswell")


@pytest.fixture(scope="module", params=[pytest.param("Nehalem", marks=needs_emulator)])
def nehalem(folder: Path) -> dict[str, Any]:
    return _run(folder, "Nehalem")


def test_this_processor_computes_exactly_and_knows_whether_it_saturates(here: dict[str, Any]) -> None:
    _check(here)


def test_avx2_without_vnni_computes_what_was_measured(haswell: dict[str, Any], here: dict[str, Any]) -> None:
    assert haswell["kernels"] == "x86-64 avx2"
    assert haswell["is_said_to_saturate"]
    _check(haswell)
    ours, theirs = (np.array(one["decoders"]["new"]["logits"]) for one in (haswell, here))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_sse_computes_what_was_measured(nehalem: dict[str, Any], here: dict[str, Any]) -> None:
    assert nehalem["kernels"] == "x86-64 sse4.2"
    assert not nehalem["is_said_to_saturate"]
    _check(nehalem)
    ours, theirs = (np.array(one["decoders"]["new"]["logits"]) for one in (nehalem, here))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def _check(found: dict[str, Any]) -> None:
    """Hold one processor to what was measured on another, whether its 8-bit sums saturate or not."""
    saturates = 127 * 255 * 2 * 32 not in found["sums"]
    assert found["is_said_to_saturate"] == saturates
    assert 64 * 255 * 2 * 32 in found["sums"]  # the weights of `quantize_columns`, exactly
    decoders, encoders = found["decoders"], found["encoders"]
    assert decoders["new"]["uses_companion"]
    assert "computes the same" in decoders["new"]["note"]
    assert "computes something else" in decoders["another-model"]["refused"]
    assert decoders["old"]["uses_companion"] == decoders["old-without-fingerprint"]["uses_companion"] == (not saturates)
    assert ("without 8-bit kernels" in decoders["old"]["note"]) == saturates
    assert ("without 8-bit kernels" in decoders["old-without-fingerprint"]["note"]) == saturates
    assert "computes the same" in encoders["new"]["note"]
    assert ("refused" in encoders["old"]) == saturates


def test_the_figures_of_another_processor_are_told_by_show_ps_and_the_log(tmp_path: Path) -> None:
    model = tiny_model.install(tmp_path, "moved")
    _record(model)
    before = cli(tmp_path, "show", "moved").stdout
    assert f"measured with {_MEASURED}; this machine has {find_kernels()}" in before
    daemon = Daemon(tmp_path)
    daemon.client().completions.create(model="moved", prompt="a", max_tokens=2)
    told = f"measured with {_MEASURED}; {find_kernels()} computes the same"
    worker = daemon.worker("moved")
    assert worker is not None
    assert worker["processor_note"].startswith(told)
    assert told in cli(tmp_path, "ps", "--port", str(daemon.port)).stderr
    assert told in daemon.stop()
    assert told in cli(tmp_path, "show", "moved").stdout
    (model / FINGERPRINT).write_text((model / FINGERPRINT).read_text().replace(_MEASURED, find_kernels()))
    assert "processor" not in cli(tmp_path, "show", "moved").stdout


def test_a_model_that_computes_something_else_here_is_not_loaded(tmp_path: Path) -> None:
    model = tiny_model.install(tmp_path, "moved")
    _record(model)
    shutil.copyfile(tiny_model.install(tmp_path, "other", "zyx") / "model.onnx", model / "model.onnx")
    done = cli(tmp_path, "run", "moved", "a")
    assert done.returncode != 0
    assert "computes something else than the one that the model was measured on" in done.stderr
    assert "Import the model again on this machine." in done.stderr


def test_a_reranker_is_compared_by_its_logits(tmp_path: Path) -> None:
    folder = tiny_encoder.install(tmp_path, "moved", reranks=True)
    made, asked = tmp_path / "made.npz", tmp_path / "texts.json"
    asked.write_text(json.dumps({"texts": [["abcd", "bcde"], ["xyz", "zyx"], ["a", "q"]]}))
    tool = [sys.executable, "-m", "foundry_lite.conversion.evaluate.run_encoder", str(folder), str(asked), str(made)]
    subprocess.run(tool, env=environment(tmp_path), cwd=ROOT, check=True, timeout=100)  # as a build measures
    with np.load(made) as found:
        results = found["results"]
        texts = [(found[f"ids_{at}"].tolist(), found[f"kinds_{at}"].tolist()) for at in range(len(results))]
    kept = encoder_fingerprint.record(texts, results, 0.0, _MEASURED)
    (folder / FINGERPRINT).write_bytes(msgspec.json.encode(kept))
    encoder = read_encoder(folder)
    session, vocabulary = EncoderSession(folder, encoder, 1), EncoderText(folder, encoder).vocabulary
    assert "computes the same" in encoder_fingerprint.settle(session, vocabulary, folder, find_kernels())


@pytest.mark.parametrize(
    "change",
    [
        {"texts": []},
        {"texts": [[]]},
        {"texts": [[97] * 5000]},
        {"texts": [[99999] * 20] * 3},
        {"texts": [[2**63] * 20] * 3},
        {"loss": -5.0},
        {"plain": {"ids": [], "logprobs": []}},
        {"plain": {"ids": [[]] * 15, "logprobs": [[]] * 15}},
        {"plain": {"ids": [[99999] * 64] * 15, "logprobs": [[-1.0] * 64] * 15}},
        {"plain": {"ids": [[5] * 64], "logprobs": [[-1.0] * 64]}},
        {"companion": {"ids": [[5] * 64] * 15, "logprobs": [[-1.0] * 63] * 15}},
    ],
)
def test_a_fingerprint_that_is_no_such_models_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tiny_model.install(tmp_path, "moved")
    _record(folder)
    kept = json.loads((folder / FINGERPRINT).read_bytes()) | change
    (folder / FINGERPRINT).write_text(json.dumps(kept))
    with pytest.raises(LoadFailed, match=FINGERPRINT):
        fingerprint.settle(OrtRunner(folder, threads=1, slots=2, context_length=64), folder, find_kernels())


@pytest.mark.parametrize(
    "change",
    [
        {"ids": [], "kinds": [], "vectors": []},
        {"ids": [[10**6] * 20] * 3},
        {"kinds": [[0] * 20]},
        {"kinds": [[0]] * 3},
        {"vectors": [[1.0]]},
        {"vectors": [[1.0]] * 3},
        {"vectors": [[1.0], [1.0, 2.0], [1.0]]},
        {"loss": -5.0},
    ],
)
def test_a_fingerprint_that_is_no_such_encoders_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tiny_encoder.install(tmp_path, "moved")
    encoder = read_encoder(folder)
    session, vocabulary = EncoderSession(folder, encoder, 1), EncoderText(folder, encoder).vocabulary
    rows = [Row(0, at, np.array(one), np.zeros(20, np.int64)) for at, one in enumerate(_TEXTS)]
    kept = encoder_fingerprint.record([(one, [0] * 20) for one in _TEXTS], session.measure(rows), 0.0, _MEASURED)
    (folder / FINGERPRINT).write_text(json.dumps(json.loads(msgspec.json.encode(kept)) | change))
    with pytest.raises(LoadFailed, match=FINGERPRINT):
        encoder_fingerprint.settle(session, vocabulary, folder, find_kernels())


def test_devices_tells_the_kernels(tmp_path: Path) -> None:
    machine = json.loads(cli(tmp_path, "devices", "--json").stdout)["machine"]
    assert machine["kernels"] == find_kernels()


def _run(folder: Path, processor: str | None = None) -> dict[str, Any]:
    emulator = [] if processor is None else [str(_emulator()), "-cpu", processor]
    done = subprocess.run(
        [*emulator, sys.executable, "-m", "tests.on_processor", str(folder)],
        env=environment(folder),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _write_sums(path: Path) -> None:
    """Write a product of unsigned and signed bytes: one column of full weights, one of `quantize_columns`."""
    weights = np.full((64, 2), _FULL, np.int8)
    weights[:, 1] = quantize_columns(np.ones((64, 1), np.float32))[0][:, 0]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["activations", "weights"], ["sums"])],
        "sums",
        [helper.make_tensor_value_info("activations", TensorProto.UINT8, [4, 64])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [4, 2])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def _decoder(folder: Path) -> Path:
    """Write a decoder whose logits are a product of its attention, with its companion."""
    made = tiny_model.install(folder.parent.parent / "home", "tiny")
    model = onnx.load(made / "model.onnx")
    _set_weights(model, "to_logits", _signs(32, 259))
    nodes = {one.output[0]: one for one in model.graph.node}
    product, last = nodes["nothing"], nodes["attended_last"]
    product.input[0], product.output[0] = "attended", "of_all"  # a companion multiplies all positions of a prompt
    last.input[0], last.output[0] = "of_all", "nothing"
    ordered = [one for one in nodes.values() if one is not last]
    ordered.insert(ordered.index(product) + 1, last)
    model.graph.ClearField("node")
    model.graph.node.extend(ordered)
    for number, node in enumerate(model.graph.node):
        node.name = f"/node_{number}"
    onnx.save(model, made / "model.onnx")
    shutil.copytree(made, folder)
    prefill_graph.add(made, folder)
    return folder


def _encoder(exported: Path, folder: Path) -> None:
    """Write an encoder with a product of 8-bit rows, derived from a float one."""
    made = tiny_encoder.install(exported / "home", "tiny", work=64)
    model = onnx.load(made / "model.onnx")
    _set_weights(model, "wide", _signs(tiny_encoder.WIDTH, 64))
    _set_weights(model, "narrow", _signs(64, tiny_encoder.WIDTH) / np.float32(8))
    onnx.save(model, made / "model.onnx")
    shutil.copytree(made, folder)
    encoder_w8a8.rewrite(made, folder, exported)


def _signs(inputs: int, outputs: int) -> NDArray[np.float32]:
    """Return a matrix of 1 and -1, in which all pairs of neighbours are as large as can be."""
    return np.sign(np.random.default_rng(3).standard_normal((inputs, outputs), np.float32))


def _set_weights(model: onnx.ModelProto, name: str, values: NDArray[np.float32]) -> None:
    one = next(one for one in model.graph.initializer if one.name == name)
    one.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def _use_full_scale(graph: Path) -> None:
    """Give all 8-bit products weights that use all of a signed byte, whatever neighbours add up to."""
    model = onnx.load(graph)
    weights = {one.name: one for one in model.graph.initializer}
    for name in [name for name in weights if name.endswith(".w8")]:
        narrow, scales = (numpy_helper.to_array(weights[one]) for one in (name, f"{name}_scales"))
        factor = np.float32(_FULL) / np.abs(narrow.astype(np.float32)).max(0)
        weights[name].CopyFrom(numpy_helper.from_array(np.rint(narrow * factor).astype(np.int8), name))
        weights[f"{name}_scales"].CopyFrom(numpy_helper.from_array(scales / factor, f"{name}_scales"))
    onnx.save(model, graph)


def _shift_weights(graph: Path) -> None:
    model = onnx.load(graph)
    one = next(one for one in model.graph.initializer if one.name == "to_logits")
    one.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(one), 1, 1), one.name))
    onnx.save(model, graph)


def _record(folder: Path) -> None:
    """Write the fingerprint of what a decoder computes here, as if another processor had computed it.

    Of the companion the plain graph's numbers stand in it: those of a processor whose 8-bit products are exact.
    """
    runner = OrtRunner(folder, threads=1, slots=2, context_length=64)
    uses, runner.uses_companion = runner.uses_companion, False
    found = fingerprint.record(runner, _TEXTS, 0.0, _MEASURED)
    assert found is not None
    found = msgspec.structs.replace(found, companion=found.plain if uses else None)
    (folder / FINGERPRINT).write_bytes(msgspec.json.encode(found))


def _record_encoder(folder: Path) -> None:
    """Write an encoder's fingerprint: what its float graph computes."""
    tokens = [np.array(one, np.int64) for one in _TEXTS]
    rows = [Row(0, at, one, np.zeros_like(one)) for at, one in enumerate(tokens)]
    vectors = EncoderSession(
        folder.parent.parent / "float" / "home" / "models" / "tiny" / "cpu-fp32", read_encoder(folder), 1
    )
    found = encoder_fingerprint.record([(one, [0] * len(one)) for one in _TEXTS], vectors.run(rows), 0.0, _MEASURED)
    (folder / FINGERPRINT).write_bytes(msgspec.json.encode(found))
