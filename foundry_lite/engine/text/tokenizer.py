"""Text to tokens and back, with the model's own tokenizer and template.

User text can never become control tokens: what spells one inside a caller's string is encoded as the plain text it is
(`engine.text.special_tokens`). Only the template's own control tokens are control tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as RawTokenizer
from tokenizers.decoders import Decoder, DecodeStream
from tokenizers.pre_tokenizers import PreTokenizer

from foundry_lite.engine.chat_template.template import ChatTemplate
from foundry_lite.engine.chat_template.template_file import DEFAULT, TOOL_USE, read_templates, template_for
from foundry_lite.engine.reasoning import ReasoningState
from foundry_lite.engine.text.chunked_encoding import encode_all
from foundry_lite.engine.text.special_tokens import Spelled
from foundry_lite.engine.tool_calls.model_format import find_voice
from foundry_lite.engine.tool_calls.prompt_fallback import adapt
from foundry_lite.engine.tool_calls.render_calls import can_write, write_calls
from foundry_lite.errors import InvalidRequest, LoadFailed
from foundry_lite.generation import Chat

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_PROMPT_END = 32  # tokens; a tag that is spelt in characters has less
_SHORT = 2000  # characters; encoding them takes a millisecond or two


class TextModel:
    """The text side of one model folder: template, tokenizer, end-of-turn tokens.

    Raises `LoadFailed` naming the file that is missing or broken.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _open_tokenizer(folder / "tokenizer.json")
        config = _read_json(folder / "tokenizer_config.json")
        self.eos_ids = _eos_ids(folder)
        self.vocabulary = self._tokenizer.get_vocab_size(with_added_tokens=True)
        sources = read_templates(folder)
        named = {name: text for name in _NAMED_TOKENS if (text := _token_text(config.get(name))) is not None}
        self._templates = {one: ChatTemplate(sources[one], named) for one in (DEFAULT, TOOL_USE) if one in sources}
        tokens = {token.content: number for number, token in self._added.items()}
        with_tools = template_for(sources, tools=True)
        self.voice = find_voice(folder, with_tools or "", tokens, without_tools=sources.get(DEFAULT, ""))

    def render(self, chat: Chat, limit: int | None = None) -> Iterator[str]:
        """Render a conversation, the assistant's turn opened; iterate over the pieces that are encoded one by one.

        Raises `InvalidRequest`, or `TooManyTokens` when there are surely more than ``limit``.
        """
        template = self._template(chat)
        if template is None:
            raise InvalidRequest("this model has no chat template, so it cannot take messages", "messages")
        guard = self._spelled.guard(limit)
        adapted = adapt(chat, self.voice.dialect, shows_tools=template.shows_tools)
        writing = self.voice.dialect.writing
        writes = template.shows_tools and not template.tells_calls and can_write(writing)
        write = partial(write_calls, writing=writing) if writes else None
        return guard.split(template.render(adapted, guard.protect, write))

    def encode_pieces(self, pieces: Iterable[str], limit: int | None = None) -> list[int]:
        """Encode what `render` has returned. Raises `TooManyTokens` when there are surely more than ``limit``."""
        return encode_all(pieces, self._encode, limit)

    def encode_chat(self, chat: Chat) -> list[int]:
        """Render a conversation and encode it. Raises `InvalidRequest`."""
        return self.encode_pieces(self.render(chat))

    def encode_text(self, text: str, *, add_special_tokens: bool = False, limit: int | None = None) -> list[int]:
        """Encode plain text; control tokens spelt in it are control tokens.

        ``add_special_tokens`` are those that the tokenizer puts around a text by itself. Raises `TooManyTokens` when
        there are surely more than ``limit``.
        """
        return encode_all([text], self._adding if add_special_tokens else self._encode, limit)

    @property
    def shows_tools(self) -> bool:
        """Return whether the template for tools has a place for them; else a system message describes them."""
        template = template_for(self._templates, tools=True)
        return template is None or template.shows_tools

    def tells_calls(self, chat: Chat) -> bool:
        """Return whether a conversation's template has a place for tool calls; else they are put into its text."""
        template = self._template(chat)
        return template is None or template.tells_calls

    def stage(self, tokens: Sequence[int]) -> ReasoningState:
        """Return the reasoning state in which the answer to a rendered conversation begins."""
        return self.voice.stage(self.decode(tokens[-_PROMPT_END:]))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, the control tokens among them spelt out."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    def starts(self, tokens: Sequence[int]) -> list[int]:
        """Return for each token where its text begins in `decode` of them all, in characters."""
        stream, shown, starts = DecodeStream(skip_special_tokens=False), 0, []
        for token in tokens:
            starts.append(shown)
            shown += len(stream.step(self._tokenizer, token) or "")
        return starts

    def starts_in(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return for each token of `encode_text` where it begins in ``text``, in characters."""
        [encoding] = self._tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)
        starts, at = [], 0
        for start, end in encoding.offsets:  # nothing, and at 0, where a token was added
            starts.append(min(start, at) if end > start else at)
            at = max(at, end)
        return starts

    @cached_property
    def longest_token(self) -> int:
        """Return the most characters that one token stands for."""
        return max(map(len, self._tokenizer.get_vocab()))

    def detokenizer(self, after: Sequence[int] = ()) -> Detokenizer:
        """Return a new detokenizer for one answer.

        ``after`` are the tokens before it, where it continues a text: they decide whether a word has a space before it.
        """
        detokenizer = Detokenizer(self._tokenizer, self._special_tags)
        if self.decode(after).endswith("\ufffd"):  # the first byte of a character would be emitted again with the next
            return detokenizer
        for token in after:
            detokenizer.feed(token)
        return detokenizer

    def token_bytes(self, token: int) -> bytes:
        """Return what one token stands for: its bytes, or the text of an added token; nothing beyond the vocabulary.

        It may be a part of a character. A space before a word belongs to the word, also at the start of a text.
        """
        added = self._added.get(token)
        if added is not None:
            return added.content.encode()
        text = self._tokenizer.id_to_token(token)
        return b"" if text is None else self._spelling.bytes_of(text)

    @cached_property
    def _added(self) -> dict[int, AddedToken]:
        return self._tokenizer.get_added_tokens_decoder()

    @cached_property
    def _special_tags(self) -> dict[int, str]:
        return {
            number: token.content
            for number, token in self._added.items()
            if token.special and token.content in self.voice.spellings
        }

    @cached_property
    def _spelling(self) -> _Spelling:
        return _Spelling(self._tokenizer)

    @cached_property
    def _spelled(self) -> Spelled:
        return Spelled((token.content, token.special) for token in self._added.values())

    def _template(self, chat: Chat) -> ChatTemplate | None:
        return template_for(self._templates, tools=chat.tools is not None)

    def _encode(self, text: str) -> list[int]:
        return self._run(text, add_special_tokens=False)

    def _adding(self, text: str) -> list[int]:
        return self._run(text, add_special_tokens=True)

    def _run(self, text: str, *, add_special_tokens: bool) -> list[int]:
        if len(text) <= _SHORT:
            encoding = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        else:  # `encode` holds the interpreter's lock all the while; the batches do not
            [encoding] = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        ids: list[int] = encoding.ids
        return ids


class Detokenizer:
    """Tokens of one answer to text, piece by piece; a character whose bytes are not complete yet is held back.

    Special tokens are no text, except ``tags``: some tokenizers have those of tool calls among them.
    """

    def __init__(self, tokenizer: RawTokenizer, tags: Mapping[int, str] | None = None) -> None:
        self._tokenizer = tokenizer
        self._tags = tags or {}
        self._begin()

    def feed(self, token: int) -> str:
        """Return the text that ``token`` completes."""
        if token in self._tags:
            before = self.flush()
            self._begin()
            return before + self._tags[token]
        self._ids.append(token)
        piece: str = self._stream.step(self._tokenizer, token) or ""
        self._shown += len(piece)
        return piece

    def flush(self) -> str:
        """Return what was held back: bytes that are no character, as the replacement character."""
        whole: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        return whole[self._shown :]

    def _begin(self) -> None:
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._shown = 0  # characters


class _Spelling:
    """The spelling of a vocabulary's tokens: GPT-2's characters for bytes, or SentencePiece's text.

    The tokenizer's decoder and pre-tokenizer decide which: ``ByteLevel`` is the first. In the second, a character
    (mostly ``\u2581``) is a space, and with ``ByteFallback`` the text ``<0x0A>`` is one byte.
    """

    def __init__(self, tokenizer: RawTokenizer) -> None:
        steps = [*_steps(tokenizer.decoder), *_steps(tokenizer.pre_tokenizer)]
        kinds = {step["type"] for step in steps}
        self._byte_of = _gpt2_alphabet() if "ByteLevel" in kinds else None
        self._has_fallback = "ByteFallback" in kinds
        self._replaced = [pair for step in steps if (pair := _replacement(step)) is not None]

    def bytes_of(self, text: str) -> bytes:
        """Return the bytes that the token written as ``text`` stands for."""
        if self._byte_of is not None:
            # What is not of the alphabet stands for itself, as the decoder has it.
            known = all(letter in self._byte_of for letter in text)
            return bytes(self._byte_of[letter] for letter in text) if known else text.encode()
        if self._has_fallback and re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", text):
            return bytes([int(text[3:5], 16)])
        for mark, meant in self._replaced:
            text = text.replace(mark, meant)
        return text.encode()


def _steps(part: Decoder | PreTokenizer | None) -> list[dict[str, Any]]:
    """Return the steps of a part of a tokenizer, as tokenizer.json writes them; one within another is beside it."""
    waiting: list[dict[str, Any]] = [] if part is None else [json.loads(part.__getstate__())]
    steps = []
    while waiting:
        step = waiting.pop(0)
        steps.append(step)
        waiting += [*step.get("decoders", ()), *step.get("pretokenizers", ())]
    return steps


def _replacement(step: dict[str, Any]) -> tuple[str, str] | None:
    """Return what a step of decoding replaces by what; ``None`` when it does something else."""
    if step["type"] == "Metaspace":
        return step["replacement"], " "
    if step["type"] == "Replace" and "String" in step["pattern"]:
        return step["pattern"]["String"], step["content"]
    return None


def _gpt2_alphabet() -> dict[str, int]:
    """Return the byte of each character: printable ones are themselves, the others follow in order from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _open_tokenizer(path: Path) -> RawTokenizer:
    try:
        tokenizer = RawTokenizer.from_file(str(path))
    except Exception as error:
        raise LoadFailed(f"tokenizer.json cannot be read: {error}") from error
    tokenizer.no_truncation()  # what somebody trained with, some files still have
    tokenizer.no_padding()
    return tokenizer


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LoadFailed(f"{path.name} cannot be read: {error}") from error
    return value if isinstance(value, dict) else {}


def _token_text(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _eos_ids(folder: Path) -> frozenset[int]:
    ids = _read_json(folder / "genai_config.json").get("model", {}).get("eos_token_id")
    return frozenset(ids if isinstance(ids, list) else () if ids is None else (ids,))
