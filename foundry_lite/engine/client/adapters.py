"""LoRA adapters that a worker has loaded, as the daemon sees it: load once, keep what is used, unload the oldest.

Confined to the event loop. What a running request uses stays; so more than the limit are loaded while more are in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from foundry_lite.engine.ipc.messages import AdapterReady, Command, LoadAdapter, UnloadAdapter
from foundry_lite.errors import FoundryError, LoadFailed

MOST = 8  # adapters that stay loaded while nobody uses them


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter to compute with. ``name`` names its content: another content must have another name."""

    name: str
    path: Path


class Adapters:
    """The adapters of one worker; ``send`` sends it a command."""

    def __init__(self, send: Callable[[Command], None]) -> None:
        self._send = send
        self._ready: dict[str, asyncio.Future[None]] = {}  # what was used longest ago comes first

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the adapters that are loaded."""
        return tuple(name for name, ready in self._ready.items() if ready.done())

    async def load(self, file: AdapterFile) -> None:
        """Wait until an adapter is loaded; those who ask for it at the same time share one load.

        Raises `LoadFailed` when it does not fit the model, or the error that `fail` was given.
        """
        ready = self._ready.pop(file.name, None)
        if ready is None:
            ready = asyncio.get_running_loop().create_future()
            self._send(LoadAdapter(file.name, str(file.path)))
        self._ready[file.name] = ready
        await asyncio.shield(ready)

    def hear(self, reply: AdapterReady) -> None:
        """Take the worker's answer to a load."""
        if reply.error is None:
            self._ready[reply.name].set_result(None)
        else:
            self._fail(self._ready.pop(reply.name), LoadFailed(reply.error))

    def fail(self, error: FoundryError) -> None:
        """Fail every load that is waited for: the worker is gone."""
        for ready in self._ready.values():
            if not ready.done():
                self._fail(ready, error)
        self._ready.clear()

    def trim(self, in_use: Collection[str | None]) -> None:
        """Unload what was used longest ago, until no more than `MOST` are loaded."""
        for name in self.names:
            if len(self._ready) > MOST and name not in in_use:
                self._unload(name)

    def drop(self, names: Collection[str], in_use: Collection[str | None]) -> None:
        """Unload those of ``names`` that nobody uses."""
        for name in self.names:
            if name in names and name not in in_use:
                self._unload(name)

    def _unload(self, name: str) -> None:
        del self._ready[name]
        self._send(UnloadAdapter(name))

    @staticmethod
    def _fail(ready: asyncio.Future[None], error: FoundryError) -> None:
        ready.set_exception(error)
        ready.exception()  # whoever waited may have left; then nobody else looks at it
