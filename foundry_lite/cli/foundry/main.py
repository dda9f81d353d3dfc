"""The command ``foundry``: Foundry Local's own, in both generations, over this daemon and these models.

Its SDKs of version 0.x find and start a server with ``foundry service``; programs written for the command from 0.10 on
call ``foundry server`` and ``foundry model``, and read JSON. What cannot be done here is refused with a sentence.
"""

from __future__ import annotations

import argparse
import json
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any, NoReturn

from foundry_lite import __version__
from foundry_lite.cli.faults import code_of
from foundry_lite.cli.foundry import service
from foundry_lite.cli.foundry.service import say
from foundry_lite.errors import FoundryError
from foundry_lite.settings import Settings, read_settings

_KNOWN = (
    "foundry service|server status|start|stop|restart|ps|logs, foundry model list|info|download|load|unload|run, "
    "foundry cache list|location|remove, foundry run|chat|complete MODEL, foundry status, foundry --version"
)
_ABSENT = {
    ("cache", "cd"): "models lie in the home folder: set FOUNDRY_LITE_HOME to move them all",
    ("config",): "settings are environment variables: docs/configuration.md lists them",
    ("report",): "nothing is reported to anybody: 'foundry service logs' shows what the daemon said",
    ("transcribe",): "foundry-lite serves models of text, none of audio",
    ("service", "set"): "settings are environment variables: docs/configuration.md lists them",
    ("server", "set"): "settings are environment variables: docs/configuration.md lists them",
}
_Does = Callable[[Namespace, Settings], int]


class _Refused(Exception):
    """A command that is not there."""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise _Refused(message)


def main() -> None:
    """Run a command and end with its exit code."""
    sys.exit(code_of(lambda: sys.exit(run(sys.argv[1:], read_settings())), _tell, lambda _error: 1))


def _tell(error: FoundryError) -> None:
    _complain(f"{error.message}. {error.hint}" if error.hint else error.message)


def run(arguments: list[str], settings: Settings) -> int:
    """Run one command; return its exit code. Raises `FoundryError`."""
    if arguments == ["--version"]:
        say(f"foundry-lite {__version__} (its own 'foundry', which is not Microsoft's Foundry Local)")
        return 0
    absent = next((why for words, why in _ABSENT.items() if tuple(arguments[: len(words)]) == words), None)
    try:
        if absent is not None:
            raise _Refused(absent)
        wanted = _parser().parse_args(arguments)
    except _Refused as refused:
        told = f"there is no '{' '.join(['foundry', *arguments])}' here" if arguments else "which command?"
        _complain(f"{told}: {refused}. foundry-lite's 'foundry' has {_KNOWN}. 'foundry-lite --help' has the rest.")
        return 2
    does: _Does = wanted.does
    return does(wanted, settings)


def _parser() -> _Parser:
    parser = _Parser(prog="foundry", description="Foundry Local's command over foundry-lite's daemon and models.")
    groups = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in ("service", "server"):
        _add_service(groups.add_parser(name, help="start, stop and find the daemon"))
    _add_models(groups.add_parser("model", help="list, inspect, load and unload models"))
    _add_cache(groups.add_parser("cache", help="what is installed, and where"))
    for name in ("run", "chat", "complete"):
        _add_run(groups.add_parser(name, help="ask a model"))
    _json(_command(groups, "status", _overall, "whether the daemon is ready"))
    return parser


