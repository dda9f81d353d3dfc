"""Model references: ``name``, ``name:variant``, and either of them with ``@adapter``.

Valid: ``mine``, ``mine:cpu-int4``, ``mine@support``, ``mine:cpu-int4-lora@support``. Not valid: ``Mine``, ``a/b``,
``:x``, ``..``, ``a@b:c``, 65 characters. Each part is one folder on disk, so the grammar is also what keeps a reference
inside the store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from foundry_lite.errors import BadReference

_PART = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model by name, and one of its variants or (``None``) whichever is chosen, and a LoRA adapter over it."""

    name: str
    variant: str | None = None
    adapter: str | None = None

    def __str__(self) -> str:
        variant = "" if self.variant is None else f":{self.variant}"
        adapter = "" if self.adapter is None else f"@{self.adapter}"
        return f"{self.name}{variant}{adapter}"


def parse_reference(text: str) -> ModelRef:
    """Parse ``name[:variant][@adapter]``. Raises `BadReference`."""
    model, at, adapter = text.partition("@")
    name, colon, variant = model.partition(":")
    for part in (name, *[variant] * bool(colon), *[adapter] * bool(at)):
        if not _PART.fullmatch(part):
            raise BadReference(
                f"{text!r} is no model reference: {part!r} must be 1 to 64 characters of a-z, 0-9, '.', '_', '-', "
                "and begin with a letter or digit",
                hint="A model is called NAME, NAME:VARIANT or NAME@ADAPTER, such as home-assistant:cpu-int4.",
            )
    return ModelRef(name, variant if colon else None, adapter if at else None)
