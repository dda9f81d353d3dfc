"""The environments that conversions run in: each pinned, in a folder of its own, made when it is first needed.

    <home>/toolchains/<name>-<digest of its pins>-py<version>/     whole, with its `toolchain.json`
    <home>/toolchains/<the same>.partial-<pid>/                    being made, or left over from an interrupted attempt

``own`` is the environment that foundry-lite itself runs in; it serves for what needs no torch. An environment appears
by one rename after its check, so there is never half of one. One process makes a toolchain; the others wait for it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from filelock import AsyncFileLock, FileLock, Timeout
from packaging.requirements import InvalidRequirement, Requirement

from foundry_lite.conversion.toolchains.environment import Definition, Told, interpreter, make, read_marker
from foundry_lite.errors import ToolchainMissing

OWN = "own"
GENAI = "genai"  # onnxruntime-genai's builder, transformers 5, torch, peft, gguf
OPTIMUM = "optimum"  # optimum-onnx and the transformers it needs

_PINS = Path(__file__).parent / "requirements"
_PARTIAL = ".partial-"

DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        GENAI,
        _PINS / "genai.txt",
        imports=("torch", "transformers", "onnx", "onnx_ir", "onnxruntime_genai", "peft", "gguf", "safetensors"),
        shows=("torch", "transformers", "onnxruntime-genai", "onnx"),
        extra="build",
    ),
    Definition(
        OPTIMUM,
        _PINS / "optimum.txt",
        imports=("torch", "transformers", "onnx", "optimum.exporters.onnx", "msgspec"),
        shows=("torch", "transformers", "optimum-onnx", "onnx"),
    ),
)


class State(StrEnum):
    """Installation state of a toolchain."""

    HERE = "this environment"
    INSTALLED = "installed"
    MISSING = "not installed"
    BUSY = "being installed"
    UNFINISHED = "unfinished"  # what an interrupted attempt left: the next one replaces it
    OUTDATED = "outdated"  # made for other pins or another Python


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Toolchain as `list` shows it. ``folder`` is ``None`` where it has none of its own."""

    name: str
    state: State
    pins: Path
    folder: Path | None = None
    size_bytes: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)  # the few of `versions` that matter most


class Toolchains:
    """The toolchains below one folder.

    ``wheels`` is a folder of wheels to install from instead of the package index; ``tell`` gets a line for each step of
    an installation.
    """

    def __init__(
        self,
        root: Path,
        *,
        wheels: Path | None = None,
        tell: Callable[[str], None] | None = None,
        definitions: Iterable[Definition] = DEFINITIONS,
    ) -> None:
        self._root = root
        self._wheels = wheels
        self._tell = tell
        self._definitions = {one.name: one for one in definitions}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._definitions)

    async def python(self, name: str) -> Path:
        """Return the interpreter of a toolchain, made when it is not there.

        Raises `ToolchainMissing` when it cannot be installed, with pip's own words, and `StorageFull`.
        """
        if name == OWN or _lacks(self._find(name)) == ():
            return Path(sys.executable)
        return interpreter(await self.install(name))

    async def install(self, name: str) -> Path:
        """Return the folder of a toolchain's own environment, made when it is not there. Raises as `python` does."""
        definition = self._find(name)
        folder = self._folder(definition)
        if read_marker(folder) is not None:
            return folder
        self._root.mkdir(parents=True, exist_ok=True)
        lock = AsyncFileLock(self._lock(name), blocking=False)
        try:
            await lock.acquire()
        except Timeout:
            self._say("another process is installing it: waiting")
            await lock.acquire(blocking=True)
        try:
            if read_marker(folder) is None:  # nobody made it meanwhile
                await self._make(definition, folder)
        finally:
            await lock.release()
        return folder

    def versions(self, name: str) -> dict[str, str]:
        """Return the versions of what a toolchain consists of, whether it is installed or not: its pins have them."""
        if name == OWN or _lacks(self._find(name)) == ():
            return installed_versions()
        pins = (
            line.partition("#")[0].partition(";")[0] for line in self._find(name).pins.read_text("utf-8").split("\n")
        )
        pairs = (line.strip().partition("==") for line in pins)
        return {package: version for package, _, version in pairs if version}

    def scan(self) -> list[Toolchain]:
        """Return every toolchain in its state, and old or unfinished folders of it. Makes nothing."""
        return [one for definition in self._definitions.values() for one in self._scan_one(definition)]

    def remove(self, name: str) -> int:
        """Remove all folders of a toolchain; return the bytes that were freed.

        Raises `ToolchainMissing` when there are none, or while it is being installed.
        """
        definition = self._find(name)
        folders = list(self._folders(definition))
        if not folders:
            raise ToolchainMissing(
                f"the toolchain {name!r} has no environment of its own: there is nothing to remove",
                hint="foundry-lite toolchain ls shows what is installed.",
            )
        freed = sum(_size(folder) for folder in folders)
        try:
            with FileLock(self._lock(name), blocking=False):
                for folder in folders:
                    _remove(folder)
        except Timeout:
            raise ToolchainMissing(
                f"the toolchain {name!r} is being installed by another process", hint="Wait for it, or stop it."
            ) from None
        return freed

    def _find(self, name: str) -> Definition:
        try:
            return self._definitions[name]
        except KeyError:
            raise ToolchainMissing(
                f"there is no toolchain {name!r}", hint=f"There are {', '.join(self._definitions)}."
            ) from None

    def _say(self, line: str) -> None:
        if self._tell is not None:
            self._tell(line)

    async def _make(self, definition: Definition, folder: Path) -> None:
        for old in self._folders(definition):
            if _PARTIAL in old.name or old == folder:
                _remove(old)
        partial = folder.with_name(f"{folder.name}{_PARTIAL}{os.getpid()}")
        log = self._root / f"{definition.name}.log"
        try:
            await make(partial, definition, log, Told(self._say, definition.name), self._wheels)
            # Nothing in it is found by its absolute path but the scripts in bin, which nobody here calls.
            partial.rename(folder)
        finally:
            if partial.exists():
                _remove(partial)

    def _folder(self, definition: Definition) -> Path:
        version = f"py{sys.version_info.major}.{sys.version_info.minor}"
        return self._root / f"{definition.name}-{_digest(definition.pins)}-{version}"

    def _folders(self, definition: Definition) -> Iterator[Path]:
        return iter(sorted(path for path in self._root.glob(f"{definition.name}-*") if path.is_dir()))

    def _lock(self, name: str) -> Path:
        return self._root / f"{name}.lock"

    def _scan_one(self, definition: Definition) -> Iterator[Toolchain]:
        missing, current = _lacks(definition), self._folder(definition)
        found = [self._describe(definition, folder, current) for folder in self._folders(definition)]
        if missing == ():
            versions = _versions(_requirements(definition))
            yield Toolchain(
                definition.name, State.HERE, definition.pins, None, 0, versions, _shown(definition, versions)
            )
        elif not any(one.state in (State.INSTALLED, State.BUSY) for one in found):
            yield Toolchain(definition.name, State.MISSING, definition.pins)
        yield from found

    def _describe(self, definition: Definition, folder: Path, current: Path) -> Toolchain:
        marker = read_marker(folder)
        versions = {} if marker is None else marker.versions
        if _PARTIAL in folder.name or marker is None:
            state = State.BUSY if self._is_locked(definition.name) else State.UNFINISHED
        else:
            state = State.INSTALLED if folder == current else State.OUTDATED
        shown = _shown(definition, versions)
        return Toolchain(definition.name, state, definition.pins, folder, _size(folder), versions, shown)

    def _is_locked(self, name: str) -> bool:
        if not self._lock(name).exists():
            return False
        try:
            with FileLock(self._lock(name), blocking=False):
                return False
        except Timeout:
            return True


