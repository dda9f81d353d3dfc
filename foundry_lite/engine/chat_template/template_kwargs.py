"""Chat template variables of a request, beside the messages: ``chat_template_kwargs`` and the reasoning effort.

Only names that the template itself asks for, and none that we give it; only plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Chat, Role

_FIELD = "chat_template_kwargs"
_EFFORT = "reasoning_effort"
_SWITCHES = ("enable_thinking", "thinking")
_LONGEST = 4096  # characters of one text
_MOST = 64  # members of one list


def read_variables(
    chat: Chat, known: Collection[str], reserved: Collection[str], guard: Callable[[str, Role], str]
) -> dict[str, Any]:
    """Return the variables of a rendering. Raises `InvalidRequest` for those that the template would not see.

    ``known`` are the names that the template asks for, ``reserved`` those that are ours to give.
    """
    for name, value in chat.variables.items():
        param = f"{_FIELD}.{name}"
        if name in reserved or name not in known:
            settable = sorted(set(known) - set(reserved))
            names = ", ".join(settable) if settable else "none"
            reason = f"'{param}': the model's chat template takes no such variable; those it takes: {names}"
            raise InvalidRequest(reason, param, "unsupported_parameter")
        if not _is_plain(value):
            reason = f"'{param}' must be a text, a number, true, false, null, or a short list of them"
            raise InvalidRequest(reason, param, "invalid_value")
    given = {name: _guarded(value, guard) for name, value in chat.variables.items()}
    return {**_read_effort(chat, known, guard), **given}


def _read_effort(chat: Chat, known: Collection[str], guard: Callable[[str, Role], str]) -> dict[str, Any]:
    """Return the reasoning effort in the variables of the template: a degree, or a switch."""
    effort = chat.reasoning_effort
    if effort is None:
        return {}
    if _EFFORT in known:
        return {_EFFORT: guard(effort, Role.SYSTEM)}
    switches = [name for name in _SWITCHES if name in known]
    if not switches:
        reason = f"'{_EFFORT}': the model's chat template knows no reasoning effort, and no switch for thinking"
        raise InvalidRequest(reason, _EFFORT, "unsupported_parameter")
    return dict.fromkeys(switches, effort != "none")


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _MOST and all(not isinstance(one, list) and _is_plain(one) for one in value)
    if isinstance(value, str):
        return len(value) <= _LONGEST
    return value is None or isinstance(value, bool | int | float)


def _guarded(value: Any, guard: Callable[[str, Role], str]) -> Any:
    if isinstance(value, list):
        return [_guarded(one, guard) for one in value]
    return guard(value, Role.SYSTEM) if isinstance(value, str) else value
