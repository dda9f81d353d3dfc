"""The command ``foundry-lite``: its subcommands, its exit codes, and the one place that turns errors into words."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from foundry_lite import __version__, errors
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
from foundry_lite.errors import FoundryError

# docs/cli.md lists them. The first class that an error is an instance of decides.
EXIT_CODES: tuple[tuple[type[FoundryError], int], ...] = (
    (errors.BadReference, 2),
    (errors.BadSetting, 2),
    (errors.InvalidRequest, 2),
    (errors.ModelNotFound, 3),
    (errors.JobNotFound, 3),
    (errors.NameTaken, 4),
    (errors.SourceRejected, 5),
    (errors.BuildFailed, 6),
    (errors.DamagedArtifact, 7),
    (errors.LoadFailed, 7),
    (errors.EngineDied, 7),
    (errors.EngineBusy, 7),
    (errors.DaemonUnreachable, 8),
    (FoundryError, 1),
)
INTERRUPTED = 130

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


def main() -> None:
    """Run a command; end with the exit code that fits what happened."""
    try:
        app()
    except FoundryError as error:
        Output().error(error.message, error.hint)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        Output().talk("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # such as "foundry-lite list | head -1"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def exit_code(error: FoundryError) -> int:
    """Return the exit code for an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


if __name__ == "__main__":
    main()
