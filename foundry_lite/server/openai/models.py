"""The installed models, those in memory, and the daemon itself."""

from __future__ import annotations

import asyncio
import os
import time

from starlette.requests import Request
from starlette.responses import Response

from foundry_lite import __version__, machine
from foundry_lite.protocol.models import Health, LoadedModel, LoadedModels, ModelBody, ModelList
from foundry_lite.residency.manager import Resident
from foundry_lite.server.http.responses import json_answer
from foundry_lite.server.http.routing import Endpoint
from foundry_lite.server.openai.model_entries import all_offers, describe, describe_all, offer_of
from foundry_lite.server.state import Site


def endpoints(site: Site) -> list[Endpoint]:
    """Return the routes of this file."""
    models = _Handlers(site)
    return [
        Endpoint("GET", "/health", models.health, "Whether the daemon is there", gives=Health),
        Endpoint("GET", "/v1/models", models.all, "The installed models", gives=ModelList),
        Endpoint(
            "GET", "/v1/models/{model:path}", models.one, "One installed model", gives=ModelBody, names_thing=True
        ),
        Endpoint("GET", "/api/ps", models.loaded, "The models in memory", gives=LoadedModels),
    ]


class _Handlers:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def health(self, _request: Request) -> Response:
        uptime = round(time.monotonic() - self._site.began, 1)
        engines = (one.engine for one in self._site.residency.residents)
        pids = [os.getpid(), *(engine.pid for engine in engines if engine is not None)]
        memory = sum(machine.resident_memory_bytes(pid) or 0 for pid in pids)
        return json_answer(Health("ok", __version__, uptime, uptime, memory))

    async def all(self, _request: Request) -> Response:
        offers = await asyncio.to_thread(all_offers, self._site.store, self._site.settings)
        return json_answer(ModelList(describe_all(offers, self._site)))

    async def one(self, request: Request) -> Response:
        asked = request.path_params["model"]
        offer = offer_of(self._site.artifact(asked), self._site.store, self._site.settings)
        return json_answer(describe(offer, self._site, asked))

    async def loaded(self, _request: Request) -> Response:
        return json_answer(LoadedModels([self._describe(one) for one in self._site.residency.residents]))

    def _describe(self, resident: Resident) -> LoadedModel:
        engine = resident.engine
        if engine is None:
            return LoadedModel(str(resident.artifact.ref), "dead" if resident.is_dead else "loading")
        idle = time.monotonic() - resident.used if resident.is_idle else 0.0
        keep_alive = self._site.residency.keep_alive(resident)
        return LoadedModel(
            model=str(resident.artifact.ref),
            state="dead" if resident.is_dead else "ready",
            pid=engine.pid,
            resident_bytes=machine.resident_memory_bytes(engine.pid),
            peak_bytes=machine.peak_memory_bytes(engine.pid),
            kv_limit_bytes=engine.kv_bytes,
            runner=engine.runner,
            provider=engine.provider,
            fallback_reason=engine.fallback_reason,
            processor_note=engine.processor_note or None,
            requests=engine.open_requests,
            adapters=[identity.rpartition("-")[0] for identity in engine.adapters],
            idle_seconds=round(idle, 1),
            unload_in_seconds=None if keep_alive is None else round(max(0.0, keep_alive - idle), 1),
        )
