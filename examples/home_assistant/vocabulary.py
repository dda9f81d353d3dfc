"""The words that slots are filled with: one list to train on, another that only the held-out set uses.

Real words are not enough to learn copying, so training mixes in invented ones (``invented``).
"""

from __future__ import annotations

import random


def _words(text: str) -> tuple[str, ...]:
    return tuple(" ".join(word.split()) for word in text.split(",") if word.strip())


CONSONANTS = _words(
    "b, c, d, f, g, h, j, k, l, m, n, p, r, s, t, v, w, z, br, cr, dr, fl, gr, kl, pl, pr, sk, st, tr, th, sh, ch"
)
VOWELS = _words("a, e, i, o, u, ai, ea, oo, ou, ie")
ENDINGS = ["", "", "", "n", "r", "s", "l", "t", "m", "k", "x", "nd", "ck", "rt"]


TRAINING: dict[str, tuple[str, ...]] = {
    "room": _words(
        "kitchen, bedroom, living room, bathroom, office, hallway, garage, basement, attic, garden, dining room,"
        "study,"
        "nursery, guest room, laundry room, porch, balcony, cellar, terrace, kids' room, music room,"
        "entrance, corridor, upstairs hall, master bedroom, pantry, gym, workshop, library, playroom, sunroom, patio,"
        "toilet, shower room, den, loft, shed, back yard, front yard, lobby, staircase, second bedroom, mud room,"
        "wardrobe, utility room, reading corner, big hall, small bathroom, ground floor, top floor"
    ),
    "device": _words(
        "lamp, light, lights, fan, heater, tv, radio, coffee machine, kettle, air conditioner, ceiling light,"
        "desk lamp,"
        "floor lamp, oven, dishwasher, washing machine, dryer, speaker, humidifier, printer, computer, monitor,"
        "router,"
        "christmas lights, sprinkler, pump, boiler, toaster, towel rail, night light, reading lamp, socket, outlet,"
        "electric blanket, projector, game console, stove, freezer, fridge, spotlights, led strip, bedside lamp,"
        "extractor fan, fountain, aquarium light, charger, smart plug, string lights, water heater, mirror light"
    ),
    "light": ("light", "lights"),
    "colour": _words(
        "red, green, blue, yellow, white, orange, purple, pink, warm white, cold white, turquoise, violet, gold, cyan,"
        "light blue, dark red, lime, salmon, silver, soft pink, pale green, amber, ivory, navy"
    ),
    "person": _words(
        "Anna, Ben, Carla, David, Eva, Frank, Grace, Henry, Ida, Jack, Karen, Leo, Maria, Nina, Oscar, Paul, Rosa,"
        "Sam,"
        "Tom, Uma, Victor, Wendy, Yusuf, Zoe, mum, dad, grandma, Aunt Lisa, Uncle Bob, Mr Smith, Dr Brown,"
        "Sarah Jones,"
        "my sister, my boss, the plumber, Mia, Noah, Emma, Peter Miller, Julia, Tim, Ahmed, Fatima, Ivan, Olga, Chen"
    ),
    "item": _words(
        "milk, bread, eggs, butter, cheese, apples, bananas, coffee, tea, sugar, flour, rice, pasta, tomatoes, onions,"
        "potatoes, chicken, fish, toilet paper, soap, shampoo, olive oil, salt, pepper, yogurt, orange juice,"
        "batteries,"
        "dog food, cat litter, light bulbs, carrots, lettuce, ham, red wine, beer, mineral water, honey, jam, cereal,"
        "garlic, lemons, paper towels, dish soap, ice cream, two bottles of milk, a bag of rice, six eggs,"
        "green beans,"
        "washing powder, trash bags, cream cheese, tooth paste, mushrooms, frozen peas, dark chocolate,"
        "sparkling water"
    ),
    "list": _words(
        "shopping, grocery, to-do, packing, wish, holiday, weekend, work, party, birthday, hardware store, chores,"
        "reading, movie, gift, school, cleaning, camping, dinner, baking, pharmacy, office supplies"
    ),
    "task": _words(
        "water the plants, call the dentist, take out the trash, feed the cat, pay the rent, buy flowers,"
        "walk the dog,"
        "pick up the kids, clean the windows, send the report, book a table, check the mail, take my medicine,"
        "charge the car, call grandma, empty the dishwasher, iron the shirts, order pizza, renew the passport,"
        "fix the bike, write to Tom, change the filter, mow the lawn, do the laundry, return the book, cancel the gym,"
        "prepare the slides, wash the car, buy a present for Eva, defrost the freezer, bring an umbrella,"
        "lock the shed,"
        "clean the oven, back up the photos, stretch, drink some water, read the contract, meet Paul, close the roof"
    ),
    "song": _words(
        "yesterday, hello, imagine, thunder road, blue moon, summer wind, dancing queen, hotel california,"
        "purple rain,"
        "let it be, moon river, night fever, rolling stone, paper planes, wonderwall, heroes, creep, halo, happy,"
        "jazz, classical music, some rock, my playlist, soft piano, lo-fi beats, the news, morning songs, white noise"
    ),
    "artist": _words(
        "the beatles, adele, queen, abba, david bowie, mozart, bach, nina simone, radiohead, miles davis, madonna,"
        "prince, johnny cash, bob dylan, the eagles, coldplay, oasis, beyonce, daft punk, elton john, muse, u2, sting"
    ),
    "text": _words(
        "dinner is ready, i am late, i will be home soon, the meeting is over, please buy milk, happy birthday,"
        "the train is delayed, see you tomorrow, the door code has changed, i love you, the package is here,"
        "we need more bread, i forgot my keys, the game starts soon, call me back, the kids are asleep,"
        "lunch was great,"
        "i am on my way, the plumber is coming, do not wait for me, good luck today, we are out of coffee,"
        "the car is in the garage, my phone is almost empty, thanks for the flowers, the key is under the mat"
    ),
    "scene": _words(
        "movie, party, dinner, reading, night, morning, relax, away, vacation, romantic, focus, wake up, cooking,"
        "gaming,"
        "sunset, bedtime, work, cleaning, guest, good morning, holiday, rainy day, yoga, homework"
    ),
    "door": _words(
        "front door, back door, garage door, main door, cellar door, gate, garden gate, side door, balcony door,"
        "terrace door, office door, entrance door, basement door, patio door, kitchen door, shed door"
    ),
    "place": _words(
        "berlin, paris, london, rome, madrid, tokyo, new york, vienna, oslo, hamburg, zurich, prague, warsaw, lisbon,"
        "chicago, boston, san francisco, sydney, cairo, moscow, athens, dublin, brussels, munich, geneva, milan"
    ),
    "event": _words(
        "team meeting, dentist, yoga class, lunch with Eva, parents' evening, haircut, football training,"
        "piano lesson,"
        "dinner with Paul, job interview, birthday party, car inspection, book club, doctor's appointment, concert,"
        "school play, video call, tax deadline, garden party, swimming lesson, budget review, choir"
    ),
    "label": _words(
        "pasta, pizza, tea, eggs, laundry, cake, bread, nap, rice, workout, potatoes, meeting, chicken,soup"
    ),
    "day": _words("today, tomorrow, monday, tuesday, wednesday, thursday, friday, saturday, sunday, tonight"),
    "problem": _words(
        "device not found, the bridge is offline, timeout, no connection, not allowed, battery empty, unknown room,"
        "the hub does not answer, access denied, already running, value out of range, service unavailable,"
        "motor blocked"
    ),
    "condition": _words("sunny, rain, cloudy, snow, light rain, windy, clear sky, fog, heavy rain, storm,mostly sunny"),
    "noun": _words(
        "dishwasher, sauna, fountain, pool, robot mower, washing machine, dryer, oven, garage door, camera, aquarium,"
        "grill, backup, server, car charger, air purifier, water pump, cat feeder, doorbell, gate, fireplace, siren,"
        "projector, sprinkler, bread maker, ice maker, telescope, treadmill, printer, greenhouse, skylight, elevator"
    ),
    "mode": _words(
        "eco, turbo, quiet, fast, gentle, auto, heavy, cotton, wool, night, sport, boost, light, deep,normal"
    ),
}

