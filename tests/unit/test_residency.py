"""Which models are in memory, where the order of events matters: real workers, on the event loop of the test."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import wraps
from pathlib import Path

import pytest

from foundry_lite import machine
from foundry_lite.catalog.reference import ModelRef, parse_reference
from foundry_lite.residency import manager as residency_module
from foundry_lite.residency.manager import Residency
from foundry_lite.settings import Settings
from foundry_lite.store.store import Artifact, Store

ALPHABET = parse_reference("alphabet")


def on_a_loop(test: Callable[[Path], Coroutine[None, None, None]]) -> Callable[[Path], None]:
    @wraps(test)
    def run(home: Path) -> None:
        asyncio.run(test(home))

    return run


class Unreadable(Store):
    """A store that cannot be read from the moment on in which somebody says so."""

    is_readable = True
    asked = 0

    def resolve(self, ref: ModelRef) -> Artifact:
        self.asked += 1
        if not self.is_readable:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().resolve(ref)


@on_a_loop
async def test_a_model_that_was_loaded_anew_is_not_forgotten_when_the_old_one_is_swept_away(home: Path) -> None:
    """A sweep that waits for one worker's end has a list of residents that are out of date by then."""
    residency = Residency(Store(home), Settings(home=home))
    alphabet = Store(home).resolve(ALPHABET)
    await residency.engine(alphabet)
    (old,) = residency.residents
    await residency.unload(alphabet)
    engine = await residency.engine(alphabet)
    await residency._unload(old, "died")
    assert residency.is_loaded(alphabet)
    await residency.close()
    assert engine.died.is_set()


@on_a_loop
async def test_who_is_handed_a_model_that_is_unloaded_in_that_moment_gets_it_loaded_again_and_kept(home: Path) -> None:
    residency = Residency(Store(home), Settings(home=home))
    alphabet = Store(home).resolve(ALPHABET)

    async def unload_at_once() -> None:
        await residency.engine(alphabet)
        await residency.unload(alphabet)

    _, engine = await asyncio.gather(unload_at_once(), residency.engine(alphabet, timedelta(minutes=5)))
    (resident,) = residency.residents
    assert (engine.is_ending, resident.wanted) == (False, timedelta(minutes=5))
    await residency.close()


@on_a_loop
async def test_models_are_looked_after_again_once_the_store_can_be_read_again(home: Path) -> None:
    store = Unreadable(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(residency_module, "_SWEEP_SECONDS", 0.01)
        residency = Residency(store, Settings(home=home))
        engine = await residency.engine(store.resolve(ALPHABET), timedelta(seconds=0.1))
        store.is_readable, store.asked = False, 0
        while not store.asked:
            await asyncio.sleep(0.01)
        store.is_readable = True
        async with asyncio.timeout(10):
            while residency.residents:
                await asyncio.sleep(0)
    assert not engine.died.is_set()  # it is on its way out, and the sweep that ends it is cancelled
    await residency.close()
    assert engine.died.is_set()
    assert not machine.process_exists(engine.pid)  # not even as one that nobody waited for
