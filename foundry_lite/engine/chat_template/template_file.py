"""The chat templates of a model's folder, by name, and what can be found out about one without rendering it.

Source of the formats: transformers' tokenizers (``save_chat_templates``, ``get_chat_template``). The one called
``tool_use`` is used where a conversation has tools, the one called ``default`` otherwise; others are asked for by name,
which no request can do here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from foundry_lite.engine.tool_calls.detect import recognise, recognise_thoughts
from foundry_lite.errors import LoadFailed

Template = TypeVar("Template")

DEFAULT, TOOL_USE = "default", "tool_use"
FILE, CONFIG, FOLDER = "chat_template.jinja", "tokenizer_config.json", "additional_chat_templates"

_COMMENT = re.compile(r"{#.*?#}", re.S)
_CODE = re.compile(r"{%.*?%}|{{.*?}}", re.S)
_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.S)
_TOOLS = re.compile(r"(?<![.\w])(?:xml_)?tools\b")
_TOOLS_OF_A_MESSAGE = re.compile(r"""['"]tools['"]\s+in\s+message\b|\bmessage(?:\.tools\b|\[['"]tools['"]\])""")


def read_templates(folder: Path) -> dict[str, str]:
    """Return a model's chat templates by name; what is in files of their own hides those of the configuration.

    Raises `LoadFailed` when one cannot be read.
    """
    paths = template_files(folder)
    path = folder / CONFIG
    try:
        if not paths:
            return named_templates(_chat_template(json.loads(path.read_bytes())))
        found = {}
        for name, path in paths.items():
            found[name] = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LoadFailed(f"{path.name} cannot be read: {error}") from error
    return found


def template_files(folder: Path) -> dict[str, Path]:
    """Return the files that hold one template each, by its name."""
    found = {DEFAULT: folder / FILE} if (folder / FILE).is_file() else {}
    return found | {path.stem: path for path in sorted((folder / FOLDER).glob("*.jinja"))}


def named_templates(value: Any) -> dict[str, str]:
    """Return the templates of a configuration by name: one string, or several as a list or an object.

    Raises `ValueError` for anything else.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        return {DEFAULT: value}
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        value = {one.get("name"): one.get("template") for one in value}
    if not isinstance(value, dict) or not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise ValueError(f"the chat template is {json.dumps(value)[:40]}: no text, and no list of names with texts")
    return value


def template_for(templates: Mapping[str, Template], *, tools: bool) -> Template | None:
    """Return the template of a conversation with or without tools: of strings, or of what was made of them."""
    return templates.get(TOOL_USE if tools and TOOL_USE in templates else DEFAULT)


def shows_tools(template: str) -> bool:
    """Return whether a template has a place for tools: a variable, or, with Phi, a key of the system message."""
    code = " ".join(_CODE.findall(_COMMENT.sub("", template)))
    return bool(_TOOLS_OF_A_MESSAGE.search(code) or _TOOLS.search(_TEXT.sub("''", code)))


def shows_thoughts(template: str) -> bool:
    """Return whether a template contains reasoning tags: what stands between them is no part of an answer."""
    template = _COMMENT.sub("", template)
    return recognise_thoughts(recognise(template, ()), template, ()) is not None


def _chat_template(config: Any) -> Any:
    return config.get("chat_template") if isinstance(config, dict) else None
