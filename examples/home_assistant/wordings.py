"""The small pattern language of wordings: ``(a|b)`` chooses, ``[x]`` may be left out, ``{slot}`` is filled.

``[a|b]`` leaves out or chooses one. Groups may be nested one level deep.
"""

from __future__ import annotations

import itertools
import random
import re

_GROUP = re.compile(r"\(([^()\[\]]*)\)|\[([^()\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


def choose(pattern: str, rng: random.Random) -> str:
    """Return one text of ``pattern``, slots still in braces."""
    while group := _GROUP.search(pattern):
        taken = rng.choice(group[1].split("|")) if group[1] is not None else _optional(group[2], rng)
        pattern = pattern[: group.start()] + taken + pattern[group.end() :]
    return pattern


def _optional(inside: str, rng: random.Random) -> str:
    return rng.choice(inside.split("|")) if rng.random() < 0.5 else ""


def expand(pattern: str) -> set[str]:
    """Return every text of ``pattern``, slots still in braces."""
    group = _GROUP.search(pattern)
    if group is None:
        return {pattern}
    options = group[1].split("|") if group[1] is not None else ["", *group[2].split("|")]
    parts = (expand(pattern[: group.start()] + option + pattern[group.end() :]) for option in options)
    return set(itertools.chain.from_iterable(parts))


def slots(text: str) -> list[str]:
    """Return the slots of ``text`` in order."""
    return _SLOT.findall(text)


def fill(text: str, values: dict[str, str]) -> str:
    """Return ``text`` with its slots filled."""
    return _SLOT.sub(lambda match: values[match[1]], text)


def say(sentence: str, values: dict[str, str]) -> str:
    """Fill a reply, keeping each ``[group]`` only if all its slots have values."""

    def keep(match: re.Match[str]) -> str:
        return match[1] if all(slot in values for slot in slots(match[1])) else ""

    return fill(re.sub(r"\[([^\]]*)\]", keep, sentence), values)
