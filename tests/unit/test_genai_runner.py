"""`GenaiRunner` on folders of the real builder, against transformers and against our own runner."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from foundry_lite.engine.runners import adapter_file
from foundry_lite.engine.runners.base import Logits, Runner
from foundry_lite.engine.runners.genai import GenaiRunner
from foundry_lite.engine.runners.ort import OrtRunner
from foundry_lite.engine.runners.select import open_runner, runner_name
from foundry_lite.errors import ContextExceeded, InvalidRequest, LoadFailed
from tests.built_folders import TOKENS, WINDOW
from tests.support import ROOT, environment

pytestmark = pytest.mark.build
CONTEXT = len(TOKENS)
NAMES = ["plain", "concatenating", "hybrid", "windowed"]


@pytest.fixture(scope="session")
def runners(built: Path) -> dict[str, GenaiRunner]:
    """A runner for each folder; whoever uses a slot empties it first."""
    return {name: GenaiRunner(built / name, threads=1, slots=3, context_length=CONTEXT) for name in NAMES}


def _fresh(runner: Runner, tokens: Sequence[int], slot: int = 0) -> Logits:
    runner.keep(slot, 0)
    return runner.prefill(slot, tokens)


def _greedy(runner: Runner, tokens: Sequence[int], count: int) -> tuple[list[int], Logits]:
    """Return ``count`` tokens and the logits that each was chosen from; prompts go in chunks, as the scheduler cuts."""
    runner.keep(0, 0)
    rows = [[runner.prefill(0, tokens[at : at + 40]) for at in range(0, len(tokens), 40)][-1]]
    for _ in range(count - 1):
        rows.append(runner.decode([0], [int(rows[-1].argmax())])[0].copy())
    return [int(row.argmax()) for row in rows], np.stack(rows)


def test_a_plain_decoder_gives_the_same_in_both_runners(runners: dict[str, GenaiRunner], built: Path) -> None:
    ours = open_runner(built / "plain", threads=1, slots=1, context_length=CONTEXT)
    assert isinstance(ours, OrtRunner)
    expected, logits = _greedy(ours, TOKENS[:100], 32)
    tokens, found = _greedy(runners["plain"], TOKENS[:100], 32)
    assert tokens == expected
    np.testing.assert_allclose(found, logits, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_every_logit_is_what_transformers_computes(runners: dict[str, GenaiRunner], built: Path, name: str) -> None:
    runner = runners[name]
    runner.keep(0, 0)
    found = [runner.prefill(0, TOKENS[at : at + 40]).copy() for at in range(0, 160, 40)]
    found += [runner.decode([0], [token])[0].copy() for token in TOKENS[160:]]
    expected = np.load(built / f"{name}.npy")[[39, 79, 119, *range(159, 200)]]
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-4)


def test_the_folder_chooses_the_runner(built: Path) -> None:
    chosen = {name: open_runner(built / name, threads=1, slots=1, context_length=CONTEXT) for name in NAMES}
    assert {name: runner_name(runner) for name, runner in chosen.items()} == {
        "plain": "onnxruntime",
        "concatenating": "onnxruntime-genai",
        "hybrid": "onnxruntime-genai",
        "windowed": "onnxruntime",  # its window is shorter than the context
    }


def test_a_context_shorter_than_the_window_works(runners: dict[str, GenaiRunner], built: Path) -> None:
    short = open_runner(built / "windowed", threads=1, slots=1, context_length=WINDOW // 2)
    assert isinstance(short, GenaiRunner)
    assert short.context_length == WINDOW // 2
    np.testing.assert_array_equal(short.prefill(0, TOKENS[:30]), _fresh(runners["windowed"], TOKENS[:30]))
    with pytest.raises(ContextExceeded):
        short.prefill(0, TOKENS[:3])


def test_a_model_whose_own_context_is_shorter_than_its_window_works(
    runners: dict[str, GenaiRunner], built: Path, tmp_path: Path
) -> None:
    shutil.copytree(built / "windowed", tmp_path, dirs_exist_ok=True)
    config = tmp_path / "genai_config.json"
    config.write_text(config.read_text().replace('"context_length": 1024', '"context_length": 32'))
    short = GenaiRunner(tmp_path, threads=1, slots=1, context_length=CONTEXT)
    assert short.context_length == 32
    np.testing.assert_array_equal(short.prefill(0, TOKENS[:32]), _fresh(runners["windowed"], TOKENS[:32]))


def test_our_own_runner_computes_windows_in_batches(runners: dict[str, GenaiRunner], built: Path) -> None:
    ours = open_runner(built / "windowed", threads=1, slots=2, context_length=CONTEXT)
    ours.prefill(0, TOKENS[:180])
    ours.prefill(1, TOKENS[50:70])
    found = ours.decode([0, 1], TOKENS[180:182])
    np.testing.assert_allclose(found[0], _fresh(runners["windowed"], TOKENS[:181]), atol=1e-4)
    np.testing.assert_allclose(found[1], _fresh(runners["windowed"], [*TOKENS[50:70], TOKENS[181]]), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_slots_are_independent(runners: dict[str, GenaiRunner], name: str) -> None:
    runner = runners[name]
    alone = []
    for slot in range(3):
        _fresh(runner, TOKENS[slot : 20 + 30 * slot], slot)
        alone.append(runner.decode([slot], [7])[0].copy())
        _fresh(runner, TOKENS[slot : 20 + 30 * slot], slot)
    assert [runner.length(slot) for slot in range(3)] == [20, 49, 78]
    together = runner.decode([2, 0, 1], [7, 7, 7])
    np.testing.assert_array_equal(together, np.stack([alone[2], alone[0], alone[1]]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kept", [1, 60, 119])
def test_what_is_forgotten_leaves_no_trace(runners: dict[str, GenaiRunner], name: str, kept: int) -> None:
    runner = runners[name]
    expected = _fresh(runner, [*TOKENS[:kept], *TOKENS[150:170]])
    _fresh(runner, TOKENS[:120])
    runner.keep(0, kept)
    assert runner.length(0) == kept
    np.testing.assert_allclose(runner.prefill(0, TOKENS[150:170]), expected, atol=1e-4)
    assert runner.length(0) == kept + 20


def test_what_a_runner_can_do_is_found_by_trying(runners: dict[str, GenaiRunner]) -> None:
    assert {name: runner.can_rewind for name, runner in runners.items()} == {
        "plain": True,
        "concatenating": True,
        "hybrid": False,
        "windowed": False,
    }
    assert [name for name, runner in runners.items() if not runner.can_extend] == ["concatenating"]
    assert not any(runner.can_copy or runner.can_verify for runner in runners.values())


@pytest.mark.parametrize("behind", [2, 30])
def test_tokens_behind_others_work_where_the_graph_takes_them_one_by_one(
    runners: dict[str, GenaiRunner], behind: int
) -> None:
    runner = runners["concatenating"]
    expected = _fresh(runner, TOKENS[: 100 + behind])
    _fresh(runner, TOKENS[:100])
    np.testing.assert_allclose(runner.prefill(0, TOKENS[100 : 100 + behind]), expected, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_refused_and_nothing_is_lost(
    runners: dict[str, GenaiRunner], name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    runner = runners[name]
    expected = _fresh(runner, TOKENS[:CONTEXT])
    _fresh(runner, TOKENS[: CONTEXT - 1])
    with pytest.raises(ContextExceeded, match="maximum context length is 200 tokens.*201 tokens"):
        runner.prefill(0, TOKENS[:2])
    for wrong in (-1, runner.vocabulary):
        with pytest.raises(InvalidRequest, match="from 0 to 399"):
            runner.decode([0], [wrong])
    with pytest.raises(InvalidRequest):
        runner.prefill(0, [])
    np.testing.assert_allclose(runner.decode([0], TOKENS[CONTEXT - 1 : CONTEXT])[0], expected, atol=1e-4)
    with pytest.raises(ContextExceeded):
        runner.decode([0], [5])
    assert runner.length(0) == CONTEXT
    assert capfd.readouterr().err == ""


def test_keys_and_values_are_counted(runners: dict[str, GenaiRunner]) -> None:
    layer = 2 * 2 * 16 * 4  # key and value, heads, head size, float32
    assert {name: (one.kv_bytes_per_token, one.kv_granule) for name, one in runners.items()} == {
        "plain": (2 * layer, CONTEXT),
        "concatenating": (2 * 2 * layer, 1),  # past and present are two
        "hybrid": (layer, CONTEXT),
        "windowed": (2 * layer, CONTEXT),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_the_number_of_threads_is_obeyed(built: Path) -> None:
    def threads_of(count: int) -> int:
        before = len(list(Path("/proc/self/task").iterdir()))
        runner = GenaiRunner(built / "hybrid", threads=count, slots=1, context_length=64)
        assert runner.slots == 1
        return len(list(Path("/proc/self/task").iterdir())) - before

    assert threads_of(4) == threads_of(1) + 3


def test_nothing_is_reported_to_anybody(built: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from foundry_lite.engine.runners.genai import GenaiRunner;"
        f"r = GenaiRunner(Path({str(built / 'hybrid')!r}), threads=1, slots=1, context_length=64); r.prefill(0, [5])"
    )
    clean = {name: value for name, value in environment(tmp_path).items() if name != "ORT_DISABLE_TELEMETRY"}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**clean, **home}, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


PLACE = "model.layers.1.operator_layernorm.weight"


@pytest.fixture(scope="session")
def adaptable(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hybrid with one place for an adapter: an initializer that is an input too."""
    folder = tmp_path_factory.mktemp("adaptable")
    shutil.copytree(built / "hybrid", folder, dirs_exist_ok=True)
    model = onnx.load(folder / "model.onnx")
    places = [one for one in model.graph.initializer if one.name.startswith("model.layers.1.operator")]
    assert [one.name for one in places] == [PLACE]
    model.graph.input.append(onnx.helper.make_tensor_value_info(PLACE, 1, list(places[0].dims)))
    for name in ("model.onnx", "model.onnx.data"):
        (folder / name).unlink()
    onnx.save(model, folder / "model.onnx")
    return folder


