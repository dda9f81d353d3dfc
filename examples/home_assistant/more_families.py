"""More families of requests: music, people, sensors and plans; the pattern language is in ``families``."""

from __future__ import annotations

from families import (
    ALARM,
    BLINDS,
    BRIGHTNESS,
    COLOUR,
    DOORS,
    HEATING,
    IN,
    LIGHTS,
    LISTS,
    POWER,
    REMINDER,
    ROOM_MORE,
    ROOM_MORE_HELDOUT,
    TIMER,
    Family,
    Intent,
    numbers,
    numbers_heldout,
    pair_of,
    tool,
)

MUSIC = Family(
    {
        "play": Intent(
            (
                f"(play|put on|start) {{song}}[ by {{artist}}][ {IN} {{room}}]", "play the song {song}[ by {artist}]",
                "=i want to hear {song}[ by {artist}]",
                "=i would like to listen to {song}[ by {artist}]", "play me {song}[ by {artist}]",
                "=in the {room}, play {song}", "let me hear {song}", "=play {song} from {artist}",
                "=music please, {song}[ by {artist}]", "=how about {song} by {artist}", "stream {song} in the {room}",
                "=can we listen to {song}[ in the {room}]", "=music: {song}",
            ),
            (
                "begin playing {song}[ by {artist}]", "=let us hear {song}[ by {artist}]",
                "=i am in the mood for {song} by {artist}", "=could we have {song} by {artist} in the {room}",
                "start the song {song} by {artist}", "=i feel like listening to {song}[ in the {room}]",
            ),
            "Playing {song}[ by {artist}][ in the {room}].",
            (*ROOM_MORE, ("song", "no, play {song}"), ("song", "now {song}"), ("song", "next play {song}"), ("pause",
            "pause it"), ("pause", "stop it"), ("next", "skip it"), ("next", "the next one")),
            (*ROOM_MORE_HELDOUT, ("song", "now play {song} instead"), ("pause", "please pause it now")),
        ),
        "pause": Intent(
            ("(pause|stop|halt) the (music|song|playback)", "=no more music", "=music off", "stop playing",
            "=quiet please, stop the music", "turn off the music", "pause", "=it is time to stop the music"),
            ("make the music stop", "=enough music for now", "=the song should stop", "hold the playback",
            "switch the music off"), "The music is paused.",
        ),
        "next": Intent(
            ("(play|skip to|go to) the next (song|track|one)", "skip this (song|track|one)", "=next (song|track)",
            "=i do not like this song", "=(another|a different) song please", "skip", "=next"),
            ("jump to the next song", "=let us have another track", "move on to the next track",
            "=i am tired of this song, next"), "Playing the next song.",
        ),
    },
    (
        {
            "play": (tool("play_music play_song play music_play // start_playback stream_song", "song artist? room?"),
            {}),
            "pause": (tool("pause_music stop_music pause music_pause // halt_playback", ""), {}),
            "next": (tool("next_song skip_song next_track music_next // skip_track", ""), {}),
        },
        {"play": (tool("play_music play start_music // put_on_music", "song artist?"), {})},
    ),
)  # fmt: skip

VOLUME = Family(
    {
        "volume": Intent(
            (
                f"(set|put|turn|change) the volume[ {IN} {{room}}] to {{level}}[ percent|%]",
                "=volume[ to| at|] {level}[ in the {room}]",
                "turn the (music|sound|volume) (up|down) to {level}[ percent]",
                "make the (music|sound) {level} percent[ loud]", "=i want the volume at {level}",
                "(lower|raise) the volume[ in the {room}] to {level}",
                "=the music[ in the {room}] should be at {level} percent",
                "=too loud, volume {level}", "play at {level} percent",
            ),
            ("bring the volume[ in the {room}] to {level}", "=let the volume be {level}",
            "adjust the sound[ in the {room}] to {level} percent", "=i would like volume {level} in the {room}",
            "=the sound should go to {level}"),
            "The volume[ in the {room}] is at {level} percent.", (*numbers("level"),), (*numbers_heldout("level"),),
        ),
    },
    ({"volume": (tool("set_volume volume change_volume sound_level // adjust_volume set_loudness", "level room?"),
    {})},),
)  # fmt: skip

