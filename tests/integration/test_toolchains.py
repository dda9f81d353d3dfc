"""Toolchains made for real: a tiny one, from a folder with one wheel; the real ones on demand, they take minutes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from foundry_lite.conversion.toolchains.environment import MARKER, Definition, interpreter
from foundry_lite.conversion.toolchains.toolchains import DEFINITIONS, State, Toolchains
from foundry_lite.errors import BadSetting, ToolchainMissing
from tests.support import ROOT, cli, environment, eventually, process_is_gone

_INSTALL = """
import asyncio, sys
from pathlib import Path
from tests.integration.test_toolchains import tiny
asyncio.run(tiny(Path(sys.argv[1]), Path(sys.argv[2])).python("tiny"))
"""


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def tiny(folder: Path, wheels: Path, module: str = "pebble") -> Toolchains:
    """A toolchain of one small wheel; ``tell`` prints, so that a test can follow it in a process of its own."""
    definition = Definition("tiny", folder / "pins.txt", imports=(module,), shows=("pebble",))
    return Toolchains(folder / "toolchains", wheels=wheels, tell=_tell,
                      definitions=[definition])  # fmt: skip


def _states(folder: Path, wheels: Path) -> list[State]:
    return [one.state for one in tiny(folder, wheels).scan()]


def _child(pid: int) -> int:
    """Return the first child of a process, as soon as it has one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    eventually(lambda: bool(children.read_text()))
    return int(children.read_text().split()[0])


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with the wheel ``pebble 1.0``, and the pins that ask for it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "pebble-1.0.dist-info"
    with zipfile.ZipFile(folder / "pebble-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pebble.py", "SIZE = 1\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: pebble\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"pebble.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    (tmp_path / "pins.txt").write_text("pebble==1.0\n")
    return folder


def test_a_toolchain_is_made_offline_once_serves_and_goes(tmp_path: Path, wheels: Path) -> None:
    toolchains = tiny(tmp_path, wheels)
    leftover = toolchains._folder(toolchains._definitions["tiny"]).with_suffix(".11.partial-1")
    leftover.mkdir(parents=True)
    assert [one.state for one in toolchains.scan()] == [State.MISSING, State.UNFINISHED]
    said: list[str] = []
    toolchains = Toolchains(tmp_path / "toolchains", wheels=wheels, tell=said.append,
                            definitions=toolchains._definitions.values())  # fmt: skip
    python = asyncio.run(toolchains.python("tiny"))
    assert said[1:] == [
        "tiny: collecting pebble (1 of 1)",
        "tiny: installing 1 packages",
        "tiny: checking: importing what it is for",
    ]
    ran = subprocess.run([python, "-c", "import pebble; print(pebble.__file__)"], capture_output=True, text=True)
    folder = python.parents[1]
    assert ran.stdout.strip().startswith(str(folder))
    made = toolchains.scan()
    assert [one.state for one in made] == [State.INSTALLED]
    assert made[0].shown == {"pebble": "1.0"}
    assert made[0].size_bytes > 10_000
    marker = json.loads((folder / MARKER).read_text())
    assert marker["versions"]["pebble"] == "1.0"

    before = (folder / MARKER).stat().st_mtime_ns
    assert asyncio.run(tiny(tmp_path, tmp_path / "nowhere").python("tiny")) == python  # it asks nobody for anything
    assert (folder / MARKER).stat().st_mtime_ns == before

    assert toolchains.remove("tiny") == made[0].size_bytes
    assert [path.name for path in (tmp_path / "toolchains").iterdir() if path.is_dir()] == []
    with pytest.raises(ToolchainMissing, match="nothing to remove"):
        toolchains.remove("tiny")


def test_what_pip_cannot_find_is_said_in_its_words_and_leaves_nothing(tmp_path: Path, wheels: Path) -> None:
    (tmp_path / "pins.txt").write_text("pebble==2.0\n")
    with pytest.raises(ToolchainMissing) as caught:
        asyncio.run(tiny(tmp_path, wheels).python("tiny"))
    assert "No matching distribution found for pebble==2.0" in caught.value.message
    assert "docs/toolchains.md" in caught.value.hint
    assert "pebble==2.0" in (tmp_path / "toolchains" / "tiny.log").read_text()
    assert not [path for path in (tmp_path / "toolchains").iterdir() if path.is_dir() and "downloads" not in path.name]
    with pytest.raises(BadSetting, match="no folder of wheels"):
        asyncio.run(tiny(tmp_path, tmp_path / "nowhere").python("tiny"))


def test_ctrl_c_ends_pip_and_a_kill_leaves_what_the_next_run_replaces(tmp_path: Path, wheels: Path) -> None:
    command = [sys.executable, "-c", _INSTALL, str(tmp_path), str(wheels)]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert running.stdout is not None
    running.stdout.readline()  # it is making the environment
    child = _child(running.pid)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=20)
    assert running.returncode != 0
    eventually(lambda: process_is_gone(child))
    assert _states(tmp_path, wheels) == [State.MISSING]

    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert killed.stdout is not None
    killed.stdout.readline()
    eventually(lambda: _states(tmp_path, wheels)[0] is State.BUSY)
    with pytest.raises(ToolchainMissing, match="being installed"):
        tiny(tmp_path, wheels).remove("tiny")
    child = _child(killed.pid)
    killed.kill()
    killed.communicate(timeout=20)
    # A child caught between fork and exec holds the lock until it has become pip.
    eventually(lambda: _states(tmp_path, wheels) == [State.MISSING, State.UNFINISHED])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(
            child, signal.SIGKILL
        )  # an orphan that goes on writing would leave a folder for the run after the next
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=60)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sum("checking" in one for one in said) == 1  # the other one waited and found it made
    assert _states(tmp_path, wheels) == [State.INSTALLED]


