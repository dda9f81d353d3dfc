"""Builds over HTTP, for those who hold the token: a file that only the user who runs the daemon can read.

A build is a process of its own, the same as ``foundry-lite build``; one runs at a time, the others wait. Those that
the daemon began end with it, and can be resumed.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from foundry_lite.build.gate import Gate
from foundry_lite.build.jobs import Jobs
from foundry_lite.build.order import Order, Walk
from foundry_lite.build.ordering import order_for
from foundry_lite.catalog.recipe import parse_variant
from foundry_lite.errors import BadSetting, NotAllowed
from foundry_lite.protocol.jobs import BuildBody, read_build
from foundry_lite.server.answers import json_answer
from foundry_lite.server.bodies import read_body
from foundry_lite.settings import Settings
from foundry_lite.store.store import Store

TOKEN_FILE = "admin-token"
_SHORTEST_TOKEN = 20  # characters
_PATIENCE = 10.0  # seconds that builds get to clean up when the daemon ends


class JobsEndpoint:
    """The handlers, and the builds that this daemon began."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._jobs = Jobs(settings.home)
        self._token_path = settings.home / TOKEN_FILE
        self._processes: set[asyncio.subprocess.Process] = set()
        self._waiters: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Make the token, so that its file is there when the daemon is. Raises `BadSetting`."""
        admin_token(self._token_path)

    async def list(self, request: Request) -> Response:
        self._require_token(request)
        return json_answer({"jobs": await asyncio.to_thread(lambda: list(self._jobs.all()))})

    async def begin(self, request: Request) -> Response:
        self._require_token(request)
        order = await asyncio.to_thread(_order, read_build(await read_body(request)), self._store)
        job = self._jobs.begin(order)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "foundry_lite.cli.main", "jobs", "resume", job.id),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is the daemon's to handle
        )
        self._processes.add(process)
        waiter = asyncio.create_task(self._wait(process))
        self._waiters.add(waiter)
        waiter.add_done_callback(self._waiters.discard)
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

    async def close(self) -> None:
        """End the builds that this daemon began; what their finished steps made is kept."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.terminate()
        if self._waiters:
            await asyncio.wait(self._waiters, timeout=_PATIENCE)

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self._processes.discard(process)

    def _require_token(self, request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), admin_token(self._token_path).encode()):
            raise NotAllowed(
                "builds need the administrator's token",
                hint=f"Send 'Authorization: Bearer …' with the content of {TOKEN_FILE} in the daemon's home folder.",
            )


def admin_token(path: Path) -> str:
    """Return the token, made when there is none, in a file that only its owner can read. Raises `BadSetting`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            draft = path.with_name(f"{path.name}.{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(32) + "\n", encoding="ascii")
            draft.replace(path)  # whole or not there: an empty token would open the door to everybody
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} cannot be used: {error}", hint="Remove the file; a new one is made.") from error
    if len(token) < _SHORTEST_TOKEN:
        raise BadSetting(f"{path} holds no token", hint="Remove the file; a new one is made.")
    return token


def _order(body: BuildBody, store: Store) -> Order:
    usual = Gate()
    bounds = {
        "least_task_kept": body.gate.min_accuracy,
        "least_top1": body.gate.min_top1,
        "most_kl_mean": body.gate.max_kl,
    }
    given = {name: value for name, value in bounds.items() if value is not None}
    recipes = tuple(parse_variant(one) for one in body.variants)
    return msgspec.structs.replace(
        order_for(body.model, body.name, body.base, store),
        recipes=recipes,
        walk=Walk.FIRST if body.auto else Walk.ALL,
        eval=body.eval,
        gate=msgspec.structs.replace(usual, **given),
        replaces=body.force,
        adds=not body.force,
    )
