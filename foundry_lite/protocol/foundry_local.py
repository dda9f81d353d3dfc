"""Foundry Local's own bodies: those of its 0.x service, in camel case, and of the web service of 1.x.

Its SDKs read every field that is here. What a model of ours does not have is an empty string, an empty object or 0: the
SDKs for C# and Rust, and those for Python up to 0.3.1, take no ``null`` there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from foundry_lite.errors import InvalidRequest
from foundry_lite.protocol.common.decode import convert, decode_object
from foundry_lite.protocol.errors import ErrorFields

DeviceType: TypeAlias = Literal["CPU", "GPU", "NPU"]
_LONGEST = 10**9  # seconds


class Runtime(Struct, frozen=True, rename="camel"):
    """The device and the execution provider (by onnxruntime's name) that a model runs on."""

    device_type: DeviceType
    execution_provider: str


class CatalogEntry(Struct, frozen=True, rename="camel", kw_only=True):
    """A catalog entry: a model of ``GET /foundry/list``; ``name`` is its id."""

    name: str
    display_name: str
    alias: str
    version: str
    uri: str
    task: str
    runtime: Runtime
    file_size_mb: int
    supports_tool_calling: bool
    license: str
    max_output_tokens: int
    publisher: str = ""
    license_description: str = ""
    parent_model_uri: str = ""
    model_type: Literal["ONNX"] = "ONNX"
    provider_type: Literal["Local"] = "Local"
    prompt_template: dict[str, str] = msgspec.field(default_factory=dict)  # the model's own is used, always
    model_settings: dict[str, list[str]] = msgspec.field(default_factory=lambda: {"parameters": []})
    min_fl_version: str = msgspec.field(default="", name="minFLVersion")


class OldStatus(Struct, frozen=True, rename="camel"):
    """The body of ``GET /openai/status``."""

    endpoints: list[str]
    model_dir_path: str
    pipe_name: None = None


class Status(Struct, frozen=True, rename="camel"):
    """The body of ``GET /status``."""

    model_cache_path: str
    endpoints: list[str]
    pid: int


class LoadState(Struct, frozen=True):
    """The body of ``GET /models/load/{id}``."""

    status: Literal["loaded", "already_loaded"]


class UnloadState(Struct, frozen=True):
    """The body of ``GET /models/unload/{id}``."""

    status: Literal["unloaded", "not_loaded"]


class Shutdown(Struct, frozen=True):
    """The body of ``POST /shutdown``."""

    status: Literal["shutting_down"] = "shutting_down"


class DownloadModel(Struct, frozen=True, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """The model that is to be downloaded. Its name decides; the other fields are where Foundry Local would find it."""

    name: str
    uri: str | None = None
    publisher: str | None = None
    provider_type: str | None = None
    prompt_template: dict[str, Any] | None = None
    path: str | None = None


class DownloadBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /openai/download``. Names are read in any case, as Foundry Local reads them."""

    model: DownloadModel
    token: str | None = None
    progress_token: Any = None
    custom_dir_path: str | None = None
    buffer_size: int | None = None
    ignore_pipe_report: bool | None = None
    force: bool | None = None  # of the SDK for Rust: to fetch again what is here, where there is nothing to fetch


class Downloaded(Struct, frozen=True, rename="camel"):
    """The answer to `DownloadBody`."""

    success: bool = True
    error_message: str | None = None


class NotDownloaded(Struct, frozen=True, rename="camel"):
    """The other answer to `DownloadBody`: the sentence where the SDKs look for it, and OpenAI's error."""

    error_message: str
    error: ErrorFields
    success: Literal[False] = False


class LoadQuery(Struct, frozen=True):
    """The query of a load request. ``keep_alive`` as `Residency.engine` takes it; ``ep`` is empty when not given.

    ``timeout`` is the number of seconds that the client waits for the load; ``None``: no limit.
    """

    keep_alive: timedelta | None
    ep: str
    timeout: float | None


def read_download(body: bytes) -> str:
    """Return the name of the model that a body asks for. Raises `InvalidRequest`."""
    value = _spelt(decode_object(body), DownloadBody)
    if isinstance(value.get("model"), dict):
        value["model"] = _spelt(value["model"], DownloadModel)
    download = convert(value, DownloadBody)
    if download.custom_dir_path:
        raise InvalidRequest("models lie where foundry-lite keeps them", "customDirPath", "unsupported_parameter")
    return download.model.name


def read_load(query: Mapping[str, str]) -> LoadQuery:
    """Read the query of ``GET /openai/load/{id}``: ``ttl`` in seconds overrides ``unload``. Raises `InvalidRequest`."""
    given = _given(query, "ttl", "unload", "ep", "timeout")
    unload = _switch(given, "unload", usual=True)
    keep_alive = None if unload else timedelta.max
    if given.get("ttl", "0") != "0":  # 0 is none, by Foundry Local's reference
        keep_alive = timedelta(seconds=_whole(given, "ttl"))
    timeout = _seconds(given, "timeout") if "timeout" in given else None
    return LoadQuery(keep_alive, given.get("ep", "").lower(), timeout)


def read_unload(query: Mapping[str, str]) -> bool:
    """Read the query of ``GET /openai/unload/{id}``: whether to force it. Raises `InvalidRequest`."""
    return _switch(_given(query, "force"), "force", usual=False)


def read_nothing(query: Mapping[str, str]) -> None:
    """Refuse a query where none is known. Raises `InvalidRequest`."""
    _given(query)


def _spelt(value: Mapping[str, Any], kind: type[Struct]) -> dict[str, Any]:
    names = {name.lower(): name for name in kind.__struct_encode_fields__}
    return {names.get(name.lower(), name): one for name, one in value.items()}


def _given(query: Mapping[str, str], *known: str) -> dict[str, str]:
    for name in query:
        if name not in known:
            raise InvalidRequest(f"unknown query parameter '{name}'", name, "unknown_parameter")
    return {name: value for name, value in query.items() if value}  # the Python SDK writes None as an empty string


def _whole(given: Mapping[str, str], name: str) -> int:
    text = given[name]
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
    if not 1 <= number <= _LONGEST:
        raise InvalidRequest(f"'{name}' must be a whole number of seconds from 1 to {_LONGEST}", name, "invalid_value")
    return number


def _seconds(given: Mapping[str, str], name: str) -> float:
    """Read a time span as .NET writes it: a decimal number of seconds."""
    text = given[name]
    number = float(text) if re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,9})?", text) else 0.0
    if not 0 < number <= _LONGEST:
        raise InvalidRequest(f"'{name}' must be a number of seconds above 0, up to {_LONGEST}", name, "invalid_value")
    return number


def _switch(given: Mapping[str, str], name: str, *, usual: bool) -> bool:
    text = given.get(name, str(usual)).lower()
    if text not in ("true", "false"):
        raise InvalidRequest(f"'{name}' must be true or false", name, "invalid_value")
    return text == "true"
