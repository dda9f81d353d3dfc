"""The texts that quantization is calibrated on: neutral ones of ours, in the model's own tokens.

Dialogues among them are also rendered with the model's template: keys of its control tokens are unlike any others.
"""

from __future__ import annotations

import re
from pathlib import Path

from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Chat, Message, Role

TOKENS = 256  # of one text at most: what is computed together

_TEXTS = Path(__file__).with_name("calibration.txt")
_TURN = re.compile(r"^(System|User|Assistant): ", re.MULTILINE)


def calibration_tokens(folder: Path) -> tuple[tuple[int, ...], ...]:
    """Return the calibration texts in tokens of the model in ``folder``, in pieces of at most `TOKENS`."""
    text_model = TextModel(folder)
    pieces = [text.strip() for text in _TEXTS.read_text(encoding="utf-8").split("\n---\n")]
    texts = [text_model.encode_text(text) for text in pieces]
    texts += [tokens for text in pieces if (tokens := _as_chat(text_model, text))]
    return tuple(tuple(tokens[at : at + TOKENS]) for tokens in texts for at in range(0, len(tokens), TOKENS))


def _as_chat(text_model: TextModel, text: str) -> list[int]:
    """Render a dialogue; nothing for any other text, or when the template does not want it."""
    _, *turns = _TURN.split(text)
    if not turns:
        return []
    roles = [Role(name.lower()) for name in turns[::2]]
    messages = tuple(Message(role, said.strip()) for role, said in zip(roles, turns[1::2], strict=True))
    try:
        return text_model.encode_chat(Chat(messages))
    except InvalidRequest:
        return []
