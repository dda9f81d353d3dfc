"""The service commands of ``foundry``: where the daemon is, its start in the background, its end.

The SDKs run ``foundry service status`` and take the first ``http://host:port`` that it prints. So no URL may stand in
what is printed while no daemon answers, and an interpreter must be quick to start: what is imported here is little.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from foundry_lite.cli.daemon_client import ask_daemon
from foundry_lite.errors import BadSetting, DaemonUnreachable, StorageFull
from foundry_lite.settings import Settings, child_environment

_START_SECONDS = 60.0  # that a daemon may take until it answers
_STOP_SECONDS = 20.0  # it ends streams and builds first
_STATUS_SECONDS = 2.0  # that status waits for a daemon which is being started: the course gives it 3
_POLL_SECONDS = 0.05
_LOG_BYTES = 1 << 20  # of the log that are looked at
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where to find what listens everywhere


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def find(settings: Settings) -> Settings | None:
    """Return where a daemon of ours answers: at the port of the settings, else where ``server start`` put one."""
    usual = reachable(settings)
    if usual.port and _answers(usual):
        return usual
    other = dataclasses.replace(usual, port=_recorded(settings))
    if other.port and _answers(other) and ask_daemon(other, "/status")["modelCachePath"] == str(_models(settings)):
        return other  # of this home: another daemon may have the port by now
    return None


def reachable(settings: Settings) -> Settings:
    """Return the settings with a host that can be connected to."""
    return dataclasses.replace(settings, host=_ANYWHERE.get(settings.host, settings.host))


def url_of(found: Settings) -> str:
    """Return the URL of a daemon, without a slash at the end."""
    return f"http://{f'[{found.host}]' if ':' in found.host else found.host}:{found.port}"


def status(settings: Settings) -> dict[str, Any]:
    """Return what is known of the daemon, in the words of Foundry Local's command."""
    found = find(settings) or _find_once_started(settings)
    if found is None:
        return {"running": False, "state": "not_running", "webUrls": []}
    pid, uptime = ask_daemon(found, "/status")["pid"], timedelta(seconds=ask_daemon(found, "/health")["uptime_seconds"])
    return {
        "running": True,
        "state": "ready",
        "pid": pid,
        "webUrls": [url_of(found)],
        "port": found.port,
        "startedAt": (datetime.now(UTC) - uptime).isoformat(),
        "uptime": f"{int(uptime.total_seconds())}s",
        "logFile": str(_log(settings)),
    }


def print_status(known: dict[str, Any], *, as_json: bool = False) -> None:
    """Print the status: as JSON, or as people and both generations of Foundry Local's clients read it."""
    if as_json:
        say(json.dumps(known))
        return
    if not known["running"]:
        say("Model management service is not running!")
        say("To start the service, run the following command: foundry service start")
        return
    url = known["webUrls"][0]
    say(f"Model management service is running on {url}/openai/status")
    for title, name in (("State", "state"), ("PID", "pid"), ("Uptime", "uptime"), ("Logs", "logFile")):
        say(f"{title:<10}{known[name]}")
    say(f"{'Web URLs':<10}{url}")


