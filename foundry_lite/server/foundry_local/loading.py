"""Loading and unloading as Foundry Local's SDKs ask for it: by GET, which every page in a browser can send too.

A page may not read the answer, but it would have its effect. So what a browser sent on behalf of a page is refused, and
so is HEAD.
"""

from __future__ import annotations

from datetime import timedelta
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from foundry_lite.errors import ModelInUse
from foundry_lite.protocol.errors import ErrorReply
from foundry_lite.residency.manager import Residency
from foundry_lite.residency.options import adapter_file, is_encoder
from foundry_lite.server.http.responses import error_answer, unless_gone
from foundry_lite.server.http.routing import Handler
from foundry_lite.server.state import Site
from foundry_lite.store.store import Artifact

_OWN_WILL = "none"  # what a browser calls a request that no page made: a person typed the address


def for_programs(handler: Handler) -> Handler:
    """Refuse what a page in a browser sent, and every method but the one that is meant."""

    @wraps(handler)
    async def guarded(request: Request) -> Response:
        if request.method == "HEAD":
            message = f"{request.url.path} changes what is loaded, and HEAD must change nothing"
            answer = error_answer(ErrorReply(405, message, "invalid_request_error", code="method_not_allowed"))
            answer.headers["allow"] = "GET"
            return answer
        site = request.headers.get("sec-fetch-site", _OWN_WILL)
        if "origin" in request.headers or site != _OWN_WILL:
            message = f"{request.url.path} changes what is loaded and takes no requests of pages in a browser"
            return error_answer(ErrorReply(403, message, "invalid_request_error", code="browser_refused"))
        return await handler(request)

    return guarded


async def load(request: Request, site: Site, artifact: Artifact, keep_alive: timedelta | None = None) -> None:
    """Wait until a model is loaded, its adapter too, which goes on when the client leaves.

    Raises `EngineBusy` when there is no room, `LoadFailed`, `DamagedArtifact`.
    """
    await unless_gone(request, _load(site.residency, artifact, keep_alive))


async def _load(residency: Residency, artifact: Artifact, keep_alive: timedelta | None) -> None:
    if is_encoder(artifact):
        await residency.encoder(artifact, keep_alive)
        return
    adapter = adapter_file(artifact)
    engine = await residency.engine(artifact, keep_alive)
    if adapter is not None:
        await engine.load_adapter(adapter)


async def unload(residency: Residency, artifact: Artifact, *, force: bool = False) -> bool:
    """Unload a model, or only an adapter; return whether it was loaded. Raises `ModelInUse`, unless forced."""
    adapter = artifact.adapter
    if adapter is None:
        return await residency.unload(artifact, force=force)
    if not residency.is_loaded(artifact):
        return False
    engine = await residency.engine(artifact)
    engine.drop_adapters({adapter.identity})
    if adapter.identity in engine.adapters:
        hint = "Wait until they have ended; unloading its base by force ends those of all adapters."
        raise ModelInUse(f"{artifact.ref} serves requests now", hint)
    return True
