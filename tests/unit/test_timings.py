"""Times of an answer: what adds up, what passes at once, and what is left out."""

from __future__ import annotations

import json

import msgspec

from foundry_lite.generation import Delta, Finish, Timings, Usage
from foundry_lite.protocol.common.timings import server_timing, total_timings, write_timings


def end(timings: Timings | None, usage: Usage | None = None) -> Delta:
    return Delta(finish=Finish.STOP, usage=usage or Usage(10, 5, 4), timings=timings)


def written(*ends: Delta) -> dict[str, float]:
    read: dict[str, float] = json.loads(msgspec.json.encode(write_timings(ends)))
    return read


def test_times_of_several_choices_pass_at_once_and_their_work_adds_up() -> None:
    first = Timings(0.1, 0.2, 0.4, template=0.01, sample=0.02, detokenize=0.03)
    second = Timings(0.3, 0.01, 0.5, template=0.01, sample=0.05, detokenize=0.04)
    assert total_timings([end(first), end(second)]) == Timings(
        0.3, 0.2, 0.5, template=0.01, sample=0.07, detokenize=0.07
    )


def test_the_tokens_of_the_context_are_those_taken_over_computed_and_written() -> None:
    times = written(end(Timings(0.0, 0.3, 0.4)), end(Timings(0.0, 0.1, 0.2), Usage(10, 7, 9)))
    assert (times["cache_n"], times["prompt_n"], times["predicted_n"]) == (4, 6, 12)
    assert (times["prompt_ms"], times["prompt_per_token_ms"], times["prompt_per_second"]) == (300.0, 50.0, 20.0)
    assert (times["predicted_ms"], times["predicted_per_token_ms"], times["predicted_per_second"]) == (
        400.0,
        40.0,
        25.0,
    )


def test_what_nobody_measured_is_left_out() -> None:
    assert set(written(end(Timings(0.0, 0.0, 0.0), Usage(10, 1, 10)))) == {
        "cache_n", "prompt_n", "prompt_ms", "predicted_n", "predicted_ms", "queue_ms"
    }  # fmt: skip
    assert write_timings([end(None)]) is msgspec.UNSET
    assert write_timings([]) is msgspec.UNSET


def test_every_part_has_its_name_and_its_milliseconds() -> None:
    parts = Timings(1, 2, 3, template=4, tokenize=5, grammar=6, sample=7, detokenize=8, load=9, total=10)
    times = written(end(parts))
    named = ("queue", "prompt", "predicted", "template", "tokenize", "grammar", "sample", "detokenize", "load", "total")
    assert [times[f"{name}_ms"] for name in named] == [1000.0 * number for number in range(1, 11)]
    assert server_timing(parts) == (
        "load;dur=9000.000, queue;dur=1000.000, template;dur=4000.000, tokenize;dur=5000.000, grammar;dur=6000.000, "
        "prefill;dur=2000.000, decode;dur=3000.000, sample;dur=7000.000, detokenize;dur=8000.000, total;dur=10000.000"
    )
