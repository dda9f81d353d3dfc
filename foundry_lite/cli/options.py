"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME, NAME:VARIANT or NAME@ADAPTER, as 'list' shows them.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
