"""The bytes that one token stands for, in both ways of writing vocabularies down."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from foundry_lite.engine.text.tokenizer import TextModel
from tests.unit.byte_tokenizer import END, OPEN_CALL, write_text_model

WORDS = ["<unk>", "<s>", "\u2581", "\u2581hi", "hi", "h", "i", "\u00e9", "<0x", "a\u2581b"]
BYTE_0 = len(WORDS)  # the tokens <0x00> to <0xFF> follow
ADDED = BYTE_0 + 256


@pytest.fixture(scope="module")
def by_bytes(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    return TextModel(write_text_model(tmp_path_factory.mktemp("bytes")))


@pytest.fixture(scope="module")
def by_text(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    """A vocabulary as Llama 2 and Gemma write theirs."""
    decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return written(tmp_path_factory.mktemp("text"), decoder)


def written(folder: Path, decoder: decoders.Decoder | None) -> TextModel:
    words = [*WORDS, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.add_special_tokens([AddedToken("<end\u2581>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    return TextModel(folder)


def test_letters_of_gpt2_stand_for_bytes(by_bytes: TextModel) -> None:
    assert [by_bytes.token_bytes(token) for token in range(256)] == [bytes([byte]) for byte in range(256)]
    assert by_bytes.token_bytes(259) == b"hi"
    assert by_bytes.token_bytes(260) == b"\xf0\x9f"  # half of an emoji


def test_added_tokens_are_their_text(by_bytes: TextModel, by_text: TextModel) -> None:
    assert by_bytes.token_bytes(END) == b"<|im_end|>"
    assert by_bytes.token_bytes(OPEN_CALL) == b"<tool_call>"
    assert by_text.token_bytes(ADDED) == "<end\u2581>".encode()


@given(st.text(st.characters(exclude_characters="<", exclude_categories=["Cs"]), max_size=20))
def test_the_bytes_of_all_tokens_are_those_of_the_text(by_bytes: TextModel, text: str) -> None:
    assert b"".join(map(by_bytes.token_bytes, by_bytes.encode_text(text))) == text.encode()


def test_marks_are_spaces_and_fallbacks_are_bytes(by_text: TextModel) -> None:
    spelt = [by_text.token_bytes(token) for token in range(BYTE_0)]
    assert spelt == [b"<unk>", b"<s>", b" ", b" hi", b"hi", b"h", b"i", "\u00e9".encode(), b"<0x", b"a b"]
    assert [by_text.token_bytes(BYTE_0 + byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]


def test_a_metaspace_is_a_space_and_nothing_else_is_a_byte(tmp_path: Path) -> None:
    model = written(tmp_path, decoders.Metaspace())
    assert model.token_bytes(3) == b" hi"
    assert model.token_bytes(BYTE_0 + 10) == b"<0x0A>"  # this decoder would show it so


def test_without_a_decoder_a_token_is_its_text(tmp_path: Path) -> None:
    assert written(tmp_path, None).token_bytes(3) == "\u2581hi".encode()


def test_the_alphabet_is_known_by_the_pre_tokenizer_too(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE({"\u0120": 0, "\u4e2d": 1}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel()])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    model = TextModel(tmp_path)
    assert model.token_bytes(0) == b" "
    assert model.token_bytes(1) == "\u4e2d".encode()  # not of the alphabet


@pytest.mark.parametrize("token", [266, 10**6])
def test_a_token_beyond_the_vocabulary_is_nothing(token: int, by_bytes: TextModel) -> None:
    """Models pad their logits: there are more of them than tokens."""
    assert by_bytes.token_bytes(token) == b""
