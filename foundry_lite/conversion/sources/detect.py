"""Source detection: finds the kind of source at a path. Nothing of it is run or unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from foundry_lite.conversion.sources import (
    deepspeed_zero,
    genai_folder,
    gguf,
    gptq_awq,
    hf_folder,
    onnx_decoder,
    peft_adapter,
    sentence_transformers,
)
from foundry_lite.conversion.sources.source_model import Options, SourceModel
from foundry_lite.errors import NotAModel

_NOTHING_SAID = Options()


class Source(Protocol):
    """A module for one kind: `recognises` reads names and a few bytes, `inspect` returns a `SourceModel` or raises."""

    def recognises(self, path: Path, /) -> bool: ...

    def inspect(self, path: Path, options: Options, /) -> SourceModel: ...


# The first that recognises a path inspects it; it raises a `SourceRejected` when it finds it broken.
KINDS: tuple[Source, ...] = (
    gguf,
    genai_folder,
    gptq_awq,
    peft_adapter,
    deepspeed_zero,
    sentence_transformers,  # before what has only a graph: encoders come as such too
    onnx_decoder,
    hf_folder,
)


def inspect(path: Path, options: Options = _NOTHING_SAID) -> SourceModel:
    """Return the description of a source.

    Raises a `SourceRejected`: `NotAModel`, `UnsupportedArchitecture`, `DamagedWeights`, `PickledWeights`, `RemoteCode`.
    """
    try:
        return _inspect(path, options)
    except OSError as error:
        raise NotAModel(
            f"{error.filename or path} cannot be read: {error.strerror}", hint="Is it yours to read, and a file?"
        ) from error


def _inspect(path: Path, options: Options) -> SourceModel:
    if not path.exists():
        raise NotAModel(f"{path} does not exist", hint="Give the folder that holds config.json, or a .gguf file.")
    for kind in KINDS:
        if kind.recognises(path):
            return kind.inspect(path, options)
    raise NotAModel(f"{path} is no model that is known here", hint="docs/build.md lists what can be imported.")
