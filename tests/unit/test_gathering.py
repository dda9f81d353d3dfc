"""What the worker tells, and when."""

from __future__ import annotations

import time

from foundry_lite.engine.worker.delta_batcher import DeltaBatcher
from foundry_lite.generation import Delta, Finish, Usage


def token(text: str) -> Delta:
    return Delta(text, tokens=1)


def due(gathering: DeltaBatcher) -> bool:
    return gathering.is_due  # asked anew each time, which a type checker does not expect of a property


def test_a_lone_turn_is_told_every_token_as_it_is_made() -> None:
    gathering = DeltaBatcher()
    for text in "abc":
        assert gathering.add([(1, token(text))]) == 0
        assert due(gathering)
        assert gathering.take() == [(1, token(text))]
    assert not due(gathering)


def test_several_turns_are_told_together_and_nothing_is_lost_or_reordered() -> None:
    gathering = DeltaBatcher()
    told = {1: "", 2: ""}
    messages = 0
    for text in "abcdefghij":
        gathering.add([(1, token(text)), (2, token(text.upper()))])
        if due(gathering):
            messages += 1
            for number, delta in gathering.take():
                told[number] += delta.text
    time.sleep(0.01)
    assert due(gathering)
    for number, delta in gathering.take():
        told[number] += delta.text
    assert told == {1: "abcdefghij", 2: "ABCDEFGHIJ"}
    assert messages < 10


def test_a_first_token_and_an_end_are_told_at_once_even_among_several() -> None:
    gathering = DeltaBatcher()
    gathering.add([(1, token("a")), (2, token("b"))])
    gathering.take()
    gathering.add([(1, token("c"))])
    assert not due(gathering)
    gathering.add([(1, token("d")), (3, token("x"))])
    assert due(gathering)
    assert gathering.take() == [(1, Delta("cd", tokens=2)), (3, token("x"))]
    end = Delta("!", tokens=1, finish=Finish.STOP, usage=Usage(3, 9))
    assert gathering.add([(2, token("e"))]) == 0
    assert gathering.add([(2, end)]) == 1
    assert due(gathering)
    assert gathering.take() == [(2, Delta("e!", tokens=2, finish=Finish.STOP, usage=Usage(3, 9)))]


def test_what_was_gathered_for_a_cancelled_turn_is_forgotten() -> None:
    gathering = DeltaBatcher()
    gathering.add([(1, token("a")), (2, token("b"))])
    gathering.take()
    gathering.add([(1, token("c")), (2, token("d"))])
    gathering.forget(1)
    assert gathering.take() == [(2, token("d"))]
    gathering.add([(2, token("e"))])
    assert due(gathering)  # it is alone now
