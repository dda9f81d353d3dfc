"""The model that answered: by the name in the request, and by its full name here."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

MODEL_HEADER = "x-foundry-lite-model"


class ServedModel(Struct, frozen=True):
    """The model that answered: its full name, as ``GET /v1/models`` lists it, and its variant."""

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
