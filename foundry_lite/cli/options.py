"""Options that several commands share."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from foundry_lite.catalog.recipe import Provider
from foundry_lite.settings import Settings, read_settings

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME, NAME:VARIANT or NAME@ADAPTER, as 'list' shows them.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ProviderOption = Annotated[
    Provider | None,
    typer.Option(
        "--provider",
        metavar="PROVIDER",
        help="Execution provider. [default: what 'tune' chose, or the model was built for]",
    ),
]


def settings_with(provider: Provider | None) -> Settings:
    """Return this command's settings, with the provider of its option if it was given."""
    settings = read_settings()
    return settings if provider is None else dataclasses.replace(settings, provider=str(provider))