HELDOUT: dict[str, tuple[str, ...]] = {
    "room": _words(
        "conservatory, wine cellar, home cinema, boot room, tower, mezzanine, lounge, scullery, foyer, veranda,"
        "greenhouse, alcove, game room, walk-in closet, sewing room, carport, west wing, spare room, studio"
    ),
    "device": _words(
        "chandelier, dehumidifier, espresso maker, ventilator, lantern, soundbar, rice cooker, hot tub, radiator,"
        "jukebox, slow cooker, uplight, grow light, waffle iron, blender, pendant lamp, turntable, infrared panel,"
        "siren"
    ),
    "light": ("light", "lights"),
    "colour": _words("magenta, crimson, teal, lavender, mint green, deep orange, peach, indigo, candle white,burgundy"),
    "person": _words(
        "Lukas, Priya, Ingrid, Mateo, Beatrice, Hiroshi, Gwen, Aunt Petra, Dr Novak, Tobias, my brother, Salma,"
        "Quentin, Mrs Olsen, the landlord, Dmitri, Chloe Martin, grandpa, Yara, Felix"
    ),
    "item": _words(
        "avocados, oat milk, basil, kitchen foil, spinach, maple syrup, candles, tuna, sponges, cucumbers, raisins,"
        "a jar of pickles, bird seed, cornflakes, blue cheese, sunscreen, ginger, tofu, baking soda, three melons"
    ),
    "list": _words("market, garden, travel, christmas, repair, picnic, moving, homework, drugstore, sailing"),
    "task": _words(
        "sharpen the knives, pick up the parcel, vote, sign the lease, bake a cake, turn the compost, visit Lukas,"
        "tune the guitar, clear the gutters, top up the wiper fluid, rewind the clock, submit the thesis,"
        "oil the hinges,"
        "give the rabbit hay, repot the orchid, dust the shelves, record the match, swap the tyres"
    ),
    "song": _words(
        "bohemian rhapsody, smooth operator, clair de lune, lovely day, black velvet, riptide, autumn leaves,"
        "hurricane,"
        "golden brown, space oddity, ocean sounds, bossa nova, roxanne, zombie, fast car"
    ),
    "artist": _words(
        "fleetwood mac, sade, vivaldi, nirvana, edith piaf, the clash, bjork, john coltrane, shakira,enya"
    ),
    "text": _words(
        "the cake is in the oven, my flight lands early, we won the match, bring your boots, the heating is fixed,"
        "i left the ladder outside, supper is on the table, keep the receipt, the vet said yes, our bus broke down,"
        "it starts snowing, the parcel was stolen, grandpa feels better, pack the tent, the wifi is down"
    ),
    "scene": _words(
        "cinema, siesta, breakfast, candlelight, thunderstorm, study, welcome home, bath, jungle,late night"
    ),
    "door": _words("cat flap, north gate, attic hatch, wine cellar door, pool gate, studio door, barn door,roof door"),
    "place": _words("helsinki, toronto, seville, kyoto, marrakesh, bergen, denver, leeds, cape town, riga, naples"),
    "event": _words(
        "sprint planning, vet visit, chess club, gallery opening, rehearsal, ski trip, house viewing,bake sale"
    ),
    "label": _words("lasagna, sourdough, broccoli, sauna, quiche, meditation, dumplings, brownies"),
    "day": _words("today, tomorrow, monday, tuesday, wednesday, thursday, friday, saturday, sunday, tonight"),
    "problem": _words("sensor missing, gateway unreachable, low voltage, permission needed, cable unplugged,lid open"),
    "condition": _words("hail, drizzle, overcast, thunder, sleet, partly cloudy"),
    "noun": _words(
        "jacuzzi, juicer, popcorn machine, pellet stove, fish feeder, snow blower, bird bath, kiln, wine cooler,"
        "compost mixer, stair lift, weather station, sun shade, humidor"
    ),
    "mode": _words("silk, economy, rapid, whisper, intense, frost, manual, steam"),
}

