"""Engine options of an installed model: from the settings, its card and the choice of `tune`; and its task."""

from __future__ import annotations

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.encoder import ENCODER
from foundry_lite.catalog.recipe import Provider
from foundry_lite.engine.client.adapters import AdapterFile
from foundry_lite.engine.client.encoder_engine import EncoderOptions
from foundry_lite.engine.client.engine import EngineOptions
from foundry_lite.errors import InvalidRequest
from foundry_lite.settings import Settings
from foundry_lite.store.choices import Chosen
from foundry_lite.store.manifest import verify_sizes
from foundry_lite.store.store import Artifact

_OTHER_TASK = {
    Task.EMBED: "is a reranker: it scores pairs of texts (POST /v1/rerank), and makes no vectors",
    Task.RERANK: "makes vectors of single texts (POST /v1/embeddings), and is no reranker: that scores pairs of texts",
}


def adapter_file(artifact: Artifact) -> AdapterFile | None:
    """Return the adapter of an artifact for its engine, if it has one. Raises `DamagedArtifact`."""
    adapter = artifact.adapter
    if adapter is None:
        return None
    verify_sizes(adapter.folder, adapter.manifest)
    return AdapterFile(adapter.identity, adapter.path)


def engine_options(settings: Settings, artifact: Artifact) -> EngineOptions:
    """Return how to run an artifact here: the machine's and the user's limits, the model's own sampling defaults.

    Threads and provider are the user's, else those that `tune` chose on this machine, else the cores, and the provider
    that the model was built for. Raises `InvalidRequest` for a model that writes no text.
    """
    require_generator(artifact)
    card, chosen = artifact.card(), _chosen_here(artifact)
    own = card.recipe.provider if chosen is None else chosen.provider
    defaults = card.defaults
    return EngineOptions(
        threads=settings.threads or (0 if chosen is None else chosen.threads),
        slots=settings.slots,
        queue=settings.queue,
        context_length=settings.context_length,
        defaults=defaults,
        kv_bytes=settings.kv_memory,
        reproducible=settings.reproducible or defaults.reproducible,
        speculation=settings.speculation,
        provider=Provider(settings.provider) if settings.provider else own,
    )


def encoder_options(settings: Settings, artifact: Artifact) -> EncoderOptions:
    """Return how to run an encoder here; threads are the user's, else those that `tune` chose, else the cores."""
    chosen = _chosen_here(artifact)
    return EncoderOptions(
        threads=settings.threads or (0 if chosen is None else chosen.threads),
        most_requests=settings.slots + settings.queue,
        provider=Provider(settings.provider) if settings.provider else artifact.card().recipe.provider,
    )


def is_encoder(artifact: Artifact) -> bool:
    """Return whether a model is an encoder: it makes vectors or scores of texts, and writes none."""
    return any(one.path == ENCODER for one in artifact.manifest.files)


def require_generator(artifact: Artifact) -> None:
    """Refuse a model that writes no text. Raises `InvalidRequest`."""
    if is_encoder(artifact):
        raise InvalidRequest(
            f"'{artifact.ref}' is an encoder: it makes vectors or scores of texts, and writes none", "model"
        )


def require_encoder(artifact: Artifact, task: Task | None = None) -> None:
    """Refuse a model that writes text, or is an encoder for another task. Raises `InvalidRequest`."""
    if not is_encoder(artifact):
        raise InvalidRequest(
            f"'{artifact.ref}' writes text: it is no encoder, and makes no vectors or scores",
            "model",
            hint="Import an encoder, such as a folder of sentence-transformers.",
        )
    if task is not None and artifact.card().task is not task:
        raise InvalidRequest(f"'{artifact.ref}' {_OTHER_TASK[task]}", "model")


def _chosen_here(artifact: Artifact) -> Chosen | None:
    """Return what `tune` chose for the artifact, where it did so on this machine."""
    chosen = artifact.chosen
    return chosen if chosen is not None and chosen.is_of_this_machine else None
