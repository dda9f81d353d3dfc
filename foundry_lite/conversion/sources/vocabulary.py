"""The tokens of a tokenizer against the rows of the embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from foundry_lite.conversion.formats.safe_files import exists, read_bytes, read_json
from foundry_lite.errors import NotAModel, UnsafeSource

_LARGEST_TOKENIZER = 128 << 20  # bytes; Gemma's has 34 MB
_CONFIG, _ADDED = "tokenizer_config.json", "added_tokens.json"
_SPECIAL = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_MOST_NAMED = 5
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


def check_vocabulary(folder: Path, rows: int, *, grows: bool = True) -> None:
    """Compare the tokenizer with an embedding of ``rows`` rows; fewer tokens than rows are padding, and fine.

    ``grows``: transformers loads the tokenizer, which gives numbers to tokens that only other files name.
    Raises `NotAModel` naming the tokens that have no row.
    """
    vocabulary = read_vocabulary(folder)
    if not vocabulary:
        raise NotAModel("tokenizer.json has no tokens", hint=_TOKENIZER_HINT)
    where = dict.fromkeys((one for one, number in vocabulary.items() if not 0 <= number < rows), "tokenizer.json")
    number = max(vocabulary.values()) + 1
    for token, name in _named_elsewhere(folder).items() if grows else ():
        if token not in vocabulary:
            vocabulary[token] = number
            where |= {token: name} if number >= rows else {}
            number += 1
    if where:
        raise _without_rows(where, vocabulary, rows)


def _without_rows(where: dict[str, str], vocabulary: dict[str, int], rows: int) -> NotAModel:
    shown = [f"{vocabulary[one]} ({one[:40]!r})" for one in sorted(where, key=lambda one: vocabulary[one])]
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    names = sorted(set(where.values()))
    has = f"{'have' if len(names) > 1 else 'has'} {'tokens' if len(shown) > 1 else 'a token'}"
    return NotAModel(
        f"{' and '.join(names)} {has} {', '.join(shown[:_MOST_NAMED])}{more}; the embedding has {rows} rows",
        hint="The tokenizer is another model's, or grew: model.resize_token_embeddings(len(tokenizer)), save both. "
        "Or remove from the file what nothing uses.",
    )


def _named_elsewhere(folder: Path) -> dict[str, str]:
    """Return the tokens that transformers adds where ``tokenizer.json`` lacks them, each with its file."""
    config = _read_optional(folder, _CONFIG)
    added = config.get("added_tokens_decoder")
    found: dict[str, str] = {}
    if isinstance(added, dict):
        found |= dict.fromkeys(filter(None, map(_text, added.values())), _CONFIG)
    else:
        numbered = {one: number for one, number in _read_optional(folder, _ADDED).items() if isinstance(number, int)}
        found |= dict.fromkeys(sorted(numbered, key=lambda one: numbered[one]), _ADDED)
    special = [config.get(name) for name in _SPECIAL]
    for name in ("additional_special_tokens", "extra_special_tokens"):
        more = config.get(name)
        special += more if isinstance(more, list) else more.values() if isinstance(more, dict) else []
    return found | {one: _CONFIG for one in filter(None, map(_text, special)) if one not in found}


def _read_optional(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder / name) if exists(folder / name) else {}


def _text(value: Any) -> str:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _read_tokens(vocabulary: bytes) -> dict[str, int]:
    """Decode the tokens: an object of ids, or with unigrams a list of ``[token, score]`` whose indices are the ids."""
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
