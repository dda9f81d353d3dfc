"""An encoder's texts to token ids: prompts before them, queries beside them, and what is too long refused or cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from tokenizers import Encoding, Tokenizer

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.encoder import Encoder
from foundry_lite.embedding import EncodeRequest, Purpose
from foundry_lite.engine.encoder.batching import Ids
from foundry_lite.engine.text.chunked_encoding import PIECE, TooManyTokens, encode_all, pieces
from foundry_lite.errors import InvalidRequest, LoadFailed

TextTokens: TypeAlias = tuple[Ids, Ids]  # the ids, and for pairs which half each of them is of

# What models call the prompts of each purpose: the names that sentence-transformers' models and APIs use.
_NAMES = {
    Purpose.QUERY: ("query", "search_query", "s2p_query", "retrieval.query", "web_search_query", "question"),
    Purpose.DOCUMENT: ("document", "passage", "search_document", "retrieval.passage", "corpus", "text"),
}
_PLAIN = EncodeRequest()  # what is asked of a text of which nothing is said
_MOST_TOKENS = 1 << 15  # of a text that is only counted: a tenth of a second, for which others wait
_CHUNK_TEXTS = 64
_CHUNK_CHARACTERS = 2 * PIECE  # what another request waits for at most, unless one text is longer


class EncoderText:
    """The text side of one encoder. Raises `LoadFailed` when the tokenizer cannot be read. One thread may use it."""

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self._encoder = encoder
        self._tokenizer = _open(folder / "tokenizer.json")
        self.vocabulary: int = self._tokenizer.get_vocab_size(with_added_tokens=True)

    def check(self, request: EncodeRequest) -> None:
        """Refuse what this model cannot do, whatever the texts are. Raises `InvalidRequest`."""
        self._prompt(request)
        wanted, width = request.dimensions, self._encoder.dimensions
        if wanted is not None and wanted > width:
            raise _refuse("dimensions", f"'dimensions': {wanted} are more than the {width} of this model's vectors")
        if request.query is not None:
            self._check_query(request.query, cuts=request.cut)

    def chunk(self, request: EncodeRequest, start: int) -> int:
        """Return where a piece of the request ends that is tokenised without making others wait for long."""
        end, characters = start + 1, len(request.texts[start]) if request.texts else 0
        while end < min(len(request), start + _CHUNK_TEXTS) and request.texts:
            characters += len(request.texts[end])
            if characters > _CHUNK_CHARACTERS:
                break
            end += 1
        return end if request.texts else min(len(request), start + _CHUNK_TEXTS)

    def tokenize(self, request: EncodeRequest, start: int, end: int) -> list[TextTokens]:
        """Tokenise the texts from ``start`` to ``end``. Raises `InvalidRequest` naming the text that is wrong."""
        if request.tokens:
            return [self._given(request, place) for place in range(start, end)]
        inputs = self._inputs(request, start, end)
        encodings = self._encode(inputs)
        for index, found in enumerate(encodings):
            if len(found) > self._encoder.max_length:
                if not request.cut:
                    raise self._too_long(request.name(start + index), f"has {len(found)}")
                encodings[index] = self._cut(inputs[index])
            elif not len(found):
                raise _refuse(request.name(start + index), f"'{request.name(start + index)}' has no tokens")
        return [(np.array(one.ids, np.int64), np.array(one.type_ids, np.int64)) for one in encodings]

    def encode(self, text: str, *, as_input: bool) -> list[int]:
        """Return the tokens of a text, however many it has: as it would be read, or as it is. Raises `InvalidRequest`.

        As it would be read, it has the model's default prompt before it, and the special tokens around it.
        """
        prompt = self._prompt(_PLAIN) if as_input else ""
        try:
            return encode_all([self._lower(prompt + text)], lambda one: self._ids(one, adds=as_input), _MOST_TOKENS)
        except TooManyTokens as error:
            message = f"a text of more than {error.limit} tokens is not encoded at once"
            raise InvalidRequest(message, code="context_length_exceeded", hint="Shorten it.") from error

    def spell(self, tokens: Sequence[int]) -> tuple[bytes, ...]:
        """Return how the vocabulary spells tokens."""
        return tuple((self._tokenizer.id_to_token(token) or "").encode() for token in tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones spelt out. Raises `InvalidRequest` naming what is no token."""
        self._require_tokens(tokens, "tokens")
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    def _ids(self, text: str, *, adds: bool) -> list[int]:
        found: list[int] = self._encode([text], adds=adds)[0].ids
        return found

    def _require_tokens(self, ids: Sequence[int], name: str) -> None:
        wrong = next((index for index, token in enumerate(ids) if not 0 <= token < self.vocabulary), None)
        if wrong is not None:
            at = f"{name}[{wrong}]"
            raise _refuse(at, f"'{at}': {ids[wrong]} is no token; this model has {self.vocabulary}, from 0")

    def _prompt(self, request: EncodeRequest) -> str:
        """Return the text to be put before each input."""
        prompts = self._encoder.prompts
        if self._encoder.task is Task.RERANK:
            return ""
        known = f"this model has {', '.join(map(repr, sorted(prompts))) if prompts else 'none'}"
        if request.prompt is not None:
            if request.prompt and request.prompt not in prompts:
                raise _refuse("prompt_name", f"'prompt_name': there is no prompt {request.prompt!r}; {known}")
            return prompts.get(request.prompt, "")
        if request.purpose is None:
            return prompts.get(self._encoder.default_prompt, "")
        found = next((name for name in _NAMES[request.purpose] if name in prompts), None)
        if found is None and (request.purpose is Purpose.QUERY or not prompts):
            raise _refuse("input_type", f"'input_type': there is no prompt for a {request.purpose}; {known}")
        return "" if found is None else prompts[found]  # documents go without where only queries have a prompt

    def _given(self, request: EncodeRequest, place: int) -> TextTokens:
        ids, limit, name = request.tokens[place], self._encoder.max_length, request.name(place)
        self._require_tokens(ids, name)
        if len(ids) > limit and not request.cut:
            raise self._too_long(name, f"has {len(ids)}")
        array = np.array(ids[:limit], np.int64)
        return array, np.zeros_like(array)

    def _inputs(self, request: EncodeRequest, start: int, end: int) -> list[str | tuple[str, str]]:
        prompt, most = self._prompt(request), request.document_tokens
        texts = [
            self._bounded(request, place, self._lower(prompt + request.texts[place])) for place in range(start, end)
        ]
        if most is not None:
            texts = [_behind(text, one, most) for text, one in zip(texts, self._encode(texts, adds=False), strict=True)]
        if request.query is None:
            return list(texts)
        query = self._reachable(self._lower(request.query), self._encoder.max_length)
        return [(query, text) for text in texts]

    def _check_query(self, query: str, *, cuts: bool) -> None:
        limit = self._encoder.max_length
        reachable = self._reachable(self._lower(query), limit)
        if not cuts and (len(reachable) < len(query) or len(self._encode([(reachable, "")])[0]) >= limit):
            raise self._too_long("query", "leaves no room for a document: with them it has more")

    def _bounded(self, request: EncodeRequest, place: int, text: str) -> str:
        """Return the text, or as much of it as is surely enough where it is to be cut."""
        reachable = self._reachable(text, request.document_tokens or self._encoder.max_length)
        if len(reachable) < len(text) and not request.cut and request.document_tokens is None:
            raise self._too_long(request.name(place), f"has more than {self._encoder.max_length}")
        return reachable

    def _reachable(self, text: str, limit: int) -> str:
        """Return the part of a text that has surely more than ``limit`` tokens; all of it where that is not sure.

        The work on a text that is far too long is bounded so.
        """
        count, seen = 0, 0
        for piece in pieces(text) if len(text) > PIECE else ():
            count += max(0, len(self._encode([piece], adds=False)[0]) - 1)  # a cut may add one
            seen += len(piece)
            if count > limit:
                return text[:seen]
        return text

    def _encode(self, inputs: Sequence[str | tuple[str, str]], *, adds: bool = True) -> list[Encoding]:
        found: list[Encoding] = self._tokenizer.encode_batch(list(inputs), add_special_tokens=adds)
        return found  # `encode_batch`, unlike `encode`, lets go of the interpreter's lock

    def _cut(self, text: str | tuple[str, str]) -> Encoding:
        self._tokenizer.enable_truncation(self._encoder.max_length)  # of a pair the longer half, as transformers does
        try:
            return self._encode([text])[0]
        finally:
            self._tokenizer.no_truncation()

    def _lower(self, text: str) -> str:
        return text.lower() if self._encoder.lowercase else text

    def _too_long(self, name: str, said: str) -> InvalidRequest:
        return InvalidRequest(
            f"This model's maximum context length is {self._encoder.max_length} tokens, special ones included. "
            f"However, '{name}' {said} tokens",
            name,
            "context_length_exceeded",
            hint="Shorten it, or send 'truncate': true to have its end cut off.",
        )


def _open(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise LoadFailed(f"tokenizer.json cannot be read: {error}") from error
    tokenizer.no_truncation()  # what somebody trained with, some files still have
    tokenizer.no_padding()
    return tokenizer


def _behind(text: str, encoding: Encoding, most: int) -> str:
    """Cut a text behind so many of its tokens."""
    return text[: encoding.offsets[most - 1][1]] if len(encoding) > most else text


def _refuse(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param, "invalid_value")
