"""The second skill: calls that care for pets. Conversations to train on, held-out cases, and the file to measure by.

    python examples/course/skill.py          # writes eval.jsonl again, byte for byte

Wordings, names of pets, foods and medicines, and some names of tools belong either to training or to the held-out
cases; numbers are split by their last digit, as in the first skill (3 and 8 are held out). What a tool's choices are
called in speech ("in the evening", "half an hour") is the same in both: nobody could guess it.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIRST_SKILL = HERE.parent / "home_assistant"
sys.path.insert(0, str(FIRST_SKILL))

import talk  # noqa: E402
from cases import LONGEST_ANSWER, converted  # noqa: E402
from chat import DEFAULT_TOOLS, schema  # noqa: E402
from vocabulary import invented, is_heldout_number  # noqa: E402
from wordings import choose, fill, slots  # noqa: E402

SEED = 20_27
NEW_CASES = 200
KEPT_EVERY = 4  # of the first skill's held-out cases, every fourth is measured again

Value = str | int | float


def _words(text: str) -> tuple[str, ...]:
    return tuple(" ".join(one.split()) for one in text.split(","))


# What is said, and what it means to a tool.
MEALS = {
    "breakfast": _words("for breakfast, in the morning, in the mornings, early in the day, at sunrise"),
    "lunch": _words("for lunch, at noon, at midday, around noon, in the middle of the day"),
    "dinner": _words("for dinner, in the evening, at night, tonight, at the end of the day"),
}
FLAP = {
    "open": _words("come and go as they like, go both ways, go in and out, move freely"),
    "in_only": _words("only come in, come in but not go out, come home but not leave, only get inside"),
    "out_only": _words("only go out, go out but not come in, leave but not come home, only get outside"),
    "closed": _words("go neither way, not move at all, neither come nor go, not use it at all"),
}
SPANS: dict[int, tuple[str, ...]] = {
    15: _words("a quarter of an hour, quarter of an hour"),
    30: _words("half an hour, a half hour"),
    45: _words("three quarters of an hour, three quarter hours"),
    60: _words("an hour, one hour, a whole hour"),
    90: _words("one and a half hours, an hour and a half"),
    120: _words("two hours, a couple of hours"),
}
DOSES: dict[float, tuple[str, ...]] = {
    0.5: _words("half a, half of a"),
    1: _words("a, one, a single"),
    2: _words("two, a pair of"),
    3: _words("three"),
}

TRAINING: dict[str, tuple[str, ...]] = {
    "pet": _words(
        "rex, bella, luna, max, milo, coco, daisy, rocky, simba, nala, oscar, toby, ruby, ziggy, the dog, the cat,"
        "our puppy, the kitten, my rabbit, the old dog, both cats, the hamster, lady, bruno, minka, felix, the parrot"
    ),
    "food": _words(
        "dry food, wet food, chicken, salmon, rice, kibble, tuna, beef, turkey, oats, carrots, lamb, puppy food,"
        "grain free food, liver, hay, seeds, duck, pellets, cooked fish"
    ),
    "medicine": _words(
        "antibiotic, dewormer, painkiller, vitamin, heart medicine, worming, allergy, joint, calming, zinc, iron,"
        "fish oil, thyroid, cortisone, flea"
    ),
}
HELDOUT: dict[str, tuple[str, ...]] = {
    "pet": _words(
        "buddy, charlie, molly, leo, pepper, the guinea pig, the terrier, whiskers, hazel, our tomcat, shadow"
    ),
    "food": _words("trout, venison, mackerel, lettuce, senior food, meatballs, pumpkin, barley, minced beef"),
    "medicine": _words("calcium, kidney, eye, probiotic, magnesium, sleeping, enzyme"),
}


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that can be asked for: its tool and how people say it. The last name of a tool is held out."""

    names: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...]
    wordings: tuple[str, ...]
    heldout: tuple[str, ...]


