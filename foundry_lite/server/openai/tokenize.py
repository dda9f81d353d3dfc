"""``/tokenize``, ``/detokenize``, and Foundry Local's count of a chat completion's tokens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from foundry_lite.engine.client.encoder_engine import EncoderEngine
from foundry_lite.engine.client.engine import Engine
from foundry_lite.engine.client.queries import EncodedPrompt
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Text
from foundry_lite.protocol.chat.request import ChatBody, decode_chat
from foundry_lite.protocol.tokenize import (
    DetokenizeBody,
    Detokenized,
    TokenCount,
    TokenizeBody,
    TokenizeCall,
    Tokenized,
    decode_detokenize,
    decode_tokenize,
    write_tokenized,
)
from foundry_lite.residency.options import is_encoder
from foundry_lite.server.http.request_body import read_body
from foundry_lite.server.http.responses import json_answer, unless_gone
from foundry_lite.server.http.routing import Endpoint
from foundry_lite.server.openai.model_entries import require_provider
from foundry_lite.server.state import Site


def endpoints(site: Site) -> list[Endpoint]:
    """Return the routes of this file."""
    handlers = _Handlers(site)
    return [
        Endpoint("POST", "/tokenize", handlers.tokenize, "The tokens of a text", takes=TokenizeBody, gives=Tokenized),
        Endpoint(
            "POST",
            "/detokenize",
            handlers.detokenize,
            "The text of tokens",
            takes=DetokenizeBody,
            gives=Detokenized,
        ),
        Endpoint(
            "POST",
            "/v1/chat/completions/tokenizer/encode/count",
            handlers.count,
            "How many tokens the prompt of a chat completion has",
            takes=ChatBody,
            gives=TokenCount,
        ),
    ]


class _Handlers:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def tokenize(self, request: Request) -> Response:
        """Encode a text or a conversation."""
        call = decode_tokenize(await read_body(request))
        engine = await self._engine(request, call.model)
        try:
            encoded = await unless_gone(request, _encode(engine, call))
        except InvalidRequest as error:  # the engine knows of prompts and messages only
            raise InvalidRequest(error.message, call.param, error.code, error.hint) from error
        return json_answer(write_tokenized(encoded.tokens, encoded.pieces, engine.context_length))

    async def detokenize(self, request: Request) -> Response:
        """Decode tokens."""
        model, tokens = decode_detokenize(await read_body(request))
        engine = await self._engine(request, model)
        decoding = engine.decode(tokens) if isinstance(engine, Engine) else engine.detokenize(tokens)
        return json_answer(Detokenized(await unless_gone(request, decoding)))

    async def count(self, request: Request) -> Response:
        """Count what a chat completion would read."""
        call = decode_chat(await read_body(request))
        artifact = self._site.artifact(call.model)
        require_provider(artifact, call.ep, self._site.store, self._site.settings)
        engine = await unless_gone(request, self._site.residency.engine(artifact, call.keep_alive))
        encoded = await unless_gone(request, engine.encode(call.request.shown_prompt))
        return json_answer(TokenCount(len(encoded.tokens)))

    async def _engine(self, request: Request, model: str) -> Engine | EncoderEngine:
        artifact, residency = self._site.artifact(model), self._site.residency
        if is_encoder(artifact):
            return await unless_gone(request, residency.encoder(artifact))
        return await unless_gone(request, residency.engine(artifact))


async def _encode(engine: Engine | EncoderEngine, call: TokenizeCall) -> EncodedPrompt:
    if isinstance(engine, Engine):
        return await engine.encode(call.prompt, with_pieces=call.with_pieces)
    if not isinstance(call.prompt, Text):
        raise InvalidRequest("an encoder reads texts: it has no chat template")
    adds = call.prompt.add_special_tokens
    return await engine.tokenize(call.prompt.text, as_input=adds, with_pieces=call.with_pieces)