def test_what_cannot_be_imported_is_no_toolchain(tmp_path: Path, wheels: Path) -> None:
    with pytest.raises(ToolchainMissing, match="No module named 'boulder'"):
        asyncio.run(tiny(tmp_path, wheels, module="boulder").python("tiny"))
    assert _states(tmp_path, wheels) == [State.MISSING]


def test_the_commands_list_install_print_pins_and_refuse_other_names(tmp_path: Path) -> None:
    listed = json.loads(cli(tmp_path, "toolchain", "ls", "--json").stdout)["toolchains"]
    assert [(one["name"], one["state"]) for one in listed] == [
        ("genai", "this environment"), ("optimum", "not installed"),
    ]  # fmt: skip
    assert "this environment has what is needed" in cli(tmp_path, "toolchain", "install", "genai").stdout
    assert "optimum-onnx==" in cli(tmp_path, "toolchain", "pins", "optimum").stdout
    unknown = cli(tmp_path, "toolchain", "install", "olive")
    assert unknown.returncode == 2
    assert "there are genai, optimum" in unknown.stderr
    nothing = cli(tmp_path, "toolchain", "rm", "optimum")
    assert nothing.returncode == 6
    assert "nothing to remove" in nothing.stderr
    (tmp_path / "empty").mkdir()
    offline = cli(tmp_path, "toolchain", "install", "optimum", FOUNDRY_LITE_WHEELS=str(tmp_path / "empty"))
    assert offline.returncode == 6
    assert "No matching distribution found" in offline.stderr
    assert "collecting" not in offline.stderr


@pytest.mark.skipif(not os.environ.get("FOUNDRY_LITE_TEST_TOOLCHAINS"), reason="takes minutes and gigabytes")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda one: one.name)
def test_the_real_toolchains_are_made_from_their_pins(tmp_path: Path, definition: Definition) -> None:
    alone = dataclasses.replace(definition, extra=None)
    began = time.monotonic()
    toolchains = Toolchains(tmp_path / "toolchains", definitions=[alone])
    folder = asyncio.run(toolchains.install(alone.name))
    _tell(f"{alone.name}: {time.monotonic() - began:.0f} s, {toolchains.scan()[0].size_bytes / 1e6:.0f} MB")
    checked = subprocess.run(
        [sys.executable, "-m", "pip", "--python", interpreter(folder), "check"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
    (tmp_path / "foundry_lite").symlink_to(ROOT / "foundry_lite")
    tool = subprocess.run(
        [interpreter(folder), "-c", "import foundry_lite.conversion.torch_scripts.export_encoder"],
        env=environment(tmp_path, PYTHONPATH=str(tmp_path)), capture_output=True, text=True,
    )  # fmt: skip
    assert tool.returncode == 0, tool.stderr
