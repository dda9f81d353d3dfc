"""``list``, ``show`` and ``rm``: what is in the store."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foundry_lite.catalog.reference import ModelRef, parse_reference
from foundry_lite.cli.commands.tune import document, print_choice
from foundry_lite.cli.options import JsonOption, ModelArgument
from foundry_lite.cli.output import Output, megabytes
from foundry_lite.machine import find_kernels
from foundry_lite.settings import read_settings
from foundry_lite.store.adapters import Adapter
from foundry_lite.store.manifest import verify_digests
from foundry_lite.store.store import Artifact, Store


def list_(as_json: JsonOption = False) -> None:
    """List the models on this machine."""
    output = Output(as_json=as_json)
    store = Store(read_settings().home)
    listing = store.scan()
    if as_json:
        output.json(
            {
                "models": [_entry(one) for one in listing.artifacts],
                "adapters": [_adapter_entry(one, store) for one in listing.adapters],
                "damaged": [{"folder": str(one.folder), "reason": one.reason} for one in listing.damages],
                "leftovers": [
                    {"folder": str(one.folder), "size_bytes": one.size_bytes, "is_live": one.is_live}
                    for one in listing.leftovers
                ],
            }
        )
        return
    rows = [
        (str(one.ref), megabytes(one.manifest.size_bytes), "embedded" if one.is_embedded else "imported",
         one.manifest.created[:10])
        for one in listing.artifacts
    ]  # fmt: skip
    for one in listing.adapters:
        origin = "adapter" if store.with_base(one) else "adapter without its base"
        rows.append((str(one.ref), megabytes(one.manifest.size_bytes), origin, one.manifest.created[:10]))
    output.table(("model", "size_mb", "origin", "created"), rows)
    for damage in listing.damages:
        output.talk(f"damaged: {damage.folder}: {damage.reason}")
    dead = [one for one in listing.leftovers if not one.is_live]
    if dead:
        size = megabytes(sum(one.size_bytes for one in dead))
        output.talk(f"left over from interrupted imports: {len(dead)} folders, {size} MB")
        output.talk("hint: foundry-lite rm --leftovers")


def show(
    model: ModelArgument,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every file and compare with the manifest.")] = False,
    why: Annotated[bool, typer.Option("--why", help="Show what 'tune' chose for this machine, and why.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a model's card: origin, recipe, figures with their evidence."""
    output = Output(as_json=as_json)
    store = Store(read_settings().home)
    artifact = store.resolve(parse_reference(model))
    if why:
        _show_why(artifact, store, output)
        return
    adapter = artifact.adapter
    if verify:
        verify_digests(artifact.folder, artifact.manifest)
        if adapter is not None:
            verify_digests(adapter.folder, adapter.manifest)
    if as_json:
        own = {} if adapter is None else {"adapter": _adapter_entry(adapter, store)}
        output.json(
            {
                **_entry(artifact),
                **own,
                "card": artifact.card(),
                "manifest": artifact.manifest,
                "verified": verify,
                "processor": _processor(artifact, store),
            }
        )
        return
    _print(artifact, store, output)
    if verify:
        output.talk(f"all {len(artifact.manifest.files)} files are as the manifest says")


def _print(artifact: Artifact, store: Store, output: Output) -> None:
    if artifact.adapter is not None:
        _print_adapter(artifact.adapter, output)
    for name, value in _facts(artifact):
        output.line(f"{name:<14}{value}")
    if words := _processor(artifact, store):
        output.line(f"{'processor':<14}{words}")
    for one in artifact.card().evidence:
        value = f"{one.value:.2%}" if one.unit == "share" else f"{one.value:g} {one.unit}"
        samples = f" of {one.samples}" if one.samples else ""
        output.line(f"{'measured':<14}{one.metric} {value}{samples}  ({one.date}: {one.command})")


def _processor(artifact: Artifact, store: Store) -> str:
    """Return how this processor compares with the one that the model was measured on; empty where they are alike."""
    measured, here = artifact.kernels(), find_kernels()
    if measured in ("", here):
        return ""
    found = store.processor_notes.find(artifact)
    if found is not None:
        return f"{found.note}  ({found.date[:10]})"
    return f"measured with {measured}; this machine has {here}: what it computes is compared when it is loaded"


