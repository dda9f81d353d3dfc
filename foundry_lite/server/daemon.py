"""The process that listens: composes settings, store and application, and runs them until a signal stops it."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from foundry_lite import machine
from foundry_lite.errors import BadSetting
from foundry_lite.server.app import create_app
from foundry_lite.server.http.connection import Connection
from foundry_lite.server.http.log import log_to_stderr
from foundry_lite.server.state import Site
from foundry_lite.settings import Settings
from foundry_lite.store.store import Store

_GRACE_SECONDS = 3  # for requests that still run after the first signal; then they end with an error
_FAREWELL_SECONDS = 2  # for writing that error to them
_ACCEPTED = 8  # connections that are accepted at once: so many may be beyond the limit before it is looked at
_WAITING = 2048  # that may wait to be accepted
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SILENCE = 10.0  # seconds between two warnings of that

log = logging.getLogger(__name__)


def serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; call ``on_ready`` with the base URL once the port is open.

    Raises `BadSetting` when the address cannot be bound, or the administrator's token is none.
    """
    log_to_stderr(settings.log_level)
    machine.allow_descriptors()
    listener = _bind(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    site = Site(Store(settings.home), settings)
    site.open_home()
    config = uvicorn.Config(
        create_app(site),
        http=Connection,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS + _FAREWELL_SECONDS,
        timeout_keep_alive=75,
        lifespan="on",
        backlog=_ACCEPTED,
    )
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    server = _Server(config, lambda: on_ready(url), site.end_requests)
    # uvicorn stops gracefully at either signal, and raises it again when all is done: that is a good end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        asyncio.run(server.serve(sockets=[listener]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # another one now would only spoil the exit code


class Complaints:
    """Exception handler of the event loop. It logs, every 10 s at most, that no descriptor is left to accept with."""

    def __init__(self) -> None:
        self._said = -math.inf

    def take(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle the context of an exception; any other error goes to the loop's default handler."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _NO_DESCRIPTORS:
            loop.default_exception_handler(context)
        elif time.monotonic() - self._said >= _SILENCE:
            self._said = time.monotonic()
            log.warning("a connection cannot be accepted now: %s; raise the limit ('ulimit -n')", error.strerror)


class _Server(uvicorn.Server):
    """uvicorn server that calls ``on_ready``, and ends running requests with an error before it closes connections."""

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None], end_requests: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._end_requests = end_requests
        self._hurry = asyncio.Event()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at the first signal; end what runs at the second, and cut it off at the third.

        uvicorn would cut off at the second Ctrl-C, and log a traceback for each request.
        """
        if not self.should_exit:
            super().handle_exit(sig, frame)
        elif not self._hurry.is_set():
            self._hurry.set()  # the loop sees it in its next iteration: it waits for connections in small steps
        else:
            logging.getLogger("uvicorn.error").disabled = True
            self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(Complaints().take)
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_WAITING)  # the loop has set this to `_ACCEPTED`
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.create_task(self._end_later())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_later(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                await self._hurry.wait()
        await self._end_requests()


def _bind(host: str, port: int) -> socket.socket:
    """Bind before anything is loaded, so that a second daemon is refused at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_WAITING)
    except (OSError, UnicodeError) as error:
        reason = str(error)
        hint = "Set --host (FOUNDRY_LITE_HOST) to an address of this machine, and --port to a port that is free."
        if isinstance(error, OSError):
            reason = error.strerror or reason
            if error.errno == errno.EADDRINUSE:
                hint = "Is a daemon running already? Choose another --port, or stop it."
        raise BadSetting(f"cannot listen on {host}:{port}: {reason}", hint=hint) from error
    listener.set_inheritable(True)
    return listener
