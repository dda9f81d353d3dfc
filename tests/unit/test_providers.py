"""Execution providers: their names, what is found of them, and what becomes of one that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from foundry_lite.catalog.recipe import Provider
from foundry_lite.engine.runners import model_folder, onnx_header, provider_parity, providers
from foundry_lite.engine.runners.fold_defaults import without_defaults
from foundry_lite.engine.runners.genai import GenaiRunner
from foundry_lite.engine.runners.ort import OrtRunner
from foundry_lite.engine.runners.providers import NAMES, PROBE, Device, Finding
from foundry_lite.engine.runners.select import open_runner
from foundry_lite.errors import LoadFailed
from foundry_lite.settings import PROVIDERS
from tests import probe_model, tiny_model

ABSENT = Provider.QNN  # nobody installs it to run these tests


def test_every_provider_has_its_names_and_is_a_setting() -> None:
    assert set(NAMES) == set(Provider)
    assert set(PROVIDERS) == set(Provider)
    assert len({names.onnxruntime for names in NAMES.values()}) == len(NAMES)


def test_the_decoder_that_providers_are_tried_with_is_what_its_source_makes() -> None:
    assert {path.name: path.read_bytes() for path in PROBE.iterdir()} == probe_model.files()


def test_that_decoder_adds_up_what_its_cache_holds() -> None:
    runner = GenaiRunner(PROBE, threads=1, slots=1, context_length=16)
    runner.prefill(0, [3, 1])
    np.testing.assert_array_equal(runner.decode([0], [2])[0], [6, 12, 18, 24, 30, 36, 42, 48])
    np.testing.assert_array_equal(runner.decode([0], [1])[0], [7, 14, 21, 28, 35, 42, 49, 56])


def test_the_cpu_is_found_tried_and_usable() -> None:
    findings = providers.scan()
    cpu = findings[0]
    assert (cpu.name, cpu.origin[:11], cpu.usable, cpu.why_not) == ("cpu", "onnxruntime", True, "")
    assert cpu.version[0].isdigit()
    assert cpu.seconds is not None
    assert [one.type for one in cpu.devices] == ["CPU"]
    assert Provider.CPU in providers.usable(findings)
    assert all(one.why_not for one in findings if not one.usable)


def test_only_what_was_tried_and_has_a_name_of_ours_is_usable() -> None:
    device = Device("X", "v", "GPU")
    findings = (
        Finding("cpu", "onnxruntime", usable=True),
        Finding("cuda", "onnxruntime-gpu", devices=(device,), why_not="no driver"),
        Finding("AzureExecutionProvider", "onnxruntime", usable=True),
    )
    assert providers.usable(findings) == (Provider.CPU,)


@pytest.mark.parametrize(
    ("body", "why_not"),
    [
        ("import os, signal\ndef get_library_path(): os.kill(os.getpid(), signal.SIGSEGV)", "with SIGSEGV"),
        ("def get_library_path(): return '/nowhere/lib.so'", "/nowhere/lib.so"),
        ("raise ImportError('libmissing.so.3: cannot open shared object file')", "libmissing.so.3"),
        ("import time\ndef get_library_path(): time.sleep(60)", "did not answer within 3 seconds"),
        ("import os\ndef get_library_path(): os._exit(0)", "finds no device"),
    ],
    ids=["crashes", "lacks its library", "cannot be imported", "hangs", "ends the process"],
)
def test_a_package_that_fails_in_any_way_is_a_finding_with_its_reason(
    body: str, why_not: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "onnxruntime_ep_openvino_broken"
    package.mkdir()
    (package / "__init__.py").write_text(f"{body}\ndef get_ep_names(): return ['OpenVINOExecutionProvider']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert package.name in providers.plugins()
    found = providers.try_plugin(package.name, seconds=3 if "sleep" in body else 60)
    assert not found.usable
    assert why_not in found.why_not
    assert found.origin == "onnxruntime-ep-openvino-broken"


def test_a_plugin_is_found_by_the_name_of_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = ("onnxruntime_ep_nv_tensorrt_rtx_cu13", "onnxruntime_ep_openvino")
    monkeypatch.setattr(providers, "plugins", lambda: installed)
    assert [providers.plugin_of(one) for one in (Provider.TRT_RTX, Provider.OPENVINO, Provider.WEBGPU)] == [
        *installed,
        None,
    ]
    assert providers.plugin_of(Provider.CPU) is None


def test_a_provider_that_is_not_here_is_a_failed_load_and_not_the_cpu(tmp_path: Path) -> None:
    folder = tiny_model.install(tmp_path, "alphabet")
    assert isinstance(open_runner(folder, threads=1, slots=1, context_length=64), OrtRunner)
    with pytest.raises(LoadFailed, match="QNN"):
        open_runner(folder, threads=1, slots=1, context_length=64, provider=ABSENT)


def test_the_providers_of_a_configuration_are_read(tmp_path: Path) -> None:
    folder = tiny_model.install(tmp_path, "alphabet")
    assert model_folder.read(folder).providers == ()
    config = folder / "genai_config.json"
    options = '"session_options": {"provider_options": [{"cuda": {"enable_cuda_graph": "0"}}]}, "filename"'
    config.write_text(config.read_text().replace('"filename"', options))
    assert model_folder.read(folder).providers == ("cuda",)


def test_both_runners_of_one_model_agree(tmp_path: Path) -> None:
    folder = tiny_model.install(tmp_path, "alphabet")
    ours = provider_parity.sample(OrtRunner(folder, threads=1, slots=1, context_length=64))
    theirs = provider_parity.sample(GenaiRunner(folder, threads=1, slots=1, context_length=64))
    assert ours.shape == theirs.shape == (9, 259)
    provider_parity.require("openvino", theirs, ours)


@pytest.mark.parametrize("wrong", ["nan", "other", "one place"])
def test_a_provider_that_computes_something_else_is_refused(wrong: str) -> None:
    random = np.random.default_rng(0)
    reference = random.standard_normal((9, 100)).astype(np.float32)
    found = reference + random.normal(0, 0.02, reference.shape).astype(np.float32)
    provider_parity.require("openvino", found, reference)
    if wrong == "nan":
        found[4, 7] = np.nan
    elif wrong == "other":
        found = random.standard_normal((9, 100)).astype(np.float32)
    else:
        found[8] = found[0]
    with pytest.raises(LoadFailed, match="openvino computes something else than the CPU"):
        provider_parity.require("openvino", found, reference)


def test_a_graph_without_its_defaults_is_the_same_graph_with_constants(tmp_path: Path) -> None:
    path = tiny_model.install(tmp_path, "alphabet") / "model.onnx"
    expected = onnx.load(path)
    model = onnx.load(path)
    model.graph.input.insert(1, onnx.helper.make_tensor_value_info("axis_1", onnx.TensorProto.INT64, [1]))
    onnx.save(model, path)
    optional = onnx_header.read(path).optional
    assert optional == {"axis_1"}
    assert onnx.load_from_string(without_defaults(path, optional)) == expected
    assert onnx.load_from_string(without_defaults(path, frozenset())) == model
