"""Conversations to train on, and the held-out cases: different wordings, different values, from one seed.

Run it to write ``heldout.jsonl`` anew; the same seed gives the same bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import talk
from chat import call_text
from more_families import FAMILIES
from more_wordings import MORE_WORDINGS
from toolsets import DONE, HELDOUT_VERBS, OVERLAPS, VERBS, Tool, Toolset, generic_noun, intent_of, toolset
from values import Value, digits, value
from vocabulary import HELDOUT, TRAINING, invented
from wordings import choose, fill, say, slots

HELDOUT_SEED = 20_26
HELDOUT_COUNTS = {"tool_call": 400, "result": 70, "about": 80, "multi_turn": 90, "refusal": 80}
GENERIC = (
    "{verb} the {noun}",
    "{verb} my {noun}",
    "{verb} {noun}",
    "=i want you to {verb} the {noun}",
    "=the {noun}: {verb} it",
)
GENERIC_MODE = (
    "{verb} the {noun} (in|on|with) {mode}[ mode| program]",
    "{verb} the {noun}, {mode} mode",
    "=use {mode} to {verb} the {noun}",
)
GENERIC_AMOUNT = (
    "{verb} the {noun} (at|with|for) {amount}",
    "{verb} the {noun}, {amount}",
    "=with {amount}, {verb} the {noun}",
)
HELDOUT_GENERIC = ("{verb} that {noun}", "=it is time to {verb} the {noun}", "=somebody should {verb} the {noun}")
HELDOUT_GENERIC_MODE = ("{verb} that {noun} in {mode} mode", "=please use {mode} mode to {verb} the {noun}")
HELDOUT_GENERIC_AMOUNT = ("{verb} that {noun} with {amount}", "=it is time to {verb} the {noun} at {amount}")
GENERIC_PATTERNS = {
    False: {"": GENERIC, "mode": GENERIC_MODE, "amount": GENERIC_AMOUNT},
    True: {"": HELDOUT_GENERIC, "mode": HELDOUT_GENERIC_MODE, "amount": HELDOUT_GENERIC_AMOUNT},
}
TELLING = frozenset(
    word
    for line in (
        "on off up down open close opened closed lock locked unlock unlocked in the to at by of from for that not no",
        "list no stop cancel delete remove clear add next skip temperature humidity percent degrees alarm timer volume",
        "weather battery channel oven calendar note message call song music brightness light lights blinds shutters",
        "pause curtains scene mode remind reminder is dark bright time vacuum robot my tell list, list: and",
    )
    for word in line.split()
)  # words that a wording cannot do without
CLOSED_OFF = frozenset(
    ("{room}", "{device}", "{door}", "{item}", "{person}", "{place}", "{scene}", "{label}", "{colour}")
)
AFTER = tuple(
    word
    for line in (
        "be is are was has have had should must could would will goes go gets being then yet again already there here",
        "up down over out but though while reads shows needs wants seems looks high full empty ready too also once",
        "right away soon later first next in at on for with without because since after before if when as now",
    )
    for word in line.split()
)  # what may follow a slot, so that a slot's end is learnt and not one list of words behind it
FILLERS = tuple(
    word
    for line in (
        "maybe simply perhaps once really quite soon also there kind sort able possible wish hope try help little bit",
        "thing stuff find look keep bring take move put give show let have make want like love idea good fine great",
    )
    for word in line.split()
)


@dataclass(slots=True)
class State:
    """The request that was understood last, for follow-ups."""

    family: str
    intent: str
    tool: Tool
    values: dict[str, Value]


@dataclass(slots=True)
class Conversation:
    """Messages in OpenAI's form, tools (``None``: the built-in ones), and the kind of each assistant turn."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None
    kinds: list[str] = field(default_factory=list)


