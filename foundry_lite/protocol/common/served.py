"""The model that answered: under the name that was asked for, and beside it which one that is here."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

MODEL_HEADER = "x-foundry-lite-model"


class ServedModel(Struct, frozen=True):
    """Which model answered: its whole name, as ``GET /v1/models`` lists it, and its variant."""

    model: str
    variant: str


@dataclass(frozen=True, slots=True)
class Served:
    """A model as an answer names it. ``asked`` is the name in the request, which clients compare the answer's with.

    ``fingerprint`` is OpenAI's ``system_fingerprint``.
    """

    asked: str
    name: str
    variant: str
    fingerprint: str

    @property
    def body(self) -> ServedModel:
        return ServedModel(self.name, self.variant)

    @property
    def headers(self) -> dict[str, str]:
        return {MODEL_HEADER: self.name}
