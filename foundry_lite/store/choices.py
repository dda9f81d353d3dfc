"""Choices of `tune`: the variant, threads and provider of a model on this machine, and why. One file for each model.

    <home>/choices/<name>.json

A choice belongs to weights. It is ignored when its variant is gone or was made of others, and it names the machine
that it was measured on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from foundry_lite import machine as devices
from foundry_lite.catalog.recipe import Provider
from foundry_lite.catalog.report import Measured, Quality
from foundry_lite.errors import StorageFull
from foundry_lite.store.manifest import Manifest

log = logging.getLogger(__name__)

_SCHEMA = 1
_Kind = TypeVar("_Kind", bound="Chosen")


class Constraints(Struct, frozen=True, omit_defaults=True):
    """Constraints of a choice. ``max_memory`` is the worker's peak in bytes, ``max_ttft`` a median in milliseconds.

    ``min_quality`` is the share of the source that must be kept (`foundry_lite.tuning.choosing.kept_share`).
    """

    streams: int
    prompt_tokens: int
    new_tokens: int
    rounds: int
    max_memory: int | None = None
    max_ttft: float | None = None
    min_quality: float | None = None


class Trial(Struct, frozen=True, omit_defaults=True):
    """A trial of the table: a variant with a number of threads on a provider.

    ``measured`` has the medians over the rounds whose figures are in ``ttft_rounds`` (ms) and ``system_rounds``
    (tokens/s). ``refused`` has a sentence for each constraint that is not met; ``failed`` is why there are no figures.
    ``dominated_by`` names a trial that is nowhere worse and somewhere better.
    """

    variant: str
    provider: Provider
    threads: int
    size_bytes: int
    quality: Quality | None = None
    measured: Measured | None = None
    ttft_rounds: tuple[float, ...] = ()
    system_rounds: tuple[float, ...] = ()
    refused: tuple[str, ...] = ()
    failed: str = ""
    dominated_by: str = ""

    @property
    def label(self) -> str:
        """Such as ``cpu-int4 with 2 threads`` or ``cpu-int4 with 2 threads on openvino``."""
        if not self.threads:  # it was never run
            return self.variant
        own = Provider(self.variant.partition("-")[0])
        where = "" if self.provider is own else f" on {self.provider}"
        return f"{self.variant} with {self.threads} {'thread' if self.threads == 1 else 'threads'}{where}"


class Chosen(Struct, frozen=True):
    """A decision of `tune`. ``weights`` is the measured `Manifest.weights_digest`, ``machine`` the one it ran on."""

    schema: int
    variant: str
    threads: int
    provider: Provider
    weights: str
    machine: dict[str, str | int]

    @property
    def is_of_this_machine(self) -> bool:
        """Return whether it was measured on this processor and core count; only then do threads and provider hold."""
        here = devices.probe_machine().as_dict()
        return all(self.machine.get(name) == here[name] for name in ("processor", "cores"))

    def fits(self, manifest: Manifest) -> bool:
        """Return whether the choice is of this variant, of these weights."""
        return (self.variant, self.weights) == (manifest.variant, manifest.weights_digest)


class Choice(Chosen, frozen=True):
    """The decision with its evidence."""

    constraints: Constraints
    table: tuple[Trial, ...]
    reason: str
    date: str
    versions: dict[str, str]
    command: str


def new_choice(taken: Trial, table: tuple[Trial, ...], constraints: Constraints, **facts: str) -> Choice:
    """Return the choice of ``taken``, which has figures; ``facts`` are its weights, reason and command."""
    assert taken.measured is not None
    return Choice(
        schema=_SCHEMA,
        variant=taken.variant,
        threads=taken.threads,
        provider=taken.provider,
        constraints=constraints,
        table=table,
        date=taken.measured.date,
        machine=taken.measured.machine,
        versions=taken.measured.versions,
        **facts,
    )


class Choices:
    """The choices below one folder. Nothing is cached."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, name: str) -> Chosen | None:
        """Return what was decided for a model; ``None`` when nothing was, or nothing that this version can read."""
        return self._read(name, Chosen)

    def explain(self, name: str) -> Choice | None:
        """Return the decision with its evidence."""
        return self._read(name, Choice)

    def write(self, name: str, choice: Choice) -> None:
        """Write a choice in place of the one before it, whole or not at all. Raises `StorageFull`."""
        path = self._path(name)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(choice), indent=1) + b"\n")
            draft.replace(path)
        except OSError as error:
            raise StorageFull.at_home(self._root, error) from error
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def keep_only(self, name: str, variants: Collection[str]) -> None:
        """Forget the choice for a model when its variant is not among ``variants``."""
        chosen = self.find(name)
        if chosen is not None and chosen.variant not in variants:
            with suppress(OSError):
                self._path(name).unlink(missing_ok=True)

    def _read(self, name: str, kind: type[_Kind]) -> _Kind | None:
        try:
            choice = msgspec.json.decode(self._path(name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.debug("ignored %s: %s", self._path(name), error)
            return None
        return choice if choice.schema == _SCHEMA else None

    def _path(self, name: str) -> Path:
        return self._root / f"{name}.json"