def start(settings: Settings, port: int | None = None) -> tuple[Settings, str]:
    """Start a daemon unless one answers; return where it is, and a line on it. ``port`` 0: any free one.

    Raises `BadSetting` when one runs on another port than is wanted, `DaemonUnreachable`.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFull.at_home(settings.home, error) from error
    try:
        with FileLock(_lock(settings), timeout=_START_SECONDS):
            if (found := find(settings)) is not None:
                if port not in (None, 0, found.port):
                    hint = f"Run 'foundry server restart --port {port}' to move it."
                    raise BadSetting(f"the service runs on {url_of(found)} already, not on port {port}", hint)
                return found, f"Service is already running on {url_of(found)}/."
            wished = settings.port if port is None else port
            wanted = dataclasses.replace(settings, port=wished or _free_port(settings))
            process, log = _spawn(wanted)
            found = _await_answer(process, log, wanted)
            (settings.home / "service.port").write_text(f"{found.port}\n", encoding="ascii")
    except Timeout as error:
        raise DaemonUnreachable("another 'foundry service start' does not come to its end") from error
    return found, f"Service is Started on {url_of(found)}/, PID {process.pid}; its log is {log}"


def stop(settings: Settings) -> str:
    """End the daemon and wait until it has ended; return a line on it. Raises `DaemonUnreachable`."""
    from foundry_lite.server.admin.builds import TOKEN_FILE, admin_token  # status and start need none of the server

    found = find(settings)
    if found is None:
        return "Model management service is not running!"
    try:
        ask_daemon(found, "/shutdown", "POST", admin_token(settings.home / TOKEN_FILE))
    except DaemonUnreachable as error:
        hint = "It was started with another FOUNDRY_LITE_HOME: stop it from there, or where it was started."
        raise DaemonUnreachable(f"the daemon does not take our token: {error.message}", hint) from error
    deadline = time.monotonic() + _STOP_SECONDS
    while _answers(found):
        if time.monotonic() > deadline:
            raise DaemonUnreachable(f"the daemon still answers after {_STOP_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)
    return "Service is stopped."


def logs(settings: Settings, lines: int) -> None:
    """Print the last lines of the log of a daemon in the background."""
    log = _log(settings)
    if not log.exists():
        say(f"There is no {log}: no daemon was started in the background.")
        return
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_BYTES))
        told = stream.read().decode("utf-8", errors="replace").splitlines()
    say("\n".join(told[-lines:]))


def _spawn(settings: Settings) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a daemon that outlives this process and holds nothing of it open, its stdout least of all."""
    log = _log(settings)
    log.parent.mkdir(exist_ok=True)
    if log.exists():
        log.replace(log.with_name("service.log.1"))
    detached = 0
    if sys.platform == "win32":
        detached = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "foundry_lite.cli.main", "serve", "--port", str(settings.port)],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            creationflags=detached,
        )
    return process, log


def _await_answer(process: subprocess.Popen[bytes], log: Path, settings: Settings) -> Settings:
    deadline = time.monotonic() + _START_SECONDS
    while (found := find(settings)) is None:
        if process.poll() is not None:
            told = log.read_text(encoding="utf-8", errors="replace").strip()
            raise DaemonUnreachable(f"the daemon has ended: {told.partition(chr(10))[0]}", f"{log} has all it said.")
        if time.monotonic() > deadline:
            process.kill()
            raise DaemonUnreachable(f"the daemon did not answer within {_START_SECONDS:g} s", f"See {log}.")
        time.sleep(_POLL_SECONDS)
    return found


def _answers(found: Settings) -> bool:
    """Return whether a foundry-lite daemon listens there."""
    try:
        health = ask_daemon(found, "/health")
    except DaemonUnreachable:
        return False
    return isinstance(health, dict) and health.keys() >= {"status", "version", "uptime_seconds"}


def _find_once_started(settings: Settings) -> Settings | None:
    """Wait a moment for a start that another process may be at, and look again."""
    if not settings.home.is_dir():
        return None
    try:
        with FileLock(_lock(settings), timeout=_STATUS_SECONDS):
            return find(settings)
    except Timeout:
        return None


def _recorded(settings: Settings) -> int:
    """Return the port on which ``server start`` started a daemon last, or 0."""
    try:
        port = int((settings.home / "service.port").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 1 << 16 else 0


def _free_port(settings: Settings) -> int:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as free:
        free.bind((settings.host, 0))
        port: int = free.getsockname()[1]
        return port


def _models(settings: Settings) -> Path:
    return settings.home / "models"


def _lock(settings: Settings) -> Path:
    return settings.home / "service.lock"


def _log(settings: Settings) -> Path:
    return settings.home / "logs" / "service.log"
