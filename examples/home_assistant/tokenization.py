"""The tokenizer: byte-level BPE in which a word has the same tokens wherever it stands.

Whitespace is a token of its own, so " kitchen" in a sentence and "kitchen" in JSON end in the same
tokens and copying is copying. Digits are single tokens; JSON's usual punctuation is one token each.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from chat import CALL, CALL_END, END, PAD, START, segments
from data import conversation
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from vocabulary import invented

VOCABULARY_SIZE = 1024  # small, so that every token is seen often: copying is learnt token by token
# Of alternatives the first that matches wins.
PIECES = r'": \{"|": \[|": "|": |", "|\{"|"\}\}|"\}|, |\?, |: number|_\p{L}+|\p{L}+|\p{N}|\s|[^\s\p{L}\p{N}]'


def train_tokenizer(seed: int, conversations: int = 12_000) -> Tokenizer:
    """Train the tokenizer on generated conversations and a heap of invented words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 2,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, conversations), trainer)
    # Not special: clients that skip special tokens must still see the tags of a call.
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in (CALL, CALL_END)])
    return tokenizer


def _texts(seed: int, conversations: int) -> Iterator[str]:
    rng = random.Random(f"tokenizer {seed}")
    for _ in range(conversations):
        made = conversation(rng)
        yield "".join(text for text, _ in segments(made.messages, made.tools))
        yield invented(rng, 4)


def encode(tokenizer: Tokenizer, pieces: list[tuple[str, bool]]) -> tuple[list[int], list[bool]]:
    """Return token ids and, for each, whether the assistant wrote it."""
    tokens: list[int] = []
    written: list[bool] = []
    for text, is_answer in pieces:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokens += ids
        written += [is_answer] * len(ids)
    return tokens, written
