"""A peer's process, which is stopped by a signal whenever it is not the one being measured.

Each has a process group of its own. Outside `awake` the whole group is held by SIGSTOP, so that no thread of it can
spin, poll or tidy up on the cores that another engine is measured on. Windows has no such signal: there a peer is only
left alone, and `HOLDS` says so in the results.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

HOLDS = hasattr(signal, "SIGSTOP")
ROOT = Path(__file__).parents[2]
_LINE = 2**26  # bytes that one line from a child may have
_LAST_SECONDS = 10.0


class PeerFailed(Exception):
    """An engine did not start, did not answer, or answered something else than it was asked for."""


class Process:
    """A started peer: lines from its stdout, lines to its stdin, its stderr in a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Process:
        """Start a command in the repository's root, with ``environment`` on top of this process's."""
        handle, name = tempfile.mkstemp(prefix="foundry-lite-peer-", suffix=".log")
        with os.fdopen(handle, "wb") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, **environment},
                    cwd=ROOT,
                    start_new_session=True,
                    limit=_LINE,
                )
            except OSError as error:
                os.unlink(name)  # noqa: PTH108 - a blocking call of microseconds
                raise PeerFailed(f"{command[0]}: {error.strerror}") from error
        return cls(process, Path(name))

    async def read_line(self) -> bytes:
        """Return the next line. Raises `PeerFailed` with the process's last words when there is none."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise PeerFailed(f"it ended: {self.last_words()}")
        return line

    async def write_line(self, line: bytes) -> None:
        """Write one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        with suppress(ConnectionError):  # reading says why it is gone
            await self._process.stdin.drain()

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run inside, and hold it afterwards."""
        self._signal("SIGCONT")
        try:
            yield
        finally:
            self._signal("SIGSTOP")

    async def stop(self) -> None:
        """End it and everything it started."""
        self._signal("SIGCONT")
        self._signal("SIGTERM")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _LAST_SECONDS)
        self._signal("SIGKILL")  # those of its group that it did not end itself
        await self._process.wait()
        self._log.unlink(missing_ok=True)

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    def last_words(self) -> str:
        """Return the last line of its stderr."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"

    def _signal(self, name: str) -> None:
        number = getattr(signal, name, None)
        if number is None:
            return
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)