CLOSED = ("light", "day")  # slots whose words both sets share
NUMBER_RANGES = {"degrees": (5, 30), "level": (1, 100), "minutes": (1, 90), "channel": (1, 99), "heat": (120, 260)}


def invented(rng: random.Random, words: int = 1) -> str:
    """Return made-up words, so that copying cannot be learnt by heart."""
    return " ".join(_invented_word(rng) for _ in range(words))


def _invented_word(rng: random.Random) -> str:
    syllables = rng.choice((1, 2, 2, 2, 3))
    stem = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(syllables))
    return stem + rng.choice(ENDINGS)


def is_heldout_number(number: int) -> bool:
    """Tell which numbers only the held-out set uses: one in five, spread evenly."""
    return number % 5 == 3


def number(rng: random.Random, slot: str, *, heldout: bool) -> int:
    """Return a number for ``slot`` from the training or from the held-out numbers."""
    low, high = NUMBER_RANGES[slot]
    return rng.choice([n for n in range(low, high + 1) if is_heldout_number(n) == heldout])


def clock(rng: random.Random, *, heldout: bool) -> str:
    """Return a time of day such as ``7:30`` or ``7 pm``; hour and minute added decide the set."""
    while True:
        hour, minute = rng.randrange(24), rng.choice((0, rng.randrange(12) * 5, rng.randrange(60)))
        if is_heldout_number(hour + minute) == heldout:
            break
    if minute == 0 and rng.random() < 0.5:
        return f"{hour % 12 or 12} {'am' if hour < 12 else 'pm'}"
    half_day = f" {'am' if hour < 12 else 'pm'}" if 0 < hour < 13 and rng.random() < 0.2 else ""
    return f"{hour:02d}:{minute:02d}" if rng.random() < 0.2 else f"{hour}:{minute:02d}{half_day}"
