"""The served name of an artifact in answers, and the ``system_fingerprint`` of all that computes them."""

from __future__ import annotations

import hashlib
import importlib.metadata
from contextlib import suppress
from dataclasses import astuple

import msgspec

from foundry_lite import __version__
from foundry_lite.protocol.common.served import Served
from foundry_lite.residency.options import encoder_options, engine_options, is_encoder
from foundry_lite.settings import Settings
from foundry_lite.store.store import Artifact

_RUNTIME = ("onnxruntime", "onnxruntime-genai", "tokenizers", "llguidance", "numpy")
_KEPT = 256  # fingerprints


class Serving:
    """Names artifacts in answers. A fingerprint is made once for each: a card is read for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runtime = _versions()
        self._fingerprints: dict[str, str] = {}

    def served(self, artifact: Artifact, asked: str) -> Served:
        """Return how an answer names a model that was asked for by some name. Raises `DamagedArtifact`."""
        return Served(asked, str(artifact.ref), artifact.manifest.variant, self._fingerprint(artifact))

    def _fingerprint(self, artifact: Artifact) -> str:
        adapter = artifact.adapter
        key = f"{artifact.identity} {None if adapter is None else adapter.identity} {artifact.chosen}"
        known = self._fingerprints.get(key)
        if known is None:
            if len(self._fingerprints) >= _KEPT:
                self._fingerprints.clear()
            known = self._fingerprints[key] = self._make(artifact)
        return known

    def _make(self, artifact: Artifact) -> str:
        """Return a fingerprint of the model's files, the libraries that run it, and the settings it is run with."""
        find = encoder_options if is_encoder(artifact) else engine_options
        adapter = None if artifact.adapter is None else artifact.adapter.manifest
        parts = (self._runtime, artifact.manifest, adapter, astuple(find(self._settings, artifact)))
        return f"fp_{hashlib.blake2b(msgspec.json.encode(parts), digest_size=8).hexdigest()}"


def _versions() -> dict[str, str]:
    found = {"foundry-lite": __version__}
    for name in _RUNTIME:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