class Speaker:
    """Writes conversations turn by turn, from the training or from the held-out words."""

    def __init__(self, rng: random.Random, *, heldout: bool, novelty: float = 0.0) -> None:
        self.rng = rng
        self.heldout = heldout
        self.novelty = novelty  # share of requests with a word that means nothing
        self.offer = Toolset(())
        self.conversation = Conversation()
        self.state: State | None = None

    def begin(self, offer: Toolset) -> Conversation:
        """Start a conversation with these tools, sometimes with the caller's own system message."""
        self.offer, self.state = offer, None
        self.conversation = Conversation(tools=offer.openai())
        if self.rng.random() < 0.15:
            self._say("system", self.rng.choice(talk.HELDOUT_SYSTEM_MESSAGES if self.heldout else talk.SYSTEM_MESSAGES))
        return self.conversation

    def ask(self) -> bool:
        """Add a request that a tool serves, and its call; false if no tool is there."""
        pairs = [(tool, intent) for tool in self.offer.tools for intent in tool.serves]
        for _ in range(8):
            if not pairs:
                return False
            tool, intent = self.rng.choice(pairs)
            asked = self._generic(tool) if tool.family == "generic" else self._request(tool, intent)
            if asked is not None:
                self._say("user", asked[0])
                self._call(State(tool.family, intent, tool, asked[1]))
                return True
        return False

    def follow_up(self) -> bool:
        """Add a request that only makes sense after the last one; false if none fits."""
        state = self.state
        if state is None or state.family == "generic":
            return False
        intent = intent_of(state.family, state.intent)
        options = list(intent.heldout_follow_ups if self.heldout else intent.follow_ups)
        self.rng.shuffle(options)
        for target, pattern in options:
            if following := self._following(state, target, pattern):
                self._say("user", self._finish(following[0], is_sentence=True))
                self._call(following[1])
                return True
        return False

    def _following(self, state: State, target: str, pattern: str) -> tuple[str, State] | None:
        if not slots(pattern):  # the opposite: "turn it off again"
            tool = self.offer.find(state.family, target)
            if tool is None:
                return None
            known = {slot: kept for slot, kept in state.values.items() if slot in tool.parameters}
            if not tool.required <= set(known):
                return None
            return choose(pattern, self.rng), State(state.family, target, tool, known)
        text = self._durations(choose(pattern, self.rng), state.tool)
        changed = set(slots(text))
        if not changed <= set(state.tool.parameters):
            return None
        values = {slot: value(slot, self.rng, heldout=self.heldout) for slot in sorted(changed)}
        return fill(text, _texts(values)), State(state.family, state.intent, state.tool, {**state.values, **values})

    def result(self) -> None:
        """Add what the tool returned and the sentence that tells it."""
        state = self.state
        assert state is not None
        if self.rng.random() < 0.13:
            content, sentence = self._problem()
        elif state.family == "generic":
            content, sentence = self._done(), DONE
        else:
            intent = intent_of(state.family, state.intent)
            content, found = self._returned(intent.result)
            sentence = say(intent.sentence, {**_texts(_with_duration(state.values)), **found})
            if intent.result == "items" and not found["items"]:
                sentence = f"The {state.values['list']} list is empty."
        self._say("tool", content)
        self._answer(sentence, "result")

    def about(self) -> None:
        """Add a question about the assistant or foundry-lite."""
        topic = self.rng.choice(talk.TOPICS)
        question = choose(self.rng.choice(topic.heldout if self.heldout else topic.questions), self.rng)
        if self.rng.random() < 0.12:
            question = self._opener() + question
        self._say("user", self._punctuate(question, "?"))
        self._answer(topic.answer, "about")

    def refuse(self) -> None:
        """Add a request that no tool here serves, or a question about the world."""
        asked = self._missing() if self.rng.random() < 0.5 else None
        if asked is None:
            asked = self._outside()
        self._say("user", asked)
        self._answer(talk.REFUSAL, "refusal")

    def _missing(self) -> str | None:
        here = self.offer.families()
        if not self.offer.tools:
            offered = toolset(self.rng, heldout=self.heldout)
        elif self.rng.random() < 0.5:
            offered = Toolset(())
        else:
            offered = toolset(self.rng, heldout=self.heldout)
        siblings = [
            (f, i) for f in sorted(here - {"generic"}) for i in FAMILIES[f].intents if self.offer.find(f, i) is None
        ]
        if not offered.tools:
            return self._missing_sibling(siblings)
        tool = self.rng.choice(offered.tools)
        blocked = {tool.family, *OVERLAPS.get(tool.family, ())}
        if here & blocked or any(tool.family in OVERLAPS.get(family, ()) for family in here):
            return None
        if tool.family == "generic":
            asked = self._generic(tool, source=offered)
        else:
            asked = self._request(tool, self.rng.choice(list(tool.serves)))
        return asked[0] if asked else None

    def _missing_sibling(self, siblings: list[tuple[str, str]]) -> str | None:
        if self.offer.generic and self.rng.random() < 0.5:
            return self._near_generic()
        if not siblings:
            return None
        family, intent = self.rng.choice(siblings)
        forms = [form[intent] for form in FAMILIES[family].forms if intent in form]
        spec, choices = self.rng.choice(forms)
        bare = {slot.rstrip("?"): slot for slot in spec.slots}
        asked = self._request(Tool(family, spec, "", bare, {intent: choices}), intent)
        return asked[0] if asked else None

    def _near_generic(self) -> str | None:
        """The same deed on another thing, or another deed on the same thing."""
        verb, noun, _ = self.rng.choice(list(self.offer.generic.values()))
        if self.rng.random() < 0.5:
            noun = generic_noun(self.rng, HELDOUT["noun"] if self.heldout else TRAINING["noun"])
        else:
            verb = self.rng.choice(HELDOUT_VERBS if self.heldout else VERBS)
        if any((verb, noun) == (has_verb, has_noun) for has_verb, has_noun, _ in self.offer.generic.values()):
            return None
        pattern = choose(self.rng.choice(GENERIC_PATTERNS[self.heldout][""]), self.rng)
        return self._finish(
            fill(pattern.lstrip("="), {"verb": verb, "noun": noun}), is_sentence=pattern.startswith("=")
        )

    def _outside(self) -> str:
        pattern = choose(self.rng.choice(talk.HELDOUT_OUTSIDE if self.heldout else talk.OUTSIDE), self.rng)
        worlds = talk.HELDOUT_TOPICS_OF_THE_WORLD if self.heldout else talk.TOPICS_OF_THE_WORLD
        while "{x}" in pattern:
            thing = invented(self.rng, self.rng.randint(1, 3)) if self.rng.random() < 0.4 else self.rng.choice(worlds)
            pattern = pattern.replace("{x}", thing, 1)
        while "{n}" in pattern:
            pattern = pattern.replace("{n}", digits(self.rng, heldout=self.heldout), 1)
        opener = self._opener() if self.rng.random() < 0.12 else ""
        return self._punctuate(opener + pattern, "?")

    def _request(self, tool: Tool, intent: str) -> tuple[str, dict[str, Value]] | None:
        known = intent_of(tool.family, intent)
        for _ in range(30):
            pattern = self.rng.choice(known.heldout if self.heldout else training_wordings(tool.family, intent))
            text = self._durations(choose(pattern, self.rng), tool)
            used = set(slots(text)) - {"light"}
            if used <= set(tool.parameters) and tool.required <= used:
                if self.novelty and self.rng.random() < self.novelty:
                    text = self._puzzled(text)
                values = {slot: value(slot, self.rng, heldout=self.heldout) for slot in sorted({*used, *slots(text)})}
                return self._spoken(text, values), {slot: chosen for slot, chosen in values.items() if slot != "light"}
        return None

    def _puzzled(self, text: str) -> str:
        """Put one word that means nothing into a wording, so that the rest of it has to do."""
        words = text.split(" ")
        ends = [index + 1 for index, word in enumerate(words) if word.strip("=,") in CLOSED_OFF]
        if ends and "{text}" not in text and self.rng.random() < 0.45:
            words.insert(self.rng.choice(ends), " ".join(self.rng.sample(AFTER, self.rng.choice((1, 1, 2)))))
            return " ".join(words)
        places = [index for index, word in enumerate(words) if "{" not in word and word.strip("=,:") not in TELLING]
        word = invented(self.rng) if self.rng.random() < 0.6 else self.rng.choice(FILLERS)
        if places and self.rng.random() < 0.65:
            place = self.rng.choice(places)
            words[place] = (
                ("=" if words[place].startswith("=") else "") + word + words[place][len(words[place].rstrip(",:")) :]
            )
        else:
            words.insert(self.rng.choice(places) + 1 if places else len(words), word)
        return " ".join(words)

    def _generic(self, tool: Tool, source: Toolset | None = None) -> tuple[str, dict[str, Value]]:
        verb, noun, slot = (source or self.offer).generic[tool.name]
        pattern = choose(self.rng.choice(GENERIC_PATTERNS[self.heldout][slot]), self.rng)
        values: dict[str, Value] = {slot: value(slot, self.rng, heldout=self.heldout)} if slot else {}
        return self._spoken(pattern, {"verb": verb, "noun": noun, **values}), values

    def _spoken(self, pattern: str, values: dict[str, Value]) -> str:
        ends_open = pattern.endswith(("{text}", "{task}", "{event}", "{song}", "{item}", "{artist}"))
        starts_with_slot = pattern.lstrip("=").startswith("{")
        text = fill(pattern.lstrip("="), _texts(values))
        return self._finish(text, is_sentence=pattern.startswith("="), ends_open=ends_open, keep_case=starts_with_slot)

    def _finish(self, text: str, *, is_sentence: bool, ends_open: bool = False, keep_case: bool = False) -> str:
        opened = False
        if self.rng.random() < 0.4:
            opened = True
            prefixes = talk.HELDOUT_PREFIXES if self.heldout else talk.PREFIXES
            text = (self._opener() if is_sentence else self.rng.choice(prefixes)) + text
        if self.rng.random() < 0.2 and not (ends_open and self.heldout) and "please" not in text:
            tails = talk.HELDOUT_SUFFIXES if self.heldout else talk.SUFFIXES
            text += self.rng.choice(talk.TAILS if ends_open else tails)
        return self._punctuate(text, "." if self.rng.random() < 0.8 else "?", keep_case=keep_case and not opened)

    def _opener(self) -> str:
        return self.rng.choice(talk.HELDOUT_OPENERS if self.heldout else talk.OPENERS)

    def _punctuate(self, text: str, mark: str, *, keep_case: bool = False) -> str:
        if self.rng.random() < 0.3:
            text += mark if self.rng.random() < 0.9 else "!"
        return text if keep_case or self.rng.random() > 0.3 else text[0].upper() + text[1:]

    def _durations(self, text: str, tool: Tool) -> str:
        if "minutes" in tool.parameters:
            return text.replace("{duration}", "{minutes} minutes")
        return text.replace("{duration}", "{amount} {unit}") if "amount" in tool.parameters else text

    def _done(self) -> str:
        key = self.rng.randint(1, 999)
        forms = (
            '{"status": "ok"}',
            '{"ok": true}',
            '{"success": true}',
            "ok",
            "done",
            '{"result": "done"}',
            '{"status": "done"}',
            "{}",
            "true",
            "success",
            f'{{"ok": true, "id": {key}}}',
        )
        unseen = (
            '{"status": "success"}',
            '{"done": true}',
            "OK",
            f'{{"success": true, "id": {key}}}',
            '{"result": "ok"}',
        )
        return self.rng.choice(unseen if self.heldout and self.rng.random() < 0.6 else forms)

    def _problem(self) -> tuple[str, str]:
        problem = str(value("problem", self.rng, heldout=self.heldout))
        forms: list[Any] = [
            {"error": problem},
            {"status": "error", "message": problem},
            {"ok": False, "error": problem},
            {"success": False, "reason": problem},
        ]
        return json.dumps(self.rng.choice(forms), ensure_ascii=False), f"That did not work: {problem}."

    def _returned(self, kind: str) -> tuple[str, dict[str, str]]:
        makers: dict[str, Callable[[], tuple[Any, dict[str, str]]]] = {
            "temperature": lambda: self._numbered(("temperature", "value", "celsius", "degrees"), "degrees"),
            "humidity": lambda: self._numbered(("humidity", "value", "percent"), "level"),
            "battery": lambda: self._numbered(("battery", "level", "percent", "value"), "level"),
            "state": self._state, "items": self._items, "weather": self._weather, "clock": self._clock,
        }  # fmt: skip
        if kind == "done":
            return self._done(), {}
        content, found = makers[kind]()
        return (content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)), found

    def _numbered(self, keys: tuple[str, ...], slot: str) -> tuple[Any, dict[str, str]]:
        number = value(slot, self.rng, heldout=self.heldout)
        if isinstance(number, int) and slot == "degrees" and self.rng.random() < 0.3:
            number += self.rng.randint(1, 9) / 10
        content: Any = {self.rng.choice(keys): number}
        if self.rng.random() < 0.3:
            content[self.rng.choice(("unit", "status", "room_id"))] = self.rng.choice(
                ("C", "ok", "celsius", "percent", "a1")
            )
        return (str(number) if self.rng.random() < 0.15 else content), {"number": str(number)}

    def _state(self) -> tuple[Any, dict[str, str]]:
        state = self.rng.choice(("on", "off"))
        return (
            state if self.rng.random() < 0.15 else {self.rng.choice(("state", "status", "power", "value")): state}
        ), {"state": state}

    def _items(self) -> tuple[Any, dict[str, str]]:
        items = [
            str(value("item", self.rng, heldout=self.heldout)) for _ in range(self.rng.choice((0, 1, 2, 2, 3, 3, 4)))
        ]
        return ({self.rng.choice(("items", "list", "entries")): items} if self.rng.random() < 0.8 else items), {
            "items": ", ".join(items)
        }

    def _weather(self) -> tuple[Any, dict[str, str]]:
        condition, number = (
            str(value("condition", self.rng, heldout=self.heldout)),
            str(value("degrees", self.rng, heldout=self.heldout)),
        )
        pairs = [
            (self.rng.choice(("condition", "weather", "sky")), condition),
            (self.rng.choice(("temperature", "degrees")), json.loads(number)),
        ]
        self.rng.shuffle(pairs)
        return dict(pairs), {"condition": condition, "number": number}

    def _clock(self) -> tuple[Any, dict[str, str]]:
        time = str(value("time", self.rng, heldout=self.heldout))
        return (time if self.rng.random() < 0.3 else {self.rng.choice(("time", "now", "clock")): time}), {"clock": time}

    def _call(self, state: State) -> None:
        self.state = state
        call = state.tool.call(state.intent, state.values)
        function = {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
        number = len(self.conversation.messages)
        calls = [{"id": f"call_{number}", "type": "function", "function": function}]
        self.conversation.messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        self.conversation.kinds.append("call")

    def _say(self, role: str, content: str) -> None:
        message = {"role": role, "content": content}
        if role == "tool":
            message["tool_call_id"] = self.conversation.messages[-1]["tool_calls"][0]["id"]
        self.conversation.messages.append(message)

    def _answer(self, content: str, kind: str) -> None:
        self._say("assistant", content)
        self.conversation.kinds.append(kind)


def _texts(values: dict[str, Value]) -> dict[str, str]:
    return {slot: str(chosen) for slot, chosen in values.items()}


def _with_duration(values: dict[str, Value]) -> dict[str, Value]:
    if "minutes" in values:
        return {**values, "duration": f"{values['minutes']} minutes"}
    return {**values, "duration": f"{values['amount']} {values['unit']}"} if "amount" in values else values


def training_wordings(family: str, intent: str) -> tuple[str, ...]:
    """Return all patterns that training uses for an intent."""
    return FAMILIES[family].intents[intent].wordings + MORE_WORDINGS.get((family, intent), ())


def conversation(rng: random.Random, novelty: float = 0.0) -> Conversation:
    """Return one conversation to train on, of one to four exchanges; ``novelty`` as in ``toolset``."""
    speaker = Speaker(rng, heldout=False, novelty=novelty)
    made = speaker.begin(Toolset(()) if rng.random() < 0.05 else toolset(rng, heldout=False, novelty=novelty))
    for _ in range(rng.choice((1, 2, 2, 3))):
        draw = rng.random()
        if draw < 0.13:
            speaker.about()
        elif draw < 0.26 or not speaker.ask():
            speaker.refuse()
        else:
            while rng.random() < 0.75:
                speaker.result()
                if rng.random() < 0.4 or not speaker.follow_up():
                    break
            else:
                break
            if made.messages[-1]["role"] != "assistant" or "tool_calls" in made.messages[-1]:
                break
    return made


def heldout_cases(seed: int = HELDOUT_SEED) -> Iterator[dict[str, Any]]:
    """Return the held-out cases, kind by kind, none twice."""
    rng = random.Random(seed)
    seen: set[str] = set()
    for kind, count in HELDOUT_COUNTS.items():
        left = count
        while left:
            case = _heldout_case(kind, rng)
            if case is not None and (key := json.dumps(case)) not in seen:
                seen.add(key)
                left -= 1
                yield case


def _heldout_case(kind: str, rng: random.Random) -> dict[str, Any] | None:
    speaker = Speaker(rng, heldout=True)
    bare = kind in ("about", "refusal") and rng.random() < 0.3
    made = speaker.begin(Toolset(()) if bare else toolset(rng, heldout=True))
    steps: dict[str, Callable[[], bool | None]] = {
        "tool_call": speaker.ask,
        "about": speaker.about,
        "refusal": speaker.refuse,
        "result": lambda: speaker.ask() and speaker.result() is None,
        "multi_turn": lambda: _several_turns(speaker, rng),
    }
    if steps[kind]() is False:
        return None
    *messages, last = made.messages
    # The server has no way to say "the built-in tools", so every case spells its tools out.
    tools = [tool.openai() for tool in speaker.offer.tools]
    case = {"kind": kind, "messages": messages, "tools": tools}
    if "tool_calls" in last:
        function = last["tool_calls"][0]["function"]
        call = {"name": function["name"], "arguments": json.loads(function["arguments"])}
        return {**case, "expected": call_text(**call), "expected_call": call}
    return {**case, "expected": last["content"]}


def _several_turns(speaker: Speaker, rng: random.Random) -> bool:
    if not speaker.ask():
        return False
    speaker.result()
    if not (speaker.follow_up() if rng.random() < 0.8 else speaker.ask()):
        return False
    if rng.random() < 0.3:
        speaker.result()
        if rng.random() < 0.5:
            return speaker.follow_up() or speaker.ask()
    return True


def write_heldout(path: Path) -> None:
    """Write the held-out cases, one JSON document a line."""
    lines = (json.dumps(case, ensure_ascii=False) + "\n" for case in heldout_cases())
    path.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_heldout(Path(__file__).with_name("heldout.jsonl"))
