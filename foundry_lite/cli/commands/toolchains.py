"""``toolchain``: the environments that conversions run in, listed, made beforehand, removed."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from foundry_lite.cli.options import JsonOption
from foundry_lite.cli.output import Output, megabytes
from foundry_lite.conversion.toolchains.toolchains import State, Toolchain, Toolchains
from foundry_lite.settings import read_settings

app = typer.Typer(
    name="toolchain",
    help="The pinned environments that conversions run in: made when they are needed, or beforehand.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As 'toolchain ls' shows it.")]


@app.command("ls")
def ls(as_json: JsonOption = False) -> None:
    """List the toolchains and what is there of each."""
    output = Output(as_json=as_json)
    found = _toolchains().scan()
    if as_json:
        output.json({"toolchains": [_entry(one) for one in found]})
        return
    rows = [
        (one.name, str(one.state), megabytes(one.size_bytes) if one.folder else "-",
         ", ".join(f"{name} {version}" for name, version in one.shown.items()))
        for one in found
    ]  # fmt: skip
    output.table(("toolchain", "state", "size_mb", "versions"), rows)


@app.command("install")
def install(
    name: NameArgument,
    wheels: Annotated[
        Path | None,
        typer.Option("--wheels", metavar="FOLDER", help="Install offline, from the wheels in this folder."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a toolchain's environment now instead of when it is first needed."""
    output = Output(as_json=as_json)
    toolchains = _toolchains(wheels, output)
    _known(name, toolchains)
    asyncio.run(_install(toolchains, name))
    made = next(one for one in toolchains.scan() if one.name == name and one.state in (State.HERE, State.INSTALLED))
    if as_json:
        output.json(_entry(made))
    elif made.state is State.HERE:
        output.line(f"{name}: this environment has what is needed")
    else:
        output.line(f"{name}: {made.folder}, {megabytes(made.size_bytes)} MB")


@app.command("rm")
def rm(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a toolchain's environments, old and unfinished ones included; they are made again when needed."""
    output = Output(as_json=as_json)
    toolchains = _toolchains()
    _known(name, toolchains)
    if not yes and output.is_interactive:
        typer.confirm(f"Remove the toolchain {name}?", abort=True, err=True)
    freed = toolchains.remove(name)
    if as_json:
        output.json({"removed": name, "freed_bytes": freed})
    else:
        output.line(f"removed {name}, {megabytes(freed)} MB")


@app.command("pins")
def pins(name: NameArgument) -> None:
    """Print the exact versions a toolchain is made of, as pip's requirements file."""
    toolchains = _toolchains()
    _known(name, toolchains)
    text = next(one.pins for one in toolchains.scan() if one.name == name).read_text(encoding="utf-8")
    Output().write(text)


def _toolchains(wheels: Path | None = None, output: Output | None = None) -> Toolchains:
    settings = read_settings()
    tell = None if output is None else output.talk
    return Toolchains(settings.home / "toolchains", wheels=wheels or settings.wheels, tell=tell)


def _known(name: str, toolchains: Toolchains) -> None:
    if name not in toolchains.names:
        raise typer.BadParameter(f"there is no toolchain {name!r}; there are {', '.join(toolchains.names)}")


async def _install(toolchains: Toolchains, name: str) -> None:
    """Install, or end with what is half-made removed when Ctrl-C or a polite kill asks for it."""
    task = asyncio.ensure_future(toolchains.python(name))
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: asyncio cancels on Ctrl-C by itself
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _entry(one: Toolchain) -> dict[str, Any]:
    return {
        "name": one.name,
        "state": str(one.state),
        "size_bytes": one.size_bytes,
        "folder": None if one.folder is None else str(one.folder),
        "pins": str(one.pins),
        "versions": dict(one.versions),
    }
