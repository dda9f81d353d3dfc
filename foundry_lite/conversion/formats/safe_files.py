"""Small files of a source, read within limits: a regular file, inside its folder, not too large, no key twice.

A folder comes from a stranger. What it holds may be a link to somewhere else, a device that never ends, or a few
megabytes that become gigabytes when they are decoded.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from foundry_lite.errors import NotAModel, UnsafeSource

LARGEST_JSON = 16 << 20  # bytes; real ones: about 1 MB, a tokenizer_config.json with many added tokens a few
LARGEST_TEXT = 4 << 20  # bytes of a README or a template
_MOST_VALUES = 2_000_000  # in one JSON file: about 200 MB of Python objects

_COPY = "Put the file itself into the folder."


def exists(path: Path) -> bool:
    """Return whether a path exists; a dangling link or a device counts."""
    return os.path.lexists(path)


def check_file(path: Path, root: Path | None = None) -> Path:
    """Return ``path`` when it is a regular file inside ``root`` (the folder that it is in, by default).

    Links may lead to other paths in the same folder, and from a snapshot of the Hugging Face cache to its blobs.
    Raises `NotAModel` when nothing is there, `UnsafeSource` for everything else.
    """
    folder = path.parent if root is None else root
    try:
        target = path.resolve(strict=True)
        mode = target.stat().st_mode
    except (OSError, RuntimeError) as error:
        what = "is a link that leads nowhere" if path.is_symlink() else "is not there"
        raise NotAModel(f"{path.name} {what}", hint="Copy or download the file again.") from error
    if not _is_inside(target, folder.resolve()):
        raise UnsafeSource(f"{path.name} is a link to {target}, outside of {folder}", hint=_COPY)
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise UnsafeSource(f"{path.name} is {kind}, not a file", hint=_COPY)
    return path


def read_bytes(path: Path, largest: int, root: Path | None = None) -> bytes:
    """Read a file of at most ``largest`` bytes. Raises `NotAModel` or `UnsafeSource`."""
    check_file(path, root)
    try:
        with path.open("rb") as stream:
            content = stream.read(largest + 1)
    except OSError as error:
        raise NotAModel(f"{path.name} cannot be read: {error}", hint="Look at the file's permissions.") from error
    if len(content) > largest:
        raise UnsafeSource(
            f"{path.name} has {path.stat().st_size / 1e6:.1f} MB; at most {largest / 1e6:.1f} MB are read",
            hint="No model needs so large a file there; save the model again.",
        )
    return content


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Read a file as UTF-8. Raises `NotAModel` or `UnsafeSource`."""
    try:
        return read_bytes(path, largest).decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotAModel(f"{path.name} cannot be read: it is not UTF-8", hint="Save the model again.") from error


def read_json(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON object of at most ``largest`` bytes. Raises `NotAModel` or `UnsafeSource`."""
    value = decode_json(read_bytes(path, largest), path.name)
    if not isinstance(value, dict):
        raise NotAModel(f"{path.name} is not a JSON object", hint="Save the model again.")
    return value


def decode_json(content: bytes, name: str) -> Any:
    """Decode what was read from the file ``name``. Raises `NotAModel` or `UnsafeSource`."""
    values = sum(content.count(mark) for mark in (b",", b"[", b"{"))
    if values > _MOST_VALUES:
        raise UnsafeSource(
            f"{name} holds about {values} values; at most {_MOST_VALUES} are read",
            hint="No model needs so many there; save the model again.",
        )
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise NotAModel(f"{name} cannot be read: {error}", hint="Save the model again.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the key {twice[:80]!r} twice, and readers differ in which they take")
    return found


def _is_inside(target: Path, root: Path) -> bool:
    if target.is_relative_to(root):
        return True
    # models--ORG--NAME/snapshots/REVISION/config.json -> ../../blobs/HASH
    snapshot = next((one for one in (root, *root.parents) if one.parent.name == "snapshots"), None)
    return snapshot is not None and target.is_relative_to(snapshot.parent.parent / "blobs")
