"""Builds over HTTP, for those who hold the token: a file that only the user who runs the daemon can read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from foundry_lite.catalog.recipe import parse_variant
from foundry_lite.conversion.build_spec import BuildSpec, Walk
from foundry_lite.conversion.evaluate.gate import Gate
from foundry_lite.conversion.jobs.job_store import Job
from foundry_lite.conversion.ordering import order_for
from foundry_lite.conversion.sources import detect
from foundry_lite.conversion.sources.source_model import Options
from foundry_lite.protocol.jobs import BuildBody, read_build
from foundry_lite.protocol.openapi import Parameter
from foundry_lite.server.admin.auth import require_token
from foundry_lite.server.http.request_body import read_body
from foundry_lite.server.http.responses import json_answer
from foundry_lite.server.http.routing import Endpoint
from foundry_lite.server.state import Site
from foundry_lite.store.store import Store

_TOKEN = (401,)  # without the administrator's token


class JobList(Struct, frozen=True):
    """The body of ``GET /api/jobs``."""

    jobs: list[Job]


def endpoints(site: Site) -> list[Endpoint]:
    """Return the routes of this file."""
    jobs = _Handlers(site)
    return [
        Endpoint("GET", "/api/jobs", jobs.list, "All builds", gives=JobList, refuses=_TOKEN),
        Endpoint(
            "POST",
            "/api/jobs",
            jobs.begin,
            "Begin a build",
            takes=BuildBody,
            gives=Job,
            status=202,
            refuses=(*_TOKEN, 409, 422),
        ),
        Endpoint("GET", "/api/jobs/{job}", jobs.show, "One build", gives=Job, refuses=_TOKEN, names_thing=True),
        Endpoint("DELETE", "/api/jobs/{job}", jobs.cancel, "End a build", gives=Job, status=202, refuses=_TOKEN),
        Endpoint(
            "GET",
            "/api/jobs/{job}/logs",
            jobs.logs,
            "What the steps of a build printed",
            gives=str,
            refuses=_TOKEN,
            query=(Parameter("step", "Only this step's output."),),
        ),
    ]


class _Handlers:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._jobs = site.builds.jobs

    async def list(self, request: Request) -> Response:
        self._require_token(request)
        return json_answer(JobList(await asyncio.to_thread(lambda: list(self._jobs.all()))))

    async def begin(self, request: Request) -> Response:
        self._require_token(request)
        order = await asyncio.to_thread(_order, read_build(await read_body(request)), self._site.store)
        job = await self._site.builds.begin(order)
        return json_answer(job, 202, {"location": f"/api/jobs/{job.id}"})

    async def show(self, request: Request) -> Response:
        self._require_token(request)
        return json_answer(await asyncio.to_thread(self._jobs.find, request.path_params["job"]))

    async def logs(self, request: Request) -> Response:
        self._require_token(request)
        job = await asyncio.to_thread(self._jobs.find, request.path_params["job"])
        return PlainTextResponse(await asyncio.to_thread(self._jobs.log, job, request.query_params.get("step")))

    async def cancel(self, request: Request) -> Response:
        self._require_token(request)
        job = await asyncio.to_thread(self._jobs.find, request.path_params["job"])
        return json_answer(await asyncio.to_thread(self._jobs.cancel, job), 202)

    def _require_token(self, request: Request) -> None:
        require_token(request, self._site.builds, "builds need")


def _order(body: BuildBody, store: Store) -> BuildSpec:
    usual = Gate()
    bounds = {
        "least_task_kept": body.gate.min_accuracy,
        "least_top1": body.gate.min_top1,
        "most_kl_mean": body.gate.max_kl,
    }
    given = {name: value for name, value in bounds.items() if value is not None}
    recipes = tuple(parse_variant(one) for one in body.variants)
    order = order_for(body.model, body.name, body.base, store)
    # What can never become a model is refused here, as a 422, and not by a job that fails.
    detect.inspect(Path(order.path), Options(None if order.base is None else Path(order.base)))
    return msgspec.structs.replace(
        order,
        recipes=recipes,
        walk=Walk.FIRST if body.auto else Walk.ALL,
        eval=body.eval,
        gate=msgspec.structs.replace(usual, **given),
        replaces=body.force,
        adds=not body.force,
    )
