"""A worker's process as the daemon sees it: frames in, frames out, and how it ended.

Confined to one event loop. The end of the worker's stdout *is* the signal that it died.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress

from foundry_lite.engine.ipc.messages import HEADER
from foundry_lite.errors import EngineDied
from foundry_lite.settings import child_environment

log = logging.getLogger(__name__)

_LAST_SECONDS = 2.0  # that a worker whose stdout has ended may take to end itself
_LAST_WORDS = 4000  # characters of a worker's stderr that are kept to explain its death


class WorkerProcess:
    """A worker's process. ``hear`` is given the body of each frame; ``bury`` is called once, when it is gone."""

    def __init__(
        self, process: asyncio.subprocess.Process, hear: Callable[[bytes], None], bury: Callable[[], None]
    ) -> None:
        self._process = process
        self._hear = hear
        self._bury = bury
        self._last_words = ""
        self._listener = asyncio.create_task(self._listen())
        self._stderr = asyncio.create_task(self._keep_last_words())
        self._ending: asyncio.Task[None] | None = None
        self.is_closing = False
        self.died = asyncio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    def write(self, frame: bytes) -> None:
        """Send a frame; to a process that is gone, nothing is sent."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(frame)

    async def close(self) -> None:
        """End the process and wait until it is gone; whoever is cancelled may wait again."""
        self.is_closing = True
        self._kill()  # it has nothing to save
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        await self._listener
        await self._stderr
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def death(self) -> EngineDied:
        """Return the error for requests that were lost with the process."""
        if self.is_closing:
            return EngineDied("the model was unloaded while it held this request", hint="Send the request again.")
        return EngineDied(
            f"the worker process of this model ended ({self.cause()})",
            hint="Send the request again: the model is loaded anew.",
        )

    def cause(self) -> str:
        """Return how the process ended, and the last line of its stderr."""
        code = self._process.returncode
        how = "still running" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
        words = self._last_words.strip().rpartition("\n")[2]
        return f"{how}: {words}" if words else how

    def _kill(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        stream = self._process.stdout
        try:
            while True:
                header = await stream.readexactly(HEADER.size)
                self._hear(await stream.readexactly(HEADER.unpack(header)[0]))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:  # whatever ended the listening, nobody may wait for this worker any more
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _LAST_SECONDS)
            self._kill()
            await self._process.wait()
            self.died.set()
            self._bury()

    async def _keep_last_words(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(_LAST_WORDS):
            text = chunk.decode(errors="replace")
            self._last_words = (self._last_words + text)[-_LAST_WORDS:]
            log.debug("worker pid=%d: %s", self.pid, text.rstrip())


class WorkerFace:
    """Base class of the engines: process id, end and closing of the worker. Whoever starts one sets ``_worker``."""

    _worker: WorkerProcess

    @property
    def pid(self) -> int:
        return self._worker.pid

    @property
    def died(self) -> asyncio.Event:
        return self._worker.died

    @property
    def is_ending(self) -> bool:
        """Return whether the engine takes no more requests: it is being closed, or its worker is gone."""
        return self._worker.is_closing or self._worker.died.is_set()

    async def close(self) -> None:
        """End the worker and wait until it is gone; its requests get `EngineDied`."""
        await self._worker.close()


async def start_worker(
    module: str, hear: Callable[[bytes], None], bury: Callable[[], None], **variables: str
) -> WorkerProcess:
    """Start ``python -m module`` with more environment variables."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(PYTHONUNBUFFERED="1", **variables),
    )
    return WorkerProcess(process, hear, bury)
