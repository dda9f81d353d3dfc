"""Prompts of exact length, the same for engines that take token ids and for servers that take text.

They are random words of which each is one token, after whatever; so n words are n tokens, and a chat template adds a
number of tokens that is the same for every prompt.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

_WORD = re.compile(r"[Ġ▁][a-z]+")
_LETTER = re.compile(r"[a-z]")  # for a tokenizer that knows no words
_CANDIDATES = 2000


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt. ``parts`` are the turns of a conversation, user and assistant alternating; the user's is the last."""

    parts: tuple[tuple[int, ...], ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(one for part in self.parts for one in part)


class Words:
    """The one-token words of a model's vocabulary, drawn at random from a seed."""

    def __init__(self, tokenizer_json: Path, seed: int) -> None:
        tokenizer = Tokenizer.from_file(str(tokenizer_json))
        named = sorted((number, name) for name, number in tokenizer.get_vocab().items())
        words = [(number, " " + name[1:]) for number, name in named if _WORD.fullmatch(name)]
        letters = [(number, name) for number, name in named if _LETTER.fullmatch(name)]
        spelled = dict((words or letters)[:_CANDIDATES])
        self._texts = {number: text for number, text in spelled.items() if _is_one_token(tokenizer, number, text)}
        self._ids = list(self._texts)
        self._source = random.Random(seed)

    def prompt(self, *lengths: int) -> Prompt:
        """Return a new prompt with turns of so many tokens."""
        return Prompt(tuple(tuple(self._source.choices(self._ids, k=length)) for length in lengths))

    def messages(self, prompt: Prompt, overhead: int) -> list[dict[str, Any]]:
        """Return the prompt as chat messages, its first turn shortened by the ``overhead`` of the template."""
        first, *others = prompt.parts
        cut = [first[overhead:], *others]
        roles = ("user", "assistant")
        return [
            {"role": roles[number % 2], "content": "".join(self._texts[one] for one in part)}
            for number, part in enumerate(cut)
        ]


def _is_one_token(tokenizer: Tokenizer, number: int, text: str) -> bool:
    return list(tokenizer.encode(f"x{text}{text}", add_special_tokens=False).ids[-2:]) == [number, number]
