"""Promises about the code that no linter of ours can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.rooms import Room, rooms
from tests.support import ROOT, environment

PACKAGE = ROOT / "foundry_lite"
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith(('"""', 'r"""'))


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room.folder)
def test_a_room_has_at_most_fifteen_modules_and_a_sentence_that_the_map_repeats(room: Room) -> None:
    assert room.modules <= 15
    assert room.sentence.endswith(".")
    row = f"| `{room.folder}/` | {room.modules} | {room.sentence} |"
    assert not room.folder or row in (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_a_module_that_runs_as_a_subprocess_names_those_who_run_it() -> None:
    """A subprocess module names its callers; a caller is whoever holds the module's full name as a string."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    callers: dict[str, set[str]] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
                callers.setdefault(node.value, set()).add(path.stem)
    said = {}
    for path, tree in trees.items():
        text = " ".join((ast.get_docstring(tree) or "").split())
        if found := re.search(r"[Rr]un by ((?:`\w+`(?:, | and )?)+) as a subprocess", text):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            said[name] = (set(re.findall(r"`(\w+)`", found[1])), callers.get(name, set()))
    assert len(said) >= 12
    assert {name: ours for name, (ours, theirs) in said.items() if ours != theirs} == {}


@pytest.mark.parametrize(
    "entry",
    [
        "foundry_lite.server.daemon",
        "foundry_lite.engine.worker.worker",
        "foundry_lite.engine.encoder.worker",
        "foundry_lite.cli.app",
    ],
)
def test_serving_needs_neither_torch_nor_the_builder(entry: str, tmp_path: Path) -> None:
    code = f"import sys, {entry}; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert not loaded & {"torch", "transformers", "onnx", "onnxruntime_genai", "huggingface_hub"}


def test_the_daemon_never_loads_the_inference_library(tmp_path: Path) -> None:
    code = "import sys, foundry_lite.server.daemon; print('onnxruntime' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_telemetry_is_switched_off_before_anything_can_import_onnxruntime(tmp_path: Path) -> None:
    code = "import os, foundry_lite; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    clean = environment(tmp_path)
    clean.pop("ORT_DISABLE_TELEMETRY", None)
    result = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"


def test_the_layers_and_contracts_of_pyproject_hold() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


_NAMES_NOTHING = {"What", "Who", "Whether", "Those", "One", "Ones", "That", "How", "Where", "Which"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_docstring_begins_with_its_noun_or_verb(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "-" for node in ast.walk(tree) if isinstance(node, kinds)]
    assert [text for text in texts if text.split()[0].strip(",:") in _NAMES_NOTHING] == []
