"""The engine's tokens are those of onnxruntime-genai's own generator, and in reproducible mode nothing moves them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.engine.runners.base import Logits
from foundry_lite.engine.runners.ort import OrtRunner
from foundry_lite.engine.sampling.sampler import Choice, SequenceSampler
from foundry_lite.engine.scheduling import batch_invariance
from foundry_lite.engine.scheduling.prompt_lookup import PromptLookup
from foundry_lite.engine.scheduling.scheduler import Scheduler
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.worker.output_processor import OutputProcessor
from foundry_lite.engine.worker.sequence import Turn
from foundry_lite.generation import Delta, Sampling
from foundry_lite.store.store import Store
from tests import source_model
from tests.support import cli

CONTEXT = 3200
GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with *mine* in int4, in blocks of 32 and of 128."""
    home = tmp_path_factory.mktemp("home")
    source = source_model.write(
        home / "source", max_position_embeddings=CONTEXT, hidden_size=128, intermediate_size=256
    )
    result = cli(home, "build", str(source), "--name", "mine", "--variant", "cpu-int4", "--variant", "cpu-int4-b128")
    assert result.returncode == 0, result.stderr
    return Store(home)


@pytest.fixture(scope="module")
def block_32(store: Store) -> Path:
    return store.resolve(parse_reference("mine:cpu-int4")).folder


@pytest.fixture(scope="module")
def block_128(store: Store) -> Path:
    return store.resolve(parse_reference("mine:cpu-int4-b128")).folder


@dataclass(slots=True, eq=False)
class ReadResult(Turn):
    """A turn that remembers its tokens."""

    heard: list[int] = field(default_factory=list)

    def accept(self, choice: Choice) -> Delta:
        self.heard.append(choice.token)
        return Turn.accept(self, choice)


class Served:
    """A runner with a scheduler, and the tokens that each turn was given."""

    def __init__(self, folder: Path, *, slots: int = 4, steady: bool = False, threads: int = 1) -> None:
        self.runner = OrtRunner(folder, threads=threads, slots=2 * slots, context_length=CONTEXT)
        if steady:
            batch_invariance.settle(self.runner, slots)
        self._text = TextModel(folder)
        self.scheduler = Scheduler(self.runner, most=slots, kv_tokens=10**6, is_reproducible=steady)
        self.tokens: dict[int, list[int]] = {}

    def begin(self, number: int, prompt: list[int], new: int, sampling: Sampling = GREEDY, guesses: int = 0) -> None:
        turn = ReadResult(
            number,
            prompt,
            SequenceSampler(sampling, prompt=prompt),
            OutputProcessor(self._text.detokenizer(), ()),
            frozenset(),
            new,
            lookup=PromptLookup(prompt, guesses) if guesses else None,
        )
        self.tokens[number] = turn.heard
        self.scheduler.begin(turn)

    def finish(self) -> dict[int, list[int]]:
        while not self.scheduler.is_idle:
            self.scheduler.step()
        return self.tokens


def prompt_of(seed: int, length: int, vocabulary: int) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).integers(3, vocabulary, length).tolist()
    return drawn


def generated_by_genai(model: og.Model, prompt: list[int], new: int) -> list[int]:
    """Greedy tokens of the stock generator, up to its end of turn."""
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=len(prompt) + new, do_sample=False)
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.array(prompt, np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    tokens: list[int] = generator.get_sequence(0).tolist()[len(prompt) :]
    return tokens


ARRIVALS = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 2000) | st.integers(1, 300), st.integers(0, 30)),
    min_size=1,
    max_size=7,
)


@pytest.mark.build
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrivals=ARRIVALS)
def test_greedy_tokens_are_those_of_genai_in_any_mix_of_arrivals(
    block_32: Path, arrivals: list[tuple[int, int, int]]
) -> None:
    """Seeds, prompt lengths from 1 to 2,000, and how many steps pass before the next one arrives; int4 block 32."""
    model = og.Model(str(block_32))
    served = Served(block_32)
    prompts = [prompt_of(seed, length, served.runner.vocabulary) for seed, length, _ in arrivals]
    for number, (prompt, (_, _, pause)) in enumerate(zip(prompts, arrivals, strict=True)):
        served.begin(number, prompt, 12)
        for _ in range(pause):
            served.scheduler.step()
    ours = served.finish()
    for number, prompt in enumerate(prompts):
        theirs = generated_by_genai(model, prompt, 12)
        assert ours[number][: len(theirs)] == theirs, f"prompt of {len(prompt)} tokens"