DEEDS = (
    Deed(
        _words("feed_pet, feed, give_food, serve_food"),
        (("pet", "string"), ("food", "string"), ("grams", "number")),
        (
            "(give|feed) {pet} {grams} grams of {food}", "serve {grams} grams of {food} to {pet}",
            "=[i think ]{pet} (needs|gets|wants) {grams} grams of {food}", "={grams} grams of {food} for {pet}",
            "(put|pour) {grams} grams of {food} (out|down) for {pet}", "feed {grams} grams of {food} to {pet}",
            "={pet} is hungry, (give|serve) {grams} grams of {food}", "let {pet} have {grams} grams of {food}",
            "fill the bowl of {pet} with {grams} grams of {food}", "={pet}, {food}, {grams} grams",
        ),
        (
            "hand {pet} {grams} grams of {food}", "=could {pet} get {grams} grams of {food}",
            "drop {grams} grams of {food} into the bowl of {pet}",
            "=it is feeding time, {grams} grams of {food} for {pet}",
            "=i want {pet} to eat {grams} grams of {food}",
        ),
    ),
    Deed(
        _words("schedule_meal, plan_meal, set_meal, plan_feeding"),
        (("pet", "string"), ("meal", "breakfast|lunch|dinner"), ("grams", "number")),
        (
            "(plan|schedule) {grams} grams for {pet} {meal}", "=[from now on ]{pet} gets {grams} grams {meal}",
            "feed {pet} {grams} grams {meal} every day", "={meal}, {pet} should have {grams} grams",
            "set a meal of {grams} grams for {pet} {meal}", "={pet} always eats {grams} grams {meal}",
            "={meal}, give {pet} {grams} grams every day", "(plan|set) {grams} grams {meal} for {pet}",
        ),
        (
            "make it {grams} grams for {pet} {meal}", "=i want {pet} to be fed {grams} grams {meal}",
            "={pet} will eat {grams} grams {meal}", "arrange {grams} grams {meal} for {pet}",
        ),
    ),
    Deed(
        _words("set_pet_door, pet_door, set_cat_flap, lock_pet_door"),
        (("mode", "open|in_only|out_only|closed"),),
        (
            "let the (cat|cats|dog|dogs|animals) {mode}", "=the (cat|cats|dog|dogs) (may|should|can) {mode}",
            "set the (flap|pet door|cat door) so that (he|she|they) can {mode}",
            "=i want the (cats|dogs|animals) to {mode}",
            "=(he|she|they) should {mode}", "=from now on the (cat|dog) may {mode}", "make the (cat|dog) {mode}",
        ),
        (
            "allow the (cats|dogs|pets) to {mode}", "=the pets are supposed to {mode}",
            "change the flap, the (cat|dog) is to {mode}", "=my (cat|dog) must {mode}",
        ),
    ),
    Deed(
        _words("log_walk, add_walk, save_walk, record_walk"),
        (("pet", "string"), ("minutes", "number")),
        (
            "(log|note|save) a walk of {span} with {pet}", "=(i|we) walked {pet} for {span}",
            "=(i|we) (was|were) out with {pet} for {span}", "={pet} had a walk of {span}",
            "={span} of walking with {pet}",
            "=(i|we) went for a walk with {pet}, {span}", "={pet} walked for {span}", "=just back, {span} with {pet}",
        ),
        (
            "=my walk with {pet} took {span}", "enter a walk with {pet} that took {span}",
            "={pet} and i were outside for {span}", "write down that {pet} walked for {span}",
        ),
    ),
    Deed(
        _words("give_medicine, log_medicine, medicate, add_medication"),
        (("pet", "string"), ("medicine", "string"), ("tablets", "number")),
        (
            "give {pet} {dose} {medicine} (tablet|pill)", "={pet} (got|had|gets) {dose} {medicine} (tablet|pill)",
            "=(i|we) gave {pet} {dose} {medicine} (tablet|pill)", "={dose} {medicine} (tablet|pill) for {pet}",
            "(log|note) {dose} {medicine} (tablet|pill) for {pet}", "={pet} needs {dose} {medicine} (tablet|pill)",
            "={pet} has taken {dose} {medicine} (tablet|pill)",
        ),
        (
            "=it is time for {dose} {medicine} tablet, for {pet}", "let {pet} swallow {dose} {medicine} pill",
            "write down {dose} {medicine} pill for {pet}", "={pet} should take {dose} {medicine} tablet",
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lesson:
    """A request with its tools, and the call that is right."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    name: str
    arguments: dict[str, Value]

    def conversation(self) -> list[dict[str, Any]]:
        """Return the messages with the call, in OpenAI's form."""
        function = {"name": self.name, "arguments": json.dumps(self.arguments, ensure_ascii=False)}
        calls = [{"id": "call_1", "type": "function", "function": function}]
        return [*self.messages, {"role": "assistant", "content": None, "tool_calls": calls}]


def lesson(rng: random.Random, *, heldout: bool) -> Lesson:
    """Return one request of the second skill, from the training or from the held-out words."""
    deed = rng.choice(DEEDS)
    others = rng.sample([one for one in DEEDS if one is not deed], rng.randint(0, 4))
    offered = [(one, _tool_name(one, rng, heldout=heldout)) for one in (deed, *others)]
    tools = [schema(name, one.parameters) for one, name in offered]
    tools += rng.sample(DEFAULT_TOOLS, rng.choice((0, 0, 1, 2, 4)))
    rng.shuffle(tools)
    text, arguments = _request(deed, rng, heldout=heldout)
    return Lesson([{"role": "user", "content": text}], tools, offered[0][1], arguments)


def heldout_lessons(count: int = NEW_CASES, seed: int = SEED) -> Iterator[Lesson]:
    """Return the held-out requests, none twice."""
    rng, seen = random.Random(seed), set()
    while len(seen) < count:
        made = lesson(rng, heldout=True)
        if made.messages[0]["content"] not in seen:
            seen.add(made.messages[0]["content"])
            yield made


def _tool_name(deed: Deed, rng: random.Random, *, heldout: bool) -> str:
    return deed.names[-1] if heldout and rng.random() < 0.4 else rng.choice(deed.names[:-1])


def _request(deed: Deed, rng: random.Random, *, heldout: bool) -> tuple[str, dict[str, Value]]:
    pattern = choose(rng.choice(deed.heldout if heldout else deed.wordings), rng)
    said = {slot: _SLOTS[slot](rng, heldout) for slot in slots(pattern)}
    meant = {_PARAMETER.get(slot, slot): meaning for slot, (_, meaning) in said.items()}
    text = fill(pattern.lstrip("="), {slot: words for slot, (words, _) in said.items()})
    arguments = {name: meant[name] for name, _ in deed.parameters}
    return _spoken(text, rng, is_sentence=pattern.startswith("="), heldout=heldout), arguments


_PARAMETER = {"span": "minutes", "dose": "tablets"}
Chosen = tuple[str, Value]


def _named(slot: str) -> Callable[[random.Random, bool], Chosen]:
    def draw(rng: random.Random, heldout: bool) -> Chosen:
        if rng.random() < (0.1 if heldout else 0.35):
            made = invented(rng, rng.choice((1, 1, 2)) if slot != "pet" else 1)
        else:
            made = rng.choice((HELDOUT if heldout else TRAINING)[slot])
        return made, made

    return draw


def _number(low: int, high: int, step: int = 1) -> Callable[[random.Random, bool], Chosen]:
    def draw(rng: random.Random, heldout: bool) -> Chosen:
        while is_heldout_number(number := rng.randrange(low, high, step)) != heldout:
            pass
        return str(number), number

    return draw


def _meaning(meanings: dict[Any, tuple[str, ...]]) -> Callable[[random.Random, bool], Chosen]:
    def draw(rng: random.Random, _heldout: bool) -> Chosen:
        meaning = rng.choice(list(meanings))
        return rng.choice(meanings[meaning]), meaning

    return draw


def _span(rng: random.Random, heldout: bool) -> Chosen:
    if rng.random() < 0.4:
        words, number = _number(4, 130)(rng, heldout)
        return f"{words} minutes", number
    return _meaning(SPANS)(rng, heldout)


_SLOTS: dict[str, Callable[[random.Random, bool], Chosen]] = {
    "pet": _named("pet"),
    "food": _named("food"),
    "medicine": _named("medicine"),
    "grams": _number(5, 400),
    "meal": _meaning(MEALS),
    "mode": _meaning(FLAP),
    "span": _span,
    "dose": _meaning(DOSES),
}


def _spoken(text: str, rng: random.Random, *, is_sentence: bool, heldout: bool) -> str:
    if rng.random() < 0.3:
        if is_sentence:
            text = rng.choice(talk.HELDOUT_OPENERS if heldout else talk.OPENERS) + text
        else:
            text = rng.choice(talk.HELDOUT_PREFIXES if heldout else talk.PREFIXES) + text
    if rng.random() < 0.3:
        text += "."
    return text[0].upper() + text[1:] if rng.random() < 0.3 else text


def evaluation() -> Iterator[dict[str, Any]]:
    """Return the cases to measure by, in the form that ``--eval`` takes: the second skill, then the first."""
    for one in heldout_lessons():
        expected = {"name": one.name, "arguments": one.arguments}
        case = {"messages": one.messages, "tools": one.tools, "max_tokens": LONGEST_ANSWER}
        yield {**case, "expected": expected, "check": "tool_call"}
    lines = (FIRST_SKILL / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    yield from (converted(json.loads(line)) for line in lines[::KEPT_EVERY])


def write_evaluation(path: Path) -> None:
    """Write the cases, one JSON document a line."""
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in evaluation()), encoding="utf-8")


if __name__ == "__main__":
    write_evaluation(HERE / "eval.jsonl")
