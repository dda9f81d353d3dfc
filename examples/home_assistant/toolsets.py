"""Tools as one conversation offers them: which families, under which names, with which parameters."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chat import DEFAULT_TOOLS, schema
from families import PARAMETER_NAMES, Family, Intent, ToolSpec
from more_families import FAMILIES
from values import Value
from vocabulary import HELDOUT, NUMBER_RANGES, TRAINING, invented


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NUMBERS = {*NUMBER_RANGES, "amount"}
# Wordings of these overlap ("turn off the music"): where only one has its tool, a refusal would be wrong.
OVERLAPS = {
    "power": {
        "lights",
        "scene",
        "music",
        "oven",
        "vacuum",
        "timer",
        "alarm",
        "brightness",
        "colour",
        "channel",
        "heating",
        "volume",
        "generic",
    },
    "lights": {"power", "colour", "brightness"},
    "climate": {"weather"},
    "weather": {"climate"},
    "status": {"power"},
    "notes": {"reminder"},
    "scene": {"power"},
    "music": {"volume"},
    "brightness": {"volume", "heating"},
    "heating": {"oven", "brightness", "volume"},
    "volume": {"heating", "brightness"},
    "colour": {"lights", "brightness", "scene"},
    "generic": {"power", "vacuum", "oven", "blinds", "doors", "status", "lists", "music", "climate", "timer", "alarm"},
}
VERBS = (
    "start",
    "stop",
    "open",
    "close",
    "check",
    "run",
    "reset",
    "show",
    "enable",
    "disable",
    "pause",
    "clean",
    "test",
    "lock",
    "feed",
    "fill",
    "empty",
    "park",
    "charge",
)
HELDOUT_VERBS = ("start", "stop", "reset", "test", "enable", "drain", "rinse", "calibrate")
DONE = "Done."
WEAK_PARTS = frozenset(
    _words(
        "set get turn switch device change control read check create make room level item song music light lights to"
        " from schedule run take save send add play move show activate start color temperature of"
    )
)  # parts of names that a tool can do without
NEUTRAL_WORDS = _words(
    "my smart hub action request exec api main quick remote call do task_a unit_b house flat user key input field arg"
    " param option choice target place_id ref line one two core basic custom direct simple auto manual invoke apply_to"
    " perform issue submit manage handle operate put give push trigger ask fetch find view look request_new"
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool under the names of one conversation; ``parameters`` maps slots to names, in signature order."""

    family: str
    spec: ToolSpec
    name: str
    parameters: dict[str, str]
    serves: dict[str, dict[str, str]] = field(default_factory=dict)  # intent → choices

    def call(self, intent: str, values: dict[str, Value]) -> dict[str, Any]:
        """Return the call for ``intent``, arguments in the order of the signature."""
        given = {**values, **self.serves[intent]}
        return {
            "name": self.name,
            "arguments": {name: given[slot] for slot, name in self.parameters.items() if slot in given},
        }

    @property
    def required(self) -> set[str]:
        """The slots without which there is no call."""
        return {slot for slot in self.spec.slots if not slot.endswith("?")}

    def openai(self) -> dict[str, Any]:
        """Return OpenAI's JSON for this tool."""
        optional = [self.parameters[slot[:-1]] for slot in self.spec.slots if slot.endswith("?")]
        return schema(self.name, [(name, self._kind(slot)) for slot, name in self.parameters.items()], optional)

    def _kind(self, slot: str) -> str:
        if slot in self.spec.choices:
            return "|".join(self.spec.choices[slot])
        return "number" if slot in NUMBERS else "string"


@dataclass(frozen=True, slots=True)
class Toolset:
    """What one conversation offers; ``generic`` holds tools that are no family's, as (verb, noun, slot)."""

    tools: tuple[Tool, ...]
    generic: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    is_default: bool = False

    def find(self, family: str, intent: str) -> Tool | None:
        """Return the tool that serves an intent, if one is there."""
        return next((tool for tool in self.tools if tool.family == family and intent in tool.serves), None)

    def families(self) -> set[str]:
        """Return the names of the families with at least one tool here."""
        return {tool.family for tool in self.tools}

    def openai(self) -> list[dict[str, Any]] | None:
        """Return OpenAI's JSON for all tools, ``None`` for the built-in ones."""
        return None if self.is_default else [tool.openai() for tool in self.tools]


def intent_of(family: str, intent: str) -> Intent:
    """Return an intent by its names."""
    return FAMILIES[family].intents[intent]


def default_toolset() -> Toolset:
    """Return the built-in tools that the template shows when the caller passes none."""
    wanted = [
        ("power", "on"),
        ("power", "off"),
        ("heating", "heat"),
        ("brightness", "dim"),
        ("timer", "start"),
        ("lists", "add"),
        ("music", "play"),
        ("climate", "temperature"),
    ]
    tools = []
    for declared, (family, intent) in zip(DEFAULT_TOOLS, wanted, strict=True):
        names = list(declared["function"]["parameters"]["properties"])
        spec, choices = next(
            form[intent] for form in FAMILIES[family].forms if intent in form and _fits(form[intent][0], names)
        )
        bare = [slot.rstrip("?") for slot in spec.slots]
        by_name = {
            next(n for n in names if n in (*PARAMETER_NAMES[slot][0], *PARAMETER_NAMES[slot][1])): slot for slot in bare
        }
        tools.append(
            Tool(family, spec, declared["function"]["name"], {by_name[n]: n for n in names}, {intent: choices})
        )
    return Toolset(tuple(tools), is_default=True)


def _fits(spec: ToolSpec, names: list[str]) -> bool:
    bare = [slot.rstrip("?") for slot in spec.slots]
    return (
        len(bare) == len(names)
        and not spec.choices
        and all(any(n in PARAMETER_NAMES[s][0] for s in bare) for n in names)
    )


