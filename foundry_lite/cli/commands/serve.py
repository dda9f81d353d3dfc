"""``serve`` and ``ps``: the daemon, and what it has loaded."""

from __future__ import annotations

import dataclasses
import logging
from typing import Annotated, Any

import typer

from foundry_lite.catalog.recipe import Provider
from foundry_lite.cli.daemon_client import ask_daemon
from foundry_lite.cli.options import JsonOption, ProviderOption, settings_with
from foundry_lite.cli.output import Output, megabytes
from foundry_lite.cli.streams import drop_output
from foundry_lite.settings import Settings

log = logging.getLogger(__name__)

HostOption = Annotated[str | None, typer.Option("--host", help="Address of the daemon. [default: 127.0.0.1]")]
PortOption = Annotated[int | None, typer.Option("--port", min=0, max=65535, help="Its port. [default: 5273]")]

_EXAMPLES = """foundry-lite serves on {url}   (Ctrl-C stops it)

Paste this into another terminal:

  curl -s {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "home-assistant", "messages": [{{"role": "user", "content": "who are you?"}}]}}'

or, with the openai package, into Python:

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="none")
  stream = client.chat.completions.create(
      model="home-assistant", stream=True, messages=[{{"role": "user", "content": "what can you do?"}}]
  )
  for chunk in stream:
      print(chunk.choices[0].delta.content or "", end="", flush=True)
"""


def serve(host: HostOption = None, port: PortOption = None, provider: ProviderOption = None) -> None:
    """Serve the models of this machine over OpenAI's API."""
    from foundry_lite.server import daemon  # so that the other commands do not pay for importing a web server

    daemon.serve(_addressed(host, port, provider), _announce)


def _announce(url: str) -> None:
    """Print the URL of the daemon; it serves whether stdout can be written or not."""
    try:
        Output().line(_EXAMPLES.format(url=url))
    except OSError as error:
        drop_output()
        log.warning("serves on %s; stdout does not take it: %s", url, error.strerror)


def ps(host: HostOption = None, port: PortOption = None, as_json: JsonOption = False) -> None:
    """List the models that the running daemon has in memory."""
    output = Output(as_json=as_json)
    models: list[dict[str, Any]] = ask_daemon(_addressed(host, port), "/api/ps")["models"]
    if as_json:
        output.json({"models": models})
        return
    rows = [
        (
            one["model"],
            one["state"],
            str(one["pid"] or "-"),
            one["provider"] or "-",
            megabytes(one["resident_bytes"]),
            megabytes(one["peak_bytes"]),
            f"{one['requests']}",
            "-" if one["unload_in_seconds"] is None else f"{one['unload_in_seconds']:.0f}",
        )
        for one in models
    ]
    output.table(("model", "state", "pid", "provider", "memory_mb", "peak_mb", "requests", "unload_in_s"), rows)
    for one in models:
        if one["fallback_reason"]:
            output.talk(f"{one['model']} runs on the CPU: {one['fallback_reason']}")
        if one.get("processor_note"):
            output.talk(f"{one['model']}: {one['processor_note']}")


def _addressed(host: str | None, port: int | None, provider: Provider | None = None) -> Settings:
    settings = settings_with(provider)
    return dataclasses.replace(
        settings,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
    )
