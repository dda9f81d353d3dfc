"""Values for slots, as text for the user's words and as JSON for the call."""

from __future__ import annotations

import random

from vocabulary import CLOSED, HELDOUT, NUMBER_RANGES, TRAINING, clock, invented, is_heldout_number, number

Value = str | int | float
LONG = ("task", "text", "event", "song")  # slots of several words
NAMES = ("person", "place", "artist")


def value(slot: str, rng: random.Random, *, heldout: bool) -> Value:
    """Return a value for ``slot`` from one of the two sets."""
    if slot in NUMBER_RANGES:
        chosen = number(rng, slot, heldout=heldout)
        return chosen + 0.5 if slot == "degrees" and rng.random() < 0.12 else chosen
    if slot == "time":
        return clock(rng, heldout=heldout)
    if slot == "amount":
        return number(rng, "minutes", heldout=heldout)
    if slot == "unit":
        return rng.choice(("seconds", "minutes", "hours"))
    if slot == "duration":
        return f"{value('amount', rng, heldout=heldout)} {value('unit', rng, heldout=heldout)}"
    if heldout or slot in CLOSED:
        return _invented(slot, rng) if slot not in CLOSED and rng.random() < 0.12 else rng.choice(HELDOUT[slot])
    return _for_training(slot, rng)


def _for_training(slot: str, rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.45:
        chosen = rng.choice(TRAINING[slot])
    elif draw < 0.70:
        chosen = _invented(slot, rng)
    elif draw < 0.85:  # known words in an order or company that no list has
        words = rng.choice(TRAINING[slot]).split() + rng.choice(TRAINING[slot]).split()
        rng.shuffle(words)
        chosen = " ".join(words[: rng.randint(2, 6) if slot in LONG else rng.randint(1, 3)])
    else:
        words = rng.choice(TRAINING[slot]).split()
        words[rng.randrange(len(words))] = invented(rng)
        chosen = " ".join(words)
    if rng.random() < 0.04:
        chosen = chosen.title() if rng.random() < 0.5 else chosen.capitalize()
    return chosen if rng.random() > 0.03 else _unusual(chosen, rng)


def _invented(slot: str, rng: random.Random) -> str:
    made = invented(rng, rng.randint(2, 5) if slot in LONG else rng.choice((1, 1, 2)))
    return made.title() if slot in NAMES and rng.random() < 0.6 else made


def _unusual(text: str, rng: random.Random) -> str:
    word = rng.choice(text.split())
    changed = rng.choice(
        (word + "'s", word + "-" + invented(rng), word + " " + str(rng.randint(2, 99)), word + "é", "ü" + word)
    )
    return text.replace(word, changed, 1)


def digits(rng: random.Random, *, heldout: bool) -> str:
    """Return any number up to 999 of one of the sets, for small talk."""
    while is_heldout_number(chosen := rng.randint(2, 999)) != heldout:
        pass
    return str(chosen)
