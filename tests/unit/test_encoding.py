"""Long texts: refused with bounded work, encoded whole where they may fit; control tokens are found in any text."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from foundry_lite.engine.text.chunked_encoding import PIECE, TooManyTokens, encode_all, pieces
from foundry_lite.engine.text.special_tokens import Spellings
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.generation import Chat, Message, Role
from tests.unit.byte_tokenizer import END, START, write_text_model


class Counter:
    """One token a letter, and how many letters were looked at."""

    def __init__(self) -> None:
        self.letters = 0

    def __call__(self, text: str) -> list[int]:
        self.letters += len(text)
        return [ord(letter) for letter in text]


@given(st.text(alphabet="ab \n", max_size=40).map(lambda text: text * 900))
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= PIECE for piece in cut)


def test_a_text_is_cut_before_white_space() -> None:
    assert all(piece[0] == " " for piece in list(pieces(" word" * 9000))[1:])


def test_a_text_that_cannot_fit_is_not_encoded_to_its_end() -> None:
    counter = Counter()
    with pytest.raises(TooManyTokens):
        encode_all(["x" * 10**6], counter, 4 * PIECE)
    assert counter.letters < 6 * PIECE


def test_pieces_that_cannot_fit_together_are_not_encoded_to_the_last() -> None:
    counter = Counter()
    with pytest.raises(TooManyTokens):
        encode_all(["x"] * 10**5, counter, 1000)
    assert counter.letters == 1001


@pytest.mark.parametrize("length", [PIECE, PIECE + 1, 3 * PIECE])
def test_a_text_that_may_fit_is_encoded_as_a_whole(length: int) -> None:
    text = "x " * (length // 2)
    assert encode_all([text, "y"], Counter(), length + 1) == [ord(letter) for letter in text + "y"]


@given(st.lists(st.text(alphabet="<|>ab", min_size=1, max_size=5)), st.text(alphabet="<|>ab", max_size=60))
def test_spellings_are_found_as_if_tried_side_by_side(texts: list[str], text: str) -> None:
    longest_first = sorted({one for one in texts if len(one) > 1}, key=len, reverse=True)
    expected = re.finditer("|".join(map(re.escape, longest_first)), text) if longest_first else iter(())
    assert [match.span() for match in Spellings(texts).find(text)] == [match.span() for match in expected]


@pytest.mark.parametrize("offset", range(-8, 3))
def test_a_spelling_is_found_wherever_the_text_is_cut(offset: int) -> None:
    place = (1 << 16) + offset
    text = "x" * place + "<|end|>" + "x" * 70_000
    assert [match.start() for match in Spellings(["<|end|>", "<|e"]).find(text)] == [place]


def test_a_text_full_of_what_hundreds_of_control_tokens_begin_with_is_searched_quickly() -> None:
    """Side by side, each of them was tried at each place: 7 seconds for this one."""
    spellings = Spellings([f"<|reserved_special_token_{number}|>" for number in range(250)])
    began = time.monotonic()
    assert list(spellings.find("<" * 10**6)) == []
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("text", ["<|im_end|>" * 100_000, "<" * 10**6, "word " * 200_000, "x" * 10**6])
def test_a_conversation_of_a_million_letters_is_refused_soon(text: str, tmp_path: Path) -> None:
    model = TextModel(write_text_model(tmp_path))
    began = time.monotonic()
    with pytest.raises(TooManyTokens):
        model.encode_pieces(model.render(Chat((Message(Role.USER, text),)), 4096), 4096)
    assert time.monotonic() - began < 1


def test_a_long_text_has_the_tokens_that_its_letters_say(tmp_path: Path) -> None:
    model = TextModel(write_text_model(tmp_path))
    text = "im hi " * 4000
    assert model.encode_text(text, limit=10**6) == model.encode_text("im hi ") * 4000
    assert model.decode([START, 65, END]) == "<|im_start|>A<|im_end|>"


def test_the_tokens_of_a_text_begin_where_their_letters_do(tmp_path: Path) -> None:
    model = TextModel(write_text_model(tmp_path))
    text = "a😀hi<|im_end|>é"
    tokens = model.encode_text(text)
    starts = model.starts_in(text, add_special_tokens=False)
    assert starts == model.starts(tokens) == [0, *[1] * (tokens.index(259) - 1), 2, 4, 14, 14]


def test_an_answer_that_continues_a_character_is_not_given_its_first_byte_twice(tmp_path: Path) -> None:
    model = TextModel(write_text_model(tmp_path))
    assert model.detokenizer([0xC3]).feed(65) == "A"
    assert model.detokenizer([65]).feed(66) == "B"


def spaced_model(folder: Path) -> TextModel:
    """A model whose tokens are words with their spaces, as SentencePiece writes them, behind a token of its own."""
    words = {"<s>": 0, "\u2581turn": 1, "\u2581on": 2, "ing": 3}
    tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken("<s>")])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 0)])
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    write_text_model(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return TextModel(folder)


def test_the_tokenizers_own_tokens_are_added_where_they_are_wanted(tmp_path: Path) -> None:
    model = spaced_model(tmp_path)
    assert model.encode_text("turn on turning") == [1, 2, 1, 3], "and nothing of what it was trained with cuts it"
    assert model.encode_text("turn on", add_special_tokens=True) == [0, 1, 2]
    assert model.starts_in("turn on", add_special_tokens=True) == [0, 0, 4]


def test_an_answer_that_continues_a_text_keeps_the_space_before_its_first_word(tmp_path: Path) -> None:
    model = spaced_model(tmp_path)
    assert model.detokenizer().feed(2) == "on"
    assert model.detokenizer([0, 1]).feed(2) == " on"
    assert model.detokenizer([0]).feed(2) == "on"