def _add_service(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _json(_command(commands, "status", _status, "where the daemon is"))
    for name, does in (("start", _start), ("restart", _restart)):
        command = _command(commands, name, does, f"{name} the daemon in the background")
        command.add_argument("--port", type=_port, help="where it listens; 0: any free port")
        command.add_argument("--idle-timeout", choices=["0"], help="minutes until it ends when idle; 0: it never does")
        _json(command)
    _command(commands, "stop", _stop, "end the daemon")
    _command(commands, "ps", _ps, "the models in memory", "list")
    logs = _command(commands, "logs", _logs, "what the daemon said")
    logs.add_argument("--lines", "-n", type=_count, default=100, help="so many lines of it")


def _add_models(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_list(_command(commands, "list", _list, "the models", "ls"))
    for name, does, says in (
        ("info", _info, "what is known of a model"),
        ("download", _download, "say that a model is here: nothing is downloaded"),
        ("load", _load, "load a model into the daemon"),
        ("unload", _unload, "unload it"),
    ):
        command = _json(_command(commands, name, does, says, *(["stop"] if name == "unload" else [])))
        command.add_argument("model")
        if name in ("download", "load"):
            command.add_argument("--device", help="refused unless it is the one that the model runs on here")
        if name == "info":
            command.add_argument("--license", action="store_true", help="only its licence")
    _add_run(commands.add_parser("run", help="ask a model"))


def _add_cache(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_list(_command(commands, "list", _list, "what is installed", "ls"))
    _json(_command(commands, "location", _location, "where imported models lie", "pwd"))
    remove = _command(commands, "remove", _remove, "remove a model", "rm")
    remove.add_argument("model")
    remove.add_argument("--yes", "-y", action="store_true", help="do not ask")


def _add_list(parser: argparse.ArgumentParser) -> None:
    for name in ("cached", "loaded", "variants"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("device", "type", "search"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--filter", metavar="FIELD=VALUE")
    _json(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(does=_run)
    parser.add_argument("model")
    parser.add_argument("text", nargs="?", metavar="PROMPT")
    parser.add_argument("--prompt", "-p")


def _command(commands: Any, name: str, does: _Does, says: str, *aliases: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=says, aliases=aliases)
    parser.set_defaults(does=does)
    return parser


def _json(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--output", "-o", choices=["json", "text"], default="text")
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= len(text) <= 9 or int(text) == 0:
        raise argparse.ArgumentTypeError("must be a number from 1")
    return int(text)


def _is_json(wanted: Namespace) -> bool:
    return bool(wanted.output == "json")


def _status(wanted: Namespace, settings: Settings) -> int:
    service.print_status(service.status(settings), as_json=_is_json(wanted))
    return 0  # whether or not one runs: the SDK for JavaScript takes any other for a broken installation


def _overall(wanted: Namespace, settings: Settings) -> int:
    known = service.status(settings)
    if _is_json(wanted):
        say(json.dumps({"service": {"ready": known["running"], **known}}))
    else:
        service.print_status(known)
    return 0


def _start(wanted: Namespace, settings: Settings) -> int:
    _, told = service.start(settings, wanted.port)
    if _is_json(wanted):
        return _status(wanted, settings)
    say(told)
    return 0


def _restart(wanted: Namespace, settings: Settings) -> int:
    if wanted.port is None and (running := service.find(settings)) is not None:
        wanted.port = running.port
    told = service.stop(settings)
    if not _is_json(wanted):
        say(told)
    return _start(wanted, settings)


def _stop(_wanted: Namespace, settings: Settings) -> int:
    say(service.stop(settings))
    return 0


def _ps(_wanted: Namespace, settings: Settings) -> int:
    found = service.find(settings) or settings
    return _foundry_lite("ps", "--host", found.host, "--port", str(found.port))


def _logs(wanted: Namespace, settings: Settings) -> int:
    service.logs(settings, wanted.lines)
    return 0


def _list(wanted: Namespace, settings: Settings) -> int:
    from foundry_lite.cli.foundry import models  # half a second that status and start need not wait

    entries = models.models(settings, variants=wanted.variants, loaded=wanted.loaded)
    patterns = {name: getattr(wanted, name) for name in ("device", "type", "search") if getattr(wanted, name)}
    if wanted.filter:
        name, _, value = wanted.filter.partition("=")
        patterns["executionProvider" if name == "provider" else name] = value
    key = "variants" if wanted.variants else "models"
    models.print_models(models.chosen(entries, patterns), key if _is_json(wanted) else None)
    return 0


def _info(wanted: Namespace, settings: Settings) -> int:
    from foundry_lite.cli.foundry import models

    known = models.info(settings, wanted.model)
    if _is_json(wanted):
        say(json.dumps({"model": known}))
    elif wanted.license:
        say(known["license"])
    else:
        return _foundry_lite("show", wanted.model)
    return 0


def _download(wanted: Namespace, settings: Settings) -> int:
    from foundry_lite.cli.foundry import models

    known = models.info(settings, wanted.model)
    _done(wanted, known["id"], "cached", f"'{known['id']}' is installed: there is nothing to download.")
    return 0


def _load(wanted: Namespace, settings: Settings) -> int:
    from foundry_lite.cli.foundry import models

    name = models.load(settings, wanted.model, wanted.device)
    _done(wanted, name, "loaded", f"'{name}' is loaded.")
    return 0


def _unload(wanted: Namespace, settings: Settings) -> int:
    from foundry_lite.cli.foundry import models

    name, was_loaded = models.unload(settings, wanted.model)
    _done(wanted, name, "unloaded" if was_loaded else "not_loaded", f"'{name}' is not in memory.")
    return 0


def _done(wanted: Namespace, model: str, status: str, told: str) -> None:
    say(json.dumps({"model": model, "status": status}) if _is_json(wanted) else told)


def _location(wanted: Namespace, settings: Settings) -> int:
    path = str(settings.home / "models")
    told = {"path": path, "userSet": settings.home != Settings().home}
    say(json.dumps(told) if _is_json(wanted) else path)
    return 0


def _remove(wanted: Namespace, _settings: Settings) -> int:
    return _foundry_lite("rm", wanted.model, *(["--yes"] if wanted.yes else []))


def _run(wanted: Namespace, _settings: Settings) -> int:
    prompt = wanted.prompt or wanted.text
    return _foundry_lite("run", wanted.model, *([] if prompt is None else [prompt]))


def _foundry_lite(*arguments: str) -> int:
    from foundry_lite.cli.main import main as foundry_lite  # status and start need none of it

    sys.argv = ["foundry-lite", *arguments]
    foundry_lite()
    return 0


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
