"""Making one toolchain's environment: ``python -m venv``, pip with exact versions, and a check by importing.

pip is run with wheels only, so nothing of a package is run to install it. Whatever it prints is in the log; a line for
each of its steps is reported.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from foundry_lite.errors import BadSetting, StorageFull, ToolchainMissing
from foundry_lite.settings import child_environment

MARKER = "toolchain.json"

_KEPT = 60  # of the last lines of a command's output, to explain a failure
_CHECK = """
import importlib, importlib.metadata, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}))
"""
_STEPS = (
    (
        re.compile(r"\s*(?:Collecting|Processing \S*?(?=[^/\\]+\.whl)) ?([\w.-]+?)(?:-\d\S*\.whl|[=<>~! (]|$)"),
        "collecting",
    ),
    (re.compile(r"\s*Downloading (\S+? \([^)]*\))"), "downloading"),
    (re.compile(r"Installing collected packages: (.*)"), "installing"),
)
_OPTIONS = ("install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--only-binary", ":all:")
_NO_ROOM = ("No space left on device", "Disk quota exceeded")


@dataclass(frozen=True, slots=True)
class Definition:
    """Definition of a toolchain: its pinned requirements and their check.

    ``pins`` is a requirements file of exact versions, ``imports`` are the modules that the check imports, ``shows`` the
    distributions that a list shows. With ``extra``, an environment of ours that has that extra serves as well.
    """

    name: str
    pins: Path
    imports: tuple[str, ...]
    shows: tuple[str, ...] = ()
    extra: str | None = None


class Marker(Struct, frozen=True):
    """`toolchain.json`: marks the environment around it as complete. ``versions`` are of all its distributions."""

    name: str
    python: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """Progress callback of an installation: emits lines such as ``optimum: collecting torch (12 of 33)``."""

    tell: Callable[[str], None]
    name: str

    def __call__(self, line: str) -> None:
        self.tell(f"{self.name}: {line}")


def interpreter(folder: Path) -> Path:
    """Return the Python of an environment."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def read_marker(folder: Path) -> Marker | None:
    """Return an environment's marker; ``None`` when it is not whole, or the Python it was made with is gone."""
    try:
        marker = msgspec.json.decode((folder / MARKER).read_bytes(), type=Marker)
    except (OSError, msgspec.DecodeError):
        return None
    return marker if interpreter(folder).exists() else None


async def make(folder: Path, definition: Definition, log: Path, told: Told, wheels: Path | None = None) -> None:
    """Make the environment ``folder``, which does not exist; its marker comes last.

    When this task is cancelled, pip and its children are killed first. Raises `ToolchainMissing`, `StorageFull`, or
    `BadSetting` for a ``wheels`` that is no folder.
    """
    source = _source(wheels)
    runner = _Runner(definition.name, log, folder / "tmp")
    told(f"making an environment with Python {sys.version_info.major}.{sys.version_info.minor}")
    await runner.run(
        [sys.executable, "-m", "venv", *_venv_options(), str(folder)], "On Debian, apt install python3-venv."
    )
    (folder / "tmp").mkdir()
    downloads = log.with_suffix(".downloads")  # what an interrupted attempt has downloaded, the next one need not
    await runner.run(
        [*_pip(folder), *_OPTIONS, "--cache-dir", str(downloads), "-r", str(definition.pins), *source],
        "docs/toolchains.md says how to use another index, or a folder of wheels.",
        _Watcher(told, _count(definition.pins)),
        offline=wheels is not None,
    )
    told("checking: importing what it is for")
    lines = await runner.run(
        [str(interpreter(folder)), "-I", "-c", _CHECK, *definition.imports], "A package does not run on this machine."
    )
    for done in (folder / "tmp", downloads):
        shutil.rmtree(done, ignore_errors=True)
    version = ".".join(map(str, sys.version_info[:3]))
    marker = Marker(definition.name, version, dict(sorted(msgspec.json.decode(lines[-1]).items())))
    (folder / MARKER).write_bytes(msgspec.json.format(msgspec.json.encode(marker), indent=1) + b"\n")


