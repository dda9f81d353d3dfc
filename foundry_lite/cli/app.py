"""The subcommands of ``foundry-lite``."""

from __future__ import annotations

from typing import Annotated

import typer

from foundry_lite import __version__
from foundry_lite.cli.commands import (
    bench,
    build,
    cards,
    devices,
    import_model,
    jobs,
    models,
    run,
    serve,
    toolchains,
    tune,
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
app.command("serve")(serve.serve)
app.command("run")(run.run)
app.command("import")(import_model.import_)
app.command("build")(build.build_)
app.add_typer(jobs.app)
app.command("list")(models.list_)
app.command("show")(models.show)
app.command("card")(cards.card)
app.command("rm")(models.rm)
app.command("ps")(serve.ps)
app.command("bench")(bench.bench)
app.command("tune")(tune.tune_)
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
