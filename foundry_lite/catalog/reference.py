"""How a model is named: ``name`` or ``name:variant``.

Valid: ``mine``, ``mine:cpu-int4``, ``qwen2.5-0.5b``. Not valid: ``Mine``, ``a/b``, ``:x``, ``..``, 65 characters.
A name is one folder on disk, so the grammar is also what keeps a reference inside the store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from foundry_lite.errors import BadReference

_PART = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model by name, and one of its variants or (``None``) whichever is chosen for this machine."""

    name: str
    variant: str | None = None

    def __str__(self) -> str:
        return self.name if self.variant is None else f"{self.name}:{self.variant}"


def parse_reference(text: str) -> ModelRef:
    """Parse ``name`` or ``name:variant``. Raises `BadReference`."""
    name, colon, variant = text.partition(":")
    for part in (name, variant) if colon else (name,):
        if not _PART.fullmatch(part):
            raise BadReference(
                f"{text!r} is no model reference: {part!r} must be 1 to 64 characters of a-z, 0-9, '.', '_', '-', "
                "and begin with a letter or digit",
                hint="A model is called NAME or NAME:VARIANT, such as home-assistant:cpu-int4.",
            )
    return ModelRef(name, variant if colon else None)