def _has_pip() -> bool:
    """Return whether our own environment has a pip that can install into another one, which saves making one there."""
    try:
        return int(importlib.metadata.version("pip").partition(".")[0]) >= 23
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False


def _venv_options() -> list[str]:
    return ["--without-pip"] if _has_pip() else []


def _pip(folder: Path) -> list[str]:
    python = str(interpreter(folder))
    return [sys.executable, "-I", "-m", "pip", "--python", python] if _has_pip() else [python, "-I", "-m", "pip"]


def _source(wheels: Path | None) -> list[str]:
    if wheels is None:
        return []
    if not wheels.is_dir():
        raise BadSetting(
            f"{wheels} is no folder of wheels",
            hint="Set --wheels, or FOUNDRY_LITE_WHEELS, to one: docs/toolchains.md says how to fill it.",
        )
    return ["--no-index", "--find-links", str(wheels.resolve())]


def _count(pins: Path) -> int:
    return sum("==" in line for line in pins.read_text(encoding="utf-8").splitlines())


class _Watcher:
    """Makes progress of pip's lines."""

    def __init__(self, told: Told, total: int) -> None:
        self._told = told
        self._total = total
        self._collected = 0
        self._warned = False

    def __call__(self, line: str) -> None:
        for pattern, step in _STEPS:
            if found := pattern.match(line):
                self._tell(step, found[1])

    def _tell(self, step: str, what: str) -> None:
        if step == "collecting":
            self._collected += 1
            self._told(f"collecting {what} ({self._collected} of {max(self._total, self._collected)})")
            if what.startswith("nvidia-") and not self._warned:
                self._warned = True
                self._told("this index has torch with CUDA, some GB more: docs/toolchains.md says how to avoid that")
        elif step == "installing":
            self._told(f"installing {what.count(',') + 1} packages")
        else:
            self._told(f"{step} {what}")


class _Runner:
    """Runs the commands that make one environment."""

    def __init__(self, name: str, log: Path, temporary: Path) -> None:
        self._name = name
        self._log = log
        self._temporary = temporary
        log.write_bytes(b"")

    async def run(
        self, command: list[str], hint: str, watch: Callable[[str], None] = lambda _: None, *, offline: bool = False
    ) -> list[str]:
        """Run a command; return its last lines. Raises `ToolchainMissing` with them when it fails."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment(offline),
            start_new_session=True,
            limit=1 << 20,
        )
        assert process.stdout is not None
        last: deque[str] = deque(maxlen=_KEPT)
        try:
            with self._log.open("ab") as log:
                async for raw in process.stdout:
                    log.write(raw)
                    line = raw.decode("utf-8", errors="replace").rstrip()
                    last.append(line)
                    watch(line)
            code = await process.wait()
        finally:
            if process.returncode is None:
                _kill(process.pid)
                await process.wait()
        if code != 0:
            raise self._explain(list(last), hint)
        return list(last)

    def _environment(self, offline: bool) -> dict[str, str]:
        # What a user set for pip (index, certificates, proxy) holds; what would install elsewhere does not.
        nowhere = dict.fromkeys(("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REQUIREMENT"), "")
        own_only = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""} if offline else {}
        return child_environment(PYTHONUNBUFFERED="1", **nowhere, **own_only, **self._temporary_folder())

    def _temporary_folder(self) -> dict[str, str]:
        # The system's own may be small, and a killed pip would leave gigabytes there.
        return {"TMPDIR": str(self._temporary)} if self._temporary.is_dir() else {}

    def _explain(self, lines: list[str], hint: str) -> ToolchainMissing | StorageFull:
        if any(phrase in line for line in lines for phrase in _NO_ROOM):
            return StorageFull(
                f"the toolchain {self._name!r} could not be installed: the disk is full",
                hint="Free some space and try again.",
            )
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        said = errors[-3:] or [line.strip() for line in lines if line.strip()][-1:] or ["it printed nothing"]
        return ToolchainMissing(
            f"the toolchain {self._name!r} could not be installed: {'; '.join(said)}",
            hint=f"{hint} The whole output is in {self._log}.",
        )


def _kill(pid: int) -> None:
    if hasattr(os, "killpg"):
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGTERM)
