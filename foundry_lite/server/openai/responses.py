"""``/v1/responses``: answers with a name, which can be fetched, continued, and made while nobody waits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from foundry_lite.engine.client.generation import Generation
from foundry_lite.errors import InvalidRequest, ResponseNotFound
from foundry_lite.generation import Message, Role
from foundry_lite.protocol.common.decode import invalid_value
from foundry_lite.protocol.common.served import Served
from foundry_lite.protocol.responses.bodies import Circumstances, DeletedResponse, InputTokens, ItemList, ResponseObject
from foundry_lite.protocol.responses.events import ResponseEvent
from foundry_lite.protocol.responses.items import (
    InputItem,
    ItemReference,
    as_input,
    listed,
    read_items,
    resolve,
    response_of,
)
from foundry_lite.protocol.responses.queries import (
    ITEMS_PARAMETERS,
    RETRIEVE_PARAMETERS,
    ItemsQuery,
    RetrieveQuery,
    page,
    read_query,
)
from foundry_lite.protocol.responses.request import ResponseBody, ResponseCall, decode_response, renamed, without_oldest
from foundry_lite.protocol.responses.writer import ResponseWriter
from foundry_lite.server.generation.exchange import Exchange, answer
from foundry_lite.server.generation.pending import PendingGeneration, Source, admit
from foundry_lite.server.http.request_body import read_body
from foundry_lite.server.http.responses import EventStream, json_answer, unless_gone
from foundry_lite.server.http.routing import Endpoint
from foundry_lite.server.openai.background_responses import Keep, Run
from foundry_lite.server.openai.keeping import Keeping
from foundry_lite.server.openai.response_store import Record
from foundry_lite.server.state import Site
from foundry_lite.store.store import Artifact


def endpoints(site: Site) -> list[Endpoint]:
    """Return the routes of this file."""
    handlers = _Handlers(site)
    path = "/v1/responses/{response_id}"
    return [
        Endpoint(
            "POST",
            "/v1/responses",
            handlers.create,
            "Make a response",
            takes=ResponseBody,
            gives=ResponseObject,
            streams=ResponseEvent,
        ),
        Endpoint(
            "POST",
            "/v1/responses/input_tokens",
            handlers.count,
            "How many tokens a response would read",
            takes=ResponseBody,
            gives=InputTokens,
        ),
        Endpoint(
            "GET",
            path,
            handlers.one,
            "A stored response",
            gives=ResponseObject,
            streams=ResponseEvent,
            query=RETRIEVE_PARAMETERS,
            names_thing=True,
        ),
        Endpoint("DELETE", path, handlers.delete, "Forget a stored response", gives=DeletedResponse),
        Endpoint(
            "POST",
            f"{path}/cancel",
            handlers.cancel,
            "Cancel one in the background",
            gives=ResponseObject,
            refuses=(400,),
        ),
        Endpoint(
            "GET",
            f"{path}/input_items",
            handlers.items,
            "What one was asked with",
            gives=ItemList,
            query=ITEMS_PARAMETERS,
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request with what it goes on from."""

    call: ResponseCall
    artifact: Artifact
    items: list[InputItem]
    messages: tuple[Message, ...]
    is_kept: bool


