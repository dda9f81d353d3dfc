"""State that all handlers share: the store (on disk), the residency (in memory), builds, and responses."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.errors import BadReference, StorageFull
from foundry_lite.residency.manager import Residency
from foundry_lite.server.admin.builds import Builds
from foundry_lite.server.openai.background_responses import Background
from foundry_lite.server.openai.response_store import ResponseStore
from foundry_lite.server.openai.served import Serving
from foundry_lite.settings import Settings
from foundry_lite.store.store import Artifact, Store

log = logging.getLogger(__name__)


class Site:
    """The shared state of a daemon. Its residency exists while the daemon runs."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.builds = Builds(settings)
        self.serving = Serving(settings)
        kept = ResponseStore(settings.home / "responses", settings.responses_kept, settings.responses_bytes)
        self.background = Background(kept)
        self.began = time.monotonic()
        self._residency: Residency | None = None

    @property
    def residency(self) -> Residency:
        assert self._residency is not None, "the application has not started"
        return self._residency

    def artifact(self, model: str) -> Artifact:
        """Return the installed model that a request names. Raises `ModelNotFound`, also for what can be no name."""
        try:
            reference = parse_reference(model)
        except BadReference as error:
            raise self.store.not_found(model) from error
        return self.store.resolve(reference)

    def open_home(self) -> None:
        """Create the daemon's files in its home; where they cannot be written, log what does not work without them.

        Raises `BadSetting` for an administrator's token that is not one.
        """
        kept = self.background.store
        if kept.is_on and not kept.open():
            log.warning("responses are not stored: %s", kept.why_off)
        try:
            self.builds.open()
        except StorageFull as error:
            log.warning("no builds over HTTP, and no /shutdown: %s. %s", error.message, error.hint)

    async def end_requests(self) -> None:
        """End all requests that run, each with an error."""
        await self.background.close()
        await self.residency.close()

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Own the loaded models and the running builds while the server runs."""
        self._residency = Residency(self.store, self.settings)
        try:
            yield
        finally:
            await self.background.close()
            await self.builds.close()
            await self._residency.close()
