"""The subcommands of ``foundry-lite``."""

from __future__ import annotations

from typing import Annotated

import typer

from foundry_lite import __version__
from foundry_lite.cli import (
    bench,
    building,
    cards,
    devices,
    importing,
    jobs,
    models,
    running,
    serving,
    toolchains,
    tuning,
)
from foundry_lite.cli.output import Output

app = typer.Typer(
    name="foundry-lite",
    help="Import, quantize, measure and serve fine-tuned small language models on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("serve")(serving.serve)
app.command("run")(running.run)
app.command("import")(importing.import_)
app.command("build")(building.build_)
app.add_typer(jobs.app)
app.command("list")(models.list_)
app.command("show")(models.show)
app.command("card")(cards.card)
app.command("rm")(models.rm)
app.command("ps")(serving.ps)
app.command("bench")(bench.bench)
app.command("tune")(tuning.tune_)
app.command("devices")(devices.devices)
app.add_typer(toolchains.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        Output().line(f"foundry-lite {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
