"""Residency: the loaded models. Load once, keep while used, unload when idle or when room is needed.

Confined to the event loop, so it needs no locks. Several requests for a model that is loading share one load; a load
goes on when the request that began it leaves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from foundry_lite import machine
from foundry_lite.embedding import Encoded, EncodeRequest
from foundry_lite.engine.client.encoder_engine import EncoderEngine, load_encoder
from foundry_lite.engine.client.engine import Engine, load_engine
from foundry_lite.engine.client.generation import Generation
from foundry_lite.errors import EngineBusy, EngineDied, FoundryError, ModelInUse
from foundry_lite.generation import GenerationRequest
from foundry_lite.residency.options import (
    adapter_file,
    encoder_options,
    engine_options,
    is_encoder,
    require_encoder,
    require_generator,
)
from foundry_lite.settings import Settings
from foundry_lite.store.manifest import verify_sizes
from foundry_lite.store.store import Artifact, Store

log = logging.getLogger(__name__)

AnyEngine: TypeAlias = Engine | EncoderEngine

_SWEEP_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Resident:
    """A model that is loaded, or being loaded."""

    artifact: Artifact
    loading: asyncio.Task[AnyEngine]
    used: float = field(default_factory=time.monotonic)
    wanted: timedelta | None = None  # the last `keep_alive` that a request gave; `timedelta.max`: for ever

    @property
    def engine(self) -> AnyEngine | None:
        """The engine once it is loaded."""
        is_ready = self.loading.done() and not self.loading.cancelled() and self.loading.exception() is None
        return self.loading.result() if is_ready else None

    @property
    def is_dead(self) -> bool:
        return self.loading.done() and (self.engine is None or self.engine.died.is_set())

    @property
    def is_idle(self) -> bool:
        return self.engine is not None and self.engine.open_requests == 0


class Residency:
    """The models in memory."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._residents: dict[str, Resident] = {}
        self._ending: set[AnyEngine] = set()  # whose workers are on their way out
        self._sweeper = asyncio.create_task(self._sweep_forever())

    @property
    def residents(self) -> tuple[Resident, ...]:
        """The models that are loaded or loading, oldest first."""
        return tuple(self._residents.values())

    async def begin(
        self, artifact: Artifact, request: GenerationRequest, keep_alive: timedelta | None = None
    ) -> Generation:
        """Admit a request to a model, loading it, and its adapter, first when they are not in memory.

        ``keep_alive`` is how long the model stays once it is idle, in place of the setting. Raises `EngineBusy` when
        the queue is full or nothing can be unloaded, `LoadFailed`, `EngineDied`, `InvalidRequest`.
        """
        require_generator(artifact)
        adapter = adapter_file(artifact)
        return await (await self.engine(artifact, keep_alive)).begin(request, adapter)

    async def engine(self, artifact: Artifact, keep_alive: timedelta | None = None) -> Engine:
        """Return the engine of a model that writes text, loading it when it is not in memory; one for all adapters.

        Raises `InvalidRequest` for an encoder.
        """
        require_generator(artifact)
        engine = await self._loaded(artifact.base, keep_alive)
        assert isinstance(engine, Engine)
        return engine

    async def encode(self, artifact: Artifact, request: EncodeRequest, keep_alive: timedelta | None = None) -> Encoded:
        """Encode texts, loading the encoder first when it is not in memory.

        Raises `EngineBusy` when the queue is full or nothing can be unloaded, `LoadFailed`, `InvalidRequest`.
        """
        return await (await self.encoder(artifact, keep_alive)).encode(request)

    async def encoder(self, artifact: Artifact, keep_alive: timedelta | None = None) -> EncoderEngine:
        """Return an encoder's engine, loading it when it is not in memory.

        Raises `InvalidRequest` for a model that writes text.
        """
        require_encoder(artifact)
        engine = await self._loaded(artifact.base, keep_alive)
        assert isinstance(engine, EncoderEngine)
        return engine

    async def _loaded(self, artifact: Artifact, keep_alive: timedelta | None) -> AnyEngine:
        engine = await self._waited_for(artifact, keep_alive)
        if engine.is_ending:  # unloaded to make room in the very moment in which it was handed out
            engine = await self._waited_for(artifact, keep_alive)
        return engine

    async def _waited_for(self, artifact: Artifact, keep_alive: timedelta | None) -> AnyEngine:
        resident = self._living(artifact)
        while resident is None and len(self._residents) >= self._settings.max_loaded:
            await self._make_room()
            resident = self._living(artifact)  # somebody may have begun it meanwhile, or taken the room
        if resident is None:
            resident = Resident(artifact, asyncio.create_task(self._load(artifact)))
            self._residents[artifact.identity] = resident
        resident.used = time.monotonic()
        resident.wanted = resident.wanted if keep_alive is None else keep_alive
        return await _loaded_engine(resident)

    def is_loaded(self, artifact: Artifact) -> bool:
        """Return whether a model is loaded and its worker lives, with the artifact's adapter if it has one."""
        resident = self._residents.get(artifact.base.identity)
        engine = None if resident is None or resident.is_dead else resident.engine
        if artifact.adapter is None:
            return engine is not None
        return isinstance(engine, Engine) and artifact.adapter.identity in engine.adapters

    async def unload(self, artifact: Artifact, *, force: bool = False) -> bool:
        """Unload a model; return whether it was loaded. Raises `ModelInUse` when it serves requests, unless forced."""
        resident = self._residents.get(artifact.base.identity)
        if resident is None:
            return False
        if resident.engine is not None and resident.engine.open_requests and not force:
            raise ModelInUse(
                f"{artifact.ref} serves {resident.engine.open_requests} requests now",
                hint="Wait until they have ended, or force it.",
            )
        await self._unload(resident, "asked")
        return True

    def keep_alive(self, resident: Resident) -> float | None:
        """Return for how many seconds a model stays once it is idle; ``None``: for ever."""
        if resident.wanted is not None:
            return None if resident.wanted == timedelta.max else resident.wanted.total_seconds()
        return self._settings.keep_alive.total_seconds() or None

    async def close(self) -> None:
        """Unload everything."""
        self._sweeper.cancel()
        await asyncio.wait({self._sweeper})
        for resident in self.residents:
            await self._unload(resident, "shutdown")
        for engine in tuple(self._ending):
            await engine.close()

    async def _load(self, artifact: Artifact) -> AnyEngine:
        began = time.monotonic()
        try:
            verify_sizes(artifact.folder, artifact.manifest)
            engine = await self._start(artifact)
        except FoundryError as error:
            log.error("failed to load %s: %s", artifact.ref, error.message)
            raise
        seconds, resident_mb = time.monotonic() - began, (machine.resident_memory_bytes(engine.pid) or 0) / 1e6
        if engine.fallback_reason is not None:
            log.warning("%s runs on the CPU: %s", artifact.ref, engine.fallback_reason)
        if engine.processor_note:
            log.log(
                logging.WARNING if engine.is_reduced else logging.INFO, "%s: %s", artifact.ref, engine.processor_note
            )
        self._store.processor_notes.write(artifact, engine.processor_note)
        log.info("loaded %s seconds=%.2f rss_mb=%.0f pid=%d", artifact.ref, seconds, resident_mb, engine.pid)
        return engine

    async def _start(self, artifact: Artifact) -> AnyEngine:
        if is_encoder(artifact):
            return await load_encoder(artifact.folder, encoder_options(self._settings, artifact))
        return await load_engine(artifact.folder, engine_options(self._settings, artifact))

    def _living(self, artifact: Artifact) -> Resident | None:
        resident = self._residents.get(artifact.identity)
        if resident is not None and resident.is_dead:
            del self._residents[artifact.identity]
            return None
        return resident

    async def _make_room(self) -> None:
        """Unload one model: a dead one, else the idle one that was used longest ago."""
        idle = [one for one in self.residents if one.is_dead or one.is_idle]
        if not idle:
            raise EngineBusy(
                f"{len(self._residents)} models are loaded and in use, the limit is {self._settings.max_loaded}",
                hint="Try again in a moment, or raise FOUNDRY_LITE_MAX_LOADED.",
            )
        await self._unload(min(idle, key=lambda one: (not one.is_dead, one.used)), "room")

    async def _unload(self, resident: Resident, reason: str) -> None:
        if self._residents.get(resident.artifact.identity) is resident:  # else the model has been loaded anew
            del self._residents[resident.artifact.identity]
        if not resident.loading.done():
            resident.loading.cancel()
            await asyncio.wait({resident.loading})
        engine = resident.engine
        if engine is not None:
            self._ending.add(engine)  # whoever is cancelled here, `close` waits for the worker
            await engine.close()
            self._ending.discard(engine)
            log.info("unloaded %s reason=%s", resident.artifact.ref, reason)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await self._sweep()
            except OSError as error:  # the store cannot be read now, for want of descriptors perhaps
                log.warning("idle models stay loaded: %s", error)

    async def _sweep(self) -> None:
        for resident in self.residents:
            if not (resident.is_idle or resident.is_dead):
                resident.used = time.monotonic()
            elif reason := self._reason_to_unload(resident):
                await self._unload(resident, reason)
            self._drop_old_adapters(resident)

    def _drop_old_adapters(self, resident: Resident) -> None:
        """Unload adapters that were removed, or replaced by others of their name."""
        engine = resident.engine
        if isinstance(engine, Engine) and engine.adapters:
            current = {one.identity for one in self._store.adapters.readable(resident.artifact.manifest.name)}
            engine.drop_adapters(set(engine.adapters) - current)

    def _reason_to_unload(self, resident: Resident) -> str | None:
        if resident.is_dead:
            return "died"
        keep_alive = self.keep_alive(resident)
        if keep_alive is not None and time.monotonic() - resident.used > keep_alive:
            return "idle"
        return None if self._is_current(resident.artifact) else "replaced"

    def _is_current(self, artifact: Artifact) -> bool:
        try:
            found = self._store.resolve(artifact.ref)
            return (found.identity, found.chosen) == (artifact.identity, artifact.chosen)
        except FoundryError:
            return False


async def _loaded_engine(resident: Resident) -> AnyEngine:
    """Wait for a load, which goes on when the waiting one leaves. Raises `EngineDied` when it is given up."""
    try:
        return await asyncio.shield(resident.loading)
    except asyncio.CancelledError:
        waiting = asyncio.current_task()
        if not resident.loading.cancelled() or waiting is None or waiting.cancelling():
            raise
    raise EngineDied(f"{resident.artifact.ref} was unloaded while it was loading", hint="Send the request again.")
