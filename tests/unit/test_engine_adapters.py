"""Which adapters a worker holds: shared loads, failures, and what is unloaded when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from foundry_lite.engine.client.adapters import MOST, AdapterFile, Adapters
from foundry_lite.engine.ipc.messages import AdapterReady, Command, LoadAdapter, UnloadAdapter
from foundry_lite.errors import EngineDied, LoadFailed


def file(name: str) -> AdapterFile:
    return AdapterFile(name, Path(f"{name}.onnx_adapter"))


async def load(adapters: Adapters, *names: str) -> None:
    for name in names:
        task = asyncio.ensure_future(adapters.load(file(name)))
        await asyncio.sleep(0)
        if name not in adapters.names:
            adapters.hear(AdapterReady(name))
        await task


def unloaded(sent: list[Command]) -> list[str]:
    return [one.name for one in sent if isinstance(one, UnloadAdapter)]


def test_those_who_ask_at_once_share_one_load_and_whoever_leaves_does_not_spoil_it() -> None:
    async def check() -> None:
        sent: list[Command] = []
        adapters = Adapters(sent.append)
        tasks = [asyncio.ensure_future(adapters.load(file("a"))) for _ in range(3)]
        await asyncio.sleep(0)
        assert sent == [LoadAdapter("a", "a.onnx_adapter")]
        assert not adapters.names
        tasks[0].cancel()
        await asyncio.sleep(0)
        adapters.hear(AdapterReady("a"))
        await asyncio.gather(*tasks[1:])
        await adapters.load(file("a"))
        assert adapters.names == ("a",)
        assert len(sent) == 1

    asyncio.run(check())


def test_a_refused_adapter_fails_all_who_wait_and_is_tried_again() -> None:
    async def check() -> None:
        sent: list[Command] = []
        adapters = Adapters(sent.append)
        tasks = [asyncio.ensure_future(adapters.load(file("a"))) for _ in range(2)]
        await asyncio.sleep(0)
        adapters.hear(AdapterReady("a", "it does not fit"))
        for one in tasks:
            with pytest.raises(LoadFailed, match="it does not fit"):
                await one
        await load(adapters, "a")
        assert len(sent) == 2

    asyncio.run(check())


def test_a_dead_worker_fails_those_who_wait() -> None:
    async def check() -> None:
        adapters = Adapters(lambda _: None)
        await load(adapters, "a")
        waiting = asyncio.ensure_future(adapters.load(file("b")))
        await asyncio.sleep(0)
        adapters.fail(EngineDied("gone"))
        with pytest.raises(EngineDied):
            await waiting
        assert adapters.names == ()

    asyncio.run(check())


def test_what_was_used_longest_ago_goes_first_and_what_is_in_use_stays() -> None:
    async def check() -> None:
        sent: list[Command] = []
        adapters = Adapters(sent.append)
        names = [f"a{number}" for number in range(MOST)]
        await load(adapters, *names)
        adapters.trim(())
        assert unloaded(sent) == []
        await load(adapters, "a0", "new", "newer")  # a0 is used again
        adapters.trim({"a1", None})
        assert unloaded(sent) == ["a2", "a3"]
        assert adapters.names == ("a1", *names[4:], "a0", "new", "newer")
        await load(adapters, "newest")
        adapters.trim(adapters.names)
        assert len(adapters.names) == MOST + 1

    asyncio.run(check())


def test_what_is_removed_goes_unless_it_is_in_use_or_still_loading() -> None:
    async def check() -> None:
        sent: list[Command] = []
        adapters = Adapters(sent.append)
        await load(adapters, "a", "b")
        loading = asyncio.ensure_future(adapters.load(file("c")))
        await asyncio.sleep(0)
        adapters.drop({"a", "b", "c"}, {"b"})
        assert unloaded(sent) == ["a"]
        adapters.hear(AdapterReady("c"))
        await loading
        assert adapters.names == ("b", "c")

    asyncio.run(check())
