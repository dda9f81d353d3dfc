"""The process in which execution providers are tried; `providers` starts it, and outlives it.

    python -m foundry_lite.engine.runners.provider_probe list           the providers that are built into onnxruntime
    python -m foundry_lite.engine.runners.provider_probe list MODULE    those that an installed package brings
    python -m foundry_lite.engine.runners.provider_probe try PROVIDER   load a tiny decoder with one, compare its logits

One JSON object a line on stdout, written as soon as it is known: a crash loses only what comes after it.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from types import ModuleType
from typing import Any, BinaryIO

import msgspec
import numpy as np

from foundry_lite.catalog.recipe import Provider
from foundry_lite.engine.runners.providers import PROBE, Device, Line

# The decoder adds up the embeddings of all tokens so far, in its caches, and multiplies with a table: small integers,
# exact in every format. The embedding of token i is i everywhere; column i of the table is (i + 1) / 8.
_TOKENS = (3, 1, 2)
_CONTEXT = 16
_EXPECTED = (6.0, 12.0, 18.0, 24.0, 30.0, 36.0, 42.0, 48.0)


def main() -> None:
    """Do what the arguments say; what native libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    task, *arguments = sys.argv[1:]
    try:
        if task == "list":
            _list(out, *arguments)
        else:
            _try(out, Provider(arguments[0]))
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the answer
        _say(out, Line(error=_first_line(error)))
        sys.exit(f"{type(error).__name__}: {_first_line(error)}")


def _list(out: BinaryIO, module: str | None = None) -> None:
    import onnxruntime

    if module is None:
        names = set(onnxruntime.get_available_providers())
        _say(out, Line(tuple(sorted(names))))
    else:
        plugin = importlib.import_module(module)
        names = set(_names(plugin))
        _say(out, Line(tuple(sorted(names))))
        onnxruntime.register_execution_provider_library(sorted(names)[0], plugin.get_library_path())
    for one in onnxruntime.get_ep_devices():
        if one.ep_name in names:
            _say(out, Line(device=_describe(one)))


def _describe(one: Any) -> Device:
    metadata = {**dict(one.device.metadata), **dict(one.ep_metadata)}
    description = next((metadata[key] for key in ("FULL_DEVICE_NAME", "Description") if metadata.get(key)), "")
    kind = str(one.device.type).rpartition(".")[2]
    return Device(one.ep_name, one.ep_vendor, kind, one.device.vendor, description)


def _try(out: BinaryIO, provider: Provider) -> None:
    from foundry_lite.engine.runners.genai import GenaiRunner  # what such models really run on

    began = time.monotonic()
    runner = GenaiRunner(PROBE, threads=1, slots=1, context_length=_CONTEXT, provider=provider)
    logits = runner.prefill(0, _TOKENS)
    seconds = time.monotonic() - began
    if not np.allclose(logits, _EXPECTED):
        raise RuntimeError(f"its logits are {logits.tolist()}, they should be {list(_EXPECTED)}")
    _say(out, Line(seconds=seconds))


def _names(plugin: ModuleType) -> list[str]:
    names: list[str] = plugin.get_ep_names() if hasattr(plugin, "get_ep_names") else [plugin.get_ep_name()]
    return names


def _say(out: BinaryIO, line: Line) -> None:
    out.write(msgspec.json.encode(line) + b"\n")
    out.flush()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


if __name__ == "__main__":
    main()
