"""Renames that replace one folder of a store by another, such that a kill between them can be repaired.

<home>/staging/<name>-<pid>-<n>/*.replaced*     set aside: put back by whoever looks next, if its process was killed
<home>/store.lock                               held by the one process that changes what is installed
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from foundry_lite.errors import StorageFull

REPLACED = ".replaced"  # an old variant, for the moment between two renames
REPLACED_MODEL = ".replaced-model"  # an old model, with all of its variants
REPLACED_ADAPTER = ".replaced-adapter"
GONE = ".gone"  # what nothing will put back


class Changes:
    """The lock under which a name is looked at and taken: what was seen stays true until the block ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = filelock.FileLock(home / "store.lock")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from changing the store; may be nested. Raises `StorageFull`."""
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            raise StorageFull.at_home(self._home, error) from error
        try:
            yield
        finally:
            self._lock.release()


def exchange(staged: Path, target: Path, aside: Path) -> None:
    """Replace ``target`` by ``staged``; ``target`` is renamed to ``aside``, and back when that fails."""
    target.rename(aside)
    try:
        staged.rename(target)
    except OSError:
        aside.rename(target)
        raise


def place(staged: Path, target: Path, aside: Path) -> None:
    """Rename ``staged`` to ``target``; an existing ``target`` is replaced, as `exchange` does."""
    if target.exists():
        exchange(staged, target, aside)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(target)


def put_back(aside: Path, target: Path) -> None:
    """Undo half an exchange; where the other half was done, ``aside`` is marked as rubbish."""
    if target.exists():
        aside.rename(aside.with_name(aside.name + GONE))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(target)


def link_folder(source: Path, target: Path) -> None:
    """Make ``target`` a new folder with the same files as ``source``: links, or copies where there are none."""
    shutil.copytree(source, target, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