class _Handlers:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._kept = site.background

    async def create(self, request: Request) -> Response:
        """Make one response: whole, as a stream, or in the background."""
        began = time.monotonic()
        call = decode_response(await read_body(request))
        asked = await self._complete(call)
        served = self._site.serving.served(asked.artifact, call.model)
        writer = ResponseWriter(call, _circumstances(asked, served))
        record = Record(writer.so_far("in_progress"), listed(asked.items, writer.id), asked.messages)
        keep = self._kept.keeping(writer, record) if asked.is_kept else None
        source = PendingGeneration(self._admit(asked, writer, keep))
        exchange = Exchange(writer, source, served, began)
        if not call.is_background:
            pulse = self._site.settings.stream_keep_alive
            return await answer(request, exchange, streams=call.streams, pulse=pulse)
        try:
            await unless_gone(request, exchange.begin(0.0))  # what can be refused is refused now
        except BaseException:
            exchange.end()
            raise
        run = Run(writer, record, has_log=call.streams)
        await self._kept.begin(run, exchange.events(), exchange.end)
        if call.streams:
            return self._follow(run, headers=served.headers)
        return json_answer(run.record().response, headers=served.headers)

    async def count(self, request: Request) -> Response:
        """Count the tokens that a response would read."""
        call = decode_response(await read_body(request))
        asked = await self._complete(call)
        engine = await unless_gone(request, self._site.residency.engine(asked.artifact, call.keep_alive))
        try:
            encoded = await unless_gone(request, engine.encode(call.request(asked.messages).shown_prompt))
        except InvalidRequest as error:
            raise renamed(error) from error
        return json_answer(InputTokens(len(encoded.tokens)))

    async def one(self, request: Request) -> Response:
        """Return a stored response as it is now, or follow one that is being made or was of late."""
        query = read_query(request.query_params.multi_items(), RetrieveQuery)
        identity = request.path_params["response_id"]
        if query.stream == "false":
            if query.starting_after is not None:
                raise invalid_value("starting_after", "only allowed with 'stream': true")
            return json_answer((await self._kept.read(identity)).response)
        await self._kept.read(identity)  # a 404, where there is none
        run = self._kept.find(identity)
        if run is None:
            raise invalid_value("stream", "this response has ended; fetch it whole")
        if not run.has_log:
            raise invalid_value("stream", "this response was not made with 'stream': true")
        return self._follow(run, int(query.starting_after or -1))

    async def delete(self, request: Request) -> Response:
        """Forget a stored response."""
        identity = request.path_params["response_id"]
        await self._kept.delete(identity)
        return json_answer(DeletedResponse(identity))

    async def cancel(self, request: Request) -> Response:
        """Cancel a response that is being made in the background."""
        return json_answer(await self._kept.cancel(request.path_params["response_id"]))

    async def items(self, request: Request) -> Response:
        """List what a stored response was asked with."""
        query = read_query(request.query_params.multi_items(), ItemsQuery)
        record = await self._kept.read(request.path_params["response_id"])
        return json_answer(page(record.input, query))

    async def _complete(self, call: ResponseCall) -> _Asked:
        """Find all that a request refers to. Raises `InvalidRequest`, `ModelNotFound`."""
        artifact = self._site.artifact(call.model)
        is_on, why_off = self._kept.store.is_on, self._kept.store.why_off
        if not is_on and (call.wire.store or call.is_background):
            name = "store" if call.wire.store else "background"
            raise invalid_value(name, f"this daemon keeps no responses: {why_off}")
        history = await self._history(call.wire.previous_response_id)
        found = await self._find(call.references)
        messages = call.continuing(history, found)
        return _Asked(call, artifact, resolve(call.items, found), messages, is_on and call.wire.store is not False)

    async def _history(self, previous: str | None) -> Sequence[Message]:
        """Return the conversation up to a response and with it."""
        if previous is None:
            return ()
        at, code = "previous_response_id", "previous_response_not_found"
        try:
            record = await self._kept.read(previous)
        except ResponseNotFound as error:
            raise InvalidRequest(f"'{at}': {error.message}", at, code, error.hint) from error
        if record.response.status == "in_progress":
            raise invalid_value(at, f"{previous} is still being made")
        return read_items(as_input(record.response.output), record.messages)

    async def _find(self, references: Sequence[str]) -> dict[str, InputItem]:
        """Return the stored items of those ids, up to the first that there is not."""
        found: dict[str, InputItem] = {}
        for owner in dict.fromkeys(response_of(one) for one in references):
            try:
                record = await self._kept.read(owner or "")
            except ResponseNotFound:
                break
            items = (*record.input, *as_input(record.response.output))
            found |= {item.id: item for item in items if item.id and not isinstance(item, ItemReference)}
        return found

    async def _admit(self, asked: _Asked, writer: ResponseWriter, keep: Keep | None) -> Source:
        generation = await self._admit_what_fits(asked)
        if keep is None:
            return generation
        keeps_failure = asked.call.streams or asked.call.is_background
        return Keeping(generation, writer, keep, keeps_failure=keeps_failure)

    async def _admit_what_fits(self, asked: _Asked) -> Generation:
        """Admit a request; with ``truncation: auto``, without its oldest turns: one, two, four… until it fits."""
        call = asked.call
        most = sum(message.role is Role.USER for message in asked.messages) - 1
        dropped, messages = 0, asked.messages
        while True:
            try:
                return await admit(self._site.residency, asked.artifact, call.request(messages), call.keep_alive)
            except InvalidRequest as error:
                is_too_long = error.code == "context_length_exceeded"
                if not is_too_long or call.wire.truncation != "auto" or dropped >= most:
                    raise renamed(error) from error
            dropped = min(max(1, 2 * dropped), most)
            messages = without_oldest(asked.messages, dropped)

    def _follow(self, run: Run, after: int = -1, headers: Mapping[str, str] | None = None) -> Response:
        pulse = self._site.settings.stream_keep_alive.total_seconds()
        return EventStream(run.follow(after), lambda: None, headers, pulse)


def _circumstances(asked: _Asked, served: Served) -> Circumstances:
    own = asked.artifact.card().defaults
    return Circumstances(served, own.temperature, own.top_p, asked.is_kept)
