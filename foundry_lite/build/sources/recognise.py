"""Which kind of source a path is. Nothing of it is run or unpickled to find out."""

from __future__ import annotations

from pathlib import Path

from foundry_lite.build.sources import hf_folder
from foundry_lite.build.sources.found import Found, Options
from foundry_lite.errors import NotAModel

# Each has `recognises(path) -> bool`, which only looks at names and a few bytes, and `inspect(path, options) -> Found`,
# which says everything or raises a `SourceRejected`. The first that recognises a path inspects it.
KINDS = (hf_folder,)


def inspect(path: Path, options: Options = Options()) -> Found:
    """Look at a source and say what it is.

    Raises a `SourceRejected`: `NotAModel`, `UnsupportedArchitecture`, `DamagedWeights`, `PickledWeights`, `RemoteCode`.
    """
    if not path.exists():
        raise NotAModel(f"{path} does not exist", hint="Give the folder that holds config.json, or a .gguf file.")
    for kind in KINDS:
        if kind.recognises(path):
            return kind.inspect(path, options)
    raise NotAModel(f"{path} is no model that is known here", hint="docs/build.md lists what can be imported.")