def _show_why(artifact: Artifact, store: Store, output: Output) -> None:
    """Print why the model's name resolves to this variant."""
    name, chosen = artifact.ref.name, artifact.chosen
    choice = None if chosen is None else store.choices.explain(name)
    if output.as_json:
        output.json({"model": str(artifact.ref), "choice": None} if choice is None else document(name, choice))
    elif choice is None:
        meant = store.resolve(ModelRef(name))
        how = "the newest" if meant.chosen is None else "chosen by 'tune'"
        output.line(f"'tune' did not choose {artifact.base.ref}; '{name}' means {meant.ref}, {how}")
        output.talk(f"hint: foundry-lite tune {name}")
    else:
        print_choice(choice, output)


def rm(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="NAME, NAME:VARIANT or NAME@ADAPTER.")] = None,
    leftovers: Annotated[bool, typer.Option("--leftovers", help="Remove what interrupted imports left.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove an imported model with its adapters, or what interrupted imports left behind."""
    output = Output(as_json=as_json)
    store = Store(read_settings().home)
    if (model is None) != leftovers:
        raise typer.BadParameter("name one MODEL, or give --leftovers")
    if leftovers:
        removed = store.remove_leftovers()
        freed = sum(one.size_bytes for one in removed)
        names, what = [one.folder.name for one in removed], f"{len(removed)} left-over folders"
    else:
        plan = store.plan_removal(parse_reference(str(model)))
        freed, what = plan.size_bytes, plan.name
        names = [str(one.ref) for one in plan.artifacts] + [str(one.ref) for one in plan.adapters]
        if plan.artifacts and plan.adapters:
            what += f" and its adapters {', '.join(str(one.ref.adapter) for one in plan.adapters)}"
        if not yes and output.is_interactive:
            typer.confirm(f"Remove {what} ({megabytes(freed)} MB)?", abort=True, err=True)
        store.remove(plan)
    if as_json:
        output.json({"removed": names, "freed_bytes": freed})
    else:
        output.line(f"removed {what}, {megabytes(freed)} MB")


def _entry(artifact: Artifact) -> dict[str, Any]:
    return {
        "model": str(artifact.ref),
        "name": artifact.ref.name,
        "variant": artifact.ref.variant,
        "size_bytes": artifact.manifest.size_bytes,
        "is_embedded": artifact.is_embedded,
        "created": artifact.manifest.created,
        "folder": str(artifact.folder),
    }


def _adapter_entry(adapter: Adapter, store: Store) -> dict[str, Any]:
    found = store.with_base(adapter)
    return {
        "model": str(adapter.ref),
        "base": None if found is None else str(found.base.ref),
        "rank": adapter.manifest.rank,
        "modules": adapter.manifest.modules,
        "size_bytes": adapter.manifest.size_bytes,
        "created": adapter.manifest.created,
        "source": adapter.manifest.source.location,
        "folder": str(adapter.folder),
    }


def _print_adapter(adapter: Adapter, output: Output) -> None:
    manifest = adapter.manifest
    for name, value in (
        ("adapter", f"{adapter.ref}, rank {manifest.rank} on {', '.join(manifest.modules)}"),
        ("its size", f"{megabytes(manifest.size_bytes)} MB"),
        ("its source", manifest.source.location),
        ("its folder", str(adapter.folder)),
    ):
        output.line(f"{name:<14}{value}")


def _facts(artifact: Artifact) -> list[tuple[str, str]]:
    card, manifest = artifact.card(), artifact.manifest
    block = f", block {card.recipe.block_size}" if card.recipe.block_size else ""
    facts = [
        ("model", str(artifact.ref)),
        ("description", card.description),
        ("architecture", f"{card.architecture}, {card.parameters / 1e6:.1f} M parameters"),
        ("context", f"{card.context_length} tokens"),
        ("recipe", f"{card.recipe.precision}{block}, for {card.recipe.provider}"),
        ("size", f"{megabytes(manifest.size_bytes)} MB"),
        ("licence", card.license),
        ("source", manifest.source.location),
        ("built", f"{manifest.created} with {', '.join(f'{name} {v}' for name, v in manifest.versions.items())}"),
        ("limits", card.limits),
        ("folder", str(artifact.folder)),
    ]
    return [(name, value) for name, value in facts if value]
