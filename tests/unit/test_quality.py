"""What is measured of a build, and which loss is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from foundry_lite.catalog.recipe import Precision, recipe_for
from foundry_lite.catalog.report import Quality, TextLoss
from foundry_lite.conversion.evaluate import text_loss
from foundry_lite.conversion.evaluate.generate import Said, read_answer
from foundry_lite.conversion.evaluate.quality import check_fidelity, is_tolerable, sample
from foundry_lite.conversion.evaluate.reference import Passage, Record, Rendered
from foundry_lite.conversion.evaluate.template_parity import CONVERSATIONS, check_templates, check_tokenizer
from foundry_lite.engine.runners.divergence import divergences
from foundry_lite.engine.runners.ort import OrtRunner
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.errors import CheckFailed
from foundry_lite.generation import CallPiece, Chat, Message, Role, Tool
from tests import tiny_model

RECORD = Record("2000-01-01", 0, 0, (), (), (), ())


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def exact(source: NDArray[np.float64], ours: NDArray[np.float64]) -> float:
    p, q = log_softmax(source), log_softmax(ours)
    return float((np.exp(p) * (p - q)).sum())


def likeliest(source: NDArray[np.float64], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    ids = np.argsort(-source)[:count]
    return ids[None, :], log_softmax(source)[ids].astype(np.float32)[None, :]


def divergence(
    ours: Sequence[float] | NDArray[np.float64], ids: NDArray[np.int64], logprobs: NDArray[np.float32]
) -> float:
    return float(divergences(np.asarray(ours, np.float32)[None, :], ids, logprobs)[0])


@pytest.mark.parametrize("seed", range(5))
def test_the_divergence_over_the_likeliest_tokens_is_a_close_lower_bound(seed: int) -> None:
    random = np.random.default_rng(seed)
    source = random.standard_normal(1000) * 4
    ours = source + random.standard_normal(1000) * 0.3
    whole = exact(source, ours)
    assert divergence(ours, *likeliest(source, 1000)) == pytest.approx(whole, rel=1e-3)
    coarse = divergence(ours, *likeliest(source, 64))
    assert whole * 0.8 < coarse < whole * 1.001


def test_the_divergence_of_the_same_is_nothing_and_of_a_sure_mistake_is_large() -> None:
    source = np.zeros(100)
    source[3] = 30.0
    ids, logprobs = likeliest(source, 64)
    assert abs(divergence(source, ids, logprobs)) < 1e-6
    assert divergence(np.roll(source, 1), ids, logprobs) == pytest.approx(30, rel=0.01)


def test_what_is_left_of_the_mass_counts() -> None:
    """The source spreads over what it was not asked for; ours puts everything on what it was."""
    ids, logprobs = np.array([[0]]), np.log(np.array([[0.5]], np.float32))
    assert divergence([10.0, 0, 0], ids, logprobs) > 1


def quality(kl: float, top1: float = 0.9, own: float | None = None) -> Quality:
    neutral = TextLoss(100, 10.0, 9.0, kl, 3 * kl, top1)
    return Quality(neutral, None if own is None else msgspec.structs.replace(neutral, kl_mean=own))


@pytest.mark.parametrize(
    ("precision", "top1", "kl"),
    [
        (Precision.FP32, 0.98, 0.0),
        (Precision.FP32, 1.0, 0.02),
        (Precision.FP16, 0.96, 0.0),
        (Precision.BF16, 0.8, 0.0),
        (Precision.INT8, 0.4, 0.1),
        (Precision.INT4, 0.01, 1.0),
        (Precision.INT4, 0.5, float("nan")),
        (Precision.INT4, float("nan"), 1.0),
    ],
)
def test_a_model_that_is_not_the_source_is_refused(precision: Precision, top1: float, kl: float) -> None:
    with pytest.raises(CheckFailed, match="the conversion went wrong"):
        check_fidelity(quality(kl, top1), recipe_for(precision))


def test_a_model_that_passes_is_recorded_with_its_bounds() -> None:
    checks = check_fidelity(quality(0.1, 0.95), recipe_for(Precision.INT4))
    assert [(one.name, one.value, one.threshold, one.samples) for one in checks] == [
        ("top1_agreement", 0.95, 0.02, 100),
        ("kl_mean", 0.1, 10.0, 100),
    ]


def test_without_a_source_there_is_nothing_to_be_true_to() -> None:
    assert check_fidelity(Quality(TextLoss(100, 10.0)), recipe_for(Precision.INT4)) == ()


def test_a_faster_way_may_lose_a_little_more_and_no_more_than_that() -> None:
    assert is_tolerable(quality(0.154), quality(0.1))
    assert not is_tolerable(quality(0.156), quality(0.1))
    assert is_tolerable(quality(0.004), quality(0.0))
    assert not is_tolerable(quality(0.006), quality(0.0))
    assert not is_tolerable(quality(float("nan")), quality(0.1))


def test_the_users_own_texts_decide_where_there_are_any() -> None:
    assert is_tolerable(quality(0.9, own=0.01), quality(0.1, own=0.01))
    assert not is_tolerable(quality(0.1, own=0.5), quality(0.1, own=0.01))


def test_the_shipped_texts_are_many_and_varied() -> None:
    texts = sample()
    assert len(texts) > 30
    assert all(len(one) > 100 or not one.isascii() for one in texts)
    for kind in ("def ", "{", "SELECT", "Freiburg", "图书馆", "Библиотека", "x^2"):
        assert any(kind in one for one in texts), kind


def passage(letters: str, following: str, first: int = 0) -> Passage:
    """A text of the alphabet model, and a source that is certain of what follows each of its letters."""
    tokens = [ord(one) - ord("!") for one in letters]
    ids = np.array([[ord(one) - ord("!")] for one in following])[first:]
    certain = np.zeros((len(ids), 1), np.float32)
    return Passage(tokens, first, ids, certain, certain[:, 0])


@pytest.mark.parametrize("prefills", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_built_model_is_scored_where_it_predicts(tmp_path: Path, prefills: bool, rows: int) -> None:
    """The alphabet model goes from any letter to the next; its source, so it is claimed, does so only up to ``f``."""
    runner = OrtRunner(tiny_model.install(tmp_path, "mine"), threads=1, slots=5, context_length=64)
    texts = [passage("abcdefghij", "bcdefbbbb"), passage("abd", "bc"), passage("abcdef", "bcdef", first=3)]
    scores = text_loss.score(runner, texts, prefills=prefills, rows=rows)
    assert scores.hits.tolist() == [True] * 5 + [False] * 4 + [True, True] + [True, True]
    assert (scores.divergences < 0.05).tolist() == scores.hits.tolist()
    assert (scores.losses > 5).tolist() == [False] * 9 + [False, True] + [False] * 2
    loss = scores.summary(has_source=True)
    assert (loss.positions, loss.source_perplexity) == (13, 1.0)
    assert loss.top1 == pytest.approx(9 / 13, abs=1e-6)
    assert loss.kl_p99 is not None
    assert loss.kl_p99 > 5
    assert [runner.length(slot) for slot in range(5)] == [0] * 5


def test_half_of_each_text_can_be_a_prompt(tmp_path: Path) -> None:
    runner = OrtRunner(tiny_model.install(tmp_path, "mine"), threads=1, slots=2, context_length=64)
    scores = text_loss.score(runner, [passage("abcdefghij", "bcdefbbbb")], skips_half=True)
    assert scores.hits.tolist() == [True] + [False] * 4


def test_without_a_source_only_the_perplexity_is_known(tmp_path: Path) -> None:
    runner = OrtRunner(tiny_model.install(tmp_path, "mine"), threads=1, slots=2, context_length=64)
    nothing = np.zeros((0, 0), np.float32)
    bare = Passage(passage("abcd", "bcd").tokens, 0, nothing.astype(np.int64), nothing, nothing.ravel())
    loss = text_loss.score(runner, [bare]).summary(has_source=False)
    assert (loss.positions, loss.kl_mean, loss.top1, loss.source_perplexity) == (3, None, None, None)
    assert 1 < loss.perplexity < 1.1


def test_logits_that_are_no_numbers_are_refused() -> None:
    nothing = np.zeros(2)
    scores = text_loss.Scores(np.array([True, True]), nothing, np.array([0.0, np.nan]), nothing)
    with pytest.raises(CheckFailed, match="no numbers at 1 of 2 positions"):
        scores.summary(has_source=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_model.install(tmp_path, "mine")


def test_a_tokenizer_that_encodes_otherwise_is_refused_with_the_first_difference(folder: Path) -> None:
    text = TextModel(folder)
    tokens = text.encode_text("hello world")
    check_tokenizer(text, [("hello world", tokens), ("hello world", tokens[:3])])
    with pytest.raises(CheckFailed, match=r"after 'hello', token 5, this is ' world' .* there '! worl'"):
        check_tokenizer(text, [("hello world", [*tokens[:5], text.encode_text("!")[0], *tokens[5:]])])


def test_a_prompt_that_transformers_writes_otherwise_is_refused(folder: Path) -> None:
    text = TextModel(folder)
    chat = CONVERSATIONS["a question"]
    tokens = tuple(text.encode_chat(chat))
    assert check_templates(folder, text, [("a question", chat, Rendered(tokens))], RECORD) == 1
    for other, said in ((tokens[:-1], "there nothing"), ((*tokens, 0), "this is nothing"), ((0, *tokens), "token 0")):
        with pytest.raises(CheckFailed, match=f"writes a question otherwise.*{said}"):
            check_templates(folder, text, [("a question", chat, Rendered(other))], RECORD)


def test_what_both_refuse_is_the_same_and_what_one_refuses_is_not(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only the user may speak') }}")
    strict, chat = TextModel(folder), CONVERSATIONS["a question"]
    assert check_templates(folder, strict, [("it", chat, Rendered(error="TemplateError"))], RECORD) == 1
    with pytest.raises(CheckFailed, match="only the user may speak"):
        check_templates(folder, strict, [("it", chat, Rendered((1, 2)))], RECORD)
    (folder / "chat_template.jinja").write_text("hello")
    with pytest.raises(CheckFailed, match="refuses it in transformers"):
        check_templates(folder, TextModel(folder), [("it", chat, Rendered(error="TemplateError"))], RECORD)


def test_calls_that_a_template_drops_or_stumbles_over_may_differ_by_design(folder: Path) -> None:
    chat = CONVERSATIONS["a tool's result"]
    template = "{{ tools }}{% for one in messages %}{{ one.content or '' }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    assert check_templates(folder, TextModel(folder), [("it", chat, Rendered((1, 2)))], RECORD) == 0
    (folder / "chat_template.jinja").write_text(template + "{{ '' + messages[1].tool_calls[0].function.arguments }}")
    stumbled = Rendered(error="TypeError: can only concatenate str")
    assert check_templates(folder, TextModel(folder), [("it", chat, stumbled)], RECORD) == 1
    with pytest.raises(CheckFailed, match="otherwise than in transformers"):
        check_templates(folder, TextModel(folder), [("it", chat, Rendered((1, 2)))], RECORD)


def test_control_tokens_in_what_a_user_writes_may_differ_by_design(folder: Path) -> None:
    chat = Chat((Message(Role.USER, "<|im_end|> is what ends a turn"),))
    assert check_templates(folder, TextModel(folder), [("it", chat, Rendered((1, 2)))], RECORD) == 0


def test_a_template_that_writes_the_date_is_compared_on_the_day_of_the_record_only(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%Y-%m-%d') }}")
    chat = CONVERSATIONS["a question"]
    assert check_templates(folder, TextModel(folder), [("it", chat, Rendered((1, 2)))], RECORD) == 0


def test_a_recorded_answer_is_read_as_the_engine_tells_it(folder: Path) -> None:
    text = TextModel(folder)
    call = '<tool_call>{"name": "dim", "arguments": {"level": 5}}</tool_call>'
    end = text.encode_text(tiny_model.END)
    chat = Chat((Message(Role.USER, "dim it"),), (Tool("dim"),))
    said = read_answer(text, chat, [*text.encode_text("yes" + call), *end], end)
    assert said.text == "yes"
    assert said.is_same(Said("yes", (CallPiece(0, "another", "dim", '{"level": 5}'),)))
    assert not said.is_same(Said("yes"))
    assert str(said) == 'yesdim({"level": 5})'
    plain = read_answer(text, Chat(chat.messages), text.encode_text(call), end)
    assert (plain.text, plain.calls) == (call, ())
