"""Engine options: how the daemon has a worker run a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foundry_lite import machine
from foundry_lite.catalog.card import Defaults
from foundry_lite.catalog.recipe import Provider
from foundry_lite.engine.ipc.messages import Load


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of a model's worker. ``threads=0`` means as many as this process may use cores.

    ``kv_bytes`` is the most that keys and values may take; 0 is a quarter of this machine's memory. ``speculation`` is
    how many tokens are guessed at once by prompt look-up; 0 guesses none. ``falls_back`` says whether the CPU computes
    a model whose provider cannot be loaded.
    """

    threads: int = 0
    slots: int = 16
    queue: int = 256
    context_length: int = 4096
    defaults: Defaults = Defaults()
    kv_bytes: int = 0
    reproducible: bool = False
    speculation: int = 0
    provider: Provider = Provider.CPU
    falls_back: bool = True

    def load(self, folder: Path) -> Load:
        """Return the command that makes a worker load a folder."""
        return Load(
            folder=str(folder),
            threads=self.threads or machine.usable_cores(),
            slots=self.slots,
            queue=self.queue,
            context_length=self.context_length,
            defaults=self.defaults,
            kv_bytes=self.kv_bytes or machine.usable_memory() // 4,
            reproducible=self.reproducible,
            speculation=self.speculation,
            provider=self.provider,
        )
