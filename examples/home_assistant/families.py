"""What people ask of a home: families of requests, the tools that serve them, and how they are worded.

A wording is a small pattern: ``(a|b)`` chooses, ``[x]`` may be left out, ``{slot}`` is filled. One that
starts with ``=`` is a whole sentence and takes no "please" or "could you" before it. Training and
held-out wordings never meet: a test expands both and compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as ``names`` (training, then held-out) and parameters: a slot each, ``?`` marks an optional one.

    ``choices`` are parameters that the intent decides, not the user's words: ``{"state": ("on", "off")}``.
    """

    names: tuple[str, ...]
    heldout_names: tuple[str, ...]
    slots: tuple[str, ...] = ()
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing to ask for: ``wordings`` to train on, ``heldout`` ones, and the ``sentence`` that reports success."""

    wordings: tuple[str, ...]
    heldout: tuple[str, ...]
    sentence: str
    follow_ups: tuple[tuple[str, str], ...] = ()  # (slot that changes or an opposite intent, wording)
    heldout_follow_ups: tuple[tuple[str, str], ...] = ()
    result: str = "done"  # or the kind of value the tool returns


@dataclass(frozen=True, slots=True)
class Family:
    """Intents that belong together, and the ways tools may serve them: ``forms`` of intent → (tool, choices)."""

    intents: dict[str, Intent]
    forms: tuple[dict[str, tuple[ToolSpec, dict[str, str]]], ...]
    group: str = ""  # families of one group exclude each other: their wordings overlap


PARAMETER_NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "room": (("room", "area", "location"), ("zone", "where")),
    "device": (("device", "name", "appliance"), ("device_name", "thing")),
    "state": (("state", "mode", "value"), ("status", "target_state")),
    "level": (("level", "percent", "value"), ("percentage", "intensity")),
    "colour": (("color", "colour", "hue"), ("tint", "light_color")),
    "degrees": (("degrees", "temperature", "celsius"), ("target_temperature", "temp")),
    "heat": (("degrees", "temperature"), ("heat",)),
    "minutes": (("minutes", "duration_minutes"), ("length_minutes",)),
    "amount": (("amount", "value"), ("count",)),
    "unit": (("unit", "units"), ("time_unit",)),
    "duration": (("duration", "length"), ("time_span",)),
    "label": (("label", "name", "title"), ("tag",)),
    "time": (("time", "at", "when"), ("clock_time",)),
    "day": (("day", "date"), ("weekday",)),
    "task": (("text", "task", "reminder"), ("what", "note")),
    "item": (("item", "product", "name"), ("entry", "article")),
    "list": (("list", "list_name"), ("target_list",)),
    "song": (("song", "title", "query"), ("track",)),
    "artist": (("artist", "by"), ("band",)),
    "person": (("person", "contact", "to", "name"), ("recipient",)),
    "text": (("text", "message", "body"), ("content",)),
    "scene": (("scene", "name", "scene_name"), ("preset",)),
    "door": (("door", "lock", "name"), ("door_name",)),
    "place": (("place", "city", "location"), ("town",)),
    "event": (("title", "event", "name"), ("subject",)),
    "channel": (("channel", "number"), ("channel_number",)),
    "sensor": (("sensor", "kind", "type"), ("measure",)),
}


def tool(names: str, slots: str = "", **choices: str) -> ToolSpec:
    training, heldout = names.split(" // ")
    split = {key: tuple(value.split("|")) for key, value in choices.items()}
    return ToolSpec(tuple(training.split()), tuple(heldout.split()), tuple(slots.split()), split)


def pair_of(
    first: str, second: str, merged: ToolSpec, values: tuple[str, str]
) -> dict[str, tuple[ToolSpec, dict[str, str]]]:
    key = next(iter(merged.choices))
    return {first: (merged, {key: values[0]}), second: (merged, {key: values[1]})}


ROOM_MORE = (
    ("room", "and in the {room} too"), ("room", "also in the {room}"), ("room", "[do] the same in the {room}"),
    ("room", "[and] in the {room} as well"), ("room", "now in the {room}"), ("room", "and in the {room}"),
    ("room", "same thing in the {room}"), ("room", "no, in the {room}"), ("room", "i meant the {room}"),
    ("room", "not there, in the {room}"), ("room", "the {room} too"),
)  # fmt: skip
ROOM_MORE_HELDOUT = (
    ("room", "and do that in the {room} too"), ("room", "the {room} as well please"),
    ("room", "do it in the {room} too"), ("room", "sorry, i meant in the {room}"),
)  # fmt: skip


def numbers(slot: str) -> tuple[tuple[str, str], ...]:
    patterns = (
        "make it {n}[ instead]", "no, {n}", "{n} please", "better {n}", "change it to {n}", "{n} instead",
        "i meant {n}", "set it to {n}", "rather {n}", "[and] now {n}", "hmm, {n} is better", "no, make that {n}",
    )  # fmt: skip
    return tuple((slot, pattern.replace("{n}", "{" + slot + "}")) for pattern in patterns)


def numbers_heldout(slot: str) -> tuple[tuple[str, str], ...]:
    patterns = ("actually make it {n}", "sorry, {n}", "let us say {n}", "i would rather have {n}", "switch it to {n}")
    return tuple((slot, pattern.replace("{n}", "{" + slot + "}")) for pattern in patterns)


IN = "(in the|in the|in the|in|in my|in our|of the|inside the)"

POWER = Family(
    {
        "on": Intent(
            (
                f"(turn|switch|put) on the {{device}}[ {IN} {{room}}]",
                f"(turn|switch|put) the {{device}} on[ {IN} {{room}}]",
                f"(turn|switch) the {{device}} {IN} {{room}} on",
                f"(turn|switch) on (my|our|that) {{device}}[ {IN} {{room}}]",
                "(start|activate|enable|power up) the {device}[ in the {room}]",
                "get the {device}[ in the {room}] (going|running)",
                "=in the {room}, (turn|switch) on the {device}",
                "={device} on[ in the {room}]", "={device} on, {room}", "={room} {device} on please",
                "=i (want|need) the {device}[ in the {room}] (on|running|switched on)",
                "=the {device}[ in the {room}] should be on", "=the {device}[ in the {room}] (on|on now), please",
                "=it is too dark in the {room}, turn on the {device}", "=i would like the {device} on",
                "let the {device}[ in the {room}] run", "have the {device}[ in the {room}] turned on",
                "turn {device} on", "turn on {device}[ in {room}]", "make sure the {device}[ in the {room}] is on",
            ),
            (
                "flip on the {device}[ in the {room}]", "power on the {device}[ in the {room}]",
                "get the {device}[ in the {room}] switched on", "=my {device} in the {room} should be turned on",
                "=can we have the {device} on[ in the {room}]", "=the {device} over in the {room} needs to be on",
                "=someone turn the {device} on[ in the {room}]", "=in the {room} i want the {device} on",
                "=is it possible to switch the {device} on[ in the {room}]",
            ),
            "The {device}[ in the {room}] is on.",
            (
                *ROOM_MORE, ("off", "[and] (turn|switch) it off[ again]"), ("off", "off again"),
                ("device", "and the {device} too"), ("device", "also the {device}"), ("device", "the {device} as well"),
                ("off", "no, off"), ("off", "ok, off now"), ("off", "that is enough, off"),
            ),
            (*ROOM_MORE_HELDOUT, ("off", "you can turn it off now"), ("off", "now switch it off again please")),
        ),
        "off": Intent(
            (
                f"(turn|switch|put) off the {{device}}[ {IN} {{room}}]",
                f"(turn|switch|put) the {{device}} off[ {IN} {{room}}]",
                f"(turn|switch) the {{device}} {IN} {{room}} off",
                f"(turn|switch) off (my|our|that) {{device}}[ {IN} {{room}}]",
                "(stop|deactivate|disable|shut down|kill) the {device}[ in the {room}]",
                "shut the {device}[ in the {room}] (off|down)",
                "=in the {room}, (turn|switch) off the {device}",
                "={device} off[ in the {room}]", "={device} off, {room}", "={room} {device} off please",
                "=i (want|need) the {device}[ in the {room}] (off|switched off)",
                "=the {device}[ in the {room}] should be off", "=the {device}[ in the {room}] (off|off now), please",
                "=it is too loud in the {room}, turn off the {device}", "=i would like the {device} off",
                "=nobody needs the {device}[ in the {room}], turn it off",
                "have the {device}[ in the {room}] turned off",
                "turn {device} off", "turn off {device}[ in {room}]", "make sure the {device}[ in the {room}] is off",
            ),
            (
                "flip off the {device}[ in the {room}]", "power off the {device}[ in the {room}]",
                "get the {device}[ in the {room}] switched off", "=my {device} in the {room} should be turned off",
                "=can we have the {device} off[ in the {room}]", "=the {device} over in the {room} needs to be off",
                "=someone turn the {device} off[ in the {room}]", "=in the {room} i want the {device} off",
                "=is it possible to switch the {device} off[ in the {room}]",
            ),
            "The {device}[ in the {room}] is off.",
            (
                *ROOM_MORE, ("on", "[and] (turn|switch) it on[ again]"), ("on", "on again"),
                ("device", "and the {device} too"), ("device", "also the {device}"), ("device", "the {device} as well"),
                ("on", "no, on"), ("on", "ok, on again"), ("on", "i need it, on again"),
            ),
            (*ROOM_MORE_HELDOUT, ("on", "you can turn it on now"), ("on", "now switch it on again please")),
        ),
    },
    (
        {
            "on": (tool("turn_on switch_on device_on activate_device turn_on_device // power_on start_device",
            "device room?"), {}),
            "off": (tool("turn_off switch_off device_off deactivate_device turn_off_device // power_off stop_device",
            "device room?"), {}),
        },
        pair_of("on", "off", tool("set_power switch_device set_device control_device // set_switch toggle_power",
        "device room?", state="on|off"), ("on", "off")),
        {
            "on": (tool("turn_on switch_on enable // appliance_on", "device"), {}),
            "off": (tool("turn_off switch_off disable // appliance_off", "device"), {}),
        },
    ),
    "power",
)  # fmt: skip

LIGHTS = Family(
    {
        "on": Intent(
            (
                f"(turn|switch|put) on the {{light}} {IN} {{room}}",
                f"(turn|switch|put) the {{light}} on {IN} {{room}}",
                "={light} on in the {room}", "={room} {light} on", "light up the {room}", "=it is dark in the {room}",
                "=i need (some light|more light|light) in the {room}", "=(turn|switch) on the {room} {light}",
                "=the {light} in the {room} should be on", "=i want the {light} in the {room} on",
            ),
            (
                "=can we have the {light} on in the {room}", "get the {room} {light} on",
                "=in the {room} i want the {light} on",
                "=my {light} in the {room} should be turned on", "flip the {light} on in the {room}",
            ),
            "The light in the {room} is on.",
            (*ROOM_MORE, ("off", "[and] (turn|switch) (it|them) off[ again]"), ("off", "off again"), ("off",
            "no, off")),
            (*ROOM_MORE_HELDOUT, ("off", "now switch it off again please")),
        ),
        "off": Intent(
            (
                f"(turn|switch|put) off the {{light}} {IN} {{room}}",
                f"(turn|switch|put) the {{light}} off {IN} {{room}}",
                "={light} off in the {room}", "={room} {light} off", "make the {room} dark",
                "=it is too bright in the {room}",
                "=i need no light in the {room}", "=(turn|switch) off the {room} {light}",
                "kill the {light} in the {room}",
                "=the {light} in the {room} should be off", "=i want the {light} in the {room} off",
            ),
            (
                "=can we have the {light} off in the {room}", "get the {room} {light} off",
                "=in the {room} i want the {light} off",
                "=my {light} in the {room} should be turned off", "flip the {light} off in the {room}",
            ),
            "The light in the {room} is off.",
            (*ROOM_MORE, ("on", "[and] (turn|switch) (it|them) on[ again]"), ("on", "on again"), ("on", "no, on")),
            (*ROOM_MORE_HELDOUT, ("on", "now switch it on again please")),
        ),
    },
    (
        {
            "on": (tool("turn_on_light light_on lights_on switch_on_lights turn_on_lights // enable_lights illuminate",
            "room"), {}),
            "off": (
            tool("turn_off_light light_off lights_off switch_off_lights turn_off_lights // disable_lights darken",
            "room"), {}),
        },
        pair_of("on", "off", tool("set_light set_lights light_switch control_lights // switch_lights toggle_light",
        "room", state="on|off"), ("on", "off")),
    ),
    "power",
)  # fmt: skip

BRIGHTNESS = Family(
    {
        "dim": Intent(
            (
                f"dim the {{light}} {IN} {{room}} to {{level}}[ percent|%]", "dim the {room} to {level}[ percent|%]",
                f"(set|change|put) the brightness {IN} {{room}} to {{level}}[ percent|%]",
                f"(set|put|bring) the {{light}} {IN} {{room}} to {{level}} (percent|%)",
                "make the {light} in the {room} {level} percent bright", "={room} {light} at {level} percent",
                "=brightness {level}[ percent] in the {room}",
                "(lower|raise) the {light} in the {room} to {level} percent",
                "=i want {level} percent light in the {room}",
                "=the {light} in the {room} should be at {level} percent",
                "set {room} brightness to {level}",
            ),
            (
                "turn the {light} in the {room} down to {level} percent", "=in the {room}, {level} percent brightness",
                "adjust the {light} in the {room} to {level} percent",
                "=give me {level} percent brightness in the {room}",
                "bring the brightness of the {room} to {level} percent",
            ),
            "The light in the {room} is at {level} percent.",
            (*numbers("level"), *ROOM_MORE), (*numbers_heldout("level"), *ROOM_MORE_HELDOUT),
        ),
    },
    ({"dim": (tool("set_brightness dim_light set_light_level dim // adjust_brightness change_dimmer", "room level"),
    {})},),
)  # fmt: skip

COLOUR = Family(
    {
        "paint": Intent(
            (
                f"make the {{light}} {IN} {{room}} {{colour}}",
                f"(set|change|turn) the {{light}} {IN} {{room}} to {{colour}}",
                "=i want {colour} light in the {room}", "turn the {room} {colour}",
                "=(set|change) the {room} {light} to {colour}",
                f"set the (color|colour) {IN} {{room}} to {{colour}}", "={colour} light in the {room}",
                "give me {colour} light in the {room}", "=the {light} in the {room} should be {colour}",
            ),
            (
                "paint the {room} in {colour}", "=in the {room} i want {colour} light",
                "switch the {light} in the {room} to {colour}",
                "let the {light} in the {room} be {colour}", "change the color of the {room} to {colour}",
            ),
            "The light in the {room} is {colour}.",
            (*ROOM_MORE, *(pair for pair in numbers("colour") if "better" not in pair[1])),
            (*ROOM_MORE_HELDOUT, *numbers_heldout("colour")),
        ),
    },
    ({"paint": (tool("set_color set_light_color change_color light_color // color_lights apply_color", "room colour"),
    {})},),
)  # fmt: skip

HEATING = Family(
    {
        "heat": Intent(
            (
                f"(set|put|turn) the (temperature|thermostat|heating)[ {IN} {{room}}] to {{degrees}}[ degrees]",
                "(heat|warm|cool) the {room} to {degrees}[ degrees]", "make it {degrees} degrees[ in the {room}]",
                "=i want {degrees} degrees[ in the {room}]", "={room} to {degrees}[ degrees]",
                "=(set|heat|bring) {room} to {degrees}",
                "=i would like it to be {degrees} degrees[ in the {room}]", "={degrees} degrees in the {room}",
                "(turn|bring) the {room} (up|down) to {degrees}[ degrees]",
                "=it should be {degrees} degrees in the {room}",
                "=it is cold, (set|put) the {room} to {degrees}",
                "change the (temperature|thermostat)[ in the {room}] to {degrees}",
                "(raise|lower) the temperature[ in the {room}] to {degrees}[ degrees]",
                "keep the {room} at {degrees}[ degrees]",
            ),
            (
                "get the {room} to {degrees} degrees", "=could it be {degrees} degrees in the {room}",
                "adjust the thermostat in the {room} to {degrees}",
                "=in the {room} i want {degrees} degrees", "turn the heating in the {room} up to {degrees} degrees",
                "=i am freezing in the {room}, make it {degrees} degrees",
                "bring the temperature in the {room} to {degrees}",
            ),
            "The temperature[ in the {room}] is set to {degrees} degrees.",
            (*numbers("degrees"), *ROOM_MORE, ("degrees", "{degrees} degrees is enough"), ("degrees",
            "no, {degrees} degrees")),
            (*numbers_heldout("degrees"), *ROOM_MORE_HELDOUT, ("degrees", "a little different, {degrees} degrees")),
        ),
    },
    (
        {"heat": (tool("set_temperature set_thermostat heat_room set_heating // adjust_temperature climate_control",
        "room degrees"), {})},
        {"heat": (tool("set_temperature thermostat change_temperature // set_climate", "degrees room?"), {})},
    ),
)  # fmt: skip

TIMER = Family(
    {
        "start": Intent(
            (
                "(set|start) a timer (for|of|to|over) {duration}", "(set|start|make) a {duration} timer",
                "=timer {duration}",
                "(set|start) a {label} timer (for|of) {duration}", "=timer for {label}, {duration}",
                "count down {duration}",
                "(set|start) a timer for {duration} for the {label}", "=i need a timer for {duration}",
                "=new timer, {duration}",
                "(set|start) a timer called {label} for {duration}", "=i need a {label} timer for {duration}",
                "time {duration}",
                "=wake me in {duration}", "=the {label} needs {duration}, set a timer", "=a timer for {duration}",
            ),
            (
                "run a timer for {duration}", "=give me a timer of {duration}", "begin a {duration} countdown timer",
                "start a timer named {label} with {duration}", "=can i have a {label} timer for {duration}",
                "put {duration} on the timer",
            ),
            "The[ {label}] timer runs for {duration}.",
            (*numbers("duration"),), (*numbers_heldout("duration"),),
        ),
        "stop": Intent(
            (
                "(cancel|stop|delete|end) the[ {label}] timer", "=no more timer", "remove the[ {label}] timer",
                "clear the timer",
                "=i do not need the[ {label}] timer any more", "(stop|cancel) the timer for the {label}",
                "turn the[ {label}] timer off",
            ),
            ("get rid of the[ {label}] timer", "=the {label} timer can be cancelled", "call off the timer",
            "end the timer for the {label}"),
            "The[ {label}] timer is cancelled.",
        ),
    },
    tuple(
        {
            "start": (tool("set_timer start_timer create_timer timer // add_timer begin_countdown", slots + " label?"),
            {}),
            "stop": (tool("cancel_timer stop_timer delete_timer // end_timer", "label?"), {}),
        }
        for slots in ("minutes", "amount unit", "duration")
    ),
)  # fmt: skip

ALARM = Family(
    {
        "set": Intent(
            (
                "(set|make|add) an alarm (for|at) {time}[ (on |){day}]", "wake me[ up] at {time}[ (on |){day}]",
                "=alarm at {time}[ {day}]",
                "=(i want|i need) to (get|wake) up at {time}[ {day}]", "set the alarm (to|for) {time}[ {day}]",
                "=alarm {day} at {time}",
                "set an alarm for {day} at {time}", "=i have to be up at {time}[ {day}]", "wake me {day} at {time}",
                "=new alarm, {time}",
            ),
            (
                "ring the alarm at {time}", "get me up at {time}[ {day}]", "=an alarm for {time}[ {day}] would be good",
                "create an alarm for {time}[ on {day}]", "put the alarm on {time}", "=i must wake up at {time}[ {day}]",
            ),
            "The alarm is set for {time}[ {day}].",
            (*numbers("time"), ("time", "no, at {time}"), ("day", "and {day} too"), ("day", "also {day}")),
            (*numbers_heldout("time"), ("time", "move it to {time}")),
        ),
        "unset": Intent(
            (
                "(cancel|delete|remove|clear) the alarm[ (at|for) {time}]", "turn off the {time} alarm",
                "=no alarm at {time}",
                "(cancel|delete) the {time} alarm", "=i do not need the alarm[ at {time}] any more",
                "drop the alarm at {time}",
            ),
            ("take away the alarm at {time}", "=forget the {time} alarm", "=the alarm at {time} can go",
            "stop the {time} alarm from ringing"),
            "The alarm[ for {time}] is cancelled.",
        ),
    },
    (
        {
            "set": (tool("set_alarm create_alarm add_alarm alarm // wake_up_call schedule_alarm", "time day?"), {}),
            "unset": (tool("cancel_alarm delete_alarm remove_alarm // clear_alarm", "time?"), {}),
        },
    ),
)  # fmt: skip

REMINDER = Family(
    {
        "remind": Intent(
            (
                "remind me to {task}[ (at {time}|at {time} {day}|{day} at {time}|{day})]",
                "remind me at {time} to {task}",
                "remind me {day} to {task}", "remind me {day} at {time} to {task}",
                "remind me at {time} {day} to {task}",
                "(set|add|make) a reminder to {task}[ at {time}]", "(set|add) a reminder for {time}: {task}",
                "=reminder: {task}",
                "=(i have to|i must|i need to) {task} at {time}, remind me", "(set|add) a reminder for {day} to {task}",
                "=do not let me forget to {task}", "=reminder at {time}, {task}",
                "(do not|never) let me forget to {task} at {time}",
                "remind me in time to {task}", "make sure i {task}[ at {time}]",
                "=please remind me that i have to {task}",
            ),
            (
                "=at {time} remind me to {task}", "=i should {task} at {time}, please remind me",
                "create a reminder for {day}: {task}",
                "give me a reminder at {time} to {task}", "=help me remember to {task}[ {day}]",
                "remind me on {day} to {task}",
                "put down a reminder to {task} at {time}",
            ),
            "I will remind you to {task}[ at {time}][ {day}].",
            (*(p for p in numbers("time") if "set it" not in p[1]), ("task", "and to {task}"), ("task",
            "also to {task}"), ("time", "no, at {time}")),
            (*numbers_heldout("time"), ("task", "and also to {task}")),
        ),
    },
    ({"remind": (tool("add_reminder set_reminder create_reminder remind_me remind // new_reminder save_reminder",
    "task time? day?"), {})},),
)  # fmt: skip

LISTS = Family(
    {
        "add": Intent(
            (
                "(add|put|write) {item} (to|on|onto) (the|my|our) {list} list", "=we need {item}[ on the {list} list]",
                "add {item} to {list}",
                "=(the|my|our) {list} list needs {item}", "=(note|buy) {item}, {list} list", "put {item} on {list}",
                "=we are out of {item}, add it to the {list} list",
                "=on the {list} list: {item}", "=(to|on) the {list} list, add {item}",
                "=i want {item} on the {list} list", "add {item}",
            ),
            (
                "place {item} on the {list} list", "=could {item} go on the {list} list",
                "include {item} in the {list} list",
                "=my {list} list should have {item}", "=there is no more {item}, put it on the {list} list",
                "save {item} to the {list} list",
            ),
            "I added {item}[ to the {list} list].",
            (("item", "and {item}"), ("item", "also {item}"), ("item", "{item} too"), ("item", "add {item} as well"),
            ("item", "oh, and {item}"), ("item", "plus {item}")),
            (("item", "and {item} as well"), ("item", "{item} also"), ("item", "one more thing, {item}")),
        ),
        "remove": Intent(
            (
                "(remove|delete|take|strike) {item} (from|off) (the|my|our) {list} list",
                "=i (have|got|bought) {item}, remove it from the {list} list",
                "=no {item} on the {list} list", "take {item} off {list}", "=we do not need {item} on the {list} list",
                "remove {item}",
                "=(cross|scratch) {item} off the {list} list", "=from the {list} list, remove {item}",
            ),
            (
                "drop {item} from the {list} list", "=i already have {item}, take it off the {list} list",
                "clear {item} from my {list} list",
                "=the {list} list needs no {item}", "erase {item} from the {list} list",
            ),
            "I removed {item}[ from the {list} list].",
            (("item", "and {item}"), ("item", "also {item}"), ("item", "{item} too"), ("item",
            "remove {item} as well")),
            (("item", "and {item} as well"), ("item", "{item} also")),
        ),
        "show": Intent(
            (
                "(show|read|tell|give) me the {list} list", "=what is on (the|my|our) {list} list",
                "read (the|my) {list} list[ to me]",
                "=what do i have on the {list} list", "list everything on the {list} list",
                "=which items are on the {list} list",
                "=what is in the {list} list", "open the {list} list", "=the {list} list please",
                "=is anything on the {list} list",
            ),
            ("let me see the {list} list", "=tell me what is on the {list} list", "=what does the {list} list say",
            "go through my {list} list with me"),
            "On the {list} list: {items}.", result="items",
            follow_ups=(("list", "and the {list} list"), ("list", "now the {list} list")), heldout_follow_ups=(("list",
            "and on the {list} list"),),
        ),
    },
    (
        {
            "add": (tool("add_item add_to_list list_add append_item // put_on_list insert_item", "item list"), {}),
            "remove": (tool("remove_item remove_from_list list_remove delete_item // take_off_list drop_item",
            "item list"), {}),
            "show": (tool("show_list get_list read_list // list_items view_list", "list"), {}),
        },
        {
            "add": (tool("add_item add_to_list add_shopping_item // new_item", "item list?"), {}),
            "remove": (tool("remove_item remove_shopping_item // strike_item", "item list?"), {}),
        },
    ),
)  # fmt: skip

DOORS = Family(
    {
        "lock": Intent(
            (
                "lock[ up] the {door}", "(close|shut) and lock the {door}", "=the {door} should be locked",
                "lock {door}", "=i want the {door} locked",
                "make sure the {door} is locked", "=lock the {door}, i am leaving", "={door} lock",
                "=nobody should come in, lock the {door}", "have the {door} locked",
            ),
            ("get the {door} locked", "=could the {door} be locked", "=i left, so lock the {door}",
            "=is it possible to lock the {door}", "keep the {door} locked"),
            "The {door} is locked.",
            (("door", "and the {door}[ too]"), ("door", "also the {door}"), ("door", "the {door} as well"), ("unlock",
            "unlock it[ again]"), ("unlock", "no, unlock it")),
            (("door", "lock the {door} as well"), ("unlock", "now unlock it again please")),
        ),
        "unlock": Intent(
            (
                "unlock the {door}", "=the {door} should be unlocked", "unlock {door}", "=i want the {door} unlocked",
                "undo the lock of the {door}",
                "make sure the {door} is unlocked", "=unlock the {door}, i am home", "={door} unlock",
                "=guests are here, unlock the {door}", "have the {door} unlocked",
            ),
            ("get the {door} unlocked", "=could the {door} be unlocked", "=i am back, so unlock the {door}",
            "=is it possible to unlock the {door}", "keep the {door} unlocked"),
            "The {door} is unlocked.",
            (("door", "and the {door}[ too]"), ("door", "also the {door}"), ("door", "the {door} as well"), ("lock",
            "lock it[ again]"), ("lock", "no, lock it")),
            (("door", "unlock the {door} as well"), ("lock", "now lock it again please")),
        ),
    },
    (
        {"lock": (tool("lock_door lock door_lock // secure_door", "door"), {}),
        "unlock": (tool("unlock_door unlock door_unlock // release_door", "door"), {})},
        pair_of("lock", "unlock", tool("set_lock door_control set_door_lock // change_lock", "door",
        state="locked|unlocked"), ("locked", "unlocked")),
    ),
)  # fmt: skip

BLINDS = Family(
    {
        "open": Intent(
            (
                f"(open|raise|pull up) the (blinds|shutters|curtains) {IN} {{room}}",
                "=(blinds|shutters|curtains) up in the {room}", "=open the {room} (blinds|shutters|curtains)",
                "=let the (sun|light) into the {room}", "=i want the (blinds|curtains|shutters) in the {room} open",
                "put the (blinds|shutters) in the {room} up", "={room} (blinds|shutters) up",
            ),
            ("get the (blinds|shutters) in the {room} open", "=the curtains in the {room} should be open",
            "move the blinds in the {room} up", "=in the {room}, open the blinds"),
            "The blinds in the {room} are open.",
            (*ROOM_MORE, ("close", "close them[ again]"), ("close", "no, close them")), (*ROOM_MORE_HELDOUT, ("close",
            "now close them again please")),
        ),
        "close": Intent(
            (
                f"(close|lower|pull down) the (blinds|shutters|curtains) {IN} {{room}}",
                "=(blinds|shutters|curtains) down in the {room}", "=close the {room} (blinds|shutters|curtains)",
                "=keep the sun out of the {room}", "=i want the (blinds|curtains|shutters) in the {room} closed",
                "put the (blinds|shutters) in the {room} down", "={room} (blinds|shutters) down",
            ),
            ("get the (blinds|shutters) in the {room} closed", "=the curtains in the {room} should be closed",
            "move the blinds in the {room} down", "=in the {room}, close the blinds"),
            "The blinds in the {room} are closed.",
            (*ROOM_MORE, ("open", "open them[ again]"), ("open", "no, open them")), (*ROOM_MORE_HELDOUT, ("open",
            "now open them again please")),
        ),
    },
    (
        {"open": (tool("open_blinds raise_blinds blinds_up open_shutters // shutters_up lift_blinds", "room"), {}),
         "close": (tool("close_blinds lower_blinds blinds_down close_shutters // shutters_down drop_blinds", "room"),
         {})},
        pair_of("open", "close", tool("set_blinds move_blinds set_shutters // blinds_control", "room",
        state="open|closed"), ("open", "closed")),
    ),
)  # fmt: skip
