"""The list of what an artifact was made of, as CycloneDX 1.6 in JSON: for those who must know their inputs.

It names the model, every file of its sources and of itself with size and sha256, the tools with their versions, and
the licence. It has no date unless one is given and its serial number follows from its content, so that the same build
has the same list, byte for byte.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from foundry_lite.catalog.card import Ancestor, Card, Origin, Task
from foundry_lite.store.manifest import FileEntry, Manifest, Source

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/schema/bom-1.6")
_TASKS = {Task.GENERATE: "text-generation", Task.EMBED: "sentence-similarity", Task.RERANK: "text-ranking"}
# The licences that models come under most, as SPDX writes them; others are given by name.
_SPDX = {
    one.lower(): one
    for one in (
        "AFL-3.0", "AGPL-3.0", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
        "CC-BY-3.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0",
        "CDLA-Permissive-2.0", "ECL-2.0", "GPL-3.0", "ISC", "LGPL-3.0", "MIT", "MPL-2.0", "ODbL-1.0", "Unlicense",
        "WTFPL", "Zlib",
    )
}  # fmt: skip


def format_sbom(card: Card, manifest: Manifest, timestamp: str = "") -> str:
    """Return the list as JSON. ``timestamp`` is ISO 8601 with a zone, or empty."""
    model = _model(card, manifest)
    sources = _sources(manifest.source)
    built = [_file("built", entry) for entry in manifest.built_files]
    ancestors = [_ancestor(one) for one in card.lineage]
    metadata: dict[str, Any] = {
        "lifecycles": [{"phase": "build"}],
        "tools": {"components": [_tool(name, version) for name, version in sorted(manifest.versions.items())]},
        "component": model | ({"pedigree": {"ancestors": ancestors}} if ancestors else {}),
    }
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata | ({"timestamp": timestamp} if timestamp else {}),
        "components": [*sources, *built],
        "dependencies": [{"ref": model["bom-ref"], "dependsOn": [one["bom-ref"] for one in sources]}],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(content, sort_keys=True))
    return json.dumps(content | {"serialNumber": f"urn:uuid:{serial}"}, indent=1, ensure_ascii=False) + "\n"


def spdx_of(text: str) -> str | None:
    """Return SPDX's name of a licence; ``None`` for those that it has none for, such as a model maker's own."""
    return _SPDX.get(text.lower())


def _model(card: Card, manifest: Manifest) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{manifest.label}",
        "name": card.name,
        "version": manifest.variant,
        **({"description": card.description} if card.description else {}),
        **_licenses(card.license),
        "modelCard": {
            "modelParameters": {
                "task": _TASKS[card.task],
                "architectureFamily": "transformer",
                "modelArchitecture": card.architecture,
            }
        },
        "properties": _properties(
            build_digest=manifest.build_digest,
            size_bytes=sum(entry.size_bytes for entry in manifest.built_files),
            parameters=card.parameters,
            recipe=card.recipe.variant,
        ),
    }


def _ancestor(one: Ancestor) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"ancestor:{one.digest}",
        "name": one.name,
        **({"version": one.revision} if one.revision else {}),
        **_licenses(one.license),
        "properties": _properties(origin=one.origin, kind=one.kind, weights_digest=one.digest),
    }


def _sources(source: Source) -> list[dict[str, Any]]:
    base = [] if source.base is None else [_file(Origin.BASE, entry) for entry in source.base.files]
    return base + [_file(Origin.SOURCE, entry) for entry in source.files]


def _file(role: str, entry: FileEntry) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"{role}:{entry.path}",
        "name": entry.path,
        "hashes": [{"alg": "SHA-256", "content": entry.sha256}],
        "properties": _properties(role=role, size_bytes=entry.size_bytes),
    }


def _tool(name: str, version: str) -> dict[str, Any]:
    return {"type": "library" if name != "foundry-lite" else "application", "name": name, "version": version}


def _licenses(text: str) -> dict[str, Any]:
    if text == "unknown":
        return {}
    spdx = spdx_of(text)
    return {"licenses": [{"license": {"id": spdx} if spdx else {"name": text}}]}


def _properties(**values: Any) -> list[dict[str, str]]:
    return [{"name": f"foundry-lite:{name}", "value": str(value)} for name, value in values.items()]
