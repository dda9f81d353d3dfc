"""Encode requests and their results (vectors or scores), shared by HTTP handlers, the encoder's worker and tests."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Purpose(StrEnum):
    """The purpose of a text, for embedding models that distinguish queries from documents."""

    QUERY = "query"
    DOCUMENT = "document"


class EncodeRequest(Struct, frozen=True, omit_defaults=True):
    """Texts to make vectors of, or their token ids; with a ``query``, texts to score against it.

    ``prompt`` names one of the model's own prompts, to be put before each text: ``None`` is the model's default one, an
    empty name none at all. ``purpose`` chooses it by what the texts are. Token ids are taken as they are.
    ``dimensions`` cuts vectors. A text that the model cannot read to its end is refused, unless it is ``cut``.
    ``document_tokens`` cuts each text before it is put beside the query. ``field`` is what errors call the texts;
    with ``is_list`` they name its index as well.
    """

    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    query: str | None = None
    prompt: str | None = None
    purpose: Purpose | None = None
    dimensions: int | None = None
    cut: bool = False
    document_tokens: int | None = None
    field: str = "input"
    is_list: bool = True

    def __len__(self) -> int:
        return len(self.texts) or len(self.tokens)

    def name(self, place: int) -> str:
        """Return what the caller calls one of the texts."""
        return f"{self.field}[{place}]" if self.is_list else self.field


class EncodeTimings(Struct, frozen=True):
    """Timings of an encode request, in seconds.

    ``tokenize`` and ``encode`` are work for its texts alone, of a batch their share; ``queue`` is the rest: waiting.
    """

    queue: float
    tokenize: float
    encode: float


class Encoded(Struct, frozen=True):
    """The result of an encode request: ``(texts, width)`` numbers, little-endian float32, one text after the other.

    A reranker's ``width`` is 1. ``tokens`` are those of all texts, special ones included and padding not.
    """

    values: bytes
    width: int
    tokens: int
    timings: EncodeTimings
