"""The application: every route there is."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from foundry_lite.server.admin import jobs
from foundry_lite.server.foundry_local import v0, v1
from foundry_lite.server.http.guards import Guards
from foundry_lite.server.http.openapi import with_document
from foundry_lite.server.http.routing import Endpoint, http_error, mistake
from foundry_lite.server.openai import chat, completions, embeddings, models, responses, tokenize
from foundry_lite.server.state import Site


def create_app(site: Site) -> ASGIApp:
    """Return the ASGI application of one daemon."""
    app = Starlette(
        routes=[endpoint.route() for endpoint in (*with_document(all_endpoints(site)), *v1.refusals())],
        lifespan=site.lifespan,
        exception_handlers={HTTPException: http_error, Exception: mistake},
    )
    return Guards(app, (*site.settings.allowed_hosts, site.settings.host))


def all_endpoints(site: Site) -> list[Endpoint]:
    """Return what the daemon answers to; docs/api.md has the table."""
    return [
        *models.endpoints(site),
        *chat.endpoints(site),
        *completions.endpoints(site),
        *tokenize.endpoints(site),
        *embeddings.endpoints(site),
        *jobs.endpoints(site),
        *responses.endpoints(site),
        *v0.endpoints(site),
        *v1.endpoints(site),
    ]
