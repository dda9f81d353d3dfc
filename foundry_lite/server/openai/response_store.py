"""The responses that are kept, so that they can be fetched and conversations go on from them: one file each.

    <home>/responses/<id>.json      `Record`, replaced as a whole at every change

They contain conversations: only their owner may read them. They are bounded by their number and their bytes; the
oldest go first.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from foundry_lite.errors import ResponseNotFound, StorageFull
from foundry_lite.generation import Message
from foundry_lite.protocol.responses.bodies import ResponseObject
from foundry_lite.protocol.responses.items import InputItem

log = logging.getLogger(__name__)

_ID = re.compile(r"resp_[0-9a-f]{48}")


class Record(Struct, frozen=True):
    """A stored response, its input items, and the conversation up to its answer, without the instructions."""

    response: ResponseObject
    input: list[InputItem]
    messages: tuple[Message, ...]


class ResponseStore:
    """The records below one folder, which belongs to one daemon. Files are read and written on other threads."""

    def __init__(self, root: Path, most_responses: int, most_bytes: int) -> None:
        self._root = root
        self._most_responses = most_responses
        self._most_bytes = most_bytes
        self._sizes: dict[str, int] | None = None  # in bytes, oldest first; read when first needed
        self._writing = asyncio.Lock()
        self._fault: str | None = None

    @property
    def is_on(self) -> bool:
        """Return whether responses may be stored."""
        return self.why_off is None

    @property
    def why_off(self) -> str | None:
        """The reason why no response is stored; ``None`` while they are."""
        if self._most_responses > 0 and self._most_bytes > 0:
            return self._fault
        return "FOUNDRY_LITE_RESPONSES_KEPT or _BYTES is 0"

    def open(self) -> bool:
        """Try whether the folder can be written; keep nothing if it never can. A full disk may have room again."""
        trial, is_there = self._root / f".resp_trial.{os.getpid()}", self._root.is_dir()
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            trial.touch(mode=0o600)
            trial.unlink()
            if not is_there:
                self._root.rmdir()  # it is made when there is something to keep
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                self._fault = f"{self._root} cannot be written: {error.strerror}"
        return self.is_on

    async def write(self, record: Record) -> None:
        """Keep a record, whole or not at all, and forget the oldest of too many. Raises `StorageFull`."""
        async with self._writing:
            await asyncio.to_thread(self._write, record)

    async def read(self, identity: str) -> Record:
        """Return a record. Raises `ResponseNotFound`."""
        path = self._path(identity)
        try:
            return await asyncio.to_thread(_read, path)
        except OSError:
            raise self._missing(identity) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read: %s", path, error)
            raise self._missing(identity) from error

    async def delete(self, identity: str) -> None:
        """Forget a record. Raises `ResponseNotFound`."""
        path = self._path(identity)
        async with self._writing:
            try:
                await asyncio.to_thread(path.unlink)
            except OSError:
                raise self._missing(identity) from None
            if self._sizes is not None:
                self._sizes.pop(identity, None)

    def _write(self, record: Record) -> None:
        identity, content = record.response.id, msgspec.json.encode(record)
        draft = self._root / f".{identity}.{os.getpid()}"
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.touch(mode=0o600)
            draft.write_bytes(content)
            draft.replace(self._path(identity))
        except OSError as error:
            raise StorageFull.at_home(self._root, error) from error
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        sizes = self._known_sizes()
        sizes.pop(identity, None)
        sizes[identity] = len(content)
        self._forget_oldest(sizes)

    def _forget_oldest(self, sizes: dict[str, int]) -> None:
        total = sum(sizes.values())
        while sizes and (len(sizes) > self._most_responses or total > self._most_bytes):
            oldest = next(iter(sizes))
            total -= sizes.pop(oldest)
            with suppress(OSError):
                self._path(oldest).unlink(missing_ok=True)

    def _known_sizes(self) -> dict[str, int]:
        if self._sizes is None:
            found = [(path, path.stat()) for path in self._root.glob("resp_*.json")]
            found.sort(key=lambda one: one[1].st_mtime_ns)
            self._sizes = {path.stem: stat.st_size for path, stat in found}
            for draft in self._root.glob(".resp_*"):  # of a daemon that was killed: this one writes no other now
                draft.unlink(missing_ok=True)
        return self._sizes

    def _path(self, identity: str) -> Path:
        if not _ID.fullmatch(identity):  # so that no id leads out of the folder
            raise self._missing(identity)
        return self._root / f"{identity}.json"

    def _missing(self, identity: str) -> ResponseNotFound:
        if not self.is_on:
            return ResponseNotFound(
                "this daemon keeps no responses",
                "response_id",
                "response_not_found",
                hint=f"Its storage is off: {self.why_off}.",
            )
        return ResponseNotFound(
            f"no response {identity[:80]!r} is stored",
            "response_id",
            "response_not_found",
            hint="It was never stored, or deleted, or had to make room for newer ones.",
        )


def _read(path: Path) -> Record:
    return msgspec.json.decode(path.read_bytes(), type=Record)
