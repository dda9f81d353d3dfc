"""Steps that are done once: each keeps its result under the hash of everything that it was made from.

    <home>/build/cache/<step>-<key>/    output/ and step.json: inputs, seconds, sha256 of every file of the output
    <home>/build/work/<step>-<key>/     being made; whatever lies here is of no use to anybody else

A result appears by one rename, so a kill at any moment leaves whole results and rubbish, never half a result. A result
is used again only while its files are what they were.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from foundry_lite.conversion.jobs.code_digest import Code, Makers
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.toolchains.toolchains import Toolchains
from foundry_lite.errors import DamagedArtifact
from foundry_lite.store.manifest import FileEntry, digest_files, verify_digests

_RECORD = "step.json"
_NO_MAKERS = Makers()

Make = Callable[[Path, StepContext], Awaitable[None]]


class StepRecord(Struct, frozen=True):
    """Record of a cached step result, written beside it: step, key, inputs, duration, files."""

    step: str
    key: str
    inputs: dict[str, Any]
    seconds: float
    files: tuple[FileEntry, ...]

    @property
    def label(self) -> str:
        return f"{self.step}-{self.key}"


@dataclass(frozen=True, slots=True)
class Result:
    """A step's output. ``key`` stands for all that it was made from; ``is_kept`` when it was there already."""

    folder: Path
    key: str
    seconds: float
    is_kept: bool


class StepCache:
    """The results below one folder. Not safe for several processes at once: `jobs` lets one build run at a time."""

    def __init__(self, root: Path, toolchains: Toolchains) -> None:
        self._cache = root / "cache"
        self._work = root / "work"
        self._toolchains = toolchains
        self._code = Code()

    async def run(
        self, name: str, inputs: Mapping[str, Any], log: Path, make: Make, makers: Makers = _NO_MAKERS
    ) -> Result:
        """Return the result of a step, made by ``make(output, step)`` when it is not there.

        ``inputs`` are JSON values: keys of other results, hashes of files, recipes. ``makers`` are the code that makes
        it and the libraries that this uses.
        """
        made_by = await asyncio.to_thread(self._code.ingredients, makers, self._toolchains)
        inputs = {**inputs, "made_by": made_by}
        key = _digest({"step": name, "inputs": inputs})[:24]
        kept = self._cache / f"{name}-{key}"
        record = await asyncio.to_thread(_read, kept)
        if record is not None:
            os.utime(kept)  # used now: the last to go
            await asyncio.to_thread(log.write_text, f"kept from an earlier run: {kept}\n", "utf-8")
            return Result(kept / "output", key, record.seconds, is_kept=True)
        return await self._make(name, key, inputs, log, make)

    async def _make(self, name: str, key: str, inputs: dict[str, Any], log: Path, make: Make) -> Result:
        work, kept = self._work / f"{name}-{key}", self._cache / f"{name}-{key}"
        for old in (work, kept):
            shutil.rmtree(old, ignore_errors=True)
        output, scratch = work / "output", work / "scratch"
        began = time.monotonic()
        try:
            for folder in (output, scratch):
                folder.mkdir(parents=True)
            await make(output, StepContext(scratch, log, self._toolchains))
            seconds = round(time.monotonic() - began, 3)
            shutil.rmtree(scratch, ignore_errors=True)
            files = await asyncio.to_thread(digest_files, output)
            record = StepRecord(name, key, inputs, seconds, files)
            (work / _RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
            self._cache.mkdir(parents=True, exist_ok=True)
            work.rename(kept)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return Result(kept / "output", key, seconds, is_kept=False)

    def forget(self, result: Result) -> None:
        """Remove a result, so that it is made anew the next time."""
        shutil.rmtree(result.folder.parent, ignore_errors=True)

    def trim(self, most_bytes: int) -> int:
        """Remove what was used longest ago until at most ``most_bytes`` are kept; return the bytes that were freed."""
        shutil.rmtree(self._work, ignore_errors=True)
        found = sorted(self._cache.glob("*"), key=lambda folder: folder.stat().st_mtime)
        sizes = {folder: _size(folder) for folder in found}
        total, freed = sum(sizes.values()), 0
        for folder in found:
            if total - freed <= most_bytes:
                break
            shutil.rmtree(folder, ignore_errors=True)
            freed += sizes[folder]
        return freed


def _read(folder: Path) -> StepRecord | None:
    """Read a result; ``None`` when there is none, or when its files are not what they were."""
    try:
        record = msgspec.json.decode((folder / _RECORD).read_bytes(), type=StepRecord)
        verify_digests(folder / "output", record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, DamagedArtifact):
        return None
    return record


def _size(folder: Path) -> int:
    """Count the bytes that go when the folder goes: not those that an installed model shares by a hard link."""
    states = (path.lstat() for path in folder.rglob("*") if path.is_file())
    return sum(state.st_size for state in states if state.st_nlink == 1)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
