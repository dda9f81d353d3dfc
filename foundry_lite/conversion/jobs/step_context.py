"""Context of a build step: a temporary folder, a log, and the toolchains whose interpreters it may call.

Whatever imports torch, or may take a native library down with it, runs in a subprocess: a module of ours in a
toolchain's environment, with an argument list, offline, everything that it prints in the step's log.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foundry_lite.conversion.toolchains.toolchains import OWN, Toolchains
from foundry_lite.errors import BuildFailed, StorageFull
from foundry_lite.settings import child_environment

PACKAGE = Path(__file__).parent.parent.parent

_NO_ROOM = ("No space left on device", "File too large", "Disk quota exceeded")
_NO_MEMORY = ("MemoryError", "std::bad_alloc", "DefaultCPUAllocator: can't allocate memory")
_TAIL = 64_000  # bytes of a log that are read to explain a failure


@dataclass(frozen=True, slots=True)
class StepContext:
    """Context of one build step. ``scratch`` is an existing folder that is not needed when the step is done."""

    scratch: Path
    log: Path
    toolchains: Toolchains

    async def run(
        self, module: str, *arguments: str | Path, toolchain: str = OWN, extra: Mapping[str, str] | None = None
    ) -> None:
        """Run ``python -m module arguments`` in a toolchain; ``extra`` are environment variables.

        When this task is cancelled, the process and its children are killed first. Raises `BuildFailed` with the last
        line of the output, `StorageFull`, or `ToolchainMissing`.
        """
        python = await self.toolchains.python(toolchain)
        environment = self._environment() | dict(extra or {})
        with self.log.open("ab") as output:
            output.write(f"$ {toolchain}: python -m {module} {' '.join(map(str, arguments))}\n".encode())
            output.flush()
            start = output.tell()
            process = await asyncio.create_subprocess_exec(
                str(python),
                "-m",
                module,
                *map(str, arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                code = await process.wait()
            finally:
                if process.returncode is None:
                    _kill_group(process.pid)
                    await process.wait()
        if code != 0:
            raise _explain(code, self._read_log(start), module.rpartition(".")[2], self.log)

    def folder(self, name: str) -> Path:
        """Return a folder of that name in the scratch folder, made when it is not there."""
        folder = self.scratch / name
        folder.mkdir(exist_ok=True)
        return folder

    def _environment(self) -> dict[str, str]:
        # A toolchain has its own packages but not ours: this link is all of this environment that it sees.
        link = self.folder("path") / "foundry_lite"
        if not link.exists():
            _link_folder(PACKAGE, link)
        return child_environment(
            PYTHONPATH=str(link.parent),
            HF_HUB_OFFLINE="1",
            HF_HUB_DISABLE_TELEMETRY="1",
            ORT_DISABLE_TELEMETRY="1",
            HF_HOME=str(self.scratch / "huggingface"),
            TMPDIR=str(self.folder("tmp")),
            TOKENIZERS_PARALLELISM="false",
        )

    def _read_log(self, start: int) -> str:
        with self.log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(start, size - _TAIL))
            return stream.read().decode("utf-8", errors="replace")


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` another name of the file ``source``; a copy where the file system has no links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def link_tree(source: Path, target: Path) -> None:
    """Make every file below ``source`` appear in the existing folder ``target``, by `link_or_copy`."""
    for path in sorted(one for one in source.rglob("*") if one.is_file()):
        other = target / path.relative_to(source)
        other.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(path, other)


def _link_folder(source: Path, link: Path) -> None:
    try:
        link.symlink_to(source, target_is_directory=True)
    except OSError:  # Windows without the privilege
        shutil.copytree(source, link)


def _explain(code: int, output: str, step: str, log: Path) -> BuildFailed:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    last = lines[-1] if lines else "it printed nothing"
    hint = f"The whole output is in {log}."
    if any(phrase in output for phrase in _NO_ROOM):
        return StorageFull(f"{step}: the disk is full ({last})", hint="Free some space and try again.")
    if code < 0 or any(phrase in last for phrase in _NO_MEMORY):
        name = signal.Signals(-code).name if code < 0 else last
        return BuildFailed(f"{step}: the process was ended by {name} (out of memory?)", hint=hint)
    return BuildFailed(f"{step}: {last}", hint=hint)


def _kill_group(pid: int) -> None:
    if hasattr(os, "killpg"):
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGTERM)
