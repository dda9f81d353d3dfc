"""The routes of Foundry Local's 0.x service, which its SDKs up to 0.5.1 call, as far as they can be honoured.

An id of theirs is one of ours, ``name:variant``; where they take an alias, so do we.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import Provider
from foundry_lite.engine.runners.providers import NAMES
from foundry_lite.errors import EngineBusy, FoundryError, ModelInUse, ModelNotFound
from foundry_lite.protocol.errors import reply_for
from foundry_lite.protocol.foundry_local import (
    CatalogEntry,
    DeviceType,
    DownloadBody,
    Downloaded,
    NotDownloaded,
    OldStatus,
    Runtime,
    read_download,
    read_load,
    read_nothing,
    read_unload,
)
from foundry_lite.protocol.openapi import Parameter
from foundry_lite.server.foundry_local.loading import for_programs, load, unload
from foundry_lite.server.http.request_body import read_body
from foundry_lite.server.http.responses import json_answer
from foundry_lite.server.http.routing import Endpoint
from foundry_lite.server.openai.model_entries import ModelEntry, all_offers, require_provider
from foundry_lite.server.state import Site
from foundry_lite.store.store import Artifact

_TASKS = {Task.GENERATE: "chat-completion", Task.EMBED: "embeddings", Task.RERANK: "rerank"}
_GPU = (Provider.CUDA, Provider.DML, Provider.WEBGPU, Provider.TRT_RTX)


def endpoints(site: Site) -> list[Endpoint]:
    """Return the routes of this file."""
    old = _Handlers(site)
    return [
        Endpoint("GET", "/foundry/list", old.catalog, "Foundry Local 0.x: the catalog", gives=list[CatalogEntry]),
        Endpoint("GET", "/openai/status", old.status, "Foundry Local 0.x: where it is", gives=OldStatus),
        Endpoint("GET", "/openai/models", old.models, "Foundry Local 0.x: the installed models", gives=list[str]),
        Endpoint("GET", "/openai/loadedmodels", old.loaded, "Foundry Local 0.x: the loaded models", gives=list[str]),
        Endpoint(
            "GET",
            "/openai/load/{model:path}",
            for_programs(old.load),
            "Foundry Local 0.x: load a model",
            refuses=(503,),
            query=(
                Parameter("ttl", "Seconds that it stays once it is idle.", int),
                Parameter("unload", "Whether it goes at all when it is idle.", bool),
                Parameter("ep", "The execution provider that it runs with here."),
                Parameter("timeout", "Seconds that the client waits; the load goes on behind them.", float),
            ),
        ),
        Endpoint(
            "GET",
            "/openai/unload/{model:path}",
            for_programs(old.unload),
            "Foundry Local 0.x: unload a model",
            refuses=(409, 503),
            query=(Parameter("force", "End the requests that it serves.", bool),),
        ),
        Endpoint(
            "GET",
            "/openai/unloadall",
            for_programs(old.unload_all),
            "Foundry Local 0.x: unload all models",
            refuses=(400, 409),
        ),
        Endpoint(
            "POST",
            "/openai/download",
            old.download,
            "Foundry Local 0.x: say that a model is here",
            takes=DownloadBody,
            gives=Downloaded,
            refuses=(404,),
        ),
    ]


async def offers(site: Site) -> list[ModelEntry]:
    """Return everything that can be served."""
    return await asyncio.to_thread(all_offers, site.store, site.settings)


async def loaded(site: Site) -> list[str]:
    """Return the ids of the models in memory."""
    return [one.id for one in await offers(site) if site.residency.is_loaded(one.artifact)]


def address(request: Request) -> str:
    """Return where this daemon was reached, without a slash at the end."""
    host, port = request.scope["server"]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Handlers:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def catalog(self, _request: Request) -> Response:
        return json_answer([_entry(one) for one in await offers(self._site)])

    async def status(self, request: Request) -> Response:
        return json_answer(OldStatus([address(request)], str(self._site.store.models_folder)))

    async def models(self, _request: Request) -> Response:
        return json_answer([one.id for one in await offers(self._site)])

    async def loaded(self, _request: Request) -> Response:
        return json_answer(await loaded(self._site))

    async def load(self, request: Request) -> Response:
        query = read_load(request.query_params)
        artifact = self._find(request)
        require_provider(artifact, query.ep, self._site.store, self._site.settings)
        try:
            async with asyncio.timeout(query.timeout):
                await load(request, self._site, artifact, query.keep_alive)
        except TimeoutError as error:
            told = f"'{artifact.ref}' is not loaded after the {query.timeout:g} s of 'timeout'; the load goes on"
            raise EngineBusy(told, retry_after=1) from error
        return Response()

    async def unload(self, request: Request) -> Response:
        force = read_unload(request.query_params)
        await unload(self._site.residency, self._site.artifact(request.path_params["model"]), force=force)
        return Response()

    async def unload_all(self, request: Request) -> Response:
        read_nothing(request.query_params)
        residency, busy = self._site.residency, []
        for resident in residency.residents:
            try:
                await residency.unload(resident.artifact)
            except ModelInUse:
                busy.append(str(resident.artifact.ref))
        if busy:
            raise ModelInUse(f"unloaded all but those that serve requests now: {', '.join(busy)}")
        return Response()

    async def download(self, request: Request) -> Response:
        body = await read_body(request)
        try:
            self._require_installed(read_download(body))
        except FoundryError as error:  # in the format in which the SDKs look for it, and in ours
            reply = reply_for(error)
            return json_answer(NotDownloaded(reply.message, reply.body.error), reply.status)
        return json_answer(Downloaded())

    def _find(self, request: Request) -> Artifact:
        name = request.path_params["model"]
        try:
            return self._site.artifact(name)
        except ModelNotFound as error:  # the SDKs look for these words, and then ask their user to download it first
            told = f"{error.message}: No OpenAIService provider found for modelName {name}"
            raise ModelNotFound(told, error.hint) from error

    def _require_installed(self, name: str) -> None:
        try:
            self._site.artifact(name)
        except ModelNotFound as error:
            raise not_downloaded(error, name) from error


def _entry(offer: ModelEntry) -> CatalogEntry:
    is_generator = offer.card.task is Task.GENERATE
    return CatalogEntry(
        name=offer.id,
        display_name=offer.id,
        alias=offer.alias,
        version=offer.artifact.manifest.variant,
        uri=f"local://{offer.id}",
        task=_TASKS[offer.card.task],
        runtime=Runtime(device_of(offer.provider), NAMES[offer.provider].onnxruntime),
        file_size_mb=offer.size_mb,
        supports_tool_calling="tools" in offer.capabilities,
        license=offer.license,
        max_output_tokens=offer.context_length if is_generator else 0,
    )


def not_downloaded(error: ModelNotFound, name: str) -> ModelNotFound:
    """Return the error for who expects that a model is downloaded."""
    hint = f"Run 'foundry-lite import FOLDER --name {name.partition(':')[0]}'."
    return ModelNotFound(f"{error.message}, and foundry-lite downloads none", hint)


def device_of(provider: Provider) -> DeviceType:
    """Return the kind of device that a provider runs on."""
    if provider in _GPU:
        return "GPU"
    return "NPU" if provider in (Provider.QNN, Provider.COREML) else "CPU"
