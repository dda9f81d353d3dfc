"""Does the engine write and encode prompts as transformers does? Compared token for token, before anything is scored.

A prompt that differs in one token from those of the training costs more accuracy than any quantization, and nobody
would see it in the weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from foundry_lite.conversion.evaluate.reference import Question, Record, Rendered, as_question
from foundry_lite.engine.chat_template.template_file import read_templates
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.errors import CheckFailed, InvalidRequest
from foundry_lite.generation import Chat, Message, Role, Tool, ToolCall

_SHOWN = 6  # tokens around a difference
_DATED = "strftime_now"  # a template that asks for it writes another prompt every day

_WEATHER = Tool(
    "get_weather",
    "The weather of a place.",
    {
        "type": "object",
        "properties": {
            "place": {"type": "string", "description": "A town, such as Łódź."},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer"},
        },
        "required": ["place"],
    },
)
_ASKED = Message(Role.USER, "What is the weather in Oslo, and what should I wear?")

# Tests of a template: every role, white space at the ends, characters beyond ASCII, quotes, a call and a result.
CONVERSATIONS: dict[str, Chat] = {
    "a question": Chat((Message(Role.USER, "Hello, who are you?"),)),
    "a question with white space and quotes": Chat(
        (Message(Role.USER, "  Say \"grüß dich\" & 'こんにちは' <b>twice</b>\n\n"),)
    ),
    "a system message": Chat(
        (Message(Role.SYSTEM, "You are brief.\nAnswer in one line."), Message(Role.USER, "Name three colours."))
    ),
    "several turns": Chat(
        (
            Message(Role.USER, "What is 2 + 2?"),
            Message(Role.ASSISTANT, "It is 4."),
            Message(Role.USER, "And one more?"),
            Message(Role.ASSISTANT, "  5 "),
            Message(Role.USER, "Thank you!"),
        )
    ),
    "a tool": Chat((_ASKED,), (_WEATHER,)),
    "a tool and a system message": Chat((Message(Role.SYSTEM, "Be kind."), _ASKED), (_WEATHER,)),
    "no tools": Chat((_ASKED,), ()),
    "a tool's result": Chat(
        (
            _ASKED,
            Message(
                Role.ASSISTANT, None, None, (ToolCall("abcdefghi", "get_weather", '{"place": "Oslo", "days": 2}'),)
            ),
            Message(Role.TOOL, '{"degrees": -3, "sky": "schön"}', "get_weather", (), "abcdefghi"),
        ),
        (_WEATHER,),
    ),
}


def check_tokenizer(text_model: TextModel, texts: Sequence[tuple[str, list[int]]]) -> None:
    """Compare how texts are encoded; each comes with the first of transformers' tokens. Raises `CheckFailed`."""
    for text, theirs in texts:
        ours = text_model.encode_text(text)[: len(theirs)]
        if ours != theirs:
            raise CheckFailed(
                f"tokenizer.json does not encode {text[:40]!r} as transformers does: "
                f"{_difference(text_model, ours, theirs)}",
                hint="Save the tokenizer again with the transformers version that trained the model.",
            )


def check_templates(
    folder: Path, text_model: TextModel, chats: Sequence[tuple[str, Chat, Rendered]], record: Record
) -> int:
    """Compare how conversations, each with its name, are written. Return how many were; raise `CheckFailed`.

    Conversations that spell a control token are left out: in what a user writes it is no control token here, by
    design (docs/decisions/0006). So are those with tools or calls that the template does not render, which the engine
    reports and transformers drops, and all where the template writes the date and the record is of another day.
    Where a template stumbles over calls in transformers alone, it was helped here (`engine.chat_template.context`).
    """
    if _is_dated(folder) and record.date != datetime.now().astimezone().date().isoformat():
        return 0
    controls = _control_texts(folder)
    compared = 0
    for name, chat, theirs in chats:
        spelled = any(control in text for text in _texts(chat) for control in controls)
        has_place = (text_model.shows_tools or not chat.tools) and (
            text_model.tells_calls(chat) or not _has_calls(chat)
        )
        if not spelled and has_place:
            _compare(text_model, name, chat, theirs)
            compared += 1
    return compared


def _compare(text_model: TextModel, name: str, chat: Chat, theirs: Rendered) -> None:
    hint = "Report the model's chat template; until then, its prompts would not be those it was trained with."
    try:
        ours = text_model.encode_chat(chat)
    except InvalidRequest as error:
        if theirs.error:
            return
        raise CheckFailed(f"the chat template is not rendered here, for {name}: {error.message}", hint) from error
    if theirs.error:
        if _has_calls(chat):
            return
        raise CheckFailed(f"the chat template refuses {name} in transformers, and not here: {theirs.error}", hint)
    if ours != list(theirs.tokens):
        difference = _difference(text_model, ours, list(theirs.tokens))
        raise CheckFailed(f"the chat template writes {name} otherwise than in transformers: {difference}", hint)


def _has_calls(chat: Chat) -> bool:
    return any(message.tool_calls for message in chat.messages)


def _difference(text_model: TextModel, ours: list[int], theirs: list[int]) -> str:
    """Quote the first difference, with what stands before it."""
    pairs = zip(ours, theirs, strict=False)
    at = next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
    before = _quote(text_model, ours[max(0, at - _SHOWN) : at])
    here, there = _quote(text_model, ours[at : at + _SHOWN]), _quote(text_model, theirs[at : at + _SHOWN])
    return f"after {before}, token {at}, this is {here} {ours[at : at + 2]}, there {there} {theirs[at : at + 2]}"


def _quote(text_model: TextModel, tokens: Sequence[int]) -> str:
    if not tokens:
        return "nothing"
    return repr(b"".join(text_model.token_bytes(one) for one in tokens).decode(errors="replace"))


def _texts(chat: Chat) -> list[str]:
    """Return all that the caller wrote."""
    texts = [json.dumps([tool.name, tool.description, tool.parameters]) for tool in chat.tools or ()]
    for message in chat.messages:
        texts += [message.content or "", message.name or "", *(call.arguments for call in message.tool_calls)]
    return texts


def _control_texts(folder: Path) -> list[str]:
    """Return the strings that a tokenizer matches as added tokens, except single characters and white space."""
    added = json.loads((folder / "tokenizer.json").read_bytes()).get("added_tokens") or []
    return [one["content"] for one in added if len(one["content"]) > 1 and not one["content"].isspace()]


def _is_dated(folder: Path) -> bool:
    return any(_DATED in template for template in read_templates(folder).values())


def as_questions() -> tuple[Question, ...]:
    """Return the conversations as questions for the source to render, in their order."""
    return tuple(as_question(chat, name=name) for name, chat in CONVERSATIONS.items())
