"""How much of a prompt fits between two tokens of the running streams."""

from __future__ import annotations

import pytest

from foundry_lite.engine.pace import CHUNK, Pace


def paced(decode: float, per_token: float, fixed: float) -> list[int]:
    """The sizes that are chosen on a machine whose chunks take ``fixed + tokens * per_token`` seconds."""
    pace = Pace()
    sizes = []
    for _ in range(60):
        size = pace.chunk
        sizes.append(size)
        pace.note_chunk(size, fixed + size * per_token)
        pace.note_decode(decode)
    return sizes


def test_nothing_is_known_at_first() -> None:
    assert Pace().chunk == CHUNK


@pytest.mark.parametrize(
    ("decode", "per_token", "fixed"),
    [(0.012, 0.003, 0.008), (0.060, 0.003, 0.008), (0.060, 0.003, 0.040), (0.2, 0.01, 0.1)],
)
def test_a_chunk_settles_at_what_one_and_a_half_steps_hold(decode: float, per_token: float, fixed: float) -> None:
    settled = paced(decode, per_token, fixed)[-20:]
    most = max(fixed + size * per_token for size in settled)
    assert most <= 2 * decode or set(settled) == {4}
    more = fixed + 2 * max(settled) * per_token
    assert more > 0.6 * 1.5 * decode  # it is not smaller than it need be


def test_one_slow_chunk_is_forgotten() -> None:
    pace = Pace()
    pace.note_decode(0.06)
    pace.note_chunk(CHUNK, 5.0)
    assert pace.chunk < 8
    for _ in range(10):
        pace.note_chunk(pace.chunk, 0.01)
    assert pace.chunk == CHUNK


def test_when_chunks_are_cheap_they_are_whole() -> None:
    assert set(paced(0.06, 0.0001, 0.001)[-20:]) == {CHUNK}


def test_quick_models_are_not_cut_to_pieces() -> None:
    assert min(paced(0.0005, 0.00003, 0.0002)) >= 64
