"""The logprobs of a prompt's own tokens: those of a log-softmax, however the prompt is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.worker.prompt_logprobs import PromptScores, chunk_size
from tests.unit.byte_tokenizer import write_text_model

VOCABULARY = 266


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    return TextModel(write_text_model(tmp_path_factory.mktemp("text")))


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 20), st.data())
def test_the_logprobs_are_those_of_a_log_softmax_however_the_prompt_is_cut(
    text: TextModel, seed: int, length: int, wanted: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    logits = (random.standard_normal((length, VOCABULARY)) * random.choice([0.1, 3, 30])).astype(np.float32)
    prompt: list[int] = random.integers(0, VOCABULARY, length).tolist()
    scores = PromptScores(prompt, list(range(length)), wanted, text)
    start = 0
    while start < length:
        size = data.draw(st.integers(1, 7))
        scores.take(logits[start : start + size])
        start += size
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
    first, *others = scores.told()
    assert (first.chosen.logprob, first.top) == (0.0, ())
    for place, told in enumerate(others, 1):
        row = exact[place - 1]
        assert told.chosen.logprob == pytest.approx(row[prompt[place]], abs=1e-4)
        assert told.chosen.bytes == text.token_bytes(prompt[place])
        best = np.argsort(-row, kind="stable")[:wanted]
        assert [one.bytes for one in told.top] == [text.token_bytes(int(token)) for token in best]
        assert [one.logprob for one in told.top] == pytest.approx(row[best].tolist(), abs=1e-4)
        assert told.start == place


def test_what_is_no_number_is_as_good_as_impossible(text: TextModel) -> None:
    logits = np.zeros((2, VOCABULARY), np.float32)
    logits[0, 7] = np.nan
    logits[0, 8] = -np.inf
    for token in (7, 8):
        scores = PromptScores([5, token], [0, 1], 1, text)
        scores.take(logits)
        assert scores.told()[1].chosen.logprob == -9999.0


def test_the_logits_of_a_chunk_stay_small() -> None:
    for vocabulary in (266, 32_000, 151_936, 262_144, 10**8):
        size = chunk_size(vocabulary, 128)
        assert 1 <= size <= 128
        assert size == 1 or size * vocabulary * 4 <= 64 * 2**20
