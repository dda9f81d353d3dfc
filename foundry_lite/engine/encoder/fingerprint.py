"""Fingerprint of an encoder: its vectors of a few texts on the processor that its figures were measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from foundry_lite.engine.encoder.batching import Row
from foundry_lite.engine.encoder.session import EncoderSession
from foundry_lite.engine.runners.fingerprint import RATIO, are_ids, disagreement, read, unusable

_ENCODED, _WIDTH = 4, 128  # texts, and values of each vector
_MORE = 0.002  # of the cosine, besides a tenth of what the card says is lost


class EncoderFingerprint(Struct, frozen=True):
    """The numbers of an encoder: what it made of a few texts, ``ids`` and ``kinds`` of whose tokens are given.

    ``loss`` is what its similarity to the source lacks of 1. Of each vector the first `_WIDTH` values are kept, of a
    reranker the logit.
    """

    kernels: str
    loss: float
    ids: tuple[tuple[int, ...], ...]
    kinds: tuple[tuple[int, ...], ...]
    vectors: tuple[tuple[float, ...], ...]


def record(
    texts: Sequence[tuple[Sequence[int], Sequence[int]]], vectors: NDArray[np.float32], loss: float, kernels: str
) -> EncoderFingerprint:
    """Return the fingerprint of an encoder from the tokens of texts, and their kinds, and what it made of them."""
    few = texts[:_ENCODED]
    return EncoderFingerprint(
        kernels,
        loss,
        ids=tuple(tuple(ids) for ids, _ in few),
        kinds=tuple(tuple(kinds) for _, kinds in few),
        vectors=tuple(tuple(round(float(one), 6) for one in row[:_WIDTH]) for row in vectors[:_ENCODED]),
    )


def settle(session: EncoderSession, vocabulary: int, folder: Path, kernels: str) -> str:
    """Compare a loaded encoder with its fingerprint, as `fingerprint.settle` does; return what it says.

    Raises `LoadFailed` when it computes something else here.
    """
    found = read(folder, EncoderFingerprint)
    if found is None or found.kernels == kernels:
        return ""
    _check(found, vocabulary)
    pairs = enumerate(zip(found.ids, found.kinds, strict=True))
    rows = [Row(0, at, np.array(ids, np.int64), np.array(kinds, np.int64)) for at, (ids, kinds) in pairs]
    recorded = np.array(found.vectors, np.float64)
    ours = session.measure(rows)[:, :_WIDTH].astype(np.float64)
    if ours.shape != recorded.shape:
        raise unusable(f"has results of {recorded.shape[1]} numbers; the model's have {ours.shape[1]}")
    with np.errstate(all="ignore"):  # of all texts together: a logit of one may be almost 0
        apart = float(np.linalg.norm(ours - recorded) / np.linalg.norm(recorded))
    less = _MORE + RATIO * found.loss  # of the cosine
    most = math.sqrt(2 * less)  # the distance of two unit vectors of that cosine
    if not apart <= most:
        raise disagreement(found.kernels, kernels, f"vectors {apart:.4f} of their length apart, {most:.4f} is the most")
    return f"measured with {found.kernels}; {kernels} computes the same (vectors differ by {apart:.4f})"


def _check(found: EncoderFingerprint, vocabulary: int) -> None:
    """Raise `LoadFailed` where a fingerprint cannot be this encoder's: the session checks nothing that it is given."""
    lengths = [*map(len, found.ids)]
    if not 0 < len(lengths) <= _ENCODED or 0 in lengths or lengths != [*map(len, found.kinds)]:
        raise unusable(f"has texts of {lengths[:8]} tokens, which none has that foundry-lite writes")
    if not (are_ids(found.ids, vocabulary) and are_ids(found.kinds, vocabulary)):
        raise unusable(f"has tokens beyond the model's vocabulary of {vocabulary}")
    if len(found.vectors) != len(lengths) or len({*map(len, found.vectors)}) != 1:
        raise unusable("has not one result of the same length for each text")
    if not 0 <= found.loss <= 2:  # of a cosine
        raise unusable(f"tells a loss of {found.loss}")