VACUUM = Family(
    {
        "clean": Intent(
            (
                "(vacuum|clean|hoover|sweep) (the|my|our) {room}", "start the vacuum[ in the {room}]",
                "=the {room} is dirty", "send the (robot|vacuum) to the {room}",
                "=the {room} needs (cleaning|vacuuming)",
                "=let the (robot|vacuum) clean the {room}", "start cleaning[ the {room}]", "start the robot",
                "=i want the {room} vacuumed", "run the vacuum[ in the {room}]",
            ),
            ("give the {room} a vacuum", "=the floor in the {room} should be cleaned",
            "have the robot sweep the {room}", "=could the vacuum do the {room}", "get the {room} cleaned"),
            "The vacuum is cleaning[ the {room}].", (("room", "and the {room}[ too]"), ("room", "then the {room}"),
            ("stop", "stop it"), ("stop", "ok, send it back")), (("room", "and clean the {room} as well"), ("stop",
            "please stop it now")),
        ),
        "stop": Intent(
            ("(stop|dock|park) the (vacuum|robot)", "send the (vacuum|robot) (home|back)", "=no more vacuuming",
            "stop (cleaning|vacuuming)", "=the robot should stop", "=the vacuum is too loud, stop it"),
            ("make the vacuum stop", "bring the robot home", "=the vacuum can go back to its dock", "halt the robot"),
            "The vacuum has stopped.",
        ),
    },
    ({"clean": (tool("start_vacuum vacuum clean_room vacuum_room // run_vacuum robot_clean", "room?"), {}),
    "stop": (tool("stop_vacuum dock_vacuum vacuum_stop // vacuum_home", ""), {})},),
)  # fmt: skip

SCENE = Family(
    {
        "scene": Intent(
            (
                "(activate|start|set|run) the {scene} (scene|mode)", "(switch|change|go) to {scene} mode",
                "={scene} (scene|mode)[ please| on]", "=(it is|it's) time for the {scene} scene",
                "=i want the {scene} scene",
                "set the scene to {scene}", "turn on the {scene} (scene|mode)", "=scene {scene}", "start {scene} mode",
                "put the house in {scene} mode",
            ),
            ("load the {scene} scene", "=let us have the {scene} scene", "bring up the {scene} scene",
            "enter {scene} mode", "=the house should be in {scene} mode"),
            "The {scene} scene is active.", (("scene", "no, the {scene} scene"), ("scene", "now {scene}"), ("scene",
            "better {scene}")), (("scene", "actually the {scene} scene"),),
        ),
    },
    ({"scene": (tool("activate_scene set_scene run_scene scene start_scene // apply_scene load_scene", "scene"), {})},),
)  # fmt: skip

