"""Settings of the daemon and the commands; the only module that reads the environment.

Every field is an environment variable: ``FOUNDRY_LITE_`` and the field's name in capitals. docs/configuration.md has
a heading for each.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import platformdirs

from foundry_lite.errors import BadSetting

_PREFIX = "FOUNDRY_LITE_"
PROVIDERS = ("cpu", "cuda", "dml", "webgpu", "trtrtx", "openvino", "qnn", "coreml")  # `catalog.recipe.Provider`
_MANY = 1_000_000_000
_MOST_BYTES = 1_000_000 * 2**30
_LONGEST_NUMBER = 20  # digits
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text) if len(text) <= _LONGEST_NUMBER else most + 1
        if not least <= number <= most:
            raise ValueError(f"must be from {least} to {most}")
        return number

    return parse


def _seconds(text: str) -> timedelta:
    seconds = float(text)
    if not 0 <= seconds < 10**9:
        raise ValueError("must be a number of seconds from 0 up")
    return timedelta(seconds=seconds)


def size_in_bytes(text: str) -> int:
    """Return the bytes of a size such as ``512MiB`` or ``2GiB``. Raises `ValueError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError("must be a size such as 512MiB or 2GiB")
    size = float(match[1]) * _UNITS[(match[2] or "B").lower()]
    if size > _MOST_BYTES:
        raise ValueError("must be at most 1000000 GiB")
    return int(size)


def _switch(text: str) -> bool:
    if text.lower() not in {"0", "1", "true", "false"}:
        raise ValueError("must be true or false")
    return text.lower() in {"1", "true"}


def _level(text: str) -> str:
    if text.lower() not in {"debug", "info", "warning", "error"}:
        raise ValueError("must be debug, info, warning or error")
    return text.lower()


def _provider(text: str) -> str:
    if text.lower() not in PROVIDERS:
        raise ValueError(f"must be one of {', '.join(PROVIDERS)}")
    return text.lower()


def _host(text: str) -> str:
    with suppress(ValueError):
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    try:
        is_name = re.fullmatch(r"[^\s/:@?#]+", text) is not None and bool(text.encode("idna"))
    except UnicodeError:
        is_name = False
    if not is_name:
        raise ValueError("must be an address, or the name of a host without a port")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(_host(name.strip()) for name in text.split(",") if name.strip())


def _parsed_by(parse: Callable[[str], Any], default: Any) -> Any:
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a daemon or a command."""

    home: Path = field(
        default_factory=lambda: platformdirs.user_data_path("foundry-lite", appauthor=False), metadata={"parse": Path}
    )
    host: str = _parsed_by(_host, "127.0.0.1")
    port: int = _parsed_by(_number(0, 65535), 5273)
    allowed_hosts: tuple[str, ...] = _parsed_by(_names, ())
    log_level: str = _parsed_by(_level, "info")
    keep_alive: timedelta = _parsed_by(_seconds, timedelta(minutes=10))  # an idle model is unloaded; 0: never
    stream_keep_alive: timedelta = _parsed_by(_seconds, timedelta(seconds=10))  # silence before a comment; 0: none
    max_loaded: int = _parsed_by(_number(1, 10_000), 3)  # models in memory at once
    slots: int = _parsed_by(_number(1, 10_000), 16)  # requests a model decodes together
    queue: int = _parsed_by(_number(0, _MANY), 256)  # requests that may wait for a slot
    context_length: int = _parsed_by(
        _number(1, _MANY), 4096
    )  # tokens a slot holds at most; the model's own limit if smaller
    threads: int = _parsed_by(_number(0, 1024), 0)  # 0: the cores this process may use
    provider: str = _parsed_by(_provider, "")  # the execution provider; empty: what tune chose, or the model is for
    kv_memory: int = _parsed_by(size_in_bytes, 0)  # bytes of keys and values; 0: a quarter of the memory
    reproducible: bool = _parsed_by(_switch, False)  # same request, same seed, same tokens, at any load
    speculation: int = _parsed_by(_number(0, 1024), 0)  # tokens guessed at once by prompt look-up; 0: none
    responses_kept: int = _parsed_by(_number(0, _MANY), 1000)  # responses that are stored at most; 0: none
    responses_bytes: int = _parsed_by(size_in_bytes, 256 * 10**6)  # bytes of them at most; 0: none are stored
    wheels: Path | None = _parsed_by(Path, None)  # toolchains are installed from the wheels in this folder
    build_cache: int = _parsed_by(size_in_bytes, 20 * 10**9)  # bytes of steps of builds that are kept


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from ``environment`` (default: this process's).

    Raises `BadSetting` naming the variable.
    """
    environment = os.environ if environment is None else environment
    given: dict[str, Any] = {}
    for one in fields(Settings):
        name = _PREFIX + one.name.upper()
        text = environment.get(name)
        if text is None or text == "":
            continue
        try:
            given[one.name] = one.metadata["parse"](text)
        except ValueError as error:
            raise BadSetting(f"{name}={text!r}: {error}", hint="docs/configuration.md lists the settings.") from error
    return Settings(**given)


def child_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment with ``extra`` on top, for a subprocess."""
    return {**os.environ, **extra}
