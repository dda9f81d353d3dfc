"""``list``, ``show`` and ``rm``: what is in the store."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.cli.options import JsonOption, ModelArgument
from foundry_lite.cli.output import Output, megabytes
from foundry_lite.settings import read_settings
from foundry_lite.store.manifest import verify_digests
from foundry_lite.store.store import Artifact, Store


def list_(as_json: JsonOption = False) -> None:
    """List the models on this machine."""
    output = Output(as_json=as_json)
    listing = Store(read_settings().home).scan()
    if as_json:
        output.json(
            {
                "models": [_entry(one) for one in listing.artifacts],
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
    as_json: JsonOption = False,
) -> None:
    """Show a model's card: origin, recipe, figures with their evidence."""
    output = Output(as_json=as_json)
    artifact = Store(read_settings().home).resolve(parse_reference(model))
    if verify:
        verify_digests(artifact.folder, artifact.manifest)
    if as_json:
        output.json({**_entry(artifact), "card": artifact.card(), "manifest": artifact.manifest, "verified": verify})
        return
    for name, value in _facts(artifact):
        output.line(f"{name:<14}{value}")
    for one in artifact.card().evidence:
        value = f"{one.value:.1%}" if one.unit == "share" else f"{one.value:g} {one.unit}"
        samples = f" of {one.samples}" if one.samples else ""
        output.line(f"{'measured':<14}{one.metric} {value}{samples}  ({one.date}: {one.command})")
    if verify:
        output.talk(f"all {len(artifact.manifest.files)} files are as the manifest says")


def rm(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="NAME, or NAME:VARIANT.")] = None,
    leftovers: Annotated[bool, typer.Option("--leftovers", help="Remove what interrupted imports left.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove an imported model, or what interrupted imports left behind."""
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
        freed, names, what = plan.size_bytes, [str(one.ref) for one in plan.artifacts], plan.name
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
