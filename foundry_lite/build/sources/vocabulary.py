"""The tokens of a tokenizer against the rows of the embedding."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from foundry_lite.build.sources.files import exists, read_bytes
from foundry_lite.errors import NotAModel, UnsafeSource

_LARGEST_TOKENIZER = 128 << 20  # bytes; Gemma's has 34 MB
_MOST_TOKENS = 4_000_000
_TOKENIZER_HINT = "Save the fast tokenizer beside the model: AutoTokenizer.from_pretrained(…).save_pretrained(folder)."


class _Added(Struct):
    id: int
    content: str


class _Model(Struct):
    vocab: Raw = Raw(b"{}")


class _Tokenizer(Struct):
    model: _Model
    added_tokens: list[_Added] = []


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Return every token of ``tokenizer.json`` with its id. Raises `NotAModel` or `UnsafeSource`."""
    path = folder / "tokenizer.json"
    if not exists(path):
        raise NotAModel(f"{folder} has no tokenizer.json", hint=_TOKENIZER_HINT)
    content = read_bytes(path, _LARGEST_TOKENIZER)
    try:
        found = msgspec.json.decode(content, type=_Tokenizer)
        tokens = _read_tokens(bytes(found.model.vocab))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAModel(f"{path.name} cannot be read: {error}", hint=_TOKENIZER_HINT) from error
    return tokens | {one.content: one.id for one in found.added_tokens}


def check_vocabulary(folder: Path, rows: int) -> None:
    """Compare the tokenizer with an embedding of ``rows`` rows; fewer tokens than rows are padding, and fine.

    Raises `NotAModel` when a token has no row.
    """
    vocabulary = read_vocabulary(folder)
    if not vocabulary:
        raise NotAModel("tokenizer.json has no tokens", hint=_TOKENIZER_HINT)
    token = max(vocabulary, key=lambda one: vocabulary[one])
    if vocabulary[token] >= rows or min(vocabulary.values()) < 0:
        raise NotAModel(
            f"tokenizer.json has a token {vocabulary[token]} ({token[:40]!r}); the embedding has {rows} rows",
            hint="The tokenizer is another model's, or grew: model.resize_token_embeddings(len(tokenizer)), save both.",
        )


def _read_tokens(vocabulary: bytes) -> dict[str, int]:
    """Decode the tokens: an object of ids, or with unigrams a list of ``[token, score]`` whose places are the ids."""
    entries = vocabulary.count(b":") + vocabulary.count(b"[")
    if entries > 2 * _MOST_TOKENS:
        raise UnsafeSource(
            f"tokenizer.json has about {entries} tokens; at most {_MOST_TOKENS} are read",
            hint="No tokenizer has so many; save it again.",
        )
    if vocabulary.lstrip().startswith(b"["):
        pairs = msgspec.json.decode(vocabulary, type=list[tuple[str, float]])
        return {token: number for number, (token, _) in enumerate(pairs)}
    return msgspec.json.decode(vocabulary, type=dict[str, int])
