"""Builds over HTTP, foundry-lite's own: what an administrator may ask for, as `POST /api/jobs` takes it."""

from __future__ import annotations

from msgspec import Struct

from foundry_lite.errors import InvalidRequest
from foundry_lite.protocol.common.decode import convert, decode_object


class GateBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds that differ from the usual ones; see docs/quality.md."""

    min_accuracy: float | None = None
    min_top1: float | None = None
    max_kl: float | None = None


class BuildBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a build of ``model`` (installed, or the path of a source): ``variants``, or ``auto``, or neither."""

    model: str
    name: str | None = None
    variants: tuple[str, ...] = ()
    auto: bool = False
    base: str | None = None
    eval: str | None = None
    gate: GateBody = GateBody()
    force: bool = False


def read_build(body: bytes) -> BuildBody:
    """Decode a body. Raises `InvalidRequest` that names the field."""
    build = convert(decode_object(body), BuildBody)
    if build.auto and build.variants:
        raise InvalidRequest("'auto' chooses a variant, 'variants' names them: only one of them", "auto")
    return build
