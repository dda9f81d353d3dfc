"""Versions of the packages that made a variant."""

from __future__ import annotations

import importlib.metadata
from contextlib import suppress

from foundry_lite import __version__

_PACKAGES = ("onnxruntime", "onnxruntime-genai", "onnx", "torch", "transformers", "tokenizers", "peft", "gguf")


def found() -> dict[str, str]:
    """Return the versions of what is installed here of the packages that builds use."""
    versions = {"foundry-lite": __version__}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