PEOPLE = Family(
    {
        "message": Intent(
            (
                "tell {person} [that ]{text}", "(send|write) {person} a message: {text}",
                "(text|message) {person} [that ]{text}", "(send|write) a message to {person}: {text}",
                "let {person} know [that ]{text}",
                "=message for {person}: {text}", "(send|write) a message to {person} saying {text}",
                "send {text} to {person}", "=message to {person}, {text}", "write to {person} that {text}",
                "inform {person} that {text}",
                "(text|message) {person} saying {text}", "=(i want to|i need to) tell {person} that {text}",
                "say to {person} that {text}",
            ),
            (
                "=please let {person} hear that {text}", "send a note to {person}: {text}",
                "drop {person} a message saying {text}", "send a text to {person} that {text}",
                "=could you tell {person} that {text}",
                "give {person} the message that {text}", "pass on to {person} that {text}",
            ),
            "I sent the message to {person}.", (("person", "and {person} too"), ("person", "tell {person} as well"),
            ("person", "also to {person}"), ("person", "the same to {person}")),
            (("person", "send it to {person} as well"), ("person", "and tell {person} too")),
        ),
        "call": Intent(
            (
                "call {person}", "(phone|ring|dial) {person}",
                "=i (want|need|have) to (talk to|speak to|call) {person}", "start a call with {person}",
                "make a call to {person}", "=give {person} a call", "=call {person} on the phone",
                "get {person} on the phone", "=phone call to {person}", "connect me (to|with) {person}",
            ),
            ("place a call to {person}", "=i would like to speak with {person}", "reach {person} by phone",
            "try calling {person}", "put me through to {person}"),
            "Calling {person}.", (("person", "no, {person}"), ("person", "i meant {person}"), ("person",
            "call {person} instead")), (("person", "sorry, i meant {person}"),),
        ),
    },
    (
        {"message": (tool("send_message message text_person send_text write_message // deliver_message post_message",
        "person text"), {}), "call": (tool("call call_person phone make_call start_call // dial_contact ring_person",
        "person"), {})},
        {"message": (tool("send_message sms send_sms // send_note", "text person"), {})},
    ),
)  # fmt: skip

CLIMATE = Family(
    {
        "temperature": Intent(
            (
                f"=(what is|what's|tell me) the temperature {IN} {{room}}",
                "=how (warm|cold|hot) is (it in the|the) {room}", "(check|read|measure) the temperature in the {room}",
                "=temperature in the {room}", "=is it (warm|cold) in the {room}",
                "=how many degrees (are there|is it) in the {room}",
                "=what temperature (is it in|does) the {room}[ have]", "={room} temperature",
                "=which temperature do we have in the {room}", "give me the temperature of the {room}",
            ),
            ("=how warm would you say it is in the {room}", "=what does the thermometer in the {room} say",
            "find out the temperature in the {room}", "=do you know the temperature in the {room}",
            "look up how warm it is in the {room}"),
            "It is {number} degrees in the {room}.", (("room", "and in the {room}"), ("room", "and the {room}"),
            ("room", "what about the {room}"), ("room", "now the {room}"), ("humidity", "and the humidity")),
            (("room", "and how about the {room}"), ("room", "and what about in the {room}")), result="temperature",
        ),
        "humidity": Intent(
            (
                f"=(what is|what's|tell me) the humidity {IN} {{room}}", "=how (humid|damp) is (it in the|the) {room}",
                "(check|read|measure) the humidity in the {room}", "=humidity in the {room}",
                "=is it (humid|damp) in the {room}",
                "={room} humidity", "=which humidity do we have in the {room}", "=how dry is the {room}",
                "give me the humidity of the {room}",
            ),
            ("=how humid would you say it is in the {room}", "find out the humidity in the {room}",
            "=do you know the humidity in the {room}", "look up how humid it is in the {room}"),
            "The humidity in the {room} is {number} percent.", (("room", "and in the {room}"), ("room",
            "and the {room}"), ("room", "what about the {room}"), ("temperature", "and the temperature")),
            (("room", "and how about the {room}"),), result="humidity",
        ),
    },
    (
        {"temperature": (
        tool("get_temperature read_temperature temperature room_temperature // measure_temperature temperature_of",
        "room"),
        {}), "humidity": (tool("get_humidity read_humidity humidity // measure_humidity", "room"), {})},
        pair_of("temperature", "humidity",
        tool("read_sensor get_sensor sensor room_climate // query_sensor sensor_value", "room",
        sensor="temperature|humidity"), ("temperature", "humidity")),
    ),
)  # fmt: skip

