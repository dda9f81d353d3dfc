"""The scheduler on a runner that answers from a script: who runs when, and that no slot is ever lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_lite.engine.runners.base import Logits
from foundry_lite.engine.sampling.sampler import SequenceSampler
from foundry_lite.engine.scheduling.prompt_lookup import PromptLookup
from foundry_lite.engine.scheduling.scheduler import STEADY_CHUNK, Scheduler
from foundry_lite.engine.text.tokenizer import Detokenizer, TextModel
from foundry_lite.engine.tool_calls.parser import ToolCallParser
from foundry_lite.engine.worker.output_processor import OutputProcessor
from foundry_lite.engine.worker.prompt_logprobs import PromptScores
from foundry_lite.engine.worker.sequence import Turn
from foundry_lite.generation import Delta, Finish, Sampling, Usage, join_calls
from tests.unit.byte_tokenizer import END, byte_tokenizer, write_text_model

TOKENIZER = byte_tokenizer()
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=0)


class ScriptedRunner:
    """Answers every prompt with the same bytes, then ends the turn; remembers what it was asked.

    It has no state but the tokens of each slot, as a real one: what comes next is the script after the longest part of
    it that the slot ends with. Prompts hold nothing of the script.
    """

    context_length, vocabulary, kv_bytes_per_token, kv_granule = 4096, 266, 100, 4
    can_copy = can_rewind = can_extend = can_verify = True
    uses_companion = False
    row_counts: Sequence[int] = range(1, 100)

    def __init__(self, slots: int = 2, answer: bytes = LETTERS) -> None:
        self.slots = slots
        self.prefills: list[tuple[int, int]] = []  # slot, tokens
        self.decodes: list[list[int]] = []  # slots
        self.verified: list[int] = []  # tokens
        self.copies: list[tuple[int, int, int]] = []
        self.tokens: list[list[int]] = [[] for _ in range(slots)]
        self._script = [*answer, END]

    def prefill(self, slot: int, tokens: Sequence[int]) -> Logits:
        assert tokens
        self.prefills.append((slot, len(tokens)))
        self.tokens[slot] += tokens
        return self._next(slot)

    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> Logits:
        assert len(set(slots)) == len(slots) == len(tokens)
        self.decodes.append(list(slots))
        for slot, token in zip(slots, tokens, strict=True):
            self.tokens[slot].append(token)
        return np.stack([self._next(slot) for slot in slots])

    def verify(self, slot: int, tokens: Sequence[int]) -> Logits:
        self.verified.append(len(tokens))
        logits = []
        for token in tokens:
            self.tokens[slot].append(token)
            logits.append(self._next(slot))
        return np.stack(logits)

    def keep(self, slot: int, length: int) -> None:
        del self.tokens[slot][length:]

    def drop_companion(self) -> None:
        pass

    def copy(self, source: int, target: int, length: int) -> None:
        self.copies.append((source, target, length))
        self.tokens[target] = self.tokens[source][:length]

    def adapt(self, slot: int, adapter: str | None) -> None:
        assert not self.tokens[slot]

    def load_adapter(self, name: str, path: Path) -> None:
        raise NotImplementedError

    def unload_adapter(self, name: str) -> None:
        raise NotImplementedError

    def length(self, slot: int) -> int:
        return len(self.tokens[slot])

    def _next(self, slot: int) -> Logits:
        said, script = self.tokens[slot], self._script
        known = next(n for n in range(len(script) - 1, -1, -1) if said[len(said) - n :] == script[:n])
        logits = np.zeros(self.vocabulary, np.float32)
        logits[script[known]] = 1
        return logits


def scheduler_on(runner: ScriptedRunner, *, kv_tokens: int = 10**6, steady: bool = False) -> Scheduler:
    return Scheduler(runner, most=runner.slots, kv_tokens=kv_tokens, is_reproducible=steady)


def turn(
    number: int,
    prompt_tokens: int = 3,
    *,
    most: int = 100,
    stops: tuple[str, ...] = (),
    tools: bool = False,
    eos: int | None = END,
    prompt: list[int] | None = None,
    sampling: Sampling = GREEDY,
    guesses: int = 0,
) -> Turn:
    """A turn whose prompt has nothing in common with those of other numbers."""
    prompt = prompt or [128 + number % 120] * prompt_tokens
    eos_ids = frozenset() if eos is None else frozenset({eos})
    answer = OutputProcessor(
        Detokenizer(TOKENIZER), stops, tools=ToolCallParser() if tools else None, spared=sampling.min_tokens or 0
    )
    lookup = PromptLookup(prompt, guesses) if guesses else None
    return Turn(
        number, prompt, SequenceSampler(sampling, prompt=prompt, eos_ids=eos_ids), answer, eos_ids, most, lookup=lookup
    )


def step(scheduler: Scheduler) -> list[tuple[int, Delta]]:
    """One step in which nothing fails."""
    told = []
    for number, delta in scheduler.step():
        assert isinstance(delta, Delta)
        told.append((number, delta))
    return told


def finish(scheduler: Scheduler, number: int) -> tuple[str, Delta]:
    """Step until the turn ends; return its whole text and last delta."""
    text = ""
    for _ in range(1000):
        for one, delta in step(scheduler):
            if one == number:
                text += delta.text
                if delta.finish:
                    return text, delta
    raise AssertionError("the turn never ended")


def test_a_turn_gets_one_token_a_step_from_its_prefill_on() -> None:
    runner = ScriptedRunner(answer=b"AB")
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(7))
    texts = [[(number, delta.text, delta.finish) for number, delta in step(scheduler)] for _ in range(4)]
    assert texts == [[(7, "A", None)], [(7, "B", None)], [(7, "", Finish.STOP)], []]
    assert runner.prefills == [(0, 3)]
    assert runner.decodes == [[0], [0]]


def test_a_scheduler_without_turns_is_idle_and_does_nothing() -> None:
    runner = ScriptedRunner()
    scheduler = scheduler_on(runner)
    assert scheduler.is_idle
    assert step(scheduler) == []
    assert (runner.prefills, runner.decodes) == ([], [])


def test_first_come_is_first_served() -> None:
    scheduler = scheduler_on(ScriptedRunner(slots=1, answer=b"A"))
    for number in (3, 1, 2):
        scheduler.begin(turn(number))
    order = [number for _ in range(10) for number, delta in step(scheduler) if delta.finish]
    assert order == [3, 1, 2]


def test_never_more_turns_run_than_there_are_slots() -> None:
    runner = ScriptedRunner(slots=2)
    scheduler = scheduler_on(runner)
    for number in range(5):
        scheduler.begin(turn(number))
    for _ in range(12):
        step(scheduler)
        assert scheduler.active <= 2
    assert max(map(len, runner.decodes)) == 2


def test_turns_join_and_leave_between_steps() -> None:
    runner = ScriptedRunner(slots=2, answer=b"ABC")
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0, most=3))
    steps = [step(scheduler)]
    scheduler.begin(turn(1))
    steps += [step(scheduler) for _ in range(3)]
    scheduler.begin(turn(2))
    steps += [step(scheduler) for _ in range(6)]
    assert [[(number, delta.text) for number, delta in told] for told in steps] == [
        [(0, "A")],
        [(1, "A")],
        [(0, "B"), (1, "B")],
        [(0, "C"), (1, "C")],
        [(1, "")],
        [(2, "A")],
        [(2, "B")],
        [(2, "C")],
        [(2, "")],
        [],
    ]
    assert scheduler.is_idle


def test_a_long_prompt_is_read_in_chunks_of_one_a_step() -> None:
    runner = ScriptedRunner()
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0, 300))
    assert [bool(step(scheduler)) for _ in range(3)] == [False, False, True]
    assert runner.prefills == [(0, 128), (0, 128), (0, 44)]


@pytest.mark.parametrize(
    ("tokens", "chunks"), [(1, [1]), (127, [127]), (128, [128]), (129, [129]), (130, [128, 2]), (256, [128, 128])]
)
def test_chunks_hold_128_tokens_and_leave_no_token_alone(tokens: int, chunks: list[int]) -> None:
    runner = ScriptedRunner()
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0, tokens))
    assert finish(scheduler, 0)[1].usage == Usage(tokens, 27)
    assert [size for _, size in runner.prefills] == chunks


class SlowRunner(ScriptedRunner):
    """Takes its time, a chunk more than a step."""

    def prefill(self, slot: int, tokens: Sequence[int]) -> Logits:
        time.sleep(0.004)
        return super().prefill(slot, tokens)

    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> Logits:
        time.sleep(0.001)
        return super().decode(slots, tokens)


def test_running_turns_get_many_tokens_between_any_two_bursts_of_a_long_prompt() -> None:
    scheduler = scheduler_on(SlowRunner(answer=bytes(range(32, 127))))
    scheduler.begin(turn(0))
    step(scheduler)
    step(scheduler)
    scheduler.begin(turn(1, 128 * 200))
    told = "".join(
        "." if step(scheduler) else "#" for _ in range(150)
    )  # a chunk of a prompt that goes on tells nothing
    between = told.strip("#").replace("#", " ").split()
    assert len(between) >= 2
    assert all(len(run) >= 23 for run in between[1:-1])


def test_prompts_are_read_one_after_the_other() -> None:
    runner = ScriptedRunner(slots=3)
    scheduler = scheduler_on(runner)
    for number in range(3):
        scheduler.begin(turn(number, 200, most=1))
    for _ in range(6):
        step(scheduler)
    assert [size for _, size in runner.prefills] == [128, 72, 128, 72, 128, 72]


def test_in_reproducible_mode_prompts_are_cut_at_the_same_places_whoever_runs() -> None:
    for others in range(3):
        runner = ScriptedRunner(slots=3)
        scheduler = scheduler_on(runner, steady=True)
        for number in range(others):
            scheduler.begin(turn(number, 1))
        scheduler.begin(turn(9, 2 * STEADY_CHUNK + 5))
        finish(scheduler, 9)
        assert [size for _, size in runner.prefills[others:]] == [STEADY_CHUNK, STEADY_CHUNK, 5]


def test_a_turn_waits_until_the_memory_it_may_need_is_free_and_is_not_overtaken() -> None:
    scheduler = scheduler_on(ScriptedRunner(slots=4, answer=b"AB"), kv_tokens=100)
    scheduler.begin(turn(0, 10, most=50))
    scheduler.begin(turn(1, 10, most=50))
    scheduler.begin(turn(2, 2, most=2))
    order = []
    for _ in range(20):
        order += [number for number, delta in step(scheduler) if delta.finish]
        assert scheduler.promised_tokens + scheduler.kept_tokens <= 100
    assert order == [0, 1, 2] or order == [0, 2, 1]
    assert scheduler.is_idle


LONG = list(range(128, 228))


def test_what_an_ended_turn_computed_is_not_computed_again() -> None:
    runner = ScriptedRunner(answer=b"AB")
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0, prompt=LONG))
    finish(scheduler, 0)
    again = [*LONG, *b"AB", END, 250, 251]
    scheduler.begin(turn(1, prompt=again))
    usage = finish(scheduler, 1)[1].usage
    assert usage == Usage(105, 3, cached_tokens=102)
    assert runner.prefills == [(0, 100), (0, 3)]
    assert not runner.copies


def test_the_end_of_a_prompt_is_computed_for_its_logits_even_if_all_is_there() -> None:
    runner = ScriptedRunner(answer=b"AB")
    scheduler = scheduler_on(runner)
    for number in range(2):
        scheduler.begin(turn(number, prompt=LONG))
        assert finish(scheduler, number)[0] == "AB"
    assert [size for _, size in runner.prefills] == [100, 2]


def test_a_running_turn_shares_its_prompt_with_several_others() -> None:
    runner = ScriptedRunner(slots=4)
    scheduler = scheduler_on(runner)
    for number in range(4):
        scheduler.begin(turn(number, prompt=[*LONG, 230 + number]))
    while scheduler.active < 4:
        step(scheduler)
    texts = [finish(scheduler, 0)[0]]
    assert [length for _, _, length in runner.copies] == [99, 99, 99]
    assert {source for source, _, _ in runner.copies} == {0}
    assert texts[0].endswith("XYZ")


def test_a_short_common_beginning_leaves_the_ended_turn_as_it_is() -> None:
    runner = ScriptedRunner(slots=3, answer=b"AB")
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0, prompt=LONG))
    finish(scheduler, 0)
    scheduler.begin(turn(1, prompt=[*LONG[:40], 255]))
    finish(scheduler, 1)
    assert runner.copies == [(0, 1, 39)]
    scheduler.begin(turn(2, prompt=[*LONG, 251]))
    assert finish(scheduler, 2)[1].usage == Usage(101, 3, cached_tokens=99)


def test_the_longest_unused_is_forgotten_first() -> None:
    runner = ScriptedRunner(slots=2, answer=b"A")
    scheduler = scheduler_on(runner)
    for number in range(3):
        scheduler.begin(turn(number, 50))
        finish(scheduler, number)
    scheduler.begin(turn(1, 50, prompt=[129] * 50))
    finish(scheduler, 1)
    scheduler.begin(turn(0, 50, prompt=[128] * 50))
    finish(scheduler, 0)
    assert [size for _, size in runner.prefills] == [50, 50, 50, 2, 50]


def test_another_adapter_shares_nothing() -> None:
    runner = ScriptedRunner(slots=2, answer=b"A")
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0, prompt=LONG))
    finish(scheduler, 0)
    other = turn(1, prompt=LONG)
    other.adapter = "other"
    scheduler.begin(other)
    assert scheduler.uses("other")
    assert finish(scheduler, 1)[1].usage == Usage(100, 2)
    assert not scheduler.uses("other")


def test_in_reproducible_mode_only_whole_chunks_of_a_prompt_are_taken_over() -> None:
    runner = ScriptedRunner(answer=b"ABCDEFGH")
    scheduler = scheduler_on(runner, steady=True)
    scheduler.begin(turn(0, prompt=LONG))
    finish(scheduler, 0)
    scheduler.begin(turn(1, prompt=[*LONG, *b"ABCDEFGH", END, *LONG]))
    usage = finish(scheduler, 1)[1].usage
    assert usage is not None
    assert usage.cached_tokens == 100 // STEADY_CHUNK * STEADY_CHUNK


def test_a_guess_that_is_right_saves_steps_and_changes_nothing() -> None:
    prompt = [*b"ABCDEFGHIJ", 200, 201]
    texts = []
    for guesses in (0, 4):
        runner = ScriptedRunner()
        scheduler = scheduler_on(runner)
        scheduler.begin(turn(0, prompt=prompt, guesses=guesses))
        text, last = finish(scheduler, 0)
        texts.append((text, last.finish, last.usage))
        if guesses:
            assert runner.verified
            assert len(runner.decodes) + len(runner.verified) < 22
    assert texts[0] == texts[1] == (LETTERS.decode(), Finish.STOP, Usage(12, 27))


@pytest.mark.parametrize("most", range(1, 12))
def test_guesses_stop_at_the_limit(most: int) -> None:
    scheduler = scheduler_on(ScriptedRunner())
    scheduler.begin(turn(0, prompt=[*b"ABCDEFGHIJ", 200], guesses=8, most=most))
    text, last = finish(scheduler, 0)
    assert (text, last.finish) == (LETTERS.decode()[:most], Finish.LENGTH)


def test_guesses_that_are_wrong_change_nothing() -> None:
    runner = ScriptedRunner()
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0, prompt=[*b"ABCQQQABCQQQ", 200], guesses=3))
    text, last = finish(scheduler, 0)
    assert (text, last.usage) == (LETTERS.decode(), Usage(13, 27))
    assert runner.verified
    scheduler.begin(turn(1, prompt=[*b"ABCQQQABCQQQ", 200, *LETTERS, 201]))
    assert finish(scheduler, 1)[0] == LETTERS.decode()


def test_neither_the_end_of_turn_nor_a_stop_string_ends_an_answer_before_its_least_tokens() -> None:
    scheduler = scheduler_on(ScriptedRunner(answer=b"AB"))
    sampling = Sampling(temperature=0.0, top_p=1.0, top_k=0, min_tokens=4)
    scheduler.begin(turn(0, sampling=sampling, stops=("B",)))
    text, last = finish(scheduler, 0)
    assert text.startswith("AB")
    assert last.usage is not None
    assert last.usage.completion_tokens > 4


def test_the_end_of_turn_is_a_stop_and_is_counted() -> None:
    scheduler = scheduler_on(ScriptedRunner(answer=b"ABC"))
    scheduler.begin(turn(0, 5))
    text, last = finish(scheduler, 0)
    assert (text, last.finish, last.usage) == ("ABC", Finish.STOP, Usage(5, 4))
    assert last.timings is not None
    assert min(last.timings.queue, last.timings.prefill, last.timings.decode) >= 0


@pytest.mark.parametrize(("most", "text"), [(1, "A"), (3, "ABC")])
def test_the_most_tokens_are_a_length(most: int, text: str) -> None:
    scheduler = scheduler_on(ScriptedRunner())
    scheduler.begin(turn(0, 5, most=most))
    found, last = finish(scheduler, 0)
    assert (found, last.finish, last.usage) == (text, Finish.LENGTH, Usage(5, most))


def test_an_end_of_turn_at_the_very_limit_is_a_stop() -> None:
    scheduler = scheduler_on(ScriptedRunner(answer=b"AB"))
    scheduler.begin(turn(0, most=3))
    assert finish(scheduler, 0)[1].finish is Finish.STOP


def test_a_token_that_is_no_end_of_turn_for_this_request_does_not_end_it() -> None:
    scheduler = scheduler_on(ScriptedRunner(answer=b"AB"))
    scheduler.begin(turn(0, most=3, eos=None))
    text, last = finish(scheduler, 0)
    assert (text, last.finish, last.usage) == ("AB", Finish.LENGTH, Usage(3, 3))


def test_a_stop_string_ends_the_turn_before_it_is_shown() -> None:
    scheduler = scheduler_on(ScriptedRunner())
    scheduler.begin(turn(0, 5, stops=("DE",)))
    text, last = finish(scheduler, 0)
    assert (text, last.finish, last.usage) == ("ABC", Finish.STOP, Usage(5, 5))


def test_half_a_stop_string_is_shown_when_the_turn_ends() -> None:
    scheduler = scheduler_on(ScriptedRunner(answer=b"ABC"))
    scheduler.begin(turn(0, stops=("CX",)))
    assert finish(scheduler, 0)[0] == "ABC"
    scheduler.begin(turn(1, stops=("BX",), most=2))
    assert finish(scheduler, 1)[0] == "AB"


def test_half_a_character_is_shown_as_such_when_the_turn_ends() -> None:
    scheduler = scheduler_on(ScriptedRunner(answer="é".encode()))
    scheduler.begin(turn(0, most=1))
    assert finish(scheduler, 0)[0] == "\ufffd"


CALL = b'ok<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'


def test_a_turn_that_calls_a_tool_ends_with_tool_calls() -> None:
    scheduler = scheduler_on(ScriptedRunner(answer=CALL))
    scheduler.begin(turn(0, tools=True))
    deltas = [delta for _ in CALL for _, delta in step(scheduler)]
    calls = join_calls(piece for delta in deltas for piece in delta.calls)
    assert [(call.name, call.arguments) for call in calls] == [("f", '{"x": 1}')]
    assert "".join(delta.text for delta in deltas) == "ok"
    (last,) = (delta for _, delta in step(scheduler))
    assert (last.finish, last.usage) == (Finish.TOOL_CALLS, Usage(3, len(CALL) + 1))


def test_a_call_without_tools_in_the_request_is_text() -> None:
    scheduler = scheduler_on(ScriptedRunner(answer=CALL))
    scheduler.begin(turn(0))
    text, last = finish(scheduler, 0)
    assert (text, last.finish) == (CALL.decode(), Finish.STOP)


def test_a_call_that_the_limit_cuts_is_text_and_a_length() -> None:
    scheduler = scheduler_on(ScriptedRunner(answer=CALL))
    scheduler.begin(turn(0, tools=True, most=20))
    text, last = finish(scheduler, 0)
    assert (text, last.finish, last.calls) == (CALL[:20].decode(), Finish.LENGTH, ())


def test_a_turn_that_waits_can_be_cancelled() -> None:
    scheduler = scheduler_on(ScriptedRunner(slots=1))
    scheduler.begin(turn(0))
    scheduler.begin(turn(1))
    step(scheduler)
    assert scheduler.cancel(1)
    assert {number for _ in range(40) for number, _ in step(scheduler)} == {0}
    assert scheduler.is_idle


def test_a_turn_whose_prompt_is_being_read_can_be_cancelled_and_frees_its_slot() -> None:
    runner = ScriptedRunner(slots=1)
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0, 1000))
    scheduler.begin(turn(1))
    step(scheduler)
    assert scheduler.cancel(0)
    assert scheduler.active == 0
    assert [number for number, _ in step(scheduler)] == [1]


def test_a_running_turn_can_be_cancelled_and_frees_its_slot() -> None:
    runner = ScriptedRunner(slots=1)
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0))
    scheduler.begin(turn(1))
    step(scheduler)
    step(scheduler)
    assert scheduler.cancel(0)
    assert scheduler.active == 0
    assert [number for number, _ in step(scheduler)] == [1]


def test_cancelling_what_has_ended_or_never_was_does_nothing() -> None:
    scheduler = scheduler_on(ScriptedRunner(answer=b"A"))
    scheduler.begin(turn(0))
    finish(scheduler, 0)
    assert not scheduler.cancel(0)
    assert not scheduler.cancel(99)


def test_a_turn_that_ends_frees_its_slot_in_the_same_step() -> None:
    runner = ScriptedRunner(slots=1)
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0, most=1))
    step(scheduler)
    assert (scheduler.active, scheduler.is_idle) == (0, True)


ACTIONS = st.lists(
    st.tuples(st.just("begin"), st.integers(1, 300), st.integers(1, 8))
    | st.tuples(st.just("cancel"), st.integers(0, 12), st.just(0))
    | st.tuples(st.just("step"), st.just(0), st.just(0)),
    max_size=40,
)


@settings(deadline=None)
@given(ACTIONS, st.integers(1, 3), st.booleans(), st.integers(320, 2000))
def test_no_order_of_events_loses_a_slot_a_turn_or_memory(
    actions: list[tuple[str, int, int]], slots: int, steady: bool, kv_tokens: int
) -> None:
    runner = ScriptedRunner(slots + 1, b"ABCDE")
    scheduler = Scheduler(runner, most=slots, kv_tokens=kv_tokens, is_reproducible=steady)
    begun, cancelled, ended = 0, set(), []
    for action, first, second in [*actions, *[("step", 0, 0)] * 1000]:
        if action == "begin":
            scheduler.begin(turn(begun % 3, first, most=second, prompt=[128 + first % 3] * first))
            scheduler._waiting[-1].number = begun
            begun += 1
        elif action == "cancel" and scheduler.cancel(first):
            cancelled.add(first)
        elif action == "step":
            ended += [number for number, delta in step(scheduler) if delta.finish]
        assert scheduler.active <= slots
        assert scheduler.promised_tokens + scheduler.kept_tokens <= kv_tokens
        assert (
            sum(-(-runner.length(slot) // 4) * 4 for slot in range(runner.slots))
            <= scheduler.promised_tokens + scheduler.kept_tokens
        )
    assert scheduler.is_idle
    assert sorted([*ended, *cancelled]) == list(range(begun))
    fill(scheduler, slots)
    assert scheduler.active == slots


def fill(scheduler: Scheduler, slots: int) -> None:
    for number in range(slots):
        scheduler.begin(turn(1000 + number, 2, most=50))
    for _ in range(2 * slots):
        step(scheduler)


def scoring(number: int, prompt: list[int], text: TextModel, *, most: int = 2) -> Turn:
    one = turn(number, prompt=prompt, most=most)
    one.echo, one.scores = "told", PromptScores(prompt, [0] * len(prompt), 1, text)
    return one


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    return TextModel(write_text_model(tmp_path_factory.mktemp("text")))


PROMPT = [200 + number % 50 for number in range(300)]


def test_a_scored_prompt_takes_nothing_over_and_is_scored_in_chunks(text: TextModel) -> None:
    runner = ScriptedRunner()
    scheduler = scheduler_on(runner)
    scheduler.begin(turn(0, prompt=PROMPT, most=1))
    finish(scheduler, 0)
    prefills = len(runner.prefills)
    scheduler.begin(scoring(1, PROMPT, text))
    deltas = [delta for _ in range(4) for _, delta in step(scheduler)]
    assert (runner.verified, len(runner.prefills)) == ([128, 128, 44], prefills)
    assert deltas[0].echo is not None
    assert (deltas[0].echo.text, len(deltas[0].echo.tokens)) == ("told", 300)
    assert deltas[0].text == "A"
    assert deltas[1].echo is None
    assert deltas[1].usage == Usage(300, 2, 0)


def test_another_prompt_takes_over_what_a_scored_one_computed(text: TextModel) -> None:
    runner = ScriptedRunner()
    scheduler = scheduler_on(runner)
    scheduler.begin(scoring(0, PROMPT, text))
    scheduler.begin(turn(1, prompt=PROMPT))
    _, last = finish(scheduler, 1)
    assert last.usage is not None
    assert last.usage.cached_tokens == 298


@pytest.mark.parametrize("steady", [False, True])
def test_a_prompt_is_scored_token_by_token_where_one_position_alone_can_be_had(text: TextModel, steady: bool) -> None:
    runner = ScriptedRunner()
    runner.can_verify = False
    scheduler = scheduler_on(runner, steady=steady)
    scheduler.begin(scoring(0, PROMPT[:20], text))
    told = [delta for _ in range(20) for _, delta in step(scheduler)]
    assert runner.prefills == [(0, 1)] * 20
    assert told[0].echo is not None
    assert len(told[0].echo.tokens) == 20


def test_a_turn_without_an_answer_ends_with_its_prompt(text: TextModel) -> None:
    runner = ScriptedRunner()
    scheduler = scheduler_on(runner)
    scheduler.begin(scoring(0, PROMPT[:9], text, most=0))
    ((number, delta),) = step(scheduler)
    assert (number, delta.finish, delta.tokens, delta.text, delta.usage) == (0, Finish.LENGTH, 0, "", Usage(9, 0, 0))
    assert delta.echo is not None
    assert delta.timings is not None
    assert delta.timings.decode == 0.0
    assert scheduler.is_idle
    assert scheduler.promised_tokens == 0


def test_the_time_of_choosing_and_of_making_text_is_told() -> None:
    scheduler = scheduler_on(ScriptedRunner())
    scheduler.begin(turn(0))
    scheduler.begin(turn(1))
    _, last = finish(scheduler, 1)
    assert last.timings is not None
    assert last.timings.sample > 0
    assert last.timings.detokenize > 0
