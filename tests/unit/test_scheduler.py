"""The scheduler on a runner that answers from a script: who runs when, and that no slot is ever lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.engine.runner import Logits
from foundry_lite.engine.sampler import Chooser
from foundry_lite.engine.scheduler import Scheduler
from foundry_lite.engine.text import Detokenizer
from foundry_lite.engine.turn import Answer, Turn
from foundry_lite.generation import Delta, Finish, Usage
from tests.unit.byte_tokenizer import END, byte_tokenizer

TOKENIZER = byte_tokenizer()
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class ScriptedRunner:
    """Answers every prompt with the same bytes, then ends the turn; remembers what it was asked."""

    def __init__(self, slots: int = 2, answer: bytes = LETTERS) -> None:
        self.slots, self.context_length, self.vocabulary = slots, 4096, 266
        self.prefills: list[tuple[int, int]] = []  # slot, tokens
        self.decodes: list[list[int]] = []  # slots
        self._script = [*answer, END]
        self._said = [0] * slots
        self._lengths = [0] * slots

    def prefill(self, slot: int, tokens: Sequence[int]) -> Logits:
        assert tokens
        assert not self._said[slot], "the slot was not empty"
        self.prefills.append((slot, len(tokens)))
        self._lengths[slot] += len(tokens)
        return self._next(slot)

    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> Logits:
        assert len(set(slots)) == len(slots) == len(tokens)
        self.decodes.append(list(slots))
        for slot, token in zip(slots, tokens, strict=True):
            assert token == self._script[self._said[slot]]
            self._said[slot] += 1
            self._lengths[slot] += 1
        return np.stack([self._next(slot) for slot in slots])

    def keep(self, slot: int, length: int) -> None:
        assert length == 0
        self._said[slot] = self._lengths[slot] = 0

    def copy(self, source: int, target: int, length: int) -> None:
        raise NotImplementedError

    def length(self, slot: int) -> int:
        return self._lengths[slot]

    def _next(self, slot: int) -> Logits:
        logits = np.zeros(self.vocabulary, np.float32)
        logits[self._script[self._said[slot]]] = 1
        return logits


def turn(
    number: int,
    prompt_tokens: int = 3,
    *,
    most: int = 100,
    stops: tuple[str, ...] = (),
    tools: bool = False,
    eos: int | None = END,
) -> Turn:
    answer = Answer(Detokenizer(TOKENIZER), stops, parses_tools=tools)
    eos_ids = frozenset() if eos is None else frozenset({eos})
    return Turn(number, [1] * prompt_tokens, Chooser(0.0, 1.0, 0), answer, eos_ids, most)


def finish(scheduler: Scheduler, number: int) -> tuple[str, Delta]:
    """Step until the turn ends; return its whole text and last delta."""
    text = ""
    for _ in range(1000):
        for one, delta in scheduler.step():
            if one == number:
                text += delta.text
                if delta.finish:
                    return text, delta
    raise AssertionError("the turn never ended")


def test_a_turn_gets_one_token_a_step_from_its_prefill_on() -> None:
    runner = ScriptedRunner(answer=b"AB")
    scheduler = Scheduler(runner)
    scheduler.begin(turn(7))
    texts = [[(number, delta.text, delta.finish) for number, delta in scheduler.step()] for _ in range(4)]
    assert texts == [[(7, "A", None)], [(7, "B", None)], [(7, "", Finish.STOP)], []]
    assert runner.prefills == [(0, 3)]
    assert runner.decodes == [[0], [0]]


def test_a_scheduler_without_turns_is_idle_and_does_nothing() -> None:
    runner = ScriptedRunner()
    scheduler = Scheduler(runner)
    assert scheduler.is_idle
    assert scheduler.step() == []
    assert (runner.prefills, runner.decodes) == ([], [])


def test_first_come_is_first_served() -> None:
    scheduler = Scheduler(ScriptedRunner(slots=1, answer=b"A"))
    for number in (3, 1, 2):
        scheduler.begin(turn(number))
    order = [number for _ in range(10) for number, delta in scheduler.step() if delta.finish]
    assert order == [3, 1, 2]


def test_never_more_turns_run_than_there_are_slots() -> None:
    runner = ScriptedRunner(slots=2)
    scheduler = Scheduler(runner)
    for number in range(5):
        scheduler.begin(turn(number))
    for _ in range(6):
        scheduler.step()
        assert scheduler.active == 2
    assert max(map(len, runner.decodes)) == 2


def test_turns_join_and_leave_at_every_step() -> None:
    runner = ScriptedRunner(slots=2, answer=b"ABC")
    scheduler = Scheduler(runner)
    scheduler.begin(turn(0, most=2))
    steps = [scheduler.step()]
    scheduler.begin(turn(1))
    steps += [scheduler.step() for _ in range(2)]
    scheduler.begin(turn(2))
    steps += [scheduler.step() for _ in range(4)]
    assert [[(number, delta.text) for number, delta in step] for step in steps] == [
        [(0, "A")],
        [(0, "B"), (1, "A")],
        [(1, "B")],
        [(1, "C"), (2, "A")],
        [(1, ""), (2, "B")],
        [(2, "C")],
        [(2, "")],
    ]
    assert scheduler.is_idle


def test_a_long_prompt_is_prefilled_in_chunks_of_one_a_step() -> None:
    runner = ScriptedRunner()
    scheduler = Scheduler(runner)
    scheduler.begin(turn(0, 300))
    assert [bool(scheduler.step()) for _ in range(3)] == [False, False, True]
    assert runner.prefills == [(0, 128), (0, 128), (0, 44)]


@pytest.mark.parametrize(
    ("tokens", "chunks"), [(1, [1]), (127, [127]), (128, [128]), (129, [128, 1]), (256, [128, 128])]
)
def test_chunks_hold_128_tokens_at_most(tokens: int, chunks: list[int]) -> None:
    runner = ScriptedRunner()
    scheduler = Scheduler(runner)
    scheduler.begin(turn(0, tokens))
    assert finish(scheduler, 0)[1].usage == Usage(tokens, 27)
    assert [size for _, size in runner.prefills] == chunks


def test_running_turns_go_on_while_a_long_prompt_is_read() -> None:
    scheduler = Scheduler(ScriptedRunner())
    scheduler.begin(turn(0))
    scheduler.step()
    scheduler.begin(turn(1, 300))
    steps = [[(number, delta.text) for number, delta in scheduler.step()] for _ in range(4)]
    assert steps == [[(0, "B")], [(0, "C")], [(0, "D"), (1, "A")], [(0, "E"), (1, "B")]]


def test_prompts_are_read_one_after_the_other() -> None:
    runner = ScriptedRunner(slots=3)
    scheduler = Scheduler(runner)
    for number in range(3):
        scheduler.begin(turn(number, 200))
    for _ in range(6):
        scheduler.step()
    assert runner.prefills == [(0, 128), (0, 72), (1, 128), (1, 72), (2, 128), (2, 72)]


def test_the_end_of_turn_is_a_stop_and_is_counted() -> None:
    scheduler = Scheduler(ScriptedRunner(answer=b"ABC"))
    scheduler.begin(turn(0, 5))
    text, last = finish(scheduler, 0)
    assert (text, last.finish, last.usage) == ("ABC", Finish.STOP, Usage(5, 4))
    assert last.timings is not None
    assert min(last.timings.queue, last.timings.prefill, last.timings.decode) >= 0


@pytest.mark.parametrize(("most", "text"), [(1, "A"), (3, "ABC")])
def test_the_most_tokens_are_a_length(most: int, text: str) -> None:
    scheduler = Scheduler(ScriptedRunner())
    scheduler.begin(turn(0, 5, most=most))
    found, last = finish(scheduler, 0)
    assert (found, last.finish, last.usage) == (text, Finish.LENGTH, Usage(5, most))


def test_an_end_of_turn_at_the_very_limit_is_a_stop() -> None:
    scheduler = Scheduler(ScriptedRunner(answer=b"AB"))
    scheduler.begin(turn(0, most=3))
    assert finish(scheduler, 0)[1].finish is Finish.STOP


def test_a_token_that_is_no_end_of_turn_for_this_request_does_not_end_it() -> None:
    scheduler = Scheduler(ScriptedRunner(answer=b"AB"))
    scheduler.begin(turn(0, most=3, eos=None))
    text, last = finish(scheduler, 0)
    assert (text, last.finish, last.usage) == ("AB", Finish.LENGTH, Usage(3, 3))


def test_a_stop_string_ends_the_turn_before_it_is_shown() -> None:
    scheduler = Scheduler(ScriptedRunner())
    scheduler.begin(turn(0, 5, stops=("DE",)))
    text, last = finish(scheduler, 0)
    assert (text, last.finish, last.usage) == ("ABC", Finish.STOP, Usage(5, 5))


def test_half_a_stop_string_is_shown_when_the_turn_ends() -> None:
    scheduler = Scheduler(ScriptedRunner(answer=b"ABC"))
    scheduler.begin(turn(0, stops=("CX",)))
    assert finish(scheduler, 0)[0] == "ABC"
    scheduler.begin(turn(1, stops=("BX",), most=2))
    assert finish(scheduler, 1)[0] == "AB"


def test_half_a_character_is_shown_as_such_when_the_turn_ends() -> None:
    scheduler = Scheduler(ScriptedRunner(answer="é".encode()))
    scheduler.begin(turn(0, most=1))
    assert finish(scheduler, 0)[0] == "\ufffd"


CALL = b'ok<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'


def test_a_turn_that_calls_a_tool_ends_with_tool_calls() -> None:
    scheduler = Scheduler(ScriptedRunner(answer=CALL))
    scheduler.begin(turn(0, tools=True))
    deltas = [delta for _ in CALL for _, delta in scheduler.step()]
    assert [(call.name, call.arguments) for delta in deltas for call in delta.tool_calls] == [("f", '{"x":1}')]
    assert "".join(delta.text for delta in deltas) == "ok"
    (last,) = (delta for _, delta in scheduler.step())
    assert (last.finish, last.usage) == (Finish.TOOL_CALLS, Usage(3, len(CALL) + 1))


def test_a_call_without_tools_in_the_request_is_text() -> None:
    scheduler = Scheduler(ScriptedRunner(answer=CALL))
    scheduler.begin(turn(0))
    text, last = finish(scheduler, 0)
    assert (text, last.finish) == (CALL.decode(), Finish.STOP)


def test_a_call_that_the_limit_cuts_is_text_and_a_length() -> None:
    scheduler = Scheduler(ScriptedRunner(answer=CALL))
    scheduler.begin(turn(0, tools=True, most=20))
    text, last = finish(scheduler, 0)
    assert (text, last.finish, last.tool_calls) == (CALL[:20].decode(), Finish.LENGTH, ())


def test_a_turn_that_waits_can_be_cancelled() -> None:
    scheduler = Scheduler(ScriptedRunner(slots=1))
    scheduler.begin(turn(0))
    scheduler.begin(turn(1))
    scheduler.step()
    assert scheduler.cancel(1)
    assert {number for _ in range(40) for number, _ in scheduler.step()} == {0}
    assert scheduler.is_idle


def test_a_turn_whose_prompt_is_being_read_can_be_cancelled_and_frees_its_slot() -> None:
    runner = ScriptedRunner(slots=1)
    scheduler = Scheduler(runner)
    scheduler.begin(turn(0, 1000))
    scheduler.begin(turn(1))
    scheduler.step()
    assert scheduler.cancel(0)
    assert (scheduler.active, runner.length(0)) == (0, 0)
    assert [number for number, _ in scheduler.step()] == [1]


def test_a_running_turn_can_be_cancelled_and_frees_its_slot() -> None:
    runner = ScriptedRunner(slots=1)
    scheduler = Scheduler(runner)
    scheduler.begin(turn(0))
    scheduler.begin(turn(1))
    scheduler.step()
    scheduler.step()
    assert scheduler.cancel(0)
    assert (scheduler.active, runner.length(0)) == (0, 0)
    assert [number for number, _ in scheduler.step()] == [1]


def test_cancelling_what_has_ended_or_never_was_does_nothing() -> None:
    scheduler = Scheduler(ScriptedRunner(answer=b"A"))
    scheduler.begin(turn(0))
    finish(scheduler, 0)
    assert not scheduler.cancel(0)
    assert not scheduler.cancel(99)


def test_a_turn_that_ends_frees_its_slot_in_the_same_step() -> None:
    runner = ScriptedRunner(slots=1)
    scheduler = Scheduler(runner)
    scheduler.begin(turn(0, most=1))
    scheduler.step()
    assert (scheduler.active, scheduler.is_idle, runner.length(0)) == (0, True, 0)


ACTIONS = st.lists(
    st.tuples(st.just("begin"), st.integers(1, 300), st.integers(1, 8))
    | st.tuples(st.just("cancel"), st.integers(0, 12), st.just(0))
    | st.tuples(st.just("step"), st.just(0), st.just(0)),
    max_size=40,
)


@given(ACTIONS, st.integers(1, 3))
def test_no_order_of_events_loses_a_slot_or_a_turn(actions: list[tuple[str, int, int]], slots: int) -> None:
    runner = ScriptedRunner(slots, b"ABCDE")
    scheduler = Scheduler(runner)
    begun, cancelled, ended = 0, set(), []
    for action, first, second in [*actions, *[("step", 0, 0)] * 400]:
        if action == "begin":
            scheduler.begin(turn(begun, first, most=second))
            begun += 1
        elif action == "cancel" and scheduler.cancel(first):
            cancelled.add(first)
        elif action == "step":
            ended += [number for number, delta in scheduler.step() if delta.finish]
        assert scheduler.active <= slots
        assert sum(runner.length(slot) > 0 for slot in range(slots)) <= scheduler.active
    assert scheduler.is_idle
    assert sorted([*ended, *cancelled]) == list(range(begun))
    for number in range(slots):
        scheduler.begin(turn(1000 + number))
    scheduler.step()
    assert scheduler.active == slots