def requests(vocabulary: int) -> list[tuple[list[int], Sampling]]:
    """Twenty requests with seeds; many begin alike, so that there is something to take over."""
    shared = prompt_of(99, 200, vocabulary)
    found = []
    for number in range(20):
        own = prompt_of(number, 5 + 17 * number, vocabulary)
        prompt = [*shared[: 40 * (number % 6)], *own]
        found.append((prompt, Sampling(temperature=0.9, top_p=0.95, top_k=0, seed=number)))
    return found


@pytest.mark.build
@pytest.mark.parametrize(("variant", "threads"), [("block_32", 2), ("block_128", 1)])
def test_in_reproducible_mode_neither_load_nor_order_nor_cache_changes_a_token(
    variant: str, threads: int, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(variant)
    alone = Served(folder, slots=5, steady=True, threads=threads)
    wanted = requests(alone.runner.vocabulary)
    for number, (prompt, sampling) in enumerate(wanted):
        fresh = (
            Served(folder, slots=5, steady=True, threads=threads) if number < 3 else alone
        )  # no cache at all, and a warm one
        fresh.begin(number, prompt, 30, sampling)
        alone.tokens[number] = fresh.finish()[number]
    for order_seed in range(2):
        loaded = Served(folder, slots=5, steady=True, threads=threads)
        random = np.random.default_rng(order_seed)
        for number in random.permutation(20).tolist():
            prompt, sampling = wanted[number]
            loaded.begin(number, prompt, 30, sampling)
            for _ in range(int(random.integers(0, 12))):
                loaded.scheduler.step()
        assert loaded.finish() == {number: alone.tokens[number] for number in loaded.tokens}


def forced(folder: Path, prompts: list[list[int]], answers: list[list[int]], *, together: bool) -> Logits:
    """Logits ``(steps, prompts, vocabulary)`` of given answers, decoded alone or as rows of one batch."""
    runner = OrtRunner(folder, threads=1, slots=len(prompts), context_length=CONTEXT)
    for slot, prompt in enumerate(prompts):
        runner.prefill(slot, prompt)
    steps = []
    for tokens in zip(*answers, strict=True):
        batches = [range(len(prompts))] if together else [[slot] for slot in range(len(prompts))]
        steps.append(
            np.concatenate([runner.decode(batch, [tokens[slot] for slot in batch]).copy() for batch in batches])
        )
    return np.stack(steps)


@pytest.mark.build
def test_without_that_mode_only_near_ties_differ(block_128: Path) -> None:
    """Where a row alone and in a batch first differ, the two tokens are closer than the kernels' own difference."""
    alone, loaded = Served(block_128, slots=12), Served(block_128, slots=12)
    prompts = [prompt_of(seed, 20 + seed, alone.runner.vocabulary) for seed in range(12)]
    for number, prompt in enumerate(prompts):
        loaded.begin(number, prompt, 40)
        alone.begin(number, prompt, 40)
        alone.finish()
    ours, theirs = alone.tokens, loaded.finish()
    answers = [ours[number] for number in range(12)]
    logits = forced(block_128, prompts, answers, together=False)
    kernels = float(np.abs(logits - forced(block_128, prompts, answers, together=True)).max())
    assert 0 < kernels < 0.05 * float(np.ptp(logits))  # they do differ, and by little
    parted = 0
    for number in range(12):
        one, other = ours[number], theirs[number]
        at = next((at for at in range(1, 40) if one[at] != other[at]), None)
        if at is not None:
            parted += 1
            row = logits[at - 1, number]
            assert row[one[at]] - row[other[at]] <= 2 * kernels
    assert parted < 12


@pytest.mark.build
def test_guessing_ahead_in_reproducible_mode_is_exact_or_off(block_32: Path) -> None:
    plain, guessing = Served(block_32, steady=True), Served(block_32, steady=True)
    guesses = 4 if batch_invariance.speculates_alike(guessing.runner) else 0
    repeated = prompt_of(1, 12, plain.runner.vocabulary) * 6
    for served, most in ((plain, 0), (guessing, guesses)):
        served.begin(0, repeated, 60, guesses=most)
        served.finish()
    assert plain.tokens == guessing.tokens
