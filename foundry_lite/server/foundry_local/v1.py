"""The routes of Foundry Local's web service from 1.0 on, and what we refuse of all its versions, with a reason.

Its SDK of 1.x asks these three of the server that ``external_url`` names: ``/models/loaded``, ``load`` and ``unload``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from foundry_lite.protocol.errors import ErrorReply
from foundry_lite.protocol.foundry_local import LoadState, Shutdown, Status, UnloadState, read_nothing
from foundry_lite.server.admin.auth import require_token
from foundry_lite.server.foundry_local.loading import for_programs, load, unload
from foundry_lite.server.foundry_local.v0 import address, loaded
from foundry_lite.server.http.responses import error_answer, json_answer
from foundry_lite.server.http.routing import Endpoint
from foundry_lite.server.state import Site

_AUDIO = "foundry-lite serves models of text, none of audio: transcribe with another server, and send it the text"
_GPU = "foundry-lite pins no model to a GPU by number: 'foundry-lite devices' lists what there is, 'tune' chooses"
_REFUSED = {
    ("POST", "/v1/audio/transcriptions"): _AUDIO,
    ("POST", "/v1/audio/translations"): _AUDIO,
    ("POST", "/v1/audio/speech"): _AUDIO,
    ("GET", "/openai/getgpudevice"): _GPU,
    ("GET", "/openai/setgpudevice/{device}"): _GPU,
    ("POST", "/openai/register"): "foundry-lite forwards nothing to other servers: ask that server itself",
}


def endpoints(site: Site) -> list[Endpoint]:
    """Return the routes of this file."""
    current = _Handlers(site)
    return [
        Endpoint("GET", "/status", current.status, "Foundry Local: where it is", gives=Status),
        Endpoint("GET", "/models/loaded", current.loaded, "Foundry Local: the loaded models", gives=list[str]),
        Endpoint(
            "GET",
            "/models/load/{model:path}",
            for_programs(current.load),
            "Foundry Local: load a model",
            gives=LoadState,
            refuses=(503,),
        ),
        Endpoint(
            "GET",
            "/models/unload/{model:path}",
            for_programs(current.unload),
            "Foundry Local: unload a model",
            gives=UnloadState,
            refuses=(409, 503),
        ),
        Endpoint(
            "POST", "/shutdown", current.shutdown, "Foundry Local: end the daemon", gives=Shutdown, refuses=(401,)
        ),
    ]


def refusals() -> list[Endpoint]:
    """Return the routes that Foundry Local has and we do not: each answers 404 with the reason."""
    return [Endpoint(method, path, _refuse(why), "Not offered") for (method, path), why in _REFUSED.items()]


class _Handlers:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def status(self, request: Request) -> Response:
        return json_answer(Status(str(self._site.store.models_folder), [address(request)], os.getpid()))

    async def loaded(self, _request: Request) -> Response:
        return json_answer(await loaded(self._site))

    async def load(self, request: Request) -> Response:
        read_nothing(request.query_params)
        artifact = self._site.artifact(request.path_params["model"])
        was_loaded = self._site.residency.is_loaded(artifact)
        await load(request, self._site, artifact)
        return json_answer(LoadState("already_loaded" if was_loaded else "loaded"))

    async def unload(self, request: Request) -> Response:
        read_nothing(request.query_params)
        artifact = self._site.artifact(request.path_params["model"])
        was_loaded = await unload(self._site.residency, artifact)
        return json_answer(UnloadState("unloaded" if was_loaded else "not_loaded"))

    async def shutdown(self, request: Request) -> Response:
        """End the daemon for who holds the token: Foundry Local does so for everybody who can reach its port."""
        require_token(request, self._site.builds, "ending the daemon needs")
        signal.raise_signal(signal.SIGINT)  # the server answers what it has begun, this request too, and ends
        return json_answer(Shutdown())


def _refuse(why: str) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(_request: Request) -> Response:
        return error_answer(ErrorReply(404, why, "invalid_request_error", code="not_offered"))

    return refuse
