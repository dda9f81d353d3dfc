"""Several generations as one source: their choices are counted on, and one failure ends all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from foundry_lite.engine.client.generation import Generation
from foundry_lite.errors import EngineDied
from foundry_lite.generation import Delta, Finish
from foundry_lite.server.generation.multi_prompt import Bundle


def generations(closed: list[int]) -> list[Generation]:
    made = [Generation(2, None, lambda number=number: closed.append(number)) for number in range(3)]  # type: ignore[misc]
    for number, generation in enumerate(made):
        generation.prompt_tokens = number + 1
        generation.preparation["tokenize"] = 0.5
    made[0].preparation["load"] = 2.0  # the others find the model there
    return made


def test_choices_are_counted_on_from_one_prompt_to_the_next() -> None:
    async def work() -> None:
        closed: list[int] = []
        parts = generations(closed)
        bundle = Bundle(parts, 2)
        assert (bundle.prompt_tokens, bundle.preparation) == (6, {"load": 2.0, "tokenize": 1.5})
        for number, part in enumerate(parts):
            for choice in range(2):
                part.put(Delta(f"{number}{choice}", choice=choice))
                part.put(Delta(finish=Finish.STOP, choice=choice))
        deltas = [delta async for batch in bundle.batches() for delta in batch]
        bundle.close()
        assert sorted((delta.choice, delta.text) for delta in deltas if delta.text) == [
            (0, "00"),
            (1, "01"),
            (2, "10"),
            (3, "11"),
            (4, "20"),
            (5, "21"),
        ]
        assert sum(delta.finish is not None for delta in deltas) == 6
        assert closed == [], "what has ended is not cancelled"

    asyncio.run(work())


def test_what_one_says_is_passed_on_while_the_others_are_silent() -> None:
    async def work() -> None:
        closed: list[int] = []
        parts = generations(closed)
        bundle = Bundle(parts, 2)
        parts[1].put(Delta("x"))
        async for batch in bundle.batches():
            assert [(delta.choice, delta.text) for delta in batch] == [(2, "x")]
            break
        bundle.close()
        assert closed == [0, 1, 2]

    asyncio.run(work())


class _Odd(Generation):
    def batches(self) -> AsyncIterator[list[Delta]]:
        raise RuntimeError("a fault of ours")


def test_a_fault_of_ours_leaves_nobody_waiting() -> None:
    async def work() -> None:
        bundle = Bundle([_Odd(1, None, lambda: None), Generation(1, None, lambda: None)], 1)
        with pytest.raises(RuntimeError, match="of ours"):
            await asyncio.wait_for(anext(bundle.batches()), 5)
        bundle.close()

    asyncio.run(work())


def test_the_first_failure_ends_the_bundle() -> None:
    async def work() -> None:
        closed: list[int] = []
        parts = generations(closed)
        bundle = Bundle(parts, 2)
        parts[2].put(EngineDied("gone"))
        with pytest.raises(EngineDied):
            async for _ in bundle.batches():
                pass
        bundle.close()
        assert closed == [0, 1]

    asyncio.run(work())
