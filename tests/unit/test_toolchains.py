"""Toolchains: what serves here, which folder is whose, and that our tools import nothing that a toolchain lacks."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import grimp
import pytest

from foundry_lite.conversion.toolchains.environment import MARKER, Definition, Told, _Watcher, interpreter
from foundry_lite.conversion.toolchains.toolchains import DEFINITIONS, GENAI, OPTIMUM, OWN, State, Toolchains
from foundry_lite.errors import ToolchainMissing
from tests.support import ROOT

# What a distribution is imported as, where that is not its name.
_OURS = {
    "foundry_lite.conversion.evaluate.run_encoder",
    "foundry_lite.conversion.evaluate.score_variant",
}  # run in our own environment
_IMPORTED_AS = {"ml-dtypes": "ml_dtypes", "onnx-ir": "onnx_ir", "onnxruntime-genai": "onnxruntime_genai"}


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    path = tmp_path / "pins.txt"
    path.write_text("# said\nalpha==1.0\nbeta==2.0  # why\n")
    return path


def _whole(folder: Path) -> None:
    python = interpreter(folder)
    python.parent.mkdir(parents=True)
    python.touch()
    (folder / MARKER).write_text('{"name": "tiny", "python": "3.11.0", "versions": {"alpha": "1.0"}}')


def test_our_own_environment_serves_where_the_extra_is_installed(tmp_path: Path) -> None:
    toolchains = Toolchains(tmp_path / "toolchains")
    for name in (OWN, GENAI):
        assert asyncio.run(toolchains.python(name)) == Path(sys.executable)
    genai, optimum = toolchains.scan()
    assert genai.state is State.HERE
    assert set(genai.shown) >= {"torch", "transformers"}
    assert optimum.state is State.MISSING
    assert not (tmp_path / "toolchains").exists()


def test_a_name_that_is_none_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ToolchainMissing) as caught:
        asyncio.run(Toolchains(tmp_path).python("olive"))
    assert "'olive'" in caught.value.message
    assert OPTIMUM in caught.value.hint


def test_other_pins_make_another_folder_and_comments_do_not(tmp_path: Path, pins: Path) -> None:
    definition = Definition("tiny", pins, imports=())
    toolchains = Toolchains(tmp_path / "toolchains", definitions=[definition])
    folder = toolchains._folder(definition)
    assert folder.name.endswith(f"-py{sys.version_info.major}.{sys.version_info.minor}")
    pins.write_text("beta==2.0\nalpha==1.0\n")
    assert toolchains._folder(definition) == folder
    _whole(folder)
    assert [one.state for one in toolchains.scan()] == [State.INSTALLED]
    pins.write_text("beta==2.1\nalpha==1.0\n")
    assert toolchains._folder(definition) != folder
    assert [one.state for one in toolchains.scan()] == [State.MISSING, State.OUTDATED]


@pytest.mark.parametrize("damage", ["no marker", "half a marker", "no python"])
def test_a_folder_that_is_not_whole_is_unfinished(tmp_path: Path, pins: Path, damage: str) -> None:
    definition = Definition("tiny", pins, imports=())
    toolchains = Toolchains(tmp_path / "toolchains", definitions=[definition])
    folder = toolchains._folder(definition)
    _whole(folder)
    if damage == "no marker":
        (folder / MARKER).unlink()
    elif damage == "half a marker":
        (folder / MARKER).write_text('{"name": "ti')
    else:
        interpreter(folder).unlink()
    assert [one.state for one in toolchains.scan()] == [State.MISSING, State.UNFINISHED]


def test_progress_counts_what_pip_collects_and_warns_of_cuda_once() -> None:
    said: list[str] = []
    watch = _Watcher(Told(said.append, "tiny"), total=3)
    for line in (
        "Collecting torch==2.13.0 (from -r pins.txt (line 1))",
        "  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (880.1 MB)",
        "Collecting nvidia-cudnn-cu13==9.0 (from torch==2.13.0)",
        "Collecting nvidia-cublas==13.0 (from torch==2.13.0)",
        "Requirement already satisfied: something",
        "Installing collected packages: a, b, c",
    ):
        watch(line)
    assert said[0] == "tiny: collecting torch (1 of 3)"
    assert said[1] == "tiny: downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (880.1 MB)"
    assert sum("CUDA" in line for line in said) == 1
    assert said[-1] == "tiny: installing 3 packages"


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda one: one.name)
def test_every_pin_is_an_exact_version(definition: Definition) -> None:
    lines = [line for line in definition.pins.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 20
    for line in lines:
        assert re.fullmatch(r'[a-z0-9-]+==[0-9][0-9a-z.]*(; sys_platform == "win32")?', line), line
    assert "torch==2.13.0" in lines


_RUN = re.compile(r'"(foundry_lite\.conversion\.[a-z0-9_.]+)"')


def test_what_is_run_in_a_toolchain_imports_nothing_that_it_lacks() -> None:
    """Of us they see the whole package, of other packages only what is pinned."""
    genai, optimum = (_imports(definition) for definition in DEFINITIONS)
    assert {"numpy", "msgspec", "onnx", "torch", "transformers"} <= genai & optimum
    graph = grimp.build_graph("foundry_lite", include_external_packages=True)
    run = {name for path in (ROOT / "foundry_lite").rglob("*.py") for name in _RUN.findall(path.read_text())}
    modules = {one for one in run if one in graph.modules} - _OURS
    assert {
        "foundry_lite.conversion.torch_scripts.export_encoder",
        "foundry_lite.conversion.quantize.derive",
    } <= modules
    for module in modules:
        allowed = genai & optimum if module.endswith("export_encoder") else genai
        for used in {module, *graph.find_upstream_modules(module)}:
            if used.startswith("foundry_lite"):
                imported = {one for one in graph.find_modules_directly_imported_by(used) if "foundry_lite" not in one}
                assert imported - set(sys.stdlib_module_names) - {"optimum"} <= allowed, (module, used)


def _imports(definition: Definition) -> set[str]:
    names = re.findall(r"^([a-z0-9-]+)==", definition.pins.read_text(), re.M)
    return {_IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}