def test_an_adapter_changes_its_own_slot_only(adaptable: Path, tmp_path: Path) -> None:
    runner = GenaiRunner(adaptable, threads=1, slots=2, context_length=64)
    base = runner.prefill(0, TOKENS[:20])
    adapter_file.write(tmp_path / "double", {PLACE: np.full(64, 2.0, np.float32)})
    adapter_file.write(tmp_path / "usual", {PLACE: np.ones(64, np.float32)})
    for name in ("double", "usual"):
        runner.load_adapter(name, tmp_path / name)
    runner.adapt(1, "double")
    doubled = runner.prefill(1, TOKENS[:20])
    assert abs(doubled - base).max() > 0.1
    together = runner.decode([0, 1], [9, 9]).copy()
    np.testing.assert_allclose(together[0], _fresh(runner, [*TOKENS[:20], 9]), atol=1e-4)
    np.testing.assert_allclose(together[1], _fresh(runner, [*TOKENS[:20], 9], slot=1), atol=1e-4)
    runner.keep(1, 0)
    runner.adapt(1, "usual")
    np.testing.assert_allclose(runner.prefill(1, TOKENS[:20]), base, atol=1e-6)  # a new model's norms are ones
    runner.unload_adapter("double")
    runner.load_adapter("double", tmp_path / "double")  # a name that is free again
    runner.keep(1, 0)
    runner.adapt(1, None)
    np.testing.assert_array_equal(runner.prefill(1, TOKENS[:20]), base)


@pytest.mark.parametrize(
    ("place", "size", "message"),
    [("lora.0.x.A", 64, "lora.0.x.A, which this model has no place for"), (PLACE, 10, r"shape \(10,\).*\(64,\)")],
)
def test_an_adapter_that_does_not_fit_is_refused(
    adaptable: Path, tmp_path: Path, place: str, size: int, message: str
) -> None:
    runner = GenaiRunner(adaptable, threads=1, slots=1, context_length=64)
    adapter_file.write(tmp_path / "odd", {place: np.ones(size, np.float32)})
    with pytest.raises(LoadFailed, match=message):
        runner.load_adapter("odd", tmp_path / "odd")


def test_a_model_that_loads_but_does_not_run_is_refused_at_once(built: Path, tmp_path: Path) -> None:
    for path in (built / "hybrid").iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = (
        (tmp_path / "genai_config.json").read_text().replace('"num_key_value_heads": 2', '"num_key_value_heads": 3')
    )
    (tmp_path / "genai_config.json").unlink()
    (tmp_path / "genai_config.json").write_text(config)
    with pytest.raises(LoadFailed, match="onnxruntime-genai: "):
        GenaiRunner(tmp_path, threads=1, slots=1, context_length=64)
