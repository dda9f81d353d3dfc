"""The application: routes, and what becomes of errors. Handlers are a few lines."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from foundry_lite import __version__, devices
from foundry_lite.catalog.reference import ModelRef, parse_reference
from foundry_lite.errors import FoundryError
from foundry_lite.protocol.errors import ErrorReply, reply_for
from foundry_lite.protocol.models import ModelEntry, write_model, write_models
from foundry_lite.residency import Residency, Resident
from foundry_lite.server.answers import ClientGone, error_answer, json_answer
from foundry_lite.server.chat import ChatEndpoint
from foundry_lite.server.guards import Guards
from foundry_lite.server.jobs import JobsEndpoint
from foundry_lite.settings import Settings
from foundry_lite.store.store import Artifact, Store


class Daemon:
    """The handlers, and the state they share: the store (the disk) and the residency (what is in memory)."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self.jobs = JobsEndpoint(store, settings)
        self._residency: Residency | None = None
        self._began = time.monotonic()

    @property
    def residency(self) -> Residency:
        assert self._residency is not None, "the application has not started"
        return self._residency

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Own the loaded models while the server runs."""
        self._residency = Residency(self._store, self._settings)
        self.jobs.open()
        try:
            yield
        finally:
            await self.jobs.close()
            await self._residency.close()

    async def health(self, _request: Request) -> Response:
        uptime = round(time.monotonic() - self._began, 1)
        return json_answer({"status": "ok", "version": __version__, "uptime_seconds": uptime})

    async def models(self, _request: Request) -> Response:
        listing = self._store.scan()
        adapted = (self._store.with_base(one) for one in listing.adapters)
        found = (*listing.artifacts, *(one for one in adapted if one is not None))
        return json_answer(write_models(self._entry(one) for one in found))

    async def model(self, request: Request) -> Response:
        artifact = self._store.resolve(parse_reference(request.path_params["model"]))
        return json_answer(write_model(self._entry(artifact)))

    async def chat(self, request: Request) -> Response:
        return await ChatEndpoint(self._store, self.residency)(request)

    async def loaded(self, _request: Request) -> Response:
        return json_answer({"models": [self._describe(one) for one in self.residency.residents]})

    def _entry(self, artifact: Artifact) -> ModelEntry:
        base, adapter = artifact.base, artifact.adapter
        manifest = base.manifest if adapter is None else adapter.manifest
        short = ModelRef(manifest.name, adapter=artifact.ref.adapter)
        return ModelEntry(
            id=str(artifact.ref),
            aliases=(str(short),) if self._store.resolve(short).ref == artifact.ref else (),
            created=datetime.fromisoformat(manifest.created),
            size_bytes=manifest.size_bytes,
            context_length=min(artifact.card().context_length, self._settings.context_length),
            is_embedded=artifact.is_embedded and adapter is None,
            is_loaded=self._is_loaded(artifact),
            base=None if adapter is None else str(base.ref),
        )

    def _is_loaded(self, artifact: Artifact) -> bool:
        loaded = (one for one in self.residency.residents if one.artifact.identity == artifact.base.identity)
        engine = next((one.engine for one in loaded), None)
        if engine is None or artifact.adapter is None:
            return engine is not None
        return artifact.adapter.identity in engine.adapters

    def _describe(self, resident: Resident) -> dict[str, Any]:
        engine = resident.engine
        idle = 0.0 if engine is None or engine.open_requests else time.monotonic() - resident.used
        keep_alive = self._settings.keep_alive.total_seconds()
        return {
            "model": str(resident.artifact.ref),
            "state": "loading" if engine is None else "dead" if engine.died.is_set() else "ready",
            "pid": engine.pid if engine else None,
            "resident_bytes": devices.resident_memory_bytes(engine.pid) if engine else None,
            "peak_bytes": devices.peak_memory_bytes(engine.pid) if engine else None,
            "kv_limit_bytes": engine.kv_bytes if engine else None,
            "runner": engine.runner if engine else None,
            "provider": engine.provider if engine else None,
            "fallback_reason": engine.fallback_reason if engine else None,
            "requests": engine.open_requests if engine else 0,
            "adapters": [identity.rpartition("-")[0] for identity in engine.adapters] if engine else [],
            "idle_seconds": round(idle, 1),
            "unload_in_seconds": round(max(0.0, keep_alive - idle), 1) if keep_alive and engine else None,
        }


def create_app(store: Store, settings: Settings) -> ASGIApp:
    """Return the ASGI application of one daemon."""
    daemon = Daemon(store, settings)
    app = Starlette(
        routes=[
            Route("/health", _answer(daemon.health), methods=["GET"]),
            Route("/v1/models", _answer(daemon.models), methods=["GET"]),
            Route("/v1/models/{model:path}", _answer(daemon.model), methods=["GET"]),
            Route("/v1/chat/completions", _answer(daemon.chat), methods=["POST"]),
            Route("/api/ps", _answer(daemon.loaded), methods=["GET"]),
            Route("/api/jobs", _answer(daemon.jobs.list), methods=["GET"]),
            Route("/api/jobs", _answer(daemon.jobs.begin), methods=["POST"]),
            Route("/api/jobs/{job}", _answer(daemon.jobs.show), methods=["GET"]),
            Route("/api/jobs/{job}", _answer(daemon.jobs.cancel), methods=["DELETE"]),
            Route("/api/jobs/{job}/logs", _answer(daemon.jobs.logs), methods=["GET"]),
        ],
        lifespan=daemon.lifespan,
        exception_handlers={HTTPException: _http_error, Exception: _mistake},
    )
    return Guards(app, (*settings.allowed_hosts, settings.host))


def _answer(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Turn our errors into OpenAI's error object."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except FoundryError as error:
            return error_answer(reply_for(error))
        except ClientGone:
            return Response(status_code=499)  # nginx's number for it; nobody reads it

    return answer


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message = f"there is no {request.method} {request.scope['path']}; docs/api.md lists the routes"
    else:
        message = f"{request.method} {request.scope['path']}: {error.detail}"
    return error_answer(ErrorReply(error.status_code, message, "invalid_request_error"))


async def _mistake(_request: Request, _error: Exception) -> Response:
    # starlette raises the error again after this answer, and uvicorn logs it with its traceback
    return error_answer(ErrorReply(500, "foundry-lite made a mistake; its log has the details", "server_error"))
