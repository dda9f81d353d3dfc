"""The builds that a daemon began: each a process of its own, the same as ``foundry-lite build``.

One runs at a time, the others wait. They end with the daemon, and can be resumed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

from foundry_lite.conversion.build_spec import BuildSpec
from foundry_lite.conversion.jobs.job_store import Job, JobStore
from foundry_lite.errors import BadSetting, StorageFull
from foundry_lite.settings import Settings

TOKEN_FILE = "admin-token"
_SHORTEST_TOKEN = 20  # characters
_PATIENCE = 10.0  # seconds that builds get to clean up when the daemon ends


class Builds:
    """The processes, the records of all jobs, and the token of those who may begin one."""

    def __init__(self, settings: Settings) -> None:
        self.jobs = JobStore(settings.home)
        self._token_path = settings.home / TOKEN_FILE
        self._processes: set[asyncio.subprocess.Process] = set()
        self._waiters: set[asyncio.Task[None]] = set()

    @property
    def token(self) -> str:
        """The administrator's token. Raises as `admin_token`."""
        return admin_token(self._token_path)

    def open(self) -> None:
        """Make the token, so that its file is there when the daemon is. Raises as `admin_token`."""
        admin_token(self._token_path)

    async def begin(self, order: BuildSpec) -> Job:
        """Record a job and run it."""
        job = self.jobs.begin(order)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "foundry_lite.cli.main", "jobs", "resume", job.id),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is the daemon's to handle
        )
        self._processes.add(process)
        waiter = asyncio.create_task(self._wait(process))
        self._waiters.add(waiter)
        waiter.add_done_callback(self._waiters.discard)
        return job

    async def close(self) -> None:
        """End the builds that this daemon began; what their finished steps made is kept."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.terminate()
        if self._waiters:
            await asyncio.wait(self._waiters, timeout=_PATIENCE)

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self._processes.discard(process)


def admin_token(path: Path) -> str:
    """Return the token, made when there is none, in a file that only its owner can read.

    Raises `StorageFull` where it can be neither read nor made, and `BadSetting` for a file that holds none.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            draft = path.with_name(f"{path.name}.{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(32) + "\n", encoding="ascii")
            draft.replace(path)  # whole or not there: an empty token would open the door to everybody
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise StorageFull(
            f"{path} cannot be read or made: {error.strerror}",
            hint="Set FOUNDRY_LITE_HOME to a folder that the user of the daemon can write.",
        ) from error
    except UnicodeDecodeError:
        token = ""
    if len(token) < _SHORTEST_TOKEN:
        raise BadSetting(f"{path} holds no token", hint="Remove the file; a new one is made.")
    return token
