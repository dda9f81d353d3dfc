"""Models that the Hugging Face libraries have downloaded already; nothing is downloaded here."""

from __future__ import annotations

from pathlib import Path


def find_snapshot(name: str, revision: str | None) -> Path | None:
    """Return the folder of a model such as ``org/name`` in the local cache, or ``None``."""
    from huggingface_hub import snapshot_download  # slow to import, and only some adapters need it
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        return None


def name_of(folder: Path) -> str:
    """Return the name of a model: of a snapshot in the cache the one on the Hub, else that of the folder."""
    real = folder.resolve()
    kept = real.parent.parent.name
    if real.parent.name == "snapshots" and kept.startswith("models--"):
        return kept.removeprefix("models--").replace("--", "/")
    return real.name
