"""Entries of the model list: the installed models with their properties, read from the store; none is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from msgspec import UNSET

from foundry_lite.catalog.card import Card, Task
from foundry_lite.catalog.encoder import Encoder, read_encoder
from foundry_lite.catalog.recipe import Provider
from foundry_lite.catalog.reference import ModelRef
from foundry_lite.engine.chat_template.template_file import read_templates, shows_thoughts, shows_tools, template_for
from foundry_lite.errors import FoundryError, InvalidRequest
from foundry_lite.protocol.models import Capability, ModelBlock, ModelBody, write_model
from foundry_lite.residency.options import encoder_options, engine_options, is_encoder
from foundry_lite.server.state import Site
from foundry_lite.settings import Settings
from foundry_lite.store.store import Artifact, Store

_OF_ENCODERS: dict[Task, tuple[Capability, ...]] = {Task.EMBED: ("embeddings",), Task.RERANK: ("rerank",)}


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """An installed model, or an adapter over one. ``is_usual``: the name without a variant resolves to it."""

    artifact: Artifact
    card: Card
    encoder: Encoder | None
    is_usual: bool
    provider: Provider
    context_length: int
    capabilities: tuple[Capability, ...]

    @property
    def id(self) -> str:
        return str(self.artifact.ref)

    @property
    def alias(self) -> str:
        """The name without the variant."""
        return str(_short(self.artifact))

    @property
    def size_bytes(self) -> int:
        adapter = self.artifact.adapter
        return (self.artifact if adapter is None else adapter).manifest.size_bytes

    @property
    def size_mb(self) -> int:
        """The size in megabytes, rounded up."""
        return -(-self.size_bytes // 10**6)

    @property
    def license(self) -> str:
        adapter = self.artifact.adapter
        return self.card.license if adapter is None else adapter.manifest.source.license


def all_offers(store: Store, settings: Settings) -> list[ModelEntry]:
    """Return everything that can be served, the usual variant of each name first; what is damaged is left out."""
    listing = store.scan()
    adapted = (store.with_base(one) for one in listing.adapters)
    offers: list[ModelEntry] = []
    for artifact in (*listing.artifacts, *(one for one in adapted if one is not None)):
        with suppress(FoundryError):
            offers.append(offer_of(artifact, store, settings))
    return _usual_first(offers)


def offer_of(artifact: Artifact, store: Store, settings: Settings) -> ModelEntry:
    """Return one model with what is known of it. Raises `DamagedArtifact`."""
    card = artifact.card()
    encoder = read_encoder(artifact.folder) if is_encoder(artifact) else None
    options = engine_options(settings, artifact) if encoder is None else encoder_options(settings, artifact)
    return ModelEntry(
        artifact=artifact,
        card=card,
        encoder=encoder,
        is_usual=store.resolve(_short(artifact)).ref == artifact.ref,
        provider=options.provider,
        context_length=min(card.context_length, settings.context_length) if encoder is None else encoder.max_length,
        capabilities=_of_template(artifact) if encoder is None else _OF_ENCODERS[encoder.task],
    )


def require_provider(artifact: Artifact, ep: str, store: Store, settings: Settings) -> None:
    """Refuse an execution provider, in Foundry Local's words for them, that is not the model's here; empty is any.

    Raises `InvalidRequest`, `DamagedArtifact`.
    """
    if ep and ep != (provider := offer_of(artifact, store, settings).provider):
        raise InvalidRequest(
            f"'{artifact.ref}' runs with {provider} here, not with '{ep}'",
            "ep",
            "unsupported_value",
            "Leave 'ep' out; 'foundry-lite tune' chooses, 'foundry-lite serve --provider' sets it for all.",
        )


def describe_all(offers: Iterable[ModelEntry], site: Site) -> list[ModelBody]:
    """Return models as ``GET /v1/models`` has them: the usual one of each name under that, too, which users type."""
    listed = []
    for one in offers:
        listed += [describe(one, site, one.alias)] if one.is_usual else []
        listed.append(describe(one, site))
    return listed


def describe(offer: ModelEntry, site: Site, asked: str = "") -> ModelBody:
    """Return a model as ``GET /v1/models/{id}`` has it, under the name that was asked for if it is one of its own."""
    identity = offer.alias if offer.is_usual and asked == offer.alias else offer.id
    artifact, card, encoder = offer.artifact, offer.card, offer.encoder
    adapter = artifact.adapter
    block = ModelBlock(
        aliases=[one for one in (offer.alias, offer.id) if one != identity] if offer.is_usual else [],
        task=card.task,
        capabilities=list(offer.capabilities),
        architecture=card.architecture,
        parameters=card.parameters,
        variant=artifact.manifest.variant,
        precision=card.recipe.precision,
        provider=offer.provider,
        size_bytes=offer.size_bytes,
        context_length=offer.context_length,
        license=offer.license,
        is_embedded=artifact.is_embedded and adapter is None,
        is_loaded=site.residency.is_loaded(artifact),
        base=None if adapter is None else str(artifact.base.ref),
        dimensions=encoder.dimensions if encoder is not None and encoder.task is Task.EMBED else UNSET,
    )
    created = (artifact if adapter is None else adapter).manifest.created
    return write_model(identity, offer.alias, datetime.fromisoformat(created), block)


def _short(artifact: Artifact) -> ModelRef:
    return ModelRef(artifact.ref.name, adapter=artifact.ref.adapter)


def _usual_first(offers: Iterable[ModelEntry]) -> list[ModelEntry]:
    by_alias: dict[str, list[ModelEntry]] = {}
    for one in offers:
        by_alias.setdefault(one.alias, []).append(one)
    return [one for group in by_alias.values() for one in sorted(group, key=lambda one: not one.is_usual)]


def _of_template(artifact: Artifact) -> tuple[Capability, ...]:
    templates = read_templates(artifact.folder)
    used = [one for tools in (True, False) if (one := template_for(templates, tools=tools)) is not None]
    if not used:
        return ("completion",)
    tools: tuple[Capability, ...] = ("tools",) if shows_tools(used[0]) else ()
    reasoning: tuple[Capability, ...] = ("reasoning",) if any(map(shows_thoughts, used)) else ()
    return ("completion", "chat", *tools, *reasoning)
