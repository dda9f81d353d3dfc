"""Routes: what a path takes and gives, from which both the router and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from foundry_lite.errors import FoundryError
from foundry_lite.protocol.errors import ErrorReply, reply_for
from foundry_lite.protocol.openapi import Parameter
from foundry_lite.server.http.responses import ClientGone, error_answer

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An HTTP endpoint: a method, and a path in the syntax of starlette's router (``/v1/models/{model:path}``).

    ``takes`` is the type of the body, ``gives`` that of the answer, ``streams`` that of the data of each event where it
    can be a stream; ``None`` where there is none, ``str`` for plain text. ``status`` is that of a success, ``refuses``
    those of refusals that do not follow from a body, the model that it names, or a name in the path. ``query`` has the
    query parameters. ``names_thing``: a GET of one resource that the path names; while it answers 404, a
    method that the path does not have answers 404 too, and not 405.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    takes: Any = None
    gives: Any = None
    streams: Any = None
    status: int = 200
    refuses: tuple[int, ...] = ()
    query: tuple[Parameter, ...] = ()
    names_thing: bool = False

    def route(self) -> Route:
        """Return the route, on which our errors become OpenAI's error object."""
        return _Route(self.path, _answering(self.handler), methods=[self.method], names_thing=self.names_thing)


class _Route(Route):
    def __init__(self, *given: Any, names_thing: bool, **options: Any) -> None:
        super().__init__(*given, **options)
        self.names_thing = names_thing


def _answering(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except FoundryError as error:
            return error_answer(reply_for(error))
        except ClientGone:
            return Response(status_code=499)  # nginx's number for it; nobody reads it

    return answer


async def http_error(request: Request, error: Exception) -> Response:
    """Answer for a path or method that there is not."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.scope['path']}"
    if error.status_code == 404:
        versioned = f"/v1{request.scope['path']}"
        hint = "GET /openapi.json lists the routes"
        if _methods(request, versioned):
            hint = f"there is {versioned}: the base URL of a client ends with /v1"
        return error_answer(_refusal(404, f"there is no {what}; {hint}", "not_found"))
    if error.status_code != 405:
        return error_answer(_refusal(error.status_code, f"{what}: {error.detail}"))
    if await _names_nothing(request):
        return error_answer(_refusal(404, f"there is no {what}; GET /openapi.json lists the routes", "not_found"))
    allowed = ", ".join(_methods(request, request.scope["path"]))
    answer = error_answer(_refusal(405, f"there is no {what}, but {allowed}", "method_not_allowed"))
    answer.headers["allow"] = allowed
    return answer


async def mistake(_request: Request, _error: Exception) -> Response:
    """Answer for an error that we did not expect."""
    # starlette raises the error again after this answer, and uvicorn logs it with its traceback
    return error_answer(ErrorReply(500, "foundry-lite made a mistake; its log has the details", "server_error"))


async def _names_nothing(request: Request) -> bool:
    """Return whether a path matches only as that of a resource, such as a stored response, that does not exist."""
    found = [(one, one.matches(request.scope)) for one in request.app.routes if isinstance(one, _Route)]
    routes = [(one, scope) for one, (match, scope) in found if match is not Match.NONE]
    if any(one.path == request.scope["path"] for one, _ in routes):
        return False
    showing = next(((one, scope) for one, scope in routes if one.names_thing), None)
    if showing is None:
        return False
    asked = {**request.scope, **showing[1], "method": "GET", "query_string": b""}
    return bool((await showing[0].endpoint(Request(asked, request.receive))).status_code == 404)


def _refusal(status: int, message: str, code: str | None = None) -> ErrorReply:
    return ErrorReply(status, message, "invalid_request_error", code=code)


def _methods(request: Request, path: str) -> list[str]:
    """Return the methods of a path, which may be spread over several routes."""
    scope = {**request.scope, "path": path}
    routes = (route for route in request.app.routes if isinstance(route, Route))
    found = (route.methods or () for route in routes if route.matches(scope)[0] is not Match.NONE)
    return sorted({method for methods in found for method in methods})
