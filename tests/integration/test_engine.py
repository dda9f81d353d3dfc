"""One worker under load: what it holds, what it gives back, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from foundry_lite.catalog.card import Defaults
from foundry_lite.engine.client.engine import Engine, EngineOptions, load_engine
from foundry_lite.errors import EngineBusy, InvalidRequest, QueueFull
from foundry_lite.generation import Delta, Finish, GenerationRequest, Grammar, GrammarKind, Sampling, Text, Tokens
from tests import tiny_model

MB = 2**20
GREEDY = Sampling(temperature=0.0)


def request(prompt: list[int], new: int, **more: Any) -> GenerationRequest:
    return GenerationRequest(Tokens(tuple(prompt)), GREEDY, new, ignore_eos=True, **more)


def prompt_of(length: int, seed: int) -> list[int]:
    drawn = random.Random(seed)
    return [drawn.randrange(256) for _ in range(length)]


@asynccontextmanager
async def engine_of(folder: Path, **options: Any) -> AsyncIterator[Engine]:
    engine = await load_engine(folder, EngineOptions(**{"threads": 1, **options}))
    try:
        yield engine
    finally:
        await engine.close()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


async def collect(engine: Engine, one: GenerationRequest) -> list[Delta]:
    async with await engine.begin(one) as generation:
        return [delta async for delta in generation]


async def churn(engine: Engine, seed: int) -> None:
    """One request, which may be left at any moment: before its admission, in its prompt, in its answer."""
    drawn = random.Random(seed)
    one = request(prompt_of(drawn.randrange(1, 300), drawn.randrange(20)), drawn.randrange(1, 60))
    task = asyncio.create_task(collect(engine, one))
    if drawn.random() < 0.6:
        await asyncio.sleep(drawn.random() * 0.02)
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        assert task.result()[-1].finish is Finish.LENGTH


def test_a_thousand_requests_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    async def work() -> None:
        async with engine_of(tiny_model.install(tmp_path, "mine"), slots=8, queue=64, kv_bytes=4 * MB) as engine:
            process = psutil.Process(engine.pid)
            await asyncio.gather(*(churn(engine, seed) for seed in range(40)))
            handles, memory, threads = process.num_fds(), process.memory_info().rss, process.num_threads()
            ours = psutil.Process().num_fds()
            for start in range(40, 1000, 24):
                await asyncio.gather(*(churn(engine, seed) for seed in range(start, start + 24)))
            state = await engine.inspect()
            assert (state.running, state.waiting, state.promised_bytes) == (0, 0, 0)
            assert state.kept_bytes <= engine.kv_bytes
            assert engine.open_requests == 0
            assert process.num_fds() == handles
            assert psutil.Process().num_fds() == ours
            assert process.num_threads() <= threads
            assert process.children() == []
            assert process.memory_info().rss - memory < 16 * MB
            answers = await asyncio.gather(*(collect(engine, request([1, 2, 3], 20)) for _ in range(8)))
            assert all(sum(delta.tokens for delta in answer) == 20 for answer in answers)

    run(work)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the pages")
def test_memory_stays_within_the_stated_budget_with_64_clients(tmp_path: Path) -> None:
    async def work() -> None:
        folder = tiny_model.install(tmp_path, "mine", context=4096, head_size=256)
        async with engine_of(folder, slots=16, context_length=4096, kv_bytes=160 * MB) as engine:
            process = psutil.Process(engine.pid)
            await collect(engine, request(prompt_of(200, 0), 4))
            loaded = process.memory_info().rss
            peak = 0

            async def watch() -> None:
                nonlocal peak
                while True:
                    peak = max(peak, process.memory_info().rss)
                    await asyncio.sleep(0.002)

            async def client(number: int) -> None:
                for turn in range(2):
                    await collect(engine, request(prompt_of(900 + 13 * number + turn, number), 40))

            watching = asyncio.create_task(watch())
            await asyncio.gather(*(client(number) for number in range(64)))
            watching.cancel()
            budget = loaded + engine.kv_bytes
            assert engine.kv_bytes == pytest.approx(160 * MB, rel=0.01)
            assert 0.9 * budget <= peak <= 1.1 * budget

    run(work)


def test_what_can_never_fit_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    async def work() -> None:
        folder = tiny_model.install(tmp_path, "mine", context=4096)
        async with engine_of(folder, context_length=4096, kv_bytes=256 * 1024) as engine:
            assert engine.context_length == 1024  # 256 bytes a token
            for new in (None, 1, 5000):
                with pytest.raises(InvalidRequest) as refused:
                    await engine.begin(GenerationRequest(Tokens((1,) * 1024), GREEDY, new))
                assert refused.value.code == "context_length_exceeded"
            for new in (24, 25, 5000):
                answer = await collect(engine, request([1] * 1000, new))
                assert answer[-1].finish is Finish.LENGTH
                assert answer[-1].usage is not None and answer[-1].usage.completion_tokens == 24
            with pytest.raises(InvalidRequest) as beyond:
                await engine.begin(GenerationRequest(Tokens((1,)), Sampling(logit_bias={5000: 1.0})))
            assert beyond.value.param == "logit_bias"

    run(work)


def test_beyond_its_queue_an_engine_is_busy_and_choices_count(tmp_path: Path) -> None:
    async def work() -> None:
        folder = tiny_model.install(tmp_path, "mine", endless=True, work=2000)
        async with engine_of(folder, slots=2, queue=2) as engine:
            held = await engine.begin(request([1], 400))
            with pytest.raises(EngineBusy):
                await engine.begin(request([1], 5, choices=4))
            three = await engine.begin(request([1], 5, choices=3))
            held.close()
            finishes = [
                delta.choice for batch in [one async for one in three.batches()] for delta in batch if delta.finish
            ]
            assert sorted(finishes) == [0, 1, 2]
            with pytest.raises(InvalidRequest) as refused:
                await engine.begin(request([1], 5, choices=5))
            assert refused.value.param == "n"

    run(work)


def slow_grammar(odd: int) -> Grammar:
    """A valid schema that takes about half a second to compile, and another one for each number."""
    number = {"type": "number", "minimum": -(10**12), "maximum": 10**12, "multipleOf": 99991 - odd}
    numbers = {name: {**number, "maximum": 10**12 - place} for place, name in enumerate("ab")}
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps({"type": "object", "properties": numbers}))


def test_requests_and_cancellations_pass_a_grammar_that_compiles_slowly(tmp_path: Path) -> None:
    async def work() -> None:
        async with engine_of(tiny_model.install(tmp_path, "mine"), slots=2, queue=1) as engine:
            await collect(engine, request([1], 2))
            slow = [asyncio.create_task(engine.begin(request([1], 2, grammar=slow_grammar(one)))) for one in range(3)]
            await asyncio.sleep(0)  # they are sent
            with pytest.raises(QueueFull):
                await engine.begin(request([1], 2))
            slow[1].cancel()  # it waits for the first
            await asyncio.gather(slow[1], return_exceptions=True)
            await collect(engine, request([1], 2))
            assert (await engine.inspect()).waiting == 2
            slow[0].cancel()  # it is being compiled, and is so to the end
            await asyncio.gather(slow[0], return_exceptions=True)
            assert (await engine.inspect()).waiting == 1
            both = await asyncio.gather(collect(engine, request([1], 2)), collect(engine, request([1], 2)))
            assert all(answer[-1].finish for answer in both)
            assert not slow[2].done()
            async with await slow[2] as generation:
                assert [delta async for delta in generation][-1].finish
            again = asyncio.create_task(collect(engine, request([1], 2, grammar=slow_grammar(2))))
            new = asyncio.create_task(engine.begin(request([1], 2, grammar=slow_grammar(3))))
            await again  # what is compiled need not stand in line
            assert not new.done()
            new.cancel()
            await asyncio.gather(new, return_exceptions=True)
            state = await engine.inspect()
            assert (state.running, state.waiting, engine.open_requests) == (0, 0, 0)

    run(work)


def test_a_cancelled_request_frees_its_slot_within_a_step(tmp_path: Path) -> None:
    async def work() -> None:
        folder = tiny_model.install(tmp_path, "mine", endless=True, work=3000, context=2048)
        async with engine_of(folder, slots=1) as engine:
            first = await engine.begin(request([1], 1500))
            gaps, last = [], time.monotonic()
            async for _ in first.batches():
                gaps.append(time.monotonic() - last)
                last = time.monotonic()
                if len(gaps) == 20:
                    break
            first.close()
            began = time.monotonic()
            state = await engine.inspect()
            assert (state.running, state.waiting) == (0, 0)
            assert time.monotonic() - began < 3 * statistics.median(gaps) + 0.05

    run(work)


def test_an_idle_worker_leaves_the_processor_alone(tmp_path: Path) -> None:
    async def work() -> None:
        async with engine_of(tiny_model.install(tmp_path, "mine", work=2000), threads=2) as engine:
            await collect(engine, request([1] * 100, 50))
            process = psutil.Process(engine.pid)
            await asyncio.sleep(0.5)  # threads may spin for a moment
            before = sum(process.cpu_times()[:2])
            await asyncio.sleep(3)
            assert sum(process.cpu_times()[:2]) - before < 0.03

    run(work)


def test_what_a_request_leaves_open_is_as_the_models_own_configuration_says(tmp_path: Path) -> None:
    """The model says the alphabet."""
    own = Defaults(temperature=0.0, stop=("g",), max_new_tokens=9, suppressed=(ord("q") - ord("!"),), min_tokens=3)
    any_text = Grammar(GrammarKind.REGEX, "[a-z]{7}")
    asked: list[tuple[GenerationRequest, str, Finish]] = [
        (GenerationRequest(Text("!")), "abcdef", Finish.STOP),
        (GenerationRequest(Text("!"), stop=("e",)), "abcd", Finish.STOP),
        (GenerationRequest(Text("!"), stop=("b",)), "abcdef", Finish.STOP),  # not in the first three tokens
        (GenerationRequest(Text("!"), Sampling(min_tokens=0), stop=("b",)), "a", Finish.STOP),
        (GenerationRequest(Text("i"), max_new_tokens=4), "jklm", Finish.LENGTH),
        (GenerationRequest(Text("h")), "ijklmnop!", Finish.LENGTH),  # what is likeliest after "q" is "!"
        (GenerationRequest(Text("!"), grammar=any_text), "abcdefg", Finish.STOP),  # a form is kept
    ]

    async def work() -> None:
        async with engine_of(tiny_model.install(tmp_path, "mine"), defaults=own) as engine:
            for one, text, finish in asked:
                deltas = await collect(engine, one)
                assert ("".join(delta.text for delta in deltas), deltas[-1].finish) == (text, finish)

    run(work)