def toolset(rng: random.Random, *, heldout: bool, novelty: float = 0.0) -> Toolset:
    """Return one to eight tools of a few families, some with siblings missing.

    ``novelty`` is the share of tools whose names have a part that no list knows, so that names get copied.
    """
    if rng.random() < 0.12:
        return default_toolset()
    tools: list[Tool] = []
    groups: set[str] = set()
    for family in rng.sample(sorted(FAMILIES), rng.choice((1, 1, 2, 2, 3, 3, 4, 5))):
        group = FAMILIES[family].group
        if group and group in groups:
            continue
        groups.add(group)
        tools += _family_tools(family, FAMILIES[family], rng, heldout=heldout)
    generic = {}
    if rng.random() < 0.3 and "power" not in groups:
        made, generic = _generic_tools(rng, heldout=heldout)
        tools += made
    if novelty:
        tools = [_renamed(tool, rng) if rng.random() < novelty else tool for tool in tools]
    tools = list({tool.name: tool for tool in tools}.values())[:8]
    rng.shuffle(tools)
    names = {tool.name for tool in tools}
    return Toolset(tuple(tools), {name: what for name, what in generic.items() if name in names})


def _family_tools(name: str, family: Family, rng: random.Random, *, heldout: bool) -> list[Tool]:
    form = rng.choice(family.forms)
    specs: dict[int, ToolSpec] = {id(spec): spec for spec, _ in form.values()}
    style = _style(rng)
    made = []
    for spec in specs.values():
        serves = {intent: choices for intent, (other, choices) in form.items() if other is spec}
        made.append(
            Tool(name, spec, style(_name(spec, rng, heldout=heldout)), _parameters(spec, rng, heldout=heldout), serves)
        )
    kept = [tool for tool in made if rng.random() < 0.75]
    return kept or [rng.choice(made)]


def _name(spec: ToolSpec, rng: random.Random, *, heldout: bool) -> str:
    return rng.choice(spec.heldout_names if heldout and rng.random() < 0.4 else spec.names)


def _style(rng: random.Random) -> Callable[[str], str]:
    draw = rng.random()
    if draw < 0.08:
        return lambda name: name.split("_")[0] + "".join(word.title() for word in name.split("_")[1:])
    if draw < 0.14:
        prefix = rng.choice(("home_", "ha_", "house_", "smart_home_"))
        return lambda name: prefix + name
    if draw < 0.17:
        return lambda name: name.replace("_", "-")
    return lambda name: name


def _parameters(spec: ToolSpec, rng: random.Random, *, heldout: bool) -> dict[str, str]:
    bare = [slot.rstrip("?") for slot in (*spec.slots, *spec.choices)]
    if rng.random() < 0.3:
        rng.shuffle(bare)
    while True:
        chosen = {slot: rng.choice(PARAMETER_NAMES[slot][heldout and rng.random() < 0.3]) for slot in bare}
        if len(set(chosen.values())) == len(chosen):
            return chosen


def _renamed(tool: Tool, rng: random.Random) -> Tool:
    """Give a tool of a family names that need not be known to be used."""
    if tool.family == "generic":
        return tool
    parts = tool.name.split("_")
    weak = [index for index, part in enumerate(parts) if part in WEAK_PARTS]
    if weak and len(parts) > 1 and rng.random() < 0.7:
        parts[rng.choice(weak)] = _new_word(rng)
    else:
        parts.insert(rng.randint(0, len(parts)), _new_word(rng))
    name = "_".join(parts) if rng.random() < 0.85 else parts[0] + "".join(part.title() for part in parts[1:])
    parameters = dict(tool.parameters)
    for slot in rng.sample(list(parameters), min(len(parameters), rng.choice((0, 1, 1, 2)))):
        parameters[slot] = f"{_new_word(rng)}_{parameters[slot]}" if rng.random() < 0.25 else _new_word(rng)
    if len(set(parameters.values())) < len(parameters):
        return tool
    return Tool(tool.family, tool.spec, name, parameters, tool.serves)


def _new_word(rng: random.Random) -> str:
    return invented(rng) if rng.random() < 0.6 else rng.choice(NEUTRAL_WORDS)


def _generic_tools(rng: random.Random, *, heldout: bool) -> tuple[list[Tool], dict[str, tuple[str, str, str]]]:
    verbs, nouns = (HELDOUT_VERBS, HELDOUT["noun"]) if heldout else (VERBS, TRAINING["noun"])
    noun, verb = generic_noun(rng, nouns), rng.choice(verbs)
    pairs = [(verb, noun)]
    if rng.random() < 0.5:  # a near miss: same thing or same deed
        pairs.append((rng.choice(verbs), noun) if rng.random() < 0.5 else (verb, generic_noun(rng, nouns)))
    tools, generic = [], {}
    for verb, noun in pairs:
        slot = rng.choice(("", "", "mode", "amount"))
        parameter = {
            "mode": rng.choice(("program", "mode", "setting")),
            "amount": rng.choice(("amount", "speed", "minutes")),
        }.get(slot, "")
        name = f"{verb}_{noun.replace(' ', '_')}"
        tools.append(
            Tool(
                "generic",
                ToolSpec((), (), (slot,) if slot else ()),
                name,
                {slot: parameter} if slot else {},
                {name: {}},
            )
        )
        generic[name] = (verb, noun, slot)
    return tools, generic


def generic_noun(rng: random.Random, nouns: tuple[str, ...]) -> str:
    """Return a thing, known or invented."""
    return rng.choice(nouns) if rng.random() < 0.6 else invented(rng, rng.choice((1, 1, 2)))