STATUS = Family(
    {
        "state": Intent(
            (
                "=is the {device}[ in the {room}] (on|off|running|still on)",
                "=(what is|what's) the (state|status) of the {device}[ in the {room}]",
                "(check|see) (if|whether) the {device}[ in the {room}] is (on|off|running)",
                "=did i leave the {device}[ in the {room}] on",
                "=tell me if the {device}[ in the {room}] is (on|off)", "=status of the {device}",
                "=is the {device} switched (on|off)", "=did i turn off the {device}[ in the {room}]",
                "=i wonder if the {device} is on",
            ),
            ("=have i left the {device}[ in the {room}] on", "look whether the {device}[ in the {room}] is on",
            "=would you say the {device} is on", "=is my {device}[ in the {room}] still running",
            "find out if the {device} is off"),
            "The {device}[ in the {room}] is {state}.", (*ROOM_MORE[:3], ("device", "and the {device}"), ("device",
            "what about the {device}")), (("device", "and how about the {device}"),), result="state",
        ),
    },
    ({"state": (tool("get_state get_status device_status check_device is_on // query_device read_state",
    "device room?"), {})},),
)  # fmt: skip

WEATHER = Family(
    {
        "weather": Intent(
            (
                "=(what is|what's|how is) the weather[ like] in {place}[ {day}]", "=weather in {place}[ {day}]",
                "=(will it|does it) (rain|snow) in {place}[ {day}]", "=what will the weather be in {place} {day}",
                "=is it sunny in {place}[ {day}]",
                "(check|get|tell me|show me) the weather (in|for) {place}[ {day}]", "={place} weather[ {day}]",
                "=do i need an umbrella in {place}[ {day}]", "=forecast for {place}[ {day}]",
                "=how warm is it in {place}[ {day}]",
            ),
            ("=what sort of weather do they have in {place}[ {day}]", "look up the weather for {place}[ {day}]",
            "=i am going to {place} {day}, how is the weather", "=should i expect rain in {place}[ {day}]",
            "=tell me how the weather is in {place}"),
            "{place}: {condition}, {number} degrees.", (("place", "and in {place}"), ("place", "what about {place}"),
            ("day", "and {day}"), ("day", "what about {day}")), (("place", "and how about {place}"), ("day",
            "and how about {day}")), result="weather",
        ),
    },
    ({"weather": (tool("get_weather weather weather_forecast check_weather // lookup_weather weather_report",
    "place day?"), {})},),
)  # fmt: skip

CLOCK = Family(
    {
        "clock": Intent(
            ("=(what time is it|what's the time|what is the time|how late is it)[ now]", "tell me the time",
            "=the time please", "=current time", "=do you (know|have) the time", "(check|show me|read) the clock"),
            ("=could i have the time", "=what does the clock say", "let me know what time it is", "=what hour is it"),
            "It is {clock}.", result="clock",
        ),
    },
    ({"clock": (tool("get_time time current_time clock // time_now read_clock", ""), {})},),
)  # fmt: skip

NOTES = Family(
    {
        "note": Intent(
            ("(take|make|write|add|save) a note: {text}", "(note|write down|remember) that {text}", "=note: {text}",
            "write down: {text}", "(take|make) a note that {text}", "=new note, {text}", "note down {text}",
            "save this note: {text}"),
            ("jot down that {text}", "=keep in mind that {text}", "put this in my notes: {text}",
            "create a note saying {text}", "keep a note that {text}"), "I noted: {text}.",
        ),
    },
    ({"note": (tool("take_note add_note save_note note create_note // write_note store_note", "text"), {})},),
    "text",
)  # fmt: skip