def installed_versions() -> dict[str, str]:
    """Return the version of every distribution of this environment, by its name as the package index writes it."""
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        with suppress(KeyError, TypeError, AttributeError):  # what an interrupted installation left
            found.setdefault(one.metadata["Name"].lower().replace("_", "-"), one.version)
    return found


def _requirements(definition: Definition) -> tuple[Requirement, ...] | None:
    """Return the requirements of our extra for this toolchain; ``None`` where there is no such extra."""
    if definition.extra is None:
        return None
    try:
        stated = importlib.metadata.requires("foundry-lite") or []
    except importlib.metadata.PackageNotFoundError:  # run from a folder, not installed
        return None
    with suppress(InvalidRequirement):
        parsed = [Requirement(text) for text in stated]
        of_extra = [one for one in parsed if one.marker and one.marker.evaluate({"extra": definition.extra})]
        return tuple(one for one in of_extra if one.marker and not one.marker.evaluate({"extra": ""})) or None
    return None


def _lacks(definition: Definition) -> tuple[str, ...] | None:
    """Return what this environment lacks to serve as that toolchain; ``None`` when it never can. Imports nothing."""
    requirements = _requirements(definition)
    if requirements is None:
        return None
    versions = _versions(requirements)
    return tuple(
        str(one.name)
        for one in requirements
        if one.name not in versions or not one.specifier.contains(versions[one.name], prereleases=True)
    )


def _versions(requirements: tuple[Requirement, ...] | None) -> dict[str, str]:
    found = {}
    for one in requirements or ():
        with suppress(importlib.metadata.PackageNotFoundError):
            found[one.name] = importlib.metadata.version(one.name)
    return found


def _shown(definition: Definition, versions: Mapping[str, str]) -> dict[str, str]:
    return {name: versions[name] for name in definition.shows if name in versions}


def _digest(pins: Path) -> str:
    lines = (line.partition("#")[0].strip() for line in pins.read_text(encoding="utf-8").splitlines())
    return hashlib.sha256("\n".join(sorted(line for line in lines if line)).encode()).hexdigest()[:12]


def _size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(root) / name).lstat().st_size
    return total


def _remove(folder: Path) -> None:
    # An orphan of a killed attempt may still write into it: then something remains, and the next attempt tries again.
    shutil.rmtree(folder, ignore_errors=True)
