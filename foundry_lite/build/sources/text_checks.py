"""The tokenizer against the embedding, and the chat template, tried on one message before anything is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from foundry_lite.build.sources.files import exists, read_bytes, read_json, read_text
from foundry_lite.engine.template import ChatTemplate
from foundry_lite.errors import InvalidRequest, LoadFailed, NotAModel, UnsafeSource
from foundry_lite.generation import Chat, Message, Role

PLAIN_TEMPLATE_NOTE = (
    "It has no chat template: a plain one ('user: …', 'assistant: …') is put in its place. "
    "If it was trained with one, save that as chat_template.jinja."
)

_LARGEST_TOKENIZER = 128 << 20  # bytes; Gemma's has 34 MB
_MOST_TOKENS = 4_000_000
_TEMPLATE, _TEMPLATE_JSON, _TOKENIZER_CONFIG = "chat_template.jinja", "chat_template.json", "tokenizer_config.json"
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
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


def check_template(folder: Path) -> bool:
    """Say whether the folder brings a chat template; it is one that can render a user's message.

    Raises `NotAModel` when it cannot be parsed, raises, or does not end.
    """
    config = _tokenizer_config(folder)
    source = read_template(folder)
    if source is None:
        return False
    try_template(source, {name: text for name in _TOKENS if (text := _token_text(config.get(name))) is not None})
    return True


def try_template(source: str, special: dict[str, str]) -> None:
    """Render one user's message with a template. Raises `NotAModel` when it cannot be."""
    try:
        template = ChatTemplate(source, special)
        text = template.render(Chat((Message(Role.USER, "Hello"),)), lambda content, _role: content)
    except (LoadFailed, InvalidRequest) as error:
        raise NotAModel(
            f"the chat template cannot be used: {error.message}",
            hint="Correct it; or remove it, and a plain one is put in its place.",
        ) from error
    if "Hello" not in text:
        raise NotAModel(
            "the chat template leaves out what the user says (it rendered 'Hello' without it)",
            hint="Correct it; or remove it, and a plain one is put in its place.",
        )


def read_template(folder: Path) -> str | None:
    """Return the chat template, from wherever it lies. Raises `NotAModel` or `UnsafeSource`."""
    if exists(folder / _TEMPLATE):
        return read_text(folder / _TEMPLATE)
    source: Any = _tokenizer_config(folder).get("chat_template")
    if source is None and exists(folder / _TEMPLATE_JSON):
        source = read_json(folder / _TEMPLATE_JSON).get("chat_template")
    if isinstance(source, list):  # several by name; transformers calls the ordinary one "default"
        named = [one for one in source if isinstance(one, dict)]
        source = next((one.get("template") for one in named if one.get("name") == "default"), None)
    if source is not None and not isinstance(source, str):
        raise NotAModel(f"the chat template is {json.dumps(source)[:40]}, not a text", hint="Save the tokenizer again.")
    return source


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    return read_json(folder / _TOKENIZER_CONFIG) if exists(folder / _TOKENIZER_CONFIG) else {}


def _token_text(value: Any) -> str | None:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


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