BATTERY = Family(
    {
        "battery": Intent(
            ("=(what is|what's|check|tell me) the battery[ level| status|] of the {device}",
            "=how (full|empty) is the battery of the {device}", "=battery of the {device}",
            "=does the {device} need (a new battery|charging)", "=how much battery does the {device} have",
            "={device} battery"),
            ("=how much battery is left in the {device}", "find out the battery level of the {device}",
            "=is the battery of the {device} low", "look at the battery of the {device}"),
            "The battery of the {device} is at {number} percent.", (("device", "and the {device}"), ("device",
            "what about the {device}")), (("device", "and how about the {device}"),), result="battery",
        ),
    },
    ({"battery": (tool("get_battery battery_level check_battery battery // battery_status read_battery", "device"),
    {})},),
)  # fmt: skip

CHANNEL = Family(
    {
        "channel": Intent(
            ("(change|switch|turn|set) (the channel|the tv|the television) to[ channel] {channel}",
            "(go|switch|change) to channel {channel}", "=channel {channel}", "put on channel {channel}",
            "=i want to (see|watch) channel {channel}", "=tv to channel {channel}"),
            ("tune the tv to channel {channel}", "=let us watch channel {channel}", "show channel {channel} on the tv",
            "=the tv should be on channel {channel}"), "The TV shows channel {channel}.", numbers("channel"),
            numbers_heldout("channel"),
        ),
    },
    ({"channel": (tool("set_channel change_channel tv_channel channel // tune_channel select_channel", "channel"),
    {})},),
)  # fmt: skip

OVEN = Family(
    {
        "oven": Intent(
            ("(preheat|heat|set) the oven to {heat}[ degrees]", "=oven (to|at) {heat}[ degrees]",
            "=i (need|want) the oven at {heat} degrees", "(start|turn on) the oven at {heat}[ degrees]",
            "=the oven should be at {heat} degrees", "bring the oven to {heat}"),
            ("warm up the oven to {heat} degrees", "get the oven to {heat} degrees",
            "=i am baking, oven at {heat} degrees", "have the oven preheated to {heat}"),
            "The oven is heating to {heat} degrees.", numbers("heat"), numbers_heldout("heat"),
        ),
    },
    ({"oven": (tool("preheat_oven set_oven heat_oven oven // oven_temperature start_oven", "heat"), {})},),
)  # fmt: skip

CALENDAR = Family(
    {
        "event": Intent(
            (
                "(add|put) {event} (to|in|into|on) (the|my) calendar[ for| on|] {day}[ at {time}]",
                "(plan|schedule|enter) {event} (for|on) {day} at {time}",
                "=i have {event} {day} at {time}, put it in the calendar", "=new event: {event}, {day} at {time}",
                "(add|make|create) an event for {day} at {time}: {event}", "(book|schedule) {event} {day} at {time}",
                "=calendar: {event} {day} at {time}", "=on {day} at {time} there is {event}, add it to my calendar",
            ),
            ("write {event} in my calendar for {day} at {time}",
            "=please enter {event} in the calendar, {day} at {time}", "save {event} on {day} at {time}",
            "make an entry for {event} on {day} at {time}"),
            "I put {event} in the calendar: {day}[ at {time}].", (("time", "no, at {time}"), ("time",
            "make it {time}"), ("day", "no, {day}"), ("day", "i meant {day}")), (("time", "actually at {time}"),
            ("day", "sorry, {day}")),
        ),
    },
    ({"event": (tool("add_event create_event calendar_add schedule_event // new_event plan_event", "event day time?"),
    {})},),
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    "power": POWER, "lights": LIGHTS, "brightness": BRIGHTNESS, "colour": COLOUR, "heating": HEATING, "timer": TIMER,
    "alarm": ALARM, "reminder": REMINDER,
    "lists": LISTS, "doors": DOORS, "blinds": BLINDS, "music": MUSIC, "volume": VOLUME, "vacuum": VACUUM,
    "scene": SCENE, "people": PEOPLE, "climate": CLIMATE,
    "status": STATUS, "weather": WEATHER, "clock": CLOCK, "notes": NOTES, "battery": BATTERY, "channel": CHANNEL,
    "oven": OVEN, "calendar": CALENDAR,
}  # fmt: skip
