"""The chat templates of a source, in every format that transformers knows, each checked with a test message."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from foundry_lite.conversion.formats.safe_files import check_file, exists, read_json, read_text
from foundry_lite.engine.chat_template.template import ChatTemplate
from foundry_lite.engine.chat_template.template_file import CONFIG, DEFAULT, FILE, FOLDER, TOOL_USE, named_templates
from foundry_lite.errors import InvalidRequest, LoadFailed, NotAModel
from foundry_lite.generation import Chat, Message, Role, Tool

PLAIN_TEMPLATE_NOTE = (
    "It has no chat template: a plain one ('user: …', 'assistant: …') is put in its place. "
    "If it was trained with one, save that as chat_template.jinja."
)
JSON = "chat_template.json"  # what processors save, and they alone read

_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
_NAME = re.compile(r"\w[\w.-]{0,99}")
_ASKED = (Message(Role.USER, "Hello"),)
_CHATS = {DEFAULT: Chat(_ASKED), TOOL_USE: Chat(_ASKED, (Tool("look", "Looks.", {"type": "object"}),))}
_CORRECT = "Correct it; or remove it, and a plain one is put in its place."


def template_paths(folder: Path) -> tuple[Path, ...]:
    """Return the files beside the ordinary ones that hold a template each. Raises `UnsafeSource`."""
    return tuple(check_file(path, root=folder) for path in sorted((folder / FOLDER).glob("*.jinja")))


def read_templates(folder: Path) -> dict[str, str]:
    """Return the chat templates by name, from wherever they lie, as transformers finds them.

    Raises `NotAModel` or `UnsafeSource`.
    """
    found = {DEFAULT: read_text(folder / FILE)} if exists(folder / FILE) else {}
    found |= {path.stem: read_text(path) for path in template_paths(folder)}
    for name in () if found else (CONFIG, JSON):
        value = read_json(folder / name).get("chat_template") if exists(folder / name) else None
        try:
            found = found or named_templates(value)
        except ValueError as error:
            raise NotAModel(f"{name}: {error}", hint="Save the tokenizer again.") from error
    return found


def write_templates(folder: Path, templates: Mapping[str, str]) -> None:
    """Write templates as transformers does, replacing all that a folder has in files of their own."""
    (folder / FILE).unlink(missing_ok=True)  # it may be a link
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    for name, text in templates.items():
        path = folder / (FILE if name == DEFAULT else f"{FOLDER}/{name}.jinja")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def check_templates(folder: Path) -> dict[str, str]:
    """Return the chat templates that a folder brings; those that will be used can render a user's message.

    Raises `NotAModel` when one cannot be parsed, raises, or does not end, or none is for ordinary conversations.
    """
    config = read_json(folder / CONFIG) if exists(folder / CONFIG) else {}
    special = {name: text for name in _TOKENS if (text := _token_text(config.get(name))) is not None}
    templates = read_templates(folder)
    try_templates(templates, special)
    return templates


def try_templates(templates: Mapping[str, str], special: dict[str, str]) -> None:
    """Render one user's message with each template that will be used. Raises `NotAModel` when one cannot."""
    if odd := [name for name in templates if not _NAME.fullmatch(name)]:
        raise NotAModel(f"a chat template is called {odd[0][:60]!r}, which is no name", hint="Give it a plain name.")
    if templates and DEFAULT not in templates:
        raise NotAModel(
            f"it has the chat templates {_listed(templates)}, and none that is called '{DEFAULT}', which conversations "
            "without tools need",
            hint=f"Save that one as {FILE}.",
        )
    for name, chat in _CHATS.items():
        if name in templates:
            which = "the chat template" if name == DEFAULT else f"the chat template '{name}'"
            _try_template(which, templates[name], special, chat)


def notes_on(templates: Collection[str]) -> tuple[str, ...]:
    """Return what the user should know of the names of a source's templates: which of them is used when."""
    if not templates:
        return (PLAIN_TEMPLATE_NOTE,)
    others = sorted(set(templates) - set(_CHATS))
    notes = []
    if TOOL_USE in templates:
        notes.append(f"Its chat template '{TOOL_USE}' is used where a request has tools, as in transformers.")
    if others:
        notes.append(f"Its chat templates {_listed(others)} are not used: no request can ask for one by name.")
    return tuple(notes)


def _try_template(which: str, source: str, special: dict[str, str], chat: Chat) -> None:
    try:
        text = ChatTemplate(source, special).render(chat, lambda content, _role: content)
    except (LoadFailed, InvalidRequest) as error:
        raise NotAModel(f"{which} cannot be used: {error.message}", hint=_CORRECT) from error
    if "Hello" not in text:
        raise NotAModel(f"{which} leaves out what the user says (it rendered 'Hello' without it)", hint=_CORRECT)


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name[:60]}'" for name in sorted(names)[:8])


def _token_text(value: Any) -> str | None:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None
